"""A run's lease on the server, the sweep of runs that died, and the probe before all of it."""

import os
import signal
import socket
import sys
from collections.abc import Iterator

import pytest
import redis

from itkit.core import urls
from itkit.exceptions import IsolationError, ServiceUnavailableError
from itkit.redis import PrefixIsolation, RunLease, grant, is_registered, probe, sweep
from itkit.redis.server import lease
from itkit.redis.server.server import connected
from tests.support import redis_server

RUN = "0123abcd"
DEAD = "dead0123"

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture(scope="module")
def running() -> Iterator[redis_server.Server]:
    with redis_server.on_port("--requirepass", "s3cret", login=":s3cret@") as server:
        yield server


@pytest.fixture
def server(running, settings) -> redis_server.Server:
    settings.ITKIT = {}
    with connected(running.url) as client:
        client.flushall()
    return running


def keys_on(server: redis_server.Server, database: int = 0) -> list[str]:
    with connected(server.url, database=database) as client:
        return sorted(client.keys())


def test_probe_tells_what_the_server_is(server):
    assert probe(server.url, 1).startswith("Valkey 9.")
    assert probe(server.url.replace("redis://", "valkey://"), 1).startswith("Valkey 9.")


def test_probe_of_a_server_that_does_not_answer_is_an_error_without_the_password():
    url = f"redis://:s3cret@127.0.0.1:{redis_server.free_port()}/0"
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:\d+ does not answer") as error:
        probe(url, 1)
    assert "s3cret" not in str(error.value)


def test_probe_gives_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ServiceUnavailableError, match="does not answer"):
            probe(url, 0.1)


def test_probe_refuses_a_cluster():
    bus = str(redis_server.free_port())
    with (
        redis_server.on_port("--cluster-enabled", "yes", "--cluster-port", bus) as server,
        pytest.raises(IsolationError, match="cluster mode"),
    ):
        probe(server.url, 1)


def test_a_lease_is_renewed_and_given_back_with_all_keys_of_the_run(server):
    lease = RunLease(server.url, RUN)
    lease.start()
    isolation = PrefixIsolation(server=server.url, run=RUN, worker="w1", owned=False, project=[])
    isolation.install()
    for number in (0, 2):
        with redis.Redis.from_url(server.url, db=number) as line:
            line.set("k", 1)
    isolation.uninstall()
    with connected(server.url) as client:
        client.set("foreign", 1)
        client.set("itkit:0123abce:w1:1:k", 1)
        assert 0 < client.ttl(f"itkit:{RUN}:lease") <= 60
    assert sweep(server.url) == []
    lease.stop()
    lease.stop()
    assert keys_on(server) == ["foreign", "itkit:0123abce:w1:1:k"]
    assert keys_on(server, 2) == []


def test_a_user_that_a_worker_has_made_after_its_run_is_swept(server):
    with connected(server.url) as client:
        lease = RunLease(server.url, RUN)
        lease.start()
        assert is_registered(server.url, RUN)
        assert not is_registered(server.url, DEAD)
        for run in (RUN, DEAD):
            assert grant(server.url, run, "w1", secret="s", owned=False)
        client.acl_setuser("itkit_of_somebody", enabled=True)
        assert sweep(server.url) == []
        ours = f"itkit_{RUN}_w1"
        assert sorted(client.acl_users()) == ["default", ours, "itkit_of_somebody"]
        client.acl_deluser("itkit_of_somebody")
        lease.stop()
        assert client.acl_users() == ["default"]
        assert not is_registered(server.url, RUN)


def test_a_lease_that_never_began_can_be_stopped(server):
    RunLease(server.url, RUN).stop()
    assert keys_on(server) == []


def test_a_run_whose_end_cannot_be_seen_is_swept_when_its_lease_expires(server):
    lease = f"itkit:{DEAD}:lease"
    with connected(server.url) as client:
        client.sadd("itkit:runs", DEAD)
        client.set(f"itkit:{DEAD}:w1:1:k", 1)
        for holder in ("another-boot pid:[1] 1", "alive"):
            client.set(lease, holder)
            assert sweep(server.url) == []
        client.pexpire(lease, 1)
        while client.exists(lease):
            pass
    assert sweep(server.url) == [DEAD]
    assert keys_on(server) == []


@needs_linux
def test_the_processes_of_a_server_elsewhere_are_not_looked_for_here(server, monkeypatch):
    monkeypatch.setattr(urls, "is_local_host", lambda host: False)
    with connected(server.url) as client:
        client.sadd("itkit:runs", DEAD)
        client.set(f"itkit:{DEAD}:lease", lease.this_process().rpartition(" ")[0] + " 4194305")
        assert sweep(server.url) == []
        monkeypatch.undo()
        assert sweep(server.url) == [DEAD]


@needs_linux
def test_a_run_that_was_killed_is_swept_by_the_next(server):
    process = os.fork()
    if process == 0:
        try:
            RunLease(server.url, DEAD).start()
            made = PrefixIsolation(
                server=server.url, run=DEAD, worker="w1", owned=False, project=[]
            )
            made.install()
            redis.Redis.from_url(server.url, db=3).set("k", 1)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    alive = RunLease(server.url, RUN)
    alive.start()
    with connected(server.url) as client:
        client.mset({"foreign": 1, "itkit:dead0123x": 1, "itkit:aaaa0000:w1:1:unregistered": 1})
        client.sadd("itkit:runs", "*", "dead0123:w1")
        assert client.exists(f"itkit:{DEAD}:lease")  # nor would it expire soon
        assert sweep(server.url) == [DEAD]
        assert sweep(server.url) == []
        client.srem("itkit:runs", "*", "dead0123:w1")
    alive.stop()
    assert keys_on(server, 3) == []
    assert keys_on(server) == ["foreign", "itkit:aaaa0000:w1:1:unregistered", "itkit:dead0123x"]

"""Keys are removed by the names that the server tells: nothing is looked for among others' keys."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from itkit.redis import PrefixIsolation, RunLease
from itkit.redis.server.tracking import Tracking
from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project, after, wait_until
from tests.support.redis_server import Server, on_port, on_socket, programs

pytestmark = pytest.mark.usefixtures("shared_servers")

RUN = "0123abcd"
ROOT = f"itkit:{RUN}:"
FOREIGN = 20_000


@pytest.fixture(params=programs())
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server on which others have keys, in two databases."""
    with on_socket(request.param) as server:
        with server.client() as client:
            client.eval(
                "for n = 1, ARGV[1] do redis.call('SET', 'foreign:' .. n, n) end", 0, FOREIGN
            )
        yield server


def commands_of(client: redis.Redis) -> dict[str, int]:
    """Return how often the server was sent what looks at all keys."""
    found = client.info("commandstats")
    return {name: found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("scan", "keys")}


def tracking_connections(client: redis.Redis) -> list[str]:
    return [line for line in client.client_list() if "t" in line["flags"] or "P" in line["flags"]]


def foreign(client: redis.Redis) -> int:
    return client.dbsize()


def tracked(server: Server) -> Iterator[Tracking]:
    tracking = Tracking(server.url, ROOT)
    tracking.start()
    assert tracking.is_on
    yield tracking
    tracking.stop()


tracking = pytest.fixture(tracked)


def test_all_that_is_written_is_told(server: Server, tracking: Tracking) -> None:
    with server.client() as client, server.client(db=3) as other, server.client(protocol=3) as new:
        client.set(f"{ROOT}plain", 1)
        client.set("foreign", 1)
        client.mset({f"{ROOT}one": 1, "foreign:x": 2})
        client.eval("redis.call('SADD', ARGV[1] .. 'built', 1)", 0, ROOT)
        other.hset(f"{ROOT}elsewhere", "a", 1)
        new.set(f"{ROOT}resp3", 1)
        client.set(f"{ROOT}\N{SNOWMAN}".encode() + b"\xff", 1)
        command = f"import redis; redis.Redis.from_url({server.url!r}).set('{ROOT}process', 1)"
        subprocess.run([sys.executable, "-c", command], check=True)
    names = {name.removeprefix(ROOT.encode()) for name in tracking.written()}
    assert names == {
        b"plain", b"one", b"built", b"elsewhere", b"resp3", b"process", "\N{SNOWMAN}".encode() + b"\xff"
    }  # fmt: skip


def test_removed_keys_are_gone_from_all_databases(server: Server, tracking: Tracking) -> None:
    with server.client() as client, server.client(db=3) as other:
        for one in (client, other):
            for number in range(2500):
                one.set(f"{ROOT}{number}", 1)
        assert tracking.remove(tracking.written()) == 5000
        assert tracking.written() == []  # what we remove ourselves is not told
        assert (foreign(client), foreign(other)) == (FOREIGN, 0)


def test_a_connection_that_is_closed_is_noticed(server: Server, tracking: Tracking) -> None:
    with server.client() as client:
        client.client_kill_filter(_type="pubsub")
        client.set(f"{ROOT}k", 1)
        tracking.written()
    assert not tracking.is_on


def test_a_forked_process_does_not_use_what_is_its_parents(
    server: Server, tracking: Tracking
) -> None:
    pid = os.fork()
    if pid == 0:
        tracking.written()
        os._exit(int(tracking.is_on))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with server.client() as client:
        client.set(f"{ROOT}k", 1)
    assert tracking.written() == [f"{ROOT}k".encode()]
    assert tracking.is_on


def isolated(server: Server, settings: Any, **options: Any) -> PrefixIsolation:
    settings.ITKIT = {"REDIS": options}
    made = PrefixIsolation(server=server.url, run=RUN, worker="w0", owned=False, project=[])
    made.install()
    return made


def test_a_worker_looks_for_nothing(server: Server, settings: Any) -> None:
    made = isolated(server, settings)
    try:
        with server.client() as client, server.client(db=2) as other:
            for number in range(200):
                client.set(f"k{number}", 1)
                other.set("k", 1)
                made.new_generation()
        with redis.Redis.from_url(server.url, decode_responses=True) as plain:
            del plain
    finally:
        before = made.clear()
        made.uninstall()
    with server.client() as client:
        assert 0 < before < 200  # the others went before, some at a time
        assert foreign(client) == FOREIGN
        assert commands_of(client) == {"scan": 0, "keys": 0}
        assert after(5, lambda: tracking_connections(client)) == []


def test_where_it_may_not_track_it_looks(settings: Any) -> None:
    limits = ["--user", "app", "on", ">p", "~*", "&*", "+@all", "-client|tracking"]
    with on_port(*limits, login="app:p@") as server:
        made = isolated(server, settings)
        with server.client() as client:
            client.set("k", 1)
            assert made.clear() == 1
            made.uninstall()
        with server.client() as client:
            assert client.keys("*") == []
            assert commands_of(client)["scan"] > 0


def test_a_run_that_ends_removes_what_its_processes_have_left(server: Server) -> None:
    lease = RunLease(server.url, RUN)
    lease.start()
    with server.client() as client, server.client(db=2) as other:
        client.set(f"{ROOT}w7:1:k", 1)
        other.set(f"{ROOT}w8:1:k", 1)
        lease.stop()
        assert (foreign(client), foreign(other)) == (FOREIGN, 0)
        assert commands_of(client) == {"scan": 0, "keys": 0}


TESTS = """
    import sys

    from django.core.cache import cache
    from django_redis import get_redis_connection
    from itkit.test import IntegrationTestCase


    def tell(line):
        sys.stdout.write(f"\\n{line}\\n")  # at once, as another worker may write too


    class Keys(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cache.set("of_class", 1)

        def test_a(self):
            cache.set("a", 1, timeout=None)
            client = get_redis_connection()
            client.rpush("queue", 1, 2)
            client.set("gone", 1)
            client.delete("gone")
            client.set("soon", 1, ex=100)
            self.assertIsNone(cache.get("b"))

        def test_b(self):
            tell(f"SEES {cache.get('a')} {cache.get('of_class')}")


    class Others(IntegrationTestCase):
        def test_c(self):
            tell(f"AND {cache.get('a')} {cache.get('of_class')}")
"""


@pytest.mark.parametrize("door", ["django", "django, two spawned workers", "pytest"])
@pytest.mark.parametrize(
    ("scope", "sees"),
    [
        ("test", ["SEES None 1", "AND None None"]),
        ("class", ["SEES 1 1", "AND None None"]),
        ("worker", ["SEES 1 1", "AND 1 1"]),
    ],
)
def test_keys_last_as_long_as_the_scope(
    door: str, scope: str, sees: list[str], project: Project
) -> None:
    write_tests(project, TESTS)
    project.settings(f'ITKIT["REDIS"] = {{"SCOPE": {scope!r}}}')
    result = enter(door, project, *(["-s"] if "pytest" in door else []))
    assert result.code == 0, result.output
    told = sees if "two" not in door or scope != "worker" else sees[:1]
    assert all(line in result.output for line in told), result.output


LEFT = ["':1:a' (string, no TTL) in database 1", "'queue' (list, no TTL)", "'soon' (string, TTL "]


@pytest.mark.parametrize("door", DOORS)
def test_what_a_test_leaves_is_told_on_request(door: str, project: Project, redis_url: str) -> None:
    write_tests(project, TESTS)
    project.go_on_after_warnings()
    env = {"ITKIT_REDIS_URL": redis_url} if "two" in door else {}
    reported = enter(door, project, ITKIT_REDIS_LEAKS="report", **env)
    assert reported.code == 0, reported.output
    failed = enter(door, project, ITKIT_REDIS_LEAKS="fail", **env)
    assert failed.code != 0
    for result in (reported, failed):
        for line in LEFT:
            assert line in result.output
        assert "'gone'" not in result.output
        assert "test_a has left keys in Redis" in result.output
        assert "test_c has left keys" not in result.output


@pytest.mark.slow
def test_a_killed_run_is_swept_by_the_next(project: Project, server: Server) -> None:
    write_tests(
        project,
        """
        import time
        from pathlib import Path

        from django.core.cache import cache
        from itkit.test import IntegrationTestCase

        class Slow(IntegrationTestCase):
            def test_slow(self):
                cache.set("k", 1)
                Path("started").touch()
                time.sleep(60 if Path("sleep").exists() else 0)
        """,
    )
    (project.path / "sleep").touch()
    process = project.start("manage.py", "test", "--integration", ITKIT_REDIS_URL=server.url)
    has_started = (project.path / "started").exists
    assert wait_until(lambda: has_started() or process.poll() is not None)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (project.path / "sleep").unlink()
    with server.client() as client, server.client(db=1) as cache:
        assert foreign(cache) == 1
        result = project.test("--integration", ITKIT_REDIS_URL=server.url)
        assert result.counts == {"passed": 1}, result.output
        assert (foreign(client), foreign(cache)) == (FOREIGN, 0)
        assert client.acl_users() == ["default"]
        assert after(5, lambda: tracking_connections(client)) == []

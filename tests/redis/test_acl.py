"""The server's own limit for the clients of a run: what no prefix on the wire can keep in."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from itkit.core import names
from itkit.exceptions import EscapeError
from itkit.redis import PrefixIsolation, RunLease, grant, sweep
from itkit.redis.server import server as servers
from tests.support.projects import Project
from tests.support.redis_server import Server, on_port, on_socket

pytestmark = pytest.mark.usefixtures("shared_servers", "beside_a_developer")

RUN = "0123abcd"
ROOT = f"itkit:{RUN}:"
SECRET = "of the run"


def granted(url: str, *, owned: bool = False, allowed: frozenset[str] = frozenset()) -> str | None:
    return grant(url, RUN, "w0", secret=SECRET, owned=owned, allowed=allowed)


@pytest.fixture
def server() -> Iterator[Server]:
    with on_socket() as server:
        yield server


@pytest.fixture
def limited(server: Server) -> Iterator[redis.Redis]:
    url = granted(server.url)
    assert url is not None
    with redis.Redis.from_url(url, decode_responses=True) as client:
        yield client


def test_our_own_keys_and_channels_are_reached(limited: redis.Redis) -> None:
    limited.set(f"{ROOT}w0:1:k", "v")
    assert limited.eval("return redis.call('GET', KEYS[1])", 1, f"{ROOT}w0:1:k") == "v"
    assert limited.publish(f"{ROOT}w0:1:c", "x") == 0
    with limited.lock(f"{ROOT}w0:1:lock", timeout=5):
        assert limited.pipeline().incr(f"{ROOT}w0:1:n").execute() == [1]
    assert limited.config_get("maxmemory") == {"maxmemory": "0"}


@pytest.mark.parametrize(
    "command",
    [
        ["SET", "foreign", "lost"],
        ["DEL", "foreign"],
        ["EVAL", "return redis.call('DEL', 'foreign')", "0"],
        ["EVAL", "return redis.call('FLUSHALL')", "0"],
        ["EVAL", "for _, k in ipairs(redis.call('KEYS', '*')) do redis.call('DEL', k) end", "0"],
        ["FLUSHALL"],
        ["FLUSHDB"],
        ["SWAPDB", "0", "1"],
        ["CONFIG", "SET", "maxmemory", "1"],
        ["ACL", "SETUSER", "default", "off"],
        ["PUBLISH", "foreign", "x"],
        ["EVAL", "return redis.call('PUBLISH', 'foreign', 'x')", "0"],
        ["EVAL", "return redis.call('SORT', KEYS[1], 'STORE', 'foreign')", "1", f"{ROOT}w0:1:l"],
        ["EVAL", "return redis.call('DEL', KEYS[1])", "1", "foreign"],
        ["SUBSCRIBE", "foreign"],
        ["SCRIPT", "FLUSH"],
        ["FUNCTION", "FLUSH"],
        ["FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('f', function() end)"],
        ["CLIENT", "KILL", "TYPE", "normal"],
        ["SHUTDOWN", "NOSAVE"],
    ],
    ids=" ".join,
)
def test_what_is_not_ours_is_denied(
    server: Server, limited: redis.Redis, command: list[str]
) -> None:
    with server.client() as client:
        client.set("foreign", "kept")
        with pytest.raises((redis.exceptions.NoPermissionError, redis.ResponseError)):
            limited.execute_command(*command)
        assert client.get("foreign") == "kept"


def test_what_only_reads_is_allowed_as_the_client_guard_allows_it(limited: redis.Redis) -> None:
    for command in ("MODULE LIST", "SLOWLOG GET", "MEMORY DOCTOR", "LATENCY LATEST", "ACL WHOAMI"):
        limited.execute_command(*command.split())
    with pytest.raises(redis.exceptions.NoPermissionError):
        limited.acl_list()


def test_patterns_and_sort_work_for_what_is_ours(limited: redis.Redis) -> None:
    with limited.pubsub() as heard:
        heard.psubscribe(f"{ROOT}w0:1:news.*")
        assert heard.get_message(timeout=5)["type"] == "psubscribe"
        limited.publish(f"{ROOT}w0:1:news.x", "hello")
        assert heard.get_message(timeout=5)["data"] == "hello"
    limited.rpush(f"{ROOT}w0:1:l", "a", "b")
    limited.mset({f"{ROOT}w0:1:w_a": 2, f"{ROOT}w0:1:w_b": 1})
    weights = f"{ROOT}w0:1:w_*"
    assert limited.sort(f"{ROOT}w0:1:l", by=weights, get=weights, store=f"{ROOT}w0:1:s") == 2
    assert limited.lrange(f"{ROOT}w0:1:s", 0, -1) == ["1", "2"]


def test_a_connection_may_be_named(server: Server) -> None:
    with redis.Redis.from_url(granted(server.url), client_name="worker") as client:
        assert client.client_getname() == "worker"


@pytest.fixture(params=["no password", "password"])
def isolated(request: pytest.FixtureRequest, settings: Any) -> Iterator[str]:
    """The address of a server under an isolation, where anybody else may be everything."""
    settings.ITKIT = {}
    options, login = (["--requirepass", "p"], ":p@") if request.param == "password" else ([], "")
    with on_port(*options, login=login) as server:
        url = granted(server.url)
        made = PrefixIsolation(server=url, run=RUN, worker="w0", owned=False, project=[])
        made.install()
        yield server.url.replace(login, "")
        made.uninstall()


@pytest.mark.parametrize(
    "command",
    [
        ["AUTH", "p"],
        ["AUTH", "default", "p"],
        [b"auth", b"default", b"p"],
        ["HELLO", 2, "AUTH", "default", "p"],
        ["HELLO", 2, "SETNAME", "AUTH", "AUTH", "default", "p"],
    ],
    ids=str,
)
@pytest.mark.parametrize("protocol", [2, 3])
def test_the_application_cannot_become_anybody_else(
    isolated: str, command: list[Any], protocol: int
) -> None:
    if command[0] == "HELLO":
        command = ["HELLO", protocol, *command[2:]]
    with redis.Redis.from_url(
        isolated, protocol=protocol, single_connection_client=True, decode_responses=True
    ) as client:
        assert client.execute_command(*command)
        assert client.acl_whoami() == names.redis_user(RUN, "w0")
        with pytest.raises(EscapeError):
            client.reset()
        client.set("k", "v")
        assert client.pipeline().execute_command(*command).get("k").execute()[1] == "v"
        assert client.acl_whoami() == names.redis_user(RUN, "w0")


@pytest.fixture(params=["username", "credential_provider", "redis_connect_func"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A way to log in as somebody else."""
    ways: dict[str, dict[str, Any]] = {
        "username": {"username": "default", "password": "p"},
        "credential_provider": {
            "credential_provider": redis.UsernamePasswordCredentialProvider("default", "p")
        },
        "redis_connect_func": {"redis_connect_func": lambda connection: None},
    }
    return ways[request.param]


def test_no_way_to_connect_is_that_of_anybody_else(isolated: str, way: dict[str, Any]) -> None:
    with redis.Redis.from_url(isolated, **way) as client:
        assert client.acl_whoami() == names.redis_user(RUN, "w0")
        client.connection_pool.disconnect()
        assert client.acl_whoami() == names.redis_user(RUN, "w0")


def test_nor_is_one_of_asyncio(isolated: str, way: dict[str, Any]) -> None:
    async def use() -> None:
        async with redis.asyncio.Redis.from_url(isolated, **way) as client:
            assert await client.acl_whoami() == names.redis_user(RUN, "w0")
            await client.execute_command("AUTH", "default", "p")
            assert await client.acl_whoami() == names.redis_user(RUN, "w0")

    asyncio.run(use())


def test_a_login_that_may_not_create_users_is_used_as_it_is() -> None:
    limits = ["--user", "app", "on", ">p", "~*", "&*", "+@all", "-@admin"]
    with on_port(*limits, login="app:p@") as server:
        lease = RunLease(server.url, RUN)
        lease.start()
        assert sweep(server.url) == []
        assert granted(server.url) is None
        lease.stop()
        with server.client() as client:
            assert client.keys("*") == []


def test_the_user_goes_with_the_run(server: Server) -> None:
    lease = RunLease(server.url, RUN)
    lease.start()
    assert granted(server.url) is not None
    lease.stop()
    with server.client() as client:
        assert client.acl_list() == [line for line in client.acl_list() if "user default" in line]
        assert client.keys("*") == []


def test_a_server_without_such_users_is_used_without(project: Project) -> None:
    project.write(
        "shop/tests.py",
        "from django.core.cache import cache\nfrom itkit.test import IntegrationTestCase\n\n"
        "class Cache(IntegrationTestCase):\n    def test_cache(self):\n"
        "        cache.set('k', 'v')\n        self.assertEqual(cache.get('k'), 'v')\n",
    )
    with on_port("--rename-command", "ACL", "") as server:
        assert granted(server.url) is None
        result = project.test("--integration", ITKIT_REDIS_URL=server.url)
        with servers.connected(server.url) as client:
            assert client.keys("*") == []
    assert result.counts == {"passed": 1}, result.output
    assert "no ACL user: only redis-py keeps the tests under their prefix" in result.output

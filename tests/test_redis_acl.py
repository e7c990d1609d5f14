"""The server's own limit for the clients of a run: what no prefix on the wire can keep in."""

from collections.abc import Iterator

import pytest
import redis

from itkit.redis import RunLease, grant
from itkit.redis import server as servers
from tests.projects import Project
from tests.redis_server import Server, on_port, on_socket

RUN = "0123abcd"
ROOT = f"itkit:{RUN}:"


@pytest.fixture
def server() -> Iterator[Server]:
    with on_socket() as server:
        yield server


@pytest.fixture
def limited(server: Server) -> Iterator[redis.Redis]:
    url = grant(server.url, RUN)
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


def test_the_user_goes_with_the_run(server: Server) -> None:
    lease = RunLease(server.url, RUN)
    lease.start()
    assert grant(server.url, RUN) is not None
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
        assert grant(server.url, RUN) is None
        result = project.test("--integration", ITKIT_REDIS_URL=server.url)
        with servers.connected(server.url) as client:
            assert client.keys("*") == []
    assert result.counts == {"passed": 1}, result.output
    assert "no ACL user to be had" in result.output


def test_lua_that_builds_a_key_reaches_nothing_foreign(project: Project, server: Server) -> None:
    project.write(
        "shop/tests.py",
        """
        from django_redis import get_redis_connection
        from itkit.test import IntegrationTestCase

        class Hostile(IntegrationTestCase):
            def test_lua(self):
                client = get_redis_connection()
                for script in ("redis.call('DEL', 'foreign')", "redis.call('FLUSHALL')"):
                    with self.assertRaises(Exception):
                        client.eval(script, 0)
        """,
    )
    with server.client() as client:
        client.set("foreign", "kept")
        for options in ([], ["--parallel", "2"]):
            result = project.test("--integration", *options, ITKIT_REDIS_URL=server.url)
            assert result.counts == {"passed": 1}, result.output
        assert client.keys("*") == ["foreign"]

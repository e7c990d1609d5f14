"""What the server denies fails the test that has tried it, whatever the application makes of it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from itkit.redis import PrefixIsolation
from tests.support.doors import enter, slow, write_tests
from tests.support.projects import Project
from tests.support.redis_server import Server, on_port, on_socket, programs

pytestmark = pytest.mark.usefixtures("beside_a_developer")

RUN = "0123abcd"
PARALLEL = [
    "django, two forked workers",
    "django, two spawned workers",
    "pytest, two xdist workers",
]

HOSTILE = """
    import contextlib

    import redis
    from django.core.cache import cache, caches
    from django_redis import get_redis_connection
    from itkit.test import IntegrationTestCase


    class Innocent(IntegrationTestCase):
        def test_a(self):
            cache.set("k", "v")
            cache.clear()
            client = get_redis_connection()
            client.eval("return redis.call('SET', KEYS[1], 1)", 1, "mine")
            client.flushdb()
            for key in client.keys("*"):
                client.delete(key)
            client.publish("news", "hello")

        test_z = test_a


    class Hostile(IntegrationTestCase):
        def lua(self, script):
            with contextlib.suppress(redis.RedisError):
                get_redis_connection().eval(script, 0)

        def test_lua_that_goes_round_the_prefix(self):
            self.lua("return _G.redis.call('DEL', 'for' .. 'eign')")

        def test_lua_that_catches_its_own_error(self):
            self.lua("_G.redis.pcall('SET', 'foreign', 'x') return 1")

        def test_lua_that_flushes_all(self):
            self.lua("return redis.call('FLUSHALL')")

        def test_lua_that_tells_others(self):
            self.lua("return _G.redis.call('PUBLISH', 'foreign_news', 'x')")

        def test_lua_in_a_transaction(self):
            pipeline = get_redis_connection().pipeline()
            pipeline.set("mine", 1)
            pipeline.eval("return _G.redis.call('GET', 'foreign')", 0)
            with contextlib.suppress(redis.RedisError):
                pipeline.execute()

        def test_what_the_cache_ignores(self):
            cache.client.get_client().eval("_G.redis.pcall('INCR', 'foreign') return 1", 0)
"""

TOLD = {
    "test_lua_that_goes_round_the_prefix": "key 'foreign' by EVAL in a Lua script",
    "test_lua_that_catches_its_own_error": "key 'foreign' by EVAL in a Lua script",
    "test_lua_that_flushes_all": "command FLUSHALL in a Lua script",
    "test_lua_that_tells_others": "channel 'foreign_news' by EVAL in a Lua script",
    "test_lua_in_a_transaction": "key 'foreign'",
    "test_what_the_cache_ignores": "key 'foreign' by EVAL in a Lua script",
}


@pytest.fixture
def hostile(project: Project) -> Project:
    write_tests(project, HOSTILE)
    project.settings('CACHES["default"]["OPTIONS"] = {"IGNORE_EXCEPTIONS": True}')
    return project


@pytest.fixture(params=["valkey", *map(slow, programs("redis", "redis-6"))])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with on_socket(request.param) as server:
        yield server


def failed(output: str) -> set[str]:
    """Return the names of the tests that have failed, of either runner's report."""
    django = re.findall(r"^(?:ERROR|FAIL): (\w+) ", output, re.MULTILINE)
    return {*django, *re.findall(r"^_+ ERROR at teardown of \w+\.(\w+) _+$", output, re.MULTILINE)}


@pytest.mark.slow
def test_each_escape_fails_its_own_test(hostile: Project, server: Server) -> None:
    told = dict(TOLD)
    if server.program == "redis-6":  # where whoever may subscribe to a pattern may tell anybody
        del told["test_lua_that_tells_others"]
    with server.client() as client:
        client.set("foreign", "kept")
        for door in PARALLEL:
            result = enter(door, hostile, ITKIT_REDIS_URL=server.url)
            assert result.code != 0
            assert failed(result.output) == set(told), result.output
            for line in told.values():
                assert line in result.output
        assert client.get("foreign") == "kept"
        assert client.keys("*") == ["foreign"]
        assert client.acl_users() == ["default"]


def test_two_hostile_runs_at_once_among_many_keys_of_others(hostile: Project) -> None:
    foreign = {f"foreign:{number}": str(number) for number in range(100_000)} | {"foreign": "kept"}
    with on_socket() as server, server.client() as client, client.pubsub() as heard:
        client.mset(foreign)
        heard.subscribe("news", "foreign_news")
        assert [heard.get_message(timeout=5)["type"] for _ in range(2)] == ["subscribe"] * 2
        command = ["manage.py", "test", "--integration", "--parallel", "2"]
        runs = [hostile.start(*command, ITKIT_REDIS_URL=server.url) for _ in range(2)]
        outputs = [run.communicate(timeout=180)[0] for run in runs]
        for output in outputs:
            assert failed(output) == set(TOLD), output
        assert heard.get_message(timeout=0.1) is None
        assert client.dbsize() == len(foreign)
        assert client.mget(list(foreign)) == list(foreign.values())
        assert client.acl_users() == ["default"]


def test_the_embedded_server_denies_as_well(hostile: Project) -> None:
    result = hostile.test("--integration")
    assert failed(result.output) == set(TOLD), result.output


def test_without_users_of_its_own_nothing_is_told(hostile: Project) -> None:
    result = hostile.test("--integration", ITKIT_REDIS_ACL="off")
    assert result.counts == {"passed": 8}, result.output


def test_a_run_that_requires_users_is_refused_without(hostile: Project) -> None:
    hostile.settings('ITKIT["REDIS"] = {"ACL": "require"}')
    limits = ["--user", "app", "on", ">p", "~*", "&*", "+@all", "-@admin"]
    for options, login in [(limits, "app:p@"), (["--rename-command", "ACL", ""], "")]:
        with on_port(*options, login=login) as server:
            result = hostile.test("--integration", ITKIT_REDIS_URL=server.url)
            assert result.code != 0
            assert 'ITKIT["REDIS"]["ACL"] is "require"' in result.output
            assert "Traceback" not in result.output
            with server.client() as client:
                assert client.keys("*") == []
    assert hostile.test("--integration").code != 0  # it has run, and has found the escapes


def test_where_there_are_no_users_the_start_line_says_so(hostile: Project) -> None:
    limits = ["--user", "app", "on", ">p", "~*", "&*", "+@all", "-@admin", "-flushall"]
    with on_port(*limits, login="app:p@") as server:
        result = hostile.test("--integration", ITKIT_REDIS_URL=server.url)
    assert "no ACL user: only redis-py keeps the tests under their prefix" in result.output
    assert "app:p" not in result.output


ALLOWED = """
    from django_redis import get_redis_connection
    from itkit.exceptions import EscapeError
    from itkit.test import IntegrationTestCase


    class Allowed(IntegrationTestCase):
        def test_a_listed_command_passes(self):
            client = get_redis_connection()
            before = client.config_get("slowlog-max-len")["slowlog-max-len"]
            client.config_set("slowlog-max-len", 77)
            self.assertEqual(client.config_get("slowlog-max-len")["slowlog-max-len"], "77")
            client.config_set("slowlog-max-len", before)
            client.script_flush()

        def test_others_do_not(self):
            with self.assertRaisesRegex(EscapeError, '"script", "CONFIG RESETSTAT"'):
                get_redis_connection().config_resetstat()

        def test_databases_are_swapped_on_our_own_server_only(self):
            client = get_redis_connection()
            if OWNED:
                client.swapdb(7, 8)
            else:
                with self.assertRaisesRegex(EscapeError, "Only on the embedded server"):
                    client.swapdb(7, 8)
"""


@pytest.mark.parametrize("program", ["embedded", *programs()])
def test_commands_that_the_settings_allow_are_sent(program: str, project: Project) -> None:
    project.settings('ITKIT["REDIS"] = {"ALLOW_COMMANDS": ["CONFIG SET", "swapdb", "script"]}')
    write_tests(project, ALLOWED.replace("OWNED", str(program == "embedded")))
    if program == "embedded":
        result = project.test("--integration")
        assert result.counts == {"passed": 3}, result.output
        return
    with on_socket(program) as server, server.client() as client:
        client.set("foreign", "kept")
        result = project.test("--integration", ITKIT_REDIS_URL=server.url)
        assert result.counts == {"passed": 3}, result.output
        assert client.get("foreign") == "kept"


def test_a_denial_is_told_once(settings: Any) -> None:
    settings.ITKIT = {}
    with on_socket() as server:
        made = PrefixIsolation(
            server=server.url, run=RUN, worker="w0", owned=False, project=[], secret="s"
        )
        made.install()
        try:
            client = server.client()
            assert made.denied() == []
            for _ in range(2):
                client.eval("_G.redis.pcall('SET', 'foreign', 'x') return 1", 0)
            assert made.denied() == ["key 'foreign' by EVAL in a Lua script, 2 times"]
            assert made.denied() == []
            client.eval("_G.redis.pcall('SET', 'foreign', 'x') return 1", 0)
            assert made.denied() == ["key 'foreign' by EVAL in a Lua script"]
            client.close()
        finally:
            made.uninstall()

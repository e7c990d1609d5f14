"""Commands that no table of ours has: on servers where well-known ones have other names."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from itkit.exceptions import EscapeError
from itkit.redis import PrefixIsolation
from itkit.redis.prefix import command_info
from itkit.redis.server.server import connected
from tests.support import redis_server

RUN = "0123abcd"
RENAMED = {
    "GET": "MOD.GET",
    "MSET": "MOD.MSET",
    "ZUNIONSTORE": "MOD.UNION",
    "XREAD": "MOD.READ",
    "SORT": "MOD.SORT",
    "PUBLISH": "MOD.TELL",
    "OBJECT": "MOD.OBJECT",
    "TIME": "MOD.TIME",
}


@pytest.fixture(scope="module", params=redis_server.programs())
def server(request: pytest.FixtureRequest) -> Iterator[redis_server.Server]:
    options = [
        word for names in RENAMED.items() for word in ("--rename-command", names[0], names[1])
    ]
    with redis_server.on_port(*options, program=request.param) as running:
        yield running


@pytest.fixture
def client(server: redis_server.Server, settings: Any) -> Iterator[redis.Redis]:
    settings.ITKIT = {}
    with connected(server.url) as other:
        other.flushall()
        other.set("a", "foreign")
    made = PrefixIsolation(
        server=server.url, run=RUN, worker="w1", owned=False, project=[], secret="s"
    )
    made.install()
    with server.client() as client:
        yield client
    assert made.denied() == []
    made.clear()
    made.uninstall()
    with connected(server.url) as other:
        assert other.keys() == ["a"]
        assert other.execute_command("MOD.GET", "a") == "foreign"


def test_the_server_says_where_the_keys_are(client: redis.Redis) -> None:
    client.set("a", "ours")
    for _ in range(2):
        assert client.execute_command("MOD.GET", "a") == "ours"
    assert client.execute_command("mod.get", "a") == "ours"
    assert client.execute_command("MOD.MSET", "b", "1", "c", "2")
    assert sorted(client.keys()) == ["a", "b", "c"]


def test_keys_behind_their_number_and_behind_a_word(
    client: redis.Redis, server: redis_server.Server
) -> None:
    if server.program == "redis-6":
        for line in ("MOD.UNION d 2 y z", "MOD.READ STREAMS s 0", "CLIENT NONSENSE"):
            with pytest.raises(EscapeError, match="cannot tell which of its arguments are keys"):
                client.execute_command(*line.split())
        return
    client.zadd("y", {"m": 1})
    client.zadd("z", {"m": 2})
    assert client.execute_command("MOD.UNION", "d", 2, "y", "z") == 1
    client.xadd("s", {"f": "v"})
    assert client.execute_command("MOD.READ", "COUNT", 1, "STREAMS", "s", "0")
    with pytest.raises(redis.ResponseError, match=r"(?i)unknown subcommand"):
        client.execute_command("CLIENT", "NONSENSE")


@pytest.mark.parametrize("line", ["MOD.SORT l", "MOD.TIME", "MOD.TELL news hello"])
def test_what_the_server_cannot_tell_either_is_refused(client: redis.Redis, line: str) -> None:
    with pytest.raises(EscapeError, match="cannot tell which of its arguments are keys"):
        client.execute_command(*line.split())


@pytest.mark.parametrize("line", ["NONSENSE", "NONSENSE a b", "OBJECT FREQ a"])
def test_what_the_server_does_not_know_it_says_itself(client: redis.Redis, line: str) -> None:
    with pytest.raises(redis.ResponseError, match=r"(?i)unknown"):
        client.execute_command(*line.split())


def test_what_is_refused_is_not_asked_for(client: redis.Redis) -> None:
    with pytest.raises(EscapeError, match="would change the server for everybody"):
        client.execute_command("CONFIG", "RESETSTAT")


INDEX = {"type": "index", "spec": {"index": 1}}


@pytest.mark.parametrize(
    ("flags", "begin", "find"),
    [
        (["incomplete"], INDEX, {"type": "range", "spec": {}}),
        ([], {"type": "unknown", "spec": {}}, {"type": "unknown", "spec": {}}),
        ([], INDEX, {"type": "range", "spec": {"lastkey": -1, "keystep": 1, "limit": 2}}),
        ([], INDEX, {"type": "keynum", "spec": {"keynumidx": 1, "firstkey": 2, "keystep": 1}}),
        (
            *([], {"type": "keyword", "spec": {"keyword": "K", "startfrom": 1}}),
            {"type": "range", "spec": {"lastkey": 0, "keystep": 1, "limit": 0}},
        ),
    ],
)
def test_what_has_no_notation_is_an_error(flags: Any, begin: Any, find: Any) -> None:
    with pytest.raises(ValueError, match="no notation"):
        command_info.notation_of({"flags": flags, "begin_search": begin, "find_keys": find})

"""Lua scripts that build keys by themselves, on each server that is here."""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from itkit.redis import PrefixIsolation, policy
from itkit.redis.prefix import scripts
from itkit.redis.prefix.namespace import Namespace
from itkit.redis.prefix.rewrite import Rewriter
from itkit.redis.server.server import connected
from tests.redis.test_commands import PLACES, TRICKY, commands_of, lines_of
from tests.support import redis_server

RUN = "0123abcd"
FOREIGN = {"foreign": "1", f"itkit:{RUN}:w2:1:k": "2"}


@pytest.fixture(scope="module", params=redis_server.programs())
def server(request: pytest.FixtureRequest) -> Iterator[redis_server.Server]:
    with redis_server.on_socket(request.param) as running:
        yield running


@pytest.fixture(params=["limited", "not limited"])
def isolation(
    request: pytest.FixtureRequest, server: Any, settings: Any
) -> Iterator[PrefixIsolation]:
    """The isolation of a worker, with and without an ACL user."""
    settings.ITKIT = {}
    with connected(server.url) as client:
        client.flushall()
        client.mset(FOREIGN)
    secret = "s" if request.param == "limited" else ""
    made = PrefixIsolation(
        server=server.url, run=RUN, worker="w1", owned=False, project=[], secret=secret
    )
    made.install()
    yield made
    denied = made.denied()
    made.clear()
    made.uninstall()
    with connected(server.url) as client:
        assert sorted(client.keys()) == sorted(FOREIGN)
        assert client.mget(list(FOREIGN)) == list(FOREIGN.values())
    assert denied == []


@pytest.fixture
def client(server: redis_server.Server, isolation: PrefixIsolation) -> Iterator[redis.Redis]:
    del isolation
    with server.client() as made:
        made.mset({"a": 1, "b": 2})
        yield made


@pytest.mark.parametrize(
    ("script", "keys", "arguments", "reply"),
    [
        ("return redis.call('GET', 'a')", [], [], "1"),
        ("return redis.call('get', 'a')", [], [], "1"),
        ("return redis.call('GET', ARGV[1] .. '')", [], ["a"], "1"),
        ("return redis.call('GET', KEYS[1])", ["a"], ["b"], "1"),
        ("return redis.pcall('GET', KEYS[1])", ["b"], [], "2"),
        ("return {KEYS[1], #KEYS, ARGV[1], #ARGV}", ["a", "b"], ["x", "y"], ["a", 2, "x", 2]),
        ("return redis.call('MGET', 'a', KEYS[1], 'foreign')", ["b"], [], ["1", "2", None]),
        ("return redis.call('EXISTS', 'foreign')", [], [], 0),
        ("redis.call('SET', 7, 'x') return redis.call('GET', '7')", [], [], "x"),
        ("local k = redis.call('KEYS', '*') table.sort(k) return k", [], [], ["a", "b"]),
        ("return redis.call('KEYS', 'a*')", [], [], ["a"]),
        ("return redis.call('KEYS', 'foreign')", [], [], []),
        ("local k = redis.call('SCAN', 0)[2] table.sort(k) return k", [], [], ["a", "b"]),
        ("return redis.call('SCAN', 0, 'COUNT', 999, 'match', 'b')[2]", [], [], ["b"]),
        ("return redis.call('DBSIZE')", [], [], 2),
        ("return #redis.call('RANDOMKEY')", [], [], 1),
        ("redis.call('FLUSHDB') return redis.call('EXISTS', 'a', 'b')", [], [], 0),
        ("redis.call('RPUSH', 'l', 3, 1) return redis.call('SORT', 'l')", [], [], ["1", "3"]),
        (
            """redis.call('RPUSH', 'l', 3) redis.call('SET', 'w3', 'w')
            return redis.call('SORT', 'l', 'BY', 'nosort', 'GET', 'w*', 'GET', '#')""",
            *([], [], ["w", "3"]),
        ),
        (
            """redis.call('RPUSH', 'l', 3) redis.call('SORT', 'l', 'STORE', 'd')
            return redis.call('LRANGE', 'd', 0, -1)""",
            *([], [], ["3"]),
        ),
        (
            """redis.call('XADD', 's', '1-0', 'f', 'v')
            return redis.call('XREAD', 'COUNT', 1, 'STREAMS', 's', '0')[1][1]""",
            *([], [], "s"),
        ),
        (
            """redis.call('ZADD', 'z', 1, 'm') redis.call('ZADD', 'y', 2, 'm')
            return redis.call('ZUNIONSTORE', 'd', 2, 'z', 'y')""",
            *([], [], 1),
        ),
        (
            """redis.call('GEOADD', 'g', 1, 2, 'm')
            redis.call('GEORADIUS', 'g', 1, 2, 3, 'km', 'STORE', 'd')
            redis.call('GEORADIUSBYMEMBER', 'g', 'm', 3, 'km', 'STOREDIST', 'e')
            return redis.call('EXISTS', 'd', 'e')""",
            *([], [], 2),
        ),
        ("return redis.pcall('NONSENSE', 'a') and 1", [], [], 1),
        ("return type(redis.call('TIME')[1])", [], [], "string"),
        ("return redis.sha1hex('')", [], [], "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        ("return redis.status_reply('FINE')", [], [], "FINE"),
        ("return -- a comment\n 5", [], [], 5),
        ("", [], [], None),
    ],
)
def test_keys_of_all_kinds_are_those_of_the_test(
    client: redis.Redis, script: str, keys: list[str], arguments: list[str], reply: Any
) -> None:
    assert client.eval(script, len(keys), *keys, *arguments) == reply
    with client.pipeline() as pipeline:
        pipeline.ping()
        pipeline.eval(script, len(keys), *keys, *arguments)
        client.mset({"a": 1, "b": 2})
        client.delete("l", "s", "d")
        assert pipeline.execute() == [True, reply]


def test_what_is_popped_is_named_as_the_test_does(
    client: redis.Redis, server: redis_server.Server
) -> None:
    if server.program != "redis-6":  # which lets no script pop from one of several
        client.rpush("l", 3)
        script = "return redis.call('LMPOP', 2, 'k', 'l', 'LEFT')"
        assert client.eval(script, 0) == ["l", ["3"]]


def test_channels_are_those_of_the_test(client: redis.Redis, server: redis_server.Server) -> None:
    with connected(server.url) as other, other.pubsub() as theirs, client.pubsub() as ours:
        for listener in (theirs, ours):
            listener.subscribe("news")
            assert listener.get_message(timeout=5)["type"] == "subscribe"
        assert client.eval("return redis.call('PUBLISH', 'news', 'hello')", 0) == 1
        assert ours.get_message(timeout=5)["data"] == "hello"
        assert theirs.get_message(timeout=0.1) is None


# Each command of the tables that Python and Lua both read, as a client sends it.
MADE = ("numbers", "map", "stream")
BY_TABLE = [
    "DBSIZE",
    "KEYS",
    "KEYS a*",
    "RANDOMKEY",
    "SCAN 0 MATCH p* COUNT 100 TYPE string",
    "SCAN 7",
    "SORT numbers BY weight_* GET # GET name_* LIMIT 0 5 STORE sorted",
    "LRANGE sorted 0 -1",
    "SORT numbers BY nosort GET name_*",
    "GEORADIUS map 15 37 200 km STORE near",
    "ZRANGE near 0 -1",
    "GEORADIUSBYMEMBER map Palermo 300 km STOREDIST far",
    "ZRANGE far 0 -1",
    "LPOP numbers",
    "BLPOP numbers 1",
    "BRPOP numbers 1",
    "ZADD scores 1 a 2 b 3 c",
    "BZPOPMIN scores 1",
    "BZPOPMAX scores 1",
    "XREAD STREAMS stream 0",
    "XREADGROUP GROUP all me STREAMS stream >",
    "PUBSUB CHANNELS",
    "PUBSUB CHANNELS n*",
    "PUBSUB NUMSUB news other",
    "PUBLISH news hello",
    "FLUSHDB",
    "DBSIZE",
    "RANDOMKEY",
]
LATER = [  # than Redis 6
    "SORT_RO numbers BY weight_* GET name_*",
    "LMPOP 2 nothing numbers LEFT",
    "BLMPOP 1 2 nothing numbers LEFT",
    "ZMPOP 2 nothing scores MIN",
    "BZMPOP 1 2 nothing scores MIN",
    "PUBSUB SHARDCHANNELS",
    "PUBSUB SHARDNUMSUB news",
    "SPUBLISH news hello",
]


def test_a_script_answers_as_the_client_does(
    server: redis_server.Server, isolation: PrefixIsolation
) -> None:
    del isolation
    lines = [line.split() for line in BY_TABLE]
    if server.program != "redis-6":
        lines[-3:-3] = [line.split() for line in LATER]
        named = {name for line in lines for name in (line[0], "|".join(line[:2]))}
        words = " ".join([policy.KEYSPACE, *policy.REPLIES.values()]).split()
        tables = {*words, *policy.PATTERNS, *policy.OPTIONS, *policy.CHANNELS["1"].split()}
        assert tables - named == {"FLUSHALL"}  # which no script of a test may send

    def answers(send: Callable[[list[str]], Any]) -> list[Any]:
        client.flushdb()
        client.rpush("numbers", 3, 1, 2)
        client.mset({f"weight_{n}": 9 - n for n in range(4)} | {f"name_{n}": n for n in range(4)})
        client.geoadd("map", [13.36, 38.11, "Palermo", 15.08, 37.5, "Catania"])
        client.xadd("stream", {"a": 1}, id="1-1")
        client.xgroup_create("stream", "all", "0")
        return [sorted_if_unordered(line, send(line)) for line in lines]

    def as_client(line: list[str]) -> Any:
        """Send a command without redis-py's callbacks, which give replies a shape of their own."""
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*line)
            return connection.read_response()
        finally:
            client.connection_pool.release(connection)

    def as_script(line: list[str]) -> Any:
        try:
            return as_client(["EVAL", "return redis.call(unpack(ARGV))", "0", *line])
        except redis.ResponseError as error:
            if "not allowed from script" not in str(error):
                raise
            refused.append(line[0])
            return as_client(line)  # which later lines build on

    refused: list[str] = []
    with server.client(protocol=2) as client, client.pubsub() as listener:
        listener.subscribe("news")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        for line, one, other in zip(lines, answers(as_client), answers(as_script), strict=True):
            assert one == other, line
    assert set(refused) <= {"BLPOP", "BRPOP", "BZPOPMAX", "BZPOPMIN"}


def sorted_if_unordered(line: list[str], reply: Any) -> Any:
    if line[0] == "RANDOMKEY":
        return reply if reply is None else reply.partition("_")[0] in {*MADE, "weight", "name"}
    if line[0] == "KEYS":
        return sorted(reply)
    return [reply[0], sorted(reply[1])] if line[0] == "SCAN" else reply


def test_scripts_are_known_by_their_own_sha(
    client: redis.Redis, isolation: PrefixIsolation
) -> None:
    text = f"return redis.call('GET', 'a') -- {random.random()}"
    script = client.register_script(text)
    assert client.script_exists(script.sha) == [False]
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha(script.sha, 0)
    assert script() == "1"
    assert client.script_exists(script.sha, "0" * 40) == [True, False]
    assert client.script_load(text) == script.sha
    assert client.evalsha(script.sha.upper(), 0) == "1"
    isolation.new_generation()
    assert client.evalsha(script.sha, 0) is None
    client.set("a", "next")
    assert client.evalsha(script.sha, 0) == "next"
    evaluated = f"return redis.call('GET', ARGV[1]) -- {random.random()}"
    client.eval(evaluated, 0, "a")
    assert client.evalsha(client.register_script(evaluated).sha, 0, "a") == "next"


def test_a_script_that_others_have_sent_is_not_run_as_it_is(
    client: redis.Redis, server: redis_server.Server
) -> None:
    text = f"return {{redis.call('GET', 'a'), #ARGV}} -- {random.random()}"
    with connected(server.url) as other:
        sha = other.script_load(text)
        assert client.script_exists(sha) == [False]
        with pytest.raises(redis.exceptions.NoScriptError):
            client.evalsha(sha, 0)
        assert client.register_script(text)() == ["1", 0]
        assert other.evalsha(sha, 0) == [None, 0]


def test_scripts_without_text_responses(
    server: redis_server.Server, isolation: PrefixIsolation
) -> None:
    with redis.Redis.from_url(server.url) as client:
        source = b"return redis.call('SET', ARGV[1], '\xff')"
        sha = client.execute_command("SCRIPT", "LOAD", source)
        assert client.evalsha(sha, 0, b"k\xff") == b"OK"
        assert client.eval(bytearray(source), 0, "k") == b"OK"
        assert client.get(b"k\xff") == b"\xff"
        assert sorted(client.keys()) == [b"k", b"k\xff"]
        assert client.execute_command("SCRIPT LOAD", source) in {sha, sha.decode()}


def test_a_script_is_shown_as_it_was(client: redis.Redis) -> None:
    text = "return 'shown'"
    sha = client.script_load(text)
    if "valkey_version" in client.info("server"):  # Redis has no such command
        assert client.execute_command("SCRIPT SHOW", sha) == text


def test_the_first_line_of_a_script_stays_so(
    client: redis.Redis, server: redis_server.Server
) -> None:
    if server.program == "redis-6":  # which knows no flags of scripts
        return
    assert client.eval("#!lua flags=no-writes\nreturn redis.call('GET', 'a')", 0) == "1"
    with pytest.raises(redis.ResponseError, match=r"[Ww]rite commands are not allowed"):
        client.eval("#!lua flags=no-writes\nreturn redis.call('SET', 'a', 1)", 0)
    assert client.execute_command("EVAL_RO", "return redis.call('GET', 'a')", 0) == "1"


def test_lines_keep_their_numbers_in_messages(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match=r"user_script:3"):
        client.eval("local a = 1\nlocal b = 2\nerror('wrong')", 0)
    with pytest.raises(redis.ResponseError, match=r"user_script:2"):
        client.eval("local a = 1\nthis is no Lua", 0)


def test_errors_are_those_of_the_server(client: redis.Redis) -> None:
    client.lpush("list", 1)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.eval("return redis.call('GET', 'list')", 0)
    assert "WRONGTYPE" in client.eval("return redis.pcall('GET', 'list')['err']", 0)
    for line in (
        ("EVAL",),
        ("EVAL", "return 1"),
        ("EVAL", "return 1", "many"),
        ("EVAL", "return 1", "2", "a"),
        ("EVAL", "return 1", "-1", "a"),
        ("EVALSHA", "x", "0"),
        ("SCRIPT", "LOAD"),
    ):
        with pytest.raises(redis.ResponseError):
            client.execute_command(*line)
    with pytest.raises(redis.DataError):
        client.eval(None, 0)


def test_a_script_that_would_reach_further_is_refused_where_the_server_does_not(
    server: redis_server.Server, settings: Any
) -> None:
    settings.ITKIT = {}
    with connected(server.url) as other:
        other.flushall()
        other.set("foreign", "kept")
    made = PrefixIsolation(server=server.url, run=RUN, worker="w1", owned=False, project=[])
    made.install()
    with server.client() as client:
        client.set("a", 1)
        for call in ("'FLUSHALL'", "'swapdb', 0, 1", "'MOVE', 'a', 1"):
            with pytest.raises(redis.ResponseError, match="would reach beyond its test"):
                client.eval(f"return redis.call({call})", 0)
            error = client.eval(f"return redis.pcall({call})['err']", 0)
            assert "would reach beyond its test" in error
    made.uninstall()
    with connected(server.url) as other:
        assert other.get("foreign") == "kept"


def test_in_asyncio(server: redis_server.Server, isolation: PrefixIsolation) -> None:
    async def use() -> None:
        async with redis.asyncio.Redis.from_url(server.url, decode_responses=True) as client:
            await client.eval("redis.call('SET', ARGV[1], 1)", 0, "built")
            script = client.register_script("return redis.call('GET', 'built')")
            assert await script() == "1"
            assert await client.keys() == ["built"]

    asyncio.run(use())


def echoing(call: str) -> str:
    """Return a script that answers with the command that it would have sent."""
    echo = "{call = function(...) return {{...}} end}"
    assert scripts._PROLOGUE.count("end)(redis,") == 1
    prologue = scripts._PROLOGUE.replace("end)(redis,", f"end)({echo},")
    return f"{prologue} return {call}"


def test_keys_are_found_where_the_client_finds_them(server: redis_server.Server) -> None:
    namespace = Namespace(RUN, "w1", 1)
    rewrite = Rewriter(namespace, owned=False)
    known = commands_of(server)
    script = echoing("redis.call(unpack(ARGV))")
    scripted = {"EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO"}
    asked = 0
    for name, place in PLACES.items():
        arity = known[name][1] if name in known else -8
        for line in () if name in scripted else lines_of(name, place, arity):
            sent = server.ask("EVAL", script, 0, *line, f"l{namespace.text}")
            assert sent == [[line[0], *rewrite(line)[0][1:]]], line
            asked += 1
    for line in (line.split() for line in TRICKY if not line.startswith("EVAL")):
        sent = server.ask("EVAL", script, 0, *line, f"l{namespace.text}")
        assert sent == [[line[0], *rewrite(line)[0][1:]]], line
    assert asked > 600


CHANNEL_LAYERS = [
    "channels_redis.core.RedisChannelLayer",
    "channels_redis.pubsub.RedisPubSubChannelLayer",
]


@pytest.mark.parametrize("path", CHANNEL_LAYERS)
def test_layers_of_channels(
    path: str, server: redis_server.Server, isolation: PrefixIsolation
) -> None:
    from django.utils.module_loading import import_string

    async def use() -> None:
        layer = import_string(path)(hosts=[server.url])
        name = await layer.new_channel()
        await layer.send(name, {"type": "hello"})
        assert await asyncio.wait_for(layer.receive(name), 5) == {"type": "hello"}
        await layer.group_add("group", name)
        await layer.group_send("group", {"type": "to.all"})
        assert await asyncio.wait_for(layer.receive(name), 5) == {"type": "to.all"}
        await layer.group_discard("group", name)
        await layer.flush()
        if hasattr(layer, "close_pools"):
            await layer.close_pools()

    with connected(server.url) as other:
        other.set("asgi:foreign", "kept")
        asyncio.run(use())
        assert other.get("asgi:foreign") == "kept"
        other.delete("asgi:foreign")

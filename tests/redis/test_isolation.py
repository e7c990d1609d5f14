"""Redis under a prefix, on a real server that also holds keys of others."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from itkit.exceptions import EscapeError
from itkit.redis import PrefixIsolation
from itkit.redis.server.server import connected
from tests.support import redis_server

RUN = "0123abcd"
FOREIGN = {"foreign": "1", "itkit:0123abcd:w2:1:k": "2", "itkit:0123abcd:w10:1:k": "3"}
CLIENTS = [(protocol, decoded) for protocol in (2, 3) for decoded in (False, True)]


@pytest.fixture(scope="module")
def server() -> Iterator[redis_server.Server]:
    with redis_server.on_socket() as running:
        yield running


@pytest.fixture
def isolation(server, settings) -> Iterator[PrefixIsolation]:
    settings.ITKIT = {}
    with connected(server.url) as client:
        client.flushall()
        client.mset(FOREIGN)
    made = PrefixIsolation(server=server.url, run=RUN, worker="w1", owned=True, project=[])
    made.install()
    yield made
    made.uninstall()
    with connected(server.url) as client:
        assert client.mget(list(FOREIGN)) == list(FOREIGN.values())


@pytest.fixture(params=CLIENTS, ids=lambda kind: f"resp{kind[0]}-{'str' if kind[1] else 'bytes'}")
def client(request, server, isolation) -> Iterator[redis.Redis]:
    protocol, decoded = request.param
    made = redis.Redis.from_url(server.url, protocol=protocol, decode_responses=decoded)
    yield made
    made.close()


def text(value: Any) -> Any:
    """Return a reply with all bytes as text and all collections as lists."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {text(key): text(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [text(item) for item in value]
    return value


def raw_keys(server: redis_server.Server) -> set[str]:
    with connected(server.url) as own:
        return set(own.keys()) - set(FOREIGN)


def test_keys_are_stored_under_the_prefix_of_run_worker_and_generation(client, server, isolation):
    client.set("a", "1")
    assert text(client.get("a")) == "1"
    assert isolation.prefix.startswith("itkit:0123abcd:w1:")
    assert raw_keys(server) == {f"{isolation.prefix}a"}


def test_listing_and_counting_show_ours_only(client):
    assert client.randomkey() is None
    client.mset({"a": 1, "b": 2, "[c]": 3})
    assert sorted(text(client.keys())) == ["[c]", "a", "b"]
    assert sorted(text(client.keys("[ab]"))) == ["a", "b"]
    assert sorted(text(list(client.scan_iter()))) == ["[c]", "a", "b"]
    assert text(list(client.scan_iter(match="?", count=1))) != []
    assert set(text(list(client.scan_iter(match="a*", _type="string")))) == {"a"}
    assert client.dbsize() == 3
    assert {text(client.randomkey()) for _ in range(60)} == {"a", "b", "[c]"}


def test_flushdb_forgets_ours_only(client, server):
    client.mset({"a": 1, "b": 2})
    assert client.flushdb() is True
    assert client.flushdb(asynchronous=True) is True
    assert raw_keys(server) == set()


def test_flushdb_forgets_the_chosen_database_only(server, isolation):
    first, second = (redis.Redis.from_url(server.url, db=number) for number in (0, 3))
    first.set("k", "0")
    second.set("k", "3")
    second.flushdb()
    assert (first.get("k"), second.get("k")) == (b"0", None)
    first.close()
    second.close()


def test_flushall_forgets_ours_in_all_databases_only(client, server):
    first, second = (redis.Redis.from_url(server.url, db=number) for number in (0, 3))
    with connected(server.url, database=3) as own:
        own.set("foreign", "3")
    for _ in range(2):
        first.set("k", "0")
        second.set("k", "3")
        assert client.flushall() is True
        assert first.get("k") is second.get("k") is None
    first.set("k", "0")
    pipe = second.pipeline().set("k", "3")
    pipe.flushall(asynchronous=True).get("k")
    assert pipe.set("k", "4").execute() == [True, True, None, True]
    assert (first.get("k"), second.get("k")) == (None, b"4")
    with connected(server.url, database=3) as own:
        assert own.get("foreign") == "3"
    first.close()
    second.close()


def test_keys_of_others_can_be_neither_seen_nor_touched_by_name(client):
    for name in FOREIGN:
        assert client.get(name) is None
        assert client.delete(name) == client.unlink(name) == client.exists(name) == 0
        assert client.getdel(name) is None
        assert client.eval("return redis.call('DEL', KEYS[1])", 1, name) == 0
        with pytest.raises(redis.ResponseError):
            client.rename(name, "mine")
    for pattern in ("*", "itkit:*", "foreign"):
        assert client.keys(pattern) == list(client.scan_iter(pattern)) == []


def test_pops_name_the_key_without_the_prefix(client):
    client.rpush("l", *range(9))
    client.zadd("z", {"m": 1, "n": 2, "o": 3, "p": 4})
    assert text(client.blpop("l", timeout=1)) == ["l", "0"]
    assert text(client.brpop(["none", "l"], timeout=1)) == ["l", "8"]
    assert text(client.lmpop(1, "l", direction="LEFT")) == ["l", ["1"]]
    assert text(client.blmpop(1, 1, "l", direction="LEFT")) == ["l", ["2"]]
    assert text(client.bzpopmin("z", timeout=1))[:2] == ["z", "m"]
    assert text(client.bzpopmax("z", timeout=1))[:2] == ["z", "p"]
    assert text(client.zmpop(1, ["z"], min=True))[0] == "z"
    assert text(client.bzmpop(1, 1, ["z"], min=True))[0] == "z"
    assert client.blpop("none", timeout=0.01) is None
    assert text(client.blmove("l", "l2", 1)) == "3"


def test_streams_are_named_without_the_prefix(client):
    client.xadd("s", {"f": "1"}, id="1-1")
    client.xgroup_create("s", "STREAMS", id="0")
    assert names_of_streams(client.xread({"s": "0"}, count=1)) == ["s"]
    assert names_of_streams(client.xreadgroup("STREAMS", "c", {"s": ">"})) == ["s"]
    assert client.xread({"s": "$"}, block=5) in (None, [], {})
    assert client.xinfo_stream("s")["length"] == 1
    assert client.xack("s", "STREAMS", "1-1") == 1
    assert text(client.xinfo_groups("s"))[0]["name"] == "STREAMS"


def names_of_streams(reply: Any) -> list[str]:
    """Return the streams in a reply, which is a map or a list of pairs."""
    return list(text(reply)) if isinstance(reply, dict) else [item[0] for item in text(reply)]


def test_sort_finds_weights_and_values_of_ours(client):
    client.rpush("l", 1, 2)
    client.mset({"w_1": 20, "w_2": 10, "o_1": "one", "o_2": "two"})
    assert text(client.sort("l", by="w_*", get=["#", "o_*"])) == ["2", "two", "1", "one"]
    assert client.sort("l", by="nosort", store="d") == 2
    assert text(client.lrange("d", 0, -1)) == ["1", "2"]


def test_stores_of_geo_commands_are_ours(client, server, isolation):
    client.geoadd("g", (1, 1, "m"))
    client.georadius("g", 1, 1, 9, store="STORE")
    client.georadiusbymember("g", "m", 9, store_dist="d2")
    client.geosearchstore("d3", "g", member="m", radius=9)
    ours = {f"{isolation.prefix}{name}" for name in ("g", "STORE", "d2", "d3")}
    assert raw_keys(server) == ours


def test_pipelines_keep_the_shape_of_their_replies(client):
    for transaction in (False, True):
        client.flushdb()
        pipe = client.pipeline(transaction=transaction)
        pipe.set("a", 1).keys("*").lpop("a").dbsize().randomkey().flushdb().get("a")
        replies = text(pipe.execute(raise_on_error=False))
        assert replies[:2] == [True, ["a"]]
        assert isinstance(replies[2], redis.ResponseError)
        assert replies[3:] == [1, "a", True, None]


def test_watch_sees_changes_of_ours(client):
    client.set("k", 1)
    with client.pipeline() as pipe:
        pipe.watch("k")
        assert text(pipe.get("k")) == "1"
        client.set("k", 2)
        pipe.multi()
        pipe.set("k", 3)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    with client.pipeline() as pipe:
        pipe.watch("k")
        pipe.multi()
        pipe.scan(0)
        assert text(pipe.execute()) == [[0, ["k"]]]


def test_a_discarded_transaction_leaves_replies_in_order(server, isolation):
    line = redis.Redis.from_url(server.url, single_connection_client=True)
    for command in ("MULTI", "KEYS *", "DISCARD"):
        line.execute_command(*command.split())
    line.set("a", 1)
    assert line.keys() == [b"a"]
    assert line.execute_command("MULTI")
    assert line.execute_command("GET", "a") == b"QUEUED"
    with pytest.raises(redis.ResponseError):
        line.execute_command("GET")
    with pytest.raises(redis.exceptions.ExecAbortError):
        line.execute_command("EXEC")
    assert line.keys() == [b"a"]
    line.close()


def test_one_call_of_scan_finds_all_among_the_keys_of_others(client, server):
    with connected(server.url) as other:
        other.mset({f"foreign:{number}": 1 for number in range(1000)})
    client.mset({"a:1": 1, "a:2": 2})
    client.rpush("a:l", 1)
    cursor, names = client.scan()
    assert (cursor, sorted(text(names))) == (0, ["a:1", "a:2", "a:l"])
    assert sorted(text(client.scan(match="*:[12]")[1])) == ["a:1", "a:2"]
    assert text(client.scan(0, count=1, _type="LIST")) == [0, ["a:l"]]
    assert text(client.scan(7)) == [0, []]
    assert text(list(client.scan_iter(match=b"a:l"))) == ["a:l"]
    pipe = client.pipeline()
    pipe.set("b", 1)
    pipe.scan(match="b")
    assert text(pipe.execute()) == [True, [0, ["b"]]]
    for words in ((), ("0", "MATCH"), ("0", "NONSENSE", "1")):
        with pytest.raises(redis.ResponseError):
            client.execute_command("SCAN", *words)
    with connected(server.url) as other:
        other.delete(*(f"foreign:{number}" for number in range(1000)))


def test_scripts_get_their_keys_under_the_prefix(client, server, isolation):
    client.eval("redis.call('SET', KEYS[1], ARGV[1])", 1, "a", "v")
    script = client.register_script("return redis.call('GET', KEYS[1])")
    assert text(script(keys=["a"])) == "v"
    pipe = client.pipeline()
    script(keys=["a"], client=pipe)
    assert text(pipe.execute()) == ["v"]
    assert raw_keys(server) == {f"{isolation.prefix}a"}


def test_functions_get_their_keys_under_the_prefix(client):
    code = (
        "#!lua name=lib\nredis.register_function('put', function(keys, args)"
        " return redis.call('SET', keys[1], args[1]) end)"
    )
    client.function_load(code, replace=True)
    client.fcall("put", 1, "a", "v")
    assert text(client.get("a")) == "v"


def test_locks_are_ours(client, server, isolation):
    with client.lock("l", timeout=5):
        assert raw_keys(server) == {f"{isolation.prefix}l"}
        assert client.lock("l").acquire(blocking=False) is False
    assert raw_keys(server) == set()


def test_messages_come_from_ours_only_and_name_their_channel(client, server, isolation):
    heard = client.pubsub()
    heard.subscribe("news")
    heard.psubscribe("ne?s")
    heard.ssubscribe("shard")
    assert sorted(read(heard) for _ in range(3)) == [
        ("psubscribe", None, "ne?s", 2),
        ("ssubscribe", None, "shard", 1),
        ("subscribe", None, "news", 1),
    ]
    with connected(server.url) as other:
        other.publish("news", "foreign")
    assert client.publish("news", "own") == 2
    assert sorted([read(heard), read(heard)]) == [
        ("message", None, "news", "own"),
        ("pmessage", "ne?s", "news", "own"),
    ]
    client.spublish("shard", "own")
    assert read(heard) == ("smessage", None, "shard", "own")
    assert text(client.pubsub_channels()) == ["news"]
    assert text(client.pubsub_channels("n*")) == ["news"]
    assert text(client.pubsub_numsub("news", "none")) in (
        [["news", 1], ["none", 0]],
        {"news": 1, "none": 0},
    )
    assert text(client.pubsub_shardchannels()) == ["shard"]
    heard.unsubscribe()
    assert read(heard)[:3] == ("unsubscribe", None, "news")
    heard.close()


def read(heard: Any) -> tuple[str, Any, str, Any]:
    """Return the next message: its type, pattern, channel and data."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        message = heard.get_message(timeout=1)
        if message:
            return tuple(text(message[part]) for part in ("type", "pattern", "channel", "data"))
    raise AssertionError("no message came")


def test_listening_goes_on_over_generations_and_reconnections(client, server, isolation):
    heard = client.pubsub()
    heard.subscribe("news")
    listening = heard.listen()
    assert text(next(listening)["channel"]) == "news"
    old = isolation.prefix
    isolation.new_generation()
    with connected(server.url) as other:
        other.publish(f"{old}news", "late")
    assert text(next(listening)) == message("news", "late")
    heard.connection.disconnect()
    heard.connection.connect()
    assert text(next(listening)["type"]) == "subscribe"
    client.publish("news", "own")
    assert text(next(listening)) == message("news", "own")
    heard.close()


def message(channel: str, data: str) -> dict[str, Any]:
    return {"type": "message", "pattern": None, "channel": channel, "data": data}


def test_health_checks_of_a_subscriber_are_not_taken_for_replies(server, isolation):
    line = redis.Redis.from_url(server.url, health_check_interval=0.01)
    heard = line.pubsub()
    heard.subscribe("news")
    assert read(heard)[0] == "subscribe"
    for number in range(3):
        time.sleep(0.02)
        line.publish("news", number)
        assert read(heard)[2:] == ("news", str(number))
        assert line.keys() == []
    heard.close()
    line.close()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("parser", ["python", "default"])
def test_every_parser_of_redis_py_works(server, isolation, protocol, parser):
    options: dict[str, Any] = {"protocol": protocol}
    if parser == "python":
        options["parser_class"] = redis.connection._RESP2Parser
        options["command_packer"] = redis.connection.PythonRespSerializer(6000, str_or_bytes)
    line = redis.Redis.from_url(server.url, **options)
    line.set("big", b"x" * 20_000)
    assert line.keys() == [b"big"]
    assert line.get("big") == b"x" * 20_000
    assert line.pipeline().set("a", b"y" * 20_000).get("big").execute()[1] == b"x" * 20_000
    line.close()


def str_or_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.mark.parametrize(("protocol", "decoded"), CLIENTS)
def test_asyncio_clients_are_isolated_alike(server, isolation, protocol, decoded):
    async def use() -> None:
        line = redis.asyncio.Redis.from_url(
            server.url, protocol=protocol, decode_responses=decoded, health_check_interval=1
        )
        await line.mset({"a": 1, "b": 2})
        assert sorted(text(await line.keys())) == ["a", "b"]
        assert sorted(text([key async for key in line.scan_iter()])) == ["a", "b"]
        assert await line.dbsize() == 2
        await line.rpush("l", 1)
        assert text(await line.blpop("l", timeout=1)) == ["l", "1"]
        async with line.pipeline(transaction=True) as pipe:
            assert text(await pipe.set("c", 3).keys("c").execute()) == [True, ["c"]]
        async with line.pipeline(transaction=False) as pipe:
            assert text(await pipe.keys("c").get("c").execute()) == [["c"], "3"]
        await line.eval("return redis.call('SET', KEYS[1], 1)", 1, "lua")
        async with line.lock("lock", timeout=5):
            assert await line.exists("lock", "lua") == 2
        with pytest.raises(EscapeError):
            await line.swapdb(0, 1)
        assert await line.flushdb()
        await hear(line)
        await line.aclose()

    async def hear(line: Any) -> None:
        heard = line.pubsub()
        await heard.subscribe("news")
        await line.publish("news", "own")
        messages = [await heard.get_message(timeout=2) for _ in range(2)]
        assert [text(message["channel"]) for message in messages] == ["news", "news"]
        assert text(messages[1]["data"]) == "own"
        await heard.aclose()

    asyncio.run(use())
    assert raw_keys(server) == set()


@pytest.mark.parametrize(
    "line",
    [
        ["SWAPDB", "0", "1"],
        ["MOVE", "foreign", "1"],
        ["CONFIG", "SET", "maxmemory", "1"],
        ["SCRIPT", "FLUSH"],
        ["SHUTDOWN", "NOSAVE"],
    ],
)
def test_refused_commands_leave_the_connection_usable(client, line):
    client.set("a", 1)
    with pytest.raises(EscapeError, match=line[0]):
        client.execute_command(*line)
    pipe = client.pipeline().set("b", 1)
    pipe.execute_command(*line)
    with pytest.raises(EscapeError):
        pipe.execute()
    assert text(client.keys()) == ["a"]


def test_bytes_that_were_packed_elsewhere_are_refused(server, isolation):
    line = redis.Redis.from_url(server.url, single_connection_client=True)
    with pytest.raises(EscapeError, match="not packed by"):
        line.connection.send_packed_command([b"*1\r\n$8\r\nFLUSHALL\r\n"])
    line.close()

"""Keys and their values are read by one connection, all of them or their beginning."""

from collections.abc import Iterator

import pytest

from itkit.redis.server.keys import KeyReader
from tests.support.redis_server import Server, on_socket, programs

PREFIX = b"itkit:0123abcd:w0:1:"
KINDS = ("hash", "list", "other", "set", "string", "stream", "zset")
NAMES = [PREFIX + name.encode() for name in (*KINDS, "gone")]


@pytest.fixture(params=programs())
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with on_socket(request.param) as server:
        client = server.client()
        at = PREFIX.decode()
        client.hset(f"{at}hash", mapping={"b": 2, "a": 1})
        client.rpush(f"{at}list", *range(5))
        client.sadd(f"{at}set", "c", "a", "b")
        client.set(f"{at}string", "x" * 1000, px=90_000)
        client.xadd(f"{at}stream", {"f": 1}, id="1-1")
        client.xadd(f"{at}stream", {"f": 2}, id="2-1")
        client.zadd(f"{at}zset", {"m": 1, "n": 2})
        client.execute_command("SELECT", 3)
        client.set(f"{at}other", "3")
        client.set("foreign", "4")
        client.close()
        yield server


def test_what_is_read_of_each_type(server: Server) -> None:
    reader = KeyReader(server.url)
    assert reader.names_under("itkit:") == [name for name in sorted(NAMES) if name in NAMES[:-1]]
    whole = {key.name.decode(): (key, value) for key, value in reader.read(NAMES, PREFIX, None)}
    assert set(whole) == set(KINDS)
    assert {key.database for key, _ in whole.values()} == {0, 3}
    assert whole["other"][0].describe() == "'other' (string, no TTL) in database 3"
    assert 80 < (whole["string"][0].ttl or 0) <= 90
    values = {name: value for name, (_, value) in whole.items()}
    assert values["string"] == b"x" * 1000
    assert list(values["hash"].items()) == [(b"a", b"1"), (b"b", b"2")]
    assert values["list"] == [b"0", b"1", b"2", b"3", b"4"]
    assert values["set"] == [b"a", b"b", b"c"]
    assert [tuple(one) for one in values["zset"]] == [(b"m", 1.0), (b"n", 2.0)]
    assert isinstance(values["stream"], bytes)

    some = {key.name: value for key, value in reader.read(NAMES, PREFIX, 8)}
    assert (some[b"string"], len(some[b"stream"])) == (b"x" * 800, 2)
    few = {key.name: value for key, value in reader.read(NAMES, PREFIX, 3)}
    assert len(few) == 2, "there is no key of one of the first three names"
    assert few[b"list"] == [b"0", b"1", b"2"]

    shown = [key.describe() for key in reader.existing(NAMES, PREFIX) if key.ttl is None]
    assert len(shown) == len(KINDS) - 1
    left_out = KeyReader(server.url, {0})
    assert [key.name for key in left_out.existing(NAMES, PREFIX)] == [b"other"]
    reader.close()
    left_out.close()


def test_one_connection_reads_all_and_is_made_anew_if_it_is_lost(server: Server) -> None:
    with server.client() as watching:
        before = watching.info("stats")["total_connections_received"]
        reader = KeyReader(server.url)
        for _ in range(3):
            assert len(reader.read(reader.names_under("itkit:"), PREFIX, 50)) == len(KINDS)
            reader.existing(NAMES, PREFIX)
        assert watching.info("stats")["total_connections_received"] == before + 1
        watching.client_kill_filter(_type="normal", skipme=True)
        assert len(reader.existing(NAMES, PREFIX)) == len(KINDS)
        assert watching.info("stats")["total_connections_received"] == before + 2
        reader.close()

"""Notifications of what happens to keys: of those of the test, among those of others."""

import asyncio
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


@pytest.fixture(scope="module", params=redis_server.programs())
def server(request: pytest.FixtureRequest) -> Iterator[redis_server.Server]:
    with redis_server.on_port("--notify-keyspace-events", "KEA", program=request.param) as running:
        yield running


@pytest.fixture(params=["limited", "not limited"])
def isolation(
    request: pytest.FixtureRequest, server: Any, settings: Any
) -> Iterator[PrefixIsolation]:
    settings.ITKIT = {}
    secret = "s" if request.param == "limited" else ""
    made = PrefixIsolation(
        server=server.url, run=RUN, worker="w1", owned=False, project=[], secret=secret
    )
    made.install()
    yield made
    assert made.denied() == []
    made.clear()
    made.uninstall()


@pytest.fixture(params=[(2, True), (2, False), (3, True), (3, False)])
def client(request: Any, server: Any, isolation: PrefixIsolation) -> Iterator[redis.Redis]:
    del isolation
    protocol, decoded = request.param
    with redis.Redis.from_url(server.url, protocol=protocol, decode_responses=decoded) as made:
        yield made


def text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def messages(heard: Any, count: int) -> list[tuple[str, str, str]]:
    """Return so many messages, and make sure that no other has come."""
    found: list[Any] = []
    for _ in range(200):
        message = heard.get_message(ignore_subscribe_messages=True, timeout=0.02)
        found += [message] if message else []
        if len(found) >= count and message is None:
            break
    return [tuple(text(one[part]) for part in ("type", "channel", "data")) for one in found]


def subscribed(heard: Any, kind: str, name: str) -> None:
    getattr(heard, kind)(name)
    assert text(heard.get_message(timeout=5)["channel"]) == name


def foreign(server: redis_server.Server, key: str) -> None:
    with connected(server.url) as other:
        other.set(key, 1)
        other.delete(key)


def test_a_key_is_watched_by_its_name(client: Any, server: Any) -> None:
    with client.pubsub() as heard:
        subscribed(heard, "subscribe", "__keyspace@0__:k")
        foreign(server, "k")
        client.set("k", 1)
        client.delete("k")
        channel = "__keyspace@0__:k"
        assert messages(heard, 2) == [("message", channel, "set"), ("message", channel, "del")]
        heard.unsubscribe("__keyspace@0__:k")
        assert text(heard.get_message(timeout=5)["channel"]) == "__keyspace@0__:k"


def test_keys_are_watched_by_a_pattern(client: Any, server: Any) -> None:
    with client.pubsub() as heard:
        subscribed(heard, "psubscribe", "__keyspace@*__:user:*")
        foreign(server, "user:1")
        client.set("user:2", 1)
        client.set("other", 1)
        assert messages(heard, 1) == [("pmessage", "__keyspace@0__:user:2", "set")]


def test_events_tell_of_the_tests_keys_only(
    client: Any, server: Any, isolation: PrefixIsolation
) -> None:
    client.set("past", 1)
    isolation.new_generation()
    with client.pubsub() as heard:
        subscribed(heard, "psubscribe", "__keyevent@*__:*")
        foreign(server, "k")
        client.set("k", 1)
        with connected(server.url) as other:
            other.delete(f"itkit:{RUN}:w1:{isolation.generation - 1}:past")
        client.delete("k")
        assert messages(heard, 2) == [
            ("pmessage", "__keyevent@0__:set", "k"),
            ("pmessage", "__keyevent@0__:del", "k"),
        ]


def test_listening_goes_on_after_what_is_of_others(client: Any, server: Any) -> None:
    with client.pubsub() as heard:
        subscribed(heard, "subscribe", "__keyevent@0__:set")
        foreign(server, "k")
        client.set("ours", 1)
        assert text(next(heard.listen())["data"]) == "ours"


def test_a_pattern_of_both_kinds_is_refused(client: Any) -> None:
    with client.pubsub() as heard, pytest.raises(EscapeError, match="one by one"):
        heard.psubscribe("__key*__:*")


def test_in_asyncio(server: Any, isolation: PrefixIsolation) -> None:
    del isolation

    async def use() -> Any:
        async with redis.asyncio.Redis.from_url(server.url) as client, client.pubsub() as heard:
            await heard.psubscribe("__keyevent@0__:*", "__keyspace@0__:k")
            for _ in range(2):
                assert (await heard.get_message(timeout=5))["type"] == "psubscribe"
            foreign(server, "k")
            await client.set("k", 1)
            found = []
            async for message in heard.listen():
                found.append((message["channel"], message["data"]))
                if len(found) == 2:
                    break
            return sorted(found)

    assert asyncio.run(use()) == [(b"__keyevent@0__:set", b"k"), (b"__keyspace@0__:k", b"set")]

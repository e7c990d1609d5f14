"""Keys that several tests share: those that the set-up of a session, module or class has left.

A test begins with no keys but these. They are kept by this process, as the server prints them, and
are written anew, under the prefix of the test or into its empty server, when it begins.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from itkit.redis.server import server as servers

if TYPE_CHECKING:
    import redis


class Key(NamedTuple):
    """A key.

    Attributes:
        name: the name of the key, without a prefix.
        ttl: milliseconds until it expires, counted from when a test begins; 0 if it does not.
        value: the value, as the server returns it for DUMP.
    """

    name: bytes
    ttl: int
    value: bytes


@dataclass(eq=False)
class KeyLevel:
    """Keys by the number of their database."""

    keys: dict[int, list[Key]]


def read(
    url: str, names: Iterable[bytes], prefix: bytes, is_left_out: Callable[[int], bool]
) -> KeyLevel:
    """Return a level of those keys of some names that are there.

    Args:
        url: the URL of the server, with a login that may read them.
        names: the names, with the prefix.
        prefix: the prefix that the names begin with.
        is_left_out: whether the keys of a database, by its number, are none of the level's.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    sought = list(names)
    found: dict[int, list[Key]] = {}
    for number in servers.databases_of(url):
        if is_left_out(number):
            continue
        with servers.raw(url, number) as client, client.pipeline(transaction=False) as pipeline:
            for name in sought:
                pipeline.dump(name)
                pipeline.pttl(name)
            replies = iter(pipeline.execute())
        keys = [
            Key(name.removeprefix(prefix), max(ttl, 0), value)
            for name, value, ttl in zip(sought, replies, replies, strict=True)
            if value is not None
        ]
        if keys:
            found[number] = keys
    return KeyLevel(found)


def contents(
    url: str, names: Iterable[bytes], prefix: bytes, is_left_out: Callable[[int], bool]
) -> list[tuple[str, str]]:
    """Return those keys of some names that are there: the name, without the prefix, and the value.

    Values without an order are sorted, so that they are equal where they were written in another
    one; what has a TTL is marked, and the TTL itself, which the clock decides, is left out.

    Args:
        url: the URL of the server, with a login that may read them.
        names: the names, with the prefix.
        prefix: the prefix that the names begin with.
        is_left_out: whether the keys of a database, by its number, are left out.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    sought = sorted(names)
    found: list[tuple[str, str]] = []
    for number in servers.databases_of(url):
        if is_left_out(number):
            continue
        with servers.raw(url, number) as client:
            for name in sought:
                value = _value_of(client, name)
                if value is not None:
                    expires = ", expires" if client.pttl(name) > 0 else ""
                    shown = name.removeprefix(prefix).decode(errors="replace")
                    found.append((shown, f"{value}{expires}"))
    return found


def _value_of(client: "redis.Redis", name: bytes) -> object:
    """Return the value of a key, sorted where it has no order; None where there is no such key."""
    kind = client.type(name)
    if kind == b"none":
        return None
    reading: dict[Any, Callable[[], object]] = {
        b"string": lambda: client.get(name),
        b"hash": lambda: sorted(client.hgetall(name).items()),
        b"set": lambda: sorted(client.smembers(name)),
        b"zset": lambda: client.zrange(name, 0, -1, withscores=True),
        b"list": lambda: client.lrange(name, 0, -1),
    }
    return reading.get(kind, lambda: client.dump(name))()


class KeyLevels:
    """The levels of one worker, in the order in which they were added."""

    def __init__(self) -> None:
        self._levels: list[KeyLevel] = []

    @property
    def names(self) -> set[bytes]:
        """The names of the keys of all levels, without a prefix."""
        return {key.name for level in self._levels for keys in level.keys.values() for key in keys}

    def add(self, level: KeyLevel) -> KeyLevel | None:
        """Add a level and return it; None where it has no keys."""
        if not level.keys:
            return None
        self._levels.append(level)
        return level

    def end(self, level: KeyLevel) -> None:
        """Remove a level; does nothing the second time."""
        if level in self._levels:
            self._levels.remove(level)

    def write(self, url: str, prefix: bytes) -> None:
        """Write the keys of all levels, those of a later one over those of an earlier one.

        Args:
            url: the URL of the server, with a login that may write them.
            prefix: the prefix that their names are to begin with.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        merged: dict[int, dict[bytes, Key]] = {}
        for level in self._levels:
            for number, keys in level.keys.items():
                merged.setdefault(number, {}).update((key.name, key) for key in keys)
        for number, named in merged.items():
            with servers.raw(url, number) as client, client.pipeline(transaction=False) as pipeline:
                for name, key in named.items():
                    pipeline.restore(prefix + name, key.ttl, key.value, replace=True)
                pipeline.execute()

"""Keys that several tests share, made by the set-up of a session, module or class.

A test begins with no keys but these. This process keeps them in the form of the server's DUMP. When
a test begins, it writes them again, under the test's prefix or to its empty server.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from itkit.redis.server import server as servers

if TYPE_CHECKING:
    import redis


class Key(NamedTuple):
    """A key of a level.

    Attributes:
        name: the name of the key, without a prefix.
        ttl: milliseconds from the beginning of a test until it expires; 0 if it does not expire.
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
    """Return a level of the existing keys among some names.

    Args:
        url: the URL of the server, with a login that may read the keys.
        names: the names, with the prefix.
        prefix: the prefix that the names begin with.
        is_left_out: returns whether a level leaves out a database, given its number.

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
    """Return name, without the prefix, and value of the existing keys among some names.

    Values without an order are sorted, so that equal values look the same. Keys with a TTL are
    marked; the TTL itself depends on the clock and is left out.

    Args:
        url: the URL of the server, with a login that may read the keys.
        names: the names, with the prefix.
        prefix: the prefix that the names begin with.
        is_left_out: returns whether a database is left out, given its number.

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
    """Return the value of a key, sorted if it has no order; None if there is no such key."""
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
        """Remove a level; a second call does nothing."""
        if level in self._levels:
            self._levels.remove(level)

    def write(self, url: str, prefix: bytes) -> None:
        """Write the keys of all levels; a later level overwrites an earlier one.

        Args:
            url: the URL of the server, with a login that may write them.
            prefix: the prefix of the written names.

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

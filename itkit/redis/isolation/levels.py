"""Keys that several tests share, made by the set-up of a session, module or class.

A test begins with no keys but these. This process keeps them in the form of the server's DUMP. When
a test begins, it writes them again, under the test's prefix or to its empty server.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from itkit.redis.server import server as servers

if TYPE_CHECKING:
    pass


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

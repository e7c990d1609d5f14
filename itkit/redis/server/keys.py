"""Reads the keys of a worker and their values, by a connection of itkit's own."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple

from itkit.redis.server import server as servers

_SCANNED: Final = 10_000
_ALL: Final = 2**31
"""A bound that no value reaches, for readers that need one."""
_BYTES: Final = 100
"""How many bytes of a text count as much as an element of another value."""


class FoundKey(NamedTuple):
    """A key that exists on the server.

    Attributes:
        name: the name, without the worker's prefix.
        database: the number of the database.
        kind: the type of the value, in the server's words.
        ttl: seconds until it expires; None if it does not expire.
    """

    name: bytes
    database: int
    kind: str
    ttl: float | None

    def describe(self) -> str:
        """Return a line that describes the key."""
        name = self.name.decode(errors="backslashreplace")
        expires = "no TTL" if self.ttl is None else f"TTL {self.ttl:.0f} s"
        return f"{name!r} ({self.kind}, {expires}) in database {self.database}"


_READERS: Final[dict[str, Callable[[Any, bytes, int], object]]] = {
    "string": lambda pipeline, name, most: pipeline.getrange(name, 0, most * _BYTES - 1),
    "list": lambda pipeline, name, most: pipeline.lrange(name, 0, most - 1),
    "hash": lambda pipeline, name, most: pipeline.hscan(name, count=most),
    "set": lambda pipeline, name, most: pipeline.sscan(name, count=most),
    "zset": lambda pipeline, name, most: pipeline.zrange(name, 0, most - 1, withscores=True),
    "stream": lambda pipeline, name, most: pipeline.xrange(name, count=most),
}
"""The functions that read the beginning of a value, by its type."""


class KeyReader:
    """Reads the keys of one worker.

    Its one connection is opened when it is first used. That of ``Tracking`` cannot be used, as
    the server does not report what is written by that one.

    Args:
        server: URL with a login that may read the keys.
        left_out: the numbers of databases that are left out.
    """

    def __init__(self, server: str, left_out: Collection[int] = ()) -> None:
        self._server = server
        self._left_out = left_out
        self._client = servers.client(server, decode_responses=False)

    def names_under(self, root: str) -> list[bytes]:
        """Search all databases for keys that begin with ``root``.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        found: set[bytes] = set()
        with servers.failures_explained(self._server):
            for number in self._databases():
                found.update(self._scanned(number, root))
        return sorted(found)

    def existing(self, names: Iterable[bytes], prefix: bytes) -> list[FoundKey]:
        """Return the existing keys among some names.

        Args:
            names: the names, with the prefix.
            prefix: the prefix that the names begin with.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        sought = sorted(names)
        with servers.failures_explained(self._server):
            return [
                key for number in self._databases() for key in self._keys(number, sought, prefix)
            ]

    def read(
        self, names: Iterable[bytes], prefix: bytes, most: int | None
    ) -> list[tuple[FoundKey, object]]:
        """Return the existing keys among some names, each with its value.

        Values without an order are sorted, so that equal values look the same.

        Args:
            names: the names, with the prefix.
            prefix: the prefix that the names begin with.
            most: the greatest number of keys, and of elements of a value; of a text, a hundred
                times as many bytes. None for all.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        sought = sorted(names)[:most]
        found: list[tuple[FoundKey, object]] = []
        with servers.failures_explained(self._server):
            for number in self._databases():
                keys = list(self._keys(number, sought, prefix))
                found += zip(keys, self._values(number, keys, prefix, most), strict=True)
        return found

    def close(self) -> None:
        """Close the connection."""
        self._client.connection_pool.disconnect()

    def _databases(self) -> list[int]:
        in_use = servers.databases_in_use(self._client)
        return [number for number in in_use if number not in self._left_out]

    def _scanned(self, number: int, root: str) -> Iterator[bytes]:
        cursor = -1
        while cursor:
            with self._in_database(number) as pipeline:
                pipeline.scan(max(cursor, 0), match=f"{root}*", count=_SCANNED)
                _, (cursor, names) = pipeline.execute()
            yield from names

    def _keys(self, number: int, names: list[bytes], prefix: bytes) -> Iterator[FoundKey]:
        with self._in_database(number) as pipeline:
            for name in names:
                pipeline.type(name)
                pipeline.pttl(name)
            _, *replies = pipeline.execute()
        for name, kind, ttl in zip(names, replies[::2], replies[1::2], strict=True):
            if kind != b"none":
                expires = ttl / 1000 if ttl >= 0 else None
                yield FoundKey(name.removeprefix(prefix), number, kind.decode(), expires)

    def _values(
        self, number: int, keys: list[FoundKey], prefix: bytes, most: int | None
    ) -> Iterator[object]:
        readers = dict(_READERS)
        if most is None:
            # DUMP has all of a stream, its groups among it, and all of a type of a module.
            dumped = {key.kind for key in keys}.difference(_READERS) | {"stream"}
            readers |= dict.fromkeys(dumped, _dump)
        readable = [key for key in keys if key.kind in readers]
        with self._in_database(number) as pipeline:
            for key in readable:
                readers[key.kind](pipeline, prefix + key.name, most or _ALL)
            # A key that has another type by now has its error instead of a value.
            _, *replies = pipeline.execute(raise_on_error=False)
        values = {key.name: _in_order(reply) for key, reply in zip(readable, replies, strict=True)}
        yield from (values.get(key.name) for key in keys)

    def _in_database(self, number: int) -> Any:
        """Return a pipeline that begins with the choice of a database."""
        pipeline: Any = self._client.pipeline(transaction=False)
        pipeline.execute_command("SELECT", number)
        return pipeline


def _dump(pipeline: Any, name: bytes, _most: int) -> object:
    return pipeline.dump(name)


def _in_order(reply: Any) -> object:
    """Return a value as it is shown; a hash and a set are replies of SCAN, without an order."""
    if not isinstance(reply, tuple):
        return reply
    _, elements = reply
    return dict(sorted(elements.items())) if isinstance(elements, dict) else sorted(set(elements))

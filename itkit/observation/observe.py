"""Observes the queries, commands of Redis and calls of backends within a block of a test.

```python
with observe() as seen:
    response = client.get("/orders/")
seen.assert_queries(2, "shop_order")
seen.assert_cache_hit("rates")
```
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

from django.apps import apps
from django.db import connections

from itkit.core import sqltext
from itkit.core.text import counted, did_you_mean
from itkit.exceptions import ItkitError, ObservationError
from itkit.fakes import Call
from itkit.observation import assertions
from itkit.redis.crossings import Observed, RedisCommand, observing
from itkit.redis.policy import command_names
from itkit.timeline import core
from itkit.timeline.core import Crossing
from itkit.timeline.sql import Statement

_WIDTH: Final = 240


class Observation:
    """The crossings within the block of an ``observe()``, until it ends.

    Savepoints are not counted, nor commands by which a Redis connection describes itself.
    """

    def __init__(self, story: core.Timeline) -> None:
        self._timeline = story
        self._start = len(story)
        self._end: int | None = None

    @property
    def queries(self) -> list[Statement]:
        """The statements that were sent to databases."""
        return [item for item in self._crossings() if isinstance(item, Statement) and item.is_noted]

    @property
    def commands(self) -> list[RedisCommand]:
        """The commands that were sent to Redis."""
        found = [item for item in self._crossings() if isinstance(item, RedisCommand)]
        return [item for item in found if not (isinstance(item, Observed) and item.is_quiet)]

    @property
    def calls(self) -> list[Call]:
        """The calls of backends."""
        return [item for item in self._crossings() if isinstance(item, Call)]

    @property
    def cache_hits(self) -> list[str]:
        """The keys that were looked up in Redis and existed."""
        return [key for key, was_there in self._look_ups() if was_there]

    @property
    def cache_misses(self) -> list[str]:
        """The keys that were looked up in Redis and did not exist."""
        return [key for key, was_there in self._look_ups() if not was_there]

    def assert_queries(self, count: int, table: str | None = None) -> None:
        """Fail unless a number of statements was sent, in total or to one table.

        Args:
            count: the exact number.
            table: the name of a table in the database; statements that read or join it count too.

        Raises:
            ObservationError: another number was sent, or the table does not exist.
        """
        if table is not None:
            _check_is_name(table)
        found = [
            query
            for query in self.queries
            if table is None or table in sqltext.read(query.sql).tables
        ]
        if table is not None and not found:
            _check_table(table)
        if len(found) != count:
            raise ObservationError(_wrong_count(count, len(found), table, found or self.queries))

    def assert_commands(self, count: int, name: str | None = None) -> None:
        """Fail unless a number of commands was sent to Redis, in total or with one name.

        Args:
            count: the exact number.
            name: the name of a command, such as ``"GET"``.

        Raises:
            ObservationError: another number was sent, or the command does not exist.
        """
        wanted = name.upper() if name is not None else None
        found = [one for one in self.commands if wanted in (None, one.words[0].upper())]
        if wanted is not None and not found:
            _check_command(wanted)
        if len(found) != count:
            asked = f"{len(found)} {name}" if name else counted(len(found), "command")
            lines = [f"{asked} of Redis, expected {count}"]
            raise ObservationError("\n".join([*lines, assertions.shown(found or self.commands)]))

    def assert_cache_hit(self, key: str) -> None:
        """Fail unless a key of the cache or Redis was looked up and existed each time."""
        self._assert_cache(key, was_there=True)

    def assert_cache_miss(self, key: str) -> None:
        """Fail unless a key of the cache or Redis was looked up and never existed."""
        self._assert_cache(key, was_there=False)

    def __str__(self) -> str:
        return assertions.shown(self._crossings()) or "  nothing"

    def _assert_cache(self, key: str, *, was_there: bool) -> None:
        found = [hit for name, hit in self._look_ups() if name == key or name.endswith(f":{key}")]
        if found and all(hit is was_there for hit in found):
            return
        wanted = "a hit" if was_there else "a miss"
        seen = ", ".join("hit" if hit else "miss" for hit in found) or "never asked for"
        asked = [f"  {'hit ' if hit else 'miss'}  {name}" for name, hit in self._look_ups()]
        lines = [f"{key!r} in the cache: {seen}; expected {wanted}", *asked]
        raise ObservationError("\n".join(lines if asked else [*lines, "  no key was asked for"]))

    def _look_ups(self) -> Iterator[tuple[str, bool]]:
        for command in self.commands:
            if isinstance(command, Observed) and command.is_look_up:
                yield from zip(command.words[1:], command.found, strict=False)

    def _crossings(self) -> Iterator[Crossing]:
        return islice(iter(self._timeline), self._start, self._end)

    def _close(self) -> None:
        self._end = len(self._timeline)


@contextmanager
def observe() -> Iterator[Observation]:
    """Observe what happens within a block, in all threads.

    Look-ups are seen in caches in Redis only.

    Raises:
        ItkitError: no test runs with ``--integration``.
    """
    running = core.current()
    if not running.test:
        raise ItkitError("observe() is for a test that runs with --integration.")
    observation = Observation(running)
    try:
        with observing():
            yield observation
    finally:
        observation._close()


def _check_is_name(table: object) -> None:
    """Check what names a table, such as where a test gives a model."""
    if not isinstance(table, str):
        name = getattr(getattr(table, "_meta", None), "db_table", None)
        such = f", such as {name!r}" if name is not None else ""
        raise ObservationError(f"table is {table!r}, expected the name of a table{such}.")


def _check_table(table: str) -> None:
    """Check that a table exists for which no statement was seen."""
    known = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    if table in known:
        return
    with core.between_tests():  # the queries here do not belong to the test
        for connection in connections.all(initialized_only=True):
            try:
                with connection.cursor() as cursor:
                    known.update(connection.introspection.table_names(cursor, include_views=True))
            except Exception:  # noqa: BLE001 - a test that may not ask the database is not outcome
                return
    if table not in known:
        raise ObservationError(f"There is no table {table!r}. {did_you_mean(table, sorted(known))}")


def _check_command(name: str) -> None:
    """Check that a command of Redis that was not seen exists; modules may have more commands."""
    known = command_names()
    if name not in known and "." not in name:
        raise ObservationError(
            f"Redis has no command {name!r}. {did_you_mean(name, sorted(known))}"
        )


def _wrong_count(expected: int, got: int, table: str | None, queries: Sequence[Statement]) -> str:
    where = f" to {table}" if table else ""
    difference = f"{got - expected} too many" if got > expected else f"{expected - got} too few"
    first = f"{counted(got, 'query', 'queries')}{where}, expected {expected}: {difference}"
    shown = f"{first}\n  none of these:" if table and not got and queries else first
    return "\n".join([shown, *_grouped(queries)]) if queries else f"{shown}\n  no query at all"


def _grouped(queries: Iterable[Statement]) -> Iterator[str]:
    """Yield lines for the statements, equal ones together, with their call sites."""
    groups: dict[str, list[Statement]] = {}
    for query in queries:
        groups.setdefault(sqltext.normalised(query.sql), []).append(query)
    for sql, same in groups.items():
        text = sql if len(sql) <= _WIDTH else f"{sql[: _WIDTH - 1]}…"
        yield f"  {len(same)} x {text}"
        yield from sorted({f"      at {query.site}" for query in same})

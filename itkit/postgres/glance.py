"""What one cheap query tells about a database: which transactions are done, and who sits in one.

Whatever changes a row needs the id of a transaction, so nothing has changed since a moment after
which no transaction but known ones has ended. A sequence that was just set needs one as well, as
the server has to write its next value ahead; only an unlogged one does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from psycopg import sql

from itkit.postgres.server import Connection

_LEFT_OPEN: Final = (
    "pg_stat_get_activity(NULL) WHERE application_name = {} AND state LIKE {}"
    " AND datid = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_PREPARE: Final = (
    "PREPARE itkit_glance AS SELECT pg_current_snapshot()::text, EXISTS (SELECT FROM {})"
)
# Materialised, or the sessions might be ended before it is known which of them are to be.
_END: Final = (
    "WITH found AS MATERIALIZED (SELECT pid, query FROM {})"
    " SELECT pid, query, pg_terminate_backend(pid) FROM found"
)


class LeftOpen(NamedTuple):
    """A session that sat in a transaction."""

    pid: int
    query: str


@dataclass(frozen=True)
class Snapshot:
    """Which transactions are done.

    Attributes:
        end: all from this id on are not.
        running: of those before it, these are not either.
    """

    end: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Read the text of a ``pg_snapshot``."""
        _, end, running = text.split(":")
        return cls(int(end), frozenset(map(int, filter(None, running.split(",")))))

    def differs(self, later: "Snapshot", known: int | None) -> bool:
        """Whether any other transaction than a known one was done between this and a later one."""
        not_done = chain(self.running, range(self.end, later.end))
        return any(number not in later.running and number != known for number in not_done)


class Glances:
    """Looks at a database by one connection.

    Args:
        connection: of our own.
        application: name of the sessions that must not sit in a transaction.
    """

    def __init__(self, connection: Connection, application: str) -> None:
        left_open = sql.SQL(_LEFT_OPEN).format(application, "idle in transaction%")
        busy = sql.SQL(_LEFT_OPEN).format(application, "active")
        self._connection = connection
        self._end = sql.SQL(_END).format(left_open)
        self._end_busy = sql.SQL(_END).format(busy)
        connection.execute(sql.SQL(_PREPARE).format(left_open))

    def take(self) -> tuple[Snapshot, Sequence[LeftOpen]]:
        """Return which transactions are done, and end the sessions that sit in one."""
        [(snapshot, has_left_open)] = self._connection.execute("EXECUTE itkit_glance").fetchall()
        return Snapshot.parse(snapshot), self._ended(self._end) if has_left_open else ()

    def end_busy(self) -> Sequence[LeftOpen]:
        """End the sessions of the tests that are still at work."""
        return self._ended(self._end_busy)

    def _ended(self, query: sql.Composed) -> list[LeftOpen]:
        rows = self._connection.execute(query).fetchall()
        return [LeftOpen(pid, query) for pid, query, _ in rows]

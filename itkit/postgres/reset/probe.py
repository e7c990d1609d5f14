"""A cheap query about a database: which transactions have ended, and which sessions are in one.

Each change of a row needs a transaction id. So nothing has changed since a moment after which only
known transactions have ended. A sequence that was just set needs a transaction id for its next
value as well, as the server has to log it; only unlogged sequences do not.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from itkit.postgres.server import sql
from itkit.postgres.server.driver import Connection

_LEFT_OPEN: Final = (
    "pg_stat_get_activity(NULL) WHERE application_name = {} AND state LIKE {}"
    " AND datid = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_PREPARE_SNAPSHOT: Final = "PREPARE itkit_snapshot AS SELECT pg_current_snapshot()::text"
_PREPARE_COMMITTED: Final = (
    "PREPARE itkit_committed (xid8[]) AS SELECT coalesce(string_agg(id::text, ','), '')"
    " FROM unnest($1) id WHERE pg_xact_status(id) = 'committed'"
)
_PREPARE: Final = (
    "PREPARE itkit_glance AS SELECT pg_current_snapshot()::text, EXISTS (SELECT FROM {})"
)
# Materialised, as the server might end sessions before it has selected them otherwise.
_END: Final = (
    "WITH found AS MATERIALIZED (SELECT pid, query FROM {})"
    " SELECT pid, query, pg_terminate_backend(pid) FROM found"
)


# A prepared transaction has no session. It belongs to the tests of a place if it has locked
# something there; its own id is one of its locks.
_PREPARED: Final = """
    SELECT DISTINCT gid, owner FROM pg_prepared_xacts
    JOIN pg_locks AS own ON own.transactionid = transaction
    JOIN pg_locks AS held ON held.pid IS NULL AND held.virtualtransaction = own.virtualtransaction
    JOIN pg_class ON pg_class.oid = held.relation
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pg_prepared_xacts.database = current_database() AND own.pid IS NULL
        AND coalesce(nspname = {}, true)
"""


class LeftOpen(NamedTuple):
    """A session that had an open transaction; for a prepared one the id is 0."""

    pid: int
    query: str


@dataclass(frozen=True)
class TransactionSnapshot:
    """The transactions that have ended at one moment.

    Attributes:
        end: all transactions from this id on have not ended.
        running: the transactions before ``end`` that have not ended either.
    """

    end: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "TransactionSnapshot":
        """Read the text of a ``pg_snapshot``."""
        _, end, running = text.split(":")
        return cls(int(end), frozenset(map(int, filter(None, running.split(",")))))

    def done_until(self, later: "TransactionSnapshot", known: Collection[int] = ()) -> list[int]:
        """Return the transactions that ended between this and a later snapshot, without known ones.

        They may have been committed or rolled back.
        """
        not_done = chain(self.running, range(self.end, later.end))
        return [n for n in not_done if n not in later.running and n not in known]


class Look(NamedTuple):
    """What a probe has seen at one moment.

    All databases of a server share transaction ids, so one look is enough for all of them.

    Attributes:
        snapshot: the transactions that had ended.
        probe: the probe, which knows which of them were committed.
    """

    snapshot: TransactionSnapshot
    probe: "ChangeProbe"


class ChangeProbe:
    """Examines a database by one connection.

    Args:
        connection: a connection of our own.
        application: the name of the sessions that must not be in a transaction.
        schema: the schema of the tests; None if the whole database is theirs.
    """

    def __init__(self, connection: Connection, application: str, schema: str | None) -> None:
        left_open = sql.SQL(_LEFT_OPEN).format(application, "idle in transaction%")
        busy = sql.SQL(_LEFT_OPEN).format(application, "active")
        self._connection = connection
        self._end = sql.SQL(_END).format(left_open)
        self._end_busy = sql.SQL(_END).format(busy)
        self._has_left_open = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(left_open)
        self._last = ""
        self._parsed: TransactionSnapshot | None = None
        self._ended_last: Sequence[int] = ()
        self._committed_last: set[int] = set()
        connection.execute(sql.SQL(_PREPARE).format(left_open))
        connection.execute(_PREPARE_SNAPSHOT)
        connection.execute(_PREPARE_COMMITTED)
        [(most,)] = connection.execute("SHOW max_prepared_transactions").fetchall()
        self._prepared = sql.SQL(_PREPARED).format(schema) if int(most) else None

    def look(self) -> Look:
        """Look at the server, for the resets of all of its databases."""
        return Look(self.snapshot(), self)

    def snapshot(self) -> TransactionSnapshot:
        """Return the transactions that have ended; the same object as long as they are the same.

        This runs after each test, so it uses no cursor, which would take five times as long.
        """
        text = self._connection.text_of("EXECUTE itkit_snapshot")
        if text != self._last or self._parsed is None:
            self._last, self._parsed = text, TransactionSnapshot.parse(text)
        return self._parsed

    def committed(self, transactions: Sequence[int]) -> set[int]:
        """Return which of some ended transactions were committed.

        This runs after each test that has written, so it uses no cursor either. The resets of
        several databases ask for the same transactions, and the first answer holds for all.
        """
        if not transactions:
            return set()
        if transactions != self._ended_last:
            self._committed_last = self._committed(transactions)
            self._ended_last = transactions
        return set(self._committed_last)

    def _committed(self, transactions: Sequence[int]) -> set[int]:
        ids = ",".join(map(str, transactions))
        text = self._connection.text_of(f"EXECUTE itkit_committed ('{{{ids}}}')")
        return {int(number) for number in filter(None, text.split(","))}

    def sessions(self) -> set[int]:
        """Return the ids of the server processes whose sessions are open now."""
        rows = self._connection.execute("SELECT pid FROM pg_stat_get_activity(NULL)").fetchall()
        return {pid for (pid,) in rows}

    def check(self) -> tuple[TransactionSnapshot, Sequence[LeftOpen]]:
        """Return the transactions that have ended, and end the sessions that are in one."""
        prepared = self._rolled_back()
        [(snapshot, has_left_open)] = self._connection.execute("EXECUTE itkit_glance").fetchall()
        ended = self._ended(self._end) if has_left_open else []
        return TransactionSnapshot.parse(snapshot), [*prepared, *ended]

    def is_busy(self) -> bool:
        """Return whether a session of the tests is in a transaction."""
        [(found,)] = self._connection.execute(self._has_left_open).fetchall()
        return bool(found)

    def end_busy(self) -> Sequence[LeftOpen]:
        """End the sessions of the tests that still run a statement."""
        return self._ended(self._end_busy)

    def _rolled_back(self) -> list[LeftOpen]:
        """Roll back the transactions that tests have prepared, and return them."""
        if self._prepared is None:
            return []
        found = []
        for name, owner in self._connection.execute(self._prepared).fetchall():
            role, literal = sql.Identifier(owner), sql.Literal(name)
            # Only its own role may do so, or a superuser.
            self._connection.execute(sql.SQL("SET ROLE {}").format(role))
            try:
                self._connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(literal))
            finally:
                self._connection.execute("RESET ROLE")
            found.append(LeftOpen(0, f"PREPARE TRANSACTION {literal.as_string()}"))
        return found

    def _ended(self, query: sql.Composed) -> list[LeftOpen]:
        rows = self._connection.execute(query).fetchall()
        return [LeftOpen(pid, query) for pid, query, _ in rows]

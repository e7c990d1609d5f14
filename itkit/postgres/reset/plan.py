"""The plan of a reset of one or several schemas, made once from the catalogue.

Each table, sequence and materialised view is an item of the plan. It has a query that yields its
number if it has changed since the last reset, and the statements that restore it.
``ResetPlan.detect`` runs all these queries as one. ``ResetPlan.restore`` runs the statements of the
items that have changed.

A table without initial rows has changed if it has rows. A table with initial rows has changed if
their number differs, or if another transaction has written a row than the one that restored them
last, whose id is the *restored xid*. This detects the rows of raw SQL, COPY, triggers and other
processes, and ignores what was rolled back. As long as all rows of that transaction are there, it
is enough to remove the others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any, Final

from itkit.postgres.reset.items import Item, ResetTable, SequenceValue
from itkit.postgres.reset.structure import Structure
from itkit.postgres.server import driver
from itkit.postgres.server.driver import Connection

STRUCTURE_CHANGED: Final = -1
XIDS: Final = 2**32
"""A row contains only the lower half of a transaction's id."""
_NO_XID: Final = "0"
_TRANSACTION: Final = "SELECT pg_current_xact_id()::text"


class ResetPlan:
    """The SQL that resets schemas, which may refer to each other, to one state.

    Args:
        number: the number of the plan among the plans of one connection.
        items: the items of the schemas, in the order in which they can be restored.
        structure: the structure that the schemas should have.
        is_replica: whether the session that restores is in the role ``replica``, which checks no
            foreign keys and fires only triggers and rules that are enabled for it.
        restored_xids: the restored xids of the items by number, if another plan has restored them
            before.

    Attributes:
        items: the items of the schemas.
        structure: the structure that the schemas should have.
        everything: the numbers of all items.
        sequences: the numbers of all sequences.
    """

    def __init__(
        self,
        number: int,
        items: Sequence[Item],
        structure: Structure,
        *,
        is_replica: bool,
        restored_xids: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self.items = items
        self.structure = structure
        self._name = f"itkit_detect_{number}"
        self._is_replica = is_replica
        self._connection: Connection | None = None
        self._numbers = {
            item.oid: number for number, item in enumerate(items) if isinstance(item, ResetTable)
        }
        self._restored_xids = [restored_xids.get(number, _NO_XID) for number in range(len(items))]
        sequences = {
            number: item for number, item in enumerate(items) if isinstance(item, SequenceValue)
        }
        self.everything = set(range(len(items)))
        self.sequences = set(sequences)
        untraced = [item for item in sequences.values() if not item.is_logged]
        self._untraced = " UNION ALL ".join(item.detect(0) for item in untraced)

    def use(self, connection: Connection) -> None:
        """Prepare the statement of ``detect``, unless this connection has it already.

        Args:
            connection: a connection of our own.
        """
        if connection is self._connection:
            return
        fingerprint = self.structure.fingerprint.as_string()
        changed = f"SELECT {STRUCTURE_CHANGED}, false WHERE {fingerprint} <> $2"
        parts = [changed, *(item.detect(number) for number, item in enumerate(self.items))]
        query = f"PREPARE {self._name} (xid[], text) AS {' UNION ALL '.join(parts)}"
        connection.execute(query)
        self._connection = connection

    def forget(self) -> None:
        """Remove the prepared statement, to make room on the server for other plans."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.closed:
            connection.execute(f"DEALLOCATE {self._name}")

    def restored_xid(self, number: int) -> str:
        """Return the restored xid of an item."""
        return self._restored_xids[number]

    def detect(self) -> dict[int, bool]:
        """Return the numbers of the changed items.

        ``STRUCTURE_CHANGED`` is among them if the structure is not as it should be. The value is
        true for a table that still has all initial rows, and has other rows as well.
        """
        restored_xids = ",".join(self._restored_xids)
        return dict(
            self._rows(f"EXECUTE {self._name}('{{{restored_xids}}}', '{self.structure.now}')")
        )

    def moved_sequences(self) -> set[int]:
        """Return the numbers of the sequences that rolled-back tests have advanced.

        The result is empty if any table has other rows than its initial rows. Somebody may have
        loaded these rows for several tests, and they have taken numbers as well.
        """
        changed = self.detect()
        if STRUCTURE_CHANGED in changed:
            return set()
        items = [self.items[number] for number in changed]
        tables = [item for item in items if isinstance(item, ResetTable)]
        if any(not table.initial_count or table.hides_rows for table in tables):
            return set()
        counts = " UNION ALL ".join(table.count for table in tables)
        found = self._rows(counts) if tables else []
        if [count for (count,) in found] != [table.initial_count for table in tables]:
            return set()
        return self.sequences & changed.keys()

    def initial_left(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return how many of their initial rows some tables and views still have.

        Tables whose rows a policy hides are left out.
        """
        found = self._rows_by_writer(numbers, frozenset())
        return {number: initial for number, (initial, _) in found.items()}

    def written_by_others(
        self, numbers: Iterable[int], transactions: Set[int], initial_left: Mapping[int, int]
    ) -> set[int]:
        """Return the tables and views that somebody else than some transactions has changed.

        Args:
            numbers: the numbers of the items to look at.
            transactions: the lower halves of their ids.
            initial_left: the result of ``initial_left`` after these transactions.
        """
        found = self._rows_by_writer(numbers, transactions)
        return {
            number
            for number, (initial, others) in found.items()
            if others or initial != initial_left.get(number, initial)
        }

    def has_changed_untraced(self) -> bool:
        """Return whether anything has changed that can change without a transaction id."""
        return bool(self._untraced and self._rows(self._untraced))

    def restore(self, changed: Mapping[int, bool], connection: Connection) -> int:
        """Take back the changes in one transaction, and return its id.

        Args:
            changed: the result of ``detect``.
            connection: a connection of our own, other than that of ``detect``.
        """
        kept = {number for number, has_initial in changed.items() if has_initial}
        whole = self._with_referring(changed.keys() - kept)
        query = self._statements(whole, kept - whole)
        [(transaction,)] = connection.execute(query).fetchall()
        for number in whole:
            self._restored_xids[number] = str(int(transaction) % XIDS)
        restored = [self.items[number] for number in whole | kept]
        if any(isinstance(item, ResetTable) and item.unproven for item in restored):
            self.structure.accept(connection)  # such a constraint was dropped and added again
        return int(transaction)

    def _rows_by_writer(
        self, numbers: Iterable[int], transactions: Set[int]
    ) -> dict[int, tuple[int, int]]:
        """Return the numbers of initial rows and of rows that are not from the transactions."""
        items = {number: self.items[number] for number in numbers}
        queries = [
            item.count_by_writer(number, self._restored_xids[number], transactions)
            for number, item in items.items()
            if not isinstance(item, SequenceValue)
            and not (isinstance(item, ResetTable) and item.hides_rows)
        ]
        rows = self._rows(" UNION ALL ".join(queries)) if queries else []
        return {number: (initial, others) for number, initial, others in rows}

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        if self._connection is None:
            raise RuntimeError("use() comes first")
        found: list[tuple[Any, ...]] = self._connection.execute(query).fetchall()
        return found

    def _statements(self, whole: Set[int], kept: Set[int]) -> str:
        items = [(number, self.items[number]) for number in sorted(whole | kept)]
        tables = [item for _, item in items if isinstance(item, ResetTable)]
        deletes = [
            item.delete_others(self._restored_xids[number]) if number in kept else item.delete
            for number, item in items
            if isinstance(item, ResetTable)
        ]
        inserts = [
            item.insert
            for number, item in items
            if isinstance(item, ResetTable) and item.initial_count and number in whole
        ]
        parts = [
            _TRANSACTION,
            *self._silenced(tables, self._rows_back(deletes, inserts)),
            *(item.restore for _, item in items if not isinstance(item, ResetTable)),
        ]
        if not driver.is_psycopg3:
            parts.append(_TRANSACTION)  # psycopg2 shows the rows of the last statement
        return "; ".join(parts)

    def _with_referring(self, changed: Set[int]) -> set[int]:
        """Add the tables with initial rows that refer, directly or not, to tables that are emptied.

        Where foreign keys are checked, their rows would be deleted too, or prevent the deletion.
        """
        found = set(changed)
        pending = [] if self._is_replica else list(found)
        while pending:
            more = set(self._initial_referring(self.items[pending.pop()])) - found
            found |= more
            pending += more
        return found

    def _initial_referring(self, item: Item) -> Iterator[int]:
        if not isinstance(item, ResetTable) or not item.initial_count:
            return  # rows that refer to rows which are not initial are not initial either
        for oid in item.referring:
            number = self._numbers.get(oid)
            other = self.items[number] if number is not None else None
            if number is not None and isinstance(other, ResetTable) and other.initial_count:
                yield number

    def _rows_back(self, deletes: list[str], inserts: list[str]) -> list[str]:
        """Return the statements that empty tables and restore their initial rows.

        Where foreign keys are checked, one statement does everything, so that they are checked at
        its end. Then the order does not matter, even if keys that cannot be deferred form a circle.
        """
        if self._is_replica:
            return [*deletes, *inserts]
        return [*_at_once(deletes), *_at_once(inserts)]

    def _silenced(self, tables: Sequence[ResetTable], statements: list[str]) -> Iterator[str]:
        """Yield statements, and around them those that disable triggers, rules and policies."""
        if not self._is_replica:
            yield "SET CONSTRAINTS ALL DEFERRED"
        for table in tables:
            yield from table.open
        yield from statements
        if not self._is_replica:
            # Pending checks would keep the tables from being altered.
            yield "SET CONSTRAINTS ALL IMMEDIATE"
        for table in tables:
            yield from table.shut


def _at_once(statements: Sequence[str]) -> list[str]:
    """Join statements into one."""
    parts = [f"s{number} AS ({statement})" for number, statement in enumerate(statements)]
    return [f"WITH {', '.join(parts)} SELECT"] if parts else []

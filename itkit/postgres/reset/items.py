"""The items of a schema that tests can change, and the SQL that detects and reverts changes."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Final, LiteralString

from itkit.postgres.server import sql

_ENABLED: Final[dict[str, LiteralString]] = {"O": "", "A": "ALWAYS ", "R": "REPLICA "}
_KINDS: Final[dict[str, LiteralString]] = {"TRIGGER": "TRIGGER", "RULE": "RULE"}


@dataclass(frozen=True)
class SuppressedTrigger:
    """A trigger or rule that must not act during a reset."""

    table: sql.Identifier
    kind: str
    enabled: str
    name: str

    @cached_property
    def disable(self) -> str:
        """The statement that disables it."""
        return self._alter("ALTER TABLE ONLY {} DISABLE {} {}")

    @cached_property
    def enable(self) -> str:
        """The statement that enables it as before."""
        return self._alter("ALTER TABLE ONLY {} ENABLE " + _ENABLED[self.enabled] + "{} {}")

    def _alter(self, statement: LiteralString) -> str:
        name = sql.Identifier(self.name)
        return _written(statement, self.table, sql.SQL(_KINDS[self.kind]), name)


@dataclass(frozen=True)
class NotValidConstraint:
    """A constraint that was not validated, so that initial rows may violate it."""

    table: sql.Identifier
    name: str
    definition: LiteralString

    @cached_property
    def drop(self) -> str:
        """The statement that drops it, so that any row is accepted."""
        return _written("ALTER TABLE {} DROP CONSTRAINT {}", self.table, sql.Identifier(self.name))

    @cached_property
    def add(self) -> str:
        """The statement that adds it as before."""
        name, definition = sql.Identifier(self.name), sql.SQL(self.definition)
        return _written("ALTER TABLE {} ADD CONSTRAINT {} {}", self.table, name, definition)


@dataclass(frozen=True)
class ResetTable:
    """A table.

    Attributes:
        oid: the oid, in the catalogue.
        name: the name of the table.
        rows: the table in a FROM clause, without the rows of tables that inherit from it.
        initial: the table that has its initial rows, in a FROM clause.
        initial_count: the number of initial rows.
        hides_rows: whether a policy hides rows from their owner.
        columns: the columns that are copied, in parentheses, or an empty text.
        copied: the relation or query from which the rows are copied.
        noise: the triggers and rules that must not act during a reset.
        unproven: the constraints that must not be checked.
        referring: oids of other tables with a foreign key to it.
        first_writers: the transactions, by the lower half of their ids, that had written the
            initial rows before the first reset.
    """

    oid: int
    name: sql.Identifier
    rows: sql.Composable
    initial: sql.Composable
    initial_count: int
    hides_rows: bool
    columns: sql.Composable
    copied: sql.Composable
    noise: Sequence[SuppressedTrigger]
    unproven: Sequence[NotValidConstraint]
    referring: Sequence[int]
    first_writers: frozenset[int] = frozenset()

    def detect(self, number: int) -> str:
        """Return the query that yields a number if the table has changed.

        The second column says whether all initial rows are still there, so that only other rows
        have to be removed. The parameter with that number is the table's restored xid.
        """
        if self.hides_rows:
            return _written("SELECT {}, false", number)  # hidden rows cannot be compared
        if not self.initial_count:
            return _written("SELECT {}, false WHERE EXISTS (SELECT FROM {})", number, self.rows)
        return _others_than(self.initial_count, self.rows, number, self.first_writers)

    @cached_property
    def count(self) -> str:
        """The query for the number of its rows."""
        return _written("SELECT count(*) FROM {}", self.rows)

    @cached_property
    def delete(self) -> str:
        """The statement that empties it."""
        return _written("DELETE FROM {}", self.rows)

    def count_by_writer(self, number: int, restored_xid: str, transactions: Set[int]) -> str:
        """Return the query for the numbers of initial rows and of rows that others wrote.

        Args:
            number: the number that the query yields first.
            restored_xid: the transaction that has restored the initial rows of the table.
            transactions: the transactions whose rows are not counted, by the lower halves of their
                ids.
        """
        return _count_by_writer(self.rows, number, restored_xid, self.first_writers, transactions)

    def delete_others(self, restored_xid: str) -> str:
        """Return the statement that removes all rows that a transaction has not restored."""
        initial = _is_initial(sql.Literal(restored_xid), self.first_writers)
        return _written("DELETE FROM {} WHERE NOT ({})", self.rows, initial)

    @cached_property
    def insert(self) -> str:
        """The statement that restores its initial rows, if it has any."""
        return _written(
            "INSERT INTO {} {} OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
            self.name,
            self.columns,
            self.copied,
            self.initial,
        )

    @cached_property
    def open(self) -> list[str]:
        """The statements before a change: nothing reacts then, and no row is hidden or refused."""
        return [
            *(noise.disable for noise in self.noise),
            *(constraint.drop for constraint in self.unproven),
            *self._policies("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY"),
        ]

    @cached_property
    def shut(self) -> list[str]:
        """The statements that revert the ones of ``open``."""
        return [
            *self._policies("ALTER TABLE {} FORCE ROW LEVEL SECURITY"),
            *(constraint.add for constraint in self.unproven),
            *(noise.enable for noise in self.noise),
        ]

    def _policies(self, statement: LiteralString) -> list[str]:
        return [_written(statement, self.name)] if self.hides_rows else []


@dataclass(frozen=True)
class SequenceValue:
    """A sequence, and its initial value."""

    name: sql.Identifier
    value: int
    is_called: bool
    is_logged: bool

    def detect(self, number: int) -> str:
        """Return the query that yields a number if the sequence has changed."""
        return _written(
            "SELECT {}, false FROM {} WHERE (last_value, is_called) <> ({}, {})",
            number,
            self.name,
            self.value,
            self.is_called,
        )

    @cached_property
    def restore(self) -> str:
        """The statement that restores it."""
        name = self.name.as_string()
        return _written("SELECT setval({}::regclass, {}, {})", name, self.value, self.is_called)

    @property
    def is_behind(self) -> str:
        """The query whether it will yield a number that initial rows may have."""
        return _written(
            "SELECT (last_value * sign(seqincrement), is_called) < ({} * sign(seqincrement), {})"
            " FROM {}, pg_sequence WHERE seqrelid = {}::regclass",
            self.value,
            self.is_called,
            self.name,
            self.name.as_string(),
        )


@dataclass(frozen=True)
class View:
    """A materialised view; ``initial_count`` is None if it was not populated.

    ``first_writers`` has the meaning that it has for a table.
    """

    oid: int
    name: sql.Identifier
    initial_count: int | None
    first_writers: frozenset[int] = frozenset()

    def detect(self, number: int) -> str:
        """Return the query that yields a number if the view has changed.

        The parameter with that number is its restored xid.
        """
        if self.initial_count is None:
            query: LiteralString = (
                "SELECT {}, false FROM pg_class WHERE oid = {} AND relispopulated"
            )
            return _written(query, number, self.oid)
        return _others_than(self.initial_count, self.name, number, self.first_writers)

    def count_by_writer(self, number: int, restored_xid: str, transactions: Set[int]) -> str:
        """Return the query for the numbers of initial rows and of rows that others wrote.

        The arguments are those of the method of a table.
        """
        return _count_by_writer(self.name, number, restored_xid, self.first_writers, transactions)

    @cached_property
    def restore(self) -> str:
        """The statement that restores it."""
        if self.initial_count is None:
            return _written("REFRESH MATERIALIZED VIEW {} WITH NO DATA", self.name)
        return _written("REFRESH MATERIALIZED VIEW {}", self.name)


Item = ResetTable | SequenceValue | View


def label(item: Item) -> str:
    """Return the name of an item without that of its schema."""
    parts = re.findall(r'"((?:[^"]|"")+)"', item.name.as_string())
    return str(parts[-1]).replace('""', '"')


def _others_than(
    count: int, rows: sql.Composable, number: int, first_writers: frozenset[int]
) -> str:
    """Return the query that yields a number unless there are exactly the initial rows.

    The second column says whether all initial rows are there.
    """
    restored_xid = sql.SQL("$1[{}]").format(number + 1)
    return _written(
        "SELECT {number}, count(*) FILTER (WHERE {initial}) = {count} FROM {rows}"
        " HAVING count(*) <> {count} OR count(*) FILTER (WHERE {initial}) <> {count}",
        number=number,
        rows=rows,
        count=count,
        initial=_is_initial(restored_xid, first_writers),
    )


def _count_by_writer(
    rows: sql.Composable,
    number: int,
    restored_xid: str,
    first_writers: frozenset[int],
    transactions: Set[int],
) -> str:
    return _written(
        "SELECT {number}, count(*) FILTER (WHERE {initial}),"
        " count(*) FILTER (WHERE NOT {initial} AND xmin <> ALL ({known}::xid[])) FROM {rows}",
        number=number,
        rows=rows,
        initial=_is_initial(sql.Literal(restored_xid), first_writers),
        known=sql.Literal("{" + ",".join(map(str, sorted(transactions))) + "}"),
    )


def _is_initial(restored_xid: sql.Composable, first_writers: frozenset[int]) -> sql.Composed:
    """Return the condition that a row was written by the last restore, or by a first writer."""
    if not first_writers:
        return sql.SQL("xmin = {}").format(restored_xid)
    listed = sql.Literal("{" + ",".join(map(str, sorted(first_writers))) + "}")
    return sql.SQL("(xmin = {} OR xmin = ANY ({}::xid[]))").format(restored_xid, listed)


def _written(text: LiteralString, *parts: object, **named: object) -> str:
    return sql.SQL(text).format(*parts, **named).as_string()

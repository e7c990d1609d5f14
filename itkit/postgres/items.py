"""What a test can change in a schema, each with the SQL that finds it changed and takes it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, LiteralString

from psycopg import sql

_ENABLED: Final[dict[str, LiteralString]] = {"O": "", "A": "ALWAYS ", "R": "REPLICA "}
_KINDS: Final[dict[str, LiteralString]] = {"TRIGGER": "TRIGGER", "RULE": "RULE"}


@dataclass(frozen=True)
class Noise:
    """A trigger or rule that a reset must keep silent."""

    table: sql.Identifier
    kind: str
    enabled: str
    name: str

    @cached_property
    def disable(self) -> str:
        """The statement that keeps it silent."""
        return self._alter("ALTER TABLE ONLY {} DISABLE {} {}")

    @cached_property
    def enable(self) -> str:
        """The statement that enables it as it was."""
        return self._alter("ALTER TABLE ONLY {} ENABLE " + _ENABLED[self.enabled] + "{} {}")

    def _alter(self, statement: LiteralString) -> str:
        name = sql.Identifier(self.name)
        return _written(statement, self.table, sql.SQL(_KINDS[self.kind]), name)


@dataclass(frozen=True)
class Unproven:
    """A constraint that was not validated, so that rows which come back may violate it."""

    table: sql.Identifier
    name: str
    definition: LiteralString

    @cached_property
    def drop(self) -> str:
        """The statement that lets any row in."""
        return _written("ALTER TABLE {} DROP CONSTRAINT {}", self.table, sql.Identifier(self.name))

    @cached_property
    def add(self) -> str:
        """The statement that adds it as it was."""
        name, definition = sql.Identifier(self.name), sql.SQL(self.definition)
        return _written("ALTER TABLE {} ADD CONSTRAINT {} {}", self.table, name, definition)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        oid: in the catalogue.
        name: of the table.
        rows: it, in a FROM clause without the rows of tables that inherit from it.
        seeds: where its rows come back from, in the same way.
        seed_count: how many these are.
        hides_rows: whether a policy hides rows from their owner.
        columns: that are copied, in parentheses if there are any.
        copied: what they are copied from.
        noise: what must be kept silent.
        unproven: constraints that must not be checked.
        referring: oids of other tables with a foreign key to it.
    """

    oid: int
    name: sql.Identifier
    rows: sql.Composable
    seeds: sql.Composable
    seed_count: int
    hides_rows: bool
    columns: sql.Composable
    copied: sql.Composable
    noise: Sequence[Noise]
    unproven: Sequence[Unproven]
    referring: Sequence[int]

    def detect(self, number: int) -> str:
        """Return the query that yields a number if the table has changed.

        Beside it is whether all seeds are still there, so that no more than other rows have to go.
        The table's stamp is the parameter of that number.
        """
        if self.hides_rows:
            return _written("SELECT {}, false", number)  # there is no telling
        if not self.seed_count:
            return _written("SELECT {}, false WHERE EXISTS (SELECT FROM {})", number, self.rows)
        return _others_than(self.seed_count, self.rows, number)

    @cached_property
    def count(self) -> str:
        """The query for the number of its rows."""
        return _written("SELECT count(*) FROM {}", self.rows)

    @cached_property
    def delete(self) -> str:
        """The statement that empties it."""
        return _written("DELETE FROM {}", self.rows)

    def delete_others(self, stamp: str) -> str:
        """Return the statement that removes all rows but those of a stamp."""
        return _written("DELETE FROM {} WHERE xmin <> {}", self.rows, stamp)

    @cached_property
    def insert(self) -> str:
        """The statement that fills it, where it has seeds."""
        return _written(
            "INSERT INTO {} {} OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
            self.name,
            self.columns,
            self.copied,
            self.seeds,
        )

    @cached_property
    def open(self) -> list[str]:
        """The statements before it is changed: nothing answers, no row is hidden or refused."""
        return [
            *(noise.disable for noise in self.noise),
            *(constraint.drop for constraint in self.unproven),
            *self._policies("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY"),
        ]

    @cached_property
    def shut(self) -> list[str]:
        """The statements that take those back."""
        return [
            *self._policies("ALTER TABLE {} FORCE ROW LEVEL SECURITY"),
            *(constraint.add for constraint in self.unproven),
            *(noise.enable for noise in self.noise),
        ]

    def _policies(self, statement: LiteralString) -> list[str]:
        return [_written(statement, self.name)] if self.hides_rows else []


@dataclass(frozen=True)
class SequenceValue:
    """A sequence, and the value that it comes back to."""

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
        """The statement that takes it back."""
        name = self.name.as_string()
        return _written("SELECT setval({}::regclass, {}, {})", name, self.value, self.is_called)


@dataclass(frozen=True)
class View:
    """A materialised view; ``seed_count`` is None where it is not populated."""

    oid: int
    name: sql.Identifier
    seed_count: int | None

    def detect(self, number: int) -> str:
        """Return the query that yields a number if the view has changed.

        Its stamp is the parameter of that number.
        """
        if self.seed_count is None:
            query: LiteralString = (
                "SELECT {}, false FROM pg_class WHERE oid = {} AND relispopulated"
            )
            return _written(query, number, self.oid)
        return _others_than(self.seed_count, self.name, number)

    @cached_property
    def restore(self) -> str:
        """The statement that takes it back."""
        if self.seed_count is None:
            return _written("REFRESH MATERIALIZED VIEW {} WITH NO DATA", self.name)
        return _written("REFRESH MATERIALIZED VIEW {}", self.name)


Item = Table | SequenceValue | View


def _others_than(count: int, rows: sql.Composable, number: int) -> str:
    """Return the query that yields a number if rows are not all of one stamp and as many.

    Beside it is whether as many are of that stamp.
    """
    return _written(
        "SELECT {number}, count(*) FILTER (WHERE xmin = $1[{stamp}]) = {count} FROM {rows}"
        " HAVING count(*) <> {count} OR count(*) FILTER (WHERE xmin = $1[{stamp}]) <> {count}",
        number=number,
        rows=rows,
        count=count,
        stamp=number + 1,
    )


def _written(text: LiteralString, *parts: object, **named: object) -> str:
    return sql.SQL(text).format(*parts, **named).as_string()

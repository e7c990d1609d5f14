"""Finds the rows of a table that differ from its initial rows, by a session of itkit's."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from itkit.postgres.reset.items import ResetTable, label
from itkit.postgres.server import sql
from itkit.postgres.server.driver import Connection

MOST_ROWS: Final = 20
_KEY: Final = """
    SELECT attname::text FROM pg_index JOIN pg_attribute
        ON attrelid = indrelid AND attnum = ANY (indkey)
    WHERE indrelid = %s AND indisprimary ORDER BY attnum
"""
_ROWS: Final = "SELECT to_jsonb(a) FROM {} AS a ORDER BY 1 LIMIT {}"
_ROWS_BUT: Final = (
    "SELECT * FROM (SELECT to_jsonb(a) FROM {} AS a EXCEPT SELECT to_jsonb(b) FROM {} AS b) AS c"
    " ORDER BY 1 LIMIT {}"
)

Row = Mapping[str, Any]


class RowDifference(NamedTuple):
    """A row that differs.

    Attributes:
        before: the initial row; None if there was none.
        now: the present row; None if it was deleted.
    """

    before: Row | None
    now: Row | None


class TableDifference(NamedTuple):
    """The differences in a table.

    Attributes:
        table: the name of the table.
        rows: the first rows that differ, in the order of their values.
        has_more: whether there are more.
    """

    table: str
    rows: Sequence[RowDifference]
    has_more: bool


def of(connection: Connection, table: ResetTable) -> TableDifference:
    """Return the rows of a table that were added, changed and removed.

    Args:
        connection: a connection of our own.
        table: the table as an item of a reset's plan.
    """
    most = sql.Literal(MOST_ROWS + 1)
    if not table.initial_count:
        now = _rows(connection, sql.SQL(_ROWS).format(table.rows, most))
        before: list[Row] = []
    else:
        there, initial = table.rows, table.initial
        now = _rows(connection, sql.SQL(_ROWS_BUT).format(there, initial, most))
        before = _rows(connection, sql.SQL(_ROWS_BUT).format(initial, there, most))
    key = [name for (name,) in connection.execute(_KEY, [table.oid]).fetchall()]
    gone = {_key_of(row, key): row for row in before}
    found = [RowDifference(gone.pop(_key_of(row, key), None), row) for row in now]
    found += [RowDifference(row, None) for row in gone.values()]
    # A copy of initial rows has no generated columns.
    rows = [row for row in found if not _is_same(row)]
    return TableDifference(label(table), rows[:MOST_ROWS], len(rows) > MOST_ROWS)


def _rows(connection: Connection, query: sql.Composed) -> list[Row]:
    return [row for (row,) in connection.execute(query).fetchall()]


def _key_of(row: Row, key: Sequence[str]) -> str:
    return repr([row.get(name) for name in key] if key else sorted(row.items(), key=repr))


def _is_same(row: RowDifference) -> bool:
    before, now = row
    if before is None or now is None:
        return False
    return all(before[name] == now[name] for name in before.keys() & now.keys())

"""Levels of rows: the initial rows of the migrations, and above them rows that several tests share.

Each test sees the rows that the set-up of its session, module or class has committed. These rows
become a level, to which the resets of the tests return. They are copied to temporary tables of the
session that restores, so they disappear with that session, however it ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from itkit.postgres.reset.items import Item, ResetTable, SequenceValue, View
from itkit.postgres.reset.plan import STRUCTURE_CHANGED, XIDS, ResetPlan
from itkit.postgres.reset.structure import Structure
from itkit.postgres.server import sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

_COPY_BEGINS: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ"
_COLUMNS: Final = """
    SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = {} AND attnum > 0
        AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
_WRITERS: Final = "SELECT {}, count(*), array_agg(DISTINCT xmin::text::bigint) FROM {}"
_OWNED_SEQUENCES: Final = """
    SELECT nspname, relname FROM pg_depend
    JOIN pg_class ON pg_class.oid = objid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE classid = 'pg_class'::regclass AND relkind = 'S' AND deptype IN ('a', 'i')
        AND refclassid = 'pg_class'::regclass AND refobjid = ANY ({}::oid[])
"""
_OTHER_SEQUENCES: Final = """
    SELECT nspname, relname, relpersistence = 'p' FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE relkind = 'S' AND ({})
"""


@dataclass(eq=False)
class RowLevel:
    """The rows that a set-up has made, above those of another level.

    Attributes:
        plan: the plan that resets the schemas to these rows.
        copies: the temporary tables with the rows that lower levels do not have.
    """

    plan: ResetPlan
    copies: Sequence[sql.Identifier] = ()

    def drop(self, restorer: Connection) -> None:
        """Forget the rows."""
        self.plan.forget()
        for copy in self.copies:
            restorer.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(copy))


@dataclass(frozen=True)
class PassedOver:
    """Transactions that were committed for one test only, and do not belong to a level.

    Attributes:
        transactions: the ids of the transactions.
        initial_left: how many rows of the level below were left after them, in the changed items.
    """

    transactions: frozenset[int] = frozenset()
    initial_left: Mapping[int, int] = field(default_factory=dict)

    @property
    def written(self) -> frozenset[int]:
        """The transactions' ids in the form that rows contain."""
        return frozenset(number % XIDS for number in self.transactions)


def without(
    passed_over: PassedOver, changed: Mapping[int, bool], plan: ResetPlan, detector: Connection
) -> dict[int, bool]:
    """Return the changed items, without those that only the passed-over transactions changed.

    Args:
        passed_over: the tables that are left out, with the sequences that they own.
        changed: the result of ``ResetPlan.detect``.
        plan: the plan of the level below.
        detector: our connection on which the plan is prepared.
    """
    if not passed_over.transactions:
        return dict(changed)
    items = {n: plan.items[n] for n in changed if n != STRUCTURE_CHANGED}
    seen = passed_over.initial_left.keys() & items.keys()
    left_out = seen - plan.written_by_others(seen, passed_over.written, passed_over.initial_left)
    tables = [item.oid for n in left_out if isinstance(item := items[n], ResetTable)]
    if tables:
        names = {_key(item): n for n, item in items.items() if isinstance(item, SequenceValue)}
        owned = detector.execute(sql.SQL(_OWNED_SEQUENCES).format(tables)).fetchall()
        left_out |= {names[key] for row in owned if (key := _key_of(*row)) in names}
    return {number: kept for number, kept in changed.items() if number not in left_out}


def with_writers(connection: Connection, items: Sequence[Item], tests: set[int]) -> list[Item]:
    """Return the items with the writers of their rows, before their first reset.

    Args:
        connection: a connection of our own.
        items: the items of the schemas.
        tests: the ids of the transactions that tests have committed meanwhile.
    """
    views = [item.oid for item in items if isinstance(item, View)]
    # A test may have emptied some, which cannot be read then.
    query = sql.SQL("SELECT oid FROM pg_class WHERE oid = ANY ({}::oid[]) AND NOT relispopulated")
    emptied = {oid for (oid,) in connection.execute(query.format(views)).fetchall()}
    initial = {
        number: item.rows if isinstance(item, ResetTable) else item.name
        for number, item in enumerate(items)
        if _may_be_read(item) and not (isinstance(item, View) and item.oid in emptied)
    }
    lower = {transaction % XIDS for transaction in tests}
    found = {
        number: frozenset(writers or ()) - lower
        for number, (_, writers) in _read_writers(connection, initial).items()
    }
    return [
        replace(item, first_writers=found[number])
        if number in found and isinstance(item, ResetTable | View)
        else item
        for number, item in enumerate(items)
    ]


def above(
    below: RowLevel,
    items: Sequence[Item],
    structure: Structure,
    changed: set[int],
    *,
    passed_over: frozenset[int],
    number: int,
    store: str,
    detector: Connection,
    restorer: Connection,
    is_replica: bool,
) -> RowLevel:
    """Make a level from the present rows of the schemas.

    Args:
        below: the plan of the level below.
        items: the items of the schemas, which are those of the level below unless the structure has
            changed.
        structure: the structure of the schemas.
        changed: numbers of the items that differ from the level below.
        passed_over: the transactions whose rows do not belong to the level.
        number: the number of the new level's plan.
        store: the schema for the copies, ``pg_temp`` if possible.
        detector: our connection that finds out what has changed.
        restorer: our connection that restores.
        is_replica: whether the restorer's session is in the role ``replica``.
    """
    numbers = {_key(item): n for n, item in enumerate(below.plan.items)}
    made: list[Item] = []
    restored_xids: dict[int, str] = {}
    copied: dict[int, ResetTable] = {}
    for position, item in enumerate(items):
        known = numbers.get(_key(item))
        if known is not None and known not in changed:
            restored_xids[position] = below.plan.restored_xid(known)
            made.append(below.plan.items[known])
            continue
        made.append(item)
        if isinstance(item, ResetTable):
            copied[position] = item
        elif isinstance(item, SequenceValue):
            made[-1] = _with_value(detector, item)
    copies = {
        position: sql.Identifier(store, f"itkit_level_{number}_{position}") for position in copied
    }
    for position, (table, count, writers) in _copy(restorer, copied, copies, passed_over).items():
        made[position] = replace(
            table,
            initial=copies[position],
            initial_count=count,
            first_writers=frozenset(writers or ()),
        )
    made = _with_views(detector, made, {p for p in range(len(made)) if p not in restored_xids})
    made += _other_sequences(detector, structure, made)
    plan = ResetPlan(number, made, structure, is_replica=is_replica, restored_xids=restored_xids)
    return RowLevel(plan, list(copies.values()))


def rebased(
    level: RowLevel, bottom: ResetPlan, copies: set[str], *, number: int, is_replica: bool
) -> None:
    """Return the level with a plan for tables that a test has altered or made anew.

    Args:
        level: the level, which was made for an earlier structure.
        bottom: the plan that restores the initial rows, made from the present schemas.
        copies: the names of the tables with the rows of this level and of those below.
        number: the number of the level's plan.
        is_replica: whether the session that restores is in the role ``replica``.
    """
    known = {_key(item): item for item in level.plan.items}
    items: list[Item] = []
    for item in bottom.items:
        old = known.get(_key(item))
        made: Item = item
        if (
            isinstance(item, ResetTable)
            and isinstance(old, ResetTable)
            and _text(old.initial) in copies
        ):
            made = replace(
                item,
                initial=old.initial,
                initial_count=old.initial_count,
                columns=old.columns,
                copied=old.copied,
            )
        elif isinstance(item, View) and isinstance(old, View):
            made = replace(item, initial_count=old.initial_count)
        elif isinstance(old, SequenceValue):
            made = old
        items.append(made)
    level.plan.forget()
    level.plan = ResetPlan(number, items, bottom.structure, is_replica=is_replica)


def _text(initial: sql.Composable) -> str:
    return str(initial.as_string())


def _copy(
    restorer: Connection,
    tables: Mapping[int, ResetTable],
    copies: Mapping[int, sql.Identifier],
    passed_over: frozenset[int],
) -> dict[int, tuple[ResetTable, int, list[int]]]:
    """Copy tables; return them as items restored from the copies, with count and writers."""
    if not tables:
        return {}
    found = {}
    hiding = [table for table in tables.values() if table.hides_rows]
    restorer.execute(_COPY_BEGINS)
    try:
        for statement in [text for table in hiding for text in table.open]:
            restorer.execute(statement)
        copy = sql.SQL("CREATE TABLE {} AS SELECT {} FROM {}")
        theirs = sql.SQL(" WHERE xmin <> ALL ({}::xid[])").format([str(n) for n in passed_over])
        rows_of = {
            n: sql.SQL("{}{}").format(table.rows, theirs) if passed_over else table.rows
            for n, table in tables.items()
        }
        for position, table in tables.items():
            rows = restorer.execute(sql.SQL(_COLUMNS).format(table.oid)).fetchall()
            columns = sql.SQL(", ").join(sql.SQL(name) for (name,) in rows)
            restorer.execute(copy.format(copies[position], columns, rows_of[position]))
            listed = sql.SQL("({})" if rows else "").format(columns)
            found[position] = replace(table, columns=listed, copied=columns)
        written = _read_writers(restorer, rows_of)
        for statement in [text for table in hiding for text in table.shut]:
            restorer.execute(statement)
    except BaseException:
        restorer.execute("ROLLBACK")
        raise
    restorer.execute("COMMIT")
    return {position: (table, *written[position]) for position, table in found.items()}


def _read_writers(
    connection: Connection, rows: Mapping[int, sql.Composable]
) -> dict[int, tuple[int, list[int]]]:
    """Return the number of rows, and the transactions that have written them."""
    if not rows:
        return {}
    parts = [sql.SQL(_WRITERS).format(number, one) for number, one in rows.items()]
    found = connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()
    return {number: (count, writers) for number, count, writers in found}


def _with_views(connection: Connection, items: Sequence[Item], changed: set[int]) -> list[Item]:
    """Return items with the materialised views in their present state."""
    made = list(items)
    for position in changed:
        item = items[position]
        if not isinstance(item, View):
            continue
        query = sql.SQL("SELECT relispopulated FROM pg_class WHERE oid = {}").format(item.oid)
        count, writers = None, None
        if value(connection, query):
            [(count, writers)] = _read_writers(connection, {0: item.name}).values()
        made[position] = replace(item, initial_count=count, first_writers=frozenset(writers or ()))
    return made


def _other_sequences(
    connection: Connection, structure: Structure, items: Sequence[Item]
) -> list[Item]:
    """Return the sequences that the set-up itself has created."""
    known = {_key(item) for item in items}
    query = sql.SQL(_OTHER_SEQUENCES).format(structure.schemas)
    found = [
        SequenceValue(sql.Identifier(schema, name), 1, False, is_logged)  # noqa: FBT003 - replaced
        for schema, name, is_logged in connection.execute(query).fetchall()
    ]
    return [_with_value(connection, item) for item in found if _key(item) not in known]


def _with_value(connection: Connection, item: SequenceValue) -> SequenceValue:
    query = sql.SQL("SELECT last_value, is_called FROM {}").format(item.name)
    [(last_value, is_called)] = connection.execute(query).fetchall()
    return replace(item, value=last_value, is_called=is_called)


def _may_be_read(item: Item) -> bool:
    if isinstance(item, ResetTable):
        return bool(item.initial_count) and not item.hides_rows
    return isinstance(item, View) and item.initial_count is not None


def _key_of(schema: str, name: str) -> str:
    return sql.Identifier(schema, name).as_string()


def _key(item: Item) -> str:
    return item.name.as_string()

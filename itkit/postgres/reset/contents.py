"""Reads the contents of a schema that tests can change: tables, sequences, materialised views."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, LiteralString

from itkit.postgres.reset.items import (
    Item,
    NotValidConstraint,
    ResetTable,
    SequenceValue,
    SuppressedTrigger,
    View,
)
from itkit.postgres.server import sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

# Partitions are emptied and filled through their parents, which have no rows of their own. A clone
# has its own types, so values of these are copied from the template through text. Tables that the
# role may not write to, such as those of an extension, are left out, as no test can have changed
# them.
_TABLES: Final = """
    SELECT c.oid::bigint, c.relname, c.relkind = 'r', s.oid IS NOT NULL,
        c.relrowsecurity AND c.relforcerowsecurity,
        coalesce(columns.names, '{{}}'), coalesce(columns.copied, '{{}}'),
        ARRAY(SELECT f.conrelid::bigint FROM pg_constraint f
              WHERE f.contype = 'f' AND f.confrelid = c.oid AND f.conrelid <> c.oid)
    FROM pg_class c
    LEFT JOIN pg_class s ON s.relname = c.relname AND s.relnamespace = {initial}::regnamespace
    LEFT JOIN LATERAL (
        SELECT array_agg(quote_ident(a.attname) ORDER BY a.attnum) AS names,
            array_agg(quote_ident(a.attname) || CASE WHEN a.atttypid <> b.atttypid
                THEN '::text::' || format_type(a.atttypid, a.atttypmod) ELSE '' END
                ORDER BY a.attnum) AS copied
        FROM pg_attribute a JOIN pg_attribute b
            ON b.attrelid = s.oid AND b.attname = a.attname AND NOT b.attisdropped
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    ) columns ON true
    WHERE c.relnamespace = {schema}::regnamespace
        AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') ORDER BY c.relname
"""
# A partition may have triggers of its own. The few triggers and rules come first: the server
# expects a fresh clone to have one table, and would look at all of them once for each.
_NOISE: Final = """
    WITH noise (relid, kind, enabled, name) AS MATERIALIZED (
        SELECT tgrelid, 'TRIGGER', tgenabled, tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT ev_class, 'RULE', ev_enabled, rulename FROM pg_rewrite
        WHERE rulename <> '_RETURN'
    )
    SELECT CASE WHEN c.relispartition THEN pg_partition_root(c.oid) ELSE c.oid END::bigint,
        c.relname, kind, enabled, name
    FROM noise JOIN pg_class c ON c.oid = relid
    WHERE c.relnamespace = {schema}::regnamespace AND c.relkind IN ('r', 'p')
        AND enabled = ANY({firing}::"char"[])
"""
_UNPROVEN: Final = """
    SELECT f.conrelid::bigint, c.relname, f.conname, pg_get_constraintdef(f.oid)
    FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid
    WHERE c.relnamespace = {schema}::regnamespace AND NOT c.relispartition
        AND NOT f.convalidated AND f.coninhcount = 0 AND f.conparentid = 0
"""
# A view that reads other views comes after them: it depends on all that they depend on.
_VIEWS: Final = """
    WITH RECURSIVE made_of (view, source) AS (
        SELECT DISTINCT r.ev_class, d.refobjid FROM pg_rewrite r JOIN pg_depend d
            ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
    ), reached (view, source) AS (
        SELECT c.oid, m.source FROM pg_class c JOIN made_of m ON m.view = c.oid
        WHERE c.relkind = 'm' AND c.relnamespace = {schema}::regnamespace
        UNION SELECT reached.view, m.source FROM reached JOIN made_of m ON m.view = reached.source
    )
    SELECT (SELECT count(*) FROM reached WHERE reached.view = c.oid), c.oid::bigint, c.relname,
        coalesce(s.relispopulated, false) FROM pg_class c
    LEFT JOIN pg_class s ON s.relname = c.relname AND s.relnamespace = {initial}::regnamespace
    WHERE c.relkind = 'm' AND c.relnamespace = {schema}::regnamespace
    ORDER BY 1, c.oid
"""
_SEQUENCES: Final = """
    SELECT c.relname, c.relpersistence FROM pg_class c JOIN pg_class s ON s.relname = c.relname
    WHERE c.relkind = 'S' AND c.relnamespace = {schema}::regnamespace
        AND s.relkind = 'S' AND s.relnamespace = {initial}::regnamespace ORDER BY c.relname
"""
_BYPASSES: Final = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
_FIRING: Final = {False: "{O,A}", True: "{R,A}"}


def read(connection: Connection, schemas: Mapping[str, str], *, is_replica: bool) -> list[Item]:
    """Return all items of some schemas in the order in which they can be restored.

    Args:
        connection: a connection of our own.
        schemas: the schemas to be reset, each with the schema that has its initial rows.
        is_replica: whether the session that resets is in the role ``replica``, which other
            triggers and rules than usual answer to.
    """
    parts = [
        _Contents(connection, schema, initial, is_replica=is_replica)
        for schema, initial in schemas.items()
    ]
    views = [found for part in parts for found in part.views()]
    return [
        *(table for part in parts for table in part.tables()),
        *(sequence for part in parts for sequence in part.sequences()),
        *(view for _, view in sorted(views, key=itemgetter(0))),
    ]


class _Contents:
    """Reads what one schema holds.

    Args:
        connection: a connection of our own, with the schema on its path.
        schema: the schema to be reset.
        initial: schema with the initial rows.
        is_replica: whether the session that resets is in the role ``replica``, which other
            triggers and rules than usual answer to.
    """

    def __init__(
        self, connection: Connection, schema: str, initial: str, *, is_replica: bool
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._initial = initial
        self._is_replica = is_replica

    def tables(self) -> Iterator[ResetTable]:
        """Yield the tables."""
        noise, unproven = self._noise(), self._unproven()
        bypasses = value(self._connection, _BYPASSES)
        rows = self._rows(_TABLES)
        initial = {
            oid: _rows_of(sql.Identifier(self._initial, label), is_plain=is_plain)
            for oid, label, is_plain, *_ in rows
        }
        counted = {oid: initial[oid] for oid, _, _, has_initial, *_ in rows if has_initial}
        counts = self._counts(counted)
        for oid, label, is_plain, _, forces, columns, copied, referring in rows:
            name = self._named(label)
            yield ResetTable(
                oid=oid,
                name=name,
                rows=_rows_of(name, is_plain=is_plain),
                initial=initial[oid],
                initial_count=counts.get(oid, 0),
                hides_rows=forces and not bypasses,
                columns=sql.SQL("({})" if columns else "").format(_listed(columns)),
                copied=_listed(copied),
                noise=noise[oid],
                unproven=unproven[oid],
                referring=referring,
            )

    def _noise(self) -> defaultdict[int, list[SuppressedTrigger]]:
        found: defaultdict[int, list[SuppressedTrigger]] = defaultdict(list)
        for oid, table, kind, enabled, name in self._rows(_NOISE):
            found[oid].append(SuppressedTrigger(self._named(table), kind, enabled, name))
        return found

    def _unproven(self) -> defaultdict[int, list[NotValidConstraint]]:
        found: defaultdict[int, list[NotValidConstraint]] = defaultdict(list)
        for oid, table, name, definition in self._rows(_UNPROVEN):
            found[oid].append(NotValidConstraint(self._named(table), name, definition))
        return found

    def sequences(self) -> Iterator[SequenceValue]:
        """Yield the sequences."""
        persistences = dict(self._rows(_SEQUENCES))
        query = sql.SQL("SELECT {}, last_value, is_called FROM {}")
        values = self._together(
            query.format(label, sql.Identifier(self._initial, label)) for label in persistences
        )
        for label, last_value, is_called in values:
            is_logged = persistences[label] == "p"
            yield SequenceValue(self._named(label), last_value, is_called, is_logged)

    def views(self) -> Iterator[tuple[int, View]]:
        """Yield the materialised views, each with a number above those of the views it reads."""
        rows = self._rows(_VIEWS)
        counts = self._counts(
            {
                oid: sql.Identifier(self._initial, label)
                for _, oid, label, is_populated in rows
                if is_populated
            }
        )
        for depth, oid, label, _ in rows:
            yield depth, View(oid, self._named(label), counts.get(oid))

    def _counts(self, rows: Mapping[int, sql.Composable]) -> dict[int, int]:
        """Return the number of rows of each table, in one round trip."""
        query = sql.SQL("SELECT {}::bigint, count(*) FROM {}")
        return dict(self._together(query.format(oid, one) for oid, one in rows.items()))

    def _together(self, queries: Iterable[sql.Composed]) -> list[tuple[Any, ...]]:
        """Return the rows of several queries in order, in one round trip."""
        parts = list(queries)
        if not parts:
            return []
        found: list[tuple[Any, ...]]
        found = self._connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()
        return found

    def _named(self, label: str) -> sql.Identifier:
        return sql.Identifier(self._schema, label)

    def _rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        names = {
            "schema": sql.Identifier(self._schema).as_string(),
            "initial": sql.Identifier(self._initial).as_string(),
            "firing": _FIRING[self._is_replica],
        }
        found: list[tuple[Any, ...]]
        found = self._connection.execute(sql.SQL(query).format(**names)).fetchall()
        return found


def _rows_of(table: sql.Identifier, *, is_plain: bool) -> sql.Composed:
    return sql.SQL("ONLY {}" if is_plain else "{}").format(table)


def _listed(columns: Sequence[LiteralString]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.SQL, columns))

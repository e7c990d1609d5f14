"""What a schema holds that tests can change: tables, sequences and materialised views."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, LiteralString

from psycopg import sql

from itkit.postgres.items import Item, Noise, SequenceValue, Table, Unproven, View
from itkit.postgres.server import Connection, value

# Partitions are emptied and filled through their parents, which have no rows of their own. A clone
# has types of its own, so that a value of one comes from the template by way of text. What the role
# may not write at all, such as a table of an extension, no test of its has written.
_TABLES: Final = """
    SELECT c.oid::bigint, c.relname, c.relkind = 'r', s.oid IS NOT NULL,
        c.relrowsecurity AND c.relforcerowsecurity,
        coalesce(columns.names, '{{}}'), coalesce(columns.copied, '{{}}'),
        ARRAY(SELECT f.conrelid::bigint FROM pg_constraint f
              WHERE f.contype = 'f' AND f.confrelid = c.oid AND f.conrelid <> c.oid)
    FROM pg_class c
    LEFT JOIN pg_class s ON s.relname = c.relname AND s.relnamespace = {seeds}::regnamespace
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
# A partition may have triggers of its own.
_NOISE: Final = """
    SELECT c.oid::bigint, r.relname, noise.* FROM pg_class c
    CROSS JOIN LATERAL (SELECT c.oid AS relid UNION SELECT relid FROM pg_partition_tree(c.oid)) t
    JOIN pg_class r ON r.oid = t.relid
    CROSS JOIN LATERAL (
        SELECT 'TRIGGER', tgenabled, tgname FROM pg_trigger
        WHERE tgrelid = r.oid AND NOT tgisinternal
        UNION ALL SELECT 'RULE', ev_enabled, rulename FROM pg_rewrite WHERE ev_class = r.oid
    ) AS noise (kind, enabled, name)
    WHERE c.relnamespace = {schema}::regnamespace AND r.relnamespace = c.relnamespace
        AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND noise.enabled = ANY({firing}::"char"[])
"""
_UNPROVEN: Final = """
    SELECT f.conrelid::bigint, c.relname, f.conname, pg_get_constraintdef(f.oid)
    FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid
    WHERE c.relnamespace = {schema}::regnamespace AND NOT c.relispartition
        AND NOT f.convalidated AND f.coninhcount = 0 AND f.conparentid = 0
"""
# A view that is made of others reaches all that these reach, and them: it comes after them.
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
    LEFT JOIN pg_class s ON s.relname = c.relname AND s.relnamespace = {seeds}::regnamespace
    WHERE c.relkind = 'm' AND c.relnamespace = {schema}::regnamespace
    ORDER BY 1, c.oid
"""
_SEQUENCES: Final = """
    SELECT c.relname, c.relpersistence FROM pg_class c JOIN pg_class s ON s.relname = c.relname
    WHERE c.relkind = 'S' AND c.relnamespace = {schema}::regnamespace
        AND s.relkind = 'S' AND s.relnamespace = {seeds}::regnamespace ORDER BY c.relname
"""
_BYPASSES: Final = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
_FIRING: Final = {False: "{O,A}", True: "{R,A}"}


def read(connection: Connection, schemas: Mapping[str, str], *, is_replica: bool) -> list[Item]:
    """Return all items of some schemas in the order in which they can be restored.

    Args:
        connection: of our own.
        schemas: to be reset, each with the schema that has what comes back.
        is_replica: whether the session that resets is in the role ``replica``, which other
            triggers and rules than usual answer to.
    """
    parts = [
        _Contents(connection, schema, seeds, is_replica=is_replica)
        for schema, seeds in schemas.items()
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
        connection: of our own, with the schema on its path.
        schema: to be reset.
        seeds: schema with what comes back.
        is_replica: whether the session that resets is in the role ``replica``, which other
            triggers and rules than usual answer to.
    """

    def __init__(
        self, connection: Connection, schema: str, seeds: str, *, is_replica: bool
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._seeds = seeds
        self._is_replica = is_replica

    def tables(self) -> Iterator[Table]:
        """Yield the tables."""
        noise, unproven = self._noise(), self._unproven()
        bypasses = value(self._connection, _BYPASSES)
        for row in self._rows(_TABLES):
            oid, label, is_plain, has_seeds, forces, columns, copied, referring = row
            only = sql.SQL("ONLY {}" if is_plain else "{}")
            name, seeds = self._named(label), only.format(sql.Identifier(self._seeds, label))
            yield Table(
                oid=oid,
                name=name,
                rows=only.format(name),
                seeds=seeds,
                seed_count=self._count(seeds) if has_seeds else 0,
                hides_rows=forces and not bypasses,
                columns=sql.SQL("({})" if columns else "").format(_listed(columns)),
                copied=_listed(copied),
                noise=noise[oid],
                unproven=unproven[oid],
                referring=referring,
            )

    def _noise(self) -> defaultdict[int, list[Noise]]:
        found: defaultdict[int, list[Noise]] = defaultdict(list)
        for oid, table, kind, enabled, name in self._rows(_NOISE):
            found[oid].append(Noise(self._named(table), kind, enabled, name))
        return found

    def _unproven(self) -> defaultdict[int, list[Unproven]]:
        found: defaultdict[int, list[Unproven]] = defaultdict(list)
        for oid, table, name, definition in self._rows(_UNPROVEN):
            found[oid].append(Unproven(self._named(table), name, definition))
        return found

    def sequences(self) -> Iterator[SequenceValue]:
        """Yield the sequences."""
        for label, persistence in self._rows(_SEQUENCES):
            query = sql.SQL("SELECT last_value, is_called FROM {}")
            seeds = sql.Identifier(self._seeds, label)
            [(last_value, is_called)] = self._connection.execute(query.format(seeds)).fetchall()
            yield SequenceValue(self._named(label), last_value, is_called, persistence == "p")

    def views(self) -> Iterator[tuple[int, View]]:
        """Yield the materialised views, each with a number that those it reads have less of."""
        for depth, oid, label, is_populated in self._rows(_VIEWS):
            seeds = sql.Identifier(self._seeds, label)
            count = self._count(seeds) if is_populated else None
            yield depth, View(oid, self._named(label), count)

    def _count(self, rows: sql.Composable) -> int:
        return int(value(self._connection, sql.SQL("SELECT count(*) FROM {}").format(rows)))

    def _named(self, label: str) -> sql.Identifier:
        return sql.Identifier(self._schema, label)

    def _rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        names = {
            "schema": sql.Identifier(self._schema).as_string(),
            "seeds": sql.Identifier(self._seeds).as_string(),
            "firing": _FIRING[self._is_replica],
        }
        return self._connection.execute(sql.SQL(query).format(**names)).fetchall()


def _listed(columns: Sequence[LiteralString]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.SQL, columns))

"""Reads tables and makes their statements, the largest part of a clone's script.

Names are printed relative to the search_path, as all is read inside of ``catalogue.printed``.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from itkit.postgres.server.driver import Connection

# Reads one row per column of a table, view or materialised view.
_COLUMNS = """
    SELECT a.attrelid, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attcollation NOT IN (0, t.typcollation)
            THEN a.attcollation::regcollation::text END,
        d.oid, pg_get_expr(d.adbin, d.adrelid), a.attgenerated, a.attidentity,
        a.attnotnull AND current_setting('server_version_num')::int < 180000,
        a.attislocal OR c.relispartition,
        CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END,
        nullif(a.attcompression, ''), nullif(a.attstattarget, -1),
        (SELECT s.objid FROM pg_depend s WHERE s.classid = 'pg_class'::regclass
            AND s.refclassid = 'pg_class'::regclass AND s.refobjid = a.attrelid
            AND s.refobjsubid = a.attnum AND s.deptype = 'i' AND a.attidentity <> ''),
        t.typnamespace = current_schema()::regnamespace
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
        AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
"""
_CONSTRAINTS = """
    SELECT c.oid, c.conrelid, quote_ident(c.conname), c.contype, pg_get_constraintdef(c.oid),
        c.convalidated, c.conislocal, c.coninhcount > 0, p.conname = c.conname
    FROM pg_constraint c LEFT JOIN pg_constraint p ON p.oid = c.conparentid
    WHERE c.connamespace = current_schema()::regnamespace AND c.conrelid <> 0
        AND c.contype <> 't' AND p.conrelid IS DISTINCT FROM c.conrelid
    ORDER BY c.conrelid, c.contype <> 'p', c.oid
"""
_TABLES = """
    SELECT c.oid, quote_ident(c.relname), c.relpersistence, m.amname,
        pg_get_partkeydef(c.oid), k.partstrat, c.relispartition,
        pg_get_expr(c.relpartbound, c.oid),
        ARRAY(SELECT inhparent FROM pg_inherits WHERE inhrelid = c.oid ORDER BY inhseqno),
        c.relrowsecurity AND c.relforcerowsecurity
    FROM pg_class c LEFT JOIN pg_am m ON m.oid = c.relam
        LEFT JOIN pg_partitioned_table k ON k.partrelid = c.oid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
    ORDER BY c.oid
"""
_STORAGE = {"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}
_COMPRESSION = {"p": "pglz", "l": "lz4"}


@dataclass(frozen=True)
class Column:
    """A column; its names and expressions are quoted already."""

    table: int
    name: str
    type: str
    collation: str | None
    default_id: int | None
    default: str | None
    generated: str
    identity: str
    is_not_null: bool
    is_declared: bool
    storage: str | None
    compression: str | None
    statistics: int | None
    sequence: int | None
    has_own_type: bool

    @property
    def copied(self) -> str:
        """The expression to select from the template; through text if its type is another one."""
        return f"{self.name}::text::{self.type}" if self.has_own_type else self.name


@dataclass(frozen=True)
class Constraint:
    """A constraint of a table."""

    id: int
    table: int
    name: str
    kind: str
    definition: str
    is_valid: bool
    is_local: bool
    is_inherited: bool
    has_parents_name: bool | None


@dataclass(frozen=True)
class TableDefinition:
    """A table with its parents, and whether policies hide rows from its owner."""

    id: int
    name: str
    persistence: str
    access_method: str | None
    partition_key: str | None
    strategy: str | None
    is_partition: bool
    bound: str | None
    parents: list[int]
    hides_rows: bool
    columns: list[Column] = field(default_factory=list)
    constraints: list[Constraint] = field(default_factory=list)


class Tables:
    """The tables of the first schema of the search_path.

    Args:
        connection: a connection inside of ``catalogue.printed``.
        late: ids of defaults and of constraints that use the schema's functions. A function may use
            the table in turn, so these follow when all tables and functions exist.
        sequences: the options of each sequence, by its id.
        options: the end of each table's definition, by the table's id.
    """

    def __init__(
        self,
        connection: Connection,
        late: set[tuple[str, int]],
        sequences: dict[int, str],
        options: dict[int, str],
    ) -> None:
        self._late = late
        self._options = options
        self._sequences = sequences
        rows = connection.execute(_TABLES).fetchall()
        self.by_id = {row[0]: TableDefinition(*row) for row in rows}
        self.views: defaultdict[int, list[Column]] = defaultdict(list)
        for row in connection.execute(_COLUMNS).fetchall():
            column = Column(*row)
            table = self.by_id.get(column.table)
            (table.columns if table else self.views[column.table]).append(column)
        for row in connection.execute(_CONSTRAINTS).fetchall():
            constraint = Constraint(*row)
            if constraint.table in self.by_id:
                self.by_id[constraint.table].constraints.append(constraint)

    def create(self, table: TableDefinition) -> Iterator[str]:
        """Yield the statements that make a table, with all that can exist before its rows."""
        body = [self._declare(column) for column in table.columns if column.is_declared]
        body += [
            f"CONSTRAINT {constraint.name} {constraint.definition}"
            for constraint in table.constraints
            if self._is_early(table, constraint)
        ]
        unlogged = "UNLOGGED " if table.persistence == "u" else ""
        yield f"CREATE {unlogged}TABLE {table.name} ({', '.join(body)}){self._suffix(table)}"
        if table.is_partition:
            parent = self.by_id[table.parents[0]].name
            yield f"ALTER TABLE ONLY {parent} ATTACH PARTITION {table.name} {table.bound}"
        yield from alter(f"ONLY {table.name}", self._alterations(table))

    def late_default(self, column: Column) -> str:
        """Return the statement that gives a column a default which uses a function."""
        table = self.by_id[column.table].name
        return f"ALTER TABLE ONLY {table} ALTER {column.name} SET DEFAULT {column.default}"

    def is_late(self, column: Column) -> bool:
        """Return whether the default of a column has to wait for the functions."""
        return not column.generated and ("pg_attrdef", column.default_id or 0) in self._late

    def late_constraints(self, kinds: str) -> Iterator[str]:
        """Yield the statements that add constraints of some kinds, which need all rows to exist."""
        # A partition keeps its own name for a foreign key if it has it before the parent's is
        # added.
        for table in sorted(self.by_id.values(), key=self._depth, reverse=True):
            late = [
                f"ADD CONSTRAINT {constraint.name} {constraint.definition}"
                for constraint in table.constraints
                if constraint.kind in kinds and self._is_added(table, constraint)
            ]
            yield from alter(table.name, late)

    def target_of_rows(self, table: TableDefinition) -> TableDefinition:
        """Return the table into which the rows of a table are inserted.

        It is the table itself, or the highest ancestor that is partitioned by hash: the partition
        of a row may depend on the ids of an enumeration's labels.
        """
        target = ancestor = table
        while ancestor.is_partition:
            ancestor = self.by_id[ancestor.parents[0]]
            if ancestor.strategy == "h":
                target = ancestor
        return target

    def _is_early(self, table: TableDefinition, constraint: Constraint) -> bool:
        is_mine = constraint.is_local or table.is_partition or constraint.kind in "pux"
        is_late = ("pg_constraint", constraint.id) in self._late or not constraint.is_valid
        return is_mine and not is_late and constraint.kind != "f"

    def _is_added(self, table: TableDefinition, constraint: Constraint) -> bool:
        if constraint.kind == "f":
            return not constraint.has_parents_name
        is_inherited = constraint.is_inherited and not constraint.is_local
        return not self._is_early(table, constraint) and not is_inherited

    def _depth(self, table: TableDefinition) -> int:
        return 1 + self._depth(self.by_id[table.parents[0]]) if table.is_partition else 0

    def _declare(self, column: Column) -> str:
        parts = [column.name, column.type]
        if column.compression:
            parts.append(f"COMPRESSION {_COMPRESSION[column.compression]}")
        if column.collation:
            parts.append(f"COLLATE {column.collation}")
        if column.generated:
            kind = "STORED" if column.generated == "s" else "VIRTUAL"
            parts.append(f"GENERATED ALWAYS AS ({column.default}) {kind}")
        elif column.default is not None and not self.is_late(column):
            parts.append(f"DEFAULT {column.default}")
        if column.sequence is not None:
            kind = "ALWAYS" if column.identity == "a" else "BY DEFAULT"
            parts.append(f"GENERATED {kind} AS IDENTITY ({self._sequences[column.sequence]})")
        if column.is_not_null:
            parts.append("NOT NULL")
        return " ".join(parts)

    def _suffix(self, table: TableDefinition) -> str:
        suffix = ""
        if table.parents and not table.is_partition:
            suffix += (
                f" INHERITS ({', '.join(self.by_id[parent].name for parent in table.parents)})"
            )
        if table.partition_key:
            suffix += f" PARTITION BY {table.partition_key}"
        if table.access_method not in {None, "heap"}:
            suffix += f" USING {table.access_method}"
        return suffix + self._options.get(table.id, "")

    def _alterations(self, table: TableDefinition) -> Iterator[str]:
        for column in table.columns:
            if not column.is_declared:
                yield from self._override(column)
            yield from settings(column)

    def _override(self, column: Column) -> Iterator[str]:
        """Yield the actions for the properties in which a column differs from the inherited one."""
        if column.default is None:
            yield f"ALTER {column.name} DROP DEFAULT"
        elif not column.generated and not self.is_late(column):
            yield f"ALTER {column.name} SET DEFAULT {column.default}"
        if column.is_not_null:
            yield f"ALTER {column.name} SET NOT NULL"


def settings(column: Column) -> Iterator[str]:
    """Yield the actions that set the storage and the statistics of a column."""
    if column.storage:
        yield f"ALTER {column.name} SET STORAGE {_STORAGE[column.storage]}"
    if column.statistics is not None:
        yield f"ALTER {column.name} SET STATISTICS {column.statistics}"


def alter(table: str, actions: Iterable[str]) -> Iterator[str]:
    """Yield one statement for all actions, if any, as each statement invalidates caches."""
    if joined := ", ".join(actions):
        yield f"ALTER TABLE {table} {joined}"

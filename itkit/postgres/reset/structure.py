"""Compares the structure of schemas, which a reset of rows does not restore, and drops additions.

A fingerprint, which takes some milliseconds, has parts that each detect one kind of change. Objects
that were only added are dropped again. After any other change the place has to be made anew.
"""

from collections.abc import Sequence, Set
from typing import Final, LiteralString

from itkit.postgres.server import driver, sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

_PARTS: Final = {
    # All objects in a schema depend on it. This is cheaper to read than each catalogue.
    "something was created, dropped or renamed": """
        SELECT sum(objid::bigint) FROM pg_depend
        WHERE refclassid = 'pg_namespace'::regclass
            AND refobjid IN (SELECT oid FROM pg_namespace WHERE {schemas})
    """,
    "a schema was created or dropped": """
        SELECT sum(oid::bigint) FROM pg_namespace WHERE {schemas}
    """,
    # Indexes, constraints, triggers, rules, policies, defaults and statistics. Internal
    # dependencies are left out, as a refresh of a view gives it another TOAST table. A default that
    # uses a sequence belongs to its table, so sequences need not be looked up, nor their columns.
    "something that belongs to a table was created or dropped": """
        SELECT sum(objid::bigint) FROM pg_depend
        WHERE refclassid = 'pg_class'::regclass AND refobjid = ANY({tables}::oid[])
            AND NOT (classid = 'pg_class'::regclass AND deptype = 'i')
    """,
    # A level's copy of a table with such a column depends on the type too, but is no constraint.
    "a constraint of a type was created or dropped": """
        SELECT sum(objid::bigint) FROM pg_depend
        WHERE refclassid = 'pg_type'::regclass AND refobjid = ANY({types}::oid[])
            AND classid = 'pg_constraint'::regclass
    """,
    "a column was added, altered or dropped": """
        SELECT sum(hashint8(xmin::text::bigint)) FROM pg_attribute
        WHERE attrelid = ANY({tables}::oid[]) AND attnum > 0
    """,
    "a table was renamed, or its rights or policies were altered": """
        SELECT sum(hashtext(concat_ws(' ', relname, relowner, relacl, reloptions, relpersistence,
            relrowsecurity, relforcerowsecurity, relispartition)))
        FROM pg_class WHERE oid = ANY({relations}::oid[])
    """,
    "a trigger was altered": """
        SELECT sum(hashtext(concat_ws(' ', oid, tgenabled, tgdeferrable, tginitdeferred)))
        FROM pg_trigger WHERE tgrelid = ANY({tables}::oid[])
    """,
    # Not xmin, which a restart of a sequence changes as well.
    "a sequence was altered": """
        SELECT sum(hashtext(concat_ws(' ', seqrelid, seqtypid, seqstart, seqincrement, seqmax,
            seqmin, seqcache, seqcycle)))
        FROM pg_sequence WHERE seqrelid = ANY({sequences}::oid[])
    """,
    "a function was replaced": """
        SELECT sum(hashint8(xmin::text::bigint)) FROM pg_proc WHERE oid = ANY({routines}::oid[])
    """,
    "a view was replaced": """
        SELECT sum(hashint8(xmin::text::bigint)) FROM pg_rewrite
        WHERE ev_class = ANY({views}::oid[])
    """,
    "a policy was altered": """
        SELECT sum(hashint8(xmin::text::bigint)) FROM pg_policy
        WHERE polrelid = ANY({secured}::oid[])
    """,
    "the values of an enumeration were altered": """
        SELECT sum(hashtext(enumlabel)) FROM pg_enum WHERE enumtypid = ANY({types}::oid[])
    """,
}
"""The queries of the fingerprint's parts, by the change that each of them detects."""

_KNOWN: Final = """
    WITH members AS (SELECT oid FROM pg_namespace WHERE {schemas})
    SELECT array_agg(oid) FILTER (WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c', 'S')),
        array_agg(oid) FILTER (WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c')),
        array_agg(oid) FILTER (WHERE relkind = 'S'),
        array_agg(oid) FILTER (WHERE relkind IN ('v', 'm') OR relhasrules),
        array_agg(oid) FILTER (WHERE EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid)),
        ARRAY(SELECT oid FROM pg_proc WHERE pronamespace IN (TABLE members)),
        ARRAY(SELECT oid FROM pg_type WHERE typnamespace IN (TABLE members)
              AND typtype IN ('d', 'e'))
    FROM pg_class WHERE relnamespace IN (TABLE members)
"""
_NAMES: Final = "SELECT nspname FROM pg_namespace WHERE {schemas} ORDER BY nspname"
_OBJECTS: Final = """
    SELECT classid::bigint, objid::bigint FROM pg_depend
    WHERE refclassid = 'pg_namespace'::regclass
        AND refobjid IN (SELECT oid FROM pg_namespace WHERE {schemas})
"""
_ADDED: Final = """
    SELECT i.type, i.identity FROM unnest({classes}::oid[], {objects}::oid[]) o (classid, objid)
    CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) i
    WHERE i.identity IS NOT NULL ORDER BY i.type <> 'table', i.identity
"""
_KINDS: Final[dict[str, LiteralString]] = {
    "table": "TABLE",
    "partitioned table": "TABLE",
    "foreign table": "FOREIGN TABLE",
    "view": "VIEW",
    "materialized view": "MATERIALIZED VIEW",
    "sequence": "SEQUENCE",
    "type": "TYPE",
    "composite type": "TYPE",
    "function": "FUNCTION",
    "procedure": "PROCEDURE",
    "aggregate": "AGGREGATE",
}
"""The words that drop an object, by its kind in the server's words."""


class Structure:
    """The structure of some schemas, as ``of()`` has read it.

    Args:
        schemas: the condition in ``pg_namespace`` for these schemas.
        fingerprint: the expression for the fingerprint.
        names: the names of the schemas.
        objects: the objects in the schemas, each as the oid of its catalogue and its own oid.
        now: the fingerprint that the schemas should have.
    """

    def __init__(
        self,
        schemas: sql.Composed,
        fingerprint: sql.Composed,
        names: Sequence[str],
        objects: Set[tuple[int, int]],
        now: str,
    ) -> None:
        self.schemas = schemas
        self.fingerprint = fingerprint
        self.names = names
        self._objects = objects
        self._oids = {oid for _, oid in objects}
        self.now = now

    @classmethod
    def of(cls, connection: Connection, schemas: sql.Composed) -> "Structure":
        """Read the structure of some schemas.

        Args:
            connection: a connection of our own.
            schemas: the condition in ``pg_namespace`` for these schemas.
        """
        [known] = connection.execute(sql.SQL(_KNOWN).format(schemas=schemas)).fetchall()
        names = ("relations", "tables", "sequences", "views", "secured", "routines", "types")
        oids = {name: list(found or ()) for name, found in zip(names, known, strict=True)}
        parts = [
            sql.SQL("coalesce(({}), 0)").format(sql.SQL(query).format(schemas=schemas, **oids))
            for query in _PARTS.values()
        ]
        fingerprint = sql.SQL("concat_ws(' ', {})").format(sql.SQL(", ").join(parts))
        now = str(value(connection, sql.SQL("SELECT {}").format(fingerprint)))
        found = connection.execute(sql.SQL(_NAMES).format(schemas=schemas)).fetchall()
        schema_names = [name for (name,) in found]
        return cls(schemas, fingerprint, schema_names, _objects(connection, schemas), now)

    def has_relation(self, oid: int) -> bool:
        """Return whether a table or view, given by its oid, belongs to the accepted structure."""
        return oid in self._oids

    def accept(self, connection: Connection) -> None:
        """Accept the present structure of the schemas as the one to be restored."""
        self.now = self._read(connection)

    def changes(self, connection: Connection) -> list[str]:
        """Return the changes in words; an empty text if there are none."""
        parts = zip(_PARTS, self.now.split(), self._read(connection).split(), strict=True)
        return [words for words, before, after in parts if before != after]

    def drop_added(self, connection: Connection) -> list[str]:
        """Drop the objects that were added to the schemas, and return their names.

        Objects that cannot be dropped stay, and ``changes()`` reports them. All of them stay if
        other objects are missing, as they may replace those: migrations may have run backwards and
        forwards.
        """
        objects = _objects(connection, self.schemas)
        added = sorted(objects - self._objects)
        if not added or self._objects - objects:
            return []
        query = sql.SQL(_ADDED).format(
            classes=[kind for kind, _ in added], objects=[oid for _, oid in added]
        )
        found = connection.execute(query).fetchall()
        statements = [
            f"DROP {_KINDS[kind]} IF EXISTS {identity} CASCADE"
            for kind, identity in found
            if kind in _KINDS
        ]
        try:
            connection.execute("; ".join(statements))
        except driver.Error:
            return []
        return [f"{kind} {identity}" for kind, identity in found]

    def _read(self, connection: Connection) -> str:
        return str(value(connection, sql.SQL("SELECT {}").format(self.fingerprint)))


def _objects(connection: Connection, schemas: sql.Composed) -> set[tuple[int, int]]:
    return set(connection.execute(sql.SQL(_OBJECTS).format(schemas=schemas)).fetchall())

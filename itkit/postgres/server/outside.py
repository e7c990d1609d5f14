"""Finds out whether a run has changed anything outside of itkit's schemas in a database.

The catalog is compared by its stamp first, which takes one cheap query. Only if the stamp differs,
the objects are read to find the difference. Rows are compared by the server's counters for each
table, at a cost that does not depend on the number of rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, LiteralString

from itkit.core import names
from itkit.core.text import listed
from itkit.postgres.server import catalog_version, sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

SHOWN: Final = 20
"""The number of lines about changes that a message shows."""
HANDED_ON_AT_ONCE: Final = 150000
"""The first version with counters in shared memory, to which a session can be made to write."""

REMEDY: Final = (
    'Set ITKIT = {"POSTGRES": {"ISOLATION": "database"}}, or ITKIT_POSTGRES_ISOLATION=database in'
    " the environment: each worker then has a database of its own, with all of its schemas."
)
"""Advice for a project that writes into other schemas than those of its tests."""

_FOREIGN: Final = (
    "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname !~ {ours}"
)
# The columns are read too, as altering one does not always write the table's row again. No name may
# depend on the search_path, which a migration may have changed.
_OBJECTS: Final = """
    SELECT 'the schema ' || quote_ident(nspname), xmin::text
    FROM pg_namespace n WHERE {foreign}
    UNION ALL SELECT CASE relkind WHEN 'v' THEN 'the view ' WHEN 'm' THEN 'the materialized view '
            WHEN 'S' THEN 'the sequence ' WHEN 'i' THEN 'the index ' WHEN 'I' THEN 'the index '
            WHEN 'c' THEN 'the type ' ELSE 'the table ' END
            || quote_ident(nspname) || '.' || quote_ident(relname),
        concat_ws(' ', c.xmin, c.relfilenode,
            (SELECT sum(hashint8(a.xmin::text::bigint)) FROM pg_attribute a WHERE attrelid = c.oid))
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE {foreign}
    UNION ALL SELECT 'the function ' || quote_ident(nspname) || '.' || quote_ident(proname),
        string_agg(p.xmin::text, ' ' ORDER BY p.oid)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE {foreign}
    GROUP BY nspname, proname
    UNION ALL SELECT 'the type ' || quote_ident(nspname) || '.' || quote_ident(typname),
        t.xmin::text
    FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
    WHERE typrelid = 0 AND typelem = 0 AND {foreign}
    UNION ALL SELECT 'the extension ' || quote_ident(extname), e.xmin::text
    FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE {foreign}
    UNION ALL SELECT name, xmin FROM ({of_database}) AS o (name, xmin)
"""
# Objects of the whole database, which belong to no schema. Those of extensions come with these.
_OF_DATABASE: Final = """
    SELECT 'the foreign server ' || quote_ident(srvname), xmin::text FROM pg_foreign_server o
    WHERE {has_no_extension}
    UNION ALL SELECT 'the foreign-data wrapper ' || quote_ident(fdwname), xmin::text
    FROM pg_foreign_data_wrapper o WHERE {has_no_extension}
    UNION ALL SELECT 'the language ' || quote_ident(lanname), xmin::text
    FROM pg_language o WHERE {has_no_extension}
    UNION ALL SELECT 'the publication ' || quote_ident(pubname), xmin::text FROM pg_publication
    UNION ALL SELECT 'the event trigger ' || quote_ident(evtname), xmin::text
    FROM pg_event_trigger
    UNION ALL SELECT 'a setting of the database', xmin::text FROM pg_db_role_setting
    WHERE setrole = 0 AND setdatabase =
        (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_HAS_NO_EXTENSION: Final = """
    NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = o.tableoid AND d.objid = o.oid AND d.deptype = 'e')
"""
_SCHEMAS: Final = "SELECT oid FROM pg_namespace n WHERE {foreign}"
_OWN_ROWS: Final = """
    SELECT (SELECT coalesce(sum(hashint8(xmin::text::bigint)), 0)
            FROM pg_namespace n WHERE {foreign})
        || ' ' || (SELECT coalesce(sum(hashint8(e.xmin::text::bigint)), 0)
            FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE {foreign})
        || ' ' || (SELECT coalesce(sum(hashint8(xmin::bigint)), 0)
            FROM ({of_database}) AS o (name, xmin))
"""
# Large objects belong to no schema; temporary tables do not concern others.
_COUNTED: Final = """
    SELECT quote_ident(schemaname) || '.' || quote_ident(relname), n_tup_ins, n_tup_upd, n_tup_del
    FROM {view} JOIN pg_namespace n ON n.nspname = schemaname
    WHERE n_tup_ins + n_tup_upd + n_tup_del > 0
        AND ({foreign} OR relid = 'pg_catalog.pg_largeobject'::regclass)
"""
_CHANGED: Final = (("inserted", 0), ("updated", 1), ("deleted", 2))

Counts = tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """The state outside of itkit's schemas at one moment.

    Attributes:
        stamp: the stamp of the catalogue.
        objects: the objects of the catalog, each with a value that changes when it is altered.
    """

    stamp: str
    objects: Mapping[str, str]


class Sight:
    """Compares the state outside of itkit's schemas with the state at the last look.

    Attributes:
        connection: a connection of our own, to the database.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._picture = picture(connection)
        self._counted = counters(connection)

    def changes(self) -> list[str]:
        """Return the changes since the last look in words; the next look compares with this one."""
        counted = counters(self.connection)
        found = [
            *catalog_changes(self.connection, self._picture),
            *written(self._counted, counted),
        ]
        if found:
            self._picture, self._counted = picture(self.connection), counted
        return found


def picture(connection: Connection) -> Picture:
    """Return the objects of the catalog outside of itkit's schemas."""
    return Picture(catalog_stamp(connection), _objects(connection))


def catalog_stamp(connection: Connection) -> str:
    """Return a stamp of the catalog outside of itkit's schemas."""
    return str(value(connection, catalog_version.query(_query(_SCHEMAS), _query(_OWN_ROWS))))


def catalog_changes(connection: Connection, before: Picture) -> list[str]:
    """Return the objects that were created, altered or dropped since then, in words."""
    if catalog_stamp(connection) == before.stamp:
        return []
    now = _objects(connection)
    return list(_compared(before.objects, now)) or ["something in another schema was altered"]


def flush_counters(connection: Connection) -> None:
    """Let the session of a connection publish its counters, if the server supports this.

    Otherwise a session does so once a second, and when it ends.
    """
    if connection.info.server_version >= HANDED_ON_AT_ONCE:
        connection.execute("SELECT pg_stat_force_next_flush()")


def counters(connection: Connection) -> dict[str, Counts]:
    """Return how many rows were ever inserted, updated and deleted in each table outside."""
    return _counted(connection, "pg_stat_all_tables")


def written_in_transaction(connection: Connection) -> list[str]:
    """Return what the open transaction of a connection has written outside, in words."""
    return written({}, _counted(connection, "pg_stat_xact_all_tables"))


def written(before: Mapping[str, Counts], now: Mapping[str, Counts]) -> list[str]:
    """Return the numbers of rows that were written between two looks at the counters, in words."""
    lines = []
    for table, counts in sorted(now.items()):
        was = before.get(table, (0, 0, 0))
        parts = [f"{counts[n] - was[n]} {word}" for word, n in _CHANGED if counts[n] > was[n]]
        if parts:
            lines.append(f"rows of {table}: {', '.join(parts)}")
    return lines


def explained(who: str, connection: Connection, found: list[str]) -> str:
    """Return the message that somebody has written outside, in a database that is not itkit's own.

    Args:
        who: who has written, as the beginning of a sentence, such as "The test".
        connection: a connection to the database.
        found: the tables that were written to.
    """
    return (
        f"{who} has written outside of the tests' schema, in the database"
        f" {connection.info.dbname!r}, which is not itkit's own:\n{listed(found, most=SHOWN)}\n"
        "Nothing takes that back. Where no other program has used the database meanwhile, look for"
        " SQL that names a schema or sets a search_path, and for connections that the code under"
        " test opens by itself. To keep tests out of this database, set"
        ' ITKIT["POSTGRES"]["IN_PROJECT_DATABASE"] to False and let an administrator run'
        f' ALTER ROLE "{connection.info.user}" CREATEDB; or set ITKIT_SOURCE=embedded.'
    )


def _counted(connection: Connection, view: LiteralString) -> dict[str, Counts]:
    rows = connection.execute(_query(_COUNTED, view=sql.SQL(view))).fetchall()
    return {table: (inserted, updated, deleted) for table, inserted, updated, deleted in rows}


def _objects(connection: Connection) -> dict[str, str]:
    return dict(connection.execute(_query(_OBJECTS)).fetchall())


def _compared(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if name not in before:
            yield f"{name} was created"
        elif name not in now:
            yield f"{name} was dropped"
        elif before[name] != now[name]:
            yield f"{name} was altered"


def _query(text: LiteralString, **parts: sql.Composable) -> sql.Composed:
    ours = sql.Literal(names.OUR_SCHEMAS)
    foreign = sql.SQL(_FOREIGN).format(ours=ours)
    of_database = sql.SQL(_OF_DATABASE).format(has_no_extension=sql.SQL(_HAS_NO_EXTENSION))
    return sql.SQL(text).format(foreign=foreign, of_database=of_database, **parts)

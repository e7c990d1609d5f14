"""Finds what a schema for each worker would not isolate in a migrated database, by its catalogue.

The text of the project shows most of it, with file and line. Objects that were made by a data
migration or a package, or under a computed name, are found in the catalogue only.
"""

from collections.abc import Iterator
from typing import Any

from django.db import connections

from itkit.postgres.migrations.escapes import Escape, escapes
from itkit.postgres.server.server import postgres_aliases

_TABLES = """
    SELECT format('the table %I.%I', nspname, relname)
    FROM pg_class o JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname NOT IN ('public', 'information_schema')
    AND nspname !~ '^(pg_|itkit_)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                    AND d.objid = o.oid AND d.deptype = 'e') ORDER BY 1
"""
_FUNCTIONS = """
    SELECT 'the function ' || o.oid::regprocedure, prosrc,
           EXISTS (SELECT FROM unnest(proconfig) c WHERE starts_with(c, 'search_path='))
    FROM pg_proc o JOIN pg_namespace n ON n.oid = pronamespace
    WHERE nspname <> 'information_schema' AND nspname !~ '^(pg_|itkit_)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                    AND d.objid = o.oid AND d.deptype = 'e') ORDER BY 1
"""
_EXTENSIONS = """
    SELECT 'the extension ' || extname, v.trusted OR NOT v.superuser, NOT extrelocatable,
           nspname NOT IN ('public', 'pg_catalog')
    FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
    JOIN pg_available_extension_versions v ON v.name = extname AND v.version = extversion ORDER BY 1
"""
_OTHERS = """
    SELECT 'CREATE PUBLICATION', 'the publication ' || pubname FROM pg_publication
    UNION ALL SELECT 'CREATE EVENT TRIGGER', 'the event trigger ' || evtname FROM pg_event_trigger
    UNION ALL SELECT 'a large object', 'the large object ' || oid FROM pg_largeobject_metadata
"""
_ALL_SHARE = "all workers share it"


def inspected() -> Iterator[tuple[str, str, Escape]]:
    """Yield such objects in the databases that Django is connected to now.

    Returns:
        For each object: the alias, its kind in the words of the search through the project's text,
        and a text about it.
    """
    for alias in postgres_aliases():
        with connections[alias].cursor() as cursor:
            for kind, found in _in(cursor):
                yield alias, kind, found


def _in(cursor: Any) -> Iterator[tuple[str, Escape]]:
    cursor.execute(_TABLES)
    for (what,) in cursor.fetchall():
        yield what, Escape(what, f"it is beside the schema of a worker, so {_ALL_SHARE}")
    cursor.execute(_FUNCTIONS)
    for what, source, has_path in cursor.fetchall():
        if has_path:
            kind = "a search_path of its own"
            yield kind, Escape(f"{what} has {kind}", "it leads out of the worker's schema")
        for escape in dict.fromkeys(match.escape for match in escapes(source or "")):
            yield escape.what, Escape(f"{what} has {escape.what}", escape.why, escape.is_of_server)
    cursor.execute(_EXTENSIONS)
    for what, is_for_all, stays, is_elsewhere in cursor.fetchall():
        if not is_for_all:
            yield what, Escape(what, "only a superuser may create it", is_of_server=True)
        if stays and is_elsewhere:
            yield (
                f"{what} stays",
                Escape(what, f"it cannot be moved to another schema: {_ALL_SHARE}"),
            )
    cursor.execute(_OTHERS)
    for kind, what in cursor.fetchall():
        yield kind, Escape(what, f"it belongs to the database, so {_ALL_SHARE}")

"""Finds what a schema for each worker would not isolate in a migrated database, by its catalogue.

The text of the project shows most of it, with file and line. Objects that were made by a data
migration or a package, or under a computed name, are found in the catalogue only.
"""

from collections.abc import Iterator
from typing import Any

from django.db import connections

from itkit.postgres.migrations.escapes import Escape, escapes
from itkit.postgres.server.server import postgres_aliases

_BESIDE = """
    SELECT what, kind FROM (
        SELECT CASE relkind WHEN 'S' THEN 'the sequence'
                ELSE 'the table' END AS kind, relname AS name, o.oid, o.tableoid, relnamespace
        FROM pg_class o WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        UNION ALL SELECT 'the type', typname, o.oid, o.tableoid, typnamespace
        FROM pg_type o WHERE typtype IN ('b', 'c', 'd', 'e', 'r') AND typelem = 0
        UNION ALL SELECT 'the function', proname, o.oid, o.tableoid, pronamespace FROM pg_proc o
        UNION ALL SELECT 'the collation', collname, o.oid, o.tableoid, collnamespace
        FROM pg_collation o
        UNION ALL SELECT 'the text search configuration', cfgname, o.oid, o.tableoid, cfgnamespace
        FROM pg_ts_config o
        UNION ALL SELECT 'the schema', '', o.oid, o.tableoid, o.oid FROM pg_namespace o
        WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extnamespace = o.oid)
    ) AS o (kind, name, oid, catalogue, namespace) JOIN pg_namespace n ON n.oid = namespace,
    format(CASE WHEN name = '' THEN '%1$s %2$I' ELSE '%1$s %2$I.%3$I' END, kind, nspname, name)
        AS what
    WHERE nspname NOT IN ('public', 'information_schema') AND nspname !~ '^(pg_|itkit_)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = catalogue AND d.objid = o.oid
                    AND d.deptype IN ('e', 'i', 'a'))
    GROUP BY what, kind ORDER BY kind = 'the schema', what
"""
_FUNCTIONS = """
    SELECT 'the function ' || o.oid::regprocedure,
           concat_ws(' ', prosrc, pg_get_function_sqlbody(o.oid)),
           EXISTS (SELECT FROM unnest(proconfig) c, regexp_split_to_table(substr(c, 13), ',') part
                   WHERE starts_with(c, 'search_path=')
                   AND btrim(part, ' "') NOT IN ('', 'pg_catalog', 'pg_temp'))
    FROM pg_proc o JOIN pg_namespace n ON n.oid = pronamespace
    WHERE nspname <> 'information_schema' AND nspname !~ '^(pg_|itkit_)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                    AND d.objid = o.oid AND d.deptype = 'e') ORDER BY 1
"""
# The texts are pretty, as others name the schema of each object.
_DEFINITIONS = """
    SELECT what, text FROM (
        SELECT CASE rulename WHEN '_RETURN' THEN 'the view ' ELSE 'the rule ' || rulename
                || ' of ' END || ev_class::regclass, pg_get_ruledef(oid, true), ev_class
        FROM pg_rewrite
        UNION ALL SELECT 'the default of ' || adrelid::regclass || '.' || attname,
            pg_get_expr(adbin, adrelid, true), adrelid
        FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
        UNION ALL SELECT 'the constraint ' || conname || ' of ' || conrelid::regclass,
            pg_get_constraintdef(oid, true), conrelid
        FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0
        UNION ALL SELECT 'the policy ' || polname || ' of ' || polrelid::regclass,
            concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)),
            polrelid
        FROM pg_policy
        UNION ALL SELECT 'the trigger ' || tgname || ' of ' || tgrelid::regclass,
            pg_get_triggerdef(oid, true), tgrelid
        FROM pg_trigger WHERE NOT tgisinternal
    ) AS d (what, text, relation) JOIN pg_class c ON c.oid = relation
    JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname <> 'information_schema' AND nspname !~ '^(pg_|itkit_)' ORDER BY 1
"""
_EXTENSIONS = """
    SELECT 'the extension ' || extname, v.trusted OR NOT v.superuser, NOT extrelocatable,
           nspname NOT IN ('public', 'pg_catalog'),
           ARRAY(SELECT relname::text FROM pg_class c JOIN pg_depend d ON d.objid = c.oid
                 AND d.classid = c.tableoid AND d.refobjid = e.oid AND d.deptype = 'e'
                 WHERE relkind IN ('r', 'p') ORDER BY 1)
    FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace
    JOIN pg_available_extension_versions v ON v.name = extname AND v.version = extversion ORDER BY 1
"""
_OTHERS = """
    SELECT 'CREATE PUBLICATION', 'the publication ' || pubname FROM pg_publication
    UNION ALL SELECT 'CREATE EVENT TRIGGER', 'the event trigger ' || evtname FROM pg_event_trigger
    UNION ALL SELECT 'a large object', 'the large object ' || oid FROM pg_largeobject_metadata
    UNION ALL SELECT 'a foreign server', 'the foreign server ' || srvname FROM pg_foreign_server
"""
_FOREIGN_TABLES = """
    SELECT 'the foreign table ' || ftrelid::regclass FROM pg_foreign_table ORDER BY 1
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
    yield from _beside(cursor)
    cursor.execute(_FUNCTIONS)
    for what, source, has_path in cursor.fetchall():
        if has_path:
            kind = "a search_path of its own"
            yield kind, Escape(f"{what} has {kind}", "it leads out of the worker's schema")
        yield from _in_text(what, source)
    cursor.execute(_DEFINITIONS)
    for what, text in cursor.fetchall():
        yield from _in_text(what, text)
    yield from _extensions(cursor)
    cursor.execute(_FOREIGN_TABLES)
    for (what,) in cursor.fetchall():
        yield what, Escape(what, "its rows are on another server", is_of_server=True)
    cursor.execute(_OTHERS)
    for kind, what in cursor.fetchall():
        yield kind, Escape(what, f"it belongs to the database, so {_ALL_SHARE}")


def _beside(cursor: Any) -> Iterator[tuple[str, Escape]]:
    """Yield what is in other schemas, and those of them in which nothing else is."""
    cursor.execute(_BESIDE)
    found: list[str] = []
    for what, kind in cursor.fetchall():
        schema = what.removeprefix(f"{kind} ")
        if kind != "the schema" or not any(f" {schema}." in before for before in found):
            found.append(what)
            yield what, Escape(what, f"it is beside the schema of a worker, so {_ALL_SHARE}")


def _extensions(cursor: Any) -> Iterator[tuple[str, Escape]]:
    cursor.execute(_EXTENSIONS)
    for what, is_for_all, stays, is_elsewhere, tables in cursor.fetchall():
        if not is_for_all:
            yield what, Escape(what, "only a superuser may create it", is_of_server=True)
        if stays and is_elsewhere:
            yield (
                f"{what} stays",
                Escape(what, f"it cannot be moved to another schema: {_ALL_SHARE}"),
            )
        if tables:
            found = f"the tables of {what}"
            why = f"{', '.join(tables)}: all workers read the same rows, and may write none"
            yield found, Escape(found, why, is_hint=True)


def _in_text(what: str, text: str | None) -> Iterator[tuple[str, Escape]]:
    """Yield the escapes in the definition of an object."""
    for escape in dict.fromkeys(match.escape for match in escapes(text or "")):
        yield escape.what, Escape(f"{what} has {escape.what}", escape.why, escape.is_of_server)

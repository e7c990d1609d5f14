"""Extensions, created before any migration asks for them, as they belong to the whole database.

If a migration created an extension, it would be in the first schema of the search_path, which
belongs to one worker. Other workers would not see its types, and all would lose it when that schema
is dropped. So itkit creates extensions first, and the ``CREATE EXTENSION`` of each migration finds
them.

An extension is created in the schema that the migration names or that its control file fixes, else
in ``itkit_ext``. Extensions that the database has from its template stay where they are. The
schemas of extensions outside of ``itkit_ext`` follow it on the search_path.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from operator import itemgetter
from typing import Any, Final, LiteralString, NamedTuple

from django.db import connections
from django.db.migrations.operations import RunSQL

from itkit import conf
from itkit.core import names
from itkit.core.names import EXTENSION_SCHEMA
from itkit.core.text import first_line
from itkit.exceptions import IsolationError, ServiceUnavailableError
from itkit.postgres.migrations import operations
from itkit.postgres.migrations.escapes import bare, texts
from itkit.postgres.server import databases, driver, locks, sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

_COMMENT = "itkit: the extensions of the tests; dropped with the last run"
_NAME = r"(?:\"(?P<quoted{0}>[^\"]+)\"|(?!IF\s)(?P<plain{0}>[\w-]+))"
_CREATE = re.compile(
    rf"\bCREATE\s+EXTENSION\s+(?P<option>IF\s+NOT\s+EXISTS\s+)?{_NAME.format(1)}", re.IGNORECASE
)
_OPTION = re.compile(
    rf"\s+(?:WITH\s+)?(?:CASCADE\b|SCHEMA\s+{_NAME.format(1)}"
    rf"|VERSION\s+(?:'(?P<text>[^']+)'|{_NAME.format(2)}))",
    re.IGNORECASE,
)
_UPDATE = re.compile(rf"\bALTER\s+EXTENSION\s+{_NAME.format(1)}\s+UPDATE\b", re.IGNORECASE)
_TO = re.compile(rf"\s+TO\s+(?:'(?P<text>[^']+)'|{_NAME.format(2)})", re.IGNORECASE)
_DROP = re.compile(
    r"\bDROP\s+EXTENSION\s+(?:IF\s+EXISTS\s+)?"
    r"(?P<names>(?:\"[^\"]+\"|(?!IF\s)[\w-]+)(?:\s*,\s*(?:\"[^\"]+\"|[\w-]+))*)"
    r"(?:\s+(?:CASCADE|RESTRICT)\b)?",
    re.IGNORECASE,
)
_COMMENT_ON = re.compile(rf"\bCOMMENT\s+ON\s+EXTENSION\s+{_NAME.format(1)}\s+IS\b", re.IGNORECASE)
_COMMENT_TEXT = re.compile(
    r"\s+(?:NULL\b|E?'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$)", re.IGNORECASE | re.DOTALL
)
_CREATE_SCHEMA = re.compile(
    rf"\bCREATE\s+SCHEMA\s+(?:IF\s+NOT\s+EXISTS\s+)?{_NAME.format(1)}"
    r"(?:\s+AUTHORIZATION\s+[^\s;]+)?",
    re.IGNORECASE,
)
_MAY_CHANGE = re.compile(r"\b(?:EXTENSION|SCHEMA)\b", re.IGNORECASE)
_BODY = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)
_RUNS_TEXT = re.compile(r"\bEXECUTE\s+(?:format\s*\(\s*)?\Z", re.IGNORECASE)
_RUNS_BODY = re.compile(r"\bDO\s+(?:LANGUAGE\s+\S+\s+)?\Z", re.IGNORECASE)
_PUBLIC = "public"
_HOME_OF: LiteralString = """
    SELECT nspname, extrelocatable, extversion
    FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
    WHERE extname = %s
"""
_FIXED: LiteralString = """
    SELECT v.schema FROM pg_available_extensions a JOIN pg_available_extension_versions v
        ON v.name = a.name AND v.version = coalesce(%s, a.default_version)
    WHERE a.name = %s
"""
_DEFAULT_VERSION: LiteralString = """
    SELECT default_version FROM pg_available_extensions WHERE name = %s
"""
# Whether some extensions are there, and no object in the first schema of the search_path depends on
# one of them. Objects of tables have no schema, but an identity like "checked on shop.order".
_MAY_STAY: LiteralString = """
    SELECT (SELECT count(*) FROM pg_extension WHERE extname = ANY (%(names)s::text[]))
            = cardinality(%(names)s::text[])
        AND NOT EXISTS (
            SELECT FROM pg_extension x JOIN pg_depend m ON m.refclassid = x.tableoid
                AND m.refobjid = x.oid AND m.deptype = 'e'
            JOIN pg_depend d ON d.refclassid = m.classid AND d.refobjid = m.objid
                AND d.deptype <> 'e',
            pg_identify_object(d.classid, d.objid, d.objsubid) found
            WHERE x.extname = ANY (%(names)s::text[]) AND (found.schema = current_schema()
                OR (' ' || found.identity) ~ concat(' (on|for) ', current_schema(), '[.]')))
"""
# Names that need quotes cannot be put into the startup options unchanged.
_BESIDE: LiteralString = """
    SELECT nspname FROM pg_namespace n WHERE nspname ~ '^[a-z_][a-z0-9_]*$'
        AND nspname !~ '^pg_' AND nspname <> 'information_schema' AND nspname !~ {ours}
        AND CASE WHEN nspname = 'public' THEN {is_ours} AND EXISTS (SELECT FROM pg_depend
                WHERE refclassid = 'pg_namespace'::regclass AND refobjid = n.oid)
            ELSE EXISTS (SELECT FROM pg_extension WHERE extnamespace = n.oid) END
    ORDER BY nspname = 'public', nspname
"""


class Asked(NamedTuple):
    """An extension as a project asks for it.

    Attributes:
        name: the name of the extension.
        schema: the schema that a migration names for it, or None.
        version: the version that a migration names, or None.
        is_updated: whether a migration updates it, to that version or else to the newest one.
    """

    name: str
    schema: str | None = None
    version: str | None = None
    is_updated: bool = False


def wanted(configured: Iterable[str], alias: str) -> list[Asked]:
    """Return the extensions that the settings and an alias' migrations create, in order."""
    named = [Asked(name) for name in (*configured, *_from_engine(alias))]
    from_migrations = _from_migrations(alias)
    known = {asked.name for asked in from_migrations}
    return [*(asked for asked in named if asked.name not in known), *from_migrations]


def prepare_for_project(connection: Connection, alias: str) -> None:
    """Create all extensions that the settings and the migrations of an alias ask for.

    Raises:
        ServiceUnavailableError: the server does not have an extension.
        IsolationError: an extension is in another schema, or the role may not create it.
    """
    may_move = _may_move(connection)
    extensions = wanted(conf.get().postgres.extensions, alias)
    prepare(connection, extensions, may_move=may_move)
    for schema in _named_schemas() if may_move else ():
        with locks.setup(connection):
            _create_schema(connection, schema)
            _open_to_workers(connection, schema)


def prepare(connection: Connection, extensions: Iterable[Asked], *, may_move: bool) -> None:
    """Create the schema of extensions, and each extension there or in the requested schema.

    Args:
        connection: a connection to the database of the tests.
        extensions: the extensions.
        may_move: whether the database was created by itkit, so that other schemas may be created
            in it, and an extension may be moved to the one that a migration names, or updated to
            the version that a migration names.

    Raises:
        ServiceUnavailableError: the server does not have an extension.
        IsolationError: an extension is in another schema, or the role may not create it.
    """
    # Two runs may get here at once: IF NOT EXISTS alone loses that race with a unique violation.
    with locks.setup(connection), connection.transaction():
        if _schema_comment(connection) is None:
            schema = sql.Identifier(EXTENSION_SCHEMA)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, _COMMENT))
            # For the workers' roles; the objects in it may be used by all by Postgres' defaults.
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO PUBLIC").format(schema))
        for asked in dict.fromkeys(extensions):
            _ensure(
                connection,
                asked if may_move else asked._replace(schema=None),
                may_move=may_move,
            )
        for name in schemas_beside(connection) if may_move else ():
            _open_to_workers(connection, name)


def provide(connection: Connection, statements: str) -> bool:
    """Create the extensions that statements of a migration are about to create without a schema.

    A migration may create them in Python, which nobody can read before it runs.

    Args:
        connection: a connection to the database of the tests, by the project's own role.
        statements: any SQL.

    Returns:
        Whether such extensions were created.

    Raises:
        IsolationError: the role may not create one.
    """
    found = [
        asked
        for asked in _asked_in(statements)
        if asked.schema is None and connection.execute(_HOME_OF, [asked.name]).fetchone() is None
    ]
    if not found:
        return False
    try:
        prepare(connection, found, may_move=_may_move(connection))
    except ServiceUnavailableError:
        return False  # the statements fail as well, and their migration is named
    return True


def are_named(statements: str) -> bool:
    """Return whether statements may create, change or drop an extension."""
    return "EXTENSION" in statements.upper()


def are_wanted_unless_there(statements: str) -> bool:
    """Return whether statements create extensions, and all of these only if they do not exist."""
    found = [*_CREATE.finditer(statements)]
    return bool(found) and all(match["option"] for match in found)


def _may_move(connection: Connection) -> bool:
    return databases.is_ours(connection, connection.info.dbname)


def are_ours(connection: Connection) -> bool:
    """Return whether itkit has created the schema of extensions in this database."""
    return _schema_comment(connection) == _COMMENT


def drop(connection: Connection) -> None:
    """Drop the schema of extensions, unless another run is alive in this database.

    The caller holds the set-up lock of this database.
    """
    if are_ours(connection) and not locks.other_runs_alive(connection):
        schema = sql.Identifier(EXTENSION_SCHEMA)
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))


def _schema_comment(connection: Connection) -> str | None:
    """Return the comment of the schema of extensions; None when there is no such schema."""
    comment: str | None = value(
        connection,
        "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace"
        " WHERE nspname = %s",
        [EXTENSION_SCHEMA],
    )
    return comment


def schemas_beside(connection: Connection) -> list[str]:
    """Return the schemas beside ``itkit_ext`` that belong on the search_path of the tests.

    These schemas have extensions. In a database of itkit's own ``public`` is one of them if it is
    not empty: its contents come from the database's template, or a migration has requested them.
    """
    is_ours = databases.is_ours(connection, connection.info.dbname)
    query = sql.SQL(_BESIDE).format(ours=names.OUR_SCHEMAS, is_ours=is_ours)
    return [name for (name,) in connection.execute(query).fetchall()]


def rewritten(connection: Connection, statements: str) -> str:
    """Return statements of a migration without what itkit has done already, before the migrations.

    These are the creation and the update of extensions and the creation of their schemas. Comments
    on extensions are left out, as only the owner may write them, and no test reads them; so is the
    drop of an extension that nothing uses.

    Args:
        connection: a connection to the database for which the statements are.
        statements: any SQL.
    """
    if not _MAY_CHANGE.search(statements):
        return statements
    code, parts = bare(statements), _quoted_parts(statements)
    changes = [
        change
        for pattern, change_of in _CHANGES.items()
        for found in pattern.finditer(code)
        if _language(code, parts, found.start())
        for change in change_of(connection, found, statements)
    ]
    for start, end, text in sorted(changes, key=itemgetter(0), reverse=True):
        nothing = _NOTHING[_language(code, parts, start) or "sql"]
        instead = nothing if text is None else text
        statements = f"{statements[:start]}{instead}{statements[end:]}"
    return statements


Change = tuple[int, int, str | None]
"""The span of a part of some statements, and what replaces it; None for nothing."""

_NOTHING: Final = {"sql": "SELECT 1", "plpgsql": "NULL"}
"""A statement without an effect, by the language."""


def _quoted_parts(statements: str) -> list[tuple[int, int]]:
    """Return the spans of texts and bodies in statements, the innermost first."""
    found = [*texts(statements), *(found.span() for found in _BODY.finditer(statements))]
    return sorted(found, key=lambda span: span[1] - span[0])


def _language(code: str, parts: list[tuple[int, int]], position: int) -> str | None:
    """Return the language in which a part of some statements is run; None for data and bodies."""
    part = next((part for part in parts if part[0] < position < part[1]), None)
    if part is None:
        return "sql"
    before = code[: part[0]]
    if _RUNS_TEXT.search(before):
        return "sql"
    return "plpgsql" if _RUNS_BODY.search(before) else None


def _of_creation(connection: Connection, found: re.Match[str], _: str) -> Iterator[Change]:
    if not found["option"] and _home(connection, found) is not None:
        start = found.start("plain1") if found["plain1"] else found.start("quoted1") - 1
        yield start, start, "IF NOT EXISTS "


def _of_update(connection: Connection, found: re.Match[str], statements: str) -> Iterator[Change]:
    home, to = _home(connection, found), _TO.match(statements, found.end())
    if home is not None:
        newest = value(connection, _DEFAULT_VERSION, [_named(found, 1)])
        if home[2] == (_version(to) if to else newest):
            yield found.start(), (to or found).end(), None


def _of_drop(connection: Connection, found: re.Match[str], _: str) -> Iterator[Change]:
    # Other runs use it. Nobody sees that it stays if nothing in the worker's place depends on it.
    # That is known only where no other statements run before, which are sent together with it.
    if _DROP.sub("", found.string[: found.start()]).strip("; \t\r\n"):
        return
    quoted = (name.strip() for name in found["names"].split(","))
    names = [name[1:-1] if name.startswith('"') else name.lower() for name in quoted]
    if value(connection, _MAY_STAY, {"names": names}):
        yield found.start(), found.end(), None


def _of_comment(connection: Connection, found: re.Match[str], statements: str) -> Iterator[Change]:
    text = _COMMENT_TEXT.match(statements, found.end())
    if text is not None and _home(connection, found) is not None:
        yield found.start(), text.end(), None


def _of_schema(connection: Connection, found: re.Match[str], _: str) -> Iterator[Change]:
    # A worker's role may not run this, even with IF NOT EXISTS.
    schema = _named(found, 1)
    is_made = schema in _named_schemas() and value(
        connection, "SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL", [schema]
    )
    if is_made or schema in schemas_beside(connection):
        yield found.start(), found.end(), None


_CHANGES: Final[
    dict[re.Pattern[str], Callable[[Connection, re.Match[str], str], Iterator[Change]]]
] = {
    _CREATE: _of_creation,
    _UPDATE: _of_update,
    _DROP: _of_drop,
    _COMMENT_ON: _of_comment,
    _CREATE_SCHEMA: _of_schema,
}


def _home(connection: Connection, found: re.Match[str]) -> Any:
    return connection.execute(_HOME_OF, [_named(found, 1)]).fetchone()


class InstalledExtension(NamedTuple):
    """An extension that a database has.

    Attributes:
        oid: its oid, which is another one after it was dropped and created again.
        version: the version of the extension.
        schema: the schema that it is in.
        leads: whether this schema is the first on the search_path.
    """

    oid: int
    version: str
    schema: str
    leads: bool


def installed(connection: Connection) -> dict[str, InstalledExtension]:
    """Return the extensions of a database by their names."""
    rows = connection.execute(
        "SELECT extname, e.oid::bigint, extversion, nspname,"
        " nspname IS NOT DISTINCT FROM current_schema()"
        " FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace"
    ).fetchall()
    return {name: InstalledExtension(*row) for name, *row in rows}


def _named(found: re.Match[str], number: int) -> str | None:
    plain: str | None = found[f"plain{number}"]
    return found[f"quoted{number}"] or (plain.lower() if plain is not None else None)


def _start_of_part(parts: list[tuple[int, int]], position: int) -> int:
    return next((first for first, last in parts if first < position < last), position)


def _version(found: re.Match[str]) -> str | None:
    return found["text"] or _named(found, 2)


def _asked_in(statements: str) -> Iterator[Asked]:
    """Yield the extensions that statements create or update."""
    code = bare(statements)
    found = [*_CREATE.finditer(code), *_UPDATE.finditer(code)]
    parts = _quoted_parts(statements) if found else []
    for match in sorted(found, key=re.Match.start):
        if statements.startswith("'", _start_of_part(parts, match.start())) and not _language(
            code, parts, match.start()
        ):
            continue  # a text that is data; the body of a function may be run later
        name = _named(match, 1) or ""
        # Versions are texts, which are blanked in the code.
        if match.re is _UPDATE:
            to = _TO.match(statements, match.end())
            yield Asked(name, version=_version(to) if to else None, is_updated=True)
        else:
            schema = version = None
            end = match.end()
            while option := _OPTION.match(statements, end):
                schema, version = _named(option, 1) or schema, _version(option) or version
                end = option.end()
            yield Asked(name, schema, version)


def _open_to_workers(connection: Connection, schema: str) -> None:
    """Let the roles of workers use a schema of extensions and read its tables."""
    if not value(
        connection,
        "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = %s",
        [schema],
    ):
        return
    if not value(connection, "SELECT has_schema_privilege('public', %s, 'USAGE')", [schema]):
        grant = sql.SQL("GRANT USAGE ON SCHEMA {} TO PUBLIC")
        connection.execute(grant.format(sql.Identifier(schema)))
    tables = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.objid = c.oid"
        " AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass"
        " WHERE d.deptype = 'e' AND c.relnamespace = quote_ident(%s)::regnamespace"
        " AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND pg_has_role(c.relowner, 'USAGE')"
        " AND NOT has_table_privilege('public', c.oid, 'SELECT')",
        [schema],
    ).fetchall()
    for (table,) in tables:
        statement = sql.SQL("GRANT SELECT ON {} TO PUBLIC")
        connection.execute(statement.format(sql.Identifier(schema, table)))


def _ensure(connection: Connection, asked: Asked, *, may_move: bool) -> None:
    found = connection.execute(_HOME_OF, [asked.name]).fetchone()
    if found is None:
        _create(connection, asked, may_move=may_move)
        return
    schema, can_move, version = found
    if schema not in {asked.schema or EXTENSION_SCHEMA, "pg_catalog"}:
        if not may_move and schema == _PUBLIC:
            raise _in_public(connection, asked.name)
        if asked.schema is not None and can_move:
            _move(connection, asked.name, schema, asked.schema)
    target = asked.version
    if target is None and asked.is_updated:
        target = value(connection, _DEFAULT_VERSION, [asked.name])
    if may_move and target not in {None, version}:
        _update(connection, asked.name, version, str(target))


def _create(connection: Connection, asked: Asked, *, may_move: bool) -> None:
    name = asked.name
    fixed = value(connection, _FIXED, [asked.version, name])
    if fixed and fixed != "pg_catalog" and not may_move:
        raise IsolationError(
            f"The extension {name!r} can be in the schema {fixed!r} only, and itkit creates no"
            f" schema but its own in the database {connection.info.dbname!r}, which is not"
            f" itkit's. Let an administrator run there: CREATE EXTENSION {name}; or give the role"
            f" {connection.info.user!r} the right to create databases (ALTER ROLE … CREATEDB)."
        )
    schema = asked.schema or EXTENSION_SCHEMA
    version = sql.SQL(" VERSION {}").format(asked.version) if asked.version else sql.SQL("")
    if fixed:
        # CASCADE creates required extensions in the first schema of the path.
        path = sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(EXTENSION_SCHEMA))
        connection.execute(path)
        statement = sql.SQL("CREATE EXTENSION {}{} CASCADE").format(sql.Identifier(name), version)
    else:
        if asked.schema is not None:
            _create_schema(connection, schema)
        statement = sql.SQL("CREATE EXTENSION {} WITH SCHEMA {}{} CASCADE").format(
            sql.Identifier(name), sql.Identifier(schema), version
        )
    try:
        connection.execute(statement)
    except (driver.errors.FeatureNotSupported, driver.errors.UndefinedFile) as error:
        raise ServiceUnavailableError(
            f"The tests need the extension {name!r}, which this Postgres does not have"
            f" ({first_line(error)}). The embedded one lacks pgcrypto, uuid-ossp, xml2 and"
            " PostGIS: install a system Postgres with it and set ITKIT_SOURCE=system, or name a"
            " server that has it by ITKIT_POSTGRES_URL=postgresql://…"
        ) from error
    except driver.errors.InvalidParameterValue as error:
        raise ServiceUnavailableError(
            f"The tests need the version {asked.version!r} of the extension {name!r}, which this"
            f" Postgres does not have ({first_line(error)}). Name a server that has it by"
            " ITKIT_POSTGRES_URL=postgresql://…, or another version in the migration."
        ) from error
    except driver.errors.InsufficientPrivilege as error:
        raise IsolationError(
            f"The role {connection.info.user!r} may not create the extension {name!r}"
            f" ({first_line(error)}). Let a superuser run once, in the database"
            f" {connection.info.dbname!r}: {statement.as_string()};"
        ) from error
    except driver.Error as error:
        # The script of postgis_topology, for example, sets the search_path itself.
        raise IsolationError(
            f"The extension {name!r} cannot be created where what it requires is in the schema"
            f" {EXTENSION_SCHEMA!r} ({first_line(error)}). Give each worker a database of its own:"
            ' ITKIT = {"POSTGRES": {"ISOLATION": "database"}}.'
        ) from error


def _create_schema(connection: Connection, name: str) -> None:
    if not name.startswith("pg_"):  # Postgres' own, such as pg_catalog, in which extensions may be
        statement = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}")
        connection.execute(statement.format(sql.Identifier(name)))


def _in_public(connection: Connection, name: str) -> IsolationError:
    return IsolationError(
        f"The extension {name!r} sits in the schema 'public' of the database"
        f" {connection.info.dbname!r}, which is not itkit's to change, and the tests'"
        f" search_path leaves 'public' out. Give the role {connection.info.user!r} the right"
        " to create databases (ALTER ROLE … CREATEDB), or name an empty database by"
        " ITKIT_POSTGRES_URL."
    )


def _move(connection: Connection, name: str, schema: str, target: str) -> None:
    """Move an extension.

    Raises:
        IsolationError: another run is using it.
    """
    if locks.other_runs_alive(connection):
        raise IsolationError(
            f"A migration wants the extension {name!r} in the schema {target!r}, and another run"
            f" in the database {connection.info.dbname!r} has it in {schema!r}. Wait for its end,"
            ' or set ITKIT = {"POSTGRES": {"ISOLATION": "database"}}.'
        )
    _create_schema(connection, target)
    connection.execute(
        sql.SQL("ALTER EXTENSION {} SET SCHEMA {}").format(
            sql.Identifier(name), sql.Identifier(target)
        )
    )


def _update(connection: Connection, name: str, version: str, target: str) -> None:
    """Update an extension to the version that a migration names.

    Raises:
        IsolationError: another run is using it, or the server cannot update it to that version.
    """
    reason = "another run is using it"
    if not locks.other_runs_alive(connection):
        try:
            with connection.transaction():
                connection.execute(
                    sql.SQL("ALTER EXTENSION {} UPDATE TO {}").format(sql.Identifier(name), target)
                )
        except driver.Error as error:
            reason = first_line(error)
        else:
            return
    raise IsolationError(
        f"A migration wants the version {target!r} of the extension {name!r}, and the database"
        f" {connection.info.dbname!r}, which runs share, has {version!r} ({reason}). Set"
        ' ITKIT = {"POSTGRES": {"ISOLATION": "database"}}, or drop the database by'
        " manage.py itkit clean."
    )


def _from_engine(alias: str) -> Iterator[str]:
    if connections[alias].settings_dict["ENGINE"].endswith(".postgis"):
        yield "postgis"


@cache
def _from_migrations(alias: str) -> tuple[Asked, ...]:
    """Return the extensions that the migrations of an alias create.

    The first migration that creates one decides about its schema, as for the others it exists; the
    last one that names a version decides about that.
    """
    found: dict[str, Asked] = {}
    for step in operations.steps():
        if operations.runs_for(step, alias):
            for asked in _asked_by(step):
                before = found.get(asked.name)
                if before is None and not asked.is_updated:
                    found[asked.name] = asked
                elif before is not None and asked.is_updated:
                    found[asked.name] = before._replace(version=asked.version, is_updated=True)
    return tuple(found.values())


@cache
def _named_schemas() -> tuple[str, ...]:
    """Return the schemas that migrations name for extensions.

    One stays empty where an earlier migration has created the extension elsewhere.
    """
    asked = (asked for step in operations.steps() for asked in created(step))
    return tuple(dict.fromkeys(found.schema for found in asked if found.schema))


def created(step: operations.MigrationStep) -> Iterator[Asked]:
    """Yield the extensions that an operation creates."""
    return (asked for asked in _asked_by(step) if not asked.is_updated)


def _asked_by(step: operations.MigrationStep) -> Iterator[Asked]:
    from django.contrib.postgres.operations import CreateExtension  # imports a driver

    operation: Any = step.operation
    if isinstance(operation, CreateExtension):
        yield Asked(operation.name)
    elif isinstance(operation, RunSQL):
        for text in operations.statements(operation):
            yield from _asked_in(text)

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
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, LiteralString, NamedTuple

from django.db import connections
from django.db.migrations.operations import RunSQL

from itkit import conf
from itkit.core import names
from itkit.core.names import EXTENSION_SCHEMA
from itkit.core.text import first_line
from itkit.exceptions import IsolationError, ServiceUnavailableError
from itkit.postgres.migrations import operations
from itkit.postgres.migrations.escapes import bare
from itkit.postgres.server import databases, driver, locks, sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

_COMMENT = "itkit: the extensions of the tests; dropped with the last run"
_NAME = r"(?:\"(?P<quoted{0}>[^\"]+)\"|(?P<plain{0}>[\w-]+))"
_CREATE = re.compile(
    rf"\bCREATE\s+EXTENSION\s+(?P<option>IF\s+NOT\s+EXISTS\s+)?{_NAME.format(1)}"
    rf"(?:\s+(?:WITH\s+)?SCHEMA\s+{_NAME.format(2)})?",
    re.IGNORECASE,
)
_CREATE_SCHEMA = re.compile(
    rf"\bCREATE\s+SCHEMA\s+(?:IF\s+NOT\s+EXISTS\s+)?{_NAME.format(1)}"
    r"(?:\s+AUTHORIZATION\s+[^\s;]+)?",
    re.IGNORECASE,
)
_PUBLIC = "public"
_HOME_OF: LiteralString = """
    SELECT nspname, extrelocatable FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
    WHERE extname = %s
"""
# Of the default version only, as itkit requests no other.
_FIXED: LiteralString = """
    SELECT v.schema FROM pg_available_extensions a JOIN pg_available_extension_versions v
        ON v.name = a.name AND v.version = a.default_version
    WHERE a.name = %s
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


def wanted(configured: Iterable[str]) -> list[str]:
    """Return the extensions that the settings and the project's migrations create, in order."""
    return list(
        dict.fromkeys([*configured, *_from_engines(), *(name for name, _ in _from_migrations())])
    )


def prepare_for_project(connection: Connection) -> None:
    """Create all extensions that the settings and the project's migrations ask for.

    Raises:
        ServiceUnavailableError: the server does not have an extension.
        IsolationError: an extension is in another schema, or the role may not create it.
    """
    may_move = databases.is_ours(connection, connection.info.dbname)
    extensions = wanted(conf.get().postgres.extensions)
    prepare(connection, extensions, may_move=may_move, schemas=dict(_from_migrations()))


def prepare(
    connection: Connection,
    extensions: Iterable[str],
    *,
    may_move: bool,
    schemas: Mapping[str, str | None] | None = None,
) -> None:
    """Create the schema of extensions, and each extension there or in the requested schema.

    Args:
        connection: a connection to the database of the tests.
        extensions: the names of the extensions.
        may_move: whether the database was created by itkit, so that other schemas may be created
            in it, and an extension may be moved to the one that a migration names.
        schemas: the schemas that migrations name for extensions, by the names of these.

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
        for name in dict.fromkeys(extensions):
            asked = (schemas or {}).get(name) if may_move else None
            _ensure(connection, name, asked, may_move=may_move)
        for name in schemas_beside(connection) if may_move else ():
            _open_to_workers(connection, name)


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
    """Return statements of a migration without the creation of extensions that exist already.

    Args:
        connection: a connection to the database for which the statements are.
        statements: any SQL.
    """

    def of_extension(found: re.Match[str]) -> str:
        if found["option"] or connection.execute(_HOME_OF, [_named(found, 1)]).fetchone() is None:
            return found[0]
        return re.sub(r"(?i)(EXTENSION)\s", r"\1 IF NOT EXISTS ", found[0], count=1)

    def of_schema(found: re.Match[str]) -> str:
        # A worker's role may not run this, even with IF NOT EXISTS.
        return "SELECT 1" if _named(found, 1) in schemas_beside(connection) else found[0]

    return _CREATE_SCHEMA.sub(of_schema, _CREATE.sub(of_extension, statements))


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


def _ensure(connection: Connection, name: str, asked: str | None, *, may_move: bool) -> None:
    found = connection.execute(_HOME_OF, [name]).fetchone()
    if found is None:
        _create(connection, name, asked, may_move=may_move)
        return
    schema, can_move = found
    if schema in {asked or EXTENSION_SCHEMA, "pg_catalog"}:
        return
    if not may_move and schema == _PUBLIC:
        raise _in_public(connection, name)
    if asked is not None and can_move:
        _move(connection, name, schema, asked)


def _create(connection: Connection, name: str, asked: str | None, *, may_move: bool) -> None:
    fixed = value(connection, _FIXED, [name])
    if fixed and fixed != "pg_catalog" and not may_move:
        raise IsolationError(
            f"The extension {name!r} can be in the schema {fixed!r} only, and itkit creates no"
            f" schema but its own in the database {connection.info.dbname!r}, which is not"
            f" itkit's. Let an administrator run there: CREATE EXTENSION {name}; or give the role"
            f" {connection.info.user!r} the right to create databases (ALTER ROLE … CREATEDB)."
        )
    schema = asked or EXTENSION_SCHEMA
    if fixed:
        # CASCADE creates required extensions in the first schema of the path.
        path = sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(EXTENSION_SCHEMA))
        connection.execute(path)
        statement = sql.SQL("CREATE EXTENSION {} CASCADE").format(sql.Identifier(name))
    else:
        if asked is not None:
            own = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(asked))
            connection.execute(own)
        statement = sql.SQL("CREATE EXTENSION {} WITH SCHEMA {} CASCADE").format(
            sql.Identifier(name), sql.Identifier(schema)
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
    own = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(target))
    connection.execute(own)
    connection.execute(
        sql.SQL("ALTER EXTENSION {} SET SCHEMA {}").format(
            sql.Identifier(name), sql.Identifier(target)
        )
    )


def _from_engines() -> Iterator[str]:
    if any(
        connection.settings_dict["ENGINE"].endswith(".postgis") for connection in connections.all()
    ):
        yield "postgis"


@cache
def _from_migrations() -> tuple[tuple[str, str | None], ...]:
    """Return the extensions that migrations create, each with the schema that a migration names."""
    return tuple(pair for step in operations.steps() for pair in created(step))


def created(step: operations.MigrationStep) -> Iterator[tuple[str, str | None]]:
    """Yield the extensions that an operation creates, each with the schema that it names."""
    from django.contrib.postgres.operations import CreateExtension  # imports a driver

    operation: Any = step.operation
    if isinstance(operation, CreateExtension):
        yield operation.name, None
    elif isinstance(operation, RunSQL):
        for text in map(bare, operations.statements(operation)):
            for found in _CREATE.finditer(text):
                yield _named(found, 1) or "", _named(found, 2)

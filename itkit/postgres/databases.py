"""Databases of one server: which are there, which are ours, what our role may do with them."""

from contextlib import suppress

import psycopg
from psycopg import sql

from itkit import names
from itkit.postgres import places
from itkit.postgres.places import Places
from itkit.postgres.server import Connection, value

_COMMENT = "itkit: a database for tests; dropped when nothing of itkit's is in it any more"


class Databases(Places):
    """Places that are databases; the connection is to another one of the same server."""

    def described(self) -> dict[str, str]:
        """Return name and comment of each database that may be ours and belongs to our role."""
        rows = self.connection.execute(
            "SELECT datname, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database"
            " WHERE datname LIKE 'itkit\\_%%' AND pg_get_userbyid(datdba) = current_user"
            " ORDER BY datname",
            [],
        )
        return {name: text or _comment_by_name(name) for name, text in rows.fetchall()}

    def create(self, name: str, run: str, *, has_role: bool = False) -> None:
        """Create an empty database and register it; the project's role owns each of them."""
        del has_role
        self.copy("template0", name, run)

    def copy(self, template: str, name: str, run: str) -> None:
        """Create a copy of a database, in which nobody may be, and register it."""
        self.connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        self.register(name, places.comment(run))

    def register(self, name: str, text: str) -> None:
        """Set the comment of a database."""
        self.connection.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), text)
        )

    def rename(self, name: str, new: str, text: str) -> None:
        """Give a database, in which nobody may be, another name and another comment."""
        self.connection.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                sql.Identifier(name), sql.Identifier(new)
            )
        )
        self.register(new, text)

    def drop(self, name: str) -> None:
        """Drop one of our databases, with the sessions in it."""
        places.require_ours(name)
        self.connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def size(self, name: str) -> int:
        """Return the bytes of a database."""
        return int(value(self.connection, "SELECT pg_database_size(%s)", [name]))

    def end_sessions(self, run: str, worker: str = "%") -> None:
        """End the sessions in all databases."""
        self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s"
            " AND pid <> pg_backend_pid()",
            [places.application_name(run, worker)],
        )


def _comment_by_name(name: str) -> str:
    """Return the comment of a database whose run was killed before it could set one."""
    run = names.run_of_schema(name)
    return places.comment(run) if run is not None else ""


def exists(connection: Connection, name: str) -> bool:
    """Whether there is a database of this name."""
    return bool(value(connection, "SELECT true FROM pg_database WHERE datname = %s", [name]))


def may_create_schemas(connection: Connection, database: str) -> bool:
    """Whether there is such a database and our role may connect to it and create schemas in it."""
    query = (
        "SELECT has_database_privilege(oid, 'CREATE') AND has_database_privilege(oid, 'CONNECT')"
        " FROM pg_database WHERE datname = %s"
    )
    return bool(value(connection, query, [database]))


def may_create(connection: Connection) -> bool:
    """Whether our role may create databases."""
    query = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    return bool(value(connection, query))


def create_for_schemas(connection: Connection, name: str, suffix: str) -> None:
    """Create a database that schemas of ours are to live in, and register it as ours."""
    database = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE DATABASE {} " + suffix).format(database))
    _register(connection, name)


def adopt(connection: Connection, name: str) -> None:
    """Register a database as ours whose run was killed between creating and registering it."""
    query = (
        "SELECT true FROM pg_database WHERE datname = %s AND pg_get_userbyid(datdba) = current_user"
        " AND shobj_description(oid, 'pg_database') IS NULL"
    )
    if names.is_database(name) and value(connection, query, [name]):
        _register(connection, name)


def for_schemas(connection: Connection) -> list[str]:
    """Return all such databases of our role on the server."""
    rows = connection.execute(
        "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = current_user"
        " AND shobj_description(oid, 'pg_database') = %s ORDER BY datname",
        [_COMMENT],
    )
    return [name for (name,) in rows.fetchall() if names.is_database(name)]


def _register(connection: Connection, name: str) -> None:
    statement = sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), _COMMENT)
    connection.execute(statement)


def drop_if_unused(connection: Connection, name: str) -> None:
    """Drop such a database, unless somebody is in it who is no run of itkit's."""
    with suppress(psycopg.errors.ObjectInUse):
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def is_ours(connection: Connection, database: str) -> bool:
    """Whether itkit has created a database for its schemas, by its name and registration."""
    if not names.is_database(database):
        return False
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    return bool(value(connection, query, [database]) == _COMMENT)

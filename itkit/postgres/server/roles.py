"""Roles: each place of a worker has a role of its own, by which the tests log in.

Any statement can override a search_path, and a role that may connect to one database may connect to
others. The rights of a role, however, are enforced by the server. The role has the name of its
place and owns it. It is created, kept, claimed and dropped with the place.

The role of a schema owns all objects in the schema. A copy of a database keeps the owners of its
objects. So all objects of a template database belong to a role by which nobody can log in, and the
roles of the copies are members of that role.

A comment registers the role, with the kind of its place and the login that has created it.

The password of a role is made from a secret of the run, so that each process of the run knows it.
The server gets only the verifier that it stores, so that its log never contains the password. As
such a password cannot be guessed, one round of hashing is enough.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Final

from itkit.core import names
from itkit.postgres.server import driver, locks, sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

_OF_DATABASES: Final = "itkit: the role of a database for tests, made by {}"
_OF_SCHEMAS: Final = "itkit: the role of a place in the database {}, made by {}"
_OF_SCHEMAS_IN: Final = re.compile(r"itkit: the role of a place in the database (.+), made by (.+)")
_MAY_CREATE: Final = (
    "SELECT rolsuper OR (rolcreaterole AND rolinherit) FROM pg_roles WHERE rolname = current_user"
)
_REGISTERED: Final = """
    SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles
    WHERE rolname LIKE 'itkit\\_%' ORDER BY rolname
"""
_ROUNDS: Final = 1
_ATTEMPTS: Final = 5  # attempts to drop or shut a role while others do so


def why_not(connection: Connection, url: str, run: str) -> str | None:
    """Return why no worker can have a role of its own; None if each can.

    Only a login shows whether such a role may log in, as the server does not show the file with its
    rules for logins. The role that tries it has the id of the run in its name, so that another run,
    which begins now, does not take it for one of a dead run, and drop it.

    Args:
        connection: a connection of our own, to the database of the tests.
        url: the URL of that database.
        run: id of the run, which holds the lock of the run in that database.
    """
    if not value(connection, _MAY_CREATE):
        return f"the role {connection.info.user!r} may not create roles"
    name, secret = names.schema(run, names.MAIN_WORKER), secrets.token_hex(16)
    try:
        with connection.transaction():
            create(connection, name, secret, of_schemas(connection))
        try:
            driver.connect(url, user=name, password=password(secret, name)).close()
        finally:
            drop(connection, name, of_schemas(connection))
    except driver.Error as error:
        reason = str(error).strip().splitlines()[0].rpartition("FATAL:")[2].strip()
        return f"the server lets no role of a worker log in ({reason.replace(name, 'itkit_…')})"
    return None


def password(secret: str, name: str) -> str:
    """Return the password of a role.

    Args:
        secret: the secret of the run.
        name: the name of the role.
    """
    return hmac.new(secret.encode(), name.encode(), hashlib.sha256).hexdigest()


def of_schemas(connection: Connection) -> str:
    """Return the comment of the roles that our login creates for schemas of a database.

    Args:
        connection: a connection to that database.
    """
    return _OF_SCHEMAS.format(connection.info.dbname, connection.info.user)


def of_databases(connection: Connection) -> str:
    """Return the comment of the roles that our login creates for databases of a server."""
    return _OF_DATABASES.format(connection.info.user)


def create(
    connection: Connection, name: str, secret: str, comment: str, *, member_of: str | None = None
) -> None:
    """Create the role of a place; only processes that know the secret can log in by it.

    Args:
        connection: a connection of our own, in a transaction.
        name: the name of the place.
        secret: the secret of the run; if it is empty, nobody can log in.
        comment: the comment that registers it.
        member_of: the role of the place from which this one is copied.
    """
    role = sql.Identifier(name)
    login = sql.SQL("LOGIN PASSWORD {}").format(_verifier(secret, name)) if secret else sql.SQL("")
    parts = [
        sql.SQL("CREATE ROLE {} {}").format(role, login),
        sql.SQL("COMMENT ON ROLE {} IS {}").format(role, comment),
        # Without this, our own login could not read the place unless it is a superuser.
        sql.SQL("GRANT {} TO CURRENT_USER").format(role),
    ]
    if member_of is not None:
        parts.append(sql.SQL("GRANT {} TO {}").format(sql.Identifier(member_of), role))
    connection.execute(sql.SQL("; ").join(parts))


def lead_to_schema(connection: Connection, name: str, beside: Sequence[str]) -> None:
    """Set the search_path of a role to the schema of the same name, for all its logins.

    Args:
        connection: a connection of our own, in a transaction, to the database of the schema.
        name: the name of the role and the schema.
        beside: the schemas of extensions that follow ``itkit_ext``.
    """
    path = [name, names.EXTENSION_SCHEMA, *beside]
    connection.execute(
        sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}").format(
            sql.Identifier(name),
            sql.Identifier(connection.info.dbname),
            sql.SQL(", ").join(map(sql.Identifier, path)),
        )
    )


def rename(connection: Connection, name: str, new: str, secret: str, *, database: str) -> None:
    """Give the role of a place the place's new name.

    Settings that tests have given the role are removed.

    Args:
        connection: a connection of our own, in a transaction.
        name: the old name.
        new: the new name.
        secret: the secret of the run that claims the place; empty if nobody may log in.
        database: the database that is the place or contains it.
    """
    role = sql.Identifier(new)
    parts = [sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(name), role)]
    if secret:
        reset = sql.SQL("ALTER ROLE {0} RESET ALL; ALTER ROLE {0} IN DATABASE {1} RESET ALL")
        parts += [
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(role, _verifier(secret, new)),
            reset.format(role, sql.Identifier(database)),
        ]
    else:
        parts.append(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(role))
    connection.execute(sql.SQL("; ").join(parts))


def drop(connection: Connection, name: str, comment: str) -> None:
    """Drop the role of a place, with all that it still owns in the connection's database.

    Do nothing if it does not exist or is not registered. If it owns objects in another database, it
    stays, but cannot log in any more.
    """
    if not exists(connection, name, comment):
        return
    try:
        _at_once(connection, name, "DROP OWNED BY {0} CASCADE; DROP ROLE {0}")
    except driver.errors.DependentObjectsStillExist:
        _at_once(connection, name, "ALTER ROLE {} NOLOGIN PASSWORD NULL")


def _at_once(connection: Connection, name: str, statement: str) -> None:
    """Drop or shut a role that another run may be dropping or shutting at the same moment.

    Roles belong to the whole server and advisory locks to one database, so runs in two databases
    cannot take turns. The server refuses the slower one with an internal error, such as "could not
    find tuple for role" or "tuple concurrently updated".

    Args:
        connection: a connection of our own.
        name: the name of the role.
        statement: the statement, with a placeholder for the name.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with connection.transaction():
                connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
        except driver.errors.UndefinedObject:
            return  # the other run was faster
        except driver.errors.InternalError_:
            is_there = value(connection, "SELECT true FROM pg_roles WHERE rolname = %s", [name])
            if not is_there:
                return
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def lend(
    connection: Connection, place: sql.Composable, name: str, secret: str, comment: str
) -> None:
    """Create the role that makes a template, and let it own the place of the template.

    Args:
        connection: a connection of our own.
        place: the place in the words of ``ALTER``, such as ``SCHEMA "itkit_…"``.
        name: the name of the role; a role that a failed attempt has left is dropped.
        secret: the secret of the run.
        comment: the comment that registers the role.
    """
    drop(connection, name, comment)
    with connection.transaction():
        create(connection, name, secret, comment)
        connection.execute(sql.SQL("ALTER {} OWNER TO {}").format(place, sql.Identifier(name)))


def hand_over(connection: Connection, name: str, owner: sql.Composable) -> list[str]:
    """Give the objects of a role in the connection's database to another role.

    Args:
        connection: a connection of our own.
        name: the name of the role.
        owner: the other role.

    Returns:
        What could not be handed over.
    """
    query = (
        "SELECT EXISTS (SELECT FROM pg_default_acl"
        " WHERE defaclrole = (SELECT oid FROM pg_roles WHERE rolname = %s))"
    )
    left = ["a migration alters default privileges"] if value(connection, query, [name]) else []
    statement = sql.SQL("REASSIGN OWNED BY {0} TO {1}; DROP OWNED BY {0}")
    connection.execute(statement.format(sql.Identifier(name), owner))
    return left


def exists(connection: Connection, name: str, comment: str) -> bool:
    """Return whether a place has a role with this comment."""
    query = (
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s"
        " AND shobj_description(oid, 'pg_authid') = %s)"
    )
    return bool(value(connection, query, [name, comment]))


def registered(connection: Connection, comment: str) -> list[str]:
    """Return the roles with this comment."""
    return [name for name, found in connection.execute(_REGISTERED) if found == comment]


def drop_lost(connection: Connection) -> None:
    """Drop the roles of our login for schemas of databases that do not exist any more."""
    databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    for name, comment in connection.execute(_REGISTERED).fetchall():
        found = _OF_SCHEMAS_IN.fullmatch(comment or "")
        if found and found[1] not in databases and found[2] == connection.info.user:
            _at_once(connection, name, "DROP ROLE {}")


def shut_public(connection: Connection, *, is_on_path: bool) -> None:
    """Revoke all rights of ``PUBLIC`` in the schema ``public`` of a database of itkit's own.

    Do nothing if our login may not do this, as in a database of Postgres 14 that does not belong to
    a superuser.

    Args:
        connection: a connection of our own, to that database.
        is_on_path: whether tests need the objects in it, so that they may use them and create none.
    """
    query = (
        "SELECT EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'public'"
        " AND grantee = 0 AND (privilege_type = 'CREATE' OR NOT %s)"
        " AND pg_has_role(nspowner, 'USAGE'))"
    )
    with locks.setup(connection), connection.transaction():
        if value(connection, query, [is_on_path]):
            connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            if is_on_path:
                connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")


def _verifier(secret: str, name: str) -> str:
    """Return the SCRAM verifier of a role's password, which a server stores (RFC 5803)."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password(secret, name).encode(), salt, _ROUNDS)
    client, server = (
        hmac.digest(salted, text, "sha256") for text in (b"Client Key", b"Server Key")
    )
    keys = ":".join(_base64(key) for key in (hashlib.sha256(client).digest(), server))
    return f"SCRAM-SHA-256${_ROUNDS}:{_base64(salt)}${keys}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()

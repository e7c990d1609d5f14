"""Roles: each place of a worker has one of its own, by which its tests log in.

A search_path is a default that any statement overrides; what the role may do is enforced by the
server. The role has the name of its place and owns it: it is created, kept, claimed and dropped
with the place. Its comment registers it, with the database that the place is in and the login that
has created it.

The password of a role is made of a secret of the run, so that each process of the run knows it. The
server is given what it stores of a password, and not the password itself, so that no statement in
its log has it. As such a password cannot be guessed, one round of hashing is enough.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg
from psycopg import sql

from itkit import names
from itkit.postgres import locks
from itkit.postgres.server import Connection, value

_COMMENT: Final = "itkit: the role of a place in the database {}, made by {}"
_OF_DATABASE: Final = re.compile(r"itkit: the role of a place in the database (.+), made by (.+)")
_MAY_CREATE: Final = (
    "SELECT rolsuper OR (rolcreaterole AND rolinherit) FROM pg_roles WHERE rolname = current_user"
)
_REGISTERED: Final = """
    SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles
    WHERE rolname LIKE 'itkit\\_%' ORDER BY rolname
"""
_ROUNDS: Final = 1


def why_not(connection: Connection, url: str) -> str | None:
    """Return why no worker can have a role of its own; None where each can.

    Whether such a role may log in, only a login tells: what the server asks of whom is in a file
    that it does not show.

    Args:
        connection: of our own, to the database of the tests.
        url: of that database.
    """
    if not value(connection, _MAY_CREATE):
        return f"the role {connection.info.user!r} may not create roles"
    name, secret = f"itkit_{secrets.token_hex(4)}_{names.MAIN_WORKER}", secrets.token_hex(16)
    try:
        with connection.transaction():
            create(connection, name, secret)
        try:
            psycopg.connect(url, user=name, password=password(secret, name)).close()
        finally:
            drop(connection, name)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0].rpartition("FATAL:")[2].strip()
        return f"the server lets no role of a worker log in ({reason.replace(name, 'itkit_…')})"
    return None


def password(secret: str, name: str) -> str:
    """Return the password of a role.

    Args:
        secret: of the run.
        name: of the role.
    """
    return hmac.new(secret.encode(), name.encode(), hashlib.sha256).hexdigest()


def create(connection: Connection, name: str, secret: str) -> None:
    """Create the role of a place, by which nobody but who knows the secret can log in.

    Args:
        connection: of our own, in a transaction, to the database of the place.
        name: of the place.
        secret: of the run.
    """
    role = sql.Identifier(name)
    parts = [
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, _verifier(secret, name)),
        sql.SQL("COMMENT ON ROLE {} IS {}").format(role, comment(connection)),
        # Without this, who is no superuser could not look into the place.
        sql.SQL("GRANT {} TO CURRENT_USER").format(role),
        _landing(connection, name),
    ]
    connection.execute(sql.SQL("; ").join(parts))


def rename(connection: Connection, name: str, new: str, secret: str | None) -> None:
    """Give the role of a place, if there is one, the place's new name.

    What tests have set for the role does not reach the run that claims it.

    Args:
        connection: of our own, in a transaction, to the database of the place.
        name: the old one.
        new: the new one.
        secret: of the run that claims the place; None where nobody is to log in.
    """
    if not exists(connection, name):
        return
    role = sql.Identifier(new)
    parts = [sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(name), role)]
    if secret is None:
        parts.append(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(role))
    else:
        login = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
        reset = sql.SQL("ALTER ROLE {0} RESET ALL; ALTER ROLE {0} IN DATABASE {1} RESET ALL")
        parts += [
            login.format(role, _verifier(secret, new)),
            reset.format(role, sql.Identifier(connection.info.dbname)),
            _landing(connection, new),
        ]
    connection.execute(sql.SQL("; ").join(parts))


def drop(connection: Connection, name: str) -> None:
    """Drop the role of a place of this database, with all that it still owns here.

    Nothing happens when it is gone, or is not registered. Where it owns something in another
    database, it stays, and cannot log in any more.
    """
    if not exists(connection, name):
        return
    role = sql.Identifier(name)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(role))
    except psycopg.errors.UndefinedObject:
        pass  # somebody else was faster
    except psycopg.errors.DependentObjectsStillExist:
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(role))


def exists(connection: Connection, name: str) -> bool:
    """Whether a place of this database has a role that our login has created."""
    query = (
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s"
        " AND shobj_description(oid, 'pg_authid') = %s)"
    )
    return bool(value(connection, query, [name, comment(connection)]))


def of_database(connection: Connection) -> list[str]:
    """Return the roles of places of this database that our login has created."""
    ours = comment(connection)
    return [name for name, comment in connection.execute(_REGISTERED) if comment == ours]


def drop_lost(connection: Connection) -> None:
    """Drop the roles of our login whose database is gone."""
    databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    for name, comment in connection.execute(_REGISTERED).fetchall():
        found = _OF_DATABASE.fullmatch(comment or "")
        if found and found[1] not in databases and found[2] == connection.info.user:
            with suppress(psycopg.errors.UndefinedObject):
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@contextmanager
def lent(connection: Connection, schema: str, name: str, secret: str) -> Iterator[list[str]]:
    """Let a role that exists for a block own a schema of ours, which is ours again then.

    Yields a list that has, after the block, what of the role's could not be taken over.

    Args:
        connection: of our own, in autocommit.
        schema: that is there and empty.
        name: of the role.
        secret: of the run.
    """
    role, place = sql.Identifier(name), sql.Identifier(schema)
    left: list[str] = []
    with connection.transaction():
        drop(connection, name)  # of an attempt that has failed
        create(connection, name, secret)
        connection.execute(sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(place, role))
    try:
        yield left
    finally:
        query = (
            "SELECT EXISTS (SELECT FROM pg_default_acl"
            " WHERE defaclrole = (SELECT oid FROM pg_roles WHERE rolname = %s))"
        )
        if value(connection, query, [name]):
            left.append("a migration alters default privileges")
        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))
        drop(connection, name)


def shut_public(connection: Connection) -> None:
    """Take what everybody may do in ``public`` from everybody, in a database of itkit's own.

    Nothing happens where our login may not do so, as in a database of Postgres 14 that is not a
    superuser's.
    """
    query = (
        "SELECT EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'public'"
        " AND grantee = 0 AND pg_has_role(nspowner, 'USAGE'))"
    )
    with locks.setup(connection):
        if value(connection, query):
            connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")


def comment(connection: Connection) -> str:
    """Return the comment of the roles of a connection's database that our login creates."""
    return _COMMENT.format(connection.info.dbname, connection.info.user)


def _landing(connection: Connection, name: str) -> sql.Composed:
    """Return what leads who logs in by the role to its place, without a word about it."""
    return sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}, {}").format(
        sql.Identifier(name),
        sql.Identifier(connection.info.dbname),
        sql.Identifier(name),
        sql.Identifier(names.EXTENSION_SCHEMA),
    )


def _verifier(secret: str, name: str) -> str:
    """Return what a server stores of the password of a role, by SCRAM (RFC 5803)."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password(secret, name).encode(), salt, _ROUNDS)
    client, server = (
        hmac.digest(salted, text, "sha256") for text in (b"Client Key", b"Server Key")
    )
    keys = ":".join(_base64(key) for key in (hashlib.sha256(client).digest(), server))
    return f"SCRAM-SHA-256${_ROUNDS}:{_base64(salt)}${keys}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()

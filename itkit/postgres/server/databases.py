"""The databases of one server: which exist, which are ours, and the rights of our role."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from itkit.core import names
from itkit.core.urls import ServerURL
from itkit.postgres.server import driver, locks, places, roles, sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.places import Places
from itkit.postgres.server.server import connect, value

_COMMENT = "itkit: a database for tests; dropped when nothing of itkit's is in it any more"


class Databases(Places):
    """Places that are databases of a server.

    Args:
        connection: a connection of our own, in autocommit, to another database of the server.
        server: the URL of the server.
        secret: the secret of the run, if the places of its workers are to have roles of their own.
        suffix: the end of ``CREATE DATABASE`` for an empty database, as Django writes it: its
            encoding, and the database to copy if that is not ``template1``.
    """

    def __init__(
        self, connection: Connection, server: ServerURL, secret: str = "", suffix: str = ""
    ) -> None:
        super().__init__(connection, secret)
        self._server = server
        self._suffix = suffix

    @property
    def role_comment(self) -> str:
        """The comment that registers the role of a database of the server."""
        return roles.of_databases(self.connection)

    def connect_to(self, name: str) -> Connection:
        """Connect to a database by the project's role."""
        return connect(str(replace(self._server, name=name)), application="itkit setup")

    def described(self) -> dict[str, str]:
        """Return name and comment of each database that may be ours and belongs to our role.

        A place also counts as ours if it belongs to a role that ours has created for it.
        """
        rows = self.connection.execute(
            "SELECT datname, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database"
            " WHERE datname LIKE 'itkit\\_%%' AND (pg_get_userbyid(datdba) = current_user"
            " OR shobj_description(datdba, 'pg_authid') = %s) ORDER BY datname",
            [self.role_comment],
        )
        return {name: text or _comment_by_name(name) for name, text in rows.fetchall()}

    def create(self, name: str, run: str, *, has_role: bool = False) -> None:
        """Create a database for migrations, with its role if it has one, and register it."""
        self._create(name, sql.SQL(self._suffix), run, has_role=has_role, group=None)

    def copy(self, template: str, name: str, run: str, *, has_role: bool = False) -> None:
        """Create a copy of a database, to which nobody may be connected, and register it.

        Args:
            template: the name of the database.
            name: the name of the copy.
            run: id of the run that it belongs to.
            has_role: whether it gets a role of its own as its owner, by which the tests log in.
        """
        source = sql.SQL("TEMPLATE {}").format(sql.Identifier(template))
        group = template if self.has_role(template) else None
        self._create(name, source, run, has_role=has_role, group=group)
        self._copy_settings(template, name)

    def _create(
        self, name: str, source: sql.Composable, run: str, *, has_role: bool, group: str | None
    ) -> None:
        if has_role:
            with self.connection.transaction():
                roles.create(self.connection, name, self.secret, self.role_comment, member_of=group)
        place = sql.Identifier(name)
        owner = sql.SQL("OWNER {}").format(place) if has_role else sql.SQL("")
        statement = sql.SQL("CREATE DATABASE {} {} {}").format(place, source, owner)
        self.connection.execute(statement)
        if has_role:
            self._shut(name)
        self.register(name, places.comment(run))

    def register(self, name: str, text: str) -> None:
        """Set the comment of a database."""
        self.connection.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), text)
        )

    def rename(self, name: str, new: str, text: str) -> None:
        """Rename a database, to which nobody may be connected, with its role; set its comment."""
        self.connection.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                sql.Identifier(name), sql.Identifier(new)
            )
        )
        fingerprint = names.fingerprint_of_schema(name)
        if names.run_of_schema(new) and fingerprint:
            self._copy_settings(names.template_schema(fingerprint), new)
        if self.has_role(name):
            secret = self.secret if names.run_of_schema(new) else ""
            roles.rename(self.connection, name, new, secret, database=new)
        self.register(new, text)

    def drop(self, name: str) -> None:
        """Drop one of our databases with its role, and end the sessions in it."""
        places.require_ours(name)
        self.connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )
        roles.drop(self.connection, name, self.role_comment)

    @contextmanager
    def lent(self, name: str, role: str) -> Iterator[list[str]]:
        """Let a temporary role own a database of ours within a block.

        Its contents then belong to its own role, of which the roles of its copies are members.
        """
        left: list[str] = []
        place = sql.Identifier(name)
        whole = sql.SQL("DATABASE {}").format(place)
        roles.lend(self.connection, whole, role, self.secret, self.role_comment)
        self._shut(name)
        try:
            yield left
        finally:
            with self.connect_to(name) as inside, inside.transaction():
                roles.create(inside, name, "", self.role_comment)
                left += roles.hand_over(inside, role, place)
                # What a role may do with its database, its members may do as well.
                inside.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(place))
            roles.drop(self.connection, role, self.role_comment)

    def _copy_settings(self, template: str, name: str) -> None:
        """Give a database exactly the settings that migrations have set for its template.

        The server copies the contents of a database, but no settings of ``ALTER DATABASE``.
        """
        database = sql.Identifier(name)
        found = self.connection.execute(
            "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d"
            " ON d.oid = s.setdatabase WHERE s.setrole = 0 AND d.datname = %s",
            [template],
        ).fetchall()
        with self.connection.transaction():
            self.connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(database))
            for (setting,) in found:
                variable, _, text = setting.partition("=")
                self.connection.execute("SELECT set_config(%s, %s, true)", [variable, text])
                statement = sql.SQL("ALTER DATABASE {} SET {} FROM CURRENT")
                identifier = sql.Identifier(*variable.split("."))
                self.connection.execute(statement.format(database, identifier))

    def _shut(self, name: str) -> None:
        """Refuse access to a database to all roles without the rights of its owner."""
        self.connection.execute(
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))
        )

    def size(self, name: str) -> int:
        """Return the bytes of a database."""
        return size(self.connection, name)

    def end_sessions(self, run: str, worker: str = "%") -> None:
        """End the sessions in all databases."""
        self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s"
            " AND pid <> pg_backend_pid()",
            [places.application_name(run, worker)],
        )


def _comment_by_name(name: str) -> str:
    """Return the comment for a database whose run was killed before it could set one."""
    run = names.run_of_schema(name)
    return places.comment(run) if run is not None else ""


def size(connection: Connection, name: str) -> int:
    """Return the bytes of a database."""
    return int(value(connection, "SELECT pg_database_size(%s)", [name]))


def exists(connection: Connection, name: str) -> bool:
    """Return whether there is a database of this name."""
    return bool(value(connection, "SELECT true FROM pg_database WHERE datname = %s", [name]))


def shut_others(connection: Connection) -> None:
    """Refuse the roles of workers access to the other databases of a server.

    Args:
        connection: a connection to a server that itkit has started, which nobody else uses.
    """
    query = (
        "SELECT datname FROM pg_database WHERE has_database_privilege('public', oid, 'CONNECT')"
        " AND datallowconn ORDER BY datname"
    )
    with locks.setup(connection):
        for (name,) in connection.execute(query).fetchall():
            statement = sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC")
            connection.execute(statement.format(sql.Identifier(name)))


def may_create_schemas(connection: Connection, database: str) -> bool:
    """Return whether a database exists in which our role may connect and create schemas."""
    query = (
        "SELECT has_database_privilege(oid, 'CREATE') AND has_database_privilege(oid, 'CONNECT')"
        " FROM pg_database WHERE datname = %s"
    )
    return bool(value(connection, query, [database]))


def may_connect(connection: Connection, database: str) -> bool:
    """Return whether our role may connect to a database, which exists."""
    return bool(value(connection, "SELECT has_database_privilege(%s, 'CONNECT')", [database]))


def may_create(connection: Connection) -> bool:
    """Return whether our role may create databases."""
    query = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    return bool(value(connection, query))


def create_for_schemas(connection: Connection, name: str, suffix: str) -> None:
    """Create a database for schemas of ours, and register it as ours.

    Another run may be as fast: advisory locks belong to one database, so a run that has entered the
    server by another database does not wait for this one.
    """
    database = sql.Identifier(name)
    with suppress(driver.errors.DuplicateDatabase, driver.errors.UniqueViolation):
        connection.execute(sql.SQL("CREATE DATABASE {} " + suffix).format(database))
    _register(connection, name)


def adopt(connection: Connection, name: str) -> None:
    """Register a database whose run was killed between creating and registering it."""
    query = (
        "SELECT true FROM pg_database WHERE datname = %s AND pg_get_userbyid(datdba) = current_user"
        " AND shobj_description(oid, 'pg_database') IS NULL"
    )
    if names.is_database(name) and value(connection, query, [name]):
        _register(connection, name)


def for_schemas(connection: Connection) -> list[str]:
    """Return all databases for schemas that our role has on the server."""
    rows = connection.execute(
        "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = current_user"
        " AND shobj_description(oid, 'pg_database') = %s ORDER BY datname",
        [_COMMENT],
    )
    return [name for (name,) in rows.fetchall() if names.is_database(name)]


def _register(connection: Connection, name: str) -> None:
    """Set the comment, which another run may be setting to the same text."""
    statement = sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), _COMMENT)
    try:
        connection.execute(statement)
    except (driver.errors.UniqueViolation, driver.InternalError):
        if not is_ours(connection, name):
            raise


def drop_if_unused(connection: Connection, name: str) -> None:
    """Drop a database for schemas, unless a session that is no run of itkit's is in it."""
    with suppress(driver.errors.ObjectInUse, driver.errors.InvalidCatalogName):
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def is_ours(connection: Connection, database: str) -> bool:
    """Return whether itkit has created a database for its schemas, by its name and registration."""
    if not names.is_database(database):
        return False
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    return bool(value(connection, query, [database]) == _COMMENT)

"""Our schemas in one database."""

from collections.abc import Iterator
from contextlib import contextmanager

from itkit.core import names
from itkit.postgres.migrations.extensions import schemas_beside
from itkit.postgres.server import driver, places, roles, sql
from itkit.postgres.server.places import Places
from itkit.postgres.server.server import value


class Schemas(Places):
    """Places that are schemas of the connection's database."""

    @property
    def role_comment(self) -> str:
        """The comment that registers the role of a schema of this database."""
        return roles.of_schemas(self.connection)

    def described(self) -> dict[str, str]:
        """Return name and comment of each schema that may be ours and belongs to our role.

        A place also counts as ours if it belongs to a role that ours has created for it.
        """
        rows = self.connection.execute(
            "SELECT nspname, coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace"
            " WHERE nspname LIKE 'itkit\\_%%' AND (pg_get_userbyid(nspowner) = current_user"
            " OR shobj_description(nspowner, 'pg_authid') = %s) ORDER BY nspname",
            [self.role_comment],
        )
        return dict(rows.fetchall())

    def create(self, name: str, run: str, *, has_role: bool = False) -> None:
        """Create an empty schema, with its role if it has one, and register it, or do nothing."""
        place = sql.Identifier(name)
        with self.connection.transaction():
            if has_role:
                roles.create(self.connection, name, self.secret, self.role_comment)
                roles.lead_to_schema(self.connection, name, schemas_beside(self.connection))
                statement = sql.SQL("CREATE SCHEMA {0} AUTHORIZATION {0}").format(place)
            else:
                statement = sql.SQL("CREATE SCHEMA {}").format(place)
            self.connection.execute(statement)
            self.register(name, places.comment(run))

    def register(self, name: str, text: str) -> None:
        """Set the comment of a schema."""
        self.connection.execute(
            sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(name), text)
        )

    def rename(self, name: str, new: str, text: str) -> None:
        """Give a schema, with its role, another name and another comment."""
        self.connection.execute(
            sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(
                sql.Identifier(name), sql.Identifier(new)
            )
        )
        if self.has_role(name):
            secret = self.secret if names.run_of_schema(new) else ""
            roles.rename(self.connection, name, new, secret, database=self.connection.info.dbname)
            if secret:
                roles.lead_to_schema(self.connection, new, schemas_beside(self.connection))
        self.register(new, text)

    def drop(self, name: str) -> None:
        """Drop one of our schemas with its contents and its role.

        Do nothing if it does not exist any more.
        """
        places.require_ours(name)
        statement = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name))
        try:
            self.connection.execute(statement)
        except driver.errors.OutOfMemory:
            # DROP SCHEMA locks all objects in it, which can be more than the server's lock table
            # holds.
            self._drop_tables(name)
            self.connection.execute(statement)
        roles.drop(self.connection, name, self.role_comment)

    @contextmanager
    def lent(self, name: str, role: str) -> Iterator[list[str]]:
        """Let a temporary role own a schema of ours within a block."""
        left: list[str] = []
        place = sql.SQL("SCHEMA {}").format(sql.Identifier(name))
        roles.lend(self.connection, place, role, self.secret, self.role_comment)
        try:
            yield left
        finally:
            left += roles.hand_over(self.connection, role, sql.SQL("CURRENT_USER"))
            roles.drop(self.connection, role, self.role_comment)

    def size(self, name: str) -> int:
        """Return the bytes of the tables, indexes and sequences in a schema."""
        query = (
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class"
            " WHERE relkind IN ('r', 'm', 'S') AND relnamespace = to_regnamespace(quote_ident(%s))"
        )
        return int(value(self.connection, query, [name]))

    def end_sessions(self, run: str, worker: str = "%") -> None:
        """End the sessions in this database."""
        self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE %s AND datname = current_database()",
            [places.application_name(run, worker)],
        )

    def _drop_tables(self, name: str) -> None:
        tables = self.connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s))"
            " AND relkind IN ('r', 'p')",
            [name],
        ).fetchall()
        for (table,) in tables:
            identifier = sql.Identifier(name, table)
            self.connection.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(identifier))

"""Templates that are schemas, cloned by a script that is stored beside them."""

from collections.abc import Callable
from dataclasses import replace

from itkit.core import names
from itkit.postgres.clone import clone
from itkit.postgres.clone.clone import Difference
from itkit.postgres.server import catalog_version, driver, places, policies, sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value
from itkit.postgres.template.reads import Reads
from itkit.postgres.template.schemas import Schemas
from itkit.postgres.template.template import TEMPLATE_COMMENT, Migrated, Template, TemplateState


class SchemaTemplate(Template):
    """A schema with the result of the migrations, and a schema with the script of its clones.

    The template belongs to the project's own role. Its clones and their objects belong to the roles
    of the workers, if there are such roles.

    Args:
        connection: a connection to the database of the template.
        fingerprint: the fingerprint, as ``fingerprint.of_state`` returns it.
        run: id of the run that uses it.
        is_private: whether the template ends with the run, as nothing is kept.
        secret: the secret of the run, if its workers are to have roles of their own.
    """

    def __init__(
        self,
        connection: Connection,
        fingerprint: str,
        run: str,
        *,
        is_private: bool,
        secret: str = "",
    ) -> None:
        super().__init__(Schemas(connection, secret), fingerprint, run, is_private=is_private)
        self._connection = connection
        self._comment = places.comment(run) if is_private else TEMPLATE_COMMENT
        self._script_schema = names.script_schema(fingerprint)
        self._script = sql.Identifier(self._script_schema, "clone")

    def exists(self) -> bool:
        """Return whether the template was made; somebody may have changed it since."""
        found = self.places.described()
        return found.get(self.name) == found.get(self._script_schema) == self._comment

    def state(self) -> TemplateState | None:
        """Return the known facts about the template; None if it does not exist."""
        if not self.exists():
            return None
        statement = sql.SQL(
            "UPDATE {} SET used = now() RETURNING stamp, differences, digest, script, needs, reads"
        )
        row = self._connection.execute(statement.format(self._script)).fetchone()
        return TemplateState(row[0], tuple(row[1]), *row[2:]) if row is not None else None

    def reads(self) -> Reads:
        """Return the values that were read for the template; none if our role may not read them."""
        try:
            # A template that an earlier itkit has made has no such column.
            found = value(
                self._connection,
                sql.SQL("SELECT to_jsonb(found) ->> 'reads' FROM {} found").format(self._script),
            )
        except driver.Error:  # it belongs to another role, or was dropped a moment ago
            return Reads.parse("")
        return Reads.parse(str(found or ""))

    def is_intact(self, state: TemplateState) -> bool:
        """Return whether nobody has changed the template's catalogue since it was made."""
        return self.stamp(self.name) == state.stamp

    def is_logged(self) -> bool:
        """Return whether all rows of the template are logged, so that a copied cluster has them."""
        return catalog_version.is_logged(self._connection)

    def unused_days(self) -> float:
        """Return the number of days since a run has used the template."""
        days = sql.SQL("SELECT extract(epoch FROM now() - used) / 86400 FROM {}")
        return float(value(self._connection, days.format(self._script)))

    def make(self, name: str, migrate: Callable[[str], Migrated | None]) -> tuple[str, ...]:
        """Migrate in the template, and compare the worker's schema, the first clone, with it."""
        self.places.create(self.name, self.run)
        migrated = migrate(self.name) or Migrated()
        state = self._verified(name, migrated.needs)
        # Lifted for good, as clones and their resets read the template; clones keep their policies.
        policies.lift(self._connection, self.name)
        reads = Reads(self.base, migrated.values).text
        state = replace(state, stamp=self.stamp(self.name), reads=reads)
        with self._connection.transaction():
            self._store(state)
            # From now on the template is not dropped with the run that has made it.
            self.places.register(self.name, self._comment)
        return state.differences

    def clone(self, state: TemplateState, name: str) -> None:
        """Replay the script in a new schema."""
        has_role = bool(self.places.secret) and not state.needs
        self.places.create(name, self.run, has_role=has_role)
        clone.replay(self._connection, state.script, name, role=name if has_role else None)
        self.places.register(name, self.registration(self.stamp(name)))

    def stamp(self, name: str) -> str:
        """Return the stamp of a schema's catalogue."""
        return catalog_version.of_schema(self._connection, name)

    def is_faithful(self, state: TemplateState, name: str) -> bool:
        """Return whether the catalogue of a schema has the same description as the template's."""
        return clone.digest(self._connection, name) == state.digest

    def drop(self) -> None:
        """Drop the template, its script and its kept clones."""
        self.places.drop(self._script_schema)
        super().drop()

    def _verified(self, name: str, needs: str) -> TemplateState:
        """Make the first clone and return the objects that it lacks; drop it if there are any."""
        state = TemplateState(stamp="", needs=needs)
        try:
            state = replace(state, script=clone.script(self._connection, self.name))
            self._clone_all_rows(state, name)
            found = clone.differences(self._connection, self.name, name)
            if found:
                found = self._without_servers_own(state, name, found)
            else:
                state = replace(state, digest=clone.digest(self._connection, name))
            lines = clone.grouped(found)
        except driver.Error as error:
            lines = [f"the script of the clone, which fails: {str(error).splitlines()[0]}"]
        if lines:
            self.places.drop(name)
        return replace(state, differences=tuple(lines))

    def _without_servers_own(
        self, state: TemplateState, name: str, found: list[Difference]
    ) -> list[Difference]:
        """Leave out differences that the server itself makes, as a second clone shows."""
        twin = names.twin_schema(name)
        self._clone_all_rows(state, twin)
        between_clones = clone.differences(self._connection, name, twin)
        self.places.drop(twin)
        return list(clone.without_servers_own(found, between_clones))

    def _clone_all_rows(self, state: TemplateState, name: str) -> None:
        with policies.lifted(self._connection, self.name):
            self.clone(state, name)

    def _store(self, state: TemplateState) -> None:
        schema = sql.Identifier(self._script_schema)
        self._connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        self.places.register(self._script_schema, self._comment)
        self._connection.execute(
            sql.SQL(
                "CREATE TABLE {} AS SELECT {}::text AS stamp, {}::text[] AS differences,"
                " {}::text AS digest, {}::text AS script, {}::text AS needs, {}::text AS reads,"
                " now() AS used"
            ).format(
                self._script,
                state.stamp,
                list(state.differences),
                state.digest,
                state.script,
                state.needs,
                state.reads,
            )
        )


def templates(connection: Connection) -> list[Template]:
    """Return the templates that stay in the database of a connection."""
    states = {
        names.fingerprint_of_schema(name)
        for name, comment in Schemas(connection).described().items()
        if comment == TEMPLATE_COMMENT
    }
    found = (SchemaTemplate(connection, state, "", is_private=False) for state in states if state)
    return [template for template in found if template.exists()]

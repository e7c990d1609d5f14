"""Templates that are databases: cloned by the server, file by file."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

from itkit import names
from itkit.postgres import stamp
from itkit.postgres.databases import Databases
from itkit.postgres.server import Connection
from itkit.postgres.template import TEMPLATE_COMMENT, State, Template
from itkit.urls import ServerURL

_COMMENT = re.compile(
    r".+, catalogue (?P<stamp>[0-9a-f]+)(?:, used (?P<used>\S+))?(?:, needs (?P<needs>.+))?",
    re.DOTALL,
)


class DatabaseTemplate(Template):
    """A database with all that migrations make; its comment says what is known of it.

    Args:
        connection: to the maintenance database.
        server: URL of the server.
        fingerprint: of ``fingerprint.of_state``.
        run: id of the run that uses it.
        is_private: whether the template ends with the run, as nothing is to be kept.
        secret: of the run, if its workers are to have roles of their own.
    """

    def __init__(
        self,
        connection: Connection,
        server: ServerURL,
        fingerprint: str,
        run: str,
        *,
        is_private: bool,
        secret: str = "",
    ) -> None:
        self._databases = Databases(connection, server, secret)
        super().__init__(self._databases, fingerprint, run, is_private=is_private)

    def exists(self) -> bool:
        """Whether the template was made."""
        return self._described() is not None

    def state(self) -> State | None:
        """Return what is known of the template; None when it is not there."""
        described = self._described()
        if described is None:
            return None
        state = State(described["stamp"], needs=described["needs"] or "")
        self._describe(state)
        return state

    def is_intact(self, state: State) -> bool:
        """Assume so: to look would be to be in it, which keeps it from being copied."""
        del state
        return True

    def is_logged(self) -> bool:
        """Whether all rows of the template are in the server's log, so that a copy has them."""
        with self._databases.connect_to(self.name) as connection:
            return stamp.is_logged(connection)

    def unused_days(self) -> float:
        """Return for how long no run has used the template."""
        described = self._described()
        if described is None or described["used"] is None:
            return 0.0
        unused = datetime.now(UTC) - datetime.fromisoformat(described["used"])
        return unused.total_seconds() / 86400

    def make(self, name: str, migrate: Callable[[str], str | None]) -> tuple[str, ...]:
        """Migrate in a database of the run, which becomes the template, and copy it."""
        unfinished = names.schema(self.run, f"t{int(self.fingerprint, 16)}")
        self._databases.drop(unfinished)  # another worker of this run has failed to migrate
        self._databases.create(unfinished, self.run)
        needs = migrate(unfinished) or ""
        state = State(self.stamp(unfinished), needs=needs)
        with self._databases.connection.transaction():
            self._databases.rename(unfinished, self.name, "")
            self._describe(state)
        self.clone(state, name)
        return ()

    def clone(self, state: State, name: str) -> None:
        """Copy the template."""
        has_role = bool(self._databases.secret) and not state.needs
        self._databases.copy(self.name, name, self.run, has_role=has_role)
        self.places.register(name, self.registration(state.stamp))

    def stamp(self, name: str) -> str:
        """Return the stamp of a database's catalogue; that of a copy is the same."""
        with self._databases.connect_to(name) as connection:
            return stamp.of_database(connection)

    def is_faithful(self, state: State, name: str) -> bool:
        """Whether the catalogue is the template's although it was written to: nobody knows."""
        del state, name
        return False

    def _described(self) -> re.Match[str] | None:
        return _COMMENT.fullmatch(self.places.described().get(self.name, ""))

    def _describe(self, state: State) -> None:
        used = datetime.now(UTC).isoformat(timespec="seconds")
        ours = self.registration(state.stamp)  # which counts as the run's own
        stays = f"{TEMPLATE_COMMENT}, catalogue {state.stamp}, used {used}"
        needs = f", needs {state.needs}" if state.needs else ""
        self.places.register(self.name, f"{ours if self.is_private else stays}{needs}")


def templates(connection: Connection, server: ServerURL) -> list[Template]:
    """Return the templates that stay on a server."""
    return [
        DatabaseTemplate(connection, server, state, "", is_private=False)
        for name, comment in Databases(connection, server).described().items()
        if comment.startswith(TEMPLATE_COMMENT) and (state := names.fingerprint_of_schema(name))
    ]

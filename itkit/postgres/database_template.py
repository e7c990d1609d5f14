"""Templates that are databases: cloned by the server, file by file."""

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

from itkit import names
from itkit.postgres import stamp
from itkit.postgres.databases import Databases
from itkit.postgres.server import Connection, connect
from itkit.postgres.template import TEMPLATE_COMMENT, State, Template
from itkit.urls import POSTGRES_SCHEMES, parse

_COMMENT = re.compile(r".+, catalogue (?P<stamp>[0-9a-f]+)(?:, used (?P<used>\S+))?")


class DatabaseTemplate(Template):
    """A database with all that migrations make; its comment says what is known of it.

    Args:
        connection: to the maintenance database.
        server: URL of the server.
        fingerprint: of ``fingerprint.of_state``.
        run: id of the run that uses it.
        is_private: whether the template ends with the run, as nothing is to be kept.
    """

    def __init__(
        self, connection: Connection, server: str, fingerprint: str, run: str, *, is_private: bool
    ) -> None:
        super().__init__(Databases(connection), fingerprint, run, is_private=is_private)
        self._databases = Databases(connection)
        self._server = server

    def exists(self) -> bool:
        """Whether the template was made."""
        return self._described() is not None

    def state(self) -> State | None:
        """Return what is known of the template; None when it is not there."""
        described = self._described()
        if described is None:
            return None
        self._describe(described["stamp"])
        return State(described["stamp"])

    def is_intact(self, state: State) -> bool:
        """Assume so: to look would be to be in it, which keeps it from being copied."""
        del state
        return True

    def is_logged(self) -> bool:
        """Whether all rows of the template are in the server's log, so that a copy has them."""
        with closing(self._connect(self.name)) as connection:
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
        migrate(unfinished)
        state = State(self.stamp(unfinished))
        with self._databases.connection.transaction():
            self._databases.rename(unfinished, self.name, "")
            self._describe(state.stamp)
        self.clone(state, name)
        return ()

    def clone(self, state: State, name: str) -> None:
        """Copy the template."""
        self._databases.copy(self.name, name, self.run)
        self.places.register(name, self.registration(state.stamp))

    def stamp(self, name: str) -> str:
        """Return the stamp of a database's catalogue; that of a copy is the same."""
        with closing(self._connect(name)) as connection:
            return stamp.of_database(connection)

    def is_faithful(self, state: State, name: str) -> bool:
        """Whether the catalogue is the template's although it was written to: nobody knows."""
        del state, name
        return False

    def _connect(self, name: str) -> Connection:
        url = str(replace(parse(self._server, POSTGRES_SCHEMES), name=name))
        return connect(url, application="itkit stamp")

    def _described(self) -> re.Match[str] | None:
        return _COMMENT.fullmatch(self.places.described().get(self.name, ""))

    def _describe(self, catalogue: str) -> None:
        used = datetime.now(UTC).isoformat(timespec="seconds")
        ours = self.registration(catalogue)  # which counts as the run's own
        stays = f"{TEMPLATE_COMMENT}, catalogue {catalogue}, used {used}"
        self.places.register(self.name, ours if self.is_private else stays)


def templates(connection: Connection, server: str) -> list[Template]:
    """Return the templates that stay on a server."""
    return [
        DatabaseTemplate(connection, server, state, "", is_private=False)
        for name, comment in Databases(connection).described().items()
        if comment.startswith(TEMPLATE_COMMENT) and (state := names.fingerprint_of_schema(name))
    ]

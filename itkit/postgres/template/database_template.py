"""Templates that are databases: cloned by the server, file by file."""

import base64
import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime

from itkit.core import names
from itkit.core.urls import ServerURL
from itkit.postgres.server import catalog_version
from itkit.postgres.server.databases import Databases
from itkit.postgres.server.driver import Connection
from itkit.postgres.template.reads import Reads
from itkit.postgres.template.template import TEMPLATE_COMMENT, Migrated, Template, TemplateState

_COMMENT = re.compile(
    r".+, catalogue (?P<stamp>[0-9a-f]+)(?:, used (?P<used>\S+?))?(?:, reads (?P<reads>[\w+/=]+))?"
    r"(?:, needs (?P<needs>.+))?",
    re.DOTALL,
)


class DatabaseTemplate(Template):
    """A database with the result of the migrations; its comment has the known facts about it.

    Args:
        connection: a connection to the maintenance database.
        server: URL of the server.
        fingerprint: the fingerprint, as ``fingerprint.of_state`` returns it.
        run: id of the run that uses it.
        is_private: whether the template ends with the run, as nothing is kept.
        secret: the secret of the run, if its workers are to have roles of their own.
        suffix: the end of ``CREATE DATABASE``, as for ``Databases``.
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
        suffix: str = "",
    ) -> None:
        self._databases = Databases(connection, server, secret, suffix)
        super().__init__(self._databases, fingerprint, run, is_private=is_private)

    def exists(self) -> bool:
        """Return whether the template was made."""
        return self._described() is not None

    def state(self) -> TemplateState | None:
        """Return the known facts about the template; None if it does not exist."""
        described = self._described()
        if described is None:
            return None
        state = TemplateState(
            described["stamp"],
            needs=described["needs"] or "",
            reads=_unpacked(described["reads"] or ""),
        )
        self._describe(state)
        return state

    def reads(self) -> Reads:
        """Return the values that were read when the template was made."""
        described = self._described()
        return Reads.parse(_unpacked(described["reads"] or "") if described is not None else "")

    def is_intact(self, state: TemplateState) -> bool:
        """Return True without a check, as a connection to the template would prevent copies."""
        del state
        return True

    def is_logged(self) -> bool:
        """Return whether all rows of the template are logged, so that a copied cluster has them."""
        with self._databases.connect_to(self.name) as connection:
            return catalog_version.is_logged(connection)

    def unused_days(self) -> float:
        """Return the number of days since a run has used the template."""
        described = self._described()
        if described is None or described["used"] is None:
            return 0.0
        unused = datetime.now(UTC) - datetime.fromisoformat(described["used"])
        return unused.total_seconds() / 86400

    def make(self, name: str, migrate: Callable[[str], Migrated | None]) -> tuple[str, ...]:
        """Migrate in a database of the run, which becomes the template, and copy it."""
        unfinished = names.schema(self.run, f"t{int(self.fingerprint, 16)}")
        self._databases.drop(unfinished)  # another worker of this run has failed to migrate
        self._databases.create(unfinished, self.run)
        migrated = migrate(unfinished) or Migrated()
        reads = Reads(self.base, migrated.values).text
        state = TemplateState(self.stamp(unfinished), needs=migrated.needs, reads=reads)
        with self._databases.connection.transaction():
            self._databases.rename(unfinished, self.name, "")
            self._describe(state)
        self.clone(state, name)
        return ()

    def clone(self, state: TemplateState, name: str) -> None:
        """Copy the template."""
        has_role = bool(self._databases.secret) and not state.needs
        self._databases.copy(self.name, name, self.run, has_role=has_role)
        self.places.register(name, self.registration(state.stamp))

    def stamp(self, name: str) -> str:
        """Return the stamp of a database's catalogue; a copy has the same stamp."""
        with self._databases.connect_to(name) as connection:
            return catalog_version.of_database(connection)

    def is_faithful(self, state: TemplateState, name: str) -> bool:
        """Return False: no catalogue that was written to is compared with the template's."""
        del state, name
        return False

    def _described(self) -> re.Match[str] | None:
        return _COMMENT.fullmatch(self.places.described().get(self.name, ""))

    def _describe(self, state: TemplateState) -> None:
        used = datetime.now(UTC).isoformat(timespec="seconds")
        ours = self.registration(state.stamp)  # it counts as the run's own
        stays = f"{TEMPLATE_COMMENT}, catalogue {state.stamp}, used {used}"
        # A private template belongs to the run, and the comments of a run's places have no stamp.
        reads = f", reads {_packed(state.reads)}" if state.reads and not self.is_private else ""
        needs = f", needs {state.needs}" if state.needs else ""
        self.places.register(self.name, f"{ours if self.is_private else stays}{reads}{needs}")


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode())).decode()


def _unpacked(text: str) -> str:
    return zlib.decompress(base64.b64decode(text)).decode() if text else ""


def templates(connection: Connection, server: ServerURL) -> list[Template]:
    """Return the templates that stay on a server."""
    return [
        DatabaseTemplate(connection, server, state, "", is_private=False)
        for name, comment in Databases(connection, server).described().items()
        if comment.startswith(TEMPLATE_COMMENT) and (state := names.fingerprint_of_schema(name))
    ]

"""Who has opened which session of the database, to name those that a test has left behind."""

import re
import sys
import threading
from dataclasses import dataclass
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from itkit import sites

_ROOM: Final = 1000
# A name follows these directly; what follows other words may be a value.
_FIRST_WORDS: Final = re.compile(
    r"""\s*((INSERT\s+INTO|DELETE\s+FROM|UPDATE|TRUNCATE|LOCK|TABLE|COPY|(ALTER|DROP|CREATE)\s+TABLE)
    \s+(TABLE\s+|ONLY\s+)*("[^"]+"|\w+)(\.("[^"]+"|\w+))?|\w+)""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Opener:
    """Where a session was opened.

    Attributes:
        test: that was running.
        thread: name of the thread.
        namespace: the globals of the first module outside of libraries; None where there is none.
        line: of that module.
    """

    test: str
    thread: str
    namespace: dict[str, Any] | None
    line: int

    def __str__(self) -> str:
        place = ""
        if self.namespace is not None:
            place = f" at {sites.site(self.namespace, self.line)}"
        return f"opened by the thread {self.thread!r}{place}, during {self.test or 'no test'}"


class Sessions:
    """Remembers the opener of each of Django's sessions, by the id of its server process.

    Attributes:
        test: the test that is running now.
    """

    def __init__(self) -> None:
        self.test = ""
        self._openers: dict[int, Opener] = {}

    def install(self) -> None:
        """Listen to Django's signal that a connection was made."""
        connection_created.connect(self._remember)

    def uninstall(self) -> None:
        """Stop listening."""
        connection_created.disconnect(self._remember)

    def describe(self, pid: int, query: str = "") -> str:
        """Say who has opened a session, or else how its last query began.

        Args:
            pid: of its server process.
            query: of which nothing is told but its first words, as values may be secret.
        """
        if opener := self._openers.get(pid):
            return f"session {pid}, {opener}"
        found = _FIRST_WORDS.match(query)
        last = f"; its last query is {' '.join(found[0].split())} …" if found else ""
        return f"session {pid}, opened by no connection of Django in this process{last}"

    def _remember(self, connection: BaseDatabaseWrapper, **_: Any) -> None:
        if connection.vendor != "postgresql":
            return
        thread = threading.current_thread().name
        frame = sites.outside_of_libraries(sys._getframe(1))
        namespace, line = (frame.f_globals, frame.f_lineno) if frame is not None else (None, 0)
        opener = Opener(self.test, thread, namespace, line)
        self._openers[connection.connection.info.backend_pid] = opener
        if len(self._openers) > _ROOM:
            del self._openers[next(iter(self._openers))]

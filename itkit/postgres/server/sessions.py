"""Remembers who has opened the sessions of a database, to name those that a test has left."""

import sys
import threading
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from itkit.core import sqltext
from itkit.timeline import callsite

_ROOM: Final = 1000


@dataclass(frozen=True)
class Opener:
    """Who has opened a session, and where.

    Attributes:
        test: the test that was running.
        thread: name of the thread.
        namespace: the globals of the first module outside of libraries; None if there is none.
        line: the line of that module.
        is_main: whether the session belongs to the main thread, so that Django rolls it back.
    """

    test: str
    thread: str
    namespace: dict[str, Any] | None
    line: int
    is_main: bool

    def __str__(self) -> str:
        where = ""
        if self.namespace is not None:
            where = f" at {callsite.site(self.namespace, self.line)}"
        return f"opened by the thread {self.thread!r}{where}, during {self.test or 'no test'}"


class Sessions:
    """Remembers the opener of each of Django's sessions, by the id of its server process.

    Attributes:
        test: the name of the test that has begun last.
    """

    def __init__(self) -> None:
        self.test = ""
        self._openers: dict[int, Opener] = {}

    def install(self) -> None:
        """Listen to Django's signal for new connections."""
        connection_created.connect(self._remember)

    def begin_test(self, test: str) -> None:
        """Assign sessions that are opened from now on to a test, by its name."""
        self.test = test

    def uninstall(self) -> None:
        """Stop listening."""
        connection_created.disconnect(self._remember)

    def others(self, alive: Container[int]) -> list[str]:
        """Return the openers of sessions that could write and that Django does not roll back.

        Args:
            alive: ids of the server processes whose sessions are open. Sessions of the running test
                count even if they were closed.
        """
        return list(
            dict.fromkeys(
                str(opener)
                for pid, opener in self._openers.items()
                if not opener.is_main and (opener.test == self.test or pid in alive)
            )
        )

    def describe(self, pid: int, query: str = "") -> str:
        """Return a text about who has opened a session, or else how its last query begins.

        Args:
            pid: the id of its server process; 0 for a transaction without one, which the query
                has prepared.
            query: its last query; only its first words are shown, as values may be secret.
        """
        if not pid:
            return f"a transaction that was prepared, by {query}"
        if opener := self._openers.get(pid):
            return f"session {pid}, {opener}"
        shown = sqltext.read(query).summary  # without values: they may be secrets
        last = f"; its last query is {shown} …" if shown else ""
        return f"session {pid}, opened by no connection of Django in this process{last}"

    def _remember(self, connection: BaseDatabaseWrapper, **_: Any) -> None:
        if connection.vendor != "postgresql":
            return
        thread = threading.current_thread().name
        frame = callsite.outside_of_libraries(sys._getframe(1))
        namespace, line = (frame.f_globals, frame.f_lineno) if frame is not None else (None, 0)
        # A connection that was made by hand may have an alias that the settings do not have.
        is_main = threading.current_thread() is threading.main_thread() and any(
            one is connection for one in connections.all(initialized_only=True)
        )
        opener = Opener(self.test, thread, namespace, line, is_main)
        self._openers[connection.connection.info.backend_pid] = opener
        if len(self._openers) > _ROOM:
            del self._openers[next(iter(self._openers))]

"""Sessions of Django's connections that go on after these were closed, as if they were new.

Django closes all connections after a test that commits, and the next test connects anew. The server
starts a process for that, which reads the catalogue with its first statements: together a quarter
of the time of a small test. So the connection is closed, and its session kept: the server forgets
what the session has, and the next connection with the same parameters gets the session. All that
Django and the project do with a new connection is done with it.

A session is not kept where the server could remember something: a setting with a name of the
project's own, ``app.tenant``, is empty after a ``RESET``, and not null as in a new session.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from itkit.core.wrapping import wrapped
from itkit.postgres.server import driver
from itkit.timeline import core, sql

_KEPT: Final = "_itkit_kept_session"
_OPENING: Final = "_itkit_opening"


class _Opening(NamedTuple):
    """What a session was opened with.

    Attributes:
        raw: the driver's connection.
        parameters: those that Django has given.
        variables: those of the environment that libpq reads.
        process: the id of the process.
    """

    raw: Any
    parameters: Mapping[str, Any]
    variables: Mapping[str, str]
    process: int


class Session(NamedTuple):
    """A session that no connection has.

    Attributes:
        libpq: the session, as libpq knows it.
        opening: what it was opened with.
    """

    libpq: Any
    opening: _Opening

    def end(self) -> None:
        """End it, unless it belongs to the process that this one was forked from."""
        if self.opening.process == os.getpid():
            self.libpq.finish()

    def fits(self, opening: _Opening) -> bool:
        """Return whether a connection that is to be opened may have it."""
        return self.opening[1:] == opening[1:] and driver.is_quiet(self.libpq)


@contextmanager
def followed() -> Iterator[None]:
    """Give sessions that are kept to new connections, within a block.

    Django has no hook for how a connection is made. Checked with Django 5.2 and 6.1.
    """
    if not driver.is_psycopg3:
        yield
        return
    from django.db.backends.postgresql.base import DatabaseWrapper

    with wrapped(DatabaseWrapper, "get_new_connection", _connecting):
        yield


def take(connection: Any) -> Session | None:
    """Take the session of a connection of Django's, whose driver's connection is closed by that.

    Args:
        connection: a connection of Django's, in any state. One that is closed may still have a
            session that ``give`` has given to it.

    Returns:
        The session; None where there is none that can go on. Then nothing is changed.
    """
    given: Session | None = vars(connection).pop(_KEPT, None)
    if given is not None:
        return given
    opening: _Opening | None = vars(connection).get(_OPENING)
    if opening is None or opening.raw is not connection.connection:
        return None
    if opening.process != os.getpid() or vars(connection).get(sql.SETS_NAMES):
        return None
    libpq = driver.detached(opening.raw)
    return Session(libpq, opening) if libpq is not None else None


def give(connection: Any, session: Session) -> None:
    """Let a closed connection of Django's have a session when it connects."""
    drop(connection)
    vars(connection)[_KEPT] = session


def drop(connection: Any) -> None:
    """End the session that ``give`` has given to a connection, if it has one."""
    session: Session | None = vars(connection).pop(_KEPT, None)
    if session is not None:
        session.end()


def _connecting(connect: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a method that connects, or has Django's method take a session that is kept.

    Django asks ``connection.Database``, the module of the driver, for nothing but a connection
    there. Checked with Django 5.2 and 6.1.
    """

    def get_new_connection(connection: Any, conn_params: Any) -> Any:
        own = vars(connection)
        own.pop(sql.SETS_NAMES, None)
        session: Session | None = own.pop(_KEPT, None)
        opening = _Opening(None, dict(conn_params), _variables(), os.getpid())
        if session is not None and session.fits(opening):
            instead = SimpleNamespace(connect=partial(driver.attached, session.libpq))
            vars(connection)["Database"] = instead
            try:
                raw = connect(connection, conn_params)
            finally:
                del vars(connection)["Database"]
        else:
            if session is not None:
                session.end()
            raw = connect(connection, conn_params)
        if core.own_timeline().test:  # else nobody has looked at its statements
            own[_OPENING] = opening._replace(raw=raw)
        return raw

    return get_new_connection


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PG")}

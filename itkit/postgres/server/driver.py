"""The driver that Django uses, psycopg or psycopg2; only this module knows both.

Django uses psycopg 3 if it can be imported, and else psycopg2. itkit's own sessions use the same
driver, so that the tests of a project need no other driver than the project. itkit uses what both
drivers have in common directly: the names of the errors, ``connection.info``, cursors.
``Connection`` has the rest.

This module can be imported even if neither driver can, as a project without Postgres needs none.
"""

import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from types import ModuleType, SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from itkit.exceptions import ServiceUnavailableError
from itkit.postgres.server import sql

__all__ = [
    "Connection",
    "DataError",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "OperationalError",
    "ProgrammingError",
    "connect",
    "errors",
    "is_psycopg3",
    "missing",
    "misunderstood",
]

_LEVELS: Final = {
    1: "READ UNCOMMITTED",
    2: "READ COMMITTED",
    3: "REPEATABLE READ",
    4: "SERIALIZABLE",
}
_LEVELS_OF_PSYCOPG2: Final = {
    1: "READ COMMITTED",
    2: "REPEATABLE READ",
    3: "SERIALIZABLE",
    4: "READ UNCOMMITTED",
}
_IDLE: Final = 0  # the status of a session outside of any transaction, in libpq and both drivers
_CONNECTED: Final = 0  # the status of a session that is open
_DONE: Final = 1  # the status of the result of a statement without rows
_ROWS: Final = 2  # that of one with rows
_REMEMBERING: Final = rb"""
    SELECT FROM pg_catalog.pg_proc WHERE oid >= 16384 AND CASE
        WHEN prolang IN (12, 13) -- internal, C
            THEN probin ~ 'dblink|postgres_fdw|plperl|plpython|pltcl|plv8'
        ELSE prosrc ~* 'set_config|\mset\s+((session|local)\s+)?"?\w+"?\."?\w'
            OR prosqlbody::text LIKE '%:funcid 2078 %' -- set_config
            OR array_to_string(proconfig, ' ') ~ '(^| )[^= ]+\.'
    END LIMIT 1
"""
"""Finds a function of the database's own that can leave what ``DISCARD ALL`` does not take back.

These are settings with a name of the project's own, connections to other servers, and variables of
a language.
"""
_ERRORS: Final = tuple(name for name in __all__ if name.endswith("Error"))


class _NeverRaisedByPostgres(Exception):  # noqa: N818 - it stands for errors of all kinds
    """Replaces each error class if no driver is installed; nothing raises it."""


class _NoErrors(SimpleNamespace):
    def __getattr__(self, name: str) -> type[Exception]:
        return _NeverRaisedByPostgres


def _driver_of_django() -> ModuleType | None:
    try:
        taken = import_module("django.db.backends.postgresql.psycopg_any")
        return import_module("psycopg" if taken.is_psycopg3 else "psycopg2")
    except ImportError:
        return None


_driver = _driver_of_django()

if TYPE_CHECKING:
    from psycopg import (
        ConnectionInfo,
        DataError,
        Error,
        IntegrityError,
        InterfaceError,
        InternalError,
        OperationalError,
        ProgrammingError,
        errors,
    )
else:
    errors = _NoErrors() if _driver is None else import_module(f"{_driver.__name__}.errors")
    globals().update({name: getattr(_driver or errors, name) for name in _ERRORS})

is_psycopg3: Final = _driver is not None and _driver.__name__ == "psycopg"


class Connection:
    """A session: one of itkit's own, or that of a connection of Django's.

    Args:
        raw: the driver's connection.

    Attributes:
        raw: the driver's connection.
    """

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def info(self) -> "ConnectionInfo":
        """The session: ``dbname``, ``user``, ``server_version`` and others."""
        info: ConnectionInfo = self.raw.info
        return info

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return bool(self.raw.closed)

    @property
    def is_idle(self) -> bool:
        """Whether the session is in no transaction."""
        return bool(self.raw.info.transaction_status == _IDLE)

    def close(self) -> None:
        """End the session."""
        self.raw.close()

    def execute(
        self,
        query: str | sql.Composable,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a statement, and return the driver's cursor with its rows.

        If a text has several statements, psycopg shows the rows of the first one, and psycopg2
        those of the last one.

        Args:
            query: one statement; without parameters, several are possible.
            parameters: the values for each ``%s`` or ``%(name)s``; without parameters, each ``%``
                stays.

        Raises:
            Error: the server refuses the statement.
        """
        text = query.as_string() if isinstance(query, sql.Composable) else query
        if is_psycopg3:
            return self.raw.execute(text, parameters)
        try:
            # The project's own class of cursors may return rows in another form.
            cursor = self.raw.cursor(cursor_factory=import_module("psycopg2.extensions").cursor)
            cursor.execute(text, parameters)
        except InterfaceError as error:  # the same error as psycopg's for a session that has ended
            raise OperationalError(str(error)) from error
        return cursor

    def text_of(self, query: str) -> str:
        """Run a statement that yields one text, and return it.

        psycopg does this without a cursor, in a fifth of the time.

        Raises:
            Error: the server refuses the statement, or the session has ended.
        """
        if not is_psycopg3:
            [(text,)] = self.execute(query).fetchall()
            return str(text)
        found = self.raw.pgconn.exec_(query.encode()).get_value(0, 0)
        if found is None:
            raise OperationalError(self.raw.pgconn.get_error_message())
        return str(found.decode())

    @contextmanager
    def transaction(self, *, force_rollback: bool = False) -> Iterator[None]:
        """Run a block in a transaction; within another one, in a savepoint.

        Args:
            force_rollback: whether to roll it back at the end.
        """
        begin, commit, rollback = (
            ("BEGIN", "COMMIT", "ROLLBACK")
            if self.is_idle
            else ("SAVEPOINT itkit", "RELEASE itkit", "ROLLBACK TO itkit; RELEASE itkit")
        )
        self.execute(begin)
        try:
            yield
        except BaseException:
            with suppress(Error):  # a session that has ended was rolled back already
                self.execute(rollback)
            raise
        self.execute(rollback if force_rollback else commit)


def connect(url: str, **options: Any) -> Connection:
    """Connect to a database, in autocommit.

    Args:
        url: the URL of the database.
        options: parameters of libpq that are not in the URL, or that override those in the URL.

    Raises:
        OperationalError: the server does not answer, or the role may not connect.
        ServiceUnavailableError: neither psycopg nor psycopg2 is installed.
    """
    if _driver is None:
        raise ServiceUnavailableError(missing())
    if is_psycopg3:
        # Texts with several statements cannot be prepared.
        options.update(autocommit=True, prepare_threshold=None)
    raw = _driver.connect(url, **options)
    raw.autocommit = True
    return Connection(raw)


def detached(raw: Any) -> Any | None:
    """Take the session out of a connection of psycopg's, which is closed from then on.

    The server forgets what the session has: settings, locks, temporary tables, prepared statements.
    What a function of the database may have left beside these, it does not forget.

    psycopg has no interface for that. Checked with psycopg 3.1, 3.2 and 3.3.

    Args:
        raw: a connection of the driver's.

    Returns:
        The session, for ``attached``; None if it is in a transaction, has ended, belongs to a pool
        or cannot forget all. Then nothing is changed.
    """
    if not is_psycopg3 or _driver is None or type(raw) is not _driver.Connection:
        return None
    session = raw.pgconn
    if getattr(raw, "_pool", None) is not None or session.status != _CONNECTED:
        return None
    if session.transaction_status != _IDLE or session.pipeline_status:
        return None
    remembering = session.exec_(_REMEMBERING)
    if remembering.status != _ROWS or remembering.ntuples:
        return None
    if session.exec_(b"DISCARD ALL").status != _DONE:
        return None
    while session.notifies() is not None:  # of channels that it listens to no more
        pass
    raw.pgconn = _ended()
    return session


def attached(
    session: Any,
    *,
    autocommit: bool = False,
    prepare_threshold: int | None = 5,
    context: Any = None,
    row_factory: Any = None,
    cursor_factory: Any = None,
    **_: object,
) -> Any:
    """Return a new connection of psycopg's that has a session, as its ``connect()`` returns one.

    psycopg has no interface for that. Checked with psycopg 3.1, 3.2 and 3.3.

    Args:
        session: the session that ``detached`` has returned.
        autocommit: as ``connect()`` takes it, as is each of the following.
        prepare_threshold: as above.
        context: as above.
        row_factory: as above.
        cursor_factory: as above.
        _: parameters of libpq, with which the session was opened.
    """
    assert _driver is not None  # noqa: S101 - the session is of psycopg's
    made = _driver.Connection(session)
    if autocommit:
        made.autocommit = True
    if row_factory:
        made.row_factory = row_factory
    if cursor_factory:
        made.cursor_factory = cursor_factory
    if context:
        made._adapters = type(made.adapters)(context.adapters)
    made.prepare_threshold = prepare_threshold
    return made


def is_quiet(session: Any) -> bool:
    """Return whether a session that ``detached`` has returned is open, and has received nothing.

    Before a server ends a session, it sends the reason.
    """
    if session.status != _CONNECTED:
        return False
    poll = select.poll()
    poll.register(session.socket, select.POLLIN)
    return not poll.poll(0)


@cache
def _ended() -> Any:
    """Return a session of libpq's that has ended, which all closed connections may share."""
    session = import_module("psycopg.pq").PGconn.connect_start(b"host=/nowhere")
    session.finish()
    return session


def misunderstood(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each of the ``OPTIONS`` that is meant for another driver, with its remedy.

    Args:
        options: the options of an entry of ``DATABASES``.
    """
    level, factory = options.get("isolation_level"), options.get("cursor_factory")
    if type(level) is int and is_psycopg3:
        here = _LEVELS.get(level, f"no level ({level})")
        there = _LEVELS_OF_PSYCOPG2.get(level, f"no level ({level})")
        message = (
            f'"isolation_level": {level}, which is {here} to psycopg, Django\'s driver here, and'
            f" {there} to psycopg2."
        )
        yield (
            message,
            (
                "Write IsolationLevel.… of django.db.backends.postgresql.psycopg_any, which has the"
                " levels of the driver that Django uses, or have one driver everywhere."
            ),
        )
    if getattr(factory, "__module__", "").startswith("psycopg2") and is_psycopg3:
        message = (
            f'"cursor_factory": {getattr(factory, "__name__", factory)} of psycopg2, by which'
            " psycopg, Django's driver here, can make no cursor."
        )
        yield (
            message,
            ("Uninstall psycopg where production has psycopg2, or take a cursor of psycopg."),
        )


def missing() -> str:
    """Return a message if no driver can be imported; an empty text if one can."""
    if _driver is not None:
        return ""
    reasons = "; ".join(map(_reason, ("psycopg", "psycopg2")))
    return (
        f"DATABASES names Postgres, and Python can import no driver for it ({reasons}):"
        " pip install 'django-itkit[psycopg]', or the driver that the project uses"
    )


def _reason(name: str) -> str:
    try:
        import_module(name)
    except ImportError as error:
        return f"{name}: {' '.join(str(error).split())}"
    return f"{name}: it is installed only in part"

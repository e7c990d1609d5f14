"""All advisory locks of itkit: those that runs wait for, and those that they only try.

A lock consists of two numbers; the first one is its kind. In the order in which they are taken:

- the lock of a run, held as long as the run lives. Others only try it, to see whether the run is
  dead;
- the lock of a template, exclusive while it is made or dropped, and shared while clones are made of
  it. If several runs start at once, one migrates and the others wait for it;
- the lock of the set-up, for creating or dropping objects that all runs share in a database;
- the lock of a claim, for the short transaction that takes over a kept schema.

All locks end with their session, so nothing of a killed run stays locked.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from itkit.postgres.server import sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

_RUN = 0x69746B74  # "itkt"
_TEMPLATE = _RUN + 1
_CLAIM = _RUN + 2
_SETUP = 0  # the second number instead of a run's id; no run has this id


def hold_run(connection: Connection, run: str) -> None:
    """Mark the run as alive until this connection closes."""
    connection.execute("SELECT pg_advisory_lock(%s, %s)", [_RUN, _number(run)])


@contextmanager
def dead_run(connection: Connection, run: str) -> Iterator[bool]:
    """Yield whether a run is dead; within the block, nobody else in this database finds it dead.

    The run may hold its lock in another database, where its settings name another one than those of
    this run and neither may enter the server's usual one.
    """
    with _tried(connection, [_RUN, _number(run)]) as is_free:
        yield is_free and not _is_held_elsewhere(connection, run)


def _is_held_elsewhere(connection: Connection, run: str) -> bool:
    held: bool = value(
        connection,
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND classid = %s AND objid = %s::bigint::oid AND pid <> pg_backend_pid())",
        [_RUN, _number(run) % 2**32],
    )
    return held


def other_runs_alive(connection: Connection) -> bool:
    """Return whether any other run holds its lock in this database."""
    found: bool = value(
        connection,
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND classid = %s AND objid <> %s AND pid <> pg_backend_pid() AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database()))",
        [_RUN, _SETUP],
    )
    return found


def setup(connection: Connection) -> AbstractContextManager[None]:
    """Keep other runs from creating or dropping shared objects in this database, for a block."""
    return _held(connection, [_RUN, _SETUP])


def template(
    connection: Connection, fingerprint: str, *, shared: bool
) -> AbstractContextManager[None]:
    """Wait for a template's lock and hold it for a block."""
    return _held(connection, [_TEMPLATE, _number(fingerprint)], shared=shared)


def idle_template(connection: Connection, fingerprint: str) -> AbstractContextManager[bool]:
    """Return a block that gets whether nobody makes or clones a template, and keeps it so."""
    return _tried(connection, [_TEMPLATE, _number(fingerprint)])


@contextmanager
def claim(connection: Connection, fingerprint: str) -> Iterator[None]:
    """Hold the lock of a claim for a fingerprint during one transaction."""
    with connection.transaction():
        lock = [_CLAIM, _number(fingerprint)]
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", lock)
        yield


@contextmanager
def _held(connection: Connection, lock: list[int], *, shared: bool = False) -> Iterator[None]:
    """Wait for a lock and hold it for a block."""
    kind = sql.SQL("_shared" if shared else "")
    connection.execute(sql.SQL("SELECT pg_advisory_lock{}(%s, %s)").format(kind), lock)
    try:
        yield
    finally:
        connection.execute(sql.SQL("SELECT pg_advisory_unlock{}(%s, %s)").format(kind), lock)


@contextmanager
def _tried(connection: Connection, lock: list[int]) -> Iterator[bool]:
    """Yield whether nobody had a lock; if so, hold it for the block."""
    is_free = bool(value(connection, "SELECT pg_try_advisory_lock(%s, %s)", lock))
    try:
        yield is_free
    finally:
        if is_free:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", lock)


def _number(digits: str) -> int:
    """Return the first eight of some hex digits as the signed number that a lock needs."""
    number = int(digits[:8], 16)
    return number - 2**32 if number >= 2**31 else number

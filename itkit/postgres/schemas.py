"""Our schemas in one database: create, drop, and find those that a dead run has left.

The registry of runs lives where it cannot disagree with the schemas: each carries a comment that
names its run, and each run holds an advisory lock of its id for as long as it lives. A schema is
dropped only if its name is ours, its comment agrees, we own it, and its run's lock is free.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from itkit import names
from itkit.postgres.server import Connection, value

_LOCK_CLASS = 0x69746B74  # "itkt": the first half of all our advisory locks
_SETUP_LOCK = 0  # the second half, for creating what all runs share; no run has this id


def comment(run: str) -> str:
    """Return the comment that registers a schema as one of a run's."""
    return f"itkit run {run}: dropped when the run ends"


def create(connection: Connection, schema: str, run: str) -> None:
    """Create an empty schema and register it, both or neither."""
    with connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        connection.execute(
            sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema), comment(run))
        )


def drop(connection: Connection, schema: str) -> None:
    """Drop one of our schemas with all that is in it; nothing happens when it is gone."""
    if names.run_of_schema(schema) is None:
        raise ValueError(f"{schema!r} is not a schema of itkit's")
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def drop_of_run(connection: Connection, run: str) -> list[str]:
    """Drop all schemas of one run, each in its own transaction, and return their names.

    A test may have left a connection with an open transaction, whose locks would block the drop
    for ever, so the backends of this run are ended first: only those that carry its name.
    """
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE %s AND datname = current_database()",
        [application_name(run, "%")],
    )
    ours = [schema for schema, owner in registered(connection) if owner == run]
    for schema in ours:
        drop(connection, schema)
    return ours


def drop_stale(connection: Connection) -> list[str]:
    """Drop the schemas of dead runs and return their names.

    Trying the lock without waiting makes two sweeps at once safe: one gets it, the other goes on.
    """
    dropped: list[str] = []
    for run in sorted({run for _, run in registered(connection)}):
        if _try_lock(connection, run):
            dropped += drop_of_run(connection, run)
            unlock_run(connection, run)
    return dropped


def registered(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield the name and the run of each schema that is ours by name, comment and owner."""
    rows = connection.execute(
        "SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace"
        " WHERE nspname LIKE 'itkit\\_%%' AND pg_get_userbyid(nspowner) = current_user"
        " ORDER BY nspname",
        [],
    ).fetchall()
    for name, description in rows:
        run = names.run_of_schema(name)
        if run is not None and description == comment(run):
            yield name, run


def end_open_transactions(connection: Connection, application: str) -> int:
    """End the sessions of one name that sit in a transaction; return how many there were."""
    ended = connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
        " AND datname = current_database() AND state LIKE 'idle in transaction%%'",
        [application],
    ).fetchall()
    return len(ended)


def application_name(run: str, worker: str) -> str:
    """Return the ``application_name`` of the connections of a worker's tests."""
    return f"itkit-{run}-{worker}"


def lock_run(connection: Connection, run: str) -> None:
    """Mark the run as alive until this connection closes."""
    connection.execute("SELECT pg_advisory_lock(%s, %s)", [_LOCK_CLASS, _lock_number(run)])


def unlock_run(connection: Connection, run: str) -> None:
    """Give back the lock of a run."""
    connection.execute("SELECT pg_advisory_unlock(%s, %s)", [_LOCK_CLASS, _lock_number(run)])


@contextmanager
def alone(connection: Connection) -> Iterator[None]:
    """Keep other runs from creating or dropping what all share in this database, for a block."""
    lock = [_LOCK_CLASS, _SETUP_LOCK]
    connection.execute("SELECT pg_advisory_lock(%s, %s)", lock)
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s, %s)", lock)


def other_runs_alive(connection: Connection) -> bool:
    """Whether any other run holds its lock in this database."""
    found: bool = value(
        connection,
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND classid = %s AND objid <> %s AND pid <> pg_backend_pid() AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database()))",
        [_LOCK_CLASS, _SETUP_LOCK],
    )
    return found


def _try_lock(connection: Connection, run: str) -> bool:
    lock = [_LOCK_CLASS, _lock_number(run)]
    taken: bool = value(connection, "SELECT pg_try_advisory_lock(%s, %s)", lock)
    return taken


def _lock_number(run: str) -> int:
    """Return the run id as the signed 32-bit number that the lock functions take."""
    number = int(run, 16)
    return number - 2**32 if number >= 2**31 else number

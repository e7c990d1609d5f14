"""Take a schema back to what its migrations made of it, after tests that have committed.

A glance tells whether anything can have changed at all. If so, a second round trip finds out what
has, and a third one takes that back, if there is anything. Two connections of its own do it, so it
does not matter in which state a test left Django's: the first keeps prepared statements, whose
plans it would lose by changing ``session_replication_role``; the second has that role where it
may, and so deletes without a look at foreign keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, LiteralString

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql
from psycopg.pq import TransactionStatus

from itkit import boundary, names
from itkit.exceptions import IsolationError, OpenTransactionError
from itkit.postgres import seeds
from itkit.postgres.glance import Glances, LeftOpen, Snapshot
from itkit.postgres.plan import CATALOGUE_CHANGED, Plan
from itkit.postgres.server import Connection, connect, value
from itkit.postgres.sessions import Sessions

_APPLICATION: Final = "itkit reset"
_PARAMETERS_HAVE_GRANTS: Final = 150000
_IS_SUPERUSER: Final = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
_MAY_BE_REPLICA: Final = (
    "SELECT rolsuper OR has_parameter_privilege('session_replication_role', 'SET')"
    " FROM pg_roles WHERE rolname = current_user"
)
_LEFT_OPEN: Final = (
    "The test has left sessions with an open transaction, which itkit has ended. Close them where"
    " they are opened, django.db.connections.close_all() at the end of a thread, and wait for what"
    " they do."
)
_BLOCKED: Final = (
    "The schema {} could not be reset: for {} seconds, another session has held a lock on one of"
    " its tables:\n{}\nEnd it. If it is one of the test's own, let the test wait for what it does;"
    " if it is not, keep it out of schemas whose names begin with itkit_."
)
_FAILED: Final = (
    "The schema {} could not be reset: {}. If a test has altered a table or its constraints, let it"
    " take that back itself."
)
_BLOCKERS: Final = """
    SELECT DISTINCT pid, application_name, usename, coalesce(state, 'of another role'),
        relname::text FROM pg_locks
    JOIN pg_class ON pg_class.oid = relation JOIN pg_stat_activity USING (pid)
    WHERE granted AND relkind IN ('r', 'p', 'm', 'S') AND relnamespace = {}::regnamespace
        AND coalesce(backend_type, 'client backend') = 'client backend' -- null: another role's
        AND application_name <> {} ORDER BY pid
"""


@dataclass(frozen=True)
class _Opened:
    """The two connections, and what was prepared on the first."""

    detector: Connection
    restorer: Connection
    glances: Glances
    is_replica: bool


@dataclass(frozen=True)
class _Clean:
    """When nothing was left to be reset.

    Attributes:
        snapshot: of a moment after the tests.
        restored: id of the only transaction since then, if there was one.
    """

    snapshot: Snapshot
    restored: int | None


class Reset:
    """Resets one schema; what to do is read from the catalogue at the first reset.

    Args:
        url: of the database.
        schema: of the worker.
        seeds: schema with the rows, sequences and populated views that come back, under the same
            names: the template that the worker's is a clone of, or what ``seeds.keep`` has made.
        application: name of the sessions of the worker's tests.
        sessions: who has opened these.
        patience: seconds to wait for a lock.
        is_whole: whether the whole database is the worker's: all of its schemas are reset, by what
            ``seeds.keep_database`` has made, and those that tests have made are dropped. Then
            ``schema`` is the one that comes first on the search_path.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str,
        seeds: str,
        application: str,
        sessions: Sessions,
        patience: int = 20,
        is_whole: bool = False,
    ) -> None:
        self._url = url
        self._schema = schema
        self._seeds = seeds
        self._application = application
        self._sessions = sessions
        self._patience = patience
        self._is_whole = is_whole
        self._opened: _Opened | None = None
        self._plan: Plan | None = None
        self._clean: _Clean | None = None

    def run(self) -> bool:
        """Reset the schema.

        That a test has left sessions with an open transaction, which are ended, is kept for it.

        Returns:
            Whether there was anything to take back.

        Raises:
            IsolationError: something holds a lock on a table, or the rows that come back do not fit
                into what a test has made of one.
        """
        left_open: list[LeftOpen] = []
        try:
            return self._reset_or_try_again(left_open)
        except psycopg.errors.LockNotAvailable as error:
            raise self._blocked() from error
        except (psycopg.ProgrammingError, psycopg.IntegrityError, psycopg.DataError) as error:
            reason = error.diag.message_primary or str(error)
            raise IsolationError(_FAILED.format(self._schema, reason)) from error
        finally:
            self._tell(left_open)

    def renew_sequences(self) -> None:
        """Take back what tests that were rolled back have done to sequences.

        Nothing happens where somebody has committed rows meanwhile, or has altered a table.
        """
        try:
            opened = self._open()
            plan = self._plan or self._new_plan(opened)
            _restore(opened, plan, dict.fromkeys(plan.moved_sequences(), False))
        except psycopg.Error:
            self.close()  # the next reset begins anew

    def close(self) -> None:
        """Close the reset's own connections, and forget what was read by them."""
        opened, self._opened = self._opened, None
        self._plan = self._clean = None
        if opened is not None:
            opened.detector.close()
            opened.restorer.close()

    def _reset_or_try_again(self, left_open: list[LeftOpen]) -> bool:
        try:
            return self._reset(left_open)
        except psycopg.errors.LockNotAvailable:
            ended = self._open().glances.end_busy()
            if not ended:
                raise  # it is somebody else's, who would be waited for as long again
            left_open += ended
            self.close()
            return self._reset_all(left_open)
        except psycopg.Error:
            # A test has dropped or altered something or emptied a view, which cannot be read then,
            # or the server has ended our sessions.
            self.close()
            return self._reset_all(left_open)

    def _reset(self, left_open: list[LeftOpen]) -> bool:
        """Reset what has changed, if anything; add the sessions that were ended to a list."""
        opened = self._open()
        # These first: they may hold the locks that all else would wait for.
        snapshot, ended = opened.glances.take()
        left_open += ended
        if not ended and self._is_clean(snapshot):
            return False
        self._clean = _Clean(snapshot, self._reset_changed(opened))
        return self._clean.restored is not None

    def _reset_all(self, left_open: list[LeftOpen]) -> bool:
        """Reset without a look at what has changed."""
        opened = self._open()
        snapshot, ended = opened.glances.take()
        left_open += ended
        plan = self._new_plan(opened)
        self._clean = _Clean(
            snapshot, _restore(opened, plan, dict.fromkeys(plan.everything, False))
        )
        return True

    def _is_clean(self, now: Snapshot) -> bool:
        if self._clean is None or self._plan is None:
            return False
        if self._clean.snapshot.differs(now, self._clean.restored):
            return False
        return not self._plan.has_changed_untraced()

    def _reset_changed(self, opened: _Opened) -> int | None:
        """Reset what has changed, and return the id of the transaction if there was one."""
        if self._plan is not None:
            changed = self._plan.detect()
            if CATALOGUE_CHANGED not in changed:
                return _restore(opened, self._plan, changed)
            self._plan.forget()
        plan = self._new_plan(opened)
        return _restore(opened, plan, plan.detect() | dict.fromkeys(plan.sequences, False))

    def _new_plan(self, opened: _Opened) -> Plan:
        schemas = {self._schema: self._seeds}
        made_by_tests: LiteralString = "false"
        if self._is_whole:
            schemas, made_by_tests = seeds.of_database(opened.detector), seeds.OF_TESTS
            seeds.drop_others(opened.detector, schemas)
        self._plan = Plan(opened.detector, schemas, made_by_tests, is_replica=opened.is_replica)
        return self._plan

    def _open(self) -> _Opened:
        if self._opened is None:
            detector = self._connect("-c plan_cache_mode=force_generic_plan")
            is_replica = _may_be_replica(detector)
            restorer = self._connect("-c session_replication_role=replica" if is_replica else "")
            glances = Glances(detector, self._application)
            self._opened = _Opened(detector, restorer, glances, is_replica)
        return self._opened

    def _connect(self, options: str) -> Connection:
        path = f"{self._schema},{names.EXTENSION_SCHEMA}"
        # Rather fail than miss rows that a policy hides.
        options = f"-c row_security=off -c lock_timeout={self._patience}s {options}"
        return connect(self._url, application=_APPLICATION, search_path=path, options=options)

    def _tell(self, left_open: list[LeftOpen]) -> None:
        if left_open:
            found = "\n".join(f"  {self._sessions.describe(*session)}" for session in left_open)
            error = OpenTransactionError(f"{_LEFT_OPEN}\n{found}")
            boundary.keep_for(self._sessions.test, error)

    def _blocked(self) -> IsolationError:
        schema = sql.Identifier(self._schema).as_string()
        query = sql.SQL(_BLOCKERS).format(schema, _APPLICATION)
        rows = self._open().detector.execute(query).fetchall()
        found = [self._blocker(*row) for row in rows] or ["  (it has ended by now)"]
        return IsolationError(_BLOCKED.format(self._schema, self._patience, "\n".join(found)))

    def _blocker(self, pid: int, application: str, user: str, state: str, table: str) -> str:
        if application == self._application:
            session = self._sessions.describe(pid)
        else:
            session = f"session {pid} of {application or 'no application_name'}"
        return f"  {session} (user {user}, {state}) on {table}"


def _restore(opened: _Opened, plan: Plan, changed: Mapping[int, bool]) -> int | None:
    """Take back what has changed; return the id of the transaction if there was one."""
    return plan.restore(changed, opened.restorer) if changed else None


def _may_be_replica(connection: Connection) -> bool:
    has_grants = connection.info.server_version >= _PARAMETERS_HAVE_GRANTS
    return bool(value(connection, _MAY_BE_REPLICA if has_grants else _IS_SUPERUSER))


def end_transaction(django: BaseDatabaseWrapper) -> None:
    """Give Django a new connection where a test has left it inside of a transaction."""
    raw: Connection | None = django.connection
    if raw is None or raw.closed:
        return
    if django.in_atomic_block or raw.info.transaction_status != TransactionStatus.IDLE:
        django.close()
        django.connect()  # which resets what Django knows of the transaction, as close() does not

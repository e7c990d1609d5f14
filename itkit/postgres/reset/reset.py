"""Resets a schema to the result of its migrations, after tests that have committed.

The change probe shows whether anything can have changed at all. If so, a second round trip finds
the changes, and a third one takes them back if there are any. A reset has two connections of its
own, so it does not depend on the state in which a test left Django's. The first one keeps prepared
statements, whose plans it would lose by changing ``session_replication_role``. The second one sets
this role to ``replica`` if it may, and so deletes without checks of foreign keys.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from django.db.backends.base.base import BaseDatabaseWrapper

from itkit.core import names
from itkit.exceptions import IsolationError, OpenTransactionError
from itkit.postgres.reset import contents, differences, initial_rows, levels
from itkit.postgres.reset.differences import TableDifference
from itkit.postgres.reset.items import Item, ResetTable, SequenceValue, View, label
from itkit.postgres.reset.levels import PassedOver, RowLevel
from itkit.postgres.reset.plan import STRUCTURE_CHANGED, ResetPlan
from itkit.postgres.reset.probe import ChangeProbe, LeftOpen, Look, TransactionSnapshot
from itkit.postgres.reset.structure import Structure
from itkit.postgres.server import driver, sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import answers, connect, value
from itkit.postgres.server.sessions import Sessions
from itkit.timeline import core

_APPLICATION: Final = "itkit reset"
_SHORT_PATIENCE: Final = "200ms"
_LONGEST_LOOK: Final = "2s"
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
_NO_LEVEL: Final = (
    "What was committed before the tests cannot be kept for them in {}: {}. Create it in each test,"
    " or in a migration."
)
_MAY_CREATE_TEMPORARY: Final = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
_OWN_TYPES: Final = """
    SELECT EXISTS (SELECT FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
        WHERE attrelid = ANY ({}::regclass[]) AND typnamespace = {}::regnamespace)
"""
_BLOCKERS: Final = """
    SELECT DISTINCT pid, application_name, usename, coalesce(state, 'of another role'),
        relname::text FROM pg_locks
    JOIN pg_class ON pg_class.oid = relation JOIN pg_stat_activity USING (pid)
    WHERE granted AND relkind IN ('r', 'p', 'm', 'S') AND relnamespace = {}::regnamespace
        AND coalesce(backend_type, 'client backend') = 'client backend' -- null: another role's
        AND application_name <> {} ORDER BY pid
"""


class _Opened:
    """The two connections, and the probe that was prepared on the first one.

    Args:
        detector: the first connection, which is open.
        probe: the probe that was prepared on the detector.
        is_replica: whether the second connection has the role ``replica``.
        restorer: the second connection, if it is open already.
        connect: opens the second connection when it is first used.
    """

    def __init__(
        self,
        detector: Connection,
        probe: ChangeProbe,
        *,
        is_replica: bool,
        restorer: Connection | None,
        connect: Callable[[], Connection],
    ) -> None:
        self.detector = detector
        self.probe = probe
        self.is_replica = is_replica
        self._restorer = restorer
        self._connect = connect

    @property
    def restorer(self) -> Connection:
        """The second connection."""
        if self._restorer is None:
            self._restorer = self._connect()
        return self._restorer

    def close(self, *, but_restorer: bool = False) -> None:
        """Close the connections."""
        self.detector.close()
        if self._restorer is not None and not but_restorer:
            self._restorer.close()


@dataclass(frozen=True)
class _Clean:
    """The last moment at which nothing had to be reset.

    Attributes:
        snapshot: the snapshot at that moment.
        restored: the id of our own transaction since then, if there was one.
    """

    snapshot: TransactionSnapshot
    restored: int | None

    @property
    def known(self) -> tuple[int, ...]:
        """Our own transactions after the snapshot."""
        return (self.restored,) if self.restored is not None else ()


class Reset:
    """Resets one schema, by a plan that is read from the catalogue when it is first needed.

    Args:
        url: the URL of the database.
        schema: the schema of the worker.
        initial: the schema with the initial rows, sequences and populated views, under the same
            names: the template from which the worker's schema was cloned, or the schema that
            ``initial_rows.keep`` has made.
        application: name of the sessions of the worker's tests.
        sessions: knows which lines have opened the sessions of the tests.
        patience: seconds to wait for a lock.
        is_whole: whether the whole database belongs to the worker. If so, all of its schemas are
            reset, from the schemas that ``initial_rows.keep_database`` has made, and schemas that
            tests have made are dropped. ``schema`` is the first one on the search_path in this
            case.
        renew: makes the place anew from its template, and returns whether this was possible.
        note: gets a change of a test to the structure, and what was done about it, in words.
        store: returns a schema for the rows of levels, if the role may not create temporary tables.
        beside: the schemas of extensions that follow ``itkit_ext`` on the search_path.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str,
        initial: str,
        application: str,
        sessions: Sessions,
        patience: float = 20,
        is_whole: bool = False,
        renew: Callable[[], bool] = lambda: False,
        note: Callable[[str, str], object] = lambda _what, _done: None,
        store: Callable[[], str] = lambda: "pg_temp",
        beside: Sequence[str] = (),
    ) -> None:
        self._url = url
        self._schema = schema
        self._initial = initial
        self._application = application
        self._sessions = sessions
        self._patience = patience
        self._is_whole = is_whole
        self._renew = renew
        self._note = note
        self._store = store
        self._structure: Structure | None = None
        self._marked: TransactionSnapshot | None = None
        self._passed_over = PassedOver()
        self._path = ",".join([schema, names.EXTENSION_SCHEMA, *beside])
        self._opened: _Opened | None = None
        self._kept_restorer: Connection | None = None
        self._levels: list[RowLevel] = []
        self._plans = 0
        self._clean: _Clean | None = None
        self._begun: TransactionSnapshot | None = None
        self._seen: _Clean | None = None
        self._is_blocked = False
        self._is_altered = False
        self._left: list[str] = []  # changes of the structure, until the end of a class
        self._own: set[int] = set()  # our own transactions since the last look

    @property
    def has_begun(self) -> bool:
        """Whether the state before the tests was noted."""
        return self._seen is not None

    def begin(self) -> None:
        """Note that no test has begun yet, and that there are only initial rows."""
        opened = self._open()
        self._structure = Structure.of(opened.detector, self._watched(self._schemas(opened)))
        snapshot = opened.probe.snapshot()
        self._begun = snapshot
        self._seen = _Clean(snapshot, None)

    def prepare(self) -> None:
        """Read the plan, before a test that commits can change the structure.

        After such a test the server may accept no further session.
        """
        opened = self._open()
        self._top(opened)
        _ = opened.restorer

    def pass_over_from(self) -> None:
        """Leave transactions between now and ``pass_over`` out of the next level."""
        self._marked = self._open().probe.snapshot()

    def pass_over(self) -> None:
        """End the part that ``pass_over_from`` has begun."""
        marked, self._marked = self._marked, None
        if marked is None:
            return
        opened = self._open()
        done = marked.done_until(opened.probe.snapshot())
        if transactions := opened.probe.committed(done):
            changed = self._detect_if_free(opened)
            left: dict[int, int] = {}
            if changed:
                left = self._levels[-1].plan.initial_left(changed.keys() - {STRUCTURE_CHANGED})
            self._passed_over = PassedOver(frozenset(transactions), left)

    def run(self) -> bool:
        """Reset the schema.

        Sessions with an open transaction are ended, and reported as a failure of the test.

        Returns:
            Whether there was any change to take back.

        Raises:
            IsolationError: a session holds a lock on a table, or the initial rows do not fit into a
                table that a test has altered.
        """
        left_open: list[LeftOpen] = []
        self._left = []
        try:
            return self._reset_or_try_again(left_open)
        except driver.errors.LockNotAvailable as error:
            raise self._blocked() from error
        except (driver.ProgrammingError, driver.IntegrityError, driver.DataError) as error:
            reason = error.diag.message_primary or str(error)
            raise IsolationError(_FAILED.format(self._schema, reason)) from error
        finally:
            self._report_left_open(left_open)

    def renew_sequences(self) -> None:
        """Set sequences back that rolled-back tests have advanced.

        Do nothing if somebody has committed rows meanwhile or altered a table.
        """
        try:
            opened = self._open()
            plan = self._top(opened)
            self._restore(opened, dict.fromkeys(plan.moved_sequences(), False))
        except driver.Error:
            self._close_detector()  # the next reset begins anew

    def look(self) -> Look:
        """Look at the server, for the resets of all of its databases."""
        return self._open().probe.look()

    def take_back(self, look: Callable[[], Look] | None = None) -> list[str]:
        """Take back what sessions have committed during a test that was rolled back.

        Django's own session may still be in the transaction of a class, so this does not wait for
        locks. If that transaction holds one on a changed table, the change is taken back after the
        class. So are changes of objects that migrations made; those that were added are dropped.
        Sequences keep their values, as rows of the class may have taken numbers from them; one that
        was set back, and would yield numbers of initial rows, gets its initial value.

        Args:
            look: looks at the server, once for the resets of all aliases; by default ``self.look``.

        Returns:
            The names of the tables that were written to, and of objects that were added, dropped or
            altered.
        """
        if self._seen is None:
            self.begin()
            return []
        seen = (look or self.look)()
        if seen.snapshot is self._seen.snapshot or self._is_blocked:
            return []
        before, self._seen = self._seen, _Clean(seen.snapshot, None)
        if not self._committed(before, seen):
            return []
        try:
            return self._take_back()
        except driver.OperationalError:
            # A view was left unpopulated, so that it cannot be read.
            self._close_detector()
            return list(dict.fromkeys([*self._populate(), *self._take_back()]))
        except driver.Error:
            # A table was dropped, or altered so that its rows cannot be compared.
            self._close_detector()
            return self._take_back_structure(["something that a table has was dropped or altered"])

    def _take_back(self) -> list[str]:
        found: list[str] = []
        changed = self._detect_if_free(self._open())
        if STRUCTURE_CHANGED in changed:
            added, changes = self._drop_added_if_free(self._open())
            for what in added:
                self._note(what, "was created, and has been dropped")
            found += [
                *(what.rpartition(" ")[2] for what in added),
                *self._take_back_structure(changes),
            ]
            changed = self._detect_if_free(self._open())
        if changed and self._levels:
            opened = self._open()
            plan = self._levels[-1].plan
            rows = {n: kept for n, kept in changed.items() if n in plan.everything - plan.sequences}
            behind = [
                number
                for number in changed.keys() & plan.sequences
                if isinstance(item := plan.items[number], SequenceValue)
                and value(opened.detector, item.is_behind)
            ]
            self._restore_if_free(opened, rows | dict.fromkeys(behind, False))
            found += [label(plan.items[number]) for number in rows]
        return list(dict.fromkeys(found))

    def _take_back_structure(self, changes: list[str]) -> list[str]:
        """Take back changes of what migrations made, or leave them until no test needs its session.

        Returns:
            What the warning about the test names; empty if an earlier one has named the changes.
        """
        if not changes or changes == self._left:
            return []
        if self._open().probe.is_busy():
            self._left = changes
            for what in changes:
                self._note(what, "which stays so in the other tests of its class")
            return ["the structure of the database (taken back after its class)"]
        if not self._has_renewed(changes):
            self._accept_structure()
        return ["the structure of the database"]

    def _accept_structure(self) -> None:
        self._structure = None
        self._read_anew(self._open())

    def _populate(self) -> list[str]:
        """Populate the views that a test has left without data, and return their names."""
        opened = self._open()
        plan = self._top(opened)
        query = sql.SQL("SELECT relispopulated FROM pg_class WHERE oid = {}")
        views = [
            number
            for number, item in enumerate(plan.items)
            if isinstance(item, View)
            and item.initial_count is not None
            and not value(opened.detector, query.format(item.oid))
        ]
        self._restore_if_free(opened, dict.fromkeys(views, False))
        return [label(plan.items[number]) for number in views]

    def differences(self) -> list[TableDifference]:
        """Return the rows that differ from those before the test, as our own session sees them.

        A table that is locked, or takes too long, ends the list.
        """
        found: list[TableDifference] = []
        opened = self._open()
        opened.detector.execute(
            f"SET lock_timeout = '{_SHORT_PATIENCE}'; SET statement_timeout = '{_LONGEST_LOOK}'"
        )
        try:
            plan = self._top(opened)
            changed = sorted(plan.detect().keys() - {STRUCTURE_CHANGED})
            items = [plan.items[number] for number in changed]
            tables = (item for item in items if isinstance(item, ResetTable))
            found += (
                differences.of(opened.detector, table) for table in tables if not table.hides_rows
            )
        except driver.Error:
            pass  # report what was read, if a test has altered, locked or filled a table
        finally:
            if not opened.detector.closed:
                opened.detector.execute(
                    f"SET lock_timeout = '{self._patience}s'; RESET statement_timeout"
                )
        return [table for table in found if table.rows]

    def sessions(self) -> set[int]:
        """Return the ids of the server processes whose sessions are open now."""
        return self._open().probe.sessions()

    def end_class(self) -> None:
        """Take back the changes that were left because a class of tests held locks."""
        if self._left:
            self._left = []
            if not self._has_renewed([]):  # they were reported when they were found
                self._accept_structure()
        if self._is_blocked:
            self._is_blocked = False
            opened = self._open()
            changed = self._detect_if_free(opened)
            self._restore_if_free(opened, {n: kept for n, kept in changed.items() if n >= 0})

    def add_level(self, look: Callable[[], Look] | None = None) -> RowLevel | None:
        """Let later tests begin with the rows that were committed since the last test or check.

        Args:
            look: looks at the server, once for the resets of all aliases; by default ``self.look``.

        Returns:
            The level, which ``end_level`` ends; None if nothing was committed.

        Raises:
            IsolationError: the rows cannot be kept for several tests.
        """
        try:
            return self._add_level_of_set_up(look)
        except driver.Error as error:
            self.close()
            raise IsolationError(_NO_LEVEL.format(self._schema, str(error).strip())) from error

    def _add_level_of_set_up(self, look: Callable[[], Look] | None) -> RowLevel | None:
        opened = self._open()
        seen = (look or self.look)()
        passed_over, self._passed_over = self._passed_over, PassedOver()
        if self._seen is None:
            self.begin()
            return None
        before, self._seen = self._seen, _Clean(seen.snapshot, None)
        if not self._committed(before, seen) - passed_over.transactions:
            return None
        # The transaction of a class may be open, with locks on tables that it has altered.
        changed = self._detect_if_free(opened)
        if not changed:
            return None  # without a level either, as a lock was in the way
        # All databases of the server share transaction ids. So the committed transaction may belong
        # to another database, and all changes here may be passed over.
        changed = levels.without(passed_over, changed, self._levels[-1].plan, opened.detector)
        return self._add_level(opened, changed, passed_over)

    def end_level(self, level: RowLevel) -> None:
        """Take back what a level has added to the one below, if this was not done yet.

        If another level is above it by now, rows that were removed are removed from that level as
        well, and the others stay until that level ends.
        """
        try:
            self._end_level(level)
        except driver.Error:
            self.close()  # a test has altered a table; the next reset begins anew

    def _end_level(self, level: RowLevel) -> None:
        if level not in self._levels:
            return  # the session has ended, and the copies with it
        opened = self._open()
        is_top = level is self._levels[-1]
        self._levels.remove(level)
        if self._is_altered and len(self._levels) == 1 and self._renew():
            self._is_altered = False
            self._begin_anew()
        elif is_top:
            plan = self._top(opened)
            if plan.structure is not level.plan.structure:
                self._drop_added(opened, plan.structure)
            changed = plan.detect()
            self._restore_if_free(opened, {n: kept for n, kept in changed.items() if n >= 0})
            level.drop(opened.restorer)
        else:
            top = self._levels.pop()
            self._add_level(opened, self._top(opened).detect(), PassedOver())
            for old in (top, level):
                old.drop(opened.restorer)

    def close(self) -> None:
        """Close the reset's own connections, and forget what was read by them."""
        opened, self._opened = self._opened, None
        self._clean = self._seen = self._begun = None
        self._structure = None
        self._left = []
        self._levels.clear()
        restorer, self._kept_restorer = self._kept_restorer, None
        if restorer is not None:
            restorer.close()
        if opened is not None:
            opened.close()

    def forget(self) -> None:
        """Let the next reset take back everything, as if nothing were known about the schema.

        The connections stay open, unless they have rows of levels.
        """
        if len(self._levels) > 1 or self._kept_restorer is not None:
            self.close()
        self._clean = self._seen = self._begun = self._structure = self._marked = None
        self._passed_over = PassedOver()
        self._is_blocked = self._is_altered = False
        self._left = []
        self._levels.clear()
        self._own.clear()

    def _reset_or_try_again(self, left_open: list[LeftOpen]) -> bool:
        try:
            return self._reset(left_open)
        except driver.errors.LockNotAvailable:
            ended = self._open().probe.end_busy()
            if not ended:
                raise  # another session holds a lock; a second attempt would wait as long again
            left_open += ended
            self._close_detector()
            return self._reset_all(left_open)
        except driver.OperationalError:
            # A test has left a view unpopulated, so that it cannot be read, or the server has ended
            # our sessions.
            self._close_detector()
            return self._reset_all(left_open)
        except driver.Error:
            # A test has dropped or altered an object.
            self._close_detector()
            if self._has_renewed(["something that a table has was dropped or altered"]):
                return True
            self._structure = None
            return self._reset_all(left_open)

    def _reset(self, left_open: list[LeftOpen]) -> bool:
        """Reset the changes, if any; add the sessions that were ended to a list."""
        opened = self._open()
        # End these first, as they may hold locks that other statements would wait for.
        snapshot, ended = opened.probe.check()
        left_open += ended
        if not ended and self._is_clean(snapshot):
            self._seen = self._clean
            return False
        return self._has_reset_changed(opened, snapshot)

    def _reset_all(self, left_open: list[LeftOpen]) -> bool:
        """Reset everything, without a look at the changes."""
        opened = self._open()
        snapshot, ended = opened.probe.check()
        left_open += ended
        if self._is_whole and self._levels:
            initial_rows.drop_others(opened.detector, self._levels[-1].plan.structure.names)
        if len(self._levels) > 1 and self._structure is not None:
            plan = self._top(opened)
        else:
            plan = self._read_anew(opened)
        restored = self._restore(opened, dict.fromkeys(plan.everything, False))
        self._seen = self._clean = _Clean(snapshot, restored)
        return True

    def _is_clean(self, now: TransactionSnapshot) -> bool:
        if self._clean is None or not self._levels:
            return False
        if self._clean.snapshot.done_until(now, self._clean.known):
            return False
        return not self._top(self._open()).has_changed_untraced()

    def _committed(self, before: _Clean, seen: Look) -> set[int]:
        now = seen.snapshot
        done = before.snapshot.done_until(now, {*before.known, *self._own})
        self._own = {number for number in self._own if number >= now.end or number in now.running}
        return seen.probe.committed(done)

    def _has_reset_changed(self, opened: _Opened, snapshot: TransactionSnapshot) -> bool:
        """Reset the changes, and return whether there were any."""
        plan = self._top(opened)
        changed = plan.detect()
        if STRUCTURE_CHANGED in changed:
            added, changes = self._drop_added(opened, plan.structure)
            if changes and self._has_renewed([*added, *changes]):
                return True
            for what in added:
                self._note(what, "was created, and has been dropped")
            if changes:
                self._structure = None
                plan = self._read_anew(opened)
            changed = plan.detect() | dict.fromkeys(plan.sequences, False)
        self._seen = self._clean = _Clean(snapshot, self._restore(opened, changed))
        return self._clean.restored is not None

    def _drop_added(self, opened: _Opened, structure: Structure) -> tuple[list[str], list[str]]:
        """Drop the objects that a test has created; return them, and the other changes."""
        if self._is_whole:
            initial_rows.drop_others(opened.detector, structure.names)
        added = structure.drop_added(opened.detector)
        here = f"{sql.Identifier(self._schema).as_string()}.".replace('"', "")
        return [what.replace(here, "") for what in added], structure.changes(opened.detector)

    def _has_renewed(self, changes: Iterable[str]) -> bool:
        """Make the place anew, unless this would lose rows that a class or module has loaded."""
        has_levels = len(self._levels) > 1
        self._is_altered = has_levels and not self._levels_outlast_renewal()
        is_new = not self._is_altered and self._renew()
        done = "which stays so in later tests"
        if is_new:
            done = "the worker has a fresh clone"
        elif self._is_altered:
            done = "which stays so as long as the rows of a class, module or session are there"
        for what in changes:
            self._note(what, done)
        if is_new:
            self._begin_anew()
        return is_new

    def _levels_outlast_renewal(self) -> bool:
        """Return whether rows of levels are kept outside of the place and fit into a new one."""
        bottom = self._levels[0].plan.structure
        if self._is_whole or any(level.plan.structure is not bottom for level in self._levels):
            return False
        copies = [copy.as_string() for level in self._levels for copy in level.copies]
        query = sql.SQL(_OWN_TYPES).format(copies, self._schema)
        return not value(self._open().restorer, query)

    def _begin_anew(self) -> None:
        """Read the place that was made anew, and put the rows of levels into it."""
        upper = self._levels[1:]
        if not upper:
            self.close()
            self.begin()
            self.prepare()
            self._clean = self._seen
            return
        self._close_detector()
        self._structure = None
        opened = self._open()
        if len(self._levels) > 1:  # the session that has their rows is still open
            self._structure = Structure.of(opened.detector, self._watched(self._schemas(opened)))
            self._begun = snapshot = opened.probe.snapshot()
            plan = self._read_anew(opened)
            restored = self._restore(opened, dict.fromkeys(plan.everything, False))
            self._seen = self._clean = _Clean(snapshot, restored)

    def _top(self, opened: _Opened) -> ResetPlan:
        """Return the plan of the highest level, ready to be used."""
        level = self._levels[-1] if self._levels else self._add_bottom(opened)
        level.plan.use(opened.detector)
        return level.plan

    def _add_bottom(self, opened: _Opened) -> RowLevel:
        self._new_bottom(opened)
        return self._levels[-1]

    def _new_bottom(self, opened: _Opened) -> ResetPlan:
        """Read the plan for the initial rows.

        The structure is the one before the first test, unless a test has changed it for good.
        """
        schemas = self._schemas(opened)
        if self._structure is None:
            if self._is_whole:
                initial_rows.drop_others(opened.detector, schemas)
            self._structure = Structure.of(opened.detector, self._watched(schemas))
        structure = self._structure
        items = [
            item
            for item in self._read_items(opened, schemas)
            if isinstance(item, SequenceValue) or structure.has_relation(item.oid)
        ]
        if self._begun is not None:
            now = opened.probe.snapshot()
            tests = opened.probe.committed(self._begun.done_until(now))
            items = levels.with_writers(opened.detector, items, tests)
        plan = ResetPlan(self._number(), items, structure, is_replica=opened.is_replica)
        for level in self._levels:
            level.drop(opened.restorer)
        self._levels = [RowLevel(plan)]
        plan.use(opened.detector)
        return plan

    def _read_anew(self, opened: _Opened) -> ResetPlan:
        """Read the plan for the initial rows again, and base the levels' plans on it."""
        upper = self._levels[1:]
        del self._levels[1:]
        bottom = self._new_bottom(opened)
        copies: set[str] = set()
        for level in upper:
            copies |= {copy.as_string() for copy in level.copies}
            levels.rebased(
                level, bottom, copies, number=self._number(), is_replica=opened.is_replica
            )
            self._levels.append(level)
        return self._top(opened)

    def _add_level(
        self, opened: _Opened, changed: Mapping[int, bool], passed_over: PassedOver
    ) -> RowLevel | None:
        if not changed:
            return None
        below = self._levels[-1]
        if changed.keys() <= below.plan.sequences:
            return None  # rolled-back tests have advanced these
        items, structure = below.plan.items, below.plan.structure
        if STRUCTURE_CHANGED in changed:
            structure = Structure.of(opened.detector, structure.schemas)
            # Schemas that a set-up has created have no initial rows: pg_catalog stands for these.
            made = dict.fromkeys(structure.names, "pg_catalog")
            items = self._read_items(opened, made | self._schemas(opened))
        level = levels.above(
            below,
            items,
            structure,
            set(changed),
            passed_over=passed_over.written,
            number=self._number(),
            store="pg_temp" if value(opened.detector, _MAY_CREATE_TEMPORARY) else self._store(),
            detector=opened.detector,
            restorer=opened.restorer,
            is_replica=opened.is_replica,
        )
        self._levels.append(level)
        self._clean = None
        return level

    def _schemas(self, opened: _Opened) -> dict[str, str]:
        """Return the schemas that migrations have made, each with that of its initial rows."""
        if self._is_whole:
            return initial_rows.of_database(opened.detector)
        return {self._schema: self._initial}

    def _read_items(self, opened: _Opened, schemas: Mapping[str, str]) -> list[Item]:
        return contents.read(opened.detector, schemas, is_replica=opened.is_replica)

    def _watched(self, schemas: Iterable[str]) -> sql.Composed:
        """Return the condition in ``pg_namespace`` for schemas whose structure is reset."""
        others = sql.SQL(initial_rows.OF_TESTS if self._is_whole else "false")
        return sql.SQL("(nspname = ANY({}) OR {})").format(list(schemas), others)

    def _number(self) -> int:
        self._plans += 1
        return self._plans

    def _restore(self, opened: _Opened, changed: Mapping[int, bool]) -> int | None:
        """Take back changes; return the id of the transaction if there was one."""
        if not changed:
            return None
        restored = self._levels[-1].plan.restore(changed, opened.restorer)
        self._own.add(restored)
        return restored

    def _detect_if_free(self, opened: _Opened) -> dict[int, bool]:
        """Return the changes, or leave them for later if somebody has locked a table."""
        try:
            with self._short_patience(opened.detector):
                return self._top(opened).detect()
        except driver.errors.LockNotAvailable:
            self._is_blocked = True
            return {}

    def _drop_added_if_free(self, opened: _Opened) -> tuple[list[str], list[str]]:
        """Drop objects that were added; those in which somebody has locked something stay."""
        with self._short_patience(opened.detector):
            return self._drop_added(opened, self._top(opened).structure)

    def _restore_if_free(self, opened: _Opened, changed: Mapping[int, bool]) -> None:
        """Take back changes, or leave them for later if somebody has locked a table."""
        if not changed:
            return
        try:
            with self._short_patience(opened.restorer):
                self._restore(opened, changed)
        except driver.errors.LockNotAvailable:
            self._is_blocked = True

    @contextmanager
    def _short_patience(self, session: Connection) -> Iterator[None]:
        """Have a session hardly wait for locks, within a block."""
        session.execute(f"SET lock_timeout = '{_SHORT_PATIENCE}'")
        try:
            yield
        finally:
            if not session.closed:
                session.execute(f"SET lock_timeout = '{self._patience}s'")

    def _open(self) -> _Opened:
        if self._opened is None:
            detector = self._connect("-c plan_cache_mode=force_generic_plan")
            is_replica = _may_be_replica(detector)
            restorer, self._kept_restorer = self._kept_restorer, None
            if restorer is None or restorer.closed:
                del self._levels[1:]  # their rows were lost with the session
                restorer = None
            options = "-c session_replication_role=replica" if is_replica else ""
            self._opened = _Opened(
                detector,
                ChangeProbe(detector, self._application, None if self._is_whole else self._schema),
                is_replica=is_replica,
                restorer=restorer,
                connect=partial(self._connect, options),
            )
        return self._opened

    def _close_detector(self) -> None:
        """Close the session that detects changes; keep the restorer's, which has rows of levels."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        is_kept = len(self._levels) > 1 and answers(opened.restorer)
        self._kept_restorer = opened.restorer if is_kept else None
        opened.close(but_restorer=is_kept)

    def _connect(self, options: str) -> Connection:
        # Fail rather than overlook rows that a policy hides.
        options = f"-c row_security=off -c lock_timeout={self._patience}s {options}"
        return connect(self._url, application=_APPLICATION, search_path=self._path, options=options)

    def _report_left_open(self, left_open: list[LeftOpen]) -> None:
        if left_open:
            found = "\n".join(f"  {self._sessions.describe(*session)}" for session in left_open)
            error = OpenTransactionError(f"{_LEFT_OPEN}\n{found}")
            core.record_failure_of(self._sessions.test, error)

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


def _may_be_replica(connection: Connection) -> bool:
    has_grants = connection.info.server_version >= _PARAMETERS_HAVE_GRANTS
    return bool(value(connection, _MAY_BE_REPLICA if has_grants else _IS_SUPERUSER))


def end_transaction(django: BaseDatabaseWrapper) -> None:
    """Give Django a new connection if a test has left the old one in a transaction."""
    if django.connection is None or django.connection.closed:
        return
    if django.in_atomic_block or not Connection(django.connection).is_idle:
        django.close()
        django.connect()  # also resets Django's notes about it, unlike close()

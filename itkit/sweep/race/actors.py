"""Several acts at once, each in a thread of its own, of which one at a time is let on.

An actor stops before each of its crossings. One that waits for another within Postgres is seen
by ``pg_blocking_pids()``, which is asked by a connection of itkit's own.
"""

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import Enum, auto
from functools import partial
from inspect import iscoroutine, unwrap
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from asgiref.sync import async_to_sync
from django.db import connections

from itkit import environment
from itkit.sweep.choosing import SchedulePart, ScheduleSpec
from itkit.sweep.gate.commands import CommandPoint
from itkit.sweep.gate.gate import EVERYTHING, SIMULATED, Crash, Point, Touched
from itkit.sweep.gate.statements import CommitPoint, StatementPoint, session_of
from itkit.timeline import callsite, core
from itkit.timeline.callsite import CallSite

if TYPE_CHECKING:
    from itkit.postgres import Session

_POLL_SECONDS: Final = 0.002
_SLOW_POLL_SECONDS: Final = 0.02
_OTHER_WAIT_SECONDS: Final = 1.0
"""After which an actor that does not come to a crossing may be waiting for another one."""
_BLOCKING_SECONDS: Final = 0.1
"""The same after a command of Redis that waits for somebody else."""
_JOIN_SECONDS: Final = 0.5
_POLLS: Final = 3
"""How often an actor does the same in Redis before it is taken for one that waits."""
_BLOCKERS: Final = "SELECT pg_blocking_pids(%s)"
_DEADLOCK: Final = "deadlock detected"


class Phase(Enum):
    """What an actor does."""

    NEW = auto()
    STOPPED = auto()
    RUNNING = auto()
    WAITING = auto()
    DONE = auto()


class Step(NamedTuple):
    """A crossing of one of the actors.

    Attributes:
        actor: its number.
        name: the name of the crossing on the timeline.
        caller: the line of the source that it came from.
        touched: the tables, rows, keys and backends that the crossing touches.
    """

    actor: int
    name: str
    caller: core.Caller
    touched: Touched

    @property
    def site(self) -> CallSite:
        """The line of the source that it came from."""
        return callsite.site(self.caller.f_globals, self.caller.f_lineno)


class Hang(NamedTuple):
    """An actor that has not come to its end.

    Attributes:
        actor: its number.
        where: the line where it waits.
    """

    actor: int
    where: CallSite


class Actor:
    """One of the acts, and how far it is.

    Args:
        number: the number of the act, from 0.
        act: the function that the actor calls.

    Attributes:
        number: as above.
        state: the phase that the actor is in.
        result: the value that the act has returned.
        error: the error that the act has raised; None where it has raised none.
        steps: the crossings that it has passed.
        next: the crossing that it stops before.
        point: the same, as the gate knows it, or the one that it is in.
        sessions: its connections to Postgres, by the numbers of their sessions.
        is_victim: whether its statement is ended for a deadlock.
        is_waiting_in_server: whether it waits for another actor in Postgres, and not elsewhere.
        go: is released to let it on.
        turn: the lock by which one of its tasks and threads at a time comes to a crossing.
        thread: the thread of the actor; None until it has begun.
        begin: the line where the act is defined; None where it has none.
    """

    def __init__(self, number: int, act: Callable[[], Any]) -> None:
        self.number = number
        self.state = Phase.NEW
        self.result: Any = None
        self.error: BaseException | None = None
        self.steps: list[Step] = []
        self.next: Step | None = None
        self.point: Point | None = None
        self.sessions: dict[int, Any] = {}
        self.is_victim = False
        self.is_waiting_in_server = False
        self.go = threading.Semaphore(0)
        self.turn = threading.Lock()
        self.thread: threading.Thread | None = None
        self.begin = _begin_of(act)
        self._act = act
        self._open: dict[int, Touched] = {}
        self._watched = Touched()
        self._is_strict = False
        self._polled: tuple[str, int] = ("", 0)

    def perform(self) -> None:
        """Do the act; to be called in the thread of the actor."""
        try:
            result = self._act()
            if iscoroutine(result):
                result = async_to_sync(_awaited)(result)
            self.result = result
        except BaseException as error:  # noqa: BLE001 - what the code under test raises
            self.error = error

    def touches(self, point: Point) -> Touched:
        """Return what a crossing has to do with, as what the actor has done before says."""
        touched = point.touched
        if isinstance(point, StatementPoint):
            self._is_strict = point.is_open and (self._is_strict or point.is_strict)
            if self._is_strict:
                touched |= Touched(reads=frozenset({EVERYTHING}))
            if point.is_open:
                session = id(point.connection)
                seen = touched | point.published
                self._open[session] = self._open.get(session, Touched()) | seen
        elif isinstance(point, CommitPoint):
            ended = self._open.pop(id(point.connection), Touched())
            reads = ended.reads if self._is_strict else frozenset()
            changes = ended.locks | ended.changes
            touched = Touched(reads, ended.shares, changes=changes, adds=ended.adds)
            self._is_strict = False
        elif isinstance(point, CommandPoint):
            if point.name.startswith("WATCH"):
                self._watched |= touched
            elif point.key == "PIPELINE" or point.name.startswith("EXEC"):
                touched, self._watched = touched | self._watched, Touched()
        return touched

    def is_polling(self) -> bool:
        """Return whether the actor asks again and again for the same, as who waits for a lock."""
        if not isinstance(self.point, CommandPoint):
            return False
        name, count = self._polled
        return name == self.point.name and count >= _POLLS

    def note_passed(self) -> None:
        """Note that the next crossing happens."""
        assert self.next is not None  # noqa: S101 - it is stopped there
        self.steps.append(self.next)
        name, count = self._polled
        self._polled = (self.next.name, count + 1 if name == self.next.name else 1)

    def forget_polls(self) -> None:
        """Let it ask again, as another one has done something."""
        self._polled = ("", 0)


_current: ContextVar[Actor | None] = ContextVar("itkit_actor", default=None)


class _Course:
    """How far the actors are in their schedule.

    Args:
        parts: the parts of the schedule.

    Attributes:
        preempted: the crossings before which an actor was stopped, as the schedule says.
    """

    def __init__(self, parts: Sequence[SchedulePart]) -> None:
        self.preempted: list[Step] = []
        self._parts = parts
        self._at = 0
        self._passed = 0

    def choose(self, actors: Sequence[Actor], moving: Sequence[Actor]) -> Actor | None:
        """Return who is let on next; None where the schedule says no more.

        Args:
            actors: all of them.
            moving: those that can go on; a part whose actor cannot ends there.
        """
        while self._at < len(self._parts):
            part = self._parts[self._at]
            actor = actors[part.actor]
            if part.steps is not None and self._passed >= part.steps:
                if actor.state is Phase.STOPPED and actor.next is not None:
                    self.preempted.append(actor.next)
            elif actor in moving:
                self._passed += actor.state is Phase.STOPPED
                return actor
            self._at, self._passed = self._at + 1, 0
        return None


class Stage:
    """Runs actors by a schedule; crossings of other threads pass as they come.

    Args:
        acts: the functions that the actors call.
        spec: the schedule.
        watcher: sees who waits in the server.
        bound: the most seconds that an actor may take between two crossings.

    Attributes:
        actors: as above.
        steps: the crossings in their order.
        waits: the indexes of steps that have waited for another actor.
        deadlocks: the steps that waited for each other, for each deadlock.
        hangs: the actors that have not come to their end.
    """

    def __init__(
        self,
        acts: Sequence[Callable[[], Any]],
        spec: ScheduleSpec,
        watcher: "Watcher",
        *,
        bound: float,
    ) -> None:
        self.actors = [Actor(number, act) for number, act in enumerate(acts)]
        self.steps: list[Step] = []
        self.waits: set[int] = set()
        self.deadlocks: list[list[Step]] = []
        self.hangs: list[Hang] = []
        self._spec = spec
        self._course = _Course(spec.parts)
        self._bound = bound
        self._changed = threading.Condition()
        self._is_over = False
        self._watcher = watcher
        self._blocked: list[Actor] = []

    @property
    def preempted(self) -> list[Step]:
        """The crossings before which an actor was stopped, as the schedule says."""
        return self._course.preempted

    # As a gate, in the threads of the actors.

    @contextmanager
    def passing(self, point: Point) -> Iterator[int]:
        """Let a crossing happen within a block; of a deadlock, it raises the server's error."""
        self.enter(point)
        actor = _current.get()
        try:
            yield 1
        except Exception as error:
            if actor is None or not actor.is_victim:
                raise
            actor.is_victim = False
            _raise_deadlock(getattr(point, "connection", None), error)

    def enter(self, point: Point) -> None:
        """Stop before a crossing that can matter to others, until the actor is let on.

        Raises:
            Crash: the acts were given up.
        """
        actor = _current.get()
        if actor is None:
            return
        with actor.turn:
            connection = getattr(point, "connection", None)
            if connection is not None and (session := session_of(connection)) is not None:
                actor.sessions[session] = connection
            line = core.CallingLine(point.caller.f_globals, point.caller.f_lineno)
            if not callsite.is_own_file(line.f_globals.get("__file__")):
                line = actor.begin or line  # a decorator's, when the act itself has returned
            touched = actor.touches(point)
            shows_later = isinstance(point, StatementPoint) and any(point.published)
            if not (any(touched) or shows_later):
                return  # a savepoint, or the end of a transaction that has only read
            with self._changed:
                actor.point = point
                actor.next = Step(actor.number, point.name, line, touched)
                actor.state = Phase.STOPPED
                self._changed.notify_all()
            actor.go.acquire()
            if self._is_over:
                raise Crash(SIMULATED)

    def leave(self, point: Point, kind: str | None) -> None:
        """Go on after a crossing: the actor stops before the next one."""

    # The thread of the test.

    def run(self) -> None:
        """Run the actors to their ends."""
        if self._spec.is_alone:
            for actor in self.actors:
                if actor.number not in self._spec.order:
                    actor.state = Phase.DONE
        try:
            self._run()
        finally:
            self._end()

    def _run(self) -> None:
        current: Actor | None = None
        while not self.hangs:
            self._settle()
            ready = [one for one in self.actors if one.state in (Phase.NEW, Phase.STOPPED)]
            if not ready:
                if all(one.state is Phase.DONE for one in self.actors):
                    return
                self._resolve()
                continue
            moving = [one for one in ready if self._spec.is_serial or not one.is_polling()] or ready
            chosen = self._course.choose(self.actors, moving)
            if chosen is None:
                chosen = current if current is not None and current in moving else moving[0]
            if chosen is not current:
                for one in self.actors:
                    one.forget_polls()
            current = chosen
            self._let_on(chosen)

    def _let_on(self, actor: Actor) -> None:
        """Let an actor on, and wait until it stops before its next crossing, waits, or is done."""
        if actor.state is Phase.NEW:
            actor.state = Phase.RUNNING
            actor.thread = threading.Thread(
                target=self._perform, args=(actor,), name=f"actor {actor.number}", daemon=True
            )
            actor.thread.start()
        else:
            actor.note_passed()
            self.steps.append(actor.steps[-1])
            actor.state = Phase.RUNNING
            actor.go.release()
        self._wait_for(actor)

    def _perform(self, actor: Actor) -> None:
        _current.set(actor)
        try:
            self._watcher.lend()
            actor.perform()
        finally:
            with suppress(Exception):
                self._watcher.take_back()
            with suppress(Exception):
                connections.close_all()
            with self._changed:
                actor.state = Phase.DONE
                self._changed.notify_all()

    def _wait_for(self, actor: Actor) -> None:
        began = time.monotonic()
        blocks = isinstance(actor.point, CommandPoint) and actor.point.is_blocking
        patience = _BLOCKING_SECONDS if blocks else _OTHER_WAIT_SECONDS
        pause = _POLL_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: actor.state is not Phase.RUNNING, pause)
                if actor.state is not Phase.RUNNING:
                    return
            if self._is_blocked(actor):
                self._note_waiting(actor, in_server=True)
                return
            waited = time.monotonic() - began
            if waited > min(patience, self._bound / 2) and self._others_can_go_on(actor):
                self._note_waiting(actor, in_server=False)
                return
            if waited > self._bound:
                self._give_up()
                return
            pause = min(pause * 2, _SLOW_POLL_SECONDS)

    def _note_waiting(self, actor: Actor, *, in_server: bool) -> None:
        with self._changed:
            if actor.state is not Phase.RUNNING:
                return
            actor.state = Phase.WAITING
        actor.is_waiting_in_server = in_server
        self._blocked.append(actor)
        if actor.steps:
            last = max(n for n, step in enumerate(self.steps) if step is actor.steps[-1])
            self.waits.add(last)

    def _others_can_go_on(self, actor: Actor) -> bool:
        return any(
            one is not actor and one.state in (Phase.NEW, Phase.STOPPED) for one in self.actors
        )

    def _settle(self) -> None:
        """Wait until each actor that has waited waits still, or has come to its next crossing."""
        deadline = time.monotonic() + self._bound
        for actor in list(self._blocked):
            grace = 0 if actor.is_waiting_in_server else time.monotonic() + _BLOCKING_SECONDS / 2
            while True:
                with self._changed:
                    if actor.state is not Phase.WAITING:
                        self._blocked.remove(actor)
                        break
                    if not actor.is_waiting_in_server and time.monotonic() > grace:
                        break
                if actor.is_waiting_in_server and self._is_blocked(actor):
                    break
                if time.monotonic() > deadline:
                    self._give_up()
                    return
                with self._changed:
                    self._changed.wait_for(lambda: actor.state is not Phase.WAITING, _POLL_SECONDS)  # noqa: B023 - called at once

    def _resolve(self) -> None:
        """Go on where nobody can: end a deadlock, or wait for what time ends."""
        waiting = [one for one in self.actors if one.state is Phase.WAITING]
        if waiting and all(one.is_waiting_in_server for one in waiting):
            # Seen twice: between two questions one may have got what it waits for.
            if all(map(self._is_blocked, waiting)):
                self.deadlocks.append([one.steps[-1] for one in waiting])
                victim = self._blocked[-1]
                victim.is_victim = True
                self._watcher.end_statement(victim.sessions)
                self._wait_until_moved(victim)
            return
        deadline = time.monotonic() + self._bound
        while time.monotonic() < deadline:
            with self._changed:
                if self._changed.wait_for(self._has_moved, _SLOW_POLL_SECONDS):
                    return
            if any(one.is_waiting_in_server and not self._is_blocked(one) for one in waiting):
                return
        self._give_up()

    def _wait_until_moved(self, actor: Actor) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: actor.state is not Phase.WAITING, self._bound):
                self._give_up()

    def _has_moved(self) -> bool:
        return any(one.state is not Phase.WAITING for one in self._blocked)

    def _is_blocked(self, actor: Actor) -> bool:
        """Return whether an actor waits in the server for another one of the actors."""
        others = {session for one in self.actors if one is not actor for session in one.sessions}
        if not others or not isinstance(actor.point, StatementPoint | CommitPoint):
            return False
        session = session_of(actor.point.connection)
        if session is None:
            return False
        return bool(others & self._watcher.blockers(session, actor.point.connection.alias))

    def _give_up(self) -> None:
        """Note where each actor waits that has not come to its end."""
        frames = sys._current_frames()
        for actor in self.actors:
            if actor.state in (Phase.DONE, Phase.NEW) or actor.thread is None:
                continue
            frame = frames.get(actor.thread.ident or 0)
            if frame is not None:
                found = callsite.caller(frame)
                where = callsite.site(found.f_globals, found.f_lineno)
                self.hangs.append(Hang(actor.number, where))

    def _end(self) -> None:
        """End all threads and sessions, as far as there are some left."""
        self._is_over = True
        left = [
            one for one in self.actors if one.thread is not None and one.state is not Phase.DONE
        ]
        for actor in left:
            self._watcher.end_sessions(actor.sessions)
            actor.go.release(1000)
        deadline = time.monotonic() + _JOIN_SECONDS
        for actor in self.actors:
            if actor.thread is not None:
                actor.thread.join(max(0, deadline - time.monotonic()) if left else None)


class Watcher:
    """Connections of itkit's own, one for each database, that see who waits for whom.

    It also keeps the sessions of actors that have ended, for those of the next schedule, as the
    threads of actors connect anew for each.
    """

    def __init__(self) -> None:
        self._connections: dict[str, Any] = {}
        self._spare: defaultdict[str, list[Session]] = defaultdict(list)

    def lend(self) -> None:
        """Let the connections of this thread, which has none yet, have sessions that are kept."""
        found = environment.current()
        for alias, sessions in list(self._spare.items()):
            if sessions and found is not None:
                found.give_session(connections[alias], sessions.pop())

    def take_back(self) -> None:
        """Keep the sessions of this thread's connections."""
        found = environment.current()
        for connection in connections.all(initialized_only=True):
            session = found.take_session(connection) if found is not None else None
            if session is not None:
                self._spare[connection.alias].append(session)

    def blockers(self, session: int, alias: str) -> set[int]:
        """Return the sessions that one waits for."""
        rows = self._ask(alias, _BLOCKERS, session)
        return set(rows[0] or ())

    def end_statement(self, sessions: dict[int, Any]) -> None:
        """End what sessions are doing."""
        for session, connection in sessions.items():
            self._ask(connection.alias, "SELECT pg_cancel_backend(%s)", session)

    def end_sessions(self, sessions: dict[int, Any]) -> None:
        """End sessions, with what they hold."""
        for session, connection in sessions.items():
            with suppress(Exception):
                self._ask(connection.alias, "SELECT pg_terminate_backend(%s)", session)

    def close(self) -> None:
        """Close the connections."""
        while self._connections:
            self._connections.popitem()[1].close()
        while self._spare:
            for session in self._spare.popitem()[1]:
                session.end()

    def _ask(self, alias: str, question: str, session: int) -> Any:
        with core.between_tests():
            found = self._connections.get(alias)
            if found is None:
                found = self._connections[alias] = connections[alias].copy()
                found.settings_dict["OPTIONS"].pop("pool", None)  # the acts need its connections
                found.inc_thread_sharing()  # a coroutine asks in another thread each time
                found.ensure_connection()
            # By the driver: what goes through Django would be on the timeline.
            with found.connection.cursor() as cursor:
                cursor.execute(question, [session])
                return cursor.fetchone()


def _begin_of(act: Any) -> core.CallingLine | None:
    while isinstance(act, partial):
        act = act.func
    found = unwrap(act)
    code = getattr(found, "__code__", None)
    return core.CallingLine(found.__globals__, code.co_firstlineno) if code is not None else None


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


def _raise_deadlock(connection: Any, error: Exception) -> NoReturn:
    """Raise what the server raises to end a deadlock, as Django does."""
    with connection.wrap_database_errors:
        raise connection.Database.errors.DeadlockDetected(_DEADLOCK) from error
    raise AssertionError(_DEADLOCK)

"""Numbers the crossings of an act, and lets one of them fail, lose its reply, or be the last."""

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from traceback import walk_stack
from typing import Final, NamedTuple, NoReturn, Protocol

from itkit.core.names import SWEEP_FULL
from itkit.exceptions import FaultError, HangError
from itkit.sweep.choosing import (
    AFTER,
    BEFORE,
    CRASH,
    ERROR,
    LOST,
    TIMEOUT,
    TWICE,
    WORDS,
    Choice,
    FaultSpec,
    matches,
)
from itkit.timeline import callsite, core
from itkit.timeline.core import Crossing

SIMULATED: Final = "simulated by itkit"
"""A part of the text of each error that a fault raises."""
EVERYTHING: Final = "*"
ROW: Final = "#"


_NOT_REACHED: Final = (
    "The fault {} never happened, as no such crossing was reached. The crossings within the block"
    " were:\n{}\n"
    "  Correct the name or the number. Where the code under test does not always do the same, skip"
    " the crossing: @faults(skip=[{!r}])."
)


class Touched(NamedTuple):
    """What a crossing has to do with: names of tables, keys and backends; ``*`` is everything.

    One row of a table is its name and a key, such as ``table default.shop_order#5``.

    Attributes:
        reads: names that it only reads, as others have left them.
        shares: names that it keeps others from locking.
        locks: names that it locks; nobody sees a change of them yet.
        changes: names whose content is changed for everybody from then on.
        adds: names that it adds to, for everybody from then on, where the order does not matter.
    """

    reads: frozenset[str] = frozenset()
    shares: frozenset[str] = frozenset()
    locks: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    adds: frozenset[str] = frozenset()

    def conflicts(self, other: "Touched") -> bool:
        """Return whether it matters which of two crossings comes first."""
        return self._is_in_the_way_of(other) or other._is_in_the_way_of(self)

    def __or__(self, other: "Touched") -> "Touched":
        return Touched(*(own | theirs for own, theirs in zip(self, other, strict=True)))

    def _is_in_the_way_of(self, other: "Touched") -> bool:
        if EVERYTHING in self.changes:
            return any(other)
        if EVERYTHING in other.reads and (self.changes or self.adds):
            return True
        met = other.shares | other.locks
        seen = met | other.reads | other.changes
        return (
            _meet(self.locks, met)
            or _meet(self.changes, seen | other.adds)
            or _meet(self.adds, seen)
        )


def _meet(one: frozenset[str], other: frozenset[str]) -> bool:
    """Return whether a name is in both, or a row in one and its table in the other."""
    if not one or not other:
        return False
    return bool(one & other or _tables_of(one) & other or one & _tables_of(other))


def _tables_of(names: frozenset[str]) -> set[str]:
    """Return the tables of the rows among names."""
    return {name.partition(ROW)[0] for name in names if ROW in name}


class Crash(SystemExit):
    """Raised where the process of the act dies, as far as all others can see.

    It is not an ``Exception``, so that the act does not catch it and go on. It is a ``SystemExit``
    so that it ends a loop of asyncio as well.
    """


class Point(ABC):
    """One crossing of the act, before it happens.

    Args:
        name: its name on the timeline, such as ``SET cart:5``.
        caller: the frame or line that it comes from.
        key: the name by which crossings are counted, without what differs from run to run; by
            default the whole name.

    Attributes:
        is_quiet: whether it fails only on demand, as what reads.
        lasts: whether a crash right after it leaves something that no earlier crash does.
        errors: names of the exceptions that it may raise, each with an effect of its own.
        more_errors: such that are raised on demand.
        can_be_doubled: whether it hands on what may be done twice, as a task.
        is_timed: whether the caller waits for the reply for some time only.
        key: the name without the parts that differ from run to run; crossings are counted by it.
        touched: the tables, rows, keys and backends that the crossing touches.
    """

    touched = Touched()
    is_quiet = False
    lasts = True
    errors: tuple[str, ...] = ()
    more_errors: tuple[str, ...] = ()
    can_be_doubled = False
    is_timed = False

    def __init__(self, name: str, caller: core.Caller, key: str = "") -> None:
        self.name = name
        self.key = key or name
        self.caller = caller

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of faults that matter here, none of which has the effect of another."""
        return (*self.errors, *((LOST, *self._late, AFTER, *self._twice) if self.lasts else ()))

    @property
    def all_kinds(self) -> tuple[str, ...]:
        """All kinds of faults that can happen here."""
        after = (LOST, *self._late, BEFORE, AFTER, *self._twice)
        return (*self.errors, *self.more_errors, *after)

    @property
    def _late(self) -> tuple[str, ...]:
        return (TIMEOUT,) * self.is_timed

    @property
    def _twice(self) -> tuple[str, ...]:
        return (TWICE,) * self.can_be_doubled

    @abstractmethod
    def fail(self, kind: str) -> NoReturn:
        """Raise the error of this name; the crossing has no effect."""

    @abstractmethod
    def lose(self) -> NoReturn:
        """Raise the error that the caller gets when the reply does not come."""

    def time_out(self) -> NoReturn:
        """Raise the error that the caller gets when the reply comes later than it waits."""
        raise TimeoutError(f"timed out ({SIMULATED})")

    def cut(self) -> None:  # noqa: B027 - most kinds of crossings have no connection of their own
        """Close the connection that the crossing would have used, without an error."""


class Crossed(NamedTuple):
    """A crossing of the act, as a report names it.

    Attributes:
        key: the name by which crossings are counted.
        number: its number among the crossings of the same key, from 1.
        name: its name on the timeline.
        caller: the line of the source that it came from.
        kinds: the kinds of faults that are tried here.
        distinct: the kinds among them none of which has the effect of another.
        equal: the number of kinds that are not tried, as they have the effect of others.
        is_quiet: whether it fails only on demand.
    """

    key: str
    number: int
    name: str
    caller: core.Caller
    kinds: tuple[str, ...]
    distinct: tuple[str, ...]
    equal: int
    is_quiet: bool

    @property
    def site(self) -> callsite.CallSite:
        """The line of the source that it came from."""
        return callsite.site(self.caller.f_globals, self.caller.f_lineno)


class Injected(Crossing):
    """The fault itself, on the timeline of its test."""

    __slots__ = ("what",)

    def __init__(self, what: str, caller: core.Caller) -> None:
        super().__init__(caller)
        self.what = what
        self.duration = 0.0

    @property
    def kind(self) -> str:
        """``fault``."""
        return "fault"

    @property
    def name(self) -> str:
        """What happens, and to which crossing."""
        return f"FAULT {self.what}"


class Passage(Protocol):
    """Where the crossings of an act pass, before they happen and after it."""

    def passing(self, point: Point) -> AbstractContextManager[int]:
        """Let a crossing happen within a block, as often as is yielded."""

    def enter(self, point: Point) -> str | None:
        """Let a crossing happen, and return the fault that it suffers, if any."""

    def leave(self, point: Point, kind: str | None) -> None:
        """Let a crossing that has happened suffer the rest of its fault."""


class Gate:
    """Where all crossings of the act pass, whichever thread they come from.

    Args:
        choice: the faults that the test is swept with.
        mode: ``quick``, or ``full``, in which crossings that only read fail as well.
        specs: the faults of this variation, in the order in which they happen; none for the first
            run.

    Attributes:
        crossed: the crossings that have passed.
        all_struck: the crossings that a fault has happened to.
        is_dead: whether the process of the act has died.
        mistake: the reason why the fault is impossible; None where it is possible.
        crashed: the threads in which the act has died, and which end by that.
        moved: when a crossing has last come here, on the clock of ``time.monotonic``.
        hang: where the act has waited when it was ended; None where it was not.
    """

    def __init__(self, choice: Choice, mode: str, specs: Sequence[FaultSpec]) -> None:
        self.crossed: list[Crossed] = []
        self.all_struck: list[Crossed] = []
        self.is_dead = False
        self.mistake: FaultError | None = None
        self.crashed: set[threading.Thread] = set()
        self.moved = time.monotonic()
        self.hang: HangError | None = None
        self._choice = choice
        self._is_full = mode == SWEEP_FULL
        self._specs = specs
        self._counts: Counter[str] = Counter()
        self._matching = [0] * len(specs)
        self._lock = threading.Lock()

    @property
    def struck(self) -> Crossed | None:
        """The crossing that the first fault has happened to; None until then."""
        return self.all_struck[0] if self.all_struck else None

    @property
    def crossed_since(self) -> list[Crossed]:
        """The crossings after the last one that a fault has happened to."""
        return self.crossed[self.crossed.index(self.all_struck[-1]) + 1 :]

    @contextmanager
    def passing(self, point: Point) -> Iterator[int]:
        """Let a crossing happen within a block. The block gets the number of times: 1 or 2."""
        kind = self.enter(point)
        yield 2 if kind == TWICE else 1
        self.leave(point, kind)

    def check(self) -> None:
        """Check that the fault has happened, and that the act has come to its end.

        Raises:
            HangError: the act has not come to its end.
            FaultError: the fault has not happened; the message lists the crossings that passed.
        """
        if self.hang is not None:
            raise self.hang
        if self.mistake is not None:
            raise self.mistake
        if len(self.all_struck) < len(self._specs):
            spec = self._specs[len(self.all_struck)]
            crossed = [f"    {one.name}" for one in self.crossed] or ["    none"]
            raise FaultError(_NOT_REACHED.format(spec, "\n".join(crossed), spec.target))

    def enter(self, point: Point) -> str | None:
        """Number a crossing that is about to happen, and return the fault that it suffers, if any.

        Raises:
            Crash: the act has died.
            Exception: the error that is the fault.
        """
        if self.is_dead:
            self._refuse(point)
        self.moved = time.monotonic()
        spec = self._number(point)
        kind = self._kind_at(point, spec) if spec is not None else None
        if kind is None:
            return None
        core.own_timeline().record(Injected(f"{spec}", point.caller))
        if kind == BEFORE:
            self._die(point)
        if kind not in WORDS:
            point.fail(kind)
        return kind

    def leave(self, point: Point, kind: str | None) -> None:
        """Let a crossing that has happened suffer the rest of its fault.

        Raises:
            Crash: the act has died, here or meanwhile in another thread.
            Exception: the error that the caller gets instead of the reply.
        """
        self.moved = time.monotonic()
        if kind == LOST:
            point.lose()
        if kind == TIMEOUT:
            point.time_out()
        if kind == AFTER:
            self._die(point)
        if self.is_dead:
            self._refuse(point)

    def _number(self, point: Point) -> FaultSpec | None:
        """Number a crossing, and return the fault that happens to it; None for most."""
        with self._lock:
            self._counts[point.key] += 1
            line = core.CallingLine(point.caller.f_globals, point.caller.f_lineno)
            tried = self._tried(point)
            crossed = Crossed(
                point.key,
                self._counts[point.key],
                point.name,
                line,
                tried,
                tuple(kind for kind in tried if kind in point.kinds and not point.is_quiet),
                len(point.all_kinds) - len(tried) if tried else 0,
                point.is_quiet and not tried,
            )
            self.crossed.append(crossed)
            found: FaultSpec | None = None
            for at, spec in enumerate(self._specs):
                if matches(spec.target, point.name, point.key):
                    self._matching[at] += 1
                    if at == len(self.all_struck) and self._matching[at] == spec.number:
                        found = spec
            if found is not None:
                self.all_struck.append(crossed)
            return found

    def _kind_at(self, point: Point, spec: FaultSpec) -> str | None:
        kind = spec.kind
        if kind == ERROR:
            return point.errors[0]
        if kind == CRASH:
            return AFTER
        if kind not in point.all_kinds:
            known = ", ".join(point.all_kinds)
            self.mistake = FaultError(
                f"{point.name} cannot suffer {kind!r}. Its kinds of faults are: {known}"
            )
            return None  # a commit must not raise an error that Django does not expect
        return kind

    def _tried(self, point: Point) -> tuple[str, ...]:
        choice = self._choice
        is_asked = self._is_full or choice.names(point.name, point.key)
        if choice.leaves_out(point.name, point.key) or (point.is_quiet and not is_asked):
            return ()
        if choice.kinds:
            return tuple(kind for kind in point.all_kinds if choice.has(kind))
        if self._is_full:  # a crash before a crossing has the effect of one after the last crossing
            return tuple(kind for kind in point.all_kinds if kind != BEFORE)
        return point.kinds

    def _die(self, point: Point) -> NoReturn:
        self.is_dead = True
        self._refuse(point)

    def _refuse(self, point: Point) -> NoReturn:
        if not _is_in_pool():
            self.crashed.add(threading.current_thread())
        point.cut()
        raise Crash(SIMULATED)


def _is_in_pool() -> bool:
    """Return whether a pool has called this, which survives the errors of its tasks."""
    pools = ThreadPoolExecutor.__module__
    return any(frame.f_globals.get("__name__") == pools for frame, _ in walk_stack(None))

"""What left the process, in order: every crossing is one record on one timeline.

All that observes (assertions, reports) is a reader of this spine. A timeline also keeps the errors
that fail its test whatever the application makes of them: see ``keep``, and
``itkit.observation.swallowed``.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from itkit.exceptions import LateCallError
from itkit.timeline import callsite
from itkit.timeline.callsite import CallSite, Spot

Error = TypeVar("Error", bound=BaseException)


class Caller(Protocol):
    """What a crossing needs to know of who has caused it: a frame is one."""

    @property
    def f_globals(self) -> dict[str, Any]:
        """The globals of its module."""

    @property
    def f_lineno(self) -> int:
        """Its line."""


class CallingLine(NamedTuple):
    """A line of the source, which stands for a caller whose frame has gone on.

    Attributes:
        f_globals: the globals of its module.
        f_lineno: the number of the line.
    """

    f_globals: dict[str, Any]
    f_lineno: int


class Crossing:
    """One thing that left the process, such as a call of a backend.

    Args:
        caller: the caller whose place is the site, such as a frame.

    Attributes:
        at: the start, in seconds on the clock of ``time.perf_counter``.
        duration: how long it took, in seconds; None while it is under way.
        error: the exception that it ended with, if any.
        strand: the thread that it was in.
    """

    __slots__ = ("_line", "_namespace", "at", "duration", "error", "strand")

    def __init__(self, caller: Caller) -> None:
        self.duration: float | None = None
        self.error: BaseException | None = None
        self._namespace: dict[str, Any] = caller.f_globals
        self._line: Spot = callsite.spot(caller)
        self.strand = here.strand
        self.at = perf_counter()

    def _restore(
        self,
        strand: "Strand",
        at: float,
        duration: float | None,
        namespace: dict[str, Any],
        line: int,
    ) -> None:
        """Set the attributes of a crossing that was recorded as a tuple.

        Args:
            strand: the thread that it was in.
            at: the start, in seconds on the clock of ``time.perf_counter``.
            duration: how long it took, in seconds; None where that was not recorded.
            namespace: the globals of the caller's module; empty where that was not recorded.
            line: the line of the caller, from 1; 0 where that was not recorded.
        """
        self.strand = strand
        self.at = at
        self.duration = duration
        self.error = None
        self._namespace = namespace
        self._line = line

    @property
    def kind(self) -> str:
        """What sort of crossing it is, such as ``sql`` or ``backend``."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What assertions and reports call it, such as ``COMMIT``."""
        raise NotImplementedError

    @property
    def is_noted(self) -> bool:
        """Whether it is on the timeline that a test reads, and that is printed."""
        return True

    @property
    def shown(self) -> str:
        """How it is printed in a line of the timeline."""
        failed = f" !! {self.error!r}" if self.error is not None else ""
        return f"{self.name}{failed}"

    @property
    def details(self) -> Mapping[str, Any]:
        """What else is known of it, by the names under which a report shows that."""
        return {}

    @property
    def site(self) -> CallSite | None:
        """The place in the source that it came from; None where that was not recorded."""
        return self.strand.site(self._namespace, self._line)

    @property
    def caller(self) -> CallingLine:
        """The same, as another crossing takes it for its caller."""
        return CallingLine(self._namespace, callsite.line_of(self._line))

    @property
    def thread(self) -> str:
        """The name of the thread that crossed."""
        return str(self.strand.thread.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class CrossingMaker(Protocol):
    """Makes the crossing of which a tuple, whose first item it is, is the record."""

    def crossing(self, record: tuple[Any, ...]) -> Crossing:
        """Return the crossing that a record is of."""


class Opened(Protocol):
    """A transaction, or a savepoint in one, as ``itkit.timeline.transactions`` knows it."""

    alias: str
    what: str
    is_open: bool
    is_rolled_back: bool

    @property
    def site(self) -> CallSite:
        """The place in the source where it was opened."""


class Effect:
    """Something that has left the process while a transaction was open.

    Args:
        what: the crossing, or its record, or what it is called where it is on no timeline.
        caller: the caller whose place is the site, where the crossing has none.
        blocks: the transactions and savepoints that were open, the outermost first.
    """

    __slots__ = ("_caller", "_what", "blocks")

    def __init__(
        self, what: Any, caller: tuple[dict[str, Any], int] | None, blocks: tuple[Opened, ...]
    ) -> None:
        self._what = what
        self._caller = caller
        self.blocks = blocks

    @property
    def crossing(self) -> Crossing | None:
        """What is on the timeline."""
        if isinstance(self._what, tuple):
            maker: CrossingMaker = self._what[0]
            self._what = maker.crossing(self._what)
        return self._what if isinstance(self._what, Crossing) else None

    @property
    def name(self) -> str:
        """What it is called, such as ``payments.charge``."""
        return self.crossing.name if self.crossing is not None else str(self._what)

    @property
    def site(self) -> CallSite | None:
        """The place in the source that it came from."""
        if self._caller is not None:
            return callsite.site(*self._caller)
        return self.crossing.site if self.crossing is not None else None


class Timeline:
    """The crossings of one test, in the order in which they began.

    Recording is one append to a list, which CPython makes atomic, so that no crossing is lost
    when threads record at once; every count and number is derived from the list. A crossing that
    is over at once may be recorded as a tuple, at a third of the cost of an object: the first item
    makes the crossing of it when it is read.

    Attributes:
        test: id of the test whose it is; empty between tests.
        has_ended: whether the test has.
        kept: errors that fail the test.
        asked: errors among them that were asked for, and the paths of the files that did.
        unasked: errors among them that nobody has asked for.
        made: calls that happen only when what they have returned is awaited or consumed.
        effects: the crossings that have left the process while a transaction was open.
        spared: budgets of which less was used than is kept: pairs of the budget and a text.
        is_disturbed: whether a fault is to happen, so that numbers of crossings say nothing.
    """

    def __init__(self, test: str = "") -> None:
        self.test = test
        self.has_ended = False
        self.kept: list[BaseException] = []
        self.asked: list[tuple[BaseException, str]] = []
        self.unasked: list[BaseException] = []
        self.made: list[Crossing] = []
        self.effects: list[Effect] = []
        self.spared: list[tuple[str, str]] = []
        self.is_disturbed = False
        self._records: list[Crossing | tuple[Any, ...]] = []
        self.record: Callable[[Any], None] = self._records.append

    def __iter__(self) -> Iterator[Crossing]:
        for number, record in enumerate(self._records.copy()):
            if isinstance(record, tuple):
                maker: CrossingMaker = record[0]
                self._records[number] = made = maker.crossing(record)
                yield made
            else:
                yield record

    def __len__(self) -> int:
        return len(self._records)


running = Timeline()
"""The timeline of the running test, for reading on a hot path; else ``current()``."""

_last = ""
_late: list[tuple[str, BaseException]] = []
_failure_sink: Callable[[BaseException], None] | None = None
_parent_sink: Callable[[str, BaseException], None] | None = None
_failure_source: Callable[[], None] | None = None


class Submitted(NamedTuple):
    """The place that has submitted work to a pool.

    Attributes:
        through: the globals of the module that calls for the pool what it was given.
        namespace: the globals of the module that has submitted it.
        line: the line that has submitted it, from 1.
    """

    through: dict[str, Any]
    namespace: dict[str, Any]
    line: int


class Strand:
    """A thread, of this process or of another, and the test that it belongs to.

    Args:
        thread: the thread, or an object that has its name.
        timeline: the timeline of the test that the work belongs to, where that is not the thread's
            own.
        submitted: the place that has submitted the work, where that is a pool's.

    Attributes:
        thread: as above.
        timeline: the timeline of the test that has started the thread, or has submitted what it
            works on; None where no test has.
    """

    __slots__ = ("_submitted", "thread", "timeline")

    def __init__(
        self,
        thread: Any,
        timeline: Timeline | None = None,
        submitted: Submitted | None = None,
    ) -> None:
        self.thread = thread
        self.timeline: Timeline | None = timeline
        self._submitted = submitted
        if timeline is None:
            self.timeline = getattr(thread, _TAG, None)

    def site(self, namespace: dict[str, Any], line: Spot) -> CallSite:
        """Return the place of a call in this thread.

        The caller of a function that was given to a pool as it is, is the pool, which says nothing:
        the place is then the line that submitted it.

        Args:
            namespace: the globals of the caller's module.
            line: the number of the line, from 1, or the frame that it is found by.
        """
        if self._submitted is not None and namespace is self._submitted.through:
            _, namespace, line = self._submitted
        return callsite.site(namespace, line)


class _Here(threading.local):
    """The strand of this thread, found once, and the transactions that it has open."""

    def __init__(self) -> None:
        self.strand = Strand(threading.current_thread())
        self.blocks: list[Opened] = []


class Origin(NamedTuple):
    """What has started a thread.

    Attributes:
        test: the test that was running; empty where none was.
        site: the line.
    """

    test: str
    site: CallSite


_TAG: Final = "_itkit_timeline"
_ORIGIN: Final = "_itkit_origin"
here = _Here()
"""This thread, as a record needs it."""


def current() -> Timeline:
    """Return the timeline of the running test.

    It is one for the process, not one for a context: threads and live servers must see it too.
    """
    return running


def last_test() -> str:
    """Return the id of the test that is running, or else of the one that has run last."""
    return running.test or _last


def new_timeline(test: str = "") -> Timeline:
    """Begin an empty timeline and return it: that of a test, by its id, or of none."""
    global running, _last  # noqa: PLW0603 - the one pointer that a test moves, and what it was
    running.has_ended = True
    _last = running.test
    here.blocks.clear()  # what is open around a test says nothing of it
    running = Timeline(test)
    return running


def own_timeline() -> Timeline:
    """Return the timeline of the test that this thread belongs to.

    That is the running one, unless a test that has ended has started the thread, or submitted what
    the thread is working on.
    """
    timeline = here.strand.timeline  # which is false while it is empty
    return running if timeline is None else timeline


def note_effect(what: Any, caller: Caller | None = None) -> None:
    """Note that something leaves the process, where a transaction of this thread is open.

    Args:
        what: the crossing, or its record, or what it is called.
        caller: the caller whose place is the site, where the crossing has none.
    """
    timeline = own_timeline()
    blocks = tuple(block for block in here.blocks if block.is_open)
    if blocks and timeline.test:
        asked_at = (caller.f_globals, caller.f_lineno) if caller is not None else None
        timeline.effects.append(Effect(what, asked_at, blocks))


def record_failure(error: Error) -> Error:
    """Note that an error, which is about to be raised, fails the test; return it.

    The application may swallow it: the test fails all the same.
    """
    timeline = own_timeline()
    if _parent_sink is not None:
        _parent_sink(timeline.test, error)
    if _failure_sink is not None:
        _failure_sink(error)
    elif timeline.has_ended:
        _late.append((timeline.test, error))
    else:
        timeline.kept.append(error)
    return error


def record_failure_of(test: str, error: BaseException) -> None:
    """Note that an error fails a test, which may have ended.

    Args:
        test: id of the test; empty for what belongs to none, and so fails whichever is running.
        error: the failure.
    """
    if test in ("", running.test):
        running.kept.append(error)
    else:
        _late.append((test, error))


def set_parent_sink(sink: Callable[[str, BaseException], None] | None) -> None:
    """Report the errors of this process, which was forked, to its parent as well.

    Args:
        sink: receives the id of the test, and each error; None ends that.
    """
    global _parent_sink  # noqa: PLW0603 - as global as the timeline
    _parent_sink = sink


def set_failure_source(source: Callable[[], None] | None) -> None:
    """Fetch the errors of other processes by a function, before the recorded failures are read.

    Args:
        source: records the errors that have arrived; None ends that.
    """
    global _failure_source  # noqa: PLW0603 - as global as the timeline
    _failure_source = source


def is_quiet() -> bool:
    """Return whether no failure was kept, for the running test or for those that have ended."""
    if _failure_source is not None:
        _failure_source()
    return not (running.kept or running.made or _late)


def pop_failures() -> tuple[Timeline, list[BaseException]]:
    """Return the timeline of the running test and, once, the errors that were kept for it."""
    if _failure_source is not None:
        _failure_source()
    kept, running.kept = running.kept, []
    return running, kept


def late(done: str, strand: Strand, site: CallSite | None) -> LateCallError:
    """Return the error, kept for its test, of what was done after the end of that test.

    Args:
        done: a sentence without a full stop, such as "payments.charge was called".
        strand: the strand that has done it.
        site: the place in the source that it came from, where that is known.
    """
    timeline = running if strand.timeline is None else strand.timeline
    has_started = getattr(strand.thread, _TAG, None) is timeline
    work = "started" if has_started else "submitted the work of"
    called = f"  called at {site}\n" if site is not None else ""
    return record_failure(
        LateCallError(
            f"{done} after the test that {work} the thread {strand.thread.name!r} had ended:"
            f" {timeline.test}\n{called}"
            "  Let the test wait for its threads and for what it submits; start threads that"
            " outlast it in setUpClass or in a fixture of a wider scope."
        )
    )


def set_failure_sink(sink: Callable[[BaseException], None] | None) -> None:
    """Send the errors of this process, in which no test is running, to another one.

    Nothing is recorded either: the timeline of such a process is that of no test.

    Args:
        sink: receives each error; None ends that.
    """
    global _failure_sink  # noqa: PLW0603 - as global as the timeline
    _failure_sink = sink
    if sink is not None:
        running.record = _forget


def _forget(_crossing: object) -> None:
    """Record nothing."""


def pop_late_failures() -> list[tuple[str, BaseException]]:
    """Return, once, the errors that were kept for tests that had ended, with the tests' ids."""
    if _failure_source is not None:
        _failure_source()
    taken: list[tuple[str, BaseException]] = []
    while _late:
        taken.append(_late.pop(0))
    return taken


def note_origin(thread: threading.Thread, frame: callsite.Where) -> None:
    """Note what starts a thread.

    Args:
        thread: the thread that is about to be started.
        frame: the frame of the line that starts it.
    """
    setattr(thread, _ORIGIN, (running.test, frame.f_globals, frame.f_lineno))


def origin_of(thread: threading.Thread) -> Origin | None:
    """Return what has started a thread; None where that was not in a run."""
    found = getattr(thread, _ORIGIN, None)
    if found is None:
        return None
    test, namespace, line = found
    return Origin(test, callsite.site(namespace, line))


@contextmanager
def over(refuse: Callable[[Any], None]) -> Iterator[None]:
    """Refuse each crossing within a block, whichever thread makes it, as the tests are over.

    Args:
        refuse: gets what would be recorded, and raises.
    """
    global running  # noqa: PLW0603 - the one pointer that a test moves
    outer = running
    running = Timeline("no test")
    running.record = refuse
    for thread in threading.enumerate():
        # The timelines of tests that have ended, to which threads that these started write.
        if (timeline := getattr(thread, _TAG, None)) is not None:
            timeline.record = refuse
    try:
        yield
    finally:
        running = outer


@contextmanager
def unowned_threads() -> Iterator[None]:
    """Let the threads that are started within a block belong to no test, as they outlast it."""
    global _are_tagged  # noqa: PLW0603 - as global as the timeline
    outer, _are_tagged = _are_tagged, False
    try:
        yield
    finally:
        _are_tagged = outer


@contextmanager
def between_tests() -> Iterator[None]:
    """Let crossings within a block belong to no test, as it sets up what several tests share.

    Errors are kept for the running test all the same, as it would not run without the rest.
    """
    global running  # noqa: PLW0603 - as global as ever
    outer, running = running, Timeline()
    running.kept = outer.kept
    try:
        with unowned_threads():
            yield
    finally:
        running = outer


_are_tagged = True


def owner() -> Timeline | None:
    """Return the timeline of the test that what this thread starts belongs to, if to any."""
    return own_timeline() if running.test and _are_tagged else None


def own(thread: threading.Thread) -> None:
    """Let a thread that is about to be started belong to the test that starts it."""
    timeline = owner()
    if timeline is not None:
        setattr(thread, _TAG, timeline)


def note_asked(error: BaseException, path: str) -> None:
    """Note that code of a file has asked for an error that was kept, and so has got it.

    Args:
        error: the error that fails a test; any other is ignored.
        path: the path of the file.
    """
    for timeline in (running, own_timeline()):
        if any(kept is error for kept in timeline.kept):
            timeline.asked.append((error, path))


def note_unasked(error: BaseException) -> None:
    """Note that nobody has asked for an error with which a task of asyncio has ended."""
    for timeline in (running, own_timeline()):
        if any(kept is error for kept in timeline.kept):
            timeline.unasked.append(error)

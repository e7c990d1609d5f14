"""The timeline: every crossing, which is one thing that left the process, is one record on it.

Assertions and reports read the timeline. It also keeps the errors that fail its test even if the
application catches them: see ``record_failure`` and ``itkit.observation.swallowed``.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from itkit.core.text import repr_of
from itkit.exceptions import LateCallError
from itkit.timeline import callsite
from itkit.timeline.callsite import CallSite, Spot

Error = TypeVar("Error", bound=BaseException)


class Caller(Protocol):
    """The attributes of a caller that a crossing needs; a frame has them."""

    @property
    def f_globals(self) -> dict[str, Any]:
        """The globals of its module."""

    @property
    def f_lineno(self) -> int:
        """Its line."""


class CallingLine(NamedTuple):
    """A line of the source, for a caller whose frame has continued.

    Attributes:
        f_globals: the globals of its module.
        f_lineno: the number of the line.
    """

    f_globals: dict[str, Any]
    f_lineno: int


class Crossing:
    """One thing that left the process, such as a call of a backend.

    Args:
        caller: the caller, such as a frame, whose line is the call site.

    Attributes:
        at: the start, in seconds on the clock of ``time.perf_counter``.
        duration: the time that it took, in seconds; None until it has ended.
        error: the exception with which it ended, if any.
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
            duration: the time that it took, in seconds; None if it was not recorded.
            namespace: the globals of the caller's module; empty if they were not recorded.
            line: the line of the caller, from 1; 0 if it was not recorded.
        """
        self.strand = strand
        self.at = at
        self.duration = duration
        self.error = None
        self._namespace = namespace
        self._line = line

    @property
    def kind(self) -> str:
        """The kind of the crossing, such as ``sql`` or ``backend``."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Its name in assertions and reports, such as ``COMMIT``."""
        raise NotImplementedError

    @property
    def is_noted(self) -> bool:
        """Whether it is on the timeline that a test reads and that is printed."""
        return True

    @property
    def shown(self) -> str:
        """Its text in a line of the timeline."""
        failed = f" !! {repr_of(self.error)}" if self.error is not None else ""
        return f"{self.name}{failed}"

    @property
    def details(self) -> Mapping[str, Any]:
        """Further facts about it, by the names under which a report shows them."""
        return {}

    @property
    def site(self) -> CallSite | None:
        """The call site that it came from; None if it was not recorded."""
        return self.strand.site(self._namespace, self._line)

    @property
    def caller(self) -> CallingLine:
        """The call site as the caller of another crossing."""
        return CallingLine(self._namespace, callsite.line_of(self._line))

    @property
    def thread(self) -> str:
        """The name of its thread."""
        return str(self.strand.thread.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class CrossingMaker(Protocol):
    """The first item of a record that is a tuple; it makes the crossing for the record."""

    def crossing(self, record: tuple[Any, ...]) -> Crossing:
        """Return the crossing for a record."""


class Opened(Protocol):
    """The part of an open transaction or savepoint that an effect needs."""

    alias: str
    what: str
    is_open: bool
    is_rolled_back: bool

    @property
    def site(self) -> CallSite:
        """The line of the source that opened it."""


class Effect:
    """Something that has left the process while a transaction was open.

    Args:
        what: the crossing, or its record, or its name if it is on no timeline.
        caller: the caller whose line is the call site, if the crossing has none.
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
        """The crossing on the timeline, if there is one."""
        if isinstance(self._what, tuple):
            maker: CrossingMaker = self._what[0]
            self._what = maker.crossing(self._what)
        return self._what if isinstance(self._what, Crossing) else None

    @property
    def name(self) -> str:
        """Its name, such as ``payments.charge``."""
        return self.crossing.name if self.crossing is not None else str(self._what)

    @property
    def site(self) -> CallSite | None:
        """The line of the source that it came from."""
        if self._caller is not None:
            return callsite.site(*self._caller)
        return self.crossing.site if self.crossing is not None else None


class Timeline:
    """The crossings of one test, in the order in which they began.

    Recording is one append to a list, which is atomic in CPython, so that no crossing is lost when
    threads record at once. All counts and numbers derive from the list. A crossing that ends at
    once may be recorded as a tuple, at a third of the cost of an object. Its first item makes the
    crossing when it is read.

    Attributes:
        test: the id of the test; empty between tests.
        has_ended: whether the test has ended.
        kept: the errors that fail the test.
        asked: those of the errors that code has retrieved, with the paths of this code's files.
        unasked: those of the errors that nobody has retrieved.
        made: calls that happen only when their return value is awaited or consumed.
        effects: the crossings that have left the process while a transaction was open.
        spared: budgets of which less was used than the file says: pairs of the budget and a text.
        is_disturbed: whether a fault will be injected, so that numbers of crossings mean nothing.
        failed_at: how many crossings there were when the test failed; None if nobody has noted it.
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
        self.failed_at: int | None = None
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

    def note_failure(self) -> None:
        """Note that the test fails now: what comes after it belongs to the tear-down."""
        if self.failed_at is None:
            self.failed_at = len(self._records)


running = Timeline()
"""The timeline of the running test, for hot paths; other code calls ``current()``."""

_last = ""
_late: list[tuple[str, BaseException]] = []
_failure_sink: Callable[[BaseException], None] | None = None
_parent_sink: Callable[[str, BaseException], None] | None = None
_failure_source: Callable[[], None] | None = None


class Submitted(NamedTuple):
    """The line that has submitted work to a pool.

    Attributes:
        through: the globals of the module that calls the submitted function for the pool.
        namespace: the globals of the module that has submitted it.
        line: the line that has submitted it, from 1.
    """

    through: dict[str, Any]
    namespace: dict[str, Any]
    line: int


class Strand:
    """A thread, of this or another process, and the test that it belongs to.

    Args:
        thread: the thread, or an object that has its name.
        timeline: the timeline of the test that the work belongs to, if it is not the thread's own.
        submitted: the line that has submitted the work, for work in a pool.

    Attributes:
        thread: the thread, or an object that has its name.
        timeline: the timeline of the test that has started the thread or submitted its work; None
            if no test has.
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
        """Return the call site of a call in this thread.

        If a function was submitted to a pool directly, its caller is the pool, which is no use in a
        report. The call site is the line that submitted it in this case.

        Args:
            namespace: the globals of the caller's module.
            line: the number of the line, from 1, or the frame that has it.
        """
        if self._submitted is not None and namespace is self._submitted.through:
            _, namespace, line = self._submitted
        return callsite.site(namespace, line)


class _Here(threading.local):
    """The strand of this thread, found once, and the thread's open transactions."""

    def __init__(self) -> None:
        self.strand = Strand(threading.current_thread())
        self.blocks: list[Opened] = []


class Origin(NamedTuple):
    """The test and the line that have started a thread.

    Attributes:
        test: the test that was running; empty if none was.
        site: the line.
    """

    test: str
    site: CallSite


_TAG: Final = "_itkit_timeline"
_ORIGIN: Final = "_itkit_origin"
here = _Here()
"""This thread, as records need it."""


def current() -> Timeline:
    """Return the timeline of the running test.

    There is one for the process, not one for each context, as threads and live servers must see it
    too.
    """
    return running


def last_test() -> str:
    """Return the id of the running test, or else of the last one."""
    return running.test or _last


def new_timeline(test: str = "") -> Timeline:
    """Begin an empty timeline for a test, by its id, or for none, and return it."""
    global running, _last  # noqa: PLW0603 - the one pointer that a test moves, and what it was
    running.has_ended = True
    _last = running.test
    here.blocks.clear()  # transactions around a test do not count
    running = Timeline(test)
    return running


def own_timeline() -> Timeline:
    """Return the timeline of the test that this thread belongs to.

    This is the running test, unless a test that has ended has started the thread or submitted its
    work.
    """
    timeline = here.strand.timeline  # not "or", as an empty timeline is false
    return running if timeline is None else timeline


def note_effect(what: Any, caller: Caller | None = None) -> None:
    """Note that something leaves the process while a transaction of this thread is open.

    Args:
        what: the crossing, or its record, or its name.
        caller: the caller whose line is the call site, if the crossing has none.
    """
    timeline = own_timeline()
    blocks = tuple(block for block in here.blocks if block.is_open)
    if blocks and timeline.test:
        asked_at = (caller.f_globals, caller.f_lineno) if caller is not None else None
        timeline.effects.append(Effect(what, asked_at, blocks))


def record_failure(error: Error) -> Error:
    """Note that an error, which is about to be raised, fails the test, and return it.

    The test also fails if the application swallows the error.
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
        test: the id of the test; empty for errors of no test, which fail the running one.
        error: the failure.
    """
    if test in ("", running.test):
        running.kept.append(error)
    else:
        _late.append((test, error))


def set_parent_sink(sink: Callable[[str, BaseException], None] | None) -> None:
    """Report the errors of this process, which was forked, to its parent as well.

    Args:
        sink: receives each error with the id of its test; None ends the reports.
    """
    global _parent_sink  # noqa: PLW0603 - as global as the timeline
    _parent_sink = sink


def set_failure_source(source: Callable[[], None] | None) -> None:
    """Fetch errors of other processes by a function before recorded failures are read.

    Args:
        source: records the errors that have arrived; None removes the function.
    """
    global _failure_source  # noqa: PLW0603 - as global as the timeline
    _failure_source = source


def is_quiet() -> bool:
    """Return whether no failure was recorded for the running test and for ended ones."""
    if _failure_source is not None:
        _failure_source()
    return not (running.kept or running.made or _late)


def pop_failures() -> tuple[Timeline, list[BaseException]]:
    """Return the timeline of the running test and its recorded errors, and forget these."""
    if _failure_source is not None:
        _failure_source()
    kept, running.kept = running.kept, []
    return running, kept


def late(done: str, strand: Strand, site: CallSite | None) -> LateCallError:
    """Record and return the error for an action after the end of its test.

    Args:
        done: a sentence without a full stop, such as "payments.charge was called".
        strand: the strand of the action.
        site: the call site of the action, if it is known.
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
    """Send the errors of this process, in which no test is running, to another process.

    Nothing is recorded in such a process, as its timeline belongs to no test.

    Args:
        sink: receives each error; None ends this.
    """
    global _failure_sink  # noqa: PLW0603 - as global as the timeline
    _failure_sink = sink
    if sink is not None:
        running.record = _forget


def _forget(_crossing: object) -> None:
    """Record nothing."""


def pop_late_failures() -> list[tuple[str, BaseException]]:
    """Return the errors of ended tests with the tests' ids, and forget them."""
    if _failure_source is not None:
        _failure_source()
    taken: list[tuple[str, BaseException]] = []
    while _late:
        taken.append(_late.pop(0))
    return taken


def note_origin(thread: threading.Thread, frame: callsite.Where) -> None:
    """Note which test and line start a thread.

    Args:
        thread: the thread that is about to be started.
        frame: the frame of the line that starts it.
    """
    setattr(thread, _ORIGIN, (running.test, frame.f_globals, frame.f_lineno))


def origin_of(thread: threading.Thread) -> Origin | None:
    """Return the origin of a thread; None if it was not started in a run."""
    found = getattr(thread, _ORIGIN, None)
    if found is None:
        return None
    test, namespace, line = found
    return Origin(test, callsite.site(namespace, line))


@contextmanager
def over(refuse: Callable[[Any], None]) -> Iterator[None]:
    """Refuse each crossing of any thread within a block, as the tests are over.

    Args:
        refuse: gets the record, and raises an error.
    """
    global running  # noqa: PLW0603 - the one pointer that a test moves
    outer = running
    running = Timeline("no test")
    running.record = refuse
    for thread in threading.enumerate():
        # The timelines of ended tests, to which threads that these tests started write.
        if (timeline := getattr(thread, _TAG, None)) is not None:
            timeline.record = refuse
    try:
        yield
    finally:
        running = outer


@contextmanager
def unowned_threads() -> Iterator[None]:
    """Let threads that are started within a block belong to no test, as they outlast it."""
    global _are_tagged  # noqa: PLW0603 - as global as the timeline
    outer, _are_tagged = _are_tagged, False
    try:
        yield
    finally:
        _are_tagged = outer


@contextmanager
def between_tests() -> Iterator[None]:
    """Let crossings within a block belong to no test, as the block prepares several tests.

    Errors are still recorded for the running test, which depends on the block.
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
    """Return the timeline of the test that new threads of this thread belong to, if any."""
    return own_timeline() if running.test and _are_tagged else None


def own(thread: threading.Thread) -> None:
    """Let a thread that is about to be started belong to the test that starts it."""
    timeline = owner()
    if timeline is not None:
        setattr(thread, _TAG, timeline)


def note_asked(error: BaseException, path: str) -> None:
    """Note that code of a file has retrieved a recorded error.

    Args:
        error: the error that fails a test; any other is ignored.
        path: the path of the file.
    """
    for timeline in (running, own_timeline()):
        if any(kept is error for kept in timeline.kept):
            timeline.asked.append((error, path))


def note_unasked(error: BaseException) -> None:
    """Note that nobody has retrieved the error with which a task of asyncio has ended."""
    for timeline in (running, own_timeline()):
        if any(kept is error for kept in timeline.kept):
            timeline.unasked.append(error)

"""What left the process, in order: every crossing of every boundary is one record on one timeline.

All that observes (assertions, reports) is a reader of this spine. A timeline also keeps the errors
that fail its test whatever the application makes of them: see ``keep`` and ``itkit.verdicts``.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple, TypeVar

from itkit import audit

Error = TypeVar("Error", bound=BaseException)

_PACKAGE = str(Path(__file__).parent) + os.sep


class Site(NamedTuple):
    """A place in the source from which a boundary was crossed."""

    path: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{_relative(self.path)}:{self.line} in {self.function}"


class Crossing:
    """One thing that left the process, such as a call of a backend.

    Args:
        frame: whose place is the site, or the first outside of itkit on the way to it.

    Attributes:
        at: its start, in seconds on the clock of ``time.perf_counter``.
        duration: how long it took, in seconds; None while it is under way.
        error: the exception that it ended with, if any.
    """

    __slots__ = ("_code", "_offset", "_thread", "at", "duration", "error")

    def __init__(self, frame: FrameType) -> None:
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back
        self.duration: float | None = None
        self.error: BaseException | None = None
        self._thread = here.thread
        # The line is looked up when it is printed: reading f_lineno here would cost more than
        # the rest of the record.
        self._code = frame.f_code
        self._offset = frame.f_lasti
        self.at = perf_counter()

    @property
    def name(self) -> str:
        """What assertions and reports call it, such as ``COMMIT``."""
        raise NotImplementedError

    @property
    def site(self) -> Site:
        """The first place outside of itkit on the way to this crossing."""
        return Site(self._code.co_filename, _line_of(self._code, self._offset), self._code.co_name)

    @property
    def thread(self) -> str:
        """The name of the thread that crossed."""
        return self._thread.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Timeline:
    """The crossings of one test, in the order in which they began.

    Recording is one append to a list, which CPython makes atomic, so that no crossing is lost
    when threads record at once; every count and number is derived from the list.

    Attributes:
        test: id of the test whose it is; empty between tests.
        has_ended: whether the test has.
        kept: errors that fail the test.
    """

    def __init__(self, test: str = "") -> None:
        self.test = test
        self.has_ended = False
        self.kept: list[BaseException] = []
        self._crossings: list[Crossing] = []
        self.record = self._crossings.append

    def __iter__(self) -> Iterator[Crossing]:
        return iter(self._crossings.copy())

    def __len__(self) -> int:
        return len(self._crossings)


_current = Timeline()
_late: list[tuple[str, BaseException]] = []


class _Here(threading.local):
    """This thread and the test that it belongs to, found once for each thread.

    Attributes:
        timeline: of the test that has started the thread; None where no test has.
    """

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.timeline: Timeline | None = getattr(self.thread, _TAG, None)


_TAG: Final = "_itkit_timeline"
here = _Here()
"""This thread, as a record needs it."""


def current() -> Timeline:
    """Return the timeline of the running test.

    It is one for the process, not one for a context: threads and live servers must see it too.
    """
    return _current


def new_timeline(test: str = "") -> Timeline:
    """Begin an empty timeline and return it: that of a test, by its id, or of none."""
    global _current  # noqa: PLW0603 - the one pointer that a test moves
    _current.has_ended = True
    _current = Timeline(test)
    return _current


def own_timeline() -> Timeline:
    """Return the timeline of the test that this thread belongs to.

    That is the running one, unless a test that has ended has started the thread.
    """
    return here.timeline or _current


def keep(error: Error) -> Error:
    """Note that an error, which is about to be raised, fails the test; return it.

    The application may swallow it: the test fails all the same.
    """
    timeline = own_timeline()
    if timeline.has_ended:
        _late.append((timeline.test, error))
    else:
        timeline.kept.append(error)
    return error


def take_late() -> list[tuple[str, BaseException]]:
    """Return, once, the errors that were kept for tests that had ended, with the tests' ids."""
    taken: list[tuple[str, BaseException]] = []
    while _late:
        taken.append(_late.pop(0))
    return taken


@contextmanager
def following_threads() -> Iterator[None]:
    """Have each thread that is started within a block belong to the test that starts it."""
    with audit.listening(dict.fromkeys(_THREAD_EVENTS, _tag)):
        yield


@contextmanager
def between_tests() -> Iterator[None]:
    """Have the threads that are started within a block belong to no test: they outlast it."""
    global _are_tagged  # noqa: PLW0603 - as global as the timeline
    outer, _are_tagged = _are_tagged, False
    try:
        yield
    finally:
        _are_tagged = outer


_THREAD_EVENTS: Final = ("_thread.start_new_thread", "_thread.start_joinable_thread")
_SERVING: Final = frozenset({"concurrent.futures.thread", "multiprocessing.pool", "socketserver"})
"""Modules whose threads outlast a test on purpose: they serve whoever comes next."""

_are_tagged = True


def _tag(arguments: tuple[Any, ...]) -> None:
    thread = getattr(arguments[0], "__self__", None)  # the function is Thread._bootstrap
    if not isinstance(thread, threading.Thread) or not _current.test or not _are_tagged:
        return
    target = getattr(thread, "_target", None)
    if getattr(target, "__module__", None) not in _SERVING:
        setattr(thread, _TAG, own_timeline())


def _line_of(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno


def _relative(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path

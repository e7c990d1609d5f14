"""What left the process, in order: every crossing of every boundary is one record on one timeline.

A backend's call is a crossing today; SQL, Redis commands, mail and tasks are to come. All that
observes (assertions, reports) is a reader of this spine.
"""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from types import CodeType
from typing import NamedTuple

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
        name: what assertions and reports call it, such as ``payments.charge``.
        depth: how many frames up the search for the site begins; to skip those that are known
            to be itkit's is a third of a record's cost.

    Attributes:
        at: its start, in seconds on the clock of ``time.perf_counter``.
        duration: how long it took, in seconds; None while it is under way.
        error: the exception that it ended with, if any.
    """

    __slots__ = ("_code", "_offset", "_thread", "at", "duration", "error", "name")

    def __init__(self, name: str, depth: int = 1) -> None:
        self.name = name
        self.duration: float | None = None
        self.error: BaseException | None = None
        self._thread = threading.current_thread()
        frame = sys._getframe(depth)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back
        # The line is looked up when it is printed: reading f_lineno here would cost more than
        # the rest of the record.
        self._code = frame.f_code
        self._offset = frame.f_lasti
        self.at = perf_counter()

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
    """

    def __init__(self) -> None:
        self._crossings: list[Crossing] = []
        self.record = self._crossings.append

    def __iter__(self) -> Iterator[Crossing]:
        return iter(self._crossings.copy())

    def __len__(self) -> int:
        return len(self._crossings)


_current = Timeline()


def current() -> Timeline:
    """Return the timeline of the running test.

    It is one for the process, not one for a context: threads and live servers must see it too.
    """
    return _current


def new_timeline() -> Timeline:
    """Begin an empty timeline, as each test does, and return it."""
    global _current  # noqa: PLW0603 - the one pointer that a test moves
    _current = Timeline()
    return _current


def _line_of(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno


def _relative(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path

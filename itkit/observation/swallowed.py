"""Fails a test for errors of itkit that the application has swallowed.

A recorded error (``record_failure``) counts unless the test has seen it itself. The test has seen
it if the frame that caught the error, which is the outermost one of its traceback, is in the test's
own code, if ``assertRaises`` has removed the traceback, or if a test has retrieved it from a
future.
"""

import asyncio
import gc
import opcode
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final

from itkit.core.text import message_of
from itkit.exceptions import (
    ElsewhereError,
    FoundError,
    ItkitError,
    NeverRunError,
    NotRunError,
    SwallowedError,
    TestError,
)
from itkit.fakes import Call
from itkit.fakes.classes.members import Kind
from itkit.timeline import callsite, core
from itkit.timeline.callsite import CallSite
from itkit.timeline.core import Timeline

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_FRAMEWORKS = ("django", "itkit", "pytest_django", "unittest")
_REPORTING: Final = frozenset({"_pytest", "pluggy", "unittest"})
"""Packages that catch an error to report it, or for a test that expects it."""
_ENDING_BY_AN_ERROR: Final = frozenset({opcode.opmap["RERAISE"], opcode.opmap["RAISE_VARARGS"]})
_RUN_BY: Final = {
    Kind.COROUTINE: ("coroutine", "awaited", "Write: await ..."),
    Kind.GENERATOR: ("generator", "iterated", "Write: for item in ...: or list(...)"),
    Kind.ASYNC_GENERATOR: ("generator", "iterated", "Write: async for item in ...:"),
    Kind.CONTEXT: ("context manager", "entered", "Write: with ...:"),
    Kind.ASYNC_CONTEXT: ("context manager", "entered", "Write: async with ...:"),
}
"""By the kind of a method: its return value, what has to be done with it, and how."""
_MOST_SHOWN: Final = 20
_ASYNCHRONOUS: Final = CO_COROUTINE | CO_ASYNC_GENERATOR


def check(sources: frozenset[str], what: str = "this test", *, is_over: bool = False) -> None:
    """Check that the application has swallowed no failure of the running test.

    Each failure is reported once.

    Args:
        sources: paths of the files whose frames belong to the test.
        what: the thing that fails, for the message.
        is_over: whether the test has ended with all of its clean-up.

    Raises:
        SwallowedError: the application has swallowed errors. The first one is the cause, and the
            message names all.
        FoundError: no error was swallowed, but another failure was found.
    """
    timeline, kept = core.pop_failures()
    if not kept and not timeline.made:  # true in nearly all tests
        return
    found = [
        error
        for error in kept
        if isinstance(error, FoundError) and not _was_found(error, timeline, sources)
    ]
    found += _never_run(timeline) if is_over else ()
    raised = [error for error in kept if not isinstance(error, FoundError)]
    swallowed = [error for error in raised if not _was_seen(error, timeline, sources)]
    if found and not swallowed:
        raise type(found[0])("\n".join(_together(found)))
    if swallowed:
        swallowed += found
        raise SwallowedError(_message(swallowed, what)) from swallowed[0]


def late() -> Iterator[tuple[str, TestError]]:
    """Yield each action of a test after its end, with the test, and forget the actions."""
    for test, error in core.pop_late_failures():
        if isinstance(error, FoundError):
            yield test, error
            continue
        yield test, SwallowedError(_described(error).removeprefix("  "))


def check_all_run(found: Iterable[str], run: Collection[str]) -> None:
    """Check that all tests that were found were run or skipped.

    Args:
        found: the ids of the tests.
        run: the ids of the tests that were run or skipped.

    Raises:
        NotRunError: some were not run; the message names them.
    """
    missing = sorted(set(found).difference(run))
    if missing:
        was = "was" if len(missing) == 1 else "were"
        shown = [f"  {test}" for test in missing[:_MOST_SHOWN]]
        if len(missing) > len(shown):
            shown.append(f"  and {len(missing) - len(shown)} more")
        raise NotRunError(
            f"{len(missing)} of the tests that were found {was} not run: the run was interrupted, a"
            " process that was to run them has ended, or they were run outside of the scope of a"
            " test, which begins in unittest.TestCase.run() and in pytest's pytest_runtest_setup.\n"
            + "\n".join(shown)
        )


class Account:
    """The account of a run's tests: which were found, and for which a scope has begun.

    Attributes:
        found: the ids of all tests, each with its class; empty if no tests were selected.
        suite: the suite of the tests, which one or several processes run.
        follower: a function that is called with the id and the result object of each test that
            begins, and with an empty id when the test ends.
        thread: the thread of the running test.
        last: the id of the last test.
        is_checked: whether tests that were not run have been reported already.
    """

    def __init__(self) -> None:
        self.found: dict[str, type] = {}
        self.suite: object = None
        self.follower: Callable[[str, object], None] | None = None
        self.thread = 0
        self.last = ""
        self.is_checked = False
        self._run: set[str] = set()
        self._not_set_up: set[str] = set()

    def begin(self, test: str, result: object) -> None:
        """Note that a test begins."""
        self.thread = threading.get_ident()
        self._run.add(test)
        if self.follower is not None:
            self.follower(test, result)

    def end(self, result: object) -> None:
        """Note that the running test has ended."""
        if self.follower is not None:
            self.follower("", result)

    def add(self, tests: Iterable[str]) -> None:
        """Note that tests were run, or that a failure to run them was reported."""
        self._run.update(tests)

    def take(self) -> tuple[list[str], list[str]]:
        """Return the ids of these tests and the classes that were not set up, and forget them."""
        taken = sorted(self._run), sorted(self._not_set_up)
        self._run.clear()
        self._not_set_up.clear()
        return taken

    def take_back(self, test: str) -> None:
        """Note that a test was interrupted."""
        self._run.discard(test)

    def add_not_set_up(self, classes: Iterable[str]) -> None:
        """Note that classes of tests were skipped, or have failed, as a whole."""
        self._not_set_up.update(classes)

    def check(self) -> None:
        """Check once that all tests that were found were run.

        Raises:
            NotRunError: some were not run; the message names them.
        """
        if not self.is_checked:
            self.is_checked = True
            left = {name for name, kind in self.found.items() if name_of(kind) in self._not_set_up}
            check_all_run(self.found, self._run | left)


def name_of(kind: type) -> str:
    """Return the name of a class as unittest prints it."""
    return f"{kind.__module__}.{kind.__qualname__}"


@lru_cache(maxsize=1)  # the tests of a class run one after another
def sources_of(test: type) -> frozenset[str]:
    """Return the paths of the source files of a test case and of the project's base classes."""
    own = [kind for kind in test.__mro__ if kind.__module__.partition(".")[0] not in _FRAMEWORKS]
    paths = [getattr(sys.modules.get(kind.__module__), "__file__", None) for kind in own]
    return frozenset(path for path in paths if path is not None)


def _together(found: Iterable[FoundError]) -> Iterator[str]:
    """Yield the messages of findings, and a remedy that some have in common once, after them."""
    for remedy, group in groupby(found, lambda error: error.remedy):
        yield from (str(error).removesuffix(f"\n{remedy}") for error in group)
        if remedy:
            yield remedy


def _never_run(timeline: Timeline) -> Iterator[FoundError]:
    """Yield a text about each call that was made but never happened, and forget the calls."""
    made, timeline.made = timeline.made, []
    happened = {id(crossing) for crossing in timeline} if made else set()
    for call in made:
        if id(call) not in happened and isinstance(call, Call):
            returned, missing, remedy = _RUN_BY[call.method.member.kind]
            yield NeverRunError(
                f"{call!r} was called, but its {returned} was never {missing}, so the call has not"
                f" happened.\n  called at {call.site}\n  {remedy}"
            )


def _was_found(error: FoundError, timeline: Timeline, sources: frozenset[str]) -> bool:
    """Return whether the test has seen a failure itself, or has caught the error behind it."""
    behind = error.behind
    return error.is_seen or (behind is not None and _was_seen(behind, timeline, sources))


def _was_seen(error: BaseException, timeline: Timeline, sources: frozenset[str]) -> bool:
    """Return whether the test has caught an error itself, or has seen it in another way."""
    if isinstance(error, ElsewhereError):
        return False
    if error.__traceback__ is None:  # assertRaises removes it
        return True
    if any(asked is error and _is_of_tests(path, sources) for asked, path in timeline.asked):
        return True
    if _was_caught_by(sources, error, error.__traceback__, timeline):
        return True
    return any(_was_seen(group, timeline, sources) for group in _groups_of(error))


def _groups_of(error: BaseException) -> list[BaseException]:
    """Return the groups that an error is in, such as that of a ``TaskGroup``."""
    # By its type, as isinstance() would evaluate a lazy object.
    found = [one for one in gc.get_objects() if issubclass(type(one), BaseExceptionGroup)]
    return [group for group in found if any(error is part for part in group.exceptions)]


def _was_caught_by(
    sources: frozenset[str], error: BaseException, caught: TracebackType, timeline: Timeline
) -> bool:
    """Return whether the outermost frame of an error is the test's, and has caught the error."""
    frame = caught.tb_frame
    if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _REPORTING:
        return True
    if not _is_of_tests(frame.f_code.co_filename, sources):
        return False
    if frame.f_code.co_flags & _ASYNCHRONOUS and _has_ended_by(caught):
        # Asyncio has caught it, for code that reads the task's result.
        return not _is_unasked(error, timeline)
    return not _has_ended_by(caught)


def _is_of_tests(path: str, sources: frozenset[str]) -> bool:
    """Return whether a file belongs to the test, or is shared by tests."""
    return path in sources or callsite.is_of_tests(path)


def _has_ended_by(caught: TracebackType) -> bool:
    """Return whether the outermost frame of an error has ended by the error without catching it.

    In that case code in C has caught it, such as the code that starts a thread or runs a task.
    """
    last = caught.tb_frame.f_lasti
    return last == caught.tb_lasti or caught.tb_frame.f_code.co_code[last] in _ENDING_BY_AN_ERROR


def _is_unasked(error: BaseException, timeline: Timeline) -> bool:
    """Return whether nobody has retrieved the error of a task, which may be collected by now."""
    if any(unasked is error for unasked in timeline.unasked):
        return True
    # By its type, as isinstance() would evaluate a lazy object.
    tasks = [task for task in gc.get_objects() if issubclass(type(task), asyncio.Future)]
    return any(task._exception is error and task._log_traceback for task in tasks)


def _message(swallowed: Iterable[BaseException], what: str) -> str:
    shown = Counter(_described(error) for error in swallowed)
    total = shown.total()
    count = "an error that fails" if total == 1 else f"{total} errors that fail"
    lines = [
        text if times == 1 else f"{text}\n  {times} times the same" for text, times in shown.items()
    ]
    return "\n".join([f"The application has swallowed {count} {what}:", *lines])


def _described(error: BaseException) -> str:
    where = "  in a process that the test has started:\n" * isinstance(error, ElsewhereError)
    said = message_of(error)
    if not isinstance(error, ItkitError):
        said = f"{type(error).__name__}: {said}"
    text = "\n".join(f"  {line}" for line in said.splitlines())
    frames = [
        frame for frame in _frames(error.__traceback__) if not frame.path.startswith(_PACKAGE)
    ]
    if not frames:
        return f"{where}{text}"
    called = f"\n  called at {frames[-1]}" if not isinstance(error, ItkitError) else ""
    return f"{where}{text}{called}\n  caught at {frames[0]}"


def _frames(traceback: TracebackType | None) -> Iterator[CallSite]:
    """Yield the frames of an error, from the one that caught it to the one that raised it."""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield CallSite(code.co_filename, traceback.tb_lineno, code.co_name)
        traceback = traceback.tb_next

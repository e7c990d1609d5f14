"""Runs a swept test of unittest with all of its variations, and reports it once."""

import copy
import traceback
import unittest
from collections.abc import Callable
from typing import Any, Final

from itkit.core.text import message_of
from itkit.environment import Environment
from itkit.exceptions import FaultError, SweepError
from itkit.sweep.choosing import AnyChoice, choice_of
from itkit.sweep.sweeps import sweep_of
from itkit.sweep.variations import Sweep
from itkit.timeline import callsite
from itkit.timeline.callsite import CallSite

_BAD: Final = ("addError", "addFailure")

Run = Callable[[unittest.TestCase, Any], object]
"""Runs a test, with its set-up before it and its reset after it."""


class Collected(unittest.TestResult):
    """The reports of one run of a test, which can be examined or passed on."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, tuple[Any, ...]]] = []

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        """Note an error."""
        self._add("addError", err)

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        """Note a failure."""
        self._add("addFailure", err)

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        """Note that the test was skipped."""
        self._add("addSkip", reason)

    def addSuccess(self, test: Any) -> None:  # noqa: N802
        """Note a success."""
        self._add("addSuccess")

    def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        """Note an expected failure."""
        self._add("addExpectedFailure", err)

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        """Note an unexpected success."""
        self._add("addUnexpectedSuccess")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        """Note the end of a subtest."""
        if err is not None:
            is_failure = issubclass(err[0], test.failureException)
            self._add("addFailure" if is_failure else "addError", err)

    @property
    def errors_found(self) -> list[Any]:
        """The errors and failures in the form of unittest."""
        return [args[0] for name, args in self.events if name in _BAD]

    @property
    def is_plain_success(self) -> bool:
        """Whether the test has passed and there is nothing else to report about it."""
        return bool(self.events) and {name for name, _ in self.events} == {"addSuccess"}

    def hand_on(self, test: Any, result: Any) -> None:
        """Report the same to the result of the tests."""
        result.startTest(test)
        for name, args in self.events:
            if hasattr(result, name):
                getattr(result, name)(test, *args)
        result.stopTest(test)
        if self.shouldStop:
            result.stop()

    def _add(self, name: str, *args: Any) -> None:
        self.events.append((name, args))


def choice_for(test: unittest.TestCase) -> AnyChoice | None:
    """Return the choice with which a test is swept; None if it is not swept."""
    return choice_of(getattr(test, getattr(test, "_testMethodName", ""), None))


def run(
    test: unittest.TestCase,
    result: Any,
    current: Environment,
    choice: AnyChoice,
    once: Run,
) -> None:
    """Run a test with each of its variations, and report it once.

    Args:
        test: the test.
        result: the result object of the tests.
        current: the environment.
        choice: the choice with which the test is swept.
        once: runs one variation.
    """
    follower, current.account.follower = current.account.follower, None
    try:
        if follower is not None:
            follower(test.id(), result)
        sweep = sweep_of(current, choice, test.id())
        try:
            _sweep(test, result, sweep, once)
        finally:
            sweep.close()
        if follower is not None:
            follower("", result)
    finally:
        current.account.follower = follower


def _sweep(test: unittest.TestCase, result: Any, sweep: Sweep, once: Run) -> None:
    collected, first = _varied(test, sweep, once)
    if not collected.is_plain_success:
        collected.hand_on(test, result)
        return
    try:
        has_more = sweep.begin(first)
    except FaultError as error:
        _report(test, result, error)
        return
    for variation in sweep.variations() if has_more else ():
        varied = Collected()
        with sweep.varied(variation.spec) as varying:
            if variation.is_shown:  # like any other test, so that a debugger sees its real state
                once(_again(test), result)
                return
            once(_again(test), varied)
        if errors := varied.errors_found:
            sweep.find(variation.spec, varying, *_described(errors))
        if varied.shouldStop:
            result.stop()
            break
    text = sweep.report()
    if text:
        _report(test, result, SweepError(text))
    else:
        collected.hand_on(test, result)


def _varied(test: unittest.TestCase, sweep: Sweep, once: Run) -> tuple[Collected, Any]:
    collected = Collected()
    with sweep.varied() as first:
        once(_again(test), collected)
    return collected, first


def _again(test: unittest.TestCase) -> unittest.TestCase:
    """Return a new object for the same test, of which nothing has run yet."""
    again: Any = copy.copy(test)
    again._cleanups = []
    return again  # type: ignore[no-any-return]  # a copy


def _described(errors: list[Any]) -> tuple[str, str]:
    """Return a failure in one line, with the user's last line, and its whole text."""
    kind, error, trace = errors[0]
    # The text of an error that itkit raises after the act is enough.
    own = _own(trace)
    lines = traceback.format_exception(kind, error, own) if own is not None else []
    text = "".join(lines or traceback.format_exception_only(kind, error))
    frames = [
        frame for frame in traceback.extract_tb(trace) if callsite.is_own_file(frame.filename)
    ]
    where = ""
    if frames:
        where = f" at {CallSite(frames[-1].filename, frames[-1].lineno or 0, '')}"
    line = message_of(error).strip().partition("\n")[0]
    return f"{kind.__name__}: {line}{where}", text


def _own(trace: Any) -> Any:
    """Return a traceback from its first frame in a user's own code; None without such a frame."""
    found = trace
    while found is not None and not callsite.is_own_file(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found


def _report(test: unittest.TestCase, result: Any, error: Exception) -> None:
    result.startTest(test)
    result.addFailure(test, (type(error), error, None))
    result.stopTest(test)

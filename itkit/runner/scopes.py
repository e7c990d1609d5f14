"""The scope of each test of unittest, which begins and ends with the test itself.

A runner may have any class of results, so nothing here depends on it. All runners call
``unittest.TestCase.run()``, and suites set classes and modules up by four methods of
``unittest.TestSuite``. Errors also pass through here on their way to a result, by attributes of the
result object.
"""

import functools
import inspect
import pickle
import sys
import threading
import unittest
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

from django.test import SimpleTestCase

from itkit import environment
from itkit.core.options import django_command
from itkit.core.text import message_of
from itkit.exceptions import (
    ItkitError,
    NotRunError,
    ScopeError,
    ServiceUnavailableError,
    TestError,
    WorkerError,
)
from itkit.observation import swallowed
from itkit.runner import sweeping
from itkit.timeline import callsite, core

ErrorHolder: Final = unittest.suite._ErrorHolder  # type: ignore[attr-defined]  # not in the stubs
INDEX: Final = "_itkit_index"
"""The attribute of each selected test that is sent with it to a worker."""
_PREPARED: Final = "_itkit_is_prepared"

_Levels = list[Callable[[], None]]
_class_levels: _Levels = []
_module_levels: _Levels = []
"""The functions that end the levels of the running tests' class or module."""


class Ended(unittest.TestCase):
    """Represents a test that has ended, for reports about it."""

    def __init__(self, name: str) -> None:
        super().__init__("_do_nothing")
        self._id = name

    def id(self) -> str:
        """Return the name of the test."""
        return self._id

    def __str__(self) -> str:
        return self._id

    def _do_nothing(self) -> None:
        pass


def install() -> ExitStack:
    """Let unittest begin and end the scope of each test, class and module.

    There is no hook for this: only the result class of a runner decides whether it calls the hooks
    of results. Checked with Python 3.11 and 3.13, and with Django 5.2, 6.0 and 6.1.

    Returns:
        The stack whose ``close()`` undoes this.
    """
    undo = ExitStack()
    for owner, name, around in (
        (unittest.TestCase, "run", _run),
        (unittest.TestCase, "debug", _debug),
        (SimpleTestCase, "__call__", _call),
        (unittest.TestSuite, "run", _run_suite),
        (unittest.TestSuite, "_handleModuleFixture", _set_up_module),
        (unittest.TestSuite, "_handleClassSetUp", _set_up_class),
        (unittest.TestSuite, "_tearDownPreviousClass", _tear_down_class),
        (unittest.TestSuite, "_handleModuleTearDown", _tear_down_module),
    ):
        original = getattr(owner, name)
        undo.callback(setattr, owner, name, original)
        setattr(owner, name, _wrapped(original, around))
    return undo


@contextmanager
def required(message: str) -> Iterator[None]:
    """End the process if a test of unittest begins without an environment, within a block.

    As ``install`` says, there is no hook for the beginning of a test. Checked with Python 3.11 and
    3.13.

    Args:
        message: the text that the process prints.
    """

    def run(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if environment.current() is None:
            sys.exit(message)
        return original(*args, **kwargs)

    original = unittest.TestCase.run
    unittest.TestCase.run = _wrapped(original, run)  # type: ignore[method-assign]  # as above
    try:
        yield
    finally:
        unittest.TestCase.run = original  # type: ignore[method-assign]


def prepare(result: Any) -> None:
    """Let a result report errors with what itkit knows about them.

    An error then shows the timeline of its test, and can be sent from a worker to the main process.
    It ends the run if its reason is a server that has died. The class of results belongs to the
    runner, so the methods of the object are replaced. Checked with Python 3.11 and 3.13.
    """
    if getattr(result, _PREPARED, False):
        return
    setattr(result, _PREPARED, True)
    add_error: Callable[..., None] = result.addError
    for name in ("addError", "addFailure", "addExpectedFailure", "addSubTest"):
        original = getattr(result, name, None)
        if original is not None:
            setattr(result, name, _reporting(result, name, original, add_error))


def finish(result: Any, *, has_workers: bool = False) -> None:
    """Report what outlives the tests, failures after them, and tests that were not run.

    Args:
        result: the result of the tests.
        has_workers: whether other processes have run them.
    """
    current = environment.current()
    if current is None or current.is_in_test:
        return
    _report_outside(result, lambda: "after the tests")
    if not has_workers:
        for test, error in current.shut():
            result.addError(Ended(test), (type(error), error, None))
    _report_late(result)
    # A run that ends with its first failure has not run the other tests, as expected.
    if not result.wasSuccessful() and getattr(result, "failfast", False):
        current.account.is_checked = True
    try:
        current.account.check()
    except NotRunError as error:
        result.addError(Ended("tests that were not run"), (type(error), error, None))


def report_imports(result: Any) -> None:
    """Report failures that were swallowed while the tests were imported."""
    prepare(result)
    _report_outside(result, lambda: "import of the tests")


def _wrapped(original: Callable[..., Any], around: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    return wrapped


def _run(original: Callable[..., Any], test: unittest.TestCase, result: Any = None) -> Any:
    current = environment.current()
    if current is None:
        return original(test, result)
    if current.is_in_test:
        if hasattr(test, INDEX) and threading.get_ident() != current.account.thread:
            return _refuse(test, result)
        return original(test, result)  # it runs within another test
    if result is not None:
        prepare(result)
        _report_outside(result, lambda: f"between tests, before {test.id()}", type(test))
    with _scope(test, result, current):
        returned = original(test, result)
    if not isinstance(test, SimpleTestCase):
        _take_back(test, result, current)
    return returned


def _call(original: Callable[..., Any], test: unittest.TestCase, result: Any = None) -> Any:
    """Run a test of Django's, which has set-up before the test begins and tear-down after it."""
    current = environment.current()
    if result is None or current is None or current.is_in_test:
        return original(test, result)
    choice = sweeping.choice_for(test) if current.variation is None else None
    if choice is not None:
        sweeping.run(test, result, current, choice, partial(_call, original))
        return None
    prepare(result)
    returned = None
    with _caught(result, lambda: test):
        returned = original(test, result)
    _take_back(test, result, current)  # after Django's rollback
    return returned


def _take_back(test: unittest.TestCase, result: Any, current: environment.Environment) -> None:
    """Take back what the test has committed although it was rolled back."""
    try:
        current.after_test(partial(_where, test))
    except RuntimeWarning:  # with -W error the warning is an error
        if result is None:
            raise
        result.addError(test, sys.exc_info())


def _where(test: unittest.TestCase) -> tuple[str, int]:
    """Return the path of a test's file, and the line at which the test begins."""
    function = inspect.unwrap(getattr(test, test._testMethodName))
    code = getattr(function, "__code__", None)
    if code is None:
        return str(getattr(sys.modules.get(type(test).__module__), "__file__", "")), 1
    return code.co_filename, code.co_firstlineno


def _debug(original: Callable[..., Any], test: unittest.TestCase) -> Any:
    current = environment.current()
    if current is None or current.is_in_test:
        return original(test)
    with _scope(test, None, current):
        return original(test)


@contextmanager
def _scope(
    test: unittest.TestCase, result: Any, current: environment.Environment
) -> Iterator[None]:
    current.begin_test(test.id(), getattr(test, INDEX, None))
    current.account.begin(test.id(), result)
    # The first clean-up that is added runs last, and its errors count for the test.
    kind: Any = type(test)  # mypy takes a class of test cases for one that has no hash
    sources = swallowed.sources_of(kind)
    test.addCleanup(current.check_test, sources)
    test.addCleanup(_check_calls, test, current, sources)
    if current.keeper is not None:
        is_last = test.id() == current.account.last
        current.keeper.watch(test, test.id(), lambda: None, is_last=is_last)
    try:
        yield
    finally:
        if environment.current() is current:
            if result is not None:
                _check_again(test, result, sources)
            if current.payload.report_all and current.variation is None:
                _report_passed(test, result, current)
            current.end_test()
            if result is not None:
                _report_late(result)
            current.account.end(result)


def _report_passed(test: unittest.TestCase, result: Any, current: environment.Environment) -> None:
    """Write the page of a test that has passed, and was not skipped."""
    skipped = [one for one, _ in getattr(result, "skipped", ())]
    if test.id() not in current.order.failed and not any(one is test for one in skipped):
        current.reported(test.id(), None, f"{django_command()} {test.id()}", core.current())


def _check_again(test: unittest.TestCase, result: Any, sources: frozenset[str]) -> None:
    """Report failures after the check, as a test may run its clean-ups itself or drop them."""
    if core.is_quiet():
        return
    try:
        swallowed.check(sources, is_over=True)
    except TestError as error:
        result.addError(test, (type(error), error, None))


def _refuse(test: unittest.TestCase, result: Any) -> Any:
    error = ScopeError(
        f"{test.id()} begins while {core.current().test} runs in another thread. Backends,"
        " Redis and the timeline belong to one test at a time in a process: have the runner use"
        " processes, as --parallel does."
    )
    if result is None:
        raise error
    result.startTest(test)
    result.addError(test, (type(error), error, None))
    result.stopTest(test)
    return result


def _run_suite(
    original: Callable[..., Any], suite: unittest.TestSuite, result: Any, *args: Any, **kwargs: Any
) -> Any:
    current = environment.current()
    if current is None or current.is_in_test or current.account.suite is None:
        return original(suite, result, *args, **kwargs)
    is_outermost = not getattr(result, "_testRunEntered", False)
    if suite is current.account.suite:
        current.account.suite = None
        report_imports(result)
        current.add_levels()  # rows that a runner has loaded after it has set the databases up
    returned = original(suite, result, *args, **kwargs)
    # A runner that runs parts of the suite separately is checked at its end.
    if is_outermost and current.account.suite is None:
        finish(result)
    return returned


def _set_up_module(
    original: Callable[..., Any], suite: unittest.TestSuite, test: unittest.TestCase, result: Any
) -> None:
    module = type(test).__module__
    if suite._get_previous_module(result) == module:  # type: ignore[attr-defined]  # private
        original(suite, test, result)  # which unittest calls before each test
        return
    prepare(result)
    current = environment.current()
    if current is not None and not current.is_in_test:
        current.begin_module()
    with _caught(result, lambda: f"setUpModule ({module})") as ended:
        original(suite, test, result)
    if ended:
        result._moduleSetUpFailed = True
        unittest.case.doModuleCleanups()
    _add_levels(result, module, _module_levels, has_failed=result._moduleSetUpFailed)
    _report_outside(result, lambda: f"setUpModule ({module})", type(test))


def _set_up_class(
    original: Callable[..., Any], suite: unittest.TestSuite, test: unittest.TestCase, result: Any
) -> None:
    kind: Any = type(test)
    if getattr(result, "_previousTestClass", None) is kind:
        original(suite, test, result)  # as for modules
        return
    name = swallowed.name_of(kind)
    prepare(result)
    current = environment.current()
    if current is not None and not current.is_in_test:
        current.begin_class(name)
    with _caught(result, lambda: f"setUpClass ({name})") as ended:
        original(suite, test, result)
    if ended:
        kind._classSetupFailed = True
        kind.doClassCleanups()
    has_failed = getattr(kind, "_classSetupFailed", False) or result._moduleSetUpFailed
    if current is not None and has_failed:
        current.account.add_not_set_up([name])
    _add_levels(result, name, _class_levels, has_failed=has_failed)
    _report_outside(result, lambda: f"setUpClass ({name})", kind)


def _tear_down_class(
    original: Callable[..., Any], suite: unittest.TestSuite, test: Any, result: Any
) -> None:
    previous = getattr(result, "_previousTestClass", None)
    if previous is type(test):
        original(suite, test, result)  # as for modules
        return
    where = f"tearDownClass ({swallowed.name_of(previous)})" if previous is not None else ""
    with _caught(result, lambda: where) as ended:
        original(suite, test, result)
    if ended and previous is not None:
        previous.doClassCleanups()
    _end_levels(_class_levels)
    if previous is not None:
        _report_outside(result, lambda: where, previous)


def _tear_down_module(original: Callable[..., Any], suite: unittest.TestSuite, result: Any) -> None:
    previous = getattr(result, "_previousTestClass", None)
    where = f"tearDownModule ({previous.__module__})" if previous is not None else ""
    with _caught(result, lambda: where):
        original(suite, result)
    _end_levels(_module_levels)
    if previous is not None:
        _report_outside(result, lambda: where, previous)


def _add_levels(result: Any, name: str, levels: _Levels, *, has_failed: bool) -> None:
    """Keep rows and keys of a set-up for its tests, unless it has failed."""
    current = environment.current()
    if current is None or current.is_in_test:
        return
    try:
        added = current.add_levels()
    except ItkitError:
        result.addError(ErrorHolder(f"what {name} has set up"), sys.exc_info())
        return
    if has_failed:
        current.end_levels(added)
    else:
        levels += added


def _end_levels(levels: _Levels) -> None:
    """Take back the rows and keys of a set-up after its tests."""
    current = environment.current()
    if current is not None and not current.is_in_test:
        current.end_levels(levels)


@contextmanager
def _caught(result: Any, what: Callable[[], Any]) -> Iterator[list[SystemExit]]:
    """Report a ``sys.exit()`` outside of a test's methods, which would end the process.

    Args:
        result: the result of the tests.
        what: returns the test, or an object for the set-up that several tests share.
    """
    ended: list[SystemExit] = []
    try:
        yield ended
    except SystemExit as error:
        current = environment.current()
        if current is None or current.is_in_test:
            raise
        ended.append(error)
        found = what()
        holder = ErrorHolder(found) if isinstance(found, str) else found
        result.addError(holder, sys.exc_info())


def _check_calls(
    test: unittest.TestCase, current: environment.Environment, sources: frozenset[str]
) -> None:
    outcome: Any = getattr(test, "_outcome", None)  # private in unittest
    current.check_calls(sources, has_passed=outcome is None or outcome.success)


def _report_outside(result: Any, where: Callable[[], str], kind: type | None = None) -> None:
    """Report failures that were swallowed outside of tests, and those of ended tests.

    Args:
        result: the result of the tests.
        where: returns unittest's name for the scope; called only if there is a failure.
        kind: the class whose files belong to the test.
    """
    if environment.current() is None or core.current().test or core.is_quiet():
        return
    sources = swallowed.sources_of(kind) if kind else frozenset()
    try:
        swallowed.check(sources, where(), is_over=True)
    except TestError as error:
        result.addError(ErrorHolder(where()), (type(error), error, None))
    _report_late(result)


def _report_late(result: Any) -> None:
    for test, error in swallowed.late():
        result.addError(Ended(test), (type(error), error, None))


def _reporting(
    result: Any, name: str, original: Callable[..., None], add_error: Callable[..., None]
) -> Callable[..., None]:
    """Return a method that adds an error to a result, with itkit's notes about it."""
    is_sent = hasattr(result, "check_picklable")  # Django's result class in a worker

    def add(test: Any, err: Any, *args: Any) -> None:
        err = _shortened(err)
        if name != "addExpectedFailure":
            _write_to_xml(result, _note_timeline(err, test))
        # Nothing was tested yet, so it is an error and no failure, like a mistake in a fixture.
        is_error = name == "addFailure" and _is_mistake_in_set_up(err)
        report = add_error if is_error else original
        report(test, _sendable(err) if is_sent else err, *args)
        if name != "addExpectedFailure":
            _account(test)
            _watch(result, test, add_error)

    def add_subtest(test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            err = _shortened(err)
            _write_to_xml(result, _note_timeline(err, test))
            _account(test)
        if err is None or not is_sent:
            original(test, subtest, err)
        elif _can_be_sent(subtest):
            original(test, subtest, _sendable(err))
        else:
            err[1].add_note(f"in the subtest {subtest}")
            result.addError(test, err)

    return add_subtest if name == "addSubTest" else add


def _account(test: Any) -> None:
    """Note that a test has failed, perhaps before it began, while Django has set it up."""
    current = environment.current()
    if current is not None and isinstance(test, unittest.TestCase):
        current.account.add([test.id()])
        current.order.failed.add(test.id())


def _watch(result: Any, test: Any, add_error: Callable[..., None]) -> None:
    """End the run if a test fails because a server has died, as all other tests would fail too."""
    current = environment.current()
    if current is None or result.shouldStop:
        return
    try:
        current.check_servers()
    except ServiceUnavailableError:
        result.stop()
        add_error(test, sys.exc_info())


def _write_to_xml(result: Any, text: str) -> None:
    """Add text to the output of a test that unittest-xml-reporting writes.

    It has no method for this. Checked with unittest-xml-reporting 4.0.
    """
    capture = getattr(result, "_stdout_capture", None)
    if capture is not None and text:
        capture.write(f"{text}\n")


def _note_timeline(err: Any, test: Any) -> str:
    """Add a note to an error, with the timeline and how to repeat its test.

    Returns:
        The text of the note; empty if there is none.
    """
    error, current = err[1], environment.current()
    if error is None or current is None:
        return ""
    if core.current().test != test.id():  # of the set-up of a class or a module
        if current.keeper is not None and isinstance(test, ErrorHolder):
            current.keeper.note(test.id(), error)
            current.keeper.stand(test.id(), is_last=False)
        advice = current.advice(message_of(error))
        if advice and advice not in getattr(error, "__notes__", ()):
            error.add_note(advice)
        return advice
    if current.keeper is not None:
        current.keeper.note(test.id(), error)
    shown = "\n".join([message_of(error), *getattr(error, "__notes__", ())])
    command, story = f"{django_command()} {test.id()}", core.current()
    explained = current.explained(shown, command, story)
    notes = [explained, current.reported(test.id(), error, command, story)]
    for note in filter(None, notes):
        error.add_note(note)
    return "\n".join(filter(None, notes))


def _shortened(err: Any) -> Any:
    """Return an error with a traceback without itkit's frames, which ends in the author's own code.

    An error that itkit has found after the test has no line of such code, so it gets no traceback.
    """
    kind, error, trace = err
    if error is None:
        return err
    if isinstance(error, TestError):
        callsite.end_in_own_code(error)
        if not callsite.has_own_code(trace):
            return (kind, error, None)
    callsite.hide_own_frames(error)
    return (kind, error, error.__traceback__)


def _is_mistake_in_set_up(err: Any) -> bool:
    return isinstance(err[1], TestError) and callsite.is_of_set_up(err[1])


def _sendable(err: Any) -> Any:
    """Return an error as it is, or one with the same text that can be sent to another process."""
    if _can_be_sent(err):
        return err
    kind, error, trace = err
    said = f"{kind.__qualname__}: {message_of(error)}"
    text = "\n".join([said, *getattr(error, "__notes__", ())])
    instead = WorkerError(
        f"{text}\nThe error is shown by its text: it cannot be pickled, so a worker cannot send it"
        " to the main process."
    ).with_traceback(trace)
    return (WorkerError, instead, trace)


def _can_be_sent(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301 - what was pickled in this line
    except Exception:  # noqa: BLE001 - a class of the project's may raise anything there
        return False
    return True

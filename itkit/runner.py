"""Django's door to the environment: ``manage.py test --integration``.

``IntegrationRunnerMixin`` adds the option and the scopes to any runner that is a DiscoverRunner.
itkit's ``test`` command mixes it into the project's own; a project that sets TEST_RUNNER itself
can use ``IntegrationRunner`` or the mixin.
"""

import argparse
import functools
import multiprocessing
import multiprocessing.util
import os
import sys
import types
import unittest
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from django.test import runner as django_runner
from django.test.runner import DiscoverRunner, ParallelTestSuite

from itkit import boundary, environment, joined, names, seed, verdicts
from itkit.exceptions import (
    EscapeError,
    ItkitError,
    NotRunError,
    RunOverError,
    ServiceUnavailableError,
    TestError,
)

# For the type checker, the mixins are what they are mixed into.
if TYPE_CHECKING:
    _Runner = DiscoverRunner
else:
    _Runner = object
_iter_test_cases = django_runner.iter_test_cases  # type: ignore[attr-defined]  # not in the stubs

_ErrorHolder = unittest.suite._ErrorHolder  # type: ignore[attr-defined]  # not in the stubs
_FIRST: Final = 100  # of what multiprocessing does at the end of a process
_INDEX = "_itkit_index"
_LONGEST: Final = 800  # characters of a message
_MOST_TOLD: Final = 4  # of one worker
_NOTES = "add_itkit_notes"
ProjectRunner: type
"""The project's runner with the mixin: Django's command takes a runner by its import path."""


class IntegrationRunnerMixin(_Runner):
    """Adds ``--integration`` to a DiscoverRunner; list it before the runner in the bases."""

    def __init__(
        self,
        *args: Any,
        integration: bool = False,
        rebuild: bool = False,
        itkit_seed: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.integration = integration
        self.rebuild = rebuild
        self.itkit_seed = itkit_seed
        self._found: dict[str, type] = {}
        if integration:
            self.parallel_test_suite = _scoped_suite(self.parallel_test_suite)
            # Of this module, as workers get it pickled: a suite of the project's own stays.
            if self.test_suite is unittest.TestSuite:
                self.test_suite = _ClassScope

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the option beside those of the runner."""
        super().add_arguments(parser)
        add_integration_option(parser)

    def run_tests(self, test_labels: Any, **kwargs: Any) -> int:
        """Run the tests, inside of an environment where ``--integration`` asks for one."""
        joined.leave()
        if not self.integration:
            return super().run_tests(test_labels, **kwargs)
        start(self.log, rebuild=self.rebuild, seeded=self.itkit_seed)
        late, failures = 0, 1
        try:
            failures = super().run_tests(test_labels, **kwargs) + _escaped(self.log)
        except SystemExit as left:
            if left.code in (None, 0):
                sys.exit("itkit: sys.exit() has ended the run, so tests were not run.")
            raise
        finally:
            if (current := environment.current()) is not None:
                for line in current.notes.lines():
                    self.log(line)
            late = stop(self.log)
            environment.leave_with(int(failures + late > 0))
        return failures + late

    def setup_databases(self, **kwargs: Any) -> Any:
        """Create the test databases, the workers' side by side."""
        current = environment.current()
        if current is None:
            return super().setup_databases(**kwargs)
        try:
            created = super().setup_databases(**kwargs)
            current.finish_databases()
        except ItkitError as error:
            sys.exit(f"itkit: {error}")
        return created

    def build_suite(self, *args: Any, **kwargs: Any) -> Any:
        """Build the suite, and number its tests by their names."""
        suite = super().build_suite(*args, **kwargs)
        if (current := environment.current()) is not None:
            _number(suite, current.first_index)
            self._found = _kinds(suite)
        return suite

    def load_tests_for_label(self, label: str, discover_kwargs: dict[str, str]) -> Any:
        """Load tests; without ``--integration``, stand-ins for those that are tagged so."""
        tests = super().load_tests_for_label(label, discover_kwargs)
        if self.integration:
            return tests
        return unittest.TestSuite(map(_skipped_if_integration, _iter_test_cases(tests)))

    def get_resultclass(self) -> Any:
        """Return the runner's result class with the scope of a test around each test."""
        base = super().get_resultclass()
        if not self.integration:
            return base
        # With workers, theirs are the tests; this process only hears of them.
        mixin = _ServerWatch if self.parallel > 1 else _TestScope
        namespace = {"found": self._found, "has_workers": self.parallel > 1}
        return type("IntegrationResult", (mixin, base or unittest.TextTestResult), namespace)


class IntegrationRunner(IntegrationRunnerMixin, DiscoverRunner):
    """Django's own runner with ``--integration``, for ``TEST_RUNNER``."""


def add_integration_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--integration``, ``--rebuild`` and ``--itkit-seed`` to a parser."""
    parser.add_argument(
        "--integration",
        action="store_true",
        help=names.OPTION_HELP,
    )
    parser.add_argument("--rebuild", action="store_true", help=names.REBUILD_HELP)
    parser.add_argument("--itkit-seed", metavar="SEED", help=names.SEED_HELP)


def start(log: Callable[[str], None], *, rebuild: bool = False, seeded: str | None = None) -> None:
    """Start the environment and say what the tests run on.

    Args:
        log: says it.
        rebuild: whether what earlier runs have migrated is to be made anew.
        seeded: what the run's random values come from.

    Raises:
        SystemExit: there can be none; the message was printed.
    """
    try:
        log(environment.start(rebuild=rebuild, seeded=seeded).payload.summary)
    except ItkitError as error:
        sys.exit(f"itkit: {error}")


def _escaped(log: Callable[[str], None]) -> int:
    """Return 1 and say so where the run has written into data that is not the tests', else 0."""
    current = environment.current()
    try:
        if current is not None:
            current.check_outside()
    except EscapeError as error:
        log(f"itkit: {error}")
        return 1
    return 0


def stop(log: Callable[[str], None]) -> int:
    """End the environment; what could not be cleared is told, and is no reason to fail.

    Returns:
        How much outlives the tests and is no error of theirs yet.
    """
    try:
        found = environment.stop()
    except ItkitError as error:
        log(f"itkit: {error}")
        return 0
    for late in found:
        sys.stderr.write(f"itkit: {late.error}\n")
    return len(found)


def mix_into(runner: type) -> type:
    """Return a runner class with ``--integration``, whatever kind of runner the project has."""
    if issubclass(runner, IntegrationRunnerMixin):
        return runner
    mixin = IntegrationRunnerMixin if hasattr(runner, "build_suite") else _PytestRunnerMixin
    return type("ProjectRunner", (mixin, runner), {"__module__": __name__})


class _PytestRunnerMixin(_Runner):
    """Adds ``--integration`` to a runner that hands its labels to pytest: pytest-django's."""

    def __init__(
        self,
        *args: Any,
        integration: bool = False,
        rebuild: bool = False,
        itkit_seed: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        chosen = {
            "--integration": integration,
            "--rebuild": rebuild,
            f"--itkit-seed={itkit_seed}": itkit_seed,
        }
        self.options = [option for option, is_chosen in chosen.items() if is_chosen]

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        add_integration_option(parser)

    def run_tests(self, test_labels: Any, **kwargs: Any) -> int:
        return super().run_tests([*self.options, *test_labels], **kwargs)


class _Skipped(unittest.TestCase):
    """Stands in for an integration test that is not run.

    It declares no databases and has no class-level set-up, so that neither is done for nothing.
    """

    def __init__(self, test: unittest.TestCase) -> None:
        super().__init__("skip")
        self._id = test.id()
        self._text = str(test)
        self.tags = _tags(test)

    def skip(self) -> None:
        self.skipTest(names.SKIP_REASON)

    def id(self) -> str:
        return self._id

    # A TestCase equals any other of its class and method, and Django removes duplicates.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Skipped) and self._id == other._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __str__(self) -> str:
        return self._text


class _Ended(unittest.TestCase):
    """Stands for a test that has ended, of which there is something to report."""

    def __init__(self, name: str) -> None:
        super().__init__("id")
        self._id = name

    def id(self) -> str:
        return self._id

    def __str__(self) -> str:
        return self._id


def _number(suite: Any, first: int) -> None:
    """Give each test its index, which travels with it to a worker."""
    tests = list(_iter_test_cases(getattr(suite, "subsuites", suite)))
    found = seed.indexes([test.id() for test in tests], first)
    for test in tests:
        setattr(test, _INDEX, found[test.id()])


def _kinds(suite: Any) -> dict[str, type]:
    """Return the ids of all tests, each with its class."""
    tests = _iter_test_cases(getattr(suite, "subsuites", suite))
    return {test.id(): type(test) for test in tests}


def _skipped_if_integration(test: unittest.TestCase) -> unittest.TestCase:
    return _Skipped(test) if names.TAG in _tags(test) else test


def _tags(test: unittest.TestCase) -> set[str]:
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    return {*getattr(test, "tags", ()), *getattr(method, "tags", ())}


class _ServerWatch(unittest.TestResult):
    """Ends the run when a test fails because a server has died: all others would fail as well.

    It also tells what was swallowed while the tests were imported, and which tests were not run.

    Attributes:
        found: the ids of all tests, each with its class; empty in a worker.
        has_workers: whether the tests of a class are run, and reported, by a worker as a whole.
    """

    found: Mapping[str, type] = MappingProxyType({})
    has_workers = False

    def startTestRun(self) -> None:  # noqa: N802 - unittest's name
        super().startTestRun()
        _report_outside(self, lambda: "import of the tests")

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        self._account(test)
        super().startTest(test)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802 - unittest's name
        self._account(test)
        super().addSkip(test, reason)

    def stopTestRun(self) -> None:  # noqa: N802 - unittest's name
        if self.found and self.wasSuccessful():
            run = [test for test, kind in self.found.items() if self._was_run(test, kind)]
            try:
                verdicts.check_all_run(self.found, run)
            except NotRunError as error:
                self.addError(_Ended("tests that were not run"), (type(error), error, None))
        super().stopTestRun()

    @functools.cached_property
    def _run(self) -> set[str]:
        """The ids of the tests that were run or skipped, and of what was skipped as a whole."""
        return set()

    def add_itkit_notes(self, _test: object, notes: Any) -> None:
        """Take what a worker has to tell at the end of the run: one of its events."""
        if (current := environment.current()) is not None:
            current.notes.add_all(notes)

    def _account(self, test: unittest.TestCase) -> None:
        self._run.add(test.id())
        if self.has_workers and test.id() in self.found:
            self._run.add(f"setUpClass ({_class_name(self.found[test.id()])})")

    def _was_run(self, test: str, kind: type) -> bool:
        groups = (f"setUpClass ({_class_name(kind)})", f"setUpModule ({kind.__module__})")
        return not self._run.isdisjoint((test, *groups))

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        super().addError(test, err)
        self._watch(test)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        super().addFailure(test, err)
        self._watch(test)

    def _watch(self, test: unittest.TestCase) -> None:
        current = environment.current()
        if current is None or self.shouldStop:
            return
        try:
            current.check_servers()
        except ServiceUnavailableError:
            self.stop()  # first: adding the error comes back here
            super().addError(test, sys.exc_info())


class _TestScope(_ServerWatch):
    """Begins and ends the scope of each test in the environment."""

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        _note_timeline(err, test)
        super().addError(test, err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        _note_timeline(err, test)
        super().addFailure(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: Any, err: Any) -> None:  # noqa: N802 - unittest's name
        _note_timeline(err, test)
        super().addSubTest(test, subtest, err)

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        _report_outside(self, lambda: f"between tests, before {test.id()}", type(test))
        if (current := environment.current()) is not None:
            current.begin_test(test.id(), getattr(test, _INDEX, None))
            # The first to be added is the last to run, and what they raise is the test's.
            sources = verdicts.sources_of(type(test))
            test.addCleanup(current.check_test, sources)
            test.addCleanup(_check_calls, test, current, sources)
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        if (current := environment.current()) is not None:
            self._check_again(test)
            current.end_test()
        super().stopTest(test)
        self._report_late()

    def stopTestRun(self) -> None:  # noqa: N802 - unittest's name
        if (current := environment.current()) is not None:
            for test, error in current.shut():
                self.addError(_Ended(test), (type(error), error, None))
        _report_outside(self, lambda: "after the tests")
        self._report_late()
        super().stopTestRun()

    def _check_again(self, test: unittest.TestCase) -> None:
        """Report what came after the check: a test may run its clean-ups itself, or forget them."""
        if boundary.is_quiet():
            return
        try:
            verdicts.check(verdicts.sources_of(type(test)), is_over=True)
        except TestError as error:
            self.addError(test, (type(error), error, None))

    def _report_late(self) -> None:
        for test, error in verdicts.late():
            self.addError(_Ended(test), (type(error), error, None))


def _check_calls(
    test: unittest.TestCase, current: environment.Environment, sources: frozenset[str]
) -> None:
    outcome: Any = getattr(test, "_outcome", None)  # private, of unittest
    current.check_calls(sources, has_passed=outcome is None or outcome.success)


def _note_timeline(err: Any, test: unittest.TestCase) -> None:
    """Have an error print what has left the process before it, and how to repeat its test."""
    error, current = (err[1] if err is not None else None), environment.current()
    if error is None or current is None or not boundary.current().test:
        return
    shown = "\n".join([str(error), *getattr(error, "__notes__", ())])
    if note := current.explained(shown, f"manage.py test {test.id()}", boundary.current()):
        error.add_note(note)


class _ClassScope(unittest.TestSuite):
    """Begins the scope of each class, and tells what set-up and tear-down have swallowed."""

    def run(self, result: Any, debug: bool = False) -> Any:  # noqa: FBT001, FBT002 - unittest's signature
        """Run the tests; where the set-up of a class or module leaves by sys.exit(), fail."""
        try:
            return super().run(result, debug)
        except SystemExit as left:
            where = getattr(result, "_previousTestClass", None)
            name = "the tests" if where is None else f"the tests, by or after {_class_name(where)}"
            error = NotRunError(
                f"sys.exit({left.code!r}) has ended {name}: those that were to come were not run."
            )
            result.addError(_ErrorHolder("sys.exit()"), (NotRunError, error, left.__traceback__))
            return result

    def _handleModuleFixture(self, test: unittest.TestCase, result: Any) -> None:  # noqa: N802 - unittest's name
        super()._handleModuleFixture(test, result)  # type: ignore[misc]  # not in the stubs
        _report_outside(result, lambda: f"setUpModule ({type(test).__module__})", type(test))

    def _handleClassSetUp(self, test: unittest.TestCase, result: Any) -> None:  # noqa: N802 - unittest's name
        if (current := environment.current()) is not None:
            current.begin_class(_class_name(type(test)))
        super()._handleClassSetUp(test, result)  # type: ignore[misc]  # not in the stubs
        _report_outside(result, lambda: f"setUpClass ({_class_name(type(test))})", type(test))

    def _tearDownPreviousClass(self, test: Any, result: Any) -> None:  # noqa: N802 - unittest's name
        super()._tearDownPreviousClass(test, result)  # type: ignore[misc]  # not in the stubs
        if (previous := getattr(result, "_previousTestClass", None)) is not None:
            _report_outside(result, lambda: f"tearDownClass ({_class_name(previous)})", previous)

    def _handleModuleTearDown(self, result: Any) -> None:  # noqa: N802 - unittest's name
        super()._handleModuleTearDown(result)  # type: ignore[misc]  # not in the stubs
        if (previous := getattr(result, "_previousTestClass", None)) is not None:
            _report_outside(result, lambda: f"tearDownModule ({previous.__module__})", previous)


def _class_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _report_outside(result: Any, where: Callable[[], str], kind: type | None = None) -> None:
    """Report what was swallowed where no test was running, and of tests that have ended.

    Args:
        result: of the tests.
        where: returns where it was, as unittest calls that; asked only if there is something.
        kind: the class whose files are the test's own.
    """
    if environment.current() is None or boundary.current().test or boundary.is_quiet():
        return
    sources = verdicts.sources_of(kind) if kind else frozenset()
    try:
        verdicts.check(sources, where(), is_over=True)
    except TestError as error:
        result.addError(_ErrorHolder(where()), (type(error), error, None))
    for test, late in verdicts.late():
        result.addError(_Ended(test), (type(late), late, None))


class _ScopedSuite(ParallelTestSuite):
    """Runs the workers of a parallel suite inside of the environment.

    Under spawn, Django pickles the functions below by their names, so they are of this module;
    what the project's own suite has in their places is handed on to them.
    """

    _told: Any = None

    @property
    def init_worker(self) -> Any:  # type: ignore[override]  # Django reads its __func__ only
        project = super().init_worker.__func__  # type: ignore[attr-defined]
        return types.MethodType(functools.partial(_init_worker, project, self._told), self)

    def run(self, result: Any) -> Any:  # type: ignore[override]  # as Django's
        """Run the tests, and report what outlives them in the workers, which tell when they end."""
        self._told = multiprocessing.SimpleQueue()
        try:
            return super().run(result)
        finally:
            while not self._told.empty():
                for test, text in self._told.get():
                    error = RunOverError(text)
                    result.addError(_Ended(test), (RunOverError, error, None))
            self._told.close()

    @property
    def run_subsuite(self) -> Any:  # type: ignore[override]  # Django reads its __func__ only
        project = super().run_subsuite.__func__  # type: ignore[attr-defined]
        return types.MethodType(functools.partial(_run_subsuite, project), self)


def _scoped_suite(base: type[ParallelTestSuite]) -> type[ParallelTestSuite]:
    return type("ScopedSuite", (_ScopedSuite, base), {})


def _init_worker(project: Callable[..., None], told: Any, *args: Any, **kwargs: Any) -> None:
    """Attach a worker to the run, around what Django does to switch its databases."""
    spawned = environment.current() is None
    if spawned:
        args = _set_up_spawned(*args)
        environment.attach(names.MAIN_WORKER)
    project(*args, **kwargs)
    current = environment.current()
    if current is not None:
        number: int = django_runner._worker_id  # type: ignore[attr-defined]  # not in the stubs
        current.enter_worker(names.worker_id(number))
        # Before multiprocessing waits for the threads, and ends the process.
        multiprocessing.util.Finalize(None, _end_worker, args=(told,), exitpriority=_FIRST)


def _end_worker(told: Any) -> None:
    """Shut the ways out of a worker that has no more tests, and tell what outlives them."""
    current = environment.current()
    if current is None or current.process != os.getpid():
        return
    found = [(late.test, str(late.error)) for late in current.shut()]
    found += [(test, str(error)) for test, error in verdicts.late()]
    if found:
        # Nobody reads before all workers have ended, so all that they write has to fit into a pipe.
        told.put([(test, text[:_LONGEST]) for test, text in found[:_MOST_TOLD]])


def _set_up_spawned(
    counter: Any,
    settings: Any = None,
    serialized: Any = None,
    process_setup: Any = None,
    process_setup_args: Any = None,
    *rest: Any,
) -> tuple[Any, ...]:
    """Load the project in a spawned worker, which Django does only after it has been attached.

    Return the arguments of Django's own initializer without the set-up that is done already.
    """
    import django

    if process_setup is not None:
        process_setup(*(process_setup_args or ()))
    django.setup()
    return (counter, settings, serialized, None, None, *rest)


def _run_subsuite(project: Callable[[Any], Any], args: tuple[Any, ...]) -> Any:
    """Run one class of tests in a worker, with the scope of a test around each."""
    runner_class, *rest = args
    boundary.take_kept()  # a spawned worker has imported the tests, of which the run tells once
    scoped = type("ScopedResult", (_TestScope, runner_class.resultclass), {})
    index, events = project((functools.partial(runner_class, resultclass=scoped), *rest))
    current = environment.current()
    if current is not None and (taken := current.notes.take()):
        events.append((_NOTES, 0, [tuple(note) for note in taken]))
    return index, events

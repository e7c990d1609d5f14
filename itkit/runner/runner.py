"""Django's door to the environment: ``manage.py test --integration``.

``IntegrationRunnerMixin`` adds the option and the scopes to any DiscoverRunner. itkit's ``test``
command mixes it into the project's own; a project that sets TEST_RUNNER itself can use
``IntegrationRunner`` or the mixin.
"""

import argparse
import os
import sys
import unittest
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.db.utils import OperationalError
from django.test import runner as django_runner
from django.test.runner import DiscoverRunner
from django.utils.autoreload import get_child_arguments

from itkit import environment
from itkit.core import names
from itkit.core.options import (
    KEEP_ALONE,
    OPTIONS,
    REPORT_GITHUB,
    REPORT_TEXT,
    django_command,
    options_of,
    without_integration,
)
from itkit.core.seed import Seed, in_order
from itkit.core.text import NO_SERVER, is_refusal
from itkit.environment import child
from itkit.environment.bisection import bisection
from itkit.environment.keeping import Keeper
from itkit.exceptions import EscapeError, ItkitError, NotRunError
from itkit.runner import parallel, scopes
from itkit.sweep.choosing import check_options

# The type checker sees the mixins as subclasses of the classes that they are mixed into.
if TYPE_CHECKING:
    _Runner = DiscoverRunner
else:
    _Runner = object
_iter_test_cases = django_runner.iter_test_cases  # type: ignore[attr-defined]  # not in the stubs

_OTHER_KIND = (
    "itkit: --integration cannot run the tests of {0.__module__}.{0.__qualname__}, which has no"
    " build_suite() and does not run pytest. Derive it from django.test.runner.DiscoverRunner."
)
_ONE_TEST: Final = (
    "itkit: --itkit-bisect is for the command line, with --integration and one test, as the report"
    " of a failure prints it: python manage.py test shop.tests.ShopTests.test_a --integration"
    " --itkit-seed=5f3a9c01:17 --itkit-bisect"
)
ProjectRunner: type
"""The project's runner with the mixin: Django's command takes a runner by its import path."""


class IntegrationRunnerMixin(_Runner):
    """Adds ``--integration`` to a DiscoverRunner; in the bases it comes before the runner."""

    def __init__(
        self,
        *args: Any,
        integration: bool = False,
        rebuild: bool = False,
        itkit_seed: str | None = None,
        itkit_bisect: bool = False,
        itkit_trial: str | None = None,
        itkit_keep: bool = False,
        itkit_report: str | None = None,
        itkit_report_all: bool = False,
        itkit_report_format: str = REPORT_TEXT,
        itkit_budgets: str = names.BUDGETS_CHECK,
        itkit_coverage: bool = False,
        itkit_coverage_min: float | None = None,
        itkit_sweep: str = names.SWEEP_QUICK,
        itkit_fault: str | None = None,
        itkit_schedule: str | None = None,
        itkit_state: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.integration = integration
        self.rebuild = rebuild
        self.itkit_seed = itkit_seed
        self.itkit_bisect = itkit_bisect
        self.itkit_trial = itkit_trial
        self.itkit_keep = itkit_keep
        self.itkit_report = itkit_report
        self.itkit_report_all = itkit_report_all
        self.itkit_report_format = itkit_report_format
        self.itkit_budgets = itkit_budgets
        self.itkit_coverage = itkit_coverage or itkit_coverage_min is not None
        self.itkit_coverage_min = itkit_coverage_min
        self.itkit_sweep = itkit_sweep
        self.itkit_fault = itkit_fault
        self.itkit_schedule = itkit_schedule
        self.itkit_state = itkit_state
        if integration:
            self.parallel_test_suite = parallel.scoped(self.parallel_test_suite)

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the option beside those of the runner."""
        super().add_arguments(parser)
        add_integration_option(parser)

    def run_tests(self, test_labels: Any, **kwargs: Any) -> int:
        """Run the tests, within an environment if ``--integration`` is given."""
        child.leave()
        if self.itkit_bisect:
            return self._bisect(test_labels)
        if not self.integration:
            _check_options_alone()
            return super().run_tests(test_labels, **kwargs)
        if self.itkit_keep and self.parallel > 1:
            sys.exit(f"itkit: {KEEP_ALONE}")
        trial = bisection.Trial(self.itkit_trial) if self.itkit_trial else None
        if trial is not None:
            self.itkit_seed, self.failfast = trial.seed, False
            test_labels = test_labels if trial.tests is None else trial.tests
        start(
            self.log,
            rebuild=self.rebuild,
            seeded=self.itkit_seed,
            trial=trial,
            keep=self.itkit_keep,
            reported=None if trial is not None else self.itkit_report,
            reports_all=self.itkit_report_all and trial is None,
            budgets=self.itkit_budgets,
            covered=self.itkit_coverage and trial is None,
            sweep=self.itkit_sweep,
            fault=self.itkit_fault,
            schedule=self.itkit_schedule,
            state=self.itkit_state,
        )
        if Seed.parse(self.itkit_seed).has_order:
            self.parallel = 1
        late, failures = 0, 1
        try:
            with scopes.install():
                failures = super().run_tests(test_labels, **kwargs) or 0
                if not (failures and self.failfast):
                    failures += _unreported()
                failures += _escaped(self.log)
            failures += self._is_uncovered()
        finally:
            if (current := environment.current()) is not None:
                if trial is not None:
                    trial.end(current.order)
                for line in current.notes.lines():
                    self.log(line)
            late = stop(self.log)
            environment.leave_with(int(failures + late > 0))
        return failures + late

    def _is_uncovered(self) -> bool:
        """Print the boundary coverage if it is measured; return whether it is too low."""
        current = environment.current()
        if current is None:
            return False
        lines, is_short = current.boundary_coverage(self.itkit_coverage_min)
        for line in lines:
            self.log(line)
        return is_short

    def setup_databases(self, **kwargs: Any) -> Any:
        """Create the test databases, those of the workers at the same time."""
        current = environment.current()
        if current is None:
            try:
                return super().setup_databases(**kwargs)
            except OperationalError as error:
                if is_refusal(str(error)):
                    error.add_note(f"itkit: {NO_SERVER.format('database', django_command())}")
                raise
        try:
            created = super().setup_databases(**kwargs)
            current.finish_databases()
        except ItkitError as error:
            sys.exit(f"itkit: {error}")
        if described := current.describe_migrations():
            self.log(described)
        return created

    def build_suite(self, test_labels: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Build the suite, and number its tests by their names."""
        suite = super().build_suite(test_labels, *args, **kwargs)
        if (current := environment.current()) is not None:
            seed, named = Seed.parse(self.itkit_seed), list(test_labels or ())
            if seed.has_order:
                tests = in_order(_iter_test_cases(suite), named, unittest.TestCase.id)
                suite = self.test_suite(tests)
            _number(suite, seed, named)
            current.account.found = found = _kinds(suite)
            current.account.last = next(reversed(found), "")
            current.account.suite = suite
        return suite

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        """Run the suite, and check that it has come to its end."""
        try:
            result = super().run_suite(suite, **kwargs)
            if self.integration and self.itkit_report_format == REPORT_GITHUB:
                for line in _annotations(result):
                    self.log(line)
            return result  # noqa: TRY300 - what is printed must not run without a result
        except SystemExit as error:
            current = environment.current()
            if current is None:
                raise
            message = f"itkit: the tests were ended by sys.exit({error.code!r})"
            try:
                current.account.check()
            except NotRunError as not_run:
                message += f". {not_run}"
            raise SystemExit(message) from error

    def _bisect(self, labels: Sequence[str]) -> int:
        """Find the tests that make a test fail, although it passes alone."""
        if not self.integration or len(labels) != 1 or "--itkit-bisect" not in sys.argv:
            sys.exit(_ONE_TEST)
        start = [os.fspath(argument) for argument in get_child_arguments()]
        arguments = sys.argv[2:]  # the arguments after manage.py test
        command = bisection.Command(
            start=start[: len(start) - len(arguments)],
            shown=django_command().split(),
            options=bisection.options(arguments, labels),
            argument=str,
        )
        try:
            return bisection.run(command, labels[0], self.itkit_seed, self.log)
        except ItkitError as error:
            sys.exit(f"itkit: {error}")

    def load_tests_for_label(self, label: str, discover_kwargs: dict[str, str]) -> Any:
        """Load tests; without ``--integration``, replace those with its tag by stand-ins."""
        tests = super().load_tests_for_label(label, discover_kwargs)
        if self.integration:
            return tests
        return unittest.TestSuite(map(_skipped_if_integration, _iter_test_cases(tests)))


class IntegrationRunner(IntegrationRunnerMixin, DiscoverRunner):
    """Django's own runner with ``--integration``, for ``TEST_RUNNER``."""


def add_integration_option(parser: argparse.ArgumentParser) -> None:
    """Add the options of itkit, such as ``--integration``, to a parser."""
    for option, arguments in OPTIONS.items():
        parser.add_argument(option, **arguments)


def _check_options_alone() -> None:
    """End the command if its options change nothing; another program may have called the runner."""
    is_command = sys.argv[1:2] == ["test"]
    if is_command and (wrong := without_integration(sys.argv[2:])):
        sys.exit(f"itkit: {wrong}")


def start(
    log: Callable[[str], None],
    *,
    rebuild: bool = False,
    seeded: str | None = None,
    trial: bisection.Trial | None = None,
    keep: bool = False,
    reported: str | None = None,
    reports_all: bool = False,
    budgets: str = names.BUDGETS_CHECK,
    covered: bool = False,
    sweep: str = names.SWEEP_QUICK,
    fault: str | None = None,
    schedule: str | None = None,
    state: str | None = None,
) -> None:
    """Start the environment, and print which servers the tests use.

    Args:
        log: prints a line.
        rebuild: whether to migrate anew, although a template exists.
        seeded: the seed of the run's random values.
        trial: the trial of a bisection that this run is, if it is one.
        keep: whether the run stops at failures, so that somebody can look at its data.
        reported: the value of the option with the directory of the report.
        reports_all: whether tests that pass have a page as well.
        budgets: what is done with the figures of budgets.
        sweep: which faults swept tests are run with.
        covered: whether the boundary coverage is measured.
        fault: the only fault that swept tests are run with.
        schedule: the only schedule that swept tests are run with.
        state: the only state that swept tests are run from.

    Raises:
        SystemExit: the environment could not be started; the message was printed.
    """
    try:
        check_options(fault, schedule)
        started = environment.start(
            rebuild=rebuild,
            seeded=seeded,
            reported=reported,
            reports_all=reports_all,
            budgets=budgets,
            covered=covered,
            arguments=sys.argv,
            sweep=sweep,
            fault=fault,
            schedule=schedule,
            state=state,
        )
        started.order.is_kept = trial is None
        started.keeper = Keeper() if keep else None
        log(started.payload.summary)
    except ItkitError as error:
        sys.exit(f"itkit: {error}")


def _annotations(result: Any) -> Iterator[str]:
    """Yield each failure as an annotation for GitHub."""
    from itkit.report import annotation_of, location_of, redactor

    redact = redactor()
    for test, text in [*result.failures, *result.errors]:
        title = getattr(test, "test_id", None) or test.id()  # of xmlrunner, or of Django
        yield annotation_of(title, redact.text(str(text)), location_of(_function_of(test, title)))


def _function_of(test: Any, name: str) -> Any:
    """Return the method of a test, of a subtest, or of a test that is known by its name only."""
    import pydoc

    case = getattr(test, "test_case", test)
    method = getattr(case, "_testMethodName", None)
    return getattr(case, method, None) if method is not None else pydoc.locate(name)


def _unreported() -> int:
    """Print the errors that no result has, and return their number.

    There are none if the runner has run its suite as a whole, as its result has all errors in that
    case.
    """
    result = unittest.TestResult()
    scopes.finish(result, has_workers=True)
    for test, text in result.errors:
        sys.stderr.write(f"itkit: {test.id()}: {text}")
    return len(result.errors)


def _escaped(log: Callable[[str], None]) -> int:
    """Print an error and return 1 if the run has written to data outside of the tests', else 0."""
    current = environment.current()
    try:
        if current is not None:
            current.check_outside()
    except EscapeError as error:
        log(f"itkit: {error}")
        return 1
    return 0


def stop(log: Callable[[str], None]) -> int:
    """End the environment; print what could not be removed, which does not fail the run.

    Returns:
        How many things outlive the tests and were not reported as errors yet.
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
    """Return a runner class with ``--integration``, made from the project's runner of any kind."""
    if issubclass(runner, IntegrationRunnerMixin):
        return runner
    mixin = IntegrationRunnerMixin if hasattr(runner, "build_suite") else _PytestRunnerMixin
    return type("ProjectRunner", (mixin, runner), {"__module__": __name__})


class _PytestRunnerMixin(_Runner):
    """Adds ``--integration`` to a runner that passes its labels to pytest, as pytest-django's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.options = options_of(kwargs)
        known = {option.removeprefix("--").replace("-", "_") for option in OPTIONS}
        super().__init__(*args, **{key: kwargs[key] for key in kwargs.keys() - known})

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        add_integration_option(parser)

    def run_tests(self, test_labels: Any, **kwargs: Any) -> int:
        if "--integration" not in self.options:
            _check_options_alone()
            return super().run_tests(test_labels, **kwargs)
        with scopes.required(_OTHER_KIND.format(type(self).__mro__[2])):
            return super().run_tests([*self.options, *test_labels], **kwargs)


class _Skipped(unittest.TestCase):
    """Replaces an integration test that is not run.

    It declares no databases and has no set-up of a class, so that nothing is set up in vain.
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

    # Test cases of the same class and method are equal, and Django removes duplicates.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Skipped) and self._id == other._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __str__(self) -> str:
        return self._text


def _number(suite: Any, seed: Seed, named: Sequence[str]) -> None:
    """Give each test its index, which is sent with it to a worker."""
    tests = list(_iter_test_cases(getattr(suite, "subsuites", suite)))
    found = seed.numbered([test.id() for test in tests], named)
    for test in tests:
        setattr(test, scopes.INDEX, found[test.id()])


def _kinds(suite: Any) -> dict[str, type]:
    """Return the ids of all tests, each with its class."""
    tests = _iter_test_cases(getattr(suite, "subsuites", suite))
    return {test.id(): type(test) for test in tests}


def _skipped_if_integration(test: unittest.TestCase) -> unittest.TestCase:
    return _Skipped(test) if names.TAG in _tags(test) else test


def _tags(test: unittest.TestCase) -> set[str]:
    method = getattr(test, getattr(test, "_testMethodName", ""), None)
    return {*getattr(test, "tags", ()), *getattr(method, "tags", ())}

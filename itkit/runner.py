"""Django's door to the environment: ``manage.py test --integration``.

``IntegrationRunnerMixin`` adds the option and the scopes to any runner that is a DiscoverRunner.
itkit's ``test`` command mixes it into the project's own; a project that sets TEST_RUNNER itself
can use ``IntegrationRunner`` or the mixin.
"""

import argparse
import sys
import unittest
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.db.utils import OperationalError
from django.test import runner as django_runner
from django.test.runner import DiscoverRunner

from itkit import environment, joined, names, parallel, scopes, seed
from itkit.exceptions import EscapeError, ItkitError, NotRunError

# For the type checker, the mixins are what they are mixed into.
if TYPE_CHECKING:
    _Runner = DiscoverRunner
else:
    _Runner = object
_iter_test_cases = django_runner.iter_test_cases  # type: ignore[attr-defined]  # not in the stubs

_OTHER_KIND = (
    "itkit: --integration cannot run the tests of {0.__module__}.{0.__qualname__}, which has no"
    " build_suite() and does not run pytest. Derive it from django.test.runner.DiscoverRunner."
)
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
        if integration:
            self.parallel_test_suite = parallel.scoped(self.parallel_test_suite)

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
            with scopes.install():
                failures = super().run_tests(test_labels, **kwargs) or 0
                if not (failures and self.failfast):
                    failures += _unreported()
                failures += _escaped(self.log)
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
            try:
                return super().setup_databases(**kwargs)
            except OperationalError as error:
                if names.is_refusal(str(error)):
                    error.add_note(f"itkit: {names.NO_SERVER} manage.py test --integration")
                raise
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
            current.account.found = _kinds(suite)
            current.account.suite = suite
        return suite

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        """Run the suite, to its end."""
        try:
            return super().run_suite(suite, **kwargs)
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

    def load_tests_for_label(self, label: str, discover_kwargs: dict[str, str]) -> Any:
        """Load tests; without ``--integration``, stand-ins for those that are tagged so."""
        tests = super().load_tests_for_label(label, discover_kwargs)
        if self.integration:
            return tests
        return unittest.TestSuite(map(_skipped_if_integration, _iter_test_cases(tests)))


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


def _unreported() -> int:
    """Print the errors that no test result has, and return their number.

    There are none where the runner has run the suite that it was given as a whole: its result has
    all errors then.
    """
    result = unittest.TestResult()
    scopes.finish(result, has_workers=True)
    for test, text in result.errors:
        sys.stderr.write(f"itkit: {test.id()}: {text}")
    return len(result.errors)


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
        if "--integration" not in self.options:
            return super().run_tests(test_labels, **kwargs)
        with scopes.required(_OTHER_KIND.format(type(self).__mro__[2])):
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


def _number(suite: Any, first: int) -> None:
    """Give each test its index, which travels with it to a worker."""
    tests = list(_iter_test_cases(getattr(suite, "subsuites", suite)))
    found = seed.indexes([test.id() for test in tests], first)
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

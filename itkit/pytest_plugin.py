"""pytest's door to the environment: ``pytest --integration``.

This module is imported by every pytest on the machine, so it imports nothing of Django, Postgres
or Redis. All but the option exists only in projects that have ``"itkit"`` in INSTALLED_APPS.
"""

from __future__ import annotations

import inspect
import os
import sys
import unittest
from contextlib import contextmanager
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

import pytest
from _pytest import junitxml, runner

from itkit.core import names
from itkit.core.options import KEEP_ALONE, OPTIONS, REPORT_GITHUB, without_integration
from itkit.core.text import NO_SERVER, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec

    from itkit.backends.registry import Registry
    from itkit.data import TestDataManager
    from itkit.environment import Environment
    from itkit.environment.bisection.bisection import Trial
    from itkit.observation.assertions import TimelineReader
    from itkit.sweep.choosing import AnyChoice
    from itkit.sweep.injection.fault import Fault
    from itkit.sweep.race.race import Race
    from itkit.sweep.repeat import Repeat
    from itkit.sweep.state import SweptState
    from itkit.sweep.variations import Sweep
    from itkit.timeline.core import Timeline

_NOTES = "itkit_notes"
_ADDOPTS: Final = "PYTEST_ADDOPTS"
_DATABASES = "django_db_setup"  # pytest-django's fixture
_ONE_TEST: Final = (
    "--itkit-bisect is for one test, with --integration, as the report of a failure prints it:"
    " pytest 'tests/test_a.py::test_a' --integration --itkit-seed=5f3a9c01:17 --itkit-bisect"
)
_NO_DATABASES = (
    "the fixture django_db_setup at {} sets no test database up, so the tests would have no tables."
    " With --integration itkit provides the databases: delete the fixture, or let it ask for"
    " pytest-django's by an argument of its own name, def django_db_setup(django_db_setup), and"
    " load what the tests need after it."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--integration`` and the options that belong to it."""
    group = parser.getgroup("itkit", "integration tests")
    for option, arguments in OPTIONS.items():
        group.addoption(option, **arguments)


# A wrapper is called before pytest-django's hook, which imports the project's apps.
@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Let Python load itkit's own modules, instead of pytest."""
    sys.meta_path.insert(0, _OwnModules)
    early_config.add_cleanup(partial(sys.meta_path.remove, _OwnModules))
    return (yield)


class _OwnModules:
    """A finder that leaves itkit's own modules as they are.

    pytest rewrites the asserts of all modules of a distribution that has a plugin, to explain them.
    itkit's asserts explain nothing to a test's author, and each of its 200 modules would be
    compiled anew by the first run of an installation, and by every run that may not write bytecode.
    That takes more than a second of CPU time in each process.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, _target: object = None
    ) -> ModuleSpec | None:
        """Return where a module of itkit is, and nothing for other modules."""
        return PathFinder.find_spec(name, path) if name.startswith("itkit.") else None


def pytest_configure(config: pytest.Config) -> None:
    """Add the fixtures, the marker and the scopes, in projects that use itkit."""
    is_alone = not config.getoption("integration") and not hasattr(config, "workerinput")
    if is_alone and (wrong := without_integration(config.invocation_params.args)):
        raise pytest.UsageError(wrong)
    obstacle = _obstacle(config)
    if obstacle is None:
        from itkit.environment import child

        child.leave()
        config.pluginmanager.register(IntegrationPlugin(config), "itkit-integration")
    elif config.getoption("integration"):
        raise pytest.UsageError(f"--integration needs {obstacle}")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Run a bisection instead of the tests, where an option asks for it."""
    if not config.getoption("itkit_bisect"):
        return None
    obstacle = _obstacle(config)
    tests = config.option.file_or_dir
    if obstacle is not None:
        raise pytest.UsageError(f"--itkit-bisect needs {obstacle}")
    if not config.getoption("integration") or len(tests) != 1:
        raise pytest.UsageError(_ONE_TEST)
    from itkit.environment.bisection import bisection
    from itkit.exceptions import ItkitError

    options = bisection.options(config.invocation_params.args, tests)
    if config.getoption("numprocesses", None):  # of pytest-xdist
        options.append("-n0")
    command = bisection.Command(
        start=_start_of(config), shown=["pytest"], options=options, argument=partial(_named, config)
    )
    try:
        return bisection.run(
            command, _id_of(config, tests[0]), config.getoption("itkit_seed"), _write_line
        )
    except ItkitError as error:
        raise pytest.UsageError(f"itkit: {error}") from error


class IntegrationPlugin:
    """The fixtures, the marker and the scopes of a project that uses itkit."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_on: bool = config.getoption("integration")
        self._rebuild: bool = config.getoption("rebuild")
        self._seed: str | None = config.getoption("itkit_seed")
        self._report_to: str | None = config.getoption("itkit_report")
        self._reports_all: bool = config.getoption("itkit_report_all")
        self._is_annotated = config.getoption("itkit_report_format") == REPORT_GITHUB
        self._budgets: str = config.getoption("itkit_budgets")
        self._coverage_min: float | None = config.getoption("itkit_coverage_min")
        self._is_covered = config.getoption("itkit_coverage") or self._coverage_min is not None
        self._covered: list[str] = []  # what is said of the boundary coverage
        self._sweep: str = config.getoption("itkit_sweep")
        self._fault: str | None = config.getoption("itkit_fault")
        self._schedule: str | None = config.getoption("itkit_schedule")
        self._state: str | None = config.getoption("itkit_state")
        self._trial = _trial_of(config)
        self._indexes: dict[str, int] = {}
        self._found: set[str] = set()
        self._run: set[str] = set()
        self._skipped: set[str] = set()
        self._migrate = not config.getoption("nomigrations")  # pytest-django's
        # The variables of pytest-xdist do not decide it: a pytest that a test starts inherits them.
        self._is_worker = hasattr(config, "workerinput")
        # Each worker imports all tests; one of them reports what the imports have swallowed.
        number = getattr(config, "workerinput", {}).get("workerid", "gw0")
        self._reports_imports = number == "gw0"
        self._environment: Environment | None = None
        self._ended: Timeline | None = None  # that of the test that has ended
        self._last = ""  # the id of the test that was reported last
        self._session: pytest.Session | None = None
        config.addinivalue_line(
            "markers",
            f"{names.TAG}: needs real services; skipped without --integration, with it commits for"
            " real",
        )

    # This comes first: pytest-xdist starts its workers in the same hook, and they read the
    # variables that are exported here.
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Start the environment, or attach an xdist worker to that of its controller."""
        self._session = session
        keeps = self._config.getoption("itkit_keep")
        if keeps and (not self._is_on or self._config.getoption("numprocesses", None)):
            raise pytest.UsageError(KEEP_ALONE)
        if not self._is_on:
            return
        from itkit import environment
        from itkit.exceptions import ItkitError
        from itkit.sweep.choosing import check_options

        try:
            check_options(self._fault, self._schedule)
            if self._is_worker:
                self._environment = environment.attach(os.environ["PYTEST_XDIST_WORKER"])
            else:
                self._environment = environment.start(
                    migrate=self._migrate,
                    rebuild=self._rebuild,
                    seeded=self._seed,
                    reported=self._report_to if self._trial is None else None,
                    reports_all=self._reports_all and self._trial is None,
                    budgets=self._budgets,
                    covered=self._is_covered and self._trial is None,
                    arguments=self._config.invocation_params.args,
                    configured=_configured(self._config),
                    sweep=self._sweep,
                    fault=self._fault,
                    schedule=self._schedule,
                    state=self._state,
                )
        except ItkitError as error:
            raise pytest.UsageError(f"itkit: {error}") from error
        self._environment.order.is_kept = self._trial is None
        if keeps:
            from itkit.environment.keeping import Keeper

            self._environment.keeper = Keeper()
            self._environment.keeper.terminal = self._real_terminal
        self._environment.leaving.say = self._say
        reporter: Any = self._config.pluginmanager.getplugin("terminalreporter")
        # pytest prints no header with -q.
        if reporter is not None and not self._is_worker and self._config.option.verbose < 0:
            reporter.write_line(self._environment.payload.short_summary)

    def pytest_report_header(self) -> list[str]:
        """Return the servers that the tests run on, and the warnings of itkit's system checks."""
        current = self._environment
        return [current.payload.summary, *current.notices] if current is not None else []

    # This comes before pytest-django's hook, which sorts by the marker that is added here.
    @pytest.hookimpl(tryfirst=True, wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Skip integration tests, or let the test functions among them commit for real."""
        for item in filter(_is_integration, items):
            if not self._is_on:
                item.add_marker(pytest.mark.skip(reason=names.SKIP_REASON))
            elif _may_be_given_a_database(item):
                item.add_marker(pytest.mark.django_db(transaction=True, databases="__all__"))
        yield
        if self._environment is not None:
            self._number(items)

    def _number(self, items: list[pytest.Item]) -> None:
        """Give each test its index, and sort the tests if the seed asks for an order."""
        from itkit.core.seed import Seed, in_order

        seed = Seed.parse(self._seed)
        named = [_id_of(self._config, argument) for argument in self._config.args]
        if self._trial is not None and self._trial.tests is not None:
            named = self._trial.tests
            others = [item for item in items if item.nodeid not in named]
            items[:] = [item for item in items if item.nodeid in named]
            self._config.hook.pytest_deselected(items=others)
        if seed.has_order:
            items[:] = in_order(items, named, lambda item: str(item.nodeid))
        self._indexes = seed.numbered([item.nodeid for item in items], named)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Keep the failures that a test module has swallowed while it was imported."""
        report = yield
        if self._environment is not None:
            from itkit.exceptions import TestError
            from itkit.observation import swallowed
            from itkit.timeline import core

            path = getattr(collector, "path", None)
            try:
                swallowed.check(frozenset({str(path)}), f"the import of {collector.nodeid}")
            except TestError as error:
                if self._reports_imports:
                    core.record_failure_of(collector.nodeid, error)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Let a fixture that several tests share belong to none of them.

        End the session when the databases cannot be set up, as no other test would have them.
        """
        if self._environment is None or fixturedef.scope == "function":
            return (yield)
        from itkit.exceptions import ItkitError
        from itkit.timeline import core

        added: list[Callable[[], None]] = []
        # The finalizer that is added first runs last, after those of the fixture itself.
        fixturedef.addfinalizer(partial(self._end_levels, added))
        failure: object = None
        value: Any = None
        try:
            with core.between_tests():
                value = yield
        except ItkitError as error:
            if fixturedef.argname != _DATABASES:
                raise
            failure = error
        finally:
            added += self._environment.add_levels()
            # The finalizer that is added last runs first, while the databases are still there.
            fixturedef.addfinalizer(self._environment.after_test)
        if not failure and fixturedef.argname == _DATABASES and not self._environment.has_databases:
            failure = _NO_DATABASES.format(_place_of(fixturedef.func))
        if failure:
            request.session.shouldfail = "itkit: the tests have no database, as printed above"
            pytest.fail(
                f"itkit: {failure}", pytrace=False
            )  # outside of the block, or pytest shows both
        # The patches of the fixture belong to all tests that share it.
        self._environment.backends.accept_patches()
        return value

    def _end_levels(self, added: list[Callable[[], None]]) -> None:
        """Take back what a fixture has committed, when the tests that share it are over."""
        if self._environment is not None:
            self._environment.end_levels(added)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> object:
        """Run a swept test once for each of its variations, and report it once."""
        choice = _swept(item)
        if self._environment is None or choice is None:
            return None
        from itkit.sweep.sweeps import sweep_of

        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        sweep = sweep_of(self._environment, choice, item.nodeid, self._say)
        for report in _Sweeping(item, nextitem, sweep).run():
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(tryfirst=True, wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        """Begin the scope of a test before its fixtures are set up."""
        if self._environment is not None:
            self._environment.begin_class(item.nodeid.rpartition("::")[0])
            self._environment.begin_test(item.nodeid, self._indexes.get(item.nodeid))
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """Fail a test that has passed if the backends were not called as it expects."""
        self._watch(item)
        yield
        # A TestCase that has failed, or was skipped, raises nothing here: pytest would report its
        # result instead of this error. check_test() finds what was swallowed after the test.
        if self._environment is not None and not getattr(item, "_excinfo", None):
            self._check(partial(self._environment.check_calls, _sources(item)))

    @pytest.hookimpl(tryfirst=True, wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        """End the scope of a test after its fixtures are torn down."""
        if self._environment is not None and (keeper := self._environment.keeper) is not None:
            keeper.stand(item.nodeid, is_last=item is item.session.items[-1])
        try:
            try:
                yield
            except (pytest.skip.Exception, pytest.xfail.Exception):
                self._check_test(item)  # neither of them is an error, and so must not hide one
                raise
            self._check_test(item)
        finally:
            if self._environment is not None:
                from itkit.timeline import core

                self._ended = core.current()
                self._environment.end_test()
                self._environment.after_test()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the tests that are to be run."""
        self._found.update(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Note the tests that the workers of pytest-xdist are to run."""
        self._found.update(ids)

    # Before pytest's own, which completes the element of a test at its end.
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test was run, or skipped; add the timeline of a failure to JUnit's file."""
        self._run.add(report.nodeid)
        xml = self._config.stash.get(junitxml.xml_key, None)
        sections = [text for title, text in report.sections if title == "itkit"]
        if xml is not None and sections:
            element = ElementTree.Element("system-out")
            element.text = junitxml.bin_xml_escape("\n".join(sections))
            xml.node_reporter(report).append(element)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Report what tests have done after their end."""
        self._last = nodeid
        self._report_late(nodeid)

    # This comes after pytest-xdist's hook, which ends its workers.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Close all connections for good; report what is wrong with the run as a whole."""
        if self._environment is None:
            return
        has_failed = self._report_escape()
        shut = self._environment.shut() if self._environment.process == os.getpid() else []
        has_failed |= self._report_late(self._last) or bool(shut)
        if not self._is_worker and not self._config.option.collectonly:
            self._covered, is_short = self._environment.boundary_coverage(self._coverage_min)
            has_failed |= is_short
        self._report(shut, self._last)
        if self._trial is not None:
            self._trial.end(self._environment.order)
        if self._is_worker:
            output: dict[str, Any] = self._config.workeroutput  # type: ignore[attr-defined]  # xdist's
            output[_NOTES] = [list(note) for note in self._environment.notes.take()]
        if session.exitstatus != pytest.ExitCode.OK:
            return
        if has_failed or (not self._is_worker and self._has_not_run_all()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _report_escape(self) -> bool:
        from itkit.exceptions import EscapeError

        try:
            if self._environment is not None:
                self._environment.check_outside()
        except EscapeError as error:
            sys.stderr.write(f"\nitkit: {error}\n")
            return True
        return False

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the notes of a worker of pytest-xdist at the end of the run."""
        if self._environment is not None:
            self._environment.notes.add_all(getattr(node, "workeroutput", {}).get(_NOTES, ()))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the notes, which are no errors, once for each call site."""
        lines = list(self._environment.notes.lines()) if self._environment is not None else []
        if self._environment is not None and (described := self._environment.describe_migrations()):
            lines.append(described)
        lines += self._covered
        # pytest prints no header with -q, and the user has to know if a server was passed over.
        if self._environment is not None and self._config.option.verbose < 0:
            summary = self._environment.payload.summary
            lines += [summary] if names.PASSED_OVER in summary else []
        if self._is_annotated and self._is_on:
            lines += _annotations(self._config, terminalreporter)
        if lines:
            terminalreporter.section("itkit")
            for line in lines:
                terminalreporter.write_line(line)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add to a failure what had left the process before it, and what to do about it.

        End the session when a test fails because a server has died: all others would too.
        """
        # pytest keeps the error of a TestCase in this attribute, for a hook that comes after this.
        aside = getattr(item, "_excinfo", None)
        found = aside[0] if aside else call.excinfo
        error = found.value if found is not None else None
        is_of_set_up = False
        if error is not None and self._environment is not None:
            from itkit.exceptions import TestError
            from itkit.timeline import callsite

            if isinstance(error, TestError):
                callsite.end_in_own_code(error)
                is_of_set_up = call.when == "call" and callsite.is_of_set_up(error)
        report = yield
        if is_of_set_up:
            report.when = "setup"  # where setUp() belongs; pytest calls it with the test
        if self._environment is not None:
            self._report_passed(report, self._environment)
        if report.failed and not self._is_on and _has_no_server(error):
            report.sections.append(("itkit", f"{NO_SERVER} pytest --integration"))
        if report.failed and self._environment is not None:
            from itkit.exceptions import ServiceUnavailableError
            from itkit.timeline import core

            self._environment.order.failed.add(item.nodeid)
            if error is not None and (keeper := self._environment.keeper) is not None:
                keeper.note(item.nodeid, error)
            ended = self._ended if report.when == "teardown" else None
            command = f"pytest '{_named(self._config, report.nodeid)}'"
            story = core.current() if ended is None else ended
            captured = list(report.sections)
            explained = self._environment.explained(report.longreprtext, command, story)
            report.sections.append(("itkit", explained))
            if error is not None and (
                page := self._environment.reported(item.nodeid, error, command, story, captured)
            ):
                report.sections.append(("itkit", page))
            try:
                self._environment.check_servers()
            except ServiceUnavailableError as error:
                report.sections.append(("itkit", str(error)))
                item.session.shouldstop = f"itkit: {error}"
        return report

    def _report_passed(self, report: pytest.TestReport, current: Environment) -> None:
        """Write the page of a test that has passed, where a report of all tests is asked for.

        The many runs of a swept test have none.
        """
        if report.skipped:
            self._skipped.add(report.nodeid)
        if not report.passed or report.when != "teardown" or current.variation is not None:
            return
        if not current.payload.report_all or self._ended is None:
            return
        if report.nodeid not in current.order.failed | self._skipped:
            command = f"pytest '{_named(self._config, report.nodeid)}'"
            current.reported(report.nodeid, None, command, self._ended, list(report.sections))

    def pytest_unconfigure(self) -> None:
        """Detach from the environment and, outside of xdist's workers, end it."""
        if self._environment is None:
            return  # a current environment belongs to the pytest that has started this one
        from itkit import environment
        from itkit.exceptions import ItkitError

        try:
            for late in environment.stop():
                sys.stderr.write(f"itkit: {late.error}\n")
        except ItkitError as error:
            sys.stderr.write(f"itkit: {error}\n")  # the terminal reporter is closed already
        if self._session is not None:
            environment.leave_with(int(self._session.exitstatus != pytest.ExitCode.OK))

    @pytest.fixture
    def data(self, db: None) -> Iterator[TestDataManager]:
        """The manager of this test's data; what it creates is removed after the test."""
        del db
        manager = self._required("data").new_data_manager()
        yield manager
        manager.end()

    @pytest.fixture
    def test_data_manager(self, data: TestDataManager) -> TestDataManager:
        """Another name of ``data``."""
        return data

    @pytest.fixture
    def backends(self) -> Registry:
        """The external backends of ``ITKIT["BACKENDS"]``, faked and recording."""
        return self._required("backends").backends

    @pytest.fixture
    def timeline(self) -> TimelineReader:
        """What has left the process in this test, in order."""
        self._required("timeline")
        from itkit.observation.assertions import TimelineReader

        return TimelineReader()

    @pytest.fixture
    def fault(self) -> Fault:
        """The fault of this variation of a test, which is run once for each of them."""
        self._required("fault")
        from itkit.sweep.injection.fault import current

        return current()

    @pytest.fixture
    def race(self) -> Race:
        """The race of this variation of a test, which is run once for each schedule of its acts."""
        self._required("race")
        from itkit.sweep.race.race import current

        return current()

    @pytest.fixture
    def repeat(self) -> Repeat:
        """The act of this test, which is done once, and in two variations once more."""
        self._required("repeat")
        from itkit.sweep.repeat import current

        return current()

    @pytest.fixture
    def state(self) -> SweptState:
        """The state that the act of this test is done from, of those that the decorator says."""
        self._required("state")
        from itkit.sweep.state import current

        return current()

    def _has_not_run_all(self) -> bool:
        """Report that tests were found but not run, and return whether there are any."""
        from itkit.exceptions import NotRunError
        from itkit.observation import swallowed

        if self._config.option.collectonly:
            return False
        try:
            swallowed.check_all_run(self._found, self._run)
        except NotRunError as error:
            report = pytest.TestReport(
                "itkit", ("itkit", None, "tests that were not run"), {}, "failed", str(error),
                "teardown",
            )  # fmt: skip
            self._config.hook.pytest_runtest_logreport(report=report)
            return True
        return False

    def _report_late(self, running: str) -> bool:
        """Report the late failures, and return whether there were any.

        Args:
            running: the id of the running test, for which pytest-xdist expects a report.
        """
        if self._environment is None:
            return False
        from itkit.observation import swallowed

        found = list(swallowed.late())
        self._report(found, running)
        return bool(found)

    def _report(self, late: Iterable[tuple[str, Exception]], running: str) -> None:
        for test, error in late:
            path, _, name = test.partition("::")
            items = self._session.items if self._session is not None else ()
            known = [item.location for item in items if item.nodeid == test]
            location = known[0] if known else (path, None, name)
            reported = running if self._is_worker else test
            report = pytest.TestReport(reported, location, {}, "failed", str(error), "teardown")
            self._config.hook.pytest_runtest_logreport(report=report)

    def _say(self, text: str) -> None:
        """Print a line, although pytest captures what a test prints."""
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture(in_=True)
        sys.stderr.write(text)
        sys.stderr.flush()

    def _watch(self, item: pytest.Item) -> None:
        """Look at a test case of unittest that has failed, before it is torn down.

        The run stops there where ``--itkit-keep`` asks for it; the report keeps its rows and keys.
        """
        case = getattr(item, "instance", None)
        if self._environment is None or not isinstance(case, unittest.TestCase):
            return
        if self._environment.payload.report:
            self._keep_state(item, case, self._environment)
        keeper = self._environment.keeper
        if keeper is None:
            return

        def look() -> None:
            for found in getattr(item, "_excinfo", None) or ():
                if not isinstance(found.value, (pytest.skip.Exception, pytest.xfail.Exception)):
                    keeper.note(item.nodeid, found.value)

        keeper.watch(case, item.nodeid, look, is_last=item is item.session.items[-1])

    def _keep_state(self, item: pytest.Item, case: unittest.TestCase, current: Environment) -> None:
        """Have the state of the servers kept for the report, before a failed test is torn down.

        pytest makes the report of a test case when its rows have been taken back.
        """

        def before(original: Callable[[], Any]) -> Callable[[], Any]:
            def called() -> Any:
                if getattr(item, "_excinfo", None):
                    current.look_at_state(item.nodeid)
                return original()

            return called

        # On the instance, as in Keeper.watch().
        case.tearDown = before(case.tearDown)  # type: ignore[method-assign]
        case.doCleanups = before(case.doCleanups)  # type: ignore[method-assign]

    @contextmanager
    def _real_terminal(self) -> Iterator[None]:
        """Let a block use the terminal, although pytest captures input and output of a test."""
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        if capture is None:
            yield
            return
        capture.suspend(in_=True)
        try:
            yield
        finally:
            capture.resume()

    def _check_test(self, item: pytest.Item) -> None:
        if self._environment is not None:
            self._check(partial(self._environment.check_test, _sources(item)))

    def _check(self, find_out: Callable[[], None]) -> None:
        from itkit.exceptions import EscapeError, TestError

        message = ""
        try:
            find_out()
        except (EscapeError, TestError) as error:
            message = f"{type(error).__name__}: {error}"
        if message:  # outside of the block, or pytest would show both
            pytest.fail(message, pytrace=False)

    def _required(self, fixture: str) -> Environment:
        if self._environment is None:
            pytest.fail(
                f"The fixture {fixture!r} needs --integration. Mark the test with"
                " @pytest.mark.integration, so that it is skipped without.",
                pytrace=False,
            )
        return self._environment


class _Sweeping:
    """The variations of one test of pytest.

    Args:
        item: the test.
        nextitem: the test after it; what the two do not share is torn down between them.
        sweep: the variations of the test.
    """

    def __init__(self, item: pytest.Item, nextitem: pytest.Item | None, sweep: Sweep) -> None:
        self._item = item
        self._nextitem = nextitem
        self._sweep = sweep

    def run(self) -> list[pytest.TestReport]:
        """Run them all, and return the reports of the one test."""
        try:
            return self._run()
        finally:
            self._sweep.close()

    def _run(self) -> list[pytest.TestReport]:
        from itkit.exceptions import FaultError

        text, has_more = "", False
        with self._sweep.varied() as first:
            phases = self._phases()
            reports = [next(phases)]
            reports += [report for report in (next(phases, None),) if report is not None]
            if len(reports) > 1 and reports[-1].passed and not hasattr(reports[-1], "wasxfail"):
                try:
                    has_more = self._sweep.begin(first)
                except FaultError as error:
                    text = str(error)
            reports += self._tear_down(is_last=not has_more)
        if not has_more:
            return _with_failure(reports, text)
        seconds = 0.0
        for variation in self._sweep.variations():
            # The last has to tear down what several tests share.
            with self._sweep.varied(variation.spec) as varying:
                varied = self._run_once(is_last=variation.is_last)
            seconds += sum(report.duration for report in varied)
            if variation.is_shown:
                return varied if reports[-1].passed else reports
            if failed := [report for report in varied if report.failed]:
                self._sweep.find(variation.spec, varying, *_summary_of(failed[0]))
        if not variation.is_last:  # it was not known that there would be no other
            reports += self._tear_down_shared()
        return _with_failure(reports, self._sweep.report(), seconds)

    def _tear_down_shared(self) -> Iterator[pytest.TestReport]:
        """Tear down what several tests share, and no more; yield the report where that fails."""
        item = self._item
        state: Any = item.session._setupstate
        call: Any = pytest.CallInfo.from_call(
            partial(state.teardown_exact, self._following), when="teardown"
        )
        report = item.ihook.pytest_runtest_makereport(item=item, call=call)
        if report.failed:
            yield report

    @property
    def _following(self) -> pytest.Item | None:
        session = self._item.session
        return None if session.shouldfail or session.shouldstop else self._nextitem

    def _run_once(self, *, is_last: bool) -> list[pytest.TestReport]:
        return [*self._phases(), *self._tear_down(is_last=is_last)]

    def _phases(self) -> Iterator[pytest.TestReport]:
        item: Any = self._item
        if (
            hasattr(item, "_request") and not item._request
        ):  # as pytest does when it runs a test again
            item._initrequest()
        report = runner.call_and_report(item, "setup", log=False)
        yield report
        if report.passed:
            yield runner.call_and_report(item, "call", log=False)

    def _tear_down(self, *, is_last: bool) -> Iterator[pytest.TestReport]:
        """Tear the test down, and forget its fixtures, as pytest has no hook to run a test again.

        Checked with pytest 9.2.
        """
        item: Any = self._item
        # The fixtures that several tests share stay for the next variation of the same test.
        following = self._following if is_last else item.parent
        yield runner.call_and_report(item, "teardown", log=False, nextitem=following)
        if hasattr(item, "_request"):
            item._request = False
            item.funcargs = None


def _swept(item: pytest.Item) -> AnyChoice | None:
    """Return what a test is swept with; None for a test that is not swept."""
    from itkit.sweep.choosing import Choice, RaceChoice, RepeatChoice, choice_of

    choice = choice_of(getattr(item, "obj", None))
    if choice is not None:
        return choice
    kinds: dict[str, Callable[[], AnyChoice]] = {
        "fault": Choice,
        "race": RaceChoice,
        "repeat": RepeatChoice,
    }
    return next((kind() for name, kind in kinds.items() if _asks_for(name, item)), None)


def _asks_for(name: str, item: pytest.Item) -> bool:
    """Return whether a test asks for a fixture of this plugin, not for one of the project."""
    info: Any = getattr(item, "_fixtureinfo", None)
    if info is None or name not in getattr(item, "fixturenames", ()):
        return False
    definitions = info.name2fixturedefs.get(name, ())
    return bool(definitions) and definitions[-1].func.__module__ == __name__


def _summary_of(report: pytest.TestReport) -> tuple[str, str]:
    """Return one line with the error and the project's last line, and the whole text."""
    text = report.longreprtext
    sections = [content for title, content in report.sections if title == "itkit"]
    line = _line_of(report)
    summary = (_message_of(report).strip().splitlines() or [""])[0]
    if line is not None:
        summary += f" at {os.path.relpath(line.path)}:{line.lineno}"
    return summary, "\n".join([text, *sections])


def _message_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the message of a failure; without the ``Failed`` of ``pytest.fail()``, as printed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return report.longreprtext if crash is None else str(crash.message).removeprefix("Failed: ")


def _line_of(report: pytest.TestReport | pytest.CollectReport) -> Any:
    """Return the project's last line in a traceback, with ``path`` and ``lineno``, or None."""
    from itkit.timeline import callsite

    if getattr(report.longrepr, "reprcrash", None) is None:
        return None
    trace: Any = getattr(report.longrepr, "reprtraceback", None)
    lines = [found for entry in trace.reprentries if (found := entry.reprfileloc) is not None]
    own = [line for line in lines if callsite.is_own_file(os.path.abspath(line.path))]  # noqa: PTH100 - no Path
    return own[-1] if own else None


def _annotations(config: pytest.Config, terminalreporter: Any) -> Iterator[str]:
    """Yield each failure as GitHub shows it, at the last line of the project's, or at its test."""
    from itkit.report import annotation, redactor

    redact = redactor()
    stats = terminalreporter.stats
    for report in [*stats.get("failed", ()), *stats.get("error", ())]:
        line = _line_of(report)
        sections = [content for title, content in report.sections if title == "itkit"]
        path, number = _test_of(config, report)
        if line is not None:
            path, number = os.path.relpath(line.path), line.lineno
        message = "\n".join([_message_of(report), *sections])
        yield annotation(report.nodeid, redact.text(message), path, number)


def _test_of(config: pytest.Config, report: Any) -> tuple[str, int]:
    """Return the path and the line of the test that a report is about; no path if it has none."""
    path, line, _ = getattr(report, "location", None) or ("", None, "")
    file = config.rootpath / path
    return (str(file), (line or 0) + 1) if file.is_file() else ("", 0)


def _with_failure(
    reports: list[pytest.TestReport], text: str, seconds: float = 0.0
) -> list[pytest.TestReport]:
    """Return the reports of a test, in which it has failed if there is a text.

    The time of the variations is a part of that of the call, which ``--durations`` shows.
    """
    if len(reports) > 1:
        reports[1].duration += seconds
    if text and len(reports) > 1:
        reports[1].outcome = "failed"
        reports[1].longrepr = text
    return reports


def _configured(config: pytest.Config) -> str:
    """Return where options come from that nobody has typed, for messages."""
    if "--itkit-" in os.environ.get(_ADDOPTS, ""):
        return f"the environment variable {_ADDOPTS}"
    return f"addopts in {config.inipath.name}" if config.inipath is not None else "a conftest.py"


def _trial_of(config: pytest.Config) -> Trial | None:
    """Return the trial of a bisection, whose tests pytest is to run; None in an ordinary run."""
    if not (file := config.getoption("itkit_trial")):
        return None
    from itkit.environment.bisection.bisection import Trial

    trial = Trial(file)
    config.option.itkit_seed = trial.seed
    config.option.maxfail = 0
    if trial.tests is not None:
        # pytest gets the files, as it runs no test at all where one that is named is gone.
        paths = dict.fromkeys(test.partition("::")[0] for test in trial.tests)
        config.args = [str(config.rootpath / path) for path in paths]
    return trial


def _start_of(config: pytest.Config) -> list[str]:
    """Return the command that starts this pytest, without its arguments."""
    from django.utils.autoreload import get_child_arguments

    if [*config.invocation_params.args] != sys.argv[1:]:  # another program has called pytest
        return [sys.executable, "-m", "pytest"]
    start = [os.fspath(argument) for argument in get_child_arguments()]
    return start[: len(start) - len(sys.argv[1:])]


def _id_of(config: pytest.Config, argument: str) -> str:
    """Return the id of the test that an argument names."""
    path, *rest = argument.split("::")
    file = config.invocation_params.dir / path
    return "::".join([Path(os.path.relpath(file, config.rootpath)).as_posix(), *rest])


def _named(config: pytest.Config, test: str) -> str:
    """Return the argument that names a test by its id."""
    path, *rest = test.split("::")
    file = config.rootpath / path
    return "::".join([os.path.relpath(file, config.invocation_params.dir), *rest])


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _place_of(function: Callable[..., object]) -> str:
    """Return where a function is defined, as ``conftest.py:5``."""
    code = inspect.unwrap(function).__code__
    return f"{os.path.relpath(code.co_filename)}:{code.co_firstlineno}"


def _has_no_server(error: BaseException | None) -> bool:
    """Return whether an error, or its cause, says that no database server answers."""
    while error is not None:
        kind = type(error)
        is_operational = (kind.__module__, kind.__name__) == ("django.db.utils", "OperationalError")
        if is_operational and is_refusal(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sources(item: pytest.Item) -> frozenset[str]:
    """Return the paths of the files that a test is written in."""
    from itkit.observation import swallowed

    cls = getattr(item, "cls", None)
    inherited = swallowed.sources_of(cls) if cls is not None else frozenset()
    return inherited | {str(item.path)}


def _obstacle(config: pytest.Config) -> str | None:
    """Return what is missing for a project to use itkit; None when it does."""
    if not config.pluginmanager.hasplugin("django"):
        return "pytest-django: pip install 'django-itkit[pytest]'"
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if settings is None or not settings.configured:
        return (
            "Django's settings: set DJANGO_SETTINGS_MODULE in pytest's configuration, in the"
            " environment, or by --ds"
        )
    if not any(app.partition(".")[0] == "itkit" for app in settings.INSTALLED_APPS):
        return '"itkit" in INSTALLED_APPS'
    return None


def _is_integration(item: pytest.Item) -> bool:
    """Return whether the marker, or Django's tag on a test case or its method, says so."""
    if item.get_closest_marker(names.TAG) is not None:
        return True
    tagged = (getattr(item, "cls", None), getattr(item, "obj", None))
    return any(names.TAG in getattr(thing, "tags", ()) for thing in tagged)


def _may_be_given_a_database(item: pytest.Item) -> bool:
    """Return whether a test is a function that has not chosen its access to the database itself."""
    if not isinstance(item, pytest.Function) or item.get_closest_marker("django_db") is not None:
        return False
    cls: Any = item.cls
    if cls is not None and hasattr(cls, "setUpClass"):
        return False  # the class of a TestCase decides
    return "db" not in inspect.signature(item.function).parameters

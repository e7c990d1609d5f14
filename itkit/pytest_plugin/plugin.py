"""The scopes of tests, the fixtures, and the reports of a run that uses itkit."""

from __future__ import annotations

import inspect
import os
import sys
import unittest
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from _pytest import junitxml

from itkit.core import names
from itkit.core.options import KEEP_ALONE, REPORT_GITHUB
from itkit.core.text import NO_SERVER, chained, is_refusal
from itkit.pytest_plugin import arguments, reports
from itkit.pytest_plugin.sweeping import Sweeping, swept

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from itkit.backends.registry import Registry
    from itkit.data import TestDataManager
    from itkit.environment import Environment
    from itkit.observation.assertions import TimelineReader
    from itkit.sweep.injection.fault import Fault
    from itkit.sweep.race.race import Race
    from itkit.sweep.repeat import Repeat
    from itkit.sweep.state import SweptState
    from itkit.timeline.core import Timeline

_NOTES = "itkit_notes"
_DATABASES = "django_db_setup"  # pytest-django's fixture
_CLASSES = "_django_setup_unittest"
"""pytest-django's fixture of each class, which commits nothing, so that nobody has to look."""
_OF_CLIENTS = {
    ("django.db.utils", "OperationalError"): "database",
    ("redis.exceptions", "ConnectionError"): "Redis",
    ("redis.exceptions", "TimeoutError"): "Redis",
}
"""The errors with which clients say that no server answers, by module and name."""
_NO_DATABASES = (
    "the fixture django_db_setup at {} sets no test database up, so the tests would have no tables."
    " With --integration itkit provides the databases: delete the fixture, or let it ask for"
    " pytest-django's by an argument of its own name, def django_db_setup(django_db_setup), and"
    " load what the tests need after it."
)


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
        self._trial = arguments.trial_of(config)
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
        self._item: pytest.Item | None = None  # the test that has begun last
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
        if not self._is_on:
            return
        keeps = self._config.getoption("itkit_keep")
        if keeps and self._config.getoption("numprocesses", None):
            raise pytest.UsageError(KEEP_ALONE)
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
                    configured=arguments.configured(self._config),
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
        named = [arguments.id_of(self._config, argument) for argument in self._config.args]
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
        if fixturedef.argname == _CLASSES:
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
            fixturedef.addfinalizer(self._after_test)
        if not failure and fixturedef.argname == _DATABASES and not self._environment.has_databases:
            failure = _NO_DATABASES.format(_location_of(fixturedef.func))
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
        choice = swept(item)
        if self._environment is None or choice is None:
            return None
        from itkit.sweep.sweeps import sweep_of

        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        sweep = sweep_of(self._environment, choice, item.nodeid, self._say)
        for report in Sweeping(item, nextitem, sweep).run():
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(tryfirst=True, wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        """Begin the scope of a test before its fixtures are set up."""
        if self._environment is not None:
            self._item = item
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
                self._after_test()

    def _after_test(self) -> None:
        """Take back what the last test has committed although it was rolled back."""
        if self._environment is not None and self._item is not None:
            path, line, _ = self._item.reportinfo()
            self._environment.after_test(lambda: (str(path), (line or 0) + 1))

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
            lines += reports.github_annotations(self._config, terminalreporter)
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
            self._hide_own_frames(error)
        report = yield
        if is_of_set_up:
            report.when = "setup"  # where setUp() belongs; pytest calls it with the test
        if self._environment is not None:
            self._report_passed(report, self._environment)
        if report.failed and not self._is_on and (server := _missing_server(error)):
            report.sections.append(("itkit", NO_SERVER.format(server, "pytest")))
        if report.failed and self._environment is not None:
            from itkit.exceptions import ServiceUnavailableError
            from itkit.timeline import core

            self._environment.order.failed.add(item.nodeid)
            if error is not None and (keeper := self._environment.keeper) is not None:
                keeper.note(item.nodeid, error)
            ended = self._ended if report.when == "teardown" else None
            command = f"pytest '{arguments.named(self._config, report.nodeid)}'"
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

    def _hide_own_frames(self, error: BaseException) -> None:
        """Take itkit's frames out of a traceback, unless pytest is asked for all of it."""
        from itkit.timeline import callsite

        if not self._config.option.fulltrace:
            callsite.hide_own_frames(error)

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
            command = f"pytest '{arguments.named(self._config, report.nodeid)}'"
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
    def data(self, request: pytest.FixtureRequest, db: None) -> Iterator[TestDataManager]:
        """The manager of this test's data; what it creates is removed after the test."""
        del db
        # A class of unittest is torn down before the fixtures that it uses.
        commits = not hasattr(request.cls, "setUpClass")
        manager = self._required("data").new_data_manager(commits=commits)
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
        _note_failures(item)
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


def _location_of(function: Callable[..., object]) -> str:
    """Return where a function is defined, as ``conftest.py:5``."""
    code = inspect.unwrap(function).__code__
    return f"{os.path.relpath(code.co_filename)}:{code.co_firstlineno}"


def _note_failures(item: pytest.Item) -> None:
    """Have the timeline note where a test case of unittest fails.

    pytest makes the report when the test case is torn down, and Django's own has sent statements.
    Checked with pytest 9.2.
    """
    from itkit.timeline import core

    def noting(original: Callable[..., None]) -> Callable[..., None]:
        def add(*args: Any, **kwargs: Any) -> None:
            core.current().note_failure()
            original(*args, **kwargs)

        return add

    for name in ("addError", "addFailure"):
        if name not in vars(item):  # a test may be run several times
            setattr(item, name, noting(getattr(item, name)))


def _missing_server(error: BaseException | None) -> str:
    """Return which kind of server does not answer, by an error or its cause; else an empty text."""
    for one in chained(error):
        kind = (type(one).__module__, type(one).__name__)
        if kind in _OF_CLIENTS and is_refusal(str(one)):
            return _OF_CLIENTS[kind]
    return ""


def _sources(item: pytest.Item) -> frozenset[str]:
    """Return the paths of the files that a test is written in."""
    from itkit.observation import swallowed

    cls = getattr(item, "cls", None)
    inherited = swallowed.sources_of(cls) if cls is not None else frozenset()
    return inherited | {str(item.path)}


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

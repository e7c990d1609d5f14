"""pytest's door to the environment: ``pytest --integration``.

This module is imported by every pytest on the machine, so it imports nothing of Django, Postgres
or Redis. All but the option exists only in projects that have ``"itkit"`` in INSTALLED_APPS.
"""

from __future__ import annotations

import inspect
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from itkit import names

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from itkit.boundary import Timeline
    from itkit.data import TestDataManager
    from itkit.environment import Environment
    from itkit.registry import Registry
    from itkit.timeline import TimelineReader

_NOTES = "itkit_notes"
_DATABASES = "django_db_setup"  # pytest-django's fixture


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--integration``, ``--rebuild`` and ``--itkit-seed``."""
    group = parser.getgroup("itkit", "integration tests")
    group.addoption("--integration", action="store_true", help=names.OPTION_HELP)
    group.addoption("--rebuild", action="store_true", help=names.REBUILD_HELP)
    group.addoption("--itkit-seed", metavar="SEED", help=names.SEED_HELP)


def pytest_configure(config: pytest.Config) -> None:
    """Add the fixtures, the marker and the scopes, in projects that use itkit."""
    obstacle = _obstacle(config)
    if obstacle is None:
        from itkit import joined

        joined.leave()
        config.pluginmanager.register(IntegrationPlugin(config), "itkit-integration")
    elif config.getoption("integration"):
        raise pytest.UsageError(f"--integration needs {obstacle}")


class IntegrationPlugin:
    """Fixtures, marker and scopes of a project that uses itkit."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_on: bool = config.getoption("integration")
        self._rebuild: bool = config.getoption("rebuild")
        self._seed: str | None = config.getoption("itkit_seed")
        self._indexes: dict[str, int] = {}
        self._found: set[str] = set()
        self._run: set[str] = set()
        self._migrate = not config.getoption("nomigrations")  # pytest-django's
        # Not by the variables of pytest-xdist, which any pytest that a test starts inherits.
        self._is_worker = hasattr(config, "workerinput")
        # Each worker imports all tests.
        number = getattr(config, "workerinput", {}).get("workerid", "gw0")
        self._tells_of_imports = number == "gw0"
        self._environment: Environment | None = None
        self._ended: Timeline | None = None  # of the test that has
        self._last = ""  # id of the test that was reported last
        self._session: pytest.Session | None = None
        config.addinivalue_line(
            "markers",
            f"{names.TAG}: needs real services; skipped without --integration, with it commits for"
            " real",
        )

    # First of all: pytest-xdist starts its workers in the same hook, and they read what is
    # exported here.
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Start the environment, or attach an xdist worker to that of its controller."""
        self._session = session
        if not self._is_on:
            return
        from itkit import environment
        from itkit.exceptions import ItkitError

        try:
            if self._is_worker:
                self._environment = environment.attach(os.environ["PYTEST_XDIST_WORKER"])
            else:
                self._environment = environment.start(
                    migrate=self._migrate, rebuild=self._rebuild, seeded=self._seed
                )
        except ItkitError as error:
            raise pytest.UsageError(f"itkit: {error}") from error
        self._environment.leaving.say = self._say

    def pytest_report_header(self) -> list[str]:
        """Say what the tests run on, and what itkit's system checks warn of."""
        current = self._environment
        return [current.payload.summary, *current.notices] if current is not None else []

    # Before pytest-django's, which sorts by the marker that is added here.
    @pytest.hookimpl(tryfirst=True, wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Skip integration tests, or let those that are functions commit for real."""
        for item in filter(_is_integration, items):
            if not self._is_on:
                item.add_marker(pytest.mark.skip(reason=names.SKIP_REASON))
            elif _may_be_given_a_database(item):
                item.add_marker(pytest.mark.django_db(transaction=True, databases="__all__"))
        yield
        if self._environment is not None:
            from itkit import seed

            first = self._environment.first_index
            self._indexes = seed.indexes([item.nodeid for item in items], first)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Keep what a module of tests has swallowed while it was imported, to be reported."""
        report = yield
        if self._environment is not None:
            from itkit import boundary, verdicts
            from itkit.exceptions import TestError

            path = getattr(collector, "path", None)
            try:
                verdicts.check(frozenset({str(path)}), f"the import of {collector.nodeid}")
            except TestError as error:
                if self._tells_of_imports:
                    boundary.keep_for(collector.nodeid, error)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Have what several tests share belong to none.

        End the session when the databases cannot be set up: no other test would have them.
        """
        if self._environment is None or fixturedef.scope == "function":
            return (yield)
        from itkit import boundary
        from itkit.exceptions import ItkitError

        try:
            with boundary.between_tests():
                value = yield
            # What it patches belongs to all tests that share it.
            self._environment.backends.accept_patches()
            return value  # noqa: TRY300 - an error of the line above is told like the others
        except ItkitError as error:
            if fixturedef.argname != _DATABASES:
                raise
            message = f"itkit: {error}"
            request.session.shouldfail = message
            pytest.fail(message, pytrace=False)

    @pytest.hookimpl(tryfirst=True, wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        """Begin the scope of a test before any fixture of its own."""
        if self._environment is not None:
            self._environment.begin_class(item.nodeid.rpartition("::")[0])
            self._environment.begin_test(item.nodeid, self._indexes.get(item.nodeid))
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """Fail a test that has passed if the backends were not called as it says."""
        yield
        # A TestCase that has failed, or was skipped, raises nothing here: pytest reports that in
        # place of what would be raised. What was swallowed is found when the test is over.
        if self._environment is not None and not getattr(item, "_excinfo", None):
            self._check(partial(self._environment.check_calls, _sources(item)))

    @pytest.hookimpl(tryfirst=True, wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        """End the scope of a test after all fixtures of its own."""
        try:
            try:
                yield
            except (pytest.skip.Exception, pytest.xfail.Exception):
                self._check_test(item)  # neither is an error, and so may hide none
                raise
            self._check_test(item)
        finally:
            if self._environment is not None:
                from itkit import boundary

                self._ended = boundary.current()
                self._environment.end_test()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which tests there are to run."""
        self._found.update(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Note which tests the workers of pytest-xdist have to run."""
        self._found.update(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test was run, or skipped."""
        self._run.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Report what tests have done that had ended."""
        self._last = nodeid
        self._report_late(nodeid)

    # After pytest-xdist's, which ends its workers.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Shut the ways out; report what outlives the tests, was written elsewhere, was not run."""
        if self._environment is None:
            return
        has_failed = self._report_escape()
        shut = self._environment.shut() if self._environment.process == os.getpid() else []
        has_failed |= self._report_late(self._last) or bool(shut)
        self._report(shut, self._last)
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
        """Take what a worker of pytest-xdist has to tell at the end of the run."""
        if self._environment is not None:
            self._environment.notes.add_all(getattr(node, "workeroutput", {}).get(_NOTES, ()))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Tell what is no error, once for each place."""
        lines = list(self._environment.notes.lines()) if self._environment is not None else []
        # pytest prints no header with -q, and the user has to know which server was passed over.
        if self._environment is not None and self._config.option.verbose < 0:
            summary = self._environment.payload.summary
            lines += [summary] if names.PASSED_OVER in summary else []
        if lines:
            terminalreporter.section("itkit")
            for line in lines:
                terminalreporter.write_line(line)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show what has left the process before a failure, and what there is to do about it.

        End the session when a test fails because a server has died: all others would too.
        """
        error = call.excinfo.value if call.excinfo is not None else None
        if error is not None and self._environment is not None:
            from itkit import sites
            from itkit.exceptions import TestError

            if isinstance(error, TestError):
                sites.end_in_own_code(error)
        report = yield
        if report.failed and not self._is_on and _has_no_server(error):
            report.sections.append(("itkit", f"{names.NO_SERVER} pytest --integration"))
        if report.failed and self._environment is not None:
            from itkit import boundary
            from itkit.exceptions import ServiceUnavailableError

            ended = self._ended if report.when == "teardown" else None
            explained = self._environment.explained(
                report.longreprtext,
                f"pytest '{report.nodeid}'",
                boundary.current() if ended is None else ended,
            )
            report.sections.append(("itkit", explained))
            try:
                self._environment.check_servers()
            except ServiceUnavailableError as error:
                report.sections.append(("itkit", str(error)))
                item.session.shouldstop = f"itkit: {error}"
        return report

    def pytest_unconfigure(self) -> None:
        """Detach from the environment and, outside of xdist's workers, end it."""
        if self._environment is None:
            return  # one that is current all the same belongs to the pytest around this one
        from itkit import environment
        from itkit.exceptions import ItkitError

        try:
            for late in environment.stop():
                sys.stderr.write(f"itkit: {late.error}\n")
        except ItkitError as error:
            sys.stderr.write(f"itkit: {error}\n")  # the terminal reporter has closed by now
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
        from itkit.timeline import TimelineReader

        return TimelineReader()

    def _has_not_run_all(self) -> bool:
        """Tell whether tests were found that were not run, and report that."""
        from itkit import verdicts
        from itkit.exceptions import NotRunError

        if self._config.option.collectonly:
            return False
        try:
            verdicts.check_all_run(self._found, self._run)
        except NotRunError as error:
            report = pytest.TestReport(
                "itkit", ("itkit", None, "tests that were not run"), {}, "failed", str(error),
                "teardown",
            )  # fmt: skip
            self._config.hook.pytest_runtest_logreport(report=report)
            return True
        return False

    def _report_late(self, running: str) -> bool:
        """Tell whether there was anything to report.

        Args:
            running: id of the test that is running, of which pytest-xdist expects a report.
        """
        if self._environment is None:
            return False
        from itkit import verdicts

        found = list(verdicts.late())
        self._report(found, running)
        return bool(found)

    def _report(self, late: Iterable[tuple[str, Exception]], running: str) -> None:
        for test, error in late:
            path, _, name = test.partition("::")
            reported = running if self._is_worker else test
            report = pytest.TestReport(
                reported, (path, None, name), {}, "failed", str(error), "teardown"
            )
            self._config.hook.pytest_runtest_logreport(report=report)

    def _say(self, text: str) -> None:
        """Print a line, although pytest captures what a test prints."""
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture(in_=True)
        sys.stderr.write(text)
        sys.stderr.flush()

    def _check_test(self, item: pytest.Item) -> None:
        if self._environment is not None:
            self._check(partial(self._environment.check_test, _sources(item)))

    def _check(self, find_out: Callable[[], None]) -> None:
        from itkit.exceptions import EscapeError, TestError

        message = ""
        try:
            find_out()
        except (EscapeError, TestError) as error:
            message = str(error)
        if message:  # not within the block, or both would be shown
            pytest.fail(message, pytrace=False)

    def _required(self, fixture: str) -> Environment:
        if self._environment is None:
            pytest.fail(
                f"The fixture {fixture!r} needs --integration. Mark the test with"
                " @pytest.mark.integration, so that it is skipped without.",
                pytrace=False,
            )
        return self._environment


def _has_no_server(error: BaseException | None) -> bool:
    """Whether an error comes of one of Django that says that no database server answers."""
    while error is not None:
        kind = type(error)
        is_operational = (kind.__module__, kind.__name__) == ("django.db.utils", "OperationalError")
        if is_operational and names.is_refusal(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sources(item: pytest.Item) -> frozenset[str]:
    """Return the paths of the files that a test is written in."""
    from itkit import verdicts

    cls = getattr(item, "cls", None)
    inherited = verdicts.sources_of(cls) if cls is not None else frozenset()
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
    """Whether the marker, or Django's tag on a test case or its method, says so."""
    if item.get_closest_marker(names.TAG) is not None:
        return True
    tagged = (getattr(item, "cls", None), getattr(item, "obj", None))
    return any(names.TAG in getattr(thing, "tags", ()) for thing in tagged)


def _may_be_given_a_database(item: pytest.Item) -> bool:
    """Whether a test is a function that has not chosen its access to the database itself."""
    if not isinstance(item, pytest.Function) or item.get_closest_marker("django_db") is not None:
        return False
    cls: Any = item.cls
    if cls is not None and hasattr(cls, "setUpClass"):
        return False  # a TestCase says so by its kind
    return "db" not in inspect.signature(item.function).parameters

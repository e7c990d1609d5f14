"""Runners of other packages and of a project's own: the scope of a test begins with the test."""

import re
import xml.etree.ElementTree as ET

import pytest

from tests.support.doors import slow, write_tests
from tests.support.projects import Project, Result

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    import unittest

    from django.core.cache import cache
    from itkit.test import IntegrationTestCase
    from shop.gateways import Stripe
    from shop.models import Customer
    from shop.weather import weather


    class Scopes(IntegrationTestCase):
        def test_a_programs(self):
            self.backends.payments.charge.returns("txn_1")
            self.assertEqual(Stripe().charge(1, "t"), "txn_1")
            cache.set("left", "by the first test")
            Customer.objects.create(email="a@example.com")

        def test_b_is_fresh(self):
            self.assertEqual(self.backends.payments.charge.call_count, 0)
            self.assertIsNone(cache.get("left"))
            self.assertFalse(Customer.objects.exists())

        def test_c_swallows(self):
            weather()

        def test_d_requires(self):
            self.backends.payments.charge.returns("x").required()

        def test_e_fails(self):
            Customer.objects.count()
            self.fail("on purpose")


    class Others(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            weather()

        @unittest.skip("on purpose")
        def test_f_is_skipped(self):
            pass

        def test_g_is_no_test_case_of_djangos(self):
            self.assertIsNone(cache.get("left"))
"""

WEATHER = """
    import socket

    def weather():
        try:
            socket.create_connection(("api.weather.example", 443), 1)
        except Exception:
            pass
"""

RUNNERS = """
    import functools
    import unittest

    from django.test.runner import DiscoverRunner


    class BySuite(DiscoverRunner):
        def run_suite(self, suite, **kwargs):
            return unittest.TextTestRunner().run(suite)


    class ByPart(DiscoverRunner):
        def run_suite(self, suite, **kwargs):
            result = unittest.TestResult()
            for number in range(7):
                unittest.TestSuite([list(suite)[number]])(result)
            for test, text in [*result.errors, *result.failures]:
                print(f"ERROR: {test}", text)
            return result


    class Again(DiscoverRunner):
        def run_suite(self, suite, **kwargs):
            tests = list(suite)
            result = super().run_suite(suite, **kwargs)
            super().run_suite(unittest.TestSuite(tests[:2]), **kwargs)
            return result


    class TimedResult(unittest.TextTestResult):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.times = []

        def startTest(self, test):
            self.times.append(1)  # and no super(), as of one who prints it all himself
            self.testsRun += 1

        def stopTest(self, test):
            pass


    class TextRunner(unittest.TextTestRunner):
        resultclass = TimedResult

        def run(self, suite):
            result = super().run(suite)
            print("TIMES", len(result.times))
            return result


    class OwnSuite(unittest.TestSuite):
        pass


    class ByAttributes(DiscoverRunner):
        test_runner = TextRunner
        test_suite = OwnSuite


    class MakingRunner(unittest.TextTestRunner):
        def _makeResult(self):
            return TimedResult(self.stream, self.descriptions, self.verbosity)


    class ByMethod(DiscoverRunner):
        test_runner = MakingRunner


    class ByArguments(DiscoverRunner):
        def get_resultclass(self):
            return functools.partial(TimedResult)

        def get_test_runner_kwargs(self):
            return {**super().get_test_runner_kwargs(), "descriptions": False}
"""

SWALLOWED = "The application has swallowed an error"
OUTSIDE = (
    ": the run was interrupted, a process that was to run them has ended, or they were run outside of the"
    " scope of a test, which begins in unittest.TestCase.run() and in pytest's pytest_runtest_setup."
)
REMEDY = (
    "which has no build_suite() and does not run pytest. Derive it from"
    " django.test.runner.DiscoverRunner."
)


def judge(result: Result, runner: str) -> None:
    """Make sure that the tests which have to fail did, and no others."""
    said = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert result.code == 1, (runner, said)
    assert said.count("api.weather.example:443 was refused") >= 2, (runner, said)
    assert "setUpClass (shop.tests.test_shop.Others)" in said, (runner, said)
    assert " manage.py test shop.tests.test_shop.Scopes.test_e_fails" in said, (
        runner,
        said,
    )
    assert "that were not run" not in said, (runner, said)
    failed = set(re.findall(r"(?:FAIL|ERROR):? (?:\[[\d.]+s\])?: ?.*?(test_[a-g]_\w+)", said))
    failed |= set(re.findall(r"testFailed .*?(test_[a-g]_\w+)", said))
    failed |= set(re.findall(r"(?:FAIL|ERROR): (test_[a-g]_\w+)", said))
    assert failed == {"test_c_swallows", "test_d_requires", "test_e_fails"}, (runner, said)


PACKAGES = [
    "xmlrunner.extra.djangotestrunner.XMLTestRunner",
    "teamcity.django.TeamcityDjangoRunner",
    "django_rich.test.RichRunner",
]
OWN = [
    "BySuite",
    "ByPart",
    "Again",
    "ByAttributes",
    "ByMethod",
    "ByArguments",
]


@pytest.mark.parametrize("workers", [[], slow(["--parallel", "2"])], ids=str)
def test_runners_of_packages(workers: list[str], project: Project) -> None:
    write_tests(project, TESTS)
    project.write("shop/weather.py", WEATHER)
    project.settings('TEST_OUTPUT_DIR = "reports"')
    for runner in PACKAGES:
        result = project.test("--integration", "--testrunner", runner, *workers)
        judge(result, runner)
        if "xmlrunner" in runner:
            reports = list((project.path / "reports").glob("*.xml"))
            cases = [case for path in reports for case in ET.parse(path).iter("testcase")]
            named = {case.get("name", "") for case in cases}
            assert {"test_a_programs", "test_c_swallows", "test_f_is_skipped"} < named
        if "rich" in runner:
            assert "━━━" in result.output


@pytest.mark.parametrize("workers", [[], slow(["--parallel", "2"])], ids=str)
def test_runners_of_a_project(workers: list[str], project: Project) -> None:
    write_tests(project, TESTS)
    project.write("shop/weather.py", WEATHER)
    project.write("runners.py", RUNNERS)
    for runner in OWN:
        if workers and runner in ("ByPart", "Again"):
            continue  # its parts are those of one process
        result = project.test("--integration", "--testrunner", f"runners.{runner}", *workers)
        judge(result, runner)
        if runner == "ByAttributes":
            assert "TIMES 7" in result.output
        if runner == "Again":
            assert re.search(r"^Ran 2 tests in [\d.]+s\n\nOK$", result.output, re.MULTILINE)


LOUD = """
    import sys
    import unittest

    from django.test import SimpleTestCase
    from itkit.test import IntegrationTestCase


    class OwnRun(IntegrationTestCase):
        def run(self, result=None):  # as testtools has it
            result.startTest(self)
            self.test_a()
            result.addSuccess(self)
            result.stopTest(self)

        def test_a(self):
            self.backends.payments.charge.returns("for ever")


    class Plain(SimpleTestCase):
        def test_b(self):
            pass

        def test_c(self):
            pass


    class Exits(SimpleTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            sys.exit(0)

        def test_d(self):
            pass


    class ExitsLate(SimpleTestCase):
        def test_e(self):
            pass

        @classmethod
        def tearDownClass(cls):
            sys.exit(0)


    class ExitsBefore(SimpleTestCase):
        @classmethod
        def _pre_setup(cls):
            sys.exit(0)

        def test_f(self):
            pass


    class ExitsAfter(SimpleTestCase):
        def test_g(self):
            pass

        def _post_teardown(self):
            super()._post_teardown()
            sys.exit(0)
"""

CLASSES = ["Exits", "ExitsLate", "ExitsBefore", "ExitsAfter", "Plain"]
LOUD_RUNNERS = """
    import os
    import threading
    import unittest

    from django.test.runner import DiscoverRunner


    class NoDiscoverRunner:
        def __init__(self, **kwargs):
            pass

        @classmethod
        def add_arguments(cls, parser):
            pass

        def run_tests(self, labels):
            labels = [label for label in labels if not label.startswith("-")]
            suite = unittest.defaultTestLoader.loadTestsFromNames(labels)
            return len(unittest.TextTestRunner().run(suite).failures)


    class Threads(DiscoverRunner):
        def run_suite(self, suite, **kwargs):
            result = unittest.TextTestResult(unittest.runner._WritelnDecorator(open(os.devnull, "w")), 0, 0)
            barrier = threading.Barrier(2)
            tests = list(suite)
            for test in tests:
                test.setUp = barrier.wait
                test.tearDown = barrier.wait

            # The second begins when the first does, and is refused: so the first does not wait.
            def begin_second():
                barrier.wait()
                tests[1](result)
                barrier.wait()

            thread = threading.Thread(target=begin_second)
            thread.start()
            tests[0](result)
            thread.join()
            for _, text in result.errors:
                print(text)
            return result


    class Processes(DiscoverRunner):
        def run_suite(self, suite, **kwargs):
            pid = os.fork()
            if pid == 0:
                result = unittest.TestResult()
                suite(result)
                os._exit(len(result.errors))
            os.waitpid(pid, 0)
            return unittest.TestResult()
"""


def test_a_test_outside_of_a_scope_is_a_loud_error(project: Project) -> None:
    write_tests(project, LOUD)
    project.write("runners.py", LOUD_RUNNERS)
    labels = "shop.tests.test_shop"

    def run(runner: str, label: str) -> str:
        options = ["--testrunner", f"runners.{runner}"] if runner else []
        result = project.test("--integration", *options, f"{labels}.{label}")
        assert result.code == 1, result.output
        assert "Traceback" not in result.output or "SystemExit" in result.output, result.output
        return result.output

    assert f"not run{OUTSIDE}\n  {labels}.OwnRun.test_a\n" in run("", "OwnRun")
    assert f"not run{OUTSIDE}\n  {labels}.Plain.test_b\n" in run("Processes", "Plain")
    assert f"{labels}.Plain.test_c begins while {labels}.Plain.test_b runs" in run(
        "Threads", "Plain"
    )
    refused = "itkit: --integration cannot run the tests of runners.NoDiscoverRunner"
    assert run("NoDiscoverRunner", "Plain").endswith(f"{refused}, {REMEDY}")


def test_sys_exit_outside_of_a_test_does_not_end_the_run(project: Project) -> None:
    write_tests(project, LOUD)
    label = "shop.tests.test_shop"
    result = project.test("--integration", *(f"{label}.{name}" for name in CLASSES))
    assert result.counts == {"failed": 4}, result.output
    assert f"ERROR: setUpClass ({label}.Exits)" in result.output
    assert f"ERROR: tearDownClass ({label}.ExitsLate)" in result.output
    assert f"ERROR: test_f ({label}.ExitsBefore.test_f)" in result.output
    assert f"ERROR: test_g ({label}.ExitsAfter.test_g)" in result.output


def test_python_m_unittest_is_no_run(project: Project) -> None:
    write_tests(project, TESTS)
    project.write("shop/weather.py", WEATHER)
    project.write("shop/tests/__init__.py", "import django\n\ndjango.setup()")
    command = ["-m", "unittest", "-v", "shop.tests.test_shop.Scopes"]
    result = project.run(*command, DJANGO_SETTINGS_MODULE="settings")
    assert result.output.endswith("OK (skipped=1)"), result.output
    assert "an integration test: run with --integration" in result.output


def test_test_cases_by_pytest(project: Project) -> None:
    write_tests(project, TESTS)
    project.write("shop/weather.py", WEATHER)
    result = project.pytest("--integration", "-rfE")
    failed = set(re.findall(r"FAILED .*?(test_[a-g]_\w+)", result.output))
    assert failed == {"test_c_swallows", "test_d_requires", "test_e_fails"}, result.output
    # What setUpClass has swallowed is an error of the first test of the class, which is skipped.
    assert result.counts == {"failed": 3, "passed": 3, "skipped": 1, "error": 1}, result.output
    assert "ERROR at teardown of Others.test_f_is_skipped" in result.output

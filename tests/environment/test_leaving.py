"""No way to leave a test, or the process of the tests, makes a run green that is not."""

import pytest

from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project
from tests.support.verdicts_project import APP, failed, judged

pytestmark = pytest.mark.usefixtures("shared_servers", "beside_a_developer")

LEFT = """
    import atexit
    import os
    import sys

    from django.test import SimpleTestCase


    def replace():
        os.execv("/bin/true", ["true"])


    def end():
        os._exit(0)


    class A(SimpleTestCase):
        def test_a(self):
            {in_a_test}

        def test_b(self):
            self.fail("the second test")

        @classmethod
        def tearDownClass(cls):
            super().tearDownClass()
            {at_the_end}


    class B(SimpleTestCase):
        def test_c(self):
            pass
"""
WAYS = {
    "os._exit": ("end()", "", "os._exit() in"),
    "os.execv": ("replace()", "", "os.exec() in "),
    "os._exit at the end": ("", "end()", "os._exit() in"),
    "os._exit in a hook": ("atexit.register(end)", "", "the second test"),
    "sys.exit": ("sys.exit(0)", "", "sys.exit(0)|SystemExit"),
    "sys.exit at the end": ("", "sys.exit(0)", "sys.exit(0)|SystemExit"),
}


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_left_is_red(way: str, door: str, project: Project) -> None:
    in_a_test, at_the_end, told = WAYS[way]
    write_tests(
        project, LEFT.format(in_a_test=in_a_test or "pass", at_the_end=at_the_end or "pass")
    )
    result = enter(door, project)
    assert result.code == 1, result.output
    assert any(text in result.output for text in told.split("|")), result.output


@pytest.mark.parametrize("door", SERIAL)
def test_processes_of_a_test_end_as_they_like(door: str, project: Project) -> None:
    write_tests(
        project,
        """
        import os
        import warnings

        from django.test import SimpleTestCase


        class Children(SimpleTestCase):
            def test_children(self):
                warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
                for end in (lambda: os._exit(0), lambda: os.execv("/bin/true", ["true"])):
                    if (child := os.fork()) == 0:
                        end()
                    self.assertEqual(os.waitpid(child, 0)[1], 0)
        """,
    )
    result = enter(door, project)
    assert result.counts == {"passed": 1}, result.output


def test_sys_exit_ends_no_worker_of_django(project: Project) -> None:
    write_tests(project, LEFT.format(in_a_test="pass", at_the_end="sys.exit(0)"))
    result = enter("django, two forked workers", project)
    assert result.code == 1, result.output
    assert "in tearDownClass" in result.output
    assert "SystemExit: 0" in result.output
    assert "the second test" in result.output


SWALLOWED = """
    import unittest

    from itkit.test import IntegrationTestCase
    from shop import app


    class Tests(IntegrationTestCase):
        def test_red_own_clean_ups(self):
            self.doCleanups()
            app.pay_and_swallow()

        def test_red_no_clean_ups(self):
            self._cleanups.clear()
            app.pay_and_swallow()

        @unittest.expectedFailure
        def test_red_expected_failure(self):
            app.pay_and_swallow()
            self.fail("as expected")

        @unittest.expectedFailure
        def test_red_unexpected_success(self):
            app.pay_and_swallow()

        def test_red_skipped_at_the_end(self):
            self.addCleanup(self.skipTest, "late")
            app.pay_and_swallow()

        def test_red_subtest(self):
            with self.subTest("one"):
                app.pay_and_swallow()
            with self.subTest("another"):
                self.skipTest("this one")

        @unittest.expectedFailure
        def test_green_expected_failure(self):
            self.fail("as expected")

        def test_green_skipped(self):
            self.skipTest("early")
"""


@pytest.mark.parametrize("door", SERIAL)
def test_no_other_outcome_hides_what_was_swallowed(door: str, project: Project) -> None:
    judged(door, project, SWALLOWED)


def test_no_skip_of_pytest_hides_it(project: Project) -> None:
    project.write("shop/app.py", APP)
    project.write(
        "test_shop.py",
        """
        import pytest

        from shop import app

        pytestmark = pytest.mark.integration


        @pytest.fixture
        def swallows():
            yield
            app.pay_and_swallow()


        @pytest.fixture(params=[pytest.skip, pytest.xfail])
        def left_by(request):
            yield
            request.param("in the tear-down")


        def test_red_tear_down(left_by, swallows):
            pass


        def test_red_skipped():
            app.pay_and_swallow()
            pytest.skip("late")


        def test_green_tear_down(left_by):
            pass
        """,
    )
    result = project.pytest("--integration", "-rfE")
    assert result.output.count("ERROR test_shop.py::test_red_tear_down[") == 2, result.output
    assert "ERROR test_shop.py::test_red_skipped" in result.output
    assert not {name for name in failed(result) if "green" in name}

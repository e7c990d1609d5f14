"""Tests that were found and not run are an error, also after Ctrl-C. Of workers: ``test_workers.py``."""

import pytest

from tests.support.doors import write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    import os
    import signal
    import unittest

    from django.test import SimpleTestCase


    class A(SimpleTestCase):
        def test_a(self):
            if "INTERRUPT" in os.environ:
                os.kill(os.getpid(), signal.SIGINT)


    class B(SimpleTestCase):
        def test_b(self):
            pass

        @unittest.skip("on purpose")
        def test_c(self):
            pass

        def test_d(self):
            pass


    @unittest.skip("on purpose")
    class C(SimpleTestCase):
        def test_e(self):
            pass


    class D(SimpleTestCase):
        @classmethod
        def setUpClass(cls):
            raise unittest.SkipTest("on purpose")

        def test_f(self):
            pass

        def test_g(self):
            pass
"""


def test_ctrl_c_in_one_process_of_django(project: Project):
    write_tests(project, TESTS)
    result = project.test("--integration", INTERRUPT="1")

    assert result.code == 1, result.output
    assert "ERROR: tests that were not run" in result.output
    assert "of the tests that were found were not run" in result.output
    assert "shop.tests.test_shop.B.test_b" in result.output
    assert "shop.tests.test_shop.A.test_a" not in result.output


def test_what_is_skipped_or_left_out_is_not_missed(project: Project):
    write_tests(project, TESTS)
    result = project.test("--integration", "-k", "test_b", "-k", "test_c", "-k", "test_f")
    assert result.code == 0, result.output
    assert "that were not run" not in result.output


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_django(project: Project, method: str):
    write_tests(project, TESTS)
    result = project.test("--integration", "--parallel", "2", START_METHOD=method)
    assert result.code == 0, result.output
    assert "that were not run" not in result.output


def test_pytest_that_is_left_with_success(project: Project):
    project.write("conftest.py", """
        import pytest

        def pytest_runtest_logfinish(nodeid):
            if "test_a" in nodeid:
                pytest.exit("enough", returncode=0)
    """)  # fmt: skip
    write_tests(project, TESTS)
    result = project.pytest("--integration")

    assert result.code == 1, result.output
    assert "of the tests that were found were not run" in result.output
    assert "shop/tests/test_shop.py::B::test_b" in result.output


@pytest.mark.slow
def test_pytest_with_workers(project: Project):
    write_tests(project, TESTS)
    result = project.pytest("--integration", "-n", "2")
    assert result.code == 0, result.output
    assert project.pytest("--integration", "--collect-only", "-q").code == 0

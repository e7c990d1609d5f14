"""What is swallowed outside of a test's method, or in a process that it forks, fails the run too."""

import pytest

from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.projects import Project
from tests.support.verdicts_project import APP, judged

pytestmark = pytest.mark.usefixtures("shared_servers", "beside_a_developer")

TESTS = """
    from django.test import SimpleTestCase, TestCase

    from itkit.test import IntegrationTestCase
    from shop import app
    from shop.gateways import send_sms


    def swallow(number):
        app.call(lambda: send_sms(number, "hello"))


    swallow("at import")


    def setUpModule():
        swallow("in setUpModule")


    def tearDownModule():
        swallow("in tearDownModule")


    class A(SimpleTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            swallow("in setUpClass")

        def test_a(self):
            pass

        @classmethod
        def tearDownClass(cls):
            super().tearDownClass()
            swallow("in tearDownClass")


    class B(TestCase):
        @classmethod
        def setUpTestData(cls):
            swallow("in setUpTestData")

        def test_b(self):
            pass


    class C(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cls.addClassCleanup(swallow, "in a cleanup of the class")

        def test_c(self):
            pass

        def _fixture_teardown(self):
            super()._fixture_teardown()
            swallow("after the test")


    class D(SimpleTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            try:
                send_sms("seen in setUpClass", "hello")
            except AssertionError:
                pass

        def test_d(self):
            pass
"""

PLACES = [
    "in setUpModule",
    "in tearDownModule",
    "in setUpClass",
    "in tearDownClass",
    "in setUpTestData",
    "in a cleanup of the class",
    "after the test",
]


@pytest.mark.parametrize("door", DOORS)
def test_what_is_swallowed_outside_of_a_test_fails_the_run(door, project: Project):
    project.settings('ITKIT["BACKENDS"]["sms"]["UNPROGRAMMED"] = "strict"')
    project.write("shop/app.py", APP)
    write_tests(project, TESTS)
    result = enter(door, project)

    for place in [*PLACES, "at import"]:
        assert f"sms('{place}', 'hello') was not expected" in result.output, (place, result.output)
    assert "seen in setUpClass" not in result.output
    assert result.code == 1
    if door == "django":
        for where in (
            "ERROR: import of the tests",
            "ERROR: setUpModule (shop.tests.test_shop)",
            "ERROR: tearDownModule (shop.tests.test_shop)",
            "ERROR: setUpClass (shop.tests.test_shop.A)",
            "ERROR: tearDownClass (shop.tests.test_shop.A)",
            "ERROR: setUpClass (shop.tests.test_shop.B)",
            "ERROR: tearDownClass (shop.tests.test_shop.C)",
        ):
            assert result.output.count(f"{where}\n") == 1, (where, result.output)


FORKS = """
    import multiprocessing
    import os
    import sys
    import threading
    import warnings
    from concurrent.futures import ProcessPoolExecutor

    from itkit.test import IntegrationTestCase
    from shop import app

    forking = multiprocessing.get_context("fork")


    def swallow(_=None):
        app.pay_and_swallow()


    class Forks(IntegrationTestCase):
        def setUp(self):
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

        def fork(self, then):
            child = os.fork()
            if child == 0:
                try:
                    then()
                finally:
                    os._exit(0)
            return child

        def test_a_red_by_os(self):
            os.waitpid(self.fork(swallow), 0)

        def test_a_red_by_a_child_of_a_child(self):
            os.waitpid(self.fork(lambda: os.waitpid(self.fork(swallow), 0)), 0)

        def test_a_red_by_multiprocessing(self):
            process = forking.Process(target=swallow)
            process.start()
            process.join()

        def test_a_red_by_a_pool(self):
            with forking.Pool(1) as pool:
                pool.map(swallow, range(2))

        def test_a_red_by_an_executor(self):
            with ProcessPoolExecutor(1, mp_context=forking) as pool:
                pool.submit(swallow).result()

        def test_a_red_by_more_errors_than_the_channel_holds(self):
            def swallow_many():
                for _ in range(3000):
                    swallow()

            os.waitpid(self.fork(swallow_many), 0)

        def test_a_red_late(self):
            read, write = os.pipe()

            def wait():
                os.read(read, 1)
                swallow()

            type(self).go, type(self).child = write, self.fork(wait)
            os.close(read)

        def test_b_green_while_it_swallows(self):
            os.write(self.go, b"x")
            os.waitpid(self.child, 0)
            os.close(self.go)

        def test_c_green_without_errors(self):
            self.backends.payments.charge.returns("txn")
            _, status = os.waitpid(self.fork(swallow), 0)
            self.assertEqual(status, 0)
"""


@pytest.mark.parametrize("door", SERIAL)
def test_what_a_forked_process_swallows_fails_its_test(door, project: Project):
    result = judged(door, project, FORKS)

    assert "in the forked process" in result.output
    assert "payments.charge was calculated with, but the test programs none" in result.output

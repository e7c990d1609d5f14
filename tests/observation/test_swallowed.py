"""What fails a test although the application has swallowed it, and calls that come too late."""

import re

import pytest

from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers", "beside_a_developer")

APP = """
    from shop.gateways import Stripe


    def pay_and_swallow():
        try:
            return Stripe().charge(5, "tok") + "!"
        except Exception:
            return None


    def ask_a_stranger():
        import redis

        try:
            return redis.Redis(port=2).get("k")
        except Exception:
            return None
"""

TESTS = """
    import threading
    from concurrent.futures import ThreadPoolExecutor

    from itkit import LateCallError, UnexpectedCallError, UnprogrammedReturnError
    from itkit.test import IntegrationTestCase
    from shop import app
    from shop.gateways import Stripe


    class Swallowed(IntegrationTestCase):
        def test_an_unprogrammed_return(self):
            self.assertIsNone(app.pay_and_swallow())

        def test_two_of_them(self):
            app.pay_and_swallow()
            app.pay_and_swallow()

        def test_a_call_of_a_strict_fake(self):
            self.backends.payments.strict()
            self.assertIsNone(app.pay_and_swallow())

        def test_an_exhausted_sequence(self):
            self.backends.payments.charge.returns_each("txn_1")
            self.assertEqual(app.pay_and_swallow(), "txn_1!")
            self.assertIsNone(app.pay_and_swallow())

        def test_a_refused_connection(self):
            for _ in range(3):
                self.assertIsNone(app.ask_a_stranger())

        def test_in_a_thread(self):
            thread = threading.Thread(target=app.pay_and_swallow)
            thread.start()
            thread.join()

        def test_a_call_that_was_required(self):
            self.backends.payments.charge.returns("txn_1").required()


    class Seen(IntegrationTestCase):
        def test_by_assert_raises(self):
            with self.assertRaises(UnprogrammedReturnError):
                bool(Stripe().charge(5, "tok"))

        def test_by_the_test_itself(self):
            self.backends.payments.strict()
            try:
                Stripe().charge(5, "tok")
            except UnexpectedCallError as error:
                self.assertIn("5, 'tok'", str(error))

        def test_a_call_that_was_required(self):
            self.backends.payments.charge.returns("txn_1").required()
            self.assertEqual(app.pay_and_swallow(), "txn_1!")


    class Late(IntegrationTestCase):
        go = threading.Event()

        def test_a_starts_a_thread_and_does_not_wait(self):
            type(self).thread = threading.Thread(target=self.wait_and_call, name="straggler")
            self.thread.start()

        def test_b_is_running_when_the_thread_calls(self):
            self.backends.payments.charge.returns("txn_b")
            self.go.set()
            self.thread.join()
            self.backends.payments.charge.assert_never_called()

        def wait_and_call(self):
            self.go.wait(30)
            app.pay_and_swallow()


    class Pools(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cls.pool = ThreadPoolExecutor(1)
            cls.addClassCleanup(cls.pool.shutdown)

        def test_a_starts_the_worker_of_a_pool(self):
            self.backends.payments.charge.returns("txn_a")
            self.assertEqual(self.pool.submit(app.pay_and_swallow).result(), "txn_a!")

        def test_b_is_answered_in_the_same_worker(self):
            self.backends.payments.charge.returns("txn_b")
            self.assertEqual(self.pool.submit(app.pay_and_swallow).result(), "txn_b!")
            self.backends.payments.charge.assert_called_once_with(5, "tok")
"""

PYTEST_TESTS = """
    import threading

    import pytest

    from shop import app
    from shop.gateways import Stripe

    pytestmark = pytest.mark.integration


    @pytest.fixture(scope="session")
    def server():
        class Server:
            def __init__(self):
                self.asked, self.done = threading.Event(), threading.Event()
                self.thread = threading.Thread(target=self.serve, daemon=True)
                self.thread.start()

            def serve(self):
                while self.asked.wait(60):
                    self.asked.clear()
                    app.pay_and_swallow()
                    self.done.set()

            def ask(self):
                self.done.clear()
                self.asked.set()
                assert self.done.wait(30)

        return Server()


    @pytest.mark.parametrize("number", [1, 2])
    def test_a_thread_of_a_session_fixture_belongs_to_whichever_test_asks(server, backends, number):
        backends.payments.charge.returns("txn")
        server.ask()
        assert backends.payments.call_count("charge") == 1


    def test_an_error_that_pytest_raises_has_caught_is_seen():
        with pytest.raises(AssertionError, match="the test programs none"):
            bool(Stripe().charge(5, "tok"))


    def test_an_error_that_the_application_swallows_is_not():
        app.pay_and_swallow()
"""

FAILED = {
    "test_an_unprogrammed_return": [
        "The application has swallowed an error that fails this test:",
        "The return value of payments.charge was calculated with, but the test programs none.",
        "called at shop/app.py:7 in pay_and_swallow",
        "add to the test: backends.payments.charge.returns(...)",
        "caught at shop/app.py:7 in pay_and_swallow",
    ],
    "test_two_of_them": ["The application has swallowed 2 errors that fail this test:"],
    "test_a_call_of_a_strict_fake": ["payments.charge(5, 'tok') was not expected"],
    "test_an_exhausted_sequence": ["called more often than its returns_each() has values (1)"],
    "test_a_refused_connection": [
        "The application has swallowed 3 errors that fail this test:",
        "A connection to Redis at localhost:2 was refused",
        "3 times the same",
    ],
    "test_in_a_thread": ["The return value of payments.charge was calculated with"],
    "test_a_call_that_was_required": ["payments.charge was never called, expected a call, as"],
}


@pytest.mark.parametrize("door", DOORS)
def test_what_the_application_swallows_fails_its_test_under_every_door(door, project: Project):
    project.write("shop/app.py", APP)
    write_tests(project, TESTS)
    xdist = ["--dist", "loadscope"] if "xdist" in door else []
    result = enter(door, project, *xdist)

    for test, texts in FAILED.items():
        shown = _section(result.output, f"Swallowed.{test}")
        assert [text for text in texts if text not in shown] == [], result.output
    late = "payments.charge was called after the test that started the thread 'straggler' had ended"
    assert result.output.count(late) == 1, result.output
    assert re.search(rf"{late}:\s.*test_a_starts_a_thread_and_does_not_wait", result.output)
    # The late call is one more failure, of a test that had passed.
    failed = result.counts["failed"] + result.counts.get("error", 0)
    assert failed == len(FAILED) + 1, result.output
    assert result.code != 0


def test_threads_and_errors_of_pytest(project: Project):
    project.write("shop/app.py", APP)
    project.write("test_shop.py", PYTEST_TESTS)
    result = project.pytest("--integration")

    assert result.counts == {"passed": 3, "failed": 1}, result.output
    shown = _section(result.output, "test_an_error_that_the_application_swallows_is_not")
    assert "The application has swallowed an error that fails this test" in shown


def _section(output: str, test: str) -> str:
    """Return what a runner prints of a failed test."""
    kind, _, name = test.rpartition(".")
    of_pytest = rf"^_+ {re.escape(test)} _+\n"
    of_django = rf"^(?:FAIL|ERROR): {name} \([^\n]*{kind}[^\n]*\)\n"
    found = re.search(f"(?:{of_pytest}|{of_django})(.*?)(?=^(?:_+ |=====|-+\nRan))", output,
                      re.MULTILINE | re.DOTALL)  # fmt: skip
    assert found, f"{test} has not failed:\n{output}"
    return found[1]

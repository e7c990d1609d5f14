"""An error counts as seen only where the test itself has caught it, or has asked for it."""

import pytest

from tests.support.doors import SERIAL
from tests.support.projects import Project
from tests.support.verdicts_project import judged, section

pytestmark = pytest.mark.usefixtures("shared_servers")

HELPERS = """
    def catches(function):
        try:
            function()
        except AssertionError:
            return True
        return False
"""

TESTS = """
    import _thread
    import asyncio
    import contextlib
    import sys
    import threading
    from concurrent.futures import ThreadPoolExecutor
    from multiprocessing.pool import ThreadPool

    from asgiref.sync import async_to_sync

    from itkit import UnexpectedCallError
    from itkit.test import IntegrationTestCase
    from shop import app
    from shop.gateways import Stripe, send_sms
    from shop.tests.helpers import catches


    def pay():
        Stripe().charge(5, "tok")


    async def pay_later():
        await asyncio.sleep(0)
        Stripe().charge(5, "tok")


    def call(number):
        send_sms(number, "hello")


    class Strict(IntegrationTestCase):
        def setUp(self):
            self.backends.payments.strict()
            # What Python and pytest tell of a thread that has died is not what is tested.
            for hook in ("excepthook", "unraisablehook"):
                for module in (threading, sys):
                    if hasattr(module, hook):
                        self.addCleanup(setattr, module, hook, getattr(module, hook))
                        setattr(module, hook, lambda args, *rest: None)


    class Threads(Strict):
        def test_red_a_function_of_the_test_dies_as_a_thread(self):
            thread = threading.Thread(target=pay)
            thread.start()
            thread.join()

        def test_red_a_method_of_the_test_dies_as_a_timer(self):
            timer = threading.Timer(0, lambda: pay())
            timer.start()
            timer.join()

        def test_red_a_thread_without_an_object(self):
            done = threading.Event()

            def work():
                try:
                    pay()
                finally:
                    done.set()

            _thread.start_new_thread(work, ())
            self.assertTrue(done.wait(10))

        def test_red_a_lambda_that_nobody_asks_for(self):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(lambda: pay())

        def test_red_a_job_of_a_thread_pool(self):
            with ThreadPool(1) as pool:
                pool.apply_async(pay).wait(10)

        def test_red_the_application_asks_and_swallows(self):
            with ThreadPoolExecutor(1) as pool:
                app.call(pool.submit(pay).result)

        def test_green_the_test_asks_for_the_result(self):
            with ThreadPoolExecutor(1) as pool, self.assertRaises(UnexpectedCallError):
                pool.submit(pay).result()

        def test_green_the_test_asks_for_the_error(self):
            with ThreadPoolExecutor(1) as pool:
                self.assertIsInstance(pool.submit(pay).exception(), UnexpectedCallError)

        def test_green_the_test_catches_what_a_pool_raises(self):
            with ThreadPool(1) as pool:
                try:
                    pool.apply(pay)
                except UnexpectedCallError:
                    pass

        def test_green_a_function_of_the_test_catches_in_a_thread(self):
            def careful():
                with contextlib.suppress(UnexpectedCallError):
                    pay()

            thread = threading.Thread(target=careful)
            thread.start()
            thread.join()


    class Callbacks(Strict):
        def test_red_the_application_swallows_what_a_function_of_the_test_raises(self):
            app.call(pay)

        def test_red_the_application_swallows_behind_a_finally_of_the_test(self):
            def careful():
                try:
                    pay()
                except ValueError:
                    pass
                finally:
                    str(5)

            app.call(careful)

        def test_red_wrong_arguments_are_swallowed(self):
            app.call_wrongly()

        def test_red_wrong_arguments_of_a_function(self):
            app.call(lambda: send_sms(text="hello"))

        def test_red_an_answer_of_the_test_does_not_take_the_arguments(self):
            self.backends.payments.charge.does(lambda total: "txn")
            app.pay_and_swallow()

        def test_green_wrong_arguments_are_expected(self):
            with self.assertRaisesRegex(TypeError, "token"):
                Stripe().charge(5)

        def test_green_assert_raises_a_function(self):
            self.assertRaises(UnexpectedCallError, pay)

        def test_green_an_answer_of_the_test_raises_a_type_error(self):
            def answer(amount, token):
                raise TypeError("of the gateway")

            self.backends.payments.charge.does(answer)
            app.pay_and_swallow()

        def test_green_a_helper_of_the_tests_catches(self):
            self.assertTrue(catches(pay))

        def test_green_a_context_manager_of_the_test_catches(self):
            @contextlib.contextmanager
            def expected():
                try:
                    yield
                except UnexpectedCallError:
                    pass

            with expected():
                pay()


    class Tasks(Strict):
        def test_red_a_task_that_nobody_asks(self):
            async def main():
                asyncio.create_task(pay_later())
                await asyncio.sleep(0.01)

            asyncio.run(main())

        def test_red_a_task_that_the_test_only_holds(self):
            async def main():
                self.task = asyncio.create_task(pay_later())
                await asyncio.sleep(0.01)

            async_to_sync(main)()

        def test_green_a_task_that_the_test_asks(self):
            async def main():
                task = asyncio.create_task(pay_later())
                await asyncio.wait([task])
                self.assertIsInstance(task.exception(), UnexpectedCallError)

            asyncio.run(main())

        def test_green_errors_that_the_test_has_gathered(self):
            async def main():
                return await asyncio.gather(pay_later(), return_exceptions=True)

            [error] = asyncio.run(main())
            self.assertIsInstance(error, UnexpectedCallError)

        async def test_green_a_coroutine_of_the_test_catches(self):
            try:
                await pay_later()
            except UnexpectedCallError:
                pass
"""


@pytest.mark.parametrize("door", SERIAL)
def test_an_error_is_seen_where_the_test_has_caught_it(door, project: Project):
    project.write("shop/tests/helpers.py", HELPERS)
    result = judged(door, project, TESTS)

    told = section(result.output, "test_red_wrong_arguments_are_swallowed")
    for text in (
        "The application has swallowed an error that fails this test:",
        "TypeError: Stripe.charge() missing 1 required positional argument: 'token'",
        "called at shop/app.py:27 in call_wrongly",
        "caught at shop/app.py:27 in call_wrongly",
    ):
        assert text in told, result.output
    told = section(result.output, "test_red_a_lambda_that_nobody_asks_for")
    assert "payments.charge(5, 'tok') was not expected" in told, result.output


PYTEST_TESTS = """
    import threading

    import pytest

    from itkit import UnexpectedCallError
    from shop import app
    from shop.gateways import Stripe

    pytestmark = pytest.mark.integration


    def pay():
        Stripe().charge(5, "tok")


    @pytest.fixture(autouse=True)
    def strict(backends):
        backends.payments.strict()


    def test_green_raises_as_a_context_manager():
        with pytest.raises(UnexpectedCallError):
            pay()


    def test_green_raises_a_function():
        pytest.raises(UnexpectedCallError, pay)


    @pytest.mark.filterwarnings("ignore")
    def test_red_a_thread():
        thread = threading.Thread(target=pay)
        thread.start()
        thread.join()


    @pytest.fixture
    def swallowing():
        yield
        app.pay_and_swallow()


    def test_red_a_fixture_swallows_at_its_end(swallowing):
        pass
"""


def test_what_pytest_catches_on_behalf_of_a_test(project: Project):
    judged("pytest", project, PYTEST_TESTS)

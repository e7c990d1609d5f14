"""A coroutine, generator or context manager of a fake that nobody runs fails the test."""

import pytest

from tests.support.doors import SERIAL
from tests.support.projects import Project
from tests.support.verdicts_project import judged, section

pytestmark = pytest.mark.usefixtures("shared_servers")

GATEWAYS = """
    from contextlib import asynccontextmanager, contextmanager


    class Stripe:
        async def charge(self, amount: int, token: str) -> str:
            raise RuntimeError("the real gateway was called")

        async def payouts(self, year: int):
            yield "real"

        def pages(self, first: int):
            yield "real"

        @contextmanager
        def session(self, name: str):
            yield "real"

        @asynccontextmanager
        async def channel(self, name: str):
            yield "real"


    async def send_sms(number: str, text: str) -> str:
        raise RuntimeError("the real SMS gateway was called")
"""

TESTS = """
    import asyncio
    import warnings

    from asgiref.sync import async_to_sync

    from itkit.test import IntegrationTestCase
    from shop.gateways import Stripe, send_sms


    class Never(IntegrationTestCase):
        def setUp(self):
            # What Python says of a coroutine that nobody has awaited is not what is tested.
            catching = warnings.catch_warnings()
            catching.__enter__()
            self.addCleanup(catching.__exit__, None, None, None)
            warnings.simplefilter("ignore")
            self.backends.payments.charge.returns("txn")
            self.backends.payments.payouts.returns(["a"])
            self.backends.payments.pages.returns(["a"])
            self.backends.payments.session.returns("s")
            self.backends.payments.channel.returns("c")

        def test_red_a_coroutine(self):
            Stripe().charge(5, "tok")

        async def test_red_b_coroutine_in_a_coroutine(self):
            Stripe().charge(5, "tok")

        async def test_red_c_async_generator(self):
            Stripe().payouts(2026)

        def test_red_d_generator(self):
            Stripe().pages(1)

        def test_red_e_context_manager(self):
            Stripe().session("a")

        def test_red_f_async_context_manager(self):
            Stripe().channel("a")

        def test_red_g_task_that_is_cancelled_at_once(self):
            async def main():
                asyncio.create_task(Stripe().charge(5, "tok")).cancel()

            asyncio.run(main())

        def test_red_h_task_that_nobody_waits_for(self):
            async def main():
                asyncio.create_task(Stripe().charge(5, "tok"))

            async_to_sync(main)()

        def test_red_i_application_that_nobody_waits_for(self):
            async def pay():
                return await Stripe().charge(5, "tok") + "!"

            async def main():
                asyncio.ensure_future(pay())

            asyncio.run(main())

        def test_red_j_coroutine_of_a_function(self):
            send_sms("1", "hello")

        def test_green_all_of_them(self):
            async def main():
                stripe = Stripe()
                task = asyncio.create_task(stripe.charge(5, "tok"))
                async with stripe.channel("a") as channel:
                    found = [item async for item in stripe.payouts(2026)]
                return await task, channel, found

            self.assertEqual(asyncio.run(main()), ("txn", "c", ["a"]))
            with Stripe().session("a") as session:
                self.assertEqual((session, list(Stripe().pages(1))), ("s", ["a"]))

        def test_green_a_time_out_of_the_application(self):
            self.backends.payments.charge.delays(10)

            async def main():
                await asyncio.wait_for(Stripe().charge(5, "tok"), 0.01)

            with self.assertRaises(asyncio.TimeoutError):
                asyncio.run(main())

        def test_green_a_coroutine_that_is_awaited_in_a_clean_up(self):
            coroutine = Stripe().charge(5, "tok")
            self.addCleanup(lambda: asyncio.run(self.wait(coroutine)))

        async def wait(self, coroutine):
            await coroutine
"""


@pytest.mark.parametrize("door", SERIAL)
def test_what_nobody_runs_fails_the_test(door, project: Project):
    project.write("shop/gateways.py", GATEWAYS)
    result = judged(door, project, TESTS)

    told = section(result.output, "test_red_a_coroutine")
    assert "payments.charge(5, 'tok') was called, but its coroutine was never awaited" in told
    assert "called at shop/tests/test_shop.py:25 in test_red_a_coroutine" in told
    told = section(result.output, "test_red_j_coroutine_of_a_function")
    assert "sms() was called, but its coroutine was never awaited" in told
    assert "test_shop.py:64 in test_red_j_coroutine_of_a_function" in told
    told = section(result.output, "test_red_h_task_that_nobody_waits_for")
    assert "payments.charge had no reply when its event loop ended" in told

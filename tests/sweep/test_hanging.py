"""An act that waits for ever under a fault is ended, and the line at which it waits is named."""

import pytest

from tests.support import sweep_zoo
from tests.support.doors import SERIAL, enter
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    import asyncio
    import threading
    import time

    import itkit
    from django.db import OperationalError, connection, transaction
    from itkit import sweep
    from itkit.sweep import fault
    from itkit.test import IntegrationTestCase
    from shop.gateways import PaymentError, Stripe
    from shop.models import Order


    class Tests(IntegrationTestCase):
        @sweep.faults(at=["payments.*"], kinds=["PaymentError"])
        def test_that_waits_for_a_reply(self, fault):
            self.backends.payments.charge.returns("txn")
            charged = threading.Event()

            def act():
                try:
                    Stripe().charge(5, "tok")
                    charged.set()
                except PaymentError:
                    pass  # so the event is never set
                charged.wait()  # for ever

            with fault.injected():
                act()

        @sweep.faults(at=["payments.*"], kinds=["PaymentError"])
        async def test_a_coroutine_that_waits(self, fault):
            self.backends.payments.charge.returns("txn")
            charged = asyncio.Event()

            async def act():
                try:
                    Stripe().charge(5, "tok")
                    charged.set()
                except PaymentError:
                    pass
                await charged.wait()  # awaited for ever

            with fault.injected():
                await act()

        async def test_a_coroutine_that_goes_on(self):
            async def other():
                try:
                    Stripe().charge(5, "tok")
                except PaymentError:
                    await asyncio.sleep(600)

            with self.assertRaisesMessage(itkit.HangError, "in test_a_coroutine_that_goes_on"):
                with fault("payments.charge", "PaymentError"):
                    await asyncio.gather(other(), asyncio.sleep(0))
            await asyncio.sleep(0)
            self.assertEqual(asyncio.current_task().cancelling(), 0)

        def test_a_coroutine_in_the_main_thread(self):
            async def act():
                with fault("payments.charge", "PaymentError"):
                    try:
                        Stripe().charge(5, "tok")
                    except PaymentError:
                        await asyncio.sleep(600)

            with self.assertRaisesMessage(itkit.HangError, "in act"):
                asyncio.run(act())

        def test_one_that_catches_all(self):
            done = []

            def act():
                try:
                    Stripe().charge(5, "tok")
                except PaymentError:
                    try:
                        time.sleep(600)
                    except Exception:
                        done.append("caught")
                    done.append("went on")

            with self.assertRaisesMessage(itkit.HangError, "it waits at"), fault("payments.charge", "PaymentError"):
                act()
            self.assertEqual(done, [])

        def test_one_that_waits_in_the_server(self):
            order = Order.objects.create()
            locked, done = threading.Event(), threading.Event()

            def other():
                with transaction.atomic():
                    Order.objects.select_for_update().get(pk=order.pk)
                    locked.set()
                    done.wait(600)
                connection.close()

            thread = threading.Thread(target=other)
            thread.start()
            locked.wait(600)
            try:
                with self.assertRaisesMessage(itkit.HangError, "it waits at"):
                    with fault("payments.charge", "PaymentError"):
                        try:
                            Stripe().charge(5, "tok")
                        except PaymentError:
                            Order.objects.filter(pk=order.pk).update(status="failed")
            finally:
                done.set()
                thread.join()
            self.assertEqual(Order.objects.get().status, "new")

        def test_one_that_is_only_slow(self):
            with self.assertRaises(PaymentError), fault("payments.charge", "PaymentError"):
                for _ in range(4):
                    time.sleep(0.3)
                    Order.objects.exists()
                Stripe().charge(5, "tok")
"""


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_an_act_that_waits_for_ever_is_ended(door: str, project: Project) -> None:
    sweep_zoo.write(project)
    project.settings('ITKIT["SWEEP"] = {"ACT_SECONDS": 1}')
    (project.path / "shop/tests/test_zoo.py").unlink()
    project.write("shop/tests/test_hangs.py", TESTS)
    result = enter(door, project)
    assert result.counts == {"passed": 5, "failed": 2}, result.output
    lines = (project.path / "shop/tests/test_hangs.py").read_text().splitlines()
    for mark in ("# for ever", "# awaited for ever"):
        at = next(number for number, line in enumerate(lines, 1) if mark in line)
        assert f"it waits at shop/tests/test_hangs.py:{at} in act" in result.output, result.output
    assert "nothing has happened for 1 second " in result.output

"""How a swept test is run and reported, and what each kind of fault does."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import redis

from itkit.redis.clients import clients_led
from itkit.redis.server import server as servers
from tests.postgres.test_drivers import hide
from tests.support import sweep_zoo
from tests.support.doors import SERIAL, enter, slow
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

SINGLE = """
    import asyncio
    import threading

    import redis
    from django.core.cache import cache
    from django.core.mail import send_mail
    from django.db import OperationalError, connection, transaction
    from django.db.utils import IntegrityError
    from django_redis import get_redis_connection

    import itkit
    from itkit import sweep
    from itkit.sweep import fault
    from itkit.test import IntegrationTestCase
    from shop.gateways import CardDeclined, Ledger, PaymentError, Stripe
    from shop.models import Event, Order


    def commit(status="new", hook=None):
        with transaction.atomic():
            Order.objects.create(status=status)
            if hook is not None:
                transaction.on_commit(hook)


    class Database(IntegrationTestCase):
        def test_a_commit_that_is_done_and_whose_reply_is_lost(self):
            ran = []
            with self.assertRaisesMessage(OperationalError, "simulated"), fault("COMMIT", "lost_reply"):
                commit(hook=lambda: ran.append(1))
            self.assertEqual((Order.objects.count(), ran), (1, []))

        def test_a_commit_that_does_not_reach_the_server(self):
            with self.assertRaises(OperationalError), fault("COMMIT", "error"):
                commit()
            self.assertEqual(Order.objects.count(), 0)

        def test_a_commit_that_is_refused(self):
            with self.assertRaises(IntegrityError), fault("COMMIT", "IntegrityError"):
                commit()
            self.assertEqual(Order.objects.count(), 0)

        def test_a_deadlock_is_the_servers_own_and_ends_the_transaction(self):
            with fault("UPDATE shop_event", "DeadlockDetected"):
                with self.assertRaises(OperationalError), transaction.atomic():
                    Order.objects.create()
                    try:
                        with connection.cursor() as cursor:
                            cursor.execute("UPDATE shop_event SET is_sent = true")
                    except OperationalError as error:
                        self.assertIn("DeadlockDetected", repr(type(error.__cause__)))
                    with self.assertRaisesMessage(Exception, "current transaction is aborted"):
                        Order.objects.count()
                    raise caught_again
            self.assertFalse(Order.objects.exists())

        def test_a_statement_outside_of_a_transaction_is_done_and_its_reply_lost(self):
            with self.assertRaises(OperationalError), fault("UPDATE shop_order", "lost_reply"):
                Order.objects.create()
                Order.objects.update(status="done")
            self.assertEqual(Order.objects.get().status, "done")

        def test_after_a_crash_nothing_leaves_the_process(self):
            ran = []

            def act():
                try:
                    with transaction.atomic():
                        Order.objects.create()
                        transaction.on_commit(lambda: ran.append(1))
                        with connection.cursor() as cursor:
                            cursor.execute("SELECT pg_advisory_lock(hashtext(current_schema()))")
                        Stripe().charge(5, "tok")
                finally:
                    ran.append("finally")
                    Order.objects.create(status="finally")

            with fault("payments.charge", "crash"):
                act()
            self.assertEqual(ran, ["finally"])
            self.assertFalse(Order.objects.exists())
            self.assertFalse(connection.in_atomic_block or connection.run_on_commit)
            self.assertEqual(self.backends.payments.call_count("charge"), 1)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(hashtext(current_schema()))")
                self.assertEqual(cursor.fetchone(), (True,))

        def test_a_crash_stops_all_threads_of_the_act(self):
            crashed, waited = threading.Event(), threading.Event()

            def other():
                waited.set()
                crashed.wait(60)
                Order.objects.create(status="other")

            thread = threading.Thread(target=other)
            with fault("SET", "crash"):
                thread.start()
                waited.wait(60)
                try:
                    cache.set("k", "v")
                finally:
                    crashed.set()
                    thread.join()
            self.assertEqual((Order.objects.count(), cache.get("k")), (0, "v"))

        def test_a_crash_after_a_commit_is_one_before_its_hooks(self):
            ran = []
            with fault("COMMIT", "crash"):
                commit(hook=lambda: ran.append(1))
            with fault("COMMIT", "crash_before"):
                commit(hook=lambda: ran.append(2))
            self.assertEqual((Order.objects.count(), ran), (1, []))

        def test_savepoints_and_reads_can_fail(self):
            for name in ("SAVEPOINT", "RELEASE*", "SELECT shop_order"):
                with self.subTest(name):
                    with self.assertRaises(OperationalError), fault(name, "error"):
                        with transaction.atomic(), transaction.atomic():
                            Order.objects.exists()
                        Order.objects.count()


    class Others(IntegrationTestCase):
        def test_a_backend_raises_the_errors_of_its_module(self):
            with self.assertRaises(CardDeclined), fault("payments.charge", "CardDeclined"):
                Stripe().charge(5, "tok")
            with self.assertRaises(PaymentError) as caught, fault("payments.*#2", "lost_reply"):
                Stripe().charge(5, "tok")
                Stripe().charge(6, "tok")
            self.assertIs(type(caught.exception), PaymentError)
            first, second, third = self.backends.payments.charge.calls
            self.assertIsInstance(first["error"], CardDeclined)
            self.assertIsNone(second["error"])

        def test_a_reply_that_comes_later_than_the_call_waits(self):
            self.backends.payments.refund.returns("done")
            with self.assertRaisesMessage(TimeoutError, "timed out"), fault("payments.refund", "timeout"):
                Stripe().refund("txn", timeout=5)
            (call,) = self.backends.payments.refund.calls
            self.assertEqual(call["result"], "done")
            with self.assertRaisesMessage(itkit.FaultError, "cannot suffer 'timeout'"):
                with fault("payments.refund", "timeout"):
                    Stripe().refund("txn")

        @sweep.faults(kinds=["lost_reply", "timeout"])
        def test_a_swept_call_that_waits(self, fault):
            with fault.injected():
                Stripe().refund("txn", timeout=5)
            kinds = {"": "NoneType", "lost_reply": "PaymentError", "timeout": "TimeoutError"}
            self.assertEqual(type(fault.error).__name__, kinds[fault.option.rpartition(":")[2].strip("'")])
            if fault.has_fault:
                self.assertEqual(len(fault.done(self.backends.payments.refund)), 1)

        def test_one_answer_for_all_calls_is_no_short_cut(self):
            self.backends.payments.charge.returns("txn")
            with self.assertRaises(CardDeclined), fault("payments.charge", "CardDeclined"):
                Stripe().charge(5, "tok")
            self.assertEqual(Stripe().charge(5, "tok"), "txn")

        def test_the_errors_that_the_settings_name(self):
            async def act():
                await Ledger().enter("one")

            self.backends.ledger.enter.returns("ok")
            with self.assertRaises(TimeoutError), fault("ledger.enter", "lost_reply"):
                asyncio.run(act())
            (call,) = self.backends.ledger.enter.calls
            self.assertEqual(call["result"], "ok")

        def test_mail(self):
            mail = ("Hello", "", "a@example.com", ["b@example.com"])
            with self.assertRaises(OSError), fault("email.send", "error"):
                send_mail(*mail)
            self.assertEqual(self.backends.email.outbox, [])
            with fault("email.send", "error"):
                send_mail(*mail, fail_silently=True)
            with self.assertRaises(OSError), fault("email.send", "lost_reply"):
                send_mail(*mail)
            self.assertEqual(len(self.backends.email.outbox), 1)

        def test_redis(self):
            client = get_redis_connection()
            with self.assertRaises(redis.ConnectionError), fault("SET a", "error"):
                client.set("a", 1)
            with self.assertRaises(redis.TimeoutError), fault("INCRBY", "lost_reply"):
                client.incr("b")
            with self.assertRaises(redis.ReadOnlyError), fault("SET a", "ReadOnlyError"):
                client.set("a", 1)
            self.assertEqual((client.get("a"), client.get("b")), (None, b"1"))

        def test_a_pipeline_is_one_crossing(self):
            client = get_redis_connection()
            with self.assertRaises(redis.TimeoutError), fault("PIPELINE", "lost_reply"):
                with client.pipeline() as pipe:
                    pipe.set("a", 1)
                    pipe.set("b", 2)
                    pipe.execute()
            self.assertEqual(client.mget("a", "b"), [b"1", b"2"])

        def test_a_client_of_asyncio(self):
            async def act():
                async with redis.asyncio.Redis(port=1, host="127.0.0.1", db=1) as client:
                    with self.assertRaises(redis.ConnectionError), fault("SET", "error"):
                        await client.set("a", 1)
                    with fault("SET", "crash"):
                        await client.set("b", 1)

            asyncio.run(act())
            client = get_redis_connection()
            self.assertEqual(client.mget("a", "b"), [None, b"1"])


    class Mistakes(IntegrationTestCase):
        def test_of_the_author(self):
            for crossing, kind, told in (
                ("COMMIT#2", "error", "never happened, as no such crossing was reached"),
                ("COMMIT", "run_twice", "cannot suffer 'run_twice'. Its kinds of faults are: OperationalError"),
                ("", "error", "names no fault"),
            ):
                with self.subTest(crossing):
                    with self.assertRaisesMessage(itkit.FaultError, told), fault(crossing, kind):
                        commit()
            with self.assertRaisesMessage(itkit.FaultError, "within a transaction"), transaction.atomic():
                with fault("COMMIT", "error"):
                    pass
""".replace(
    "                    raise caught_again\n", "                    raise OperationalError\n"
)

SWEPT = """
    import unittest
    from pathlib import Path

    import pytest
    from django.db import transaction
    from django.test import TestCase

    from itkit import sweep
    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.gateways import PaymentError, Stripe
    from shop.models import Event, Order

    runs = []


    def note(what):
        with Path("runs.txt").open("a") as file:
            file.write(f"{what}\\n")


    class Swept(IntegrationTestCase):
        def setUp(self):
            note(f"setUp {self._testMethodName}")
            self.addCleanup(note, f"tearDown {self._testMethodName}")

        @sweep.faults(at=["COMMIT", "SELECT *"], kinds=["lost_reply", "OperationalError"], skip=["*_event"])
        def test_chosen(self, fault):
            order = Order.objects.create()
            with fault.injected(), transaction.atomic():
                Order.objects.get(pk=order.pk)
                Event.objects.count()
                Event.objects.create(order=order)
            note(f"order {order.pk} {fault.option} {fault.has_failed}")

        @sweep.faults
        def test_is_not_always_the_same(self, fault):
            runs.append(1)
            with fault.injected():
                if len(runs) == 1:
                    Stripe().charge(5, "tok")

        @sweep.faults
        def test_counted(self, fault):
            with fault.injected(), transaction.atomic():
                order = Order.objects.create()
                Order.objects.get(pk=order.pk)
            note(f"counted {fault.option}")

        @sweep.faults(at=["payments.*"])
        def test_only_two_faults_break(self, fault):
            order = Order.objects.create()
            with fault.injected():
                try:
                    Stripe().charge(5, "tok")
                except PaymentError:
                    try:
                        Stripe().refund("txn")
                    except PaymentError:
                        Order.objects.update(status="lost")
            note(f"two {fault.option}")
            self.assertNotEqual(Order.objects.get().status, "lost")

        @sweep.faults
        def test_without_a_block(self, fault):
            pass

        @sweep.faults
        def test_with_nothing_that_fails(self, fault):
            with fault.injected():
                Order.objects.count()

        @sweep.faults
        def test_that_is_skipped(self, fault):
            self.skipTest("not today")

        @unittest.expectedFailure
        @sweep.faults
        def test_that_is_expected_to_fail(self, fault):
            self.fail()

        @sweep.faults(at=["payments.*"])
        def test_that_fails_at_once(self, fault):
            with fault.injected():
                Stripe().charge(5, "tok")
            self.fail("without a fault")

        @sweep.faults
        def test_task_that_crashes(self, fault):
            from shop.flows import ship_once

            order = Order.objects.create()
            with fault.injected():
                ship_once.delay(order.pk)
                with transaction.atomic():
                    self.backends.tasks.run()


    class RolledBack(IntegrationMixin, TestCase):
        @sweep.faults
        def test_is_refused(self, fault):
            with fault.injected():
                pass


    @pytest.mark.integration
    def test_of_pytest(fault, data, backends):
        order = Order.objects.create()
        with fault.injected():
            Order.objects.update(status="done")
        fault.retry(Order.objects.update, status="done")
        assert Order.objects.get().status == "done"


    class TestOwnFixture:
        @pytest.fixture
        def fault(self):
            return "of the project"

        @pytest.mark.integration
        def test_of_a_fixture_of_the_project(self, fault, backends):
            note("own fixture")
            assert fault == "of the project"


    @pytest.mark.integration
    @sweep.faults(kinds=["crash"])
    def test_of_pytest_that_fails(fault, backends):
        with fault.injected():
            Stripe().charge(5, "tok")
        assert not fault.has_failed
"""


URLS = """
    from django.db import transaction
    from django.http import HttpResponse
    from django.urls import path

    from shop.gateways import Stripe
    from shop.models import Order, Payment


    def pay(request, pk):
        with transaction.atomic():
            Order.objects.select_for_update().get(pk=pk)
            txn = Stripe().charge(5, "tok", "key")
            Payment.objects.update_or_create(order_id=pk, defaults={"txn": txn})
        return HttpResponse("paid")


    urlpatterns = [path("pay/<int:pk>/", pay)]
"""

REQUESTS = """
    from urllib.error import HTTPError
    from urllib.error import HTTPError
    from urllib.request import urlopen

    from itkit import sweep
    from itkit.test import IntegrationLiveServerTestCase, IntegrationTestCase
    from shop.models import Order, Payment


    def swept(test, fault, act):
        test.backends.payments.charge.returns("txn")
        order = Order.objects.create()
        with fault.injected():
            act(order)
        if fault.has_fault:
            test.assertTrue(fault.has_failed)
        fault.retry(act, order)
        test.assertIsNone(fault.retry_error)
        test.assertEqual(Payment.objects.get().order, order)


    class ByClient(IntegrationTestCase):
        @sweep.faults
        def test_a_request(self, fault):
            swept(self, fault, lambda order: self.client.get(f"/pay/{order.pk}/"))


    class ByServer(IntegrationLiveServerTestCase):
        @sweep.faults
        def test_a_request_to_a_thread(self, fault):
            def act(order):
                try:
                    urlopen(f"{self.live_server_url}/pay/{order.pk}/").close()
                except HTTPError as error:
                    error.close()
                    raise

            swept(self, fault, act)
"""


PSYCOPG2 = 'DATABASES["default"]["ATOMIC_REQUESTS"] = True'
POOL = 'DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 3}}'
SERIALIZABLE = """
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    DATABASES["default"]["OPTIONS"] = {"isolation_level": IsolationLevel.SERIALIZABLE}
    ITKIT["POSTGRES"] = {"ISOLATION": "database"}
"""


def write(project: Project) -> None:
    sweep_zoo.write(project)
    project.settings('ITKIT["BACKENDS"]["ledger"]["FAULTS"] = ["builtins.TimeoutError"]')
    (project.path / "shop/tests/test_zoo.py").unlink()
    project.write("shop/tests/test_swept.py", SWEPT)


def test_a_swept_test_is_one_test_and_each_variation_a_whole_one(project: Project) -> None:
    write(project)
    result = project.test(
        "--integration", "shop.tests.test_swept.Swept", "shop.tests.test_swept.RolledBack"
    )
    assert re.search(r"^Ran 11 tests", result.output, re.MULTILINE), result.output
    assert "FAILED (failures=5, skipped=1, expected failures=1)" in result.output, result.output
    check_reports(result.output)
    runs = (project.path / "runs.txt").read_text().splitlines()
    chosen = runs[: runs.index("setUp test_is_not_always_the_same")]
    # Once without a fault, and the two that were chosen of each of the two crossings.
    orders = [line.split(" ", 2)[2] for line in chosen if line.startswith("order ")]
    assert orders == [
        " False",
        "--itkit-fault 'SELECT shop_order#1:OperationalError' True",
        "--itkit-fault 'SELECT shop_order#1:lost_reply' True",
        "--itkit-fault 'COMMIT#1:OperationalError' True",
        "--itkit-fault 'COMMIT#1:lost_reply' True",
    ]
    assert len({line.split()[1] for line in chosen if line.startswith("order ")}) == 1
    counted = [line.rpartition(":")[2] for line in runs if line.startswith("counted ")]
    assert counted == [
        "counted ",
        *("OperationalError'", "DeadlockDetected'"),  # of INSERT, within the transaction
        *("OperationalError'", "lost_reply'", "crash_after'"),  # of COMMIT
    ]
    assert chosen.count("setUp test_chosen") == chosen.count("tearDown test_chosen") == 5


@pytest.mark.slow
def test_the_same_under_pytest(project: Project) -> None:
    write(project)
    result = project.pytest("--integration", "-n", "2")
    counts = re.search(r"(\d+) failed, (\d+) passed, 1 skipped, 1 xfailed", result.output)
    assert counts is not None, result.output
    assert (counts[1], counts[2]) == ("6", "6"), result.output
    check_reports(result.output)
    assert "assert not fault.has_failed" in result.output
    assert (
        "'payments.charge#1:crash_after'  payments.charge at shop/tests/test_swept.py"
        in result.output
    )
    runs = (project.path / "runs.txt").read_text()
    assert runs.count("own fixture") == 1
    assert runs.count("setUp test_chosen") == runs.count("tearDown test_chosen") == 5


def check_reports(output: str) -> None:
    for told in (
        "The fault payments.charge#1:",
        "never happened, as no such crossing was reached. The crossings within the block were:",
        "The test is swept, and nothing in it can fail: put what it does into a block",
        "Nothing within fault.injected() can fail. These crossings fail in this project",
        (
            "A fault cannot be injected within a transaction that the test has opened, here on the"
            " connection 'default': a crash, or a lost connection, would end it."
        ),
        "without a fault",
    ):
        assert told in output, output


@pytest.mark.slow
def test_options_and_bounds(project: Project) -> None:
    write(project)
    project.settings('ITKIT["SWEEP"] = {"VARIATIONS": 3}')
    chosen = "shop.tests.test_swept.Swept.test_chosen"
    bounded = project.test("--integration", chosen)
    assert bounded.counts == {"passed": 1}, bounded.output
    told = '1 of 4 faults was not tried, as ITKIT["SWEEP"]["VARIATIONS"] is 3'
    assert told in bounded.output, bounded.output
    runs = project.path / "runs.txt"
    assert runs.read_text().count("order ") == 4
    runs.unlink()
    project.settings('ITKIT["SWEEP"] = {}')
    full = project.pytest(
        "--integration", "--itkit-sweep=full", "shop/tests/test_swept.py", "-k", "counted or break"
    )
    assert full.counts == {"passed": 1, "failed": 1}, full.output
    pair = "payments.charge#1:PaymentError then payments.refund#1:PaymentError"
    assert f"'{pair}'  payments.charge at shop/tests" in full.output, full.output
    assert "after each of these 9 faults:" in full.output, full.output
    assert f"--itkit-fault '{pair}'" in full.output, full.output
    tried = runs.read_text().count("two ")
    # Of charge() four faults and none, and after all but its crash the four of refund().
    assert tried == 1 + 4 + 3 * 4, runs.read_text()
    kinds = re.findall(r"^counted .*'(.*)#1:", runs.read_text(), re.MULTILINE)
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "INSERT shop_order": 5, "SELECT shop_order": 5, "COMMIT": 5,
    }, kinds  # fmt: skip
    runs.unlink()
    off = project.test(
        "--integration", "--itkit-sweep=off", chosen, f"{chosen[:-6]}that_fails_at_once"
    )
    assert off.counts == {"passed": 1, "failed": 1}, off.output
    assert runs.read_text().count("order ") == 1
    runs.unlink()
    one = project.pytest(
        "--integration",
        "--itkit-fault",
        "COMMIT:lost_reply",
        "shop/tests/test_swept.py",
        "-k",
        "chosen",
    )
    assert one.counts == {"passed": 1}, one.output
    assert (
        runs.read_text().count("order ") == 2
    )  # without a fault, which the other is compared with
    both = f"{chosen[:-6]}only_two_faults_break"
    twice = project.test("--integration", "--itkit-fault", pair, both)
    assert twice.counts == {"failed": 1}, twice.output
    assert "does not survive" not in twice.output, twice.output
    wrong = project.test("--integration", "--itkit-fault", "COMMIT", chosen)
    assert "'COMMIT' names no fault" in wrong.output, wrong.output
    for run in (project.test, project.pytest):
        both = run("--integration", "--itkit-fault", "COMMIT:error", "--itkit-sweep=off")
        assert "leave out --itkit-sweep=off" in both.output, both.output
    without = project.pytest("shop/tests/test_swept.py", "-q")
    assert without.counts == {"skipped": 14}, without.output


@pytest.mark.parametrize(
    ("door", "settings"),
    [
        (SERIAL[0], ""),
        slow(SERIAL[1], POOL),
        slow(SERIAL[0], SERIALIZABLE),
        slow(SERIAL[0], PSYCOPG2),
    ],
)
def test_each_kind_of_fault_does_what_it_says(door: str, settings: str, project: Project) -> None:
    write(project)
    project.settings(settings)
    if settings == PSYCOPG2:
        hide(project, psycopg="there is no psycopg here")
    (project.path / "shop/tests/test_swept.py").unlink()
    project.write("shop/tests/test_single.py", SINGLE)
    project.write("shop/tests/test_requests.py", REQUESTS)
    project.write("urls.py", URLS)
    result = enter(door, project)
    assert result.counts == {"passed": 21}, result.output


def test_commands_of_itkits_own_clients_are_no_crossings(redis_url: str) -> None:
    seen: list[list[Any]] = []

    def begin(commands: Any, *_: Any) -> Callable[[], None]:
        seen.extend(commands)
        return lambda: None

    with (
        clients_led(begin),
        servers.connected(redis_url) as own,
        redis.Redis.from_url(redis_url) as other,
    ):
        own.set("sweep-own", 1, ex=1)
        own.pipeline().get("sweep-own").execute()
        other.get("sweep-other")
        other.pipeline().get("sweep-other").get("sweep-own").execute()
    assert [list(command) for command in seen] == [
        ["GET", "sweep-other"],
        ["GET", "sweep-other"],
        ["GET", "sweep-own"],
    ]

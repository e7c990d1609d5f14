"""One timeline over backends, SQL, transactions and Redis: its order, and how it is printed."""

import re

import pytest

from itkit.backends.registry import Registry
from itkit.exceptions import OrderError
from itkit.observation.assertions import TimelineReader, report, shown
from itkit.timeline import core
from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.fakes_app import StripeGateway
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")


@pytest.fixture
def payments():
    registry = Registry({"payments": StripeGateway})
    core.new_timeline("a test")
    registry.swap()
    yield registry.payments
    registry.restore()
    core.new_timeline()


def charge(amount=5):
    return StripeGateway().charge(amount, "tok")


def refund():
    return StripeGateway().refund(5)


def test_order_is_that_of_the_beginnings_whatever_else_is_between(payments):
    payments.charge.returns("txn")
    charge()
    charge()
    refund()

    reader = TimelineReader()
    reader.assert_order("payments.charge", "payments.refund")
    reader.assert_order("payments.charge", "payments.charge", "payments.refund")
    reader.assert_order()
    assert [crossing.name for crossing in reader] == [
        "payments.charge", "payments.charge", "payments.refund",
    ]  # fmt: skip
    assert len(reader) == 3


def test_a_wrong_order_is_told_with_the_timeline(payments):
    payments.charge.returns("txn")
    refund()
    charge()
    charge()

    with pytest.raises(OrderError) as caught:
        TimelineReader().assert_order("payments.charge", "payments.refund")
    first = "payments.refund(5) -> <unprogrammed return of payments.refund>"
    second = "payments.charge(5, 'tok') -> 'txn' (2 times)"
    line, refund_line = (function.__code__.co_firstlineno + 1 for function in (charge, refund))
    assert str(caught.value).splitlines() == [
        "The timeline has no 'payments.refund' after 'payments.charge' (#2).",
        "  expected order: payments.charge, payments.refund",
        "timeline of the test:",
        f"  #1  {first}  tests/timeline/test_timeline.py:{refund_line} in refund",
        f"  #2  {second:<{len(first)}}  tests/timeline/test_timeline.py:{line} in charge",
    ]


def test_a_name_that_is_nowhere_offers_the_nearest(payments):
    charge()

    with pytest.raises(OrderError) as caught:
        TimelineReader().assert_order("payment.charge")
    assert str(caught.value).splitlines()[:3] == [
        "The timeline has no 'payment.charge'.",
        "  expected order: payment.charge",
        "  Did you mean 'payments.charge'?",
    ]


@pytest.mark.usefixtures("payments")
def test_an_empty_timeline_says_so():
    with pytest.raises(OrderError) as caught:
        TimelineReader().assert_order("COMMIT")
    assert str(caught.value).splitlines() == [
        "The timeline has no 'COMMIT'.",
        "  expected order: COMMIT",
        "  Available: none.",
        "timeline of the test:",
        "  empty",
    ]
    assert report(core.current()) == ""


def test_a_long_timeline_is_cut_at_its_beginning_and_a_long_line_at_its_end(payments):
    payments.charge.returns("x" * 500)
    for amount in range(50):
        charge(amount)

    lines = shown(TimelineReader()).splitlines()
    assert lines[0] == "  … 10 lines before"
    assert lines[1].startswith("  #11  payments.charge(10, 'tok') -> 'xxx")
    assert len(lines) == 41
    assert all("…  tests/timeline/test_timeline.py" in line for line in lines[1:])


def test_an_error_is_shown(payments):
    payments.charge.raises(ConnectionError("refused"))
    with pytest.raises(ConnectionError):
        charge()

    assert "#1  payments.charge(5, 'tok') !! ConnectionError('refused')  " in str(TimelineReader())


CHECKOUT = """
    from django.core.cache import cache
    from django.db import connection, transaction

    from shop import gateways
    from shop.models import Customer


    def checkout(email):
        with transaction.atomic():
            customer = Customer.objects.create(email=email)
            transaction.on_commit(remember)
            gateways.Stripe().charge(5, "tok")
        gateways.send_sms("1", "paid")
        return customer


    def remember():
        cache.get("nothing")
        cache.set("last", "a")


    def fail_within():
        try:
            with transaction.atomic():
                Customer.objects.filter(email="x").delete()
                raise LookupError
        except LookupError:
            pass


    def raw():
        with connection.cursor() as cursor:
            cursor.execute('  update "shop_customer" set email = %s', ["b"])
            cursor.executemany("INSERT INTO shop_currency (code) VALUES (%s)", [["A"], ["B"]])
            cursor.execute("SELECT 1")
            cursor.execute("TRUNCATE ONLY shop_currency")
"""

TESTS = """
    import functools
    import threading

    from django.db import connection, transaction
    from django.test import TestCase

    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.checkout import checkout, fail_within, raw
    from shop.models import Customer


    def count():
        Customer.objects.count()


    class Orders(IntegrationTestCase):
        def setUp(self):
            self.backends.payments.charge.returns("txn")

        def test_one_timeline_over_all(self):
            checkout("a@example.com")
            self.timeline.assert_order(
                "INSERT shop_customer", "payments.charge", "COMMIT", "on_commit remember", "SET", "sms"
            )
            self.assertEqual(
                [crossing.name for crossing in self.timeline],
                ["INSERT shop_customer", "payments.charge", "COMMIT", "on_commit remember",
                 "SET :1:last", "sms"],
            )

        def test_a_rollback(self):
            fail_within()
            self.timeline.assert_order("DELETE shop_customer", "ROLLBACK")
            self.assertNotIn("COMMIT", [crossing.name for crossing in self.timeline])

        def test_raw_statements(self):
            raw()
            self.assertEqual(
                [crossing.name for crossing in self.timeline],
                ["UPDATE shop_customer", "INSERT shop_currency", "SELECT", "TRUNCATE shop_currency"],
            )

        def test_statements_of_threads_are_there(self):
            def count():
                Customer.objects.count()
                connection.close()

            thread = threading.Thread(target=count)
            thread.start()
            thread.join()
            self.assertEqual([crossing.name for crossing in self.timeline], ["SELECT shop_customer"])

        def test_hooks_are_noted_as_they_are_run(self):
            with transaction.atomic():
                transaction.on_commit(count)
                transaction.on_commit(functools.partial(count), robust=True)
            self.timeline.assert_order(
                "COMMIT", "on_commit count", "SELECT", "on_commit count", "SELECT"
            )

        def test_the_timeline_of_another_test_is_not_there(self):
            self.assertEqual(list(self.timeline), [])


    class RolledBack(IntegrationMixin, TestCase):
        def test_savepoints_are_not_told_and_captured_hooks_are_what_they_were(self):
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                with transaction.atomic():
                    Customer.objects.create(email="a@example.com")
                    transaction.on_commit(count)
            self.assertEqual(callbacks, [count])
            self.assertEqual(
                [crossing.name for crossing in self.timeline],
                ["INSERT shop_customer", "SELECT shop_customer"],
            )
"""


@pytest.mark.parametrize("door", SERIAL)
def test_the_timeline_of_a_project(door, project: Project):
    project.write("shop/checkout.py", CHECKOUT)
    write_tests(project, TESTS)
    result = enter(door, project)

    assert result.counts == {"passed": 7}, result.output


FAILING = """
    from itkit.test import IntegrationTestCase
    from shop.checkout import checkout


    class Failing(IntegrationTestCase):
        def test_a_failure(self):
            checkout("a@example.com")
            self.assertEqual(1, 2)

        def test_an_error(self):
            checkout("a@example.com")
            raise RuntimeError("no")

        def test_in_a_subtest(self):
            with self.subTest(number=1):
                checkout("a@example.com")
                self.fail("no")

        def test_nothing_left_the_process(self):
            self.fail("alone")

        def test_an_order_that_is_shown_by_its_own_error(self):
            checkout("a@example.com")
            self.timeline.assert_order("sms", "payments.charge")
"""

PRINTED = """\
timeline of the test:
  #1  INSERT shop_customer                  shop/checkout.py:11 in checkout
  #2  payments.charge(5, 'tok') -> <unprogrammed return of payments.charge>  shop/checkout.py:13 in checkout
  #3  COMMIT  shop/checkout.py:10 in checkout
  #4  on_commit remember  shop/checkout.py:10 in checkout
  #5  SET :1:last
  #6  sms('1', 'paid') -> <unprogrammed return of sms>  shop/checkout.py:14 in checkout
"""


@pytest.mark.parametrize("door", DOORS)
def test_a_failure_shows_the_timeline(door, project: Project):
    project.write("shop/checkout.py", CHECKOUT)
    write_tests(project, FAILING)
    result = enter(door, project)

    assert result.counts["failed"] == 5, result.output
    assert result.output.count("timeline of the test:") == 4, result.output
    shown = _squeezed(result.output)
    assert shown.count(_squeezed(PRINTED)) == 4, result.output


def _squeezed(text: str) -> str:
    return "\n".join(
        re.sub(r" +", " ", line.removeprefix("E")).strip() for line in text.splitlines()
    )


def test_functions_of_pytest_have_a_fixture(project: Project):
    project.write("shop/checkout.py", CHECKOUT)
    project.write(
        "test_shop.py",
        """
        import pytest
        from django.db import connections

        from shop.checkout import checkout


        @pytest.mark.integration
        def test_order(timeline, backends):
            checkout("a@example.com")
            timeline.assert_order("payments.charge", "COMMIT", "sms")


        @pytest.mark.integration
        def test_nothing_of_ours_is_left_in_the_wrappers_of_the_user(timeline):
            seen = []

            def mine(execute, *args):
                seen.append(args[0])
                return execute(*args)

            connection = connections["default"]
            connection.close()
            with connection.execute_wrapper(mine):
                connection.cursor().execute("SELECT 1")
            assert mine not in connection.execute_wrappers
            connection.cursor().execute("SELECT 2")
            assert seen == ["SELECT 1"]
            assert len(timeline) == 2
    """,
    )
    result = enter("pytest", project)

    assert result.counts == {"passed": 2}, result.output


TORN_DOWN = """
    from django.core.cache import cache
    from django.test import TestCase, TransactionTestCase
    from itkit.test import IntegrationTestCase

    from shop.models import Customer


    class Fails:
        def setUp(self):
            self.addCleanup(Customer.objects.filter(email="cleaned up").exists)

        def tearDown(self):
            Customer.objects.filter(email="torn down").exists()
            super().tearDown()

        def test_fails(self):
            self.assertEqual(Customer.objects.count(), 7)

        def test_is_in_error(self):
            {}[Customer.objects.count()]

        def test_goes_on_in_a_subtest(self):
            with self.subTest("first"):
                self.assertEqual(Customer.objects.count(), 7)
            Customer.objects.exists()
            self.fail("at the end")


    class RolledBack(Fails, TestCase):
        pass


    class Committed(Fails, IntegrationTestCase):
        pass


    class Flushed(Fails, TransactionTestCase):
        pass
"""


@pytest.mark.parametrize("door", SERIAL)
def test_a_printed_timeline_ends_where_the_test_has_failed(door: str, project: Project) -> None:
    write_tests(project, TORN_DOWN)
    result = enter(door, project)
    timelines = re.findall(r"^timeline of the test:\n((?:  .*\n)+)", result.output, re.MULTILINE)
    lengths = sorted(len(lines.splitlines()) for lines in timelines)
    assert lengths == [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2], result.output

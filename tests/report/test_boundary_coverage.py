"""Boundary coverage: which outcomes of which backends tests have seen, and who has caught them."""

import json
from pathlib import Path

import pytest

from itkit.exceptions import ConfigurationError
from itkit.report import coverage
from itkit.report.coverage import Coverage
from tests.support.doors import enter, slow, write_tests
from tests.support.projects import Project

GATEWAYS = '''
    class CardDeclined(Exception):
        pass


    class Unreachable(Exception):
        pass


    class Stripe:
        def charge(self, amount: int, token: str) -> None:
            """Charge a card.

            Raises:
                CardDeclined: the bank refused.
            """

        def refund(self, charge: str) -> None:
            """Give the money back."""


    def send_sms(number: str, text: str) -> None:
        raise RuntimeError("the real SMS gateway was called")
'''
CHECKOUT = """
    from contextlib import suppress
    from functools import partial

    from django.core.cache import cache
    from django.db import transaction

    from shop import gateways
    from shop.models import Customer


    @transaction.atomic
    def register(email):
        customer = Customer.objects.create(email=email)
        transaction.on_commit(partial(welcome, customer.pk))
        return Customer.objects.select_for_update().get(pk=customer.pk)


    def welcome(number):
        cache.set(f"welcomed:{number}", 1)


    def pay(amount):
        try:
            gateways.Stripe().charge(amount, "tok")
        except (gateways.CardDeclined, gateways.Unreachable):
            return "declined"
        except TimeoutError:
            return "later"
        return "paid"


    def tell(text):
        with suppress(ConnectionError):
            gateways.send_sms("1", text)


    def refund(charge):
        try:
            gateways.Stripe().refund(charge)
        except ValueError:
            return None
"""
TESTS = """
    from django.test import TestCase

    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop import checkout, gateways


    class Pays(IntegrationTestCase):
        def test_paid(self):
            self.assertEqual(checkout.pay(5), "paid")

        def test_paid_again(self):
            self.assertEqual(checkout.pay(5), "paid")

        def test_declined(self):
            self.backends.payments.charge.raises(gateways.CardDeclined("no"))
            self.assertEqual(checkout.pay(5), "declined")

        def test_slow(self):
            self.backends.payments.charge.raises(TimeoutError)
            self.assertEqual(checkout.pay(5), "later")

        def test_lost(self):
            self.backends.payments.charge.loses_reply(gateways.Unreachable)
            self.assertEqual(checkout.pay(5), "declined")

        def test_registered(self):
            checkout.register("a@example.com")


    class Tells(IntegrationMixin, TestCase):
        def test_told(self):
            self.backends.sms.raises(ConnectionError("down"))
            checkout.tell("hello")

        def test_refunds_that_nobody_catches(self):
            for error in (gateways.Unreachable("x"), KeyError("x")):
                self.backends.payments.refund.raises(error, times=1)
                with self.assertRaises(type(error)):
                    checkout.refund("ch_1")
"""
MORE = """

    class Refunds(IntegrationTestCase):
        def test_declined(self):
            self.backends.payments.refund.raises(gateways.CardDeclined)
            with self.assertRaises(gateways.CardDeclined):
                checkout.refund("ch_1")
"""
SETTINGS = """
    ITKIT["BACKENDS"]["sms"]["FAULTS"] = ["builtins.ConnectionError"]
"""
CAUGHT = "shop/checkout.py:{} in {}".format


@pytest.fixture
def covered(project: Project) -> Project:
    project.settings(SETTINGS)
    project.write("shop/gateways.py", GATEWAYS)
    project.write("shop/checkout.py", CHECKOUT)
    write_tests(project, TESTS)
    return project


def found_in(project: Project) -> dict[str, dict[str, tuple[bool, str, str]]]:
    """Return, of each method's outcomes, whether they are declared, the test, and the handler."""
    outcomes = json.loads((project.path / "itkit-coverage/coverage.json").read_text())["outcomes"]
    return {
        method: {
            name: (one["declared"], one["test"].replace("::", ".").rpartition(".")[2], one["handler"])
            for name, one in sorted(outcomes[method].items())
        }
        for method in outcomes
    }  # fmt: skip


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize(
    ("alone", "together"),
    [
        ("django", "django, two forked workers"),
        ("pytest", "pytest, two xdist workers"),
        slow("django", "django, two spawned workers"),
    ],
)
def test_what_was_seen_is_the_same_with_workers(
    alone: str, together: str, covered: Project
) -> None:
    file = covered.path / "itkit-coverage/coverage.json"
    result = enter(alone, covered, "--itkit-coverage")
    assert result.code == 0, result.output

    assert found_in(covered) == {
        "payments.charge": {
            "CardDeclined": (True, "test_declined", CAUGHT(26, "pay")),
            "Unreachable": (False, "test_lost", CAUGHT(26, "pay")),
            "lost reply": (True, "test_lost", CAUGHT(26, "pay")),
            "timeout": (True, "test_slow", CAUGHT(28, "pay")),
            "value": (True, "test_paid", ""),
        },
        "payments.refund": {
            "CardDeclined": (True, "", ""),
            "KeyError": (False, "test_refunds_that_nobody_catches", ""),
            "Unreachable": (False, "test_refunds_that_nobody_catches", ""),
            "lost reply": (True, "", ""),
            "timeout": (True, "", ""),
            "value": (True, "", ""),
        },
        "sms": {
            "ConnectionError": (True, "test_told", CAUGHT(34, "tell")),
            "lost reply": (True, "", ""),
            "timeout": (True, "", ""),
            "value": (True, "", ""),
        },
    }
    assert "itkit: boundary coverage 41.6 %, 5 of 12 outcomes" in result.output
    assert "never seen: payments.refund: value, CardDeclined, timeout, lost reply" in result.output
    assert "no handler of the application ran: payments.refund: KeyError, Unreachable" in (
        result.output
    )
    assert "never: shop_currency read" in result.output
    assert (covered.path / "itkit-coverage/index.html").as_uri() in result.output
    others = json.loads(file.read_text())
    assert {"shop_customer locked", "shop_customer written"} <= others["tables"].keys()
    assert [*others["hooks"]] == ["welcome"]
    assert [*others["keys"]] == [":1:welcomed:*"]

    first = file.read_text()
    assert enter(together, covered, "--itkit-coverage").code == 0
    assert file.read_text() == first
    assert sorted(path.name for path in file.parent.iterdir()) == [
        ".itkit-coverage",
        "coverage.json",
        "index.html",
    ]


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.slow
def test_an_outcome_that_nobody_has_seen_is_found_tested_and_gone(covered: Project) -> None:
    low = covered.pytest("--integration", "--itkit-coverage-min", "45")
    assert low.code == 1
    assert "boundary coverage of 41.6 % is less than 45.0 %" in low.output
    low = covered.test("--integration", "--itkit-coverage-min", "41.7", "shop")
    assert low.code == 1
    (covered.path / "itkit-coverage").rename(covered.path / "before")
    write_tests(covered, f"{TESTS}{MORE}")

    only = covered.test("--integration", "--itkit-coverage", "shop.tests.test_shop.Refunds")
    assert "8.3 %, 1 of 12 outcomes" in only.output
    worse = covered.manage("itkit", "coverage", "diff", "before")
    assert worse.code == 1
    assert "not seen any more: payments.charge: CardDeclined (was in shop.tests" in worse.output
    assert "seen now: payments.refund: CardDeclined" in worse.output

    merged = covered.manage(
        "itkit", "coverage", "merge", "before", "itkit-coverage", "--to", "merged", "--min=50"
    )
    assert merged.code == 0, merged.output
    assert "50.0 %, 6 of 12 outcomes" in merged.output
    shown = covered.manage("itkit", "coverage", "show", "merged/coverage.json")
    assert "never seen: payments.refund: value, timeout, lost reply" in shown.output
    better = covered.manage("itkit", "coverage", "diff", "before", "merged")
    assert better.code == 0, better.output
    assert "41.6 % before, 50.0 % now" in better.output

    high = covered.test("--integration", "--itkit-coverage-min=50")
    assert high.code == 0, high.output
    nothing = covered.manage("itkit", "coverage", "show", "nowhere")
    assert "nowhere has no boundary coverage" in nothing.output
    assert "Traceback" not in nothing.output


@pytest.mark.usefixtures("shared_servers")
def test_the_lost_replies_of_a_sweep_count(covered: Project) -> None:
    swept = TESTS.replace(
        "    class Pays",
        """    from itkit.sweep import faults


    class Sweeps(IntegrationTestCase):
        @faults(kinds=["lost_reply", "CardDeclined"], at=["payments.*"])
        def test_swept(self, fault):
            with fault.injected():
                checkout.pay(5)


    class Pays""",
        1,
    )
    write_tests(covered, swept)

    result = covered.test("--integration", "--itkit-coverage", "shop.tests.test_shop.Sweeps")

    assert result.code == 0, result.output
    assert found_in(covered)["payments.charge"]["lost reply"] == (
        True, "test_swept", CAUGHT(26, "pay")
    )  # fmt: skip
    assert found_in(covered)["payments.charge"]["CardDeclined"][1] == "test_swept"


def test_a_directory_with_other_files_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "coverage.json").write_text("mine")

    with pytest.raises(ConfigurationError, match="has other files in it"):
        coverage.prepare(tmp_path)

    assert (tmp_path / "coverage.json").read_text() == "mine"


def test_without_any_outcome_nothing_is_missing() -> None:
    assert Coverage().percent == 100.0


def test_values_are_escaped_on_the_page(tmp_path: Path) -> None:
    found = Coverage()
    found.see("<b>.call", "<script>", "a test", ["<i>"])
    found.note("keys", "<img src=x>", "a test")
    found.write(tmp_path)

    html = (tmp_path / "index.html").read_text()
    assert "<script>" not in html
    assert "<img" not in html

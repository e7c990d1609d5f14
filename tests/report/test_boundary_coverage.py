"""Boundary coverage: which outcomes of which backends tests have seen, and who has caught them."""

import json
from pathlib import Path

import pytest

from itkit.exceptions import ConfigurationError
from itkit.report import coverage
from itkit.report.coverage import Coverage
from tests.support.doors import enter, slow, write_tests
from tests.support.projects import Project, copy_example

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

    from shop import gateways, welcoming
    from shop.models import Customer


    @transaction.atomic
    def register(email):
        customer = Customer.objects.create(email=email)
        transaction.on_commit(partial(welcome, customer.pk))
        return Customer.objects.select_for_update().get(pk=customer.pk)


    def welcome(number):
        cache.set(f"welcomed:{number}", 1)
        welcoming.send(number)


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
WELCOMING = """
    from celery import Celery, shared_task
    from django.core.mail import EmailMultiAlternatives
    from django.template import Context, Template
    from django.template.loader import render_to_string

    Celery("shop", broker="redis://127.0.0.1:1/9").set_default()  # there is none


    @shared_task
    def greet(number):
        pass


    def send(number):
        greet.delay(number)
        subject, text, html, _ = (
            render_to_string(f"shop/{name}", {"number": number})
            for name in ("subject.txt", "welcome.txt", "welcome.html", "page.html")
        )
        Template("No {{ name }}").render(Context())
        mail = EmailMultiAlternatives(subject.strip(), f"{text}\\n--", "a@example.com", ["b@example.com"])
        mail.attach_alternative(html, "text/html")
        mail.send()
"""
TEMPLATES = {
    "subject.txt": "No {{ number }}\n",
    "welcome.txt": "Hello {{ number }},\n\n  {% include 'shop/footer.txt' %}\n",
    "footer.txt": "See you in the shop",
    "base.html": "<html>{% block body %}{% endblock %}</html>",
    "welcome.html": "{% extends 'shop/base.html' %}{% block body %}<b>{{ number }}</b>{% endblock %}",
    "page.html": "Nobody gets this by mail",
}
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
    ITKIT["BACKENDS"]["tasks"] = {"BUILTIN": "celery"}
    TEMPLATES = [
        {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    ]
"""
CAUGHT = "shop/checkout.py:{} in {}".format


@pytest.fixture
def covered(project: Project) -> Project:
    project.settings(SETTINGS)
    project.write("shop/gateways.py", GATEWAYS)
    project.write("shop/checkout.py", CHECKOUT)
    project.write("shop/welcoming.py", WELCOMING)
    for name, text in TEMPLATES.items():
        project.write(f"shop/templates/shop/{name}", text)
    project.go_on_after_warnings()  # Django 6.1 warns of EMAIL_BACKEND when a mail is sent
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
            "CardDeclined": (True, "test_declined", CAUGHT(27, "pay")),
            "Unreachable": (False, "test_lost", CAUGHT(27, "pay")),
            "lost reply": (True, "test_lost", CAUGHT(27, "pay")),
            "timeout": (True, "test_slow", CAUGHT(29, "pay")),
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
            "ConnectionError": (True, "test_told", CAUGHT(35, "tell")),
            "lost reply": (True, "", ""),
            "timeout": (True, "", ""),
            "value": (True, "", ""),
        },
        "tasks.apply_async": {
            "OperationalError": (True, "", ""),
            "lost reply": (True, "", ""),
            "timeout": (True, "", ""),
            "value": (True, "test_registered", ""),
        },
    }
    assert "itkit: boundary coverage 37.5 %, 6 of 16 outcomes" in result.output
    assert "never seen: payments.refund: value, CardDeclined, timeout, lost reply" in result.output
    assert "no handler of the application ran: payments.refund: KeyError, Unreachable" in (
        result.output
    )
    assert "never: shop_currency read" in result.output
    assert (covered.path / "itkit-coverage/index.html").as_uri() in result.output
    others = json.loads(file.read_text())
    assert {"shop_customer locked", "shop_customer written"} <= others["tables"].keys()
    assert [*others["hooks"]] == ["welcome"]
    assert [*others["tasks"]] == ["shop.welcoming.greet"]
    assert [*others["mail_templates"]] == [
        f"shop/{name}" for name in ("footer.txt", "subject.txt", "welcome.html", "welcome.txt")
    ]
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
    low = covered.pytest("--integration", "--itkit-coverage-min", "40")
    assert low.code == 1
    assert "boundary coverage of 37.5 % is less than 40.0 %" in low.output
    low = covered.test("--integration", "--itkit-coverage-min", "37.6", "shop")
    assert low.code == 1
    (covered.path / "itkit-coverage").rename(covered.path / "before")
    write_tests(covered, f"{TESTS}{MORE}")

    only = covered.test("--integration", "--itkit-coverage", "shop.tests.test_shop.Refunds")
    assert "6.2 %, 1 of 16 outcomes" in only.output
    worse = covered.manage("itkit", "coverage", "diff", "before")
    assert worse.code == 1
    assert "not seen any more: payments.charge: CardDeclined (was in shop.tests" in worse.output
    assert "seen now: payments.refund: CardDeclined" in worse.output

    merged = covered.manage(
        "itkit", "coverage", "merge", "before", "itkit-coverage", "--to", "merged", "--min=43"
    )
    assert merged.code == 0, merged.output
    assert "43.7 %, 7 of 16 outcomes" in merged.output
    shown = covered.manage("itkit", "coverage", "show", "merged/coverage.json")
    assert "never seen: payments.refund: value, timeout, lost reply" in shown.output
    better = covered.manage("itkit", "coverage", "diff", "before", "merged")
    assert better.code == 0, better.output
    assert "37.5 % before, 43.7 % now" in better.output

    high = covered.test("--integration", "--itkit-coverage-min=43")
    assert high.code == 0, high.output
    nothing = covered.manage("itkit", "coverage", "show", "nowhere")
    assert "nowhere has no boundary coverage" in nothing.output
    assert "Traceback" not in nothing.output


PLANTED = '''
    def void(self, transaction: str) -> None:
        """Take a charge back.

        Raises:
            CardDeclinedError: it is too late for that.
        """
'''
VOIDING = """
    from example_project.shop import gateways
    from example_project.shop.gateways.exceptions import CardDeclinedError


    def is_void(transaction):
        try:
            gateways.payments().void(transaction)
        except CardDeclinedError:
            return False
        return True
"""
VOIDED = """
    from example_project.shop.gateways.exceptions import CardDeclinedError
    from example_project.shop.services.voiding import is_void
    from itkit.test import IntegrationTestCase


    class Voids(IntegrationTestCase):
        def test_too_late(self):
            self.backends.payments.void.raises(CardDeclinedError("too late"))
            self.assertFalse(is_void("txn_1"))
"""
OF_EXAMPLE = {
    "django": [
        f"example_project.shop.tests.{name}"
        for name in ("test_boundaries", "test_rules", "test_scenarios", "test_voiding")
    ],
    "pytest": [
        f"example_project/shop/tests/{name}.py"
        for name in ("with_pytest/boundaries_test", "with_pytest/scenarios_test", "test_voiding")
    ],
}


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize(
    ("alone", "together"),
    [
        ("django", "django, two forked workers"),
        slow("pytest", "pytest, two xdist workers"),
    ],
)
@pytest.mark.slow
def test_what_is_planted_in_the_example_is_found_tested_and_gone(
    alone: str, together: str, project: Project
) -> None:
    copy_example(project)
    gateway = project.path / "example_project/shop/gateways/payment.py"
    gateway.write_text(f"{gateway.read_text()}{PLANTED}")
    project.write("example_project/shop/services/voiding.py", VOIDING)
    project.write("example_project/shop/tests/test_voiding.py", "")
    arguments = ("--itkit-coverage", *OF_EXAMPLE[alone])

    planted = enter(alone, project, *arguments)
    assert planted.code == 0, planted.output
    assert "never seen: payments.void: value, CardDeclinedError, timeout, lost reply" in (
        planted.output
    )

    project.write("example_project/shop/tests/test_voiding.py", VOIDED)
    gone = enter(together, project, *arguments)
    assert gone.code == 0, gone.output
    assert "never seen: payments.void: value, timeout, lost reply" in gone.output
    assert found_in(project)["payments.void"]["CardDeclinedError"] == (
        True, "test_too_late", "example_project/shop/services/voiding.py:9 in is_void"
    )  # fmt: skip

    file = project.path / "itkit-coverage/coverage.json"
    by_workers = file.read_text()
    assert enter(alone, project, *arguments).code == 0
    assert file.read_text() == by_workers


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
        True, "test_swept", CAUGHT(27, "pay")
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

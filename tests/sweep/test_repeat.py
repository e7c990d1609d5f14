"""How a test is run and reported whose act is done once more."""

import re

import pytest

from tests.support import race_zoo
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

REPEATED = """
    import threading
    from pathlib import Path

    import pytest
    from django.core.cache import cache
    from django.core.mail import send_mail
    from django.db import transaction

    from itkit import sweep
    from itkit.test import IntegrationTestCase
    from shop.gateways import Stripe
    from shop.models import Product, Sale, Slot


    def note(what):
        with Path("runs.txt").open("a") as file:
            file.write(f"{what}\\n")


    class Right(IntegrationTestCase):
        @sweep.repeats
        def test_refused(self, repeat):
            thread = threading.get_ident()

            def act():
                note(f"acts {threading.get_ident() == thread}")
                if Slot.objects.filter(name="nine").exists():
                    raise KeyError("taken")
                Slot.objects.create(name="nine")
                return "made"

            self.assertEqual(repeat(act), "made")
            repeat.assert_idempotent()
            note(f"refused {repeat.has_fault} {repeat.error!r}")

        @sweep.repeats
        def test_nothing_changed(self, repeat):
            repeat(Slot.objects.update_or_create, name="nine", defaults={"owner": "ann"})
            repeat.assert_idempotent()

        @sweep.repeats
        def test_a_call_with_a_key(self, repeat):
            self.backends.payments.charge.returns("txn")
            repeat(Stripe().charge, 5, "key")
            repeat.assert_idempotent(allowed=["payments.*"])

        @sweep.repeats
        async def test_coroutine(self, repeat):
            await repeat(Slot.objects.aget_or_create, name="nine")
            repeat.assert_idempotent()


    class Wrong(IntegrationTestCase):
        @sweep.repeats
        def test_row(self, repeat):
            product = Product.objects.create(name="lamp")
            repeat(Sale.objects.create, product=product, buyer="ann")
            repeat.assert_idempotent()

        @sweep.repeats
        def test_call(self, repeat):
            self.backends.payments.charge.returns("txn")
            repeat(Stripe().charge, 5, "key")
            repeat.assert_idempotent()

        @sweep.repeats
        def test_mail(self, repeat):
            repeat(send_mail, "Ordered", "", "a@example.com", ["b@example.com"])
            repeat.assert_idempotent()

        @sweep.repeats
        def test_key(self, repeat):
            cache.set("seen", 0)
            repeat(cache.incr, "seen")
            repeat.assert_idempotent()

        @sweep.repeats
        async def test_coroutine(self, repeat):
            await repeat(Slot.objects.acreate, name="nine")
            await repeat(Slot.objects.acreate, name="nine")

        @sweep.repeats
        def test_without_an_act(self, repeat):
            pass

        @sweep.repeats
        def test_asserted_before(self, repeat):
            repeat.assert_idempotent()

        @sweep.repeats
        def test_in_a_transaction(self, repeat):
            with transaction.atomic():
                repeat(Slot.objects.create, name="nine")


    @pytest.mark.integration
    def test_of_pytest(repeat, data):
        product = data.create("shop.Product", name="lamp")
        repeat(Sale.objects.create, product=product, buyer="ann")
        assert Sale.objects.count() == 1
"""

TOLD = (
    "what is done twice has an effect once more: extra: shop.Sale(product=",
    "what is done a second time, by another thread has an effect once more: extra: shop.Sale(",
    "effect once more: extra: payments.charge({'amount': 5, 'token': 'key'})",
    "effect once more: extra: mail(['b@example.com'], 'Ordered', '')",
    "effect once more: extra: :1:seen(b'2'",
    "The test does not hold after 2 of the 2 repetitions that were tried.",
    "repeat() was called a second time in one test",
    "The test is swept by repetition, and does nothing twice: call repeat(act, ...).",
    "repeat.assert_idempotent() was called before repeat(act).",
    "within a transaction that the test has opened",
)


def write(project: Project) -> None:
    race_zoo.write(project)
    project.go_on_after_warnings()
    (project.path / "shop/tests/test_zoo.py").unlink()
    project.write("shop/tests/test_repeated.py", REPEATED)


def test_each_kind_of_effect_and_mistake(project: Project) -> None:
    write(project)
    result = project.test("--integration", "shop.tests.test_repeated")
    assert result.counts == {"passed": 4, "failed": 8}, result.output
    for told in TOLD:
        assert told in result.output, result.output
    runs = (project.path / "runs.txt").read_text().splitlines()
    assert runs == [
        *("acts True", "refused False None"),
        *("acts True", "acts True", "refused True KeyError('taken')"),
        *("acts True", "acts False", "refused True KeyError('taken')"),
    ]
    once = project.test(
        "--integration", "--itkit-sweep=off", "shop.tests.test_repeated.Wrong.test_row"
    )
    assert once.counts == {"passed": 1}, once.output


@pytest.mark.slow
def test_the_same_under_pytest_with_workers(project: Project) -> None:
    write(project)
    result = project.pytest("--integration", "-n", "2")
    counts = re.search(r"(\d+) failed, (\d+) passed", result.output)
    assert counts is not None, result.output
    assert counts.groups() == ("9", "4"), result.output
    for told in (*TOLD, "assert 2 == 1"):
        assert told in result.output, result.output

"""How a test is run and reported whose act is done from each state of a field."""

import re

import pytest

from tests.support import race_zoo
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

ACTS = """
    from django.core.cache import cache
    from django.core.mail import send_mail
    from django.db import transaction
    from django.http import HttpResponse

    from shop.gateways import Stripe
    from shop.models import Product, Sale, Slot


    class NotNow(Exception):
        pass


    def hold(slot):
        '''Is right: what it changes is what it has found, and it takes all else back.'''
        with transaction.atomic():
            Sale.objects.create(product=Product.objects.create(name="lamp"), buyer="ann")
            if not Slot.objects.filter(pk=slot.pk, owner="free").update(owner="held"):
                raise NotNow(slot.name)


    def hold_whatever(slot):
        slot.owner = "held"
        slot.save()


    def hold_late(slot):
        '''Looks when it has done all.'''
        Product.objects.create(name="lamp")
        Sale.objects.all().delete()
        cache.set("seen", 1)
        Stripe().charge(5, "tok")
        send_mail("Held", "", "a@example.com", ["b@example.com"])
        if slot.owner != "free":
            raise NotNow(slot.name)


    def respond(slot):
        found = Slot.objects.filter(pk=slot.pk, owner="free").update(owner="held")
        return HttpResponse(status=200 if found else 409)
"""

STATED = """
    from pathlib import Path

    import pytest
    from django.db import transaction

    from itkit import sweep
    from itkit.exceptions import FaultError
    from itkit.test import IntegrationTestCase
    from shop.acts import NotNow, hold, hold_late, hold_whatever, respond
    from shop.gateways import Stripe
    from shop.models import Product, Sale, Slot

    FREE = sweep.states(Slot, "owner", allowed=["free"])


    def made(state):
        return Slot.objects.create(name="nine", owner=state.value)


    class Right(IntegrationTestCase):
        @sweep.states("shop.Slot", "owner", allowed=["free"], refusal=(KeyError, NotNow))
        def test_refused(self, state):
            self.backends.payments.charge.returns("used by nobody who is refused")
            slot = made(state)
            with state.act():
                hold(slot)
            with Path("runs.txt").open("a") as file:
                owner = Slot.objects.get().owner
                file.write(f"{state.value} {owner} {state.is_allowed} {state.error!r}\\n")
            if state.is_allowed:
                Stripe().charge(5, "tok")

        @FREE
        def test_returned(self, state):
            slot = made(state)
            with state.act():
                response = state.returned(respond(slot))
            self.assertEqual(response.status_code, 200 if state.is_allowed else 409)

        @FREE
        def test_may_write(self, state):
            self.backends.payments.charge.returns("txn")
            slot = made(state)
            with state.act(may_write=["shop.Prod*", "*seen", "payments.charge", "mail"]):
                hold_late(slot)

        @FREE
        async def test_coroutine(self, state):
            slot = await Slot.objects.acreate(name="nine", owner=state.value)
            with state.act():
                if slot.owner != "free":
                    raise NotNow
                await slot.adelete()

        def test_mistakes_of_the_decorator(self):
            for arguments, told in (
                ((Slot, "nme", ["free"]), "shop.Slot has no field 'nme'. Its fields with choices are: owner."),
                ((Slot, "name", ["free"]), "the field shop.Slot.name has no choices"),
                ((Slot, "owner", ["fre"]), "allowed has 'fre', and the choices of shop.Slot.owner are: 'held', 'free', 'sold'."),
                ((Slot, "owner", "free"), "write allowed=['free']"),
            ):
                with self.assertRaisesMessage(FaultError, told):
                    sweep.states(*arguments[:2], allowed=arguments[2])


    class Wrong(IntegrationTestCase):
        @FREE
        def test_not_refused(self, state):
            slot = made(state)
            with state.act():
                hold_whatever(slot)

        @FREE
        def test_nothing(self, state):
            made(state)
            with state.act():
                pass

        @FREE
        def test_refused_too_late(self, state):
            self.backends.payments.charge.returns("txn")
            slot = made(state)
            Sale.objects.create(product=Product.objects.create(name="lamp"), buyer="ann")
            with state.act():
                hold_late(slot)

        @sweep.states(Slot, "owner", allowed=["free", "held"])
        def test_refused_though_allowed(self, state):
            slot = made(state)
            with state.act():
                hold(slot)

        @sweep.states(Slot, "owner", allowed=["free", "held"])
        def test_returned_though_allowed(self, state):
            slot = made(state)
            with state.act():
                state.returned(respond(slot))

        @sweep.states(Slot, "owner", allowed=["free"], refusal=KeyError)
        def test_another_error(self, state):
            slot = made(state)
            with state.act():
                hold(slot)

        @FREE
        def test_assertion(self, state):
            made(state)
            with state.act():
                self.assertTrue(state.is_allowed, "of the test itself")

        @FREE
        def test_without_an_act(self, state):
            pass

        @FREE
        def test_two_acts(self, state):
            made(state)
            for _ in range(2):
                with state.act():
                    pass

        @FREE
        def test_returned_before(self, state):
            state.returned(None)

        @FREE
        def test_returned_afterwards(self, state):
            slot = made(state)
            with state.act():
                hold(slot)
            state.returned(None)

        @FREE
        def test_in_a_transaction(self, state):
            with transaction.atomic(), state.act():
                pass

        @FREE
        def test_string(self, state):
            with state.act(may_write="mail"):
                pass


    @pytest.mark.integration
    @FREE
    def test_of_pytest(state, data):
        slot = data.create("shop.Slot", name="nine", owner=state.value)
        with state.act():
            hold(slot)


    @pytest.mark.integration
    @FREE
    def test_of_pytest_not_refused(data, state):
        slot = data.create("shop.Slot", name="nine", owner=state.value)
        with state.act():
            hold_whatever(slot)


    @pytest.mark.integration
    def test_of_pytest_without_the_decorator(state):
        pass
"""

SITE = r"shop/acts\.py:\d+ in hold"
TOLD = (
    r"StateError: the act was not refused, and has written shop\.Slot at \S+test_stated\.py:\d+",
    r"The test does not hold from 1 of the 3 states that were tried\.",
    r"  from this state:\n    'sold'  is not allowed\n",
    r"The test does not hold from 2 of the 3 states that were tried\.",
    r"  from each of these 2 states:\n    'held'  is not allowed\n    'sold'  is not allowed\n",
    rf"changed: shop\.Slot \d+: owner 'sold' -> 'held' at {SITE}_whatever\n",
    r"StateError: the act was not refused at ",
    r"shop\.Slot\.owner is 'held', from which the act is not allowed\.",
    r"hand that over: state\.returned\(\.\.\.\)",
    r"the act was refused, and has written shop\.Sale, shop\.Product, \S*seen, payments\.charge, mail at ",
    r"It has raised NotNow\('nine'\)\.",
    rf"gone:    shop\.Sale \d+ at {SITE}_late\n",
    rf"new:     shop\.Product \d+ at {SITE}_late\n",
    rf"key:     \S*seen: None -> b'1'.* at {SITE}_late\n",
    rf"call:    payments\.charge\(5, 'tok'\) -> 'txn' at {SITE}_late\n",
    r"mail:    'Held' to b@example\.com",
    r"'held'  is allowed\n",
    r"shop\.Slot\.owner is 'held', from which the act is allowed\.",
    r"the act was refused from a state that is allowed: it has returned 409",
    r"of the test itself",
    r"The test is swept with states, and has no act: with state\.act\(\)",
    r"state\.act\(\) was entered a second time in one test",
    r"state\.returned\(\) was called outside of the block",
    r"within a transaction that the test has opened",
    r"write may_write=\['mail'\]",
)


def write(project: Project) -> None:
    race_zoo.write(project)
    project.go_on_after_warnings()
    (project.path / "shop/tests/test_zoo.py").unlink()
    plain = 'owner = models.CharField(max_length=20, default="")'
    assert plain in race_zoo.MODELS
    choices = 'choices=[("held", "Held"), ("More", [("free", "Free"), ("sold", "Sold")])]'
    project.write(
        "shop/models.py",
        race_zoo.MODELS.replace(plain, plain.replace("default", f"{choices}, default")),
    )
    project.write("shop/acts.py", ACTS)
    project.write("shop/tests/test_stated.py", STATED)


def test_each_kind_of_finding_and_mistake(project: Project) -> None:
    write(project)
    result = project.test("--integration", "shop.tests.test_stated")
    assert result.counts == {"passed": 5, "failed": 13}, result.output
    for told in TOLD:
        assert re.search(told, result.output), (told, result.output)
    runs = (project.path / "runs.txt").read_text().splitlines()
    assert runs == [
        "free held True None",
        "held held False NotNow('nine')",
        "sold sold False NotNow('nine')",
    ]
    late = "shop.tests.test_stated.Wrong.test_refused_too_late"
    assert re.search(
        rf"to repeat it: python\S* manage\.py test {late} .* --itkit-state held\n", result.output
    )
    repeated = project.test("--integration", "--itkit-state=held", late)
    assert repeated.counts == {"failed": 1}, repeated.output
    assert "does not hold" not in repeated.output, repeated.output
    assert "It has raised NotNow('nine')." in repeated.output, repeated.output
    unknown = project.test("--integration", "--itkit-state=gone", late)
    told = "--itkit-state is 'gone', and the states of shop.Slot.owner are: 'free', 'held', 'sold'."
    assert told in unknown.output, unknown.output
    once = project.test(
        "--integration", "--itkit-sweep=off", "shop.tests.test_stated.Wrong.test_not_refused"
    )
    assert once.counts == {"passed": 1}, once.output
    project.settings(race_zoo.SETTINGS.replace('"UNUSED"', '"SWEEP": {"VARIATIONS": 2}, "UNUSED"'))
    bounded = project.test("--integration", "shop.tests.test_stated.Right.test_returned")
    assert bounded.counts == {"passed": 1}, bounded.output
    assert '1 of 3 states was not tried, as ITKIT["SWEEP"]["VARIATIONS"] is 2' in bounded.output


@pytest.mark.slow
def test_the_same_under_pytest_with_workers(project: Project) -> None:
    write(project)
    result = project.pytest("--integration", "-n", "2")
    counts = re.search(r"(\d+) failed, (\d+) passed,.* (\d+) error", result.output)
    assert counts is not None, result.output
    assert counts.groups() == ("14", "6", "1"), result.output
    for told in (*TOLD, r"Put the decorator over it: @itkit\.sweep\.states"):
        assert re.search(told, result.output), (told, result.output)

"""What sweeps say: which crossings are watched, which names there are, and how many were tried."""

import pytest

from tests.support.projects import Project
from tests.sweep import test_states

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    from django.core.mail import send_mail
    from django.db import transaction

    from itkit import sweep
    from itkit.exceptions import DataError, FaultError
    from itkit.test import IntegrationTestCase
    from shop.acts import NotNow, hold
    from shop.gateways import Stripe
    from shop.models import Product, Slot

    MAIL = ("Hello", "", "a@example.com", ["b@example.com"])


    class Mails(IntegrationTestCase):
        @sweep.faults
        def test_alone(self, fault):
            with fault.injected():
                Slot.objects.count()
                send_mail(*MAIL)

        @sweep.faults
        def test_beside_others(self, fault):
            with fault.injected():
                Product.objects.create(name="lamp")
                send_mail(*MAIL)

        @sweep.faults(skip=["mail"])
        def test_left_out(self, fault):
            with fault.injected():
                Product.objects.create(name="lamp")
                send_mail(*MAIL)


    class States(IntegrationTestCase):
        @sweep.states(Slot, "owner", allowed=["free"])
        def test_not_arranged(self, state):
            slot = Slot.objects.create(name="nine", owner="free")
            with state.act():
                hold(slot)

        @sweep.states(Slot, "owner", allowed=["free"], refusal=KeyError)
        def test_no_refusal(self, state):
            slot = Slot.objects.create(name="nine", owner=state.value)
            with state.act():
                hold(slot)

        @sweep.states(Slot, "owner", allowed=["free"])
        def test_in_a_transaction(self, state):
            with transaction.atomic(), state.act():
                pass

        @sweep.states(Slot, "owner", allowed=["free"])
        def test_names(self, state):
            with self.assertRaisesMessage(
                FaultError,
                "may_write has 'shop.Prodct', and nothing is called so. Did you mean 'shop.Product'? Available: ",
            ):
                with state.act(may_write=["mail", "seen:5", "shop.Prodct"]):
                    pass
            Slot.objects.create(name="nine", owner=state.value)
            with state.act(may_write=["shop.Prod*", "payments.*"]):
                if not state.is_allowed:
                    raise NotNow


    class Repeats(IntegrationTestCase):
        @sweep.repeats
        def test_names(self, repeat):
            repeat(Slot.objects.count)
            repeat.assert_idempotent(allowed=["payments.charge"])
            with self.assertRaisesMessage(
                FaultError, "allowed has 'payments.chrge', and nothing is called so. Did you mean 'payments.charge'?"
            ):
                repeat.assert_idempotent(allowed=["payments.chrge"])


    class Secrets(IntegrationTestCase):
        def test_names(self):
            for name, told in (
                ("shop.Slot.nme", "Did you mean 'shop.Slot.name'? Available: shop.Slot.id, shop.Slot.name, shop.Slot.owner."),
                ("shop.Slot", "Did you mean 'shop.Slot.id'?"),
                ("shp.Slot.name", "Did you mean 'shop.Slot.name'?"),
                ("payments.refunds", "Available: payments.charge."),
            ):
                with self.assertRaisesMessage(DataError, told):
                    self.data.secret(allowed=["mail", name])
            self.data.secret(allowed=["shop.Sl*.name", "payments.*", "GET /shop.Html", "log shop.Views", "shop.slot:5"])


    class Faults(IntegrationTestCase):
        @sweep.faults(at=["INSERT *", "payments.chrge"])
        def test_names(self, fault):
            with fault.injected():
                Product.objects.create(name="lamp")

        @sweep.faults(at=["payments.*"], kinds=["error"])
        def test_one(self, fault):
            with fault.injected():
                Stripe().charge(5, "tok")
            self.assertFalse(fault.has_failed)

        @sweep.faults(at=["payments.*"], kinds=["error"])
        def test_pairs(self, fault):
            paid = []
            with fault.injected():
                for amount in range(3):
                    try:
                        paid.append(Stripe().charge(amount, "tok"))
                    except Exception:
                        pass
            self.assertGreaterEqual(len(paid), 2)
"""

WATCHED = """\
Nothing within fault.injected() can fail. These crossings fail in this project, and none of them was seen there:
  statements that write, and COMMIT
  commands that write to Redis
  calls of payments
To have mails fail as well, add them to ITKIT["BACKENDS"]: "email": {"BUILTIN": "mail"}.
The crossings within the block were:
  SELECT shop_slot at shop/tests/test_told.py:19 in test_alone
  1 mail
Put what the test does into the block, or name what is to fail: @faults(at=["SELECT *"]).
"""


def test_what_is_told(project: Project) -> None:
    test_states.write(project)
    project.write("shop/tests/test_told.py", TESTS)
    result = project.test("--integration", "shop.tests.test_told")
    assert result.counts == {"passed": 6, "failed": 6}, result.output
    for told in (
        WATCHED,
        (
            "itkit: swept tests that were not run with all variations:\n"
            "  shop.tests.test_told.Mails.test_beside_others: faults of 1 mail that was sent, as"
            ' ITKIT["BACKENDS"] has no "email": {"BUILTIN": "mail"}'
        ),
        "The test does not hold from 2 of the 3 states that were tried.",
        "FaultError: no row has state.value where the act begins at shop/tests/test_told.py:",
        "  shop.Slot.owner has to be 'held' in one of them, and the rows have: 'free' (1).\n",
        "self.data.create('shop.Slot', owner=state.value).",
        "itkit: NotNow is no refusal, as the decorator says refusal=KeyError.",
        (
            "The act of a state cannot be judged within a transaction that the test has opened, here on"
            " the connection 'default': nothing that is done in it would be committed. Use a test"
        ),
        "The test does not survive the one fault that was tried.",
        "at has 'payments.chrge', and nothing is called so. Did you mean 'payments.charge'?",
    ):
        assert told in result.output, (told, result.output)
    assert "test_left_out:" not in result.output, result.output
    full = project.test(
        "--integration", "--itkit-sweep=full", "shop.tests.test_told.Faults.test_pairs"
    )
    assert (
        "does not survive 0 of the 3 faults, and 3 of the 3 pairs of faults, that were tried."
        in full.output
    ), full.output
    assert "the effect of another; three faults in one run." in full.output, full.output


OF_PYTEST = """
    import pytest
    from django.core.mail import send_mail

    from itkit import sweep
    from shop.acts import hold
    from shop.models import Product, Slot


    @pytest.mark.integration
    @sweep.states(Slot, "owner", allowed=["free"])
    def test_mail(state):
        slot = Slot.objects.create(name="nine", owner=state.value)
        send_mail("Held", "", "a@example.com", ["b@example.com", "c@example.com"])
        with state.act():
            hold(slot)
        assert state.value != "sold"


    @pytest.mark.integration
    def test_race(race):
        product = Product.objects.create(name="lamp", stock=3)

        def buy():
            found = Product.objects.get(pk=product.pk)
            found.stock -= 1
            found.save()

        race(buy, times=2)


    @sweep.states(Slot, "owner", allowed=["free"])
    def test_unmarked(db, state):
        Slot.objects.create(name="nine", owner=state.value)
        with state.act():
            pass
"""
CONFTEST = """
    import pytest


    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport():
        report = yield
        report.duration = 1.0
        return report


    def pytest_runtest_logreport(report):
        with open("durations.txt", "a") as file:
            file.write(f"{report.nodeid.rpartition(':')[2]} {report.when} {report.duration:g}\\n")
"""


@pytest.mark.slow
def test_what_pytest_tells(project: Project) -> None:
    test_states.write(project)
    project.settings('ITKIT["BACKENDS"]["email"] = {"BUILTIN": "mail"}')
    project.write("shop/tests/test_told.py", OF_PYTEST)
    project.write("conftest.py", CONFTEST)
    result = project.pytest("--integration", "shop/tests/test_told.py")
    assert result.counts == {"failed": 3}, result.output
    for told in (
        (
            "\nRaceError: no order of the acts leaves what these have left: extra: shop.Product(name='lamp',"
            " stock=2), and 1 more\n  in this schedule:\n"
        ),
        '#2  email.send(mail to b@example.com, c@example.com: "Held") -> 1 ',
        "FaultError: The act of a state cannot be judged within a transaction that the test has opened",
    ):
        assert told in result.output, (told, result.output)
    durations = (project.path / "durations.txt").read_text().splitlines()
    # One second for each phase of the first run, and those of two variations with the call.
    own = [line for line in durations if line.startswith("test_mail")]
    assert own == ["test_mail setup 1", "test_mail call 7", "test_mail teardown 1"]

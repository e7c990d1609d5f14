"""``ITKIT["BACKENDS"]``: found, checked, and reached by name, class or function."""

import traceback

import pytest
from django.test import override_settings

from itkit.backends import registry
from itkit.backends.registry import Registry
from itkit.exceptions import UnknownBackendError, UnprogrammedReturnError
from itkit.fakes import Handle, MethodHandle
from tests.support.fakes_app import AsyncGateway, ReallyCalledError, StripeGateway, geocode

STRIPE = "tests.support.fakes_app.StripeGateway"


def backends(**entries):
    return override_settings(ITKIT={"BACKENDS": entries}, PAYMENT_GATEWAY=STRIPE)


def test_a_backend_is_found_by_setting_and_by_target():
    with backends(
        payments={"SETTING": "PAYMENT_GATEWAY"}, geo={"TARGET": "tests.support.fakes_app.geocode"}
    ):
        found = Registry.from_settings()

    assert list(found) == ["payments", "geo"]
    assert isinstance(found[StripeGateway], Handle)
    assert isinstance(found[geocode], MethodHandle)
    assert len(found) == 2


def test_the_backend_of_a_setting_is_swapped_and_restored():
    with backends(payments={"SETTING": "PAYMENT_GATEWAY"}):
        found = Registry.from_settings()
    found.swap()
    found.payments.charge.returns("txn_1")

    assert StripeGateway().charge(1, "t") == "txn_1"
    found.restore()
    with pytest.raises(ReallyCalledError):
        StripeGateway().charge(1, "t")


def test_nothing_is_swapped_before_it_is_asked_for():
    with backends(payments={"SETTING": "PAYMENT_GATEWAY"}):
        Registry.from_settings()

    with pytest.raises(ReallyCalledError):
        StripeGateway().charge(1, "t")


def test_no_backends_is_fine():
    with override_settings(ITKIT={}):
        found = Registry.from_settings()

    found.swap()
    found.reset()
    found.restore()
    assert list(found) == []


def test_a_name_a_class_and_a_function_lead_to_the_same_fake():
    found = Registry({"payments": StripeGateway, "geo": geocode})
    found.swap()
    try:
        found[StripeGateway].charge.returns("txn_1")
        found[geocode].returns((48.2, 16.4))
        found["payments"].ping.returns("pong")
        assert StripeGateway().charge(1, "t") == "txn_1"
        assert (geocode("x"), StripeGateway().ping()) == ((48.2, 16.4), "pong")
        assert found.payments.call_count("charge") == 1
    finally:
        found.restore()


def test_membership_is_by_name_class_and_function():
    found = Registry({"payments": StripeGateway, "geo": geocode})

    assert "payments" in found
    assert StripeGateway in found
    assert geocode in found
    assert "sms" not in found
    assert AsyncGateway not in found
    assert [] not in found


@pytest.mark.parametrize("ask", [lambda it: it.payment, lambda it: it["payment"]])
def test_an_unknown_name_offers_the_nearest(ask):
    with pytest.raises(UnknownBackendError) as caught:
        ask(Registry({"payments": StripeGateway}))

    assert str(caught.value) == ("ITKIT[\"BACKENDS\"] names no 'payment'. Did you mean 'payments'?")
    assert isinstance(caught.value, AttributeError)
    assert isinstance(caught.value, AssertionError)


def test_an_unknown_name_is_suggested_once_whatever_the_python():
    with pytest.raises(UnknownBackendError) as caught:
        Registry({"payments": StripeGateway}).payment  # noqa: B018 - looking it up is the test

    assert "".join(traceback.format_exception_only(caught.value)).count("Did you mean") == 1


def test_an_unknown_class_is_told_how_to_be_registered():
    with pytest.raises(
        UnknownBackendError, match=r"TARGET 'tests\.support\.fakes_app\.AsyncGateway'"
    ):
        Registry({"payments": StripeGateway})[AsyncGateway]


def test_a_backend_named_like_a_method_of_the_registry_is_reached_as_an_item():
    found = Registry({"reset": StripeGateway})
    found.swap()
    try:
        with pytest.raises(UnprogrammedReturnError) as caught:
            bool(StripeGateway().charge(1, "t"))
    finally:
        found.restore()

    assert isinstance(found["reset"], Handle)
    assert str(caught.value).endswith('backends["reset"].charge.returns(...)')


def test_a_failed_swap_leaves_nothing_swapped():
    found = Registry({"payments": StripeGateway, "later": AsyncGateway})
    before = dict(vars(StripeGateway))

    def fail():
        raise RuntimeError("no swap today")

    found._backends["later"].swap = fail
    with pytest.raises(RuntimeError):
        found.swap()

    assert dict(vars(StripeGateway)) == before
    assert registry.current() is None


def test_the_registry_in_force_is_the_innermost():
    outer, inner = Registry({}), Registry({})
    outer.swap()
    inner.swap()
    assert registry.current() is inner
    inner.restore()
    assert registry.current() is outer
    outer.restore()
    assert registry.current() is None


@pytest.fixture
def swapped():
    found = Registry({"payments": StripeGateway, "geo": geocode})
    found.swap()
    yield found
    found.restore()


def test_the_real_backends_answer_while_they_are_restored(swapped):
    swapped.payments.charge.returns("txn_1")
    StripeGateway().charge(1, "t")

    with swapped.restored():
        assert registry.current() is None
        for real in (lambda: StripeGateway().charge(2, "t"), lambda: geocode("x")):
            with pytest.raises(ReallyCalledError):
                real()

    assert registry.current() is swapped
    assert StripeGateway().charge(3, "t") == "txn_1"
    assert [call.arguments["amount"] for call in swapped.payments.charge.calls] == [1, 3]


def test_the_fakes_answer_again_after_an_error(swapped):
    with pytest.raises(ReallyCalledError), swapped.restored():
        StripeGateway().charge(1, "t")

    swapped.payments.charge.returns("txn_1")
    assert StripeGateway().charge(1, "t") == "txn_1"


def test_backends_may_be_restored_in_a_block_that_restored_them(swapped):
    with swapped.restored():
        with swapped.restored():
            pass
        with pytest.raises(ReallyCalledError):
            StripeGateway().charge(1, "t")

    swapped.payments.charge.returns("txn_1")
    assert StripeGateway().charge(1, "t") == "txn_1"


def test_a_registry_that_is_not_swapped_stays_so():
    found = Registry({"payments": StripeGateway})

    with found.restored():
        pass

    assert registry.current() is None
    with pytest.raises(ReallyCalledError):
        StripeGateway().charge(1, "t")


def test_an_inner_registry_restores_to_the_outer_one(swapped):
    inner = Registry({"mine": StripeGateway})
    inner.swap()
    try:
        swapped.payments.charge.returns("outer")
        inner.mine.charge.returns("inner")
        with inner.restored():
            assert StripeGateway().charge(1, "t") == "outer"
        assert StripeGateway().charge(1, "t") == "inner"
    finally:
        inner.restore()

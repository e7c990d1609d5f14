"""``ITKIT["BACKENDS"]``: found, checked, and reached by name, class or function."""

import traceback

import pytest
from django.test import override_settings

from itkit import registry
from itkit.conf import Mistake
from itkit.exceptions import ConfigurationError, UnknownBackendError, UnprogrammedReturnError
from itkit.fakes import Handle, MethodHandle
from itkit.registry import Registry
from tests.fakes_app import AsyncGateway, ReallyCalledError, StripeGateway, geocode

TARGET = 'ITKIT["BACKENDS"]["payments"]["TARGET"]'
NO_MODULE = "ModuleNotFoundError: No module named 'tests.nowhere'"
STRIPE = "tests.fakes_app.StripeGateway"


def backends(**entries):
    return override_settings(ITKIT={"BACKENDS": entries}, PAYMENT_GATEWAY=STRIPE)


def mistakes_of(entry, **settings):
    with override_settings(ITKIT={"BACKENDS": {"payments": entry}}, **settings):
        return registry.mistakes()


def test_a_backend_is_found_by_setting_and_by_target():
    with backends(
        payments={"SETTING": "PAYMENT_GATEWAY"}, geo={"TARGET": "tests.fakes_app.geocode"}
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
        found[geocode].returns("place")
        found["payments"].ping.returns("pong")
        assert StripeGateway().charge(1, "t") == "txn_1"
        assert (geocode("x"), StripeGateway().ping()) == ("place", "pong")
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
    with pytest.raises(UnknownBackendError, match=r"TARGET 'tests\.fakes_app\.AsyncGateway'"):
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


@pytest.mark.parametrize("name", ["a b", "class", "2sms", "_sms", ""])
def test_a_name_that_cannot_be_an_attribute_is_a_mistake(name):
    with backends(**{name: {"TARGET": STRIPE}}):
        mistakes = registry.mistakes()

    assert mistakes == [
        Mistake(
            3,
            f'ITKIT["BACKENDS"]["{name}"] has a name that tests cannot write: backends.{name}.',
            "Use letters, digits and underscores, and no keyword of Python.",
        )
    ]


@pytest.mark.parametrize(
    ("entry", "stated"), [({}, "neither"), ({"SETTING": "A", "TARGET": "b.c"}, "both")]
)
def test_an_entry_has_one_of_setting_and_target(entry, stated):
    (mistake,) = mistakes_of(entry)

    assert mistake.id == "itkit.E003"
    assert mistake.message == (
        f'ITKIT["BACKENDS"]["payments"] has {stated} of SETTING and TARGET, expected one.'
    )


def test_a_setting_that_does_not_exist_offers_the_nearest():
    (mistake,) = mistakes_of({"SETTING": "PAYMENT_GATEWAI"}, PAYMENT_GATEWAY=STRIPE)

    assert mistake == Mistake(
        4,
        'ITKIT["BACKENDS"]["payments"]["SETTING"] names no setting: \'PAYMENT_GATEWAI\'.',
        "Did you mean 'PAYMENT_GATEWAY'?",
    )


def test_a_setting_that_does_not_exist_and_is_near_to_none_is_to_be_defined():
    (mistake,) = mistakes_of({"SETTING": "XYZZY"})

    assert mistake.number == 4
    assert mistake.hint == ('Define it, or correct ITKIT["BACKENDS"]["payments"]["SETTING"].')


@pytest.mark.parametrize(
    ("value", "kind"), [(5, "an int"), ({"CLASS": STRIPE}, "a dict"), (None, "None")]
)
def test_a_setting_that_is_no_path_is_a_mistake(value, kind):
    (mistake,) = mistakes_of({"SETTING": "PAYMENT_GATEWAY"}, PAYMENT_GATEWAY=value)

    assert mistake == Mistake(
        5,
        f"The setting PAYMENT_GATEWAY is {kind}, expected a dotted path.",
        'Put the path there, or give it as TARGET in ITKIT["BACKENDS"]["payments"].',
    )


@pytest.mark.parametrize("method", ["charge", "chrge"])
def test_the_path_of_a_method_is_told_to_name_the_class(method):
    (mistake,) = mistakes_of({"TARGET": f"{STRIPE}.{method}"})

    assert mistake.number == 5
    assert mistake.hint == f"Name the class, {STRIPE}: all its methods are swapped."


def test_a_path_below_what_is_no_class_is_to_be_corrected():
    (mistake,) = mistakes_of({"TARGET": "tests.fakes_app.geocode.country"})

    assert mistake.hint == "Correct the path: package.module.Name."


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        (
            "tests.fakes_app.StripeGatway",
            f"{TARGET} is 'tests.fakes_app.StripeGatway', but tests.fakes_app has no 'StripeGatway'.",
            "Did you mean 'StripeGateway'?",
        ),
        (
            "tests.nowhere.Gateway",
            f"{TARGET} is 'tests.nowhere.Gateway', which cannot be imported ({NO_MODULE}).",
            "Correct the path: package.module.Name.",
        ),
        (
            "Gateway",
            f"{TARGET} is 'Gateway', which cannot be imported (it has no module).",
            "Correct the path: package.module.Name.",
        ),
    ],
)
def test_a_path_that_cannot_be_imported_says_why(target, message, hint):
    assert mistakes_of({"TARGET": target}) == [Mistake(5, message, hint)]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("tests.fakes_app.limit", "neither a class nor a Python function but an instance of int"),
        ("tests.fakes_app.gateway", "but an instance of StripeGateway"),
        ("tests.fakes_app.cached", "but an instance of _lru_cache_wrapper"),
        ("tests.fakes_app.Constants", "it has no public method"),
        ("builtins.dict", "a class written in C"),
        ("builtins.len", "but an instance of builtin_function_or_method"),
    ],
)
def test_what_cannot_be_swapped_is_a_mistake(target, reason):
    (mistake,) = mistakes_of({"TARGET": target})

    assert mistake.id == "itkit.E006"
    assert reason in mistake.message


def test_one_class_under_two_names_is_a_mistake():
    with backends(payments={"SETTING": "PAYMENT_GATEWAY"}, stripe={"TARGET": STRIPE}):
        (mistake,) = registry.mistakes()

    assert mistake.number == 6
    assert mistake.message == (
        f'ITKIT["BACKENDS"]["stripe"] names {STRIPE!r}, and so does ITKIT["BACKENDS"]["payments"].'
    )


def test_good_settings_have_no_mistakes_and_ill_shaped_ones_are_left_to_conf():
    with backends(payments={"SETTING": "PAYMENT_GATEWAY"}):
        assert registry.mistakes() == []
    with override_settings(ITKIT={"BACKENDS": 5}):
        assert registry.mistakes() == []


def test_making_a_registry_of_mistakes_lists_all_of_them():
    with backends(a={}, b={"TARGET": "nowhere"}), pytest.raises(ConfigurationError) as caught:
        Registry.from_settings()

    lines = str(caught.value).splitlines()
    assert lines[0] == 'ITKIT["BACKENDS"] has mistakes:'
    assert len(lines) == 3

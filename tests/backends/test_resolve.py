"""Where ``ITKIT["BACKENDS"]`` finds the real backends, and the mistakes that it reports."""

import pytest
from django.test import override_settings

from itkit.backends import resolve
from itkit.backends.registry import Registry
from itkit.conf import Mistake
from itkit.exceptions import ConfigurationError
from tests.support.fakes_app import StripeGateway

TARGET = 'ITKIT["BACKENDS"]["payments"]["TARGET"]'
NO_MODULE = "ModuleNotFoundError: No module named 'tests.nowhere'"
STRIPE = "tests.support.fakes_app.StripeGateway"
PUT = 'Put the path there, or give it as TARGET in ITKIT["BACKENDS"]["payments"].'


def backends(**entries):
    return override_settings(ITKIT={"BACKENDS": entries}, PAYMENT_GATEWAY=STRIPE)


def mistakes_of(entry, **settings):
    with override_settings(ITKIT={"BACKENDS": {"payments": entry}}, **settings):
        return resolve.mistakes()


@pytest.mark.parametrize("name", ["a b", "class", "2sms", "_sms", ""])
def test_a_name_that_cannot_be_an_attribute_is_a_mistake(name):
    with backends(**{name: {"TARGET": STRIPE}}):
        mistakes = resolve.mistakes()

    assert mistakes == [
        Mistake(
            3,
            f'ITKIT["BACKENDS"]["{name}"] has a name that tests cannot write: backends.{name}.',
            "Use letters, digits and underscores, and no keyword of Python.",
        )
    ]


@pytest.mark.parametrize(
    ("entry", "stated"),
    [
        ({}, "none"),
        ({"SETTING": "A", "TARGET": "b.c"}, "SETTING and TARGET"),
        ({"BUILTIN": "mail", "TARGET": "b.c"}, "TARGET and BUILTIN"),
        ({"CONTAINER": "a.b", "KEY": "c", "SETTING": "A"}, "SETTING and CONTAINER"),
    ],
)
def test_an_entry_has_one_of_setting_and_target(entry, stated):
    (mistake,) = mistakes_of(entry)

    assert mistake.id == "itkit.E003"
    assert mistake.message == (
        f'ITKIT["BACKENDS"]["payments"] has {stated} of SETTING, TARGET, CONTAINER and BUILTIN,'
        " expected one."
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
    ("value", "kind", "hint"),
    [
        (5, "an int", PUT),
        (None, "None", PUT),
        (
            {"live": STRIPE},
            "a dict",
            'Name one of its entries: ITKIT["BACKENDS"]["payments"]["ALIAS"].',
        ),
    ],
)
def test_a_setting_that_is_no_path_is_a_mistake(value, kind, hint):
    (mistake,) = mistakes_of({"SETTING": "PAYMENT_GATEWAY"}, PAYMENT_GATEWAY=value)

    assert mistake.number == 5
    assert mistake.message == f"The setting PAYMENT_GATEWAY is {kind}, expected a dotted path."
    assert mistake.hint == hint


@pytest.mark.parametrize("method", ["charge", "chrge"])
def test_the_path_of_a_method_is_told_to_name_the_class(method):
    (mistake,) = mistakes_of({"TARGET": f"{STRIPE}.{method}"})

    assert mistake.number == 5
    assert mistake.hint == f"Name the class, {STRIPE}: all its methods are swapped."


def test_a_path_below_what_is_no_class_is_to_be_corrected():
    (mistake,) = mistakes_of({"TARGET": "tests.support.fakes_app.geocode.country"})

    assert mistake.hint == "Correct the path: package.module.Name."


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        (
            "tests.support.fakes_app.StripeGatway",
            f"{TARGET} is 'tests.support.fakes_app.StripeGatway', but tests.support.fakes_app has no 'StripeGatway'.",
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
        (
            "tests.support.fakes_app.limit",
            "neither a class nor a Python function but an instance of int",
        ),
        ("tests.support.fakes_app.gateway", "but an instance of StripeGateway"),
        ("tests.support.fakes_app.cached", "but an instance of _lru_cache_wrapper"),
        ("tests.support.fakes_app.Constants", "it has no public method"),
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
        (mistake,) = resolve.mistakes()

    assert mistake.number == 6
    assert mistake.message == (
        f'ITKIT["BACKENDS"]["stripe"] names {STRIPE!r}, and so does ITKIT["BACKENDS"]["payments"].'
    )


def test_good_settings_have_no_mistakes_and_ill_shaped_ones_are_left_to_conf():
    with backends(payments={"SETTING": "PAYMENT_GATEWAY"}):
        assert resolve.mistakes() == []
    with override_settings(ITKIT={"BACKENDS": 5}):
        assert resolve.mistakes() == []


def test_making_a_registry_of_mistakes_lists_all_of_them():
    with backends(a={}, b={"TARGET": "nowhere"}), pytest.raises(ConfigurationError) as caught:
        Registry.from_settings()

    lines = str(caught.value).splitlines()
    assert lines[0] == 'ITKIT["BACKENDS"] has mistakes:'
    assert len(lines) == 3


@pytest.mark.parametrize("entry", [STRIPE, {"BACKEND": STRIPE, "OPTIONS": {"key": "sk"}}])
def test_an_alias_is_found_in_a_dict_of_paths_and_in_one_of_entries(entry):
    named = {"SETTING": "GATEWAYS", "ALIAS": "live"}
    with override_settings(ITKIT={"BACKENDS": {"payments": named}}, GATEWAYS={"live": entry}):
        assert resolve.locate()["payments"].real is StripeGateway


@pytest.mark.parametrize(
    ("entry", "table", "mistake"),
    [
        (
            {"TARGET": STRIPE, "ALIAS": "live"},
            {},
            Mistake(
                3,
                'ITKIT["BACKENDS"]["payments"] has ALIAS = \'live\', which goes with a SETTING.',
                "Remove ALIAS, or name the SETTING.",
            ),
        ),
        (
            {"SETTING": "GATEWAYS", "ALIAS": "lvie"},
            {"live": STRIPE, "test": STRIPE},
            Mistake(4, "The setting GATEWAYS has no 'lvie'.", "Did you mean 'live'?"),
        ),
        (
            {"SETTING": "GATEWAYS", "ALIAS": "live"},
            STRIPE,
            Mistake(
                5,
                "The setting GATEWAYS is a str, expected a dict of aliases.",
                'Remove ITKIT["BACKENDS"]["payments"]["ALIAS"].',
            ),
        ),
        (
            {"SETTING": "GATEWAYS", "ALIAS": "live"},
            {"live": {"CLASS": STRIPE}},
            Mistake(5, 'GATEWAYS["live"] has no dotted path as its BACKEND.', PUT),
        ),
    ],
)
def test_an_alias_that_leads_nowhere_is_a_mistake(entry, table, mistake):
    assert mistakes_of(entry, GATEWAYS=table) == [mistake]


class Meta(type):
    @property
    def charges(cls):
        return None


class Held:
    def create(self): ...


class WithRemains(metaclass=Meta):
    charge_class = Held

    class Inner:
        def refund(self): ...

    def pay(self): ...

    def ping(self): ...


def in_module(name):
    """Put a class into a module of the application: those of tests are left out."""

    def move(kind):
        kind.__module__ = name
        return kind

    return move


@in_module("app.gateways")
class Silent(WithRemains):
    def pay(self): ...

    def ping(self):
        return super().ping()


def test_what_stays_real_of_a_backend_is_a_warning_that_names_it():
    with backends(payments={"TARGET": f"{__name__}.WithRemains"}):
        assert resolve.mistakes() == []
        (warning,) = resolve.warnings()

    assert warning.id == "itkit.W002"
    assert warning.message == (
        f'ITKIT["BACKENDS"]["payments"] fakes \'{__name__}.WithRemains\', of which this stays real:'
        f" charges of its metaclass Meta; charge_class, the class {__name__}.Held;"
        " pay of its subclass app.gateways.Silent."
    )


@pytest.mark.parametrize(
    "entry",
    [
        {"TARGET": f"{__name__}.WithRemains", "MODE": "real"},
        {"TARGET": STRIPE},
        {"TARGET": "openai.OpenAI"},
        {"TARGET": "stripe.StripeClient"},
        {"TARGET": "tests.support.parts_app.Nesting"},
    ],
)
def test_a_backend_of_which_all_is_faked_or_all_is_real_is_no_warning(entry):
    with backends(payments=entry):
        assert (resolve.mistakes(), resolve.warnings()) == ([], [])


@pytest.mark.parametrize("value", ["sk_test_4711", "tests.nowhere.sk_4711"])
def test_the_value_of_a_secret_is_not_shown(value: str) -> None:
    entry = {"payments": {"SETTING": "STRIPE_SECRET_KEY"}}
    with override_settings(ITKIT={"BACKENDS": entry}, STRIPE_SECRET_KEY=value):
        (mistake,) = resolve.mistakes()
    assert "The setting STRIPE_SECRET_KEY is a text that is not shown" in mistake.message
    assert "4711" not in f"{mistake.message} {mistake.hint}"

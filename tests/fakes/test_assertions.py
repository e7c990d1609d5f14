"""Each assertion in a state in which it must fail, with its exact message, and where it passes."""

import inspect
from pathlib import Path

import pytest

from itkit.backends.registry import Registry
from itkit.exceptions import CallMismatchError
from itkit.timeline import core
from tests.support.fakes_app import StripeGateway, geocode

HERE = Path(__file__).relative_to(Path.cwd())


@pytest.fixture
def backends():
    registry = Registry({"payments": StripeGateway, "geo": geocode})
    core.new_timeline()
    registry.swap()
    yield registry
    registry.restore()


def checkout(amount, token, **kwargs):
    return StripeGateway().charge(amount, token, **kwargs)


CHECKOUT = f"{HERE}:{inspect.getsourcelines(checkout)[1] + 1} in checkout"


def failure(assertion, *args, **kwargs):
    with pytest.raises(CallMismatchError) as caught:
        assertion(*args, **kwargs)
    assert isinstance(caught.value, AssertionError)
    return str(caught.value)


def test_called_with_on_a_method_that_was_never_called(backends):
    assert failure(backends.payments.charge.assert_called_with, 5000, token="tok_visa") == (
        "payments.charge was not called with amount=5000, token='tok_visa', currency='eur'\n"
        "  it was never called"
    )


def test_called_with_shows_only_what_differs_in_the_closest_call(backends):
    checkout(1, "tok_amex")
    checkout(4999, "tok_visa")

    assert failure(backends.payments.charge.assert_called_with, 5000, "tok_visa") == (
        "payments.charge was not called with amount=5000, token='tok_visa', currency='eur'\n"
        f"  closest of 2 calls (#2, {CHECKOUT}):\n"
        "    amount  expected 5000  got 4999"
    )


def test_called_with_goes_into_dicts_and_lists(backends):
    StripeGateway().notify([{"sku": "a", "price": 5}, 2], colour="red", size=1)

    message = failure(
        backends.payments.notify.assert_called_with, [{"sku": "a", "price": 6}, 2], size=1, font="x"
    )

    assert message.splitlines()[2:] == [
        "    lines[0]['price']  expected 6        got 5",
        "    options['font']    expected 'x'      got nothing",
        "    options['colour']  expected nothing  got 'red'",
    ]


def test_called_with_passes_if_any_call_matches_whether_by_position_or_name(backends):
    checkout(1, "tok")
    checkout(2, token="tok", currency="usd")
    checkout(3, "tok")

    backends.payments.charge.assert_called_with(amount=2, token="tok", currency="usd")
    backends.payments.charge.assert_called_with(1, "tok", currency="eur")


def test_called_once_with_on_a_call_with_other_arguments(backends):
    checkout(4999, "tok_visa")

    assert failure(backends.payments.charge.assert_called_once_with, 5000, "tok_visa") == (
        "payments.charge was not called with amount=5000, token='tok_visa', currency='eur'\n"
        f"  closest of 1 call (#1, {CHECKOUT}):\n"
        "    amount  expected 5000  got 4999"
    )


def test_called_once_with_on_a_method_that_was_called_again(backends):
    checkout(5000, "tok_visa")
    checkout(1, "tok_amex")

    assert failure(backends.payments.charge.assert_called_once_with, 5000, "tok_visa") == (
        "payments.charge was called 2 times, expected 1 call,"
        " with amount=5000, token='tok_visa', currency='eur'\n"
        f"  #1 at {CHECKOUT}: amount=5000, token='tok_visa', currency='eur'\n"
        f"  #2 at {CHECKOUT}: amount=1, token='tok_amex', currency='eur'"
    )


def test_called_once_with_passes_on_one_call(backends):
    checkout(5000, "tok_visa")

    backends.payments.charge.assert_called_once_with(amount=5000, token="tok_visa")


def test_called_on_a_method_that_was_never_called(backends):
    assert failure(backends.payments.charge.assert_called) == (
        "payments.charge was never called, expected a call"
    )


def test_called_with_a_number_of_times(backends):
    checkout(5000, "tok_visa")

    assert failure(backends.payments.charge.assert_called, times=3) == (
        "payments.charge was called once, expected 3 calls\n"
        f"  #1 at {CHECKOUT}: amount=5000, token='tok_visa', currency='eur'"
    )
    backends.payments.charge.assert_called()
    backends.payments.charge.assert_called(times=1)


def test_called_zero_times_is_an_expectation_too(backends):
    checkout(1, "t")

    assert failure(backends.payments.charge.assert_called, times=0).startswith(
        "payments.charge was called once, expected 0 calls"
    )


def test_never_called_on_a_method_that_was_called(backends):
    StripeGateway().ping()

    message = failure(backends.payments.ping.assert_never_called)

    assert message.startswith(f"payments.ping was called once, expected no call\n  #1 at {HERE}:")
    assert message.endswith(": no arguments")
    backends.payments.charge.assert_never_called()


def test_a_long_list_of_calls_is_cut(backends):
    for amount in range(25):
        checkout(amount, "t")

    lines = failure(backends.payments.charge.assert_never_called).splitlines()

    assert len(lines) == 12
    assert lines[-1] == "  and 15 more"


def test_an_expectation_that_the_real_class_can_never_meet_is_refused(backends):
    for assertion in (
        backends.payments.charge.assert_called_with,
        backends.payments.charge.assert_called_once_with,
        backends.payments.charge.was_called_with,
    ):
        assert failure(assertion, 5000) == (
            "payments.charge can never be called like this:"
            " StripeGateway.charge() missing 1 required positional argument: 'token'\n"
            "  Name the arguments that the real method takes."
        )


def test_was_called_with_matches_position_and_name_alike(backends):
    checkout(5000, token="tok_visa")

    assert backends.payments.was_called_with("charge", 5000, "tok_visa") is True
    assert backends.payments.was_called_with("charge", amount=5000, token="tok_visa") is True
    assert backends.payments.was_called_with("charge", 5000, "tok_amex") is False
    assert backends.payments.charge.was_called_with(5000, "tok_visa", currency="eur") is True


def test_was_called_with_leaves_the_name_method_to_the_real_class(backends):
    StripeGateway().notify([], method="post")

    assert backends.payments.was_called_with("notify", [], method="post") is True


def test_counts_are_numbers(backends):
    assert backends.payments.call_count("charge") == 0
    checkout(1, "t")

    assert backends.payments.call_count("charge") == 1
    assert backends.payments.charge.call_count == 1
    assert repr(backends.payments.charge) == "<MethodHandle payments.charge: 1 call>"
    assert repr(backends.payments) == "<Handle payments>"


def test_a_function_is_asserted_on_by_its_own_handle(backends):
    geocode("Graben 1")

    assert failure(backends.geo.assert_called_once_with, "Graben 2").startswith(
        "geo was not called with address='Graben 2', country='AT'"
    )
    backends.geo.assert_called_once_with(address="Graben 1", country="AT")

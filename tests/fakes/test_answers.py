"""How a fake answers: as the test programmed, in either way to say it."""

import asyncio
import time
import traceback

import pytest

from itkit.backends.registry import Registry
from itkit.exceptions import CallMismatchError, UnknownMethodError, UnprogrammedReturnError
from itkit.timeline import core
from tests.support.fakes_app import AsyncGateway, StripeGateway, geocode


@pytest.fixture
def backends():
    registry = Registry({"payments": StripeGateway, "later": AsyncGateway, "geo": geocode})
    core.new_timeline()
    registry.swap()
    yield registry
    registry.restore()


def charge():
    return StripeGateway().charge(5000, "tok_visa")


def test_configure_return_answers_every_call(backends):
    backends.payments.configure_return("charge", "txn_1")

    assert [charge(), charge()] == ["txn_1", "txn_1"]


def test_returns_answers_every_call(backends):
    backends.payments.charge.returns("txn_1")

    assert [charge(), charge()] == ["txn_1", "txn_1"]


def test_the_answer_programmed_last_wins(backends):
    backends.payments.charge.raises(ValueError)
    backends.payments.charge.returns("txn_2")

    assert charge() == "txn_2"


@pytest.mark.parametrize("error", [ConnectionError("refused"), ConnectionError])
def test_an_exception_may_be_an_instance_or_a_class(backends, error):
    backends.payments.configure_exception("charge", error)

    for _ in range(2):
        with pytest.raises(ConnectionError):
            charge()

    assert backends.payments.call_count("charge") == 2


def test_an_exception_that_is_no_subclass_of_exception_is_raised_too(backends):
    backends.payments.charge.raises(KeyboardInterrupt)

    with pytest.raises(KeyboardInterrupt):
        charge()


def test_what_is_no_exception_cannot_be_raised(backends):
    with pytest.raises(TypeError, match="'declined' is no exception"):
        backends.payments.charge.raises("declined")


@pytest.mark.parametrize("returns_first", [True, False])
def test_a_failure_of_some_calls_comes_before_the_lasting_answer(backends, returns_first):
    if returns_first:
        backends.payments.charge.returns("txn_1")
    backends.payments.configure_exception("charge", ConnectionError("once"), times=1)
    backends.payments.charge.returns("txn_1")

    with pytest.raises(ConnectionError):
        charge()
    assert charge() == "txn_1"


def test_after_a_failure_of_some_calls_others_are_as_if_nothing_was_programmed(backends):
    backends.payments.configure_exception("notify", ConnectionError("once"), times=2)
    outcomes = []

    for _ in range(4):
        try:
            outcomes.append(StripeGateway().notify(["line"]))
        except ConnectionError:
            outcomes.append("failed")

    assert outcomes == ["failed", "failed", None, None]


def test_a_number_of_times_below_one_is_refused(backends):
    with pytest.raises(ValueError, match="times is 0, expected a whole number above 0"):
        backends.payments.charge.raises(ValueError, times=0)
    with pytest.raises(TypeError, match="times is '2', expected a whole number above 0"):
        backends.payments.charge.raises(ValueError, times="2")


def test_returns_each_gives_one_value_a_call_and_raises_exceptions(backends):
    backends.payments.charge.returns_each("txn_1", TimeoutError("slow"), "txn_3")

    assert charge() == "txn_1"
    with pytest.raises(TimeoutError, match="slow"):
        charge()
    assert charge() == "txn_3"


def test_a_call_beyond_returns_each_fails(backends):
    backends.payments.charge.returns_each("txn_1")
    charge()

    with pytest.raises(UnprogrammedReturnError) as caught:
        charge()

    assert str(caught.value) == (
        "payments.charge was called more often than its returns_each() has values (1).\n"
        "  Add a value for each call, or program the rest with returns()."
    )


def test_does_gets_the_arguments_as_passed_and_not_their_copies(backends):
    backends.payments.notify.does(lambda lines, **_options: lines.append("seen"))
    lines = ["first"]

    StripeGateway().notify(lines)

    assert lines == ["first", "seen"]
    assert backends.payments.notify.calls[0].arguments["lines"] == ["first"]


def test_a_delay_really_passes_and_goes_with_a_return(backends):
    backends.payments.configure_delay("charge", 0.1)
    backends.payments.configure_return("charge", "txn_1")
    start = time.perf_counter()

    result = charge()

    assert time.perf_counter() - start >= 0.1
    assert result == "txn_1"
    assert backends.payments.charge.calls[0].duration >= 0.1


def test_a_negative_delay_is_refused(backends):
    with pytest.raises(ValueError, match="-1 seconds, expected 0 or more"):
        backends.payments.charge.delays(-1)


def test_a_delay_that_is_no_number_is_refused(backends):
    with pytest.raises(TypeError, match="A delay is '1', expected a number of seconds"):
        backends.payments.configure_delay("charge", "1")


def test_an_async_delay_does_not_hold_up_others(backends):
    backends.later.charge.delays(0.1).returns("txn_1")

    async def beside_another() -> tuple[str, int]:
        charge = asyncio.create_task(AsyncGateway().charge(1))
        turns = 0
        while not charge.done():
            await asyncio.sleep(0)
            turns += 1
        return charge.result(), turns

    result, turns = asyncio.run(beside_another())

    assert result == "txn_1"
    assert turns > 10  # two where the delay holds the loop


def test_programming_can_be_chained(backends):
    backends.payments.charge.raises(ValueError, times=1).returns("txn_1").delays(0)

    with pytest.raises(ValueError):  # noqa: PT011 - it has no message
        charge()
    assert charge() == "txn_1"


def test_a_reset_forgets_answers_and_a_new_timeline_calls(backends):
    handle = backends.payments
    handle.charge.returns("txn_1")
    charge()

    backends.reset()
    core.new_timeline()

    assert backends.payments is handle

    assert backends.payments.call_count("charge") == 0
    assert charge() is not None
    assert repr(charge()) == "<unprogrammed return of payments.charge>"


@pytest.mark.parametrize(
    "use",
    [
        lambda payments: payments.chrge,
        lambda payments: payments["chrge"],
        lambda payments: payments.configure_return("chrge", 1),
        lambda payments: payments.configure_exception("chrge", ValueError()),
        lambda payments: payments.configure_delay("chrge", 1),
        lambda payments: payments.call_count("chrge"),
        lambda payments: payments.was_called_with("chrge"),
        lambda payments: payments.get_calls("chrge"),
    ],
)
def test_a_method_that_the_real_class_lacks_cannot_be_named(backends, use):
    with pytest.raises(UnknownMethodError) as caught:
        use(backends.payments)

    assert str(caught.value) == "payments has no method 'chrge'. Did you mean 'charge'?"


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (
            lambda payments: payments.charge(1, token="t"),
            (
                "backends.payments.charge is for programming the fake, and is not called: call the real"
                " one, as the application does, and the fake answers"
            ),
        ),
        (
            lambda payments: payments.returns("txn"),
            (
                "payments has no method 'returns': the methods have that, as in"
                " backends.payments.account.returns"
            ),
        ),
        (
            lambda payments: payments.assert_called_once_with(1),
            (
                "payments has no method 'assert_called_once_with': the methods have that, as in"
                " backends.payments.account.assert_called_once_with"
            ),
        ),
    ],
)
def test_what_is_asked_of_the_wrong_handle_is_told(backends, use, told):
    with pytest.raises(UnknownMethodError) as caught:
        use(backends.payments)
    assert str(caught.value) == told


def test_an_argument_that_is_misspelt_in_an_assertion_is_told(backends):
    with pytest.raises(CallMismatchError) as caught:
        backends.payments.charge.assert_called_with(amoun=1, token="t")
    assert str(caught.value).endswith("\n  Did you mean 'amount'?")


def test_a_method_named_like_a_control_is_reached_as_an_item(backends):
    backends.payments["get_calls"].returns(["call"])

    assert StripeGateway().get_calls("monday") == ["call"]
    assert len(backends.payments.get_calls("get_calls")) == 1


def test_the_handle_lists_the_methods_of_the_real_class(backends):
    assert {"charge", "ping", "configure_return"} <= set(dir(backends.payments))


def test_an_unknown_method_is_suggested_once_whatever_the_python(backends):
    with pytest.raises(UnknownMethodError) as caught:
        backends.payments.chrge  # noqa: B018 - looking it up is the test

    assert "".join(traceback.format_exception_only(caught.value)).count("Did you mean") == 1


def test_a_typo_in_an_assertion_is_an_error(backends):
    with pytest.raises(UnknownMethodError) as caught:
        backends.payments.charge.assert_caled_once_with(1)

    assert str(caught.value) == (
        "payments.charge has no 'assert_caled_once_with'. Did you mean 'assert_called_once_with'?"
    )
    assert "".join(traceback.format_exception_only(caught.value)).count("Did you mean") == 1


@pytest.mark.parametrize(
    ("habit", "instead"),
    [
        ("assert_any_call", "assert_called_with(...)"),
        ("assert_called_once", "assert_called(times=1)"),
        ("assert_not_called", "assert_never_called()"),
        ("call_args", "calls"),
        ("call_args_list", "calls"),
        ("configure_return", "returns(value)"),
        ("mock_calls", "calls"),
        ("return_value", "returns(value)"),
        ("side_effect", "raises(error), returns_each(a, b) or does(function)"),
    ],
)
def test_a_habit_from_elsewhere_is_told_what_to_use(backends, habit, instead):
    charge = backends.payments.charge

    with pytest.raises(UnknownMethodError) as asked:
        getattr(charge, habit)
    with pytest.raises(UnknownMethodError) as assigned:
        setattr(charge, habit, 1)

    assert str(asked.value) == f"payments.charge has no {habit!r}: use {instead}"
    assert str(assigned.value) == str(asked.value)
    assert not hasattr(charge, habit)


def test_a_habit_on_the_backend_names_its_methods(backends):
    with pytest.raises(UnknownMethodError) as caught:
        backends.payments.assert_not_called()

    assert str(caught.value) == (
        "payments has no 'assert_not_called': use assert_never_called() of one of its methods"
    )


@pytest.mark.parametrize(
    ("habit", "line"),
    [
        ("configure_return", "backends.geo.returns(value)"),
        ("configure_exception", "backends.geo.raises(error)"),
        ("configure_delay", "backends.geo.delays(seconds)"),
        ("get_calls", "backends.geo.calls"),
    ],
)
def test_a_function_has_the_controls_of_a_method_only(backends, habit, line):
    with pytest.raises(UnknownMethodError) as caught:
        getattr(backends.geo, habit)("geocode")

    assert str(caught.value) == f"geo is a function: use {line}"


def test_python_may_ask_a_handle_for_its_protocols(backends):
    assert not hasattr(backends.payments.charge, "__deepcopy__")
    assert not hasattr(backends.payments, "__deepcopy__")


def test_a_handle_cannot_be_given_attributes(backends):
    with pytest.raises(UnknownMethodError) as caught:
        backends.payments.charge = "txn_1"

    assert str(caught.value) == (
        "payments.charge cannot be replaced: use its returns(value) or does(function)"
    )
    with pytest.raises(UnknownMethodError, match=r"use returns\(value\) of one of its methods"):
        backends.payments.return_value = 1

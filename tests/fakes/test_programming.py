"""Answers for some calls, for one call, in place of a reply; and who answers all others."""

import asyncio
import datetime
import time
from decimal import Decimal
from typing import Any, Literal, Optional, TypedDict

import pytest
import time_machine
from dirty_equals import IsInstance
from freezegun import freeze_time

from itkit.backends.registry import Registry
from itkit.backends.resolve import ResolvedBackend
from itkit.conf import BackendSettings
from itkit.exceptions import (
    CallMismatchError,
    ImpossibleReturnError,
    UnexpectedCallError,
    UnknownBackendError,
    UnprogrammedReturnError,
)
from itkit.timeline import core
from tests.support.fakes_app import AsyncGateway, ReallyCalledError, StripeGateway, geocode


class Address(TypedDict):
    street: str


class Ledger:
    """A backend that works without a network, so that a spy can be asked."""

    def __init__(self, start: int = 0) -> None:
        self.start = start

    def add(self, amount: int, *, timeout: float | None = None) -> int:
        return self.start + amount

    def total(self) -> Decimal:
        return Decimal(self.start)

    def rate(self) -> float: ...
    def side(self) -> Literal["debit", "credit"]: ...
    def owner(self) -> Optional[str]: ...  # noqa: UP045 - the older spelling is tested too
    def address(self) -> Address: ...
    def lines(self) -> list[int]: ...
    def anything(self) -> Any: ...
    def gone(self) -> "NoSuchName": ...  # noqa: F821 - as in a module that forgot an import

    @property
    def balance(self) -> int:
        return self.start

    async def later(self, amount: int) -> int:
        return self.start + amount


@pytest.fixture
def backends():
    registry = Registry(
        {"ledger": Ledger, "payments": StripeGateway, "later": AsyncGateway, "geo": geocode}
    )
    core.new_timeline("test")
    registry.swap()
    yield registry
    registry.restore()
    core.new_timeline()


def charge(amount=5000, token="tok_visa"):
    return StripeGateway().charge(amount, token)


def test_when_answers_calls_with_these_arguments_whatever_the_others_are(backends):
    backends.payments.charge.returns("other")
    backends.payments.charge.when(amount=100).returns("hundred")
    backends.payments.charge.when(200, currency="eur").returns("two hundred")

    assert [charge(100), charge(200), charge(1)] == ["hundred", "two hundred", "other"]


def test_when_takes_a_function_and_an_object_that_knows_what_it_equals(backends):
    backends.payments.refund.when(amount=lambda amount: amount > 1000).returns("big")
    backends.payments.refund.when(reason=IsInstance(Decimal)).returns("decimal")

    gateway = StripeGateway()
    assert gateway.refund(1001) == "big"
    assert gateway.refund(1, Decimal(1)) == "decimal"


def test_when_the_condition_made_last_comes_first_and_limited_answers_run_out(backends):
    method = backends.payments.charge
    method.when(amount=1).returns("first")
    method.when(amount=1).raises(ConnectionError("once"), times=1)

    with pytest.raises(ConnectionError):
        charge(1)
    assert charge(1) == "first"


def test_when_finds_values_among_keyword_parameters(backends):
    backends.payments.notify.when(channel="sms").does(lambda lines, **_: lines.append("sent"))

    lines = []
    StripeGateway().notify(lines, channel="sms", urgent=True)

    assert lines == ["sent"]


def test_when_with_an_argument_that_the_real_method_lacks_offers_the_nearest(backends):
    with pytest.raises(CallMismatchError) as caught:
        backends.payments.charge.when(amonut=5)

    assert str(caught.value) == (
        "payments.charge can never be called like this: got an unexpected keyword argument"
        " 'amonut'. Did you mean 'amount'?"
    )


def test_when_on_what_can_never_be_equal_leaves_the_other_answers(backends):
    backends.payments.charge.returns("other")
    backends.payments.charge.when(token=object()).returns("never")

    assert charge() == "other"


def test_on_call_answers_one_call_by_its_number(backends):
    backends.payments.charge.returns("txn")
    backends.payments.charge.on_call(2).raises(TimeoutError("second"))

    assert charge() == "txn"
    with pytest.raises(TimeoutError, match="second"):
        charge()
    assert charge() == "txn"


def test_on_call_counts_the_calls_that_were_made_before_it_was_programmed(backends):
    backends.payments.charge.returns("txn")
    charge()
    backends.payments.charge.on_call(3).returns("third")

    assert [charge(), charge(), charge()] == ["txn", "third", "txn"]


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), ("1", TypeError)])
def test_on_call_takes_a_number_from_one(backends, number, error):
    with pytest.raises(error, match=r"on_call\(\) is .*, expected a whole number above 0"):
        backends.payments.charge.on_call(number).returns("never")


def test_on_call_has_no_times(backends):
    with pytest.raises(ValueError, match="one call, which has no times"):
        backends.payments.charge.on_call(1).raises(ValueError, times=2)


def test_a_lost_reply_has_done_its_work(backends):
    done = []
    backends.payments.charge.does(lambda amount, token: done.append(amount) or "txn_1")
    backends.payments.charge.loses_reply(TimeoutError("no reply"), times=1)

    with pytest.raises(TimeoutError, match="no reply"):
        charge()
    assert charge() == "txn_1"

    first, second = backends.payments.charge.calls
    assert done == [5000, 5000]
    assert (first.result, type(first.error)) == ("txn_1", TimeoutError)
    assert (second.result, second.error) == ("txn_1", None)
    assert repr(first).endswith("-> 'txn_1' !! TimeoutError('no reply')")


def test_a_lost_reply_of_a_coroutine(backends):
    backends.later.charge.returns("txn_1")
    backends.later.charge.loses_reply(TimeoutError)

    with pytest.raises(TimeoutError):
        asyncio.run(AsyncGateway().charge(1))
    assert backends.later.charge.calls[0].result == "txn_1"


def test_a_virtual_delay_is_in_the_record_and_nobody_sleeps(backends):
    backends.payments.charge.returns("txn_1").delays(3600, virtual=True)
    backends.later.charge.returns("txn_2").delays(7200, virtual=True)

    started = time.monotonic()
    charge()
    asyncio.run(AsyncGateway().charge(1))

    assert time.monotonic() - started < 60
    assert 3600 <= backends.payments.charge.calls[0].duration < 3660
    assert 7200 <= backends.later.charge.calls[0].duration < 7260


def test_a_virtual_delay_moves_a_clock_of_time_machine_or_freezegun(backends):
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    hour = datetime.timedelta(hours=1)
    backends.payments.charge.returns("txn_1")

    with time_machine.travel(start, tick=False) as traveller:
        backends.payments.charge.delays(3600, virtual=traveller.shift)
        charge()
        assert datetime.datetime.now(datetime.UTC) == start + hour
    with freeze_time(start) as frozen:
        backends.payments.charge.delays(3600, virtual=frozen.tick)
        charge()
        assert datetime.datetime.now(datetime.UTC) == start + hour


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -0.1])
def test_a_delay_that_never_ends_or_makes_no_sense_is_refused(backends, seconds):
    with pytest.raises(ValueError, match="expected 0 or more"):
        backends.payments.charge.delays(seconds, virtual=True)


@pytest.mark.parametrize("virtual", [True, False])
def test_a_delay_ends_at_the_timeout_that_the_caller_gives(backends, virtual):
    backends.ledger.add.returns(5).delays(60 if virtual else 0.02, virtual=virtual)

    with pytest.raises(TimeoutError, match=r"timed out after 0\.01 s"):
        Ledger().add(1, timeout=0.01)
    assert Ledger().add(1, timeout=61) == 5
    assert Ledger().add(1, timeout=None) == 5


@pytest.mark.parametrize(
    ("method", "good", "bad", "annotation"),
    [
        ("total", Decimal(1), 1, "Decimal"),
        ("rate", 1, "1", "float"),
        ("side", "debit", "left", "Literal['debit', 'credit']"),
        ("owner", None, 5, "Optional[str]"),
        ("address", {"street": "Graben"}, ["Graben"], "Address"),
        ("lines", [1], (1,), "list[int]"),
        ("later", 5, "5", "int"),
    ],
)
def test_a_return_that_the_real_method_cannot_give_is_refused(
    backends, method, good, bad, annotation
):
    handle = backends.ledger[method]
    handle.returns(good)

    with pytest.raises(ImpossibleReturnError) as caught:
        handle.returns(bad)
    lines = str(caught.value).splitlines()
    shown = annotation.replace("Optional[str]", lines[0].rpartition(" returns ")[2][:-1])
    assert lines[0] == (
        f"ledger.{method} is to return {bad!r} ({type(bad).__name__}), but the real one returns"
        f" {shown}."
    )
    assert lines[1] == (
        "  Return what it can return, or correct its annotation. What does(function) returns is"
        " not checked."
    )


def test_returns_each_is_checked_too(backends):
    with pytest.raises(ImpossibleReturnError, match=r"ledger\.add is to return 'two'"):
        backends.ledger.add.returns_each(1, ValueError("no value"), "two")


@pytest.mark.parametrize("method", ["anything", "gone"])
def test_a_method_without_a_usable_annotation_may_return_anything(backends, method):
    backends.ledger[method].returns("whatever")

    assert getattr(Ledger(), method)() == "whatever"


def test_an_object_of_a_mock_is_one_of_its_class(backends):
    backends.payments.from_env.returns(StripeGateway("sk"))

    assert StripeGateway.from_env("KEY").key == "sk"


def test_a_strict_fake_fails_a_call_for_which_nothing_is_programmed(backends):
    backends.payments.strict()
    backends.payments.charge.when(amount=1).returns("one")

    assert charge(1) == "one"
    with pytest.raises(UnexpectedCallError) as caught:
        charge(5)
    assert str(caught.value).splitlines() == [
        "payments.charge(5, 'tok_visa') was not expected: the test programs nothing for it.",
        f"  called at tests/fakes/test_programming.py:{charge.__code__.co_firstlineno + 1} in charge",
        "  add to the test: backends.payments.charge.returns(...)",
    ]


def test_a_strict_fake_still_has_the_properties_of_the_real_object(backends):
    backends.ledger.strict()

    assert Ledger(5).balance == 5


def test_a_lenient_fake_answers_with_an_empty_value_by_the_annotation(backends):
    backends.ledger.lenient()
    ledger = Ledger(5)

    assert ledger.add(1) == 0
    assert ledger.total() == Decimal(0)
    assert ledger.owner() is None
    assert ledger.lines() == []
    assert asyncio.run(ledger.later(1)) == 0
    with pytest.raises(UnprogrammedReturnError):
        bool(ledger.anything())  # the annotation tells nothing, so it stays lazy


def test_a_spy_passes_calls_on_and_records_them(backends):
    backends.ledger.spy()
    ledger = Ledger(10)
    backends.ledger.add.when(amount=1).returns(100)

    assert ledger.add(5) == 15
    assert ledger.add(1) == 100
    assert ledger.balance == 10
    assert asyncio.run(ledger.later(3)) == 13
    assert [call.result for call in backends.ledger.add.calls] == [15, 100]


def test_a_spy_passes_on_an_error_and_records_it(backends):
    backends.payments.spy()

    with pytest.raises(ReallyCalledError):
        charge()
    assert isinstance(backends.payments.charge.calls[0].error, ReallyCalledError)


def test_a_spy_of_a_function_calls_the_real_one_and_not_itself(backends):
    registry = Registry({"twice": ResolvedBackend(twice, BackendSettings(mode="spy"))})
    registry.swap()
    try:
        assert twice(4) == 8
        assert registry["twice"].call_count == 1
    finally:
        registry.restore()


def twice(number: int) -> int:
    return 2 * number


def test_the_settings_say_who_answers_and_each_test_begins_so():
    registry = Registry(
        {
            "ledger": ResolvedBackend(Ledger, BackendSettings(mode="spy")),
            "payments": ResolvedBackend(StripeGateway, BackendSettings(unprogrammed="strict")),
        }
    )
    core.new_timeline()
    registry.swap()
    try:
        registry.ledger.strict()
        registry.payments.lenient()
        registry.reset()

        assert Ledger(1).add(1) == 2
        with pytest.raises(UnexpectedCallError):
            charge()
    finally:
        registry.restore()
        core.new_timeline()


def test_a_backend_that_stays_real_has_no_handle():
    registry = Registry({"ledger": ResolvedBackend(Ledger, BackendSettings(mode="real"))})
    registry.swap()
    try:
        assert Ledger(1).add(1) == 2
        with pytest.raises(UnknownBackendError) as caught:
            registry.ledger  # noqa: B018 - looking it up is the test
    finally:
        registry.restore()
    assert str(caught.value) == (
        'ITKIT["BACKENDS"]["ledger"] has the MODE "real", so there is nothing to program or to ask.'
        ' Set it to "spy" to record the calls of the real one.'
    )


def test_overrides_are_nested_and_the_innermost_wins(backends):
    payments = backends.payments
    payments.charge.returns("outer")
    payments.refund.returns("outer refund")
    with payments.override():
        payments.charge.returns("middle")
        with payments.override() as same:
            same.charge.when(amount=1).returns("inner")
            assert [charge(1), charge(2)] == ["inner", "middle"]
            assert StripeGateway().refund(1) == "outer refund"
        assert charge(1) == "middle"
    assert charge(1) == "outer"
    assert payments.charge.call_count == 4


def test_an_override_is_undone_when_its_block_fails(backends):
    backends.payments.charge.returns("outer")

    def fail_within():
        with backends.payments.override():
            backends.payments.strict()
            backends.payments.charge.returns("inner")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert charge() == "outer"
    StripeGateway().refund(1)  # lazy again


def test_an_override_may_begin_with_nothing_programmed(backends):
    with backends.payments.override():
        backends.payments.charge.returns("inner")
        assert charge() == "inner"
    with pytest.raises(UnprogrammedReturnError):
        bool(charge())


def test_a_required_call_that_never_comes_is_told(backends):
    backends.payments.charge.returns("txn_1").required()
    with pytest.raises(CallMismatchError) as caught:
        backends.check()
    assert str(caught.value) == (
        "payments.charge was never called, expected a call, as required() says"
    )

    charge()
    backends.check()

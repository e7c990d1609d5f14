"""What a fake records: every call, as it was, from every thread."""

import threading
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from django.contrib.auth.models import User

from itkit.backends.registry import Registry
from itkit.timeline import core
from tests.support.fakes_app import ReallyCalledError, StripeGateway


@pytest.fixture
def payments():
    registry = Registry({"payments": StripeGateway})
    core.new_timeline()
    registry.swap()
    yield registry.payments
    registry.restore()


def test_a_call_has_the_fields_of_the_reference_page_as_keys(payments):
    StripeGateway().charge(5000, token="tok_visa")

    calls = payments.get_calls("charge")

    assert calls[0]["args"][0] == 5000
    assert calls[0]["kwargs"] == {"token": "tok_visa"}
    assert calls[0]["arguments"] == {"amount": 5000, "token": "tok_visa", "currency": "eur"}


def test_a_call_has_the_same_fields_as_attributes(payments):
    payments.charge.returns("txn_1")
    StripeGateway().charge(5000, token="tok_visa")

    (call,) = payments.charge.calls

    assert (call.name, call.args, call.kwargs) == (
        "payments.charge",
        (5000,),
        {"token": "tok_visa"},
    )
    assert (call.result, call.error, call.thread) == ("txn_1", None, "MainThread")
    assert call["result"] == "txn_1"
    assert 0 <= call.duration < 1


def test_an_unknown_key_of_a_call_names_the_nearest(payments):
    StripeGateway().charge(5000, token="tok_visa")

    with pytest.raises(KeyError, match="Did you mean 'kwargs'"):
        payments.charge.calls[0]["kwarg"]


def test_a_call_prints_as_it_was_made_with_its_outcome(payments):
    payments.charge.returns_each("txn_1", ValueError("declined"))
    StripeGateway().charge(5000, token="tok_visa")
    with pytest.raises(ValueError, match="declined"):
        StripeGateway().charge(1, "tok")

    assert [repr(call) for call in payments.charge.calls] == [
        "payments.charge(5000, token='tok_visa') -> 'txn_1'",
        "payments.charge(1, 'tok') !! ValueError('declined')",
    ]


def test_the_site_of_a_call_is_the_line_of_the_user_that_called(payments):
    line = test_the_site_of_a_call_is_the_line_of_the_user_that_called.__code__.co_firstlineno
    (
        StripeGateway()
        .charge(5000, token="tok_visa")
    )  # fmt: skip

    site = payments.charge.calls[0].site

    assert site.path == __file__
    assert line < site.line <= line + 6
    assert site.function == "test_the_site_of_a_call_is_the_line_of_the_user_that_called"


def test_an_exception_is_recorded(payments):
    error = ConnectionError("refused")
    payments.charge.raises(error)

    with pytest.raises(ConnectionError):
        StripeGateway().charge(1, "tok")

    (call,) = payments.charge.calls
    assert call.error is error
    assert call.result is None
    assert call.duration is not None


def test_wrong_arguments_are_the_type_error_of_the_real_class_and_no_call(payments):
    with pytest.raises(TypeError) as caught:
        StripeGateway().charge(5000)

    assert str(caught.value) == (
        "StripeGateway.charge() missing 1 required positional argument: 'token'"
    )
    assert payments.call_count("charge") == 0


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1, "t", 2), {}), ((1,), {"tokn": "t"}), ((), {}), ((1, "t"), {"token": "t"})],
)
def test_every_type_error_has_the_words_of_the_real_class(args, kwargs):
    with pytest.raises(TypeError) as real:
        StripeGateway().charge(*args, **kwargs)
    registry = Registry({"payments": StripeGateway})
    registry.swap()
    try:
        with pytest.raises(TypeError) as faked:
            StripeGateway().charge(*args, **kwargs)
    finally:
        registry.restore()

    assert str(faked.value) == str(real.value)


@dataclass
class Basket:
    items: list = field(default_factory=list)


@dataclass(frozen=True)
class FrozenBasket:
    items: list


def _change_list(value):
    value.append("changed")


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([1], _change_list),
        ([[1]], lambda value: value[0].append("changed")),
        ({"a": [1]}, lambda value: value["a"].append("changed")),
        ({1, 2}, lambda value: value.add("changed")),
        (([1],), lambda value: value[0].append("changed")),
        (deque([1], maxlen=3), _change_list),
        (Counter("aab"), lambda value: value.update("b")),
        (bytearray(b"a"), lambda value: value.extend(b"changed")),
        (Basket([1]), lambda value: value.items.append("changed")),
        (FrozenBasket([1]), lambda value: value.items.append("changed")),
    ],
    ids=lambda value: None if callable(value) else repr(value),
)
def test_a_mutable_argument_is_recorded_as_it_was_when_it_was_passed(payments, value, change):
    before = repr(value)

    StripeGateway().refund(1, reason=value)
    change(value)

    assert repr(payments.refund.calls[0].arguments["reason"]) == before != repr(value)


def test_models_and_other_objects_are_recorded_by_reference(payments):
    user, marker = User(username="ada"), object()

    StripeGateway().refund(1, reason=[user, marker, User])

    recorded = payments.refund.calls[0].arguments["reason"]
    assert recorded[0] is user
    assert recorded[1] is marker
    assert recorded[2] is User


def test_a_list_that_holds_itself_can_be_an_argument(payments):
    value = [1]
    value.append(value)

    StripeGateway().refund(1, reason=value)

    assert payments.refund.calls[0].arguments["reason"][0] == 1


def test_no_call_is_lost_when_sixteen_threads_call_at_once(payments):
    threads, each = 16, 10_000
    gateway, start = StripeGateway(), threading.Barrier(threads)
    payments.charge.returns("txn")

    def work(number):
        start.wait()
        for index in range(each):
            gateway.charge(index, str(number))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))

    assert payments.call_count("charge") == threads * each
    per_thread = Counter(call.args[1] for call in payments.charge.calls)
    assert set(per_thread.values()) == {each}


def test_no_limited_answer_is_given_twice_or_lost_among_threads(payments):
    gateway = StripeGateway()
    payments.charge.raises(TimeoutError, times=500).returns("ok")

    def work(_):
        try:
            return gateway.charge(1, "t")
        except TimeoutError:
            return "timeout"

    with ThreadPoolExecutor(8) as pool:
        outcomes = Counter(pool.map(work, range(2000)))

    assert outcomes == {"timeout": 500, "ok": 1500}


def test_a_call_is_told_by_the_thread_that_made_it(payments):
    thread = threading.Thread(target=StripeGateway().charge, args=(1, "t"), name="worker-7")
    thread.start()
    thread.join()

    assert payments.charge.calls[0].thread == "worker-7"


def test_calls_of_all_fakes_lie_on_one_timeline_in_their_order(payments):
    gateway = StripeGateway()
    gateway.charge(1, "t")
    gateway.notify([])
    gateway.charge(2, "t")

    assert [crossing.name for crossing in core.current()] == [
        "payments.charge",
        "payments.notify",
        "payments.charge",
    ]


def test_a_call_under_way_is_on_the_timeline_already(payments):
    seen = []
    payments.charge.does(lambda *_args, **_kwargs: seen.extend(payments.charge.calls))

    StripeGateway().charge(1, "t")

    assert len(seen) == 1


def test_the_real_class_is_never_reached_while_swapped_and_is_afterwards():
    registry = Registry({"payments": StripeGateway})
    registry.swap()
    StripeGateway().charge(1, "t")
    registry.restore()

    with pytest.raises(ReallyCalledError):
        StripeGateway().charge(1, "t")

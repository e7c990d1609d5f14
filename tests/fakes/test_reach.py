"""A swap in place reaches every reference, and leaves nothing behind."""

import asyncio
import enum
import functools
import importlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from itkit.backends.registry import Registry
from itkit.timeline import core
from tests.support import fakes_app
from tests.support.fakes_app import (
    AsyncGateway,
    LoudGateway,
    ReallyCalledError,
    StripeGateway,
    convert,
    geocode,
)
from tests.support.fakes_app import StripeGateway as AliasedGateway
from tests.support.fakes_app import geocode as aliased_geocode

SINGLETON = fakes_app.gateway
PARTIAL_OF_CLASS = functools.partial(StripeGateway, "sk_partial")
PARTIAL_OF_FUNCTION = functools.partial(geocode, "Graben 1")
BOUND = fakes_app.gateway.charge  # taken out of the class before the swap
BOUND_INHERITED = fakes_app.gateway.ping
ASYNC = AsyncGateway()
POOL = ThreadPoolExecutor(1)


class Container:
    gateway = StripeGateway()


REFERENCES = {
    "imported by name": lambda: StripeGateway().charge(1, "t"),
    "imported under another name": lambda: AliasedGateway().charge(1, "t"),
    "in its module": lambda: fakes_app.StripeGateway().charge(1, "t"),
    "a singleton made before": lambda: SINGLETON.charge(1, "t"),
    "held by another class": lambda: Container.gateway.charge(1, "t"),
    "a partial of the class": lambda: PARTIAL_OF_CLASS().charge(1, "t"),
    "in a pool of threads": lambda: POOL.submit(SINGLETON.charge, 1, "t").result(),
    "unbound": lambda: StripeGateway.charge(SINGLETON, 1, "t"),
    "imported again": lambda: (
        importlib.import_module("tests.support.fakes_app").StripeGateway().charge(1, "t")
    ),
}
FUNCTION_REFERENCES = {
    "imported by name": lambda: geocode("Graben 1"),
    "imported under another name": lambda: aliased_geocode("Graben 1"),
    "in its module": lambda: fakes_app.geocode("Graben 1"),
    "a partial": PARTIAL_OF_FUNCTION,
    "in a pool of threads": lambda: POOL.submit(geocode, "Graben 1").result(),
}


@pytest.fixture
def registry():
    registry = Registry({"payments": StripeGateway, "geo": geocode, "convert": convert})
    core.new_timeline()
    yield registry
    registry.restore()


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_class_is_reached_by_every_reference_and_real_again_afterwards(registry, reference):
    call = REFERENCES[reference]
    registry.swap()
    registry.payments.charge.returns("txn_fake")

    assert call() == "txn_fake"

    registry.restore()
    with pytest.raises(ReallyCalledError):
        call()


@pytest.mark.parametrize("reference", FUNCTION_REFERENCES)
def test_a_function_is_reached_by_every_reference_and_real_again_afterwards(registry, reference):
    call = FUNCTION_REFERENCES[reference]
    registry.swap()
    registry.geo.returns((48.2, 16.4))

    assert call() == (48.2, 16.4)

    registry.restore()
    with pytest.raises(ReallyCalledError):
        call()


def test_a_subclass_is_real_and_reaches_the_fake_by_super(registry):
    registry.swap()
    registry.payments.charge.returns("txn_fake")

    assert LoudGateway().charge(1, "t") == "loud txn_fake"
    assert isinstance(LoudGateway(), StripeGateway)


TAKEN = {
    "a bound method": (SINGLETON.charge, "charge", "txn", lambda taken: taken(1, "t")),
    "a partial of one": (
        functools.partial(SINGLETON.charge, 1, currency="usd"),
        "charge",
        "txn",
        lambda taken: taken("t"),
    ),
    "an unbound method": (
        StripeGateway.charge,
        "charge",
        "txn",
        lambda taken: taken(SINGLETON, 1, "t"),
    ),
    "a static method": (StripeGateway.version, "version", "1.0", lambda taken: taken(short=True)),
    "a class method": (StripeGateway.from_env, "from_env", SINGLETON, lambda taken: taken("KEY")),
    "a generator": (SINGLETON.payouts, "payouts", ["a"], lambda taken: list(taken(2026))),
    "a context manager": (SINGLETON.session, "session", "s", lambda taken: _entered(taken("n"))),
    "a coroutine": (ASYNC.charge, "charge", "txn", lambda taken: asyncio.run(taken(1))),
    "an async generator": (
        ASYNC.payouts,
        "payouts",
        ["a"],
        lambda taken: asyncio.run(_all(taken(1))),
    ),
}


def _entered(manager):
    with manager as value:
        return value


async def _all(values):
    return [value async for value in values]


@pytest.mark.parametrize("kind", TAKEN)
def test_what_was_taken_out_of_a_class_before_is_reached_and_real_afterwards(kind):
    taken, name, value, call = TAKEN[kind]
    registry = Registry({"payments": StripeGateway, "later": AsyncGateway})
    core.new_timeline()
    registry.swap()
    try:
        backend = (
            registry.later if kind.endswith(("coroutine", "async generator")) else registry.payments
        )
        backend[name].returns(value)
        assert call(taken) == value
        (made,) = backend[name].calls
        if kind != "a coroutine":  # whose first line an event loop runs
            assert made.site.path == __file__
        with pytest.raises(TypeError):
            call(functools.partial(taken, nonsense=1))
    finally:
        registry.restore()
        core.new_timeline()
    with pytest.raises(ReallyCalledError):
        call(taken)


def test_a_spy_reaches_the_real_method_of_what_was_taken_before():
    registry = Registry({"payments": StripeGateway})
    registry.swap()
    try:
        registry.payments.spy()
        with pytest.raises(ReallyCalledError):
            BOUND(1, "t")
        assert registry.payments.call_count("charge") == 1
    finally:
        registry.restore()


def test_a_bound_method_that_is_inherited_is_the_known_escape(registry):
    registry.swap()

    with pytest.raises(ReallyCalledError):
        BOUND_INHERITED()


def test_a_function_with_a_closure_is_swapped_and_restored(registry):
    registry.swap()
    registry.convert.returns(0)
    assert convert(10, rate=5) == 0
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'amount'"):
        convert()

    registry.restore()

    assert convert(10) == 16


def _state(thing):
    return dict(vars(thing)), list(vars(thing))


def _function_state(function):
    return function.__code__, function.__defaults__, function.__kwdefaults__, dict(vars(function))


def test_restoring_leaves_classes_and_functions_exactly_as_they_were():
    classes = [StripeGateway, AsyncGateway]
    functions = [geocode, convert]
    before = [_state(kind) for kind in classes], [_function_state(it) for it in functions]
    registry = Registry({"a": classes[0], "b": classes[1], "c": geocode, "d": convert})

    registry.swap()
    during = [_state(kind) for kind in classes], [_function_state(it) for it in functions]
    registry.restore()

    assert during != before
    assert ([_state(kind) for kind in classes], [_function_state(it) for it in functions]) == before


def test_swap_and_restore_may_be_called_twice(registry):
    before = _state(StripeGateway)
    registry.swap()
    registry.swap()
    registry.restore()
    registry.restore()

    assert _state(StripeGateway) == before


def test_a_nested_registry_answers_alone_until_it_is_restored(registry):
    registry.swap()
    registry.payments.charge.returns("outer")
    registry.payments.payouts.returns(["outer"])
    inner = Registry({"payments": StripeGateway, "geo": geocode})
    inner.swap()
    inner.payments.charge.returns("inner")
    inner.payments.payouts.returns(["inner"])
    inner.geo.returns((48.2, 16.4))

    assert SINGLETON.charge(1, "t") == "inner"
    assert list(SINGLETON.payouts(1)) == ["inner"]
    assert geocode("Graben 1") == (48.2, 16.4)
    inner.restore()

    assert SINGLETON.charge(1, "t") == "outer"
    assert list(SINGLETON.payouts(1)) == ["outer"]


def test_a_backend_that_is_a_subclass_of_another_has_a_record_of_its_own():
    registry = Registry({"base": StripeGateway, "loud": LoudGateway})
    registry.swap()
    try:
        registry.base.ping.returns("base")
        registry.loud.ping.returns("loud")
        assert (StripeGateway().ping(), LoudGateway().ping()) == ("base", "loud")
    finally:
        registry.restore()


class Carrier(enum.Enum):
    FAST = "fast"

    def ship(self, weight: int) -> str:
        raise RuntimeError("the real carrier was called")


def test_members_of_an_enum_are_answered_by_the_fake() -> None:
    registry = Registry({"carrier": Carrier})
    registry.swap()
    registry.carrier.ship.returns("shipped")
    assert Carrier.FAST.ship(3) == "shipped"
    registry.restore()
    assert list(Carrier) == [Carrier.FAST]
    with pytest.raises(RuntimeError):
        Carrier.FAST.ship(3)

"""Every kind of method is faked as what it is."""

import asyncio
import inspect

import pytest
from asgiref.sync import iscoroutinefunction

from itkit.backends.registry import Registry
from itkit.exceptions import UnprogrammedReturnError
from itkit.timeline import core
from tests.support.fakes_app import (
    AsyncGateway,
    PickyGateway,
    ReallyCalledError,
    SlottedGateway,
    StripeGateway,
    live_pages,
    locate,
    pages,
)


@pytest.fixture(autouse=True)
def backends():
    registry = Registry(
        {
            "payments": StripeGateway,
            "later": AsyncGateway,
            "picky": PickyGateway,
            "slotted": SlottedGateway,
            "locate": locate,
            "pages": pages,
            "live_pages": live_pages,
        }
    )
    core.new_timeline()
    registry.swap()
    yield registry
    registry.restore()


def test_the_constructor_is_real():
    assert StripeGateway("sk_live").key == "sk_live"


def test_private_methods_and_special_methods_that_do_not_reach_out_are_real():
    assert StripeGateway()._connect() == "private and real"
    assert len(StripeGateway()) == 42


def test_an_inherited_method_is_faked_for_this_class_only(backends):
    backends.payments.ping.returns("pong")

    assert StripeGateway().ping() == "pong"
    with pytest.raises(ReallyCalledError):
        StripeGateway.__base__().ping()


@pytest.mark.parametrize("owner", [StripeGateway, StripeGateway()], ids=["class", "instance"])
def test_a_static_method_is_called_on_class_and_instance(backends, owner):
    backends.payments.version.returns("v1")

    assert owner.version(short=True) == "v1"
    assert backends.payments.was_called_with("version", True)
    with pytest.raises(TypeError, match=r"version\(\) takes from 0 to 1 positional arguments"):
        owner.version(1, 2)


@pytest.mark.parametrize("owner", [StripeGateway, StripeGateway()], ids=["class", "instance"])
def test_a_class_method_is_called_on_class_and_instance(backends, owner):
    made = StripeGateway("made")
    backends.payments.from_env.returns(made)

    assert owner.from_env("KEY") is made
    assert backends.payments.get_calls("from_env")[0]["arguments"] == {"name": "KEY"}


def test_a_method_behind_a_decorator_written_in_c_is_faked(backends):
    backends.payments.rates.returns({"usd": 1.1})

    assert StripeGateway().rates("eur") == {"usd": 1.1}
    assert StripeGateway().rates(base="eur") == {"usd": 1.1}
    assert backends.payments.rates.call_count == 2  # and the cache is not in the way


def test_a_property_is_real_until_it_is_programmed(backends):
    gateway = StripeGateway("sk_live")
    assert gateway.account == "acct of sk_live"

    backends.payments.account.returns("acct_1")
    assert gateway.account == "acct_1"

    backends.payments.account.raises(PermissionError)
    with pytest.raises(PermissionError):
        gateway.account  # noqa: B018 - reading is the point
    assert backends.payments.account.call_count == 3


def test_a_property_can_still_be_set_and_has_its_documentation():
    gateway = StripeGateway()
    gateway.account = "sk_other"

    assert gateway.account == "acct of sk_other"
    assert StripeGateway.account.__doc__ == "The account in use."


def test_an_object_that_is_called_itself_is_programmed_as_an_item(backends):
    backends.payments["__call__"].returns("42")

    assert StripeGateway()("the question") == "42"
    backends.payments["__call__"].assert_called_once_with(question="the question")


def test_a_context_manager_enters_itself_and_swallows_nothing(backends):
    backends.payments.charge.returns("txn_1")
    gateway = StripeGateway()

    with pytest.raises(ValueError, match="mine"), gateway as entered:
        raise ValueError("mine")

    assert entered is gateway
    assert entered.charge(1, "t") == "txn_1"
    assert backends.payments["__exit__"].call_count == 1


def test_a_generator_yields_what_is_programmed(backends):
    backends.payments.payouts.returns(["po_1", "po_2"])
    generator = StripeGateway().payouts(2026)

    assert inspect.isgenerator(generator)
    assert backends.payments.payouts.call_count == 0  # as in the real one, nothing has run yet
    assert list(generator) == ["po_1", "po_2"]
    assert backends.payments.payouts.call_count == 1


def test_a_generator_checks_its_arguments_at_the_call_and_raises_when_iterated(backends):
    backends.payments.payouts.raises(ConnectionError)

    with pytest.raises(TypeError):
        StripeGateway().payouts()
    generator = StripeGateway().payouts(2026)
    with pytest.raises(ConnectionError):
        next(generator)


def test_an_unprogrammed_generator_explains_itself_when_iterated():
    with pytest.raises(UnprogrammedReturnError, match=r"payments\.payouts was iterated"):
        list(StripeGateway().payouts(2026))


def test_a_method_that_makes_a_context_gives_what_is_programmed_as_its_value(backends):
    backends.payments.session.returns("session_1")

    with StripeGateway().session("name") as session:
        assert session == "session_1"
    backends.payments.session.assert_called_once_with(name="name")


def test_an_unprogrammed_context_can_be_entered():
    with StripeGateway().session("name"):
        pass


def test_coroutine_functions_are_known_as_such():
    assert iscoroutinefunction(AsyncGateway.charge)
    assert iscoroutinefunction(AsyncGateway().charge)
    assert iscoroutinefunction(locate)
    assert not iscoroutinefunction(StripeGateway.charge)


def test_a_coroutine_is_awaited_once(backends):
    backends.later.charge.returns("txn_1")

    async def twice():
        coroutine = AsyncGateway().charge(1)
        assert await coroutine == "txn_1"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await coroutine

    asyncio.run(twice())
    backends.later.charge.assert_called_once_with(amount=1)


def test_a_coroutine_checks_its_arguments_at_the_call():
    with pytest.raises(TypeError, match=r"AsyncGateway.charge\(\) missing 1 required"):
        AsyncGateway().charge()


def test_a_coroutine_that_is_not_awaited_is_no_call_and_is_named_by_the_warning(backends):
    with pytest.warns(RuntimeWarning, match="coroutine 'AsyncGateway.charge' was never awaited"):
        AsyncGateway().charge(1)

    assert backends.later.call_count("charge") == 0


def test_a_coroutine_raises_when_awaited_and_may_be_answered_by_a_coroutine(backends):
    async def answer(amount, token="tok"):
        await asyncio.sleep(0)
        return f"txn of {amount}"

    backends.later.charge.raises(ConnectionError, times=1).does(answer)
    coroutine = AsyncGateway().charge(1)

    with pytest.raises(ConnectionError):
        asyncio.run(coroutine)
    assert asyncio.run(AsyncGateway().charge(2)) == "txn of 2"


def test_a_cancelled_call_is_recorded_as_such(backends):
    backends.later.charge.delays(30)

    async def impatient():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(AsyncGateway().charge(1), timeout=0.02)

    asyncio.run(impatient())
    assert isinstance(backends.later.charge.calls[0].error, asyncio.CancelledError)


def test_async_generators_and_contexts_are_what_they_are(backends):
    backends.later.payouts.returns(["po_1", "po_2"])
    backends.later.session.returns("session_1")
    gateway = AsyncGateway()

    async def use():
        async with gateway as entered, gateway.session() as session:
            assert entered is gateway
            assert session == "session_1"
            return [payout async for payout in gateway.payouts(2026)]

    assert asyncio.run(use()) == ["po_1", "po_2"]


def test_an_async_function_is_swapped(backends):
    backends["locate"].returns((48.2, 16.4))

    assert asyncio.run(locate("Graben 1")) == (48.2, 16.4)


def test_functions_that_generate_are_swapped(backends):
    backends["pages"].returns(["one", "two"])
    backends["live_pages"].returns(["three"])

    async def collect():
        return [page async for page in live_pages(1)]

    assert list(pages(1)) == ["one", "two"]
    assert asyncio.run(collect()) == ["three"]
    backends["pages"].assert_called_once_with(first=1)


def test_an_async_function_has_wrong_arguments_refused_when_awaited(backends):
    with pytest.raises(TypeError, match=r"locate\(\) missing 1 required positional argument"):
        asyncio.run(locate())
    assert backends["locate"].call_count == 0


def test_signatures_names_and_documentation_are_those_of_the_real_methods():
    assert str(inspect.signature(StripeGateway.charge)) == (
        "(self, amount: int, token: str, *, currency: str = 'eur') -> str"
    )
    assert StripeGateway.charge.__qualname__ == "StripeGateway.charge"
    assert str(inspect.signature(locate)) == "(address: str) -> tuple[float, float]"


def test_a_metaclass_that_refuses_attributes_and_slots_are_no_obstacle(backends):
    backends.picky.charge.returns("picky")
    backends.slotted.charge.returns("slotted")

    assert PickyGateway().charge(1) == "picky"
    assert SlottedGateway().charge(1) == "slotted"

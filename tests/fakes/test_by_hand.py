"""Fakes that a project has written itself: they answer, are recorded, and must not drift."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.test import override_settings

from itkit.backends import resolve
from itkit.backends.registry import Registry
from itkit.backends.resolve import ResolvedBackend
from itkit.conf import BackendSettings
from itkit.fakes import differences
from itkit.timeline import core
from tests.support.fakes_app import ReallyCalledError


class Bank:
    """The real one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def pay(self, account: str, amount: int, *, memo: str = "") -> int:
        raise ReallyCalledError

    def balance(self, account: str) -> int:
        raise ReallyCalledError

    async def report(self, year: int) -> str:
        raise ReallyCalledError

    @contextmanager
    def session(self):
        raise ReallyCalledError
        yield

    @property
    def is_open(self) -> bool:
        raise ReallyCalledError


class FakeBank:
    """One with a memory."""

    made = 0

    def __init__(self, start: int = 0) -> None:
        type(self).made += 1
        self.start = start
        self.accounts = {}

    def pay(self, account, amount, memo=None):
        self.accounts[account] = self.balance(account) + amount
        return self.accounts[account]

    def balance(self, account):
        return self.accounts.get(account, self.start)

    async def report(self, year):
        return f"{year}: {sum(self.accounts.values())}"

    @contextmanager
    def session(self):
        yield "session"

    @property
    def is_open(self):
        return True

    def rob(self):
        self.accounts.clear()


def rate(currency: str, *, day: str = "") -> float:
    raise ReallyCalledError


def fake_rate(currency, day=""):
    return {"eur": 1.0}[currency]


@pytest.fixture
def backends():
    registry = Registry(
        {
            "bank": ResolvedBackend(Bank, BackendSettings(options={"start": 10}), FakeBank),
            "rate": ResolvedBackend(rate, BackendSettings(), fake_rate),
        }
    )
    core.new_timeline("test")
    registry.swap()
    yield registry
    registry.restore()
    core.new_timeline()


def test_it_answers_what_is_not_programmed_and_calls_are_recorded(backends):
    bank = Bank("https://bank.example")

    assert bank.pay("a", 5, memo="rent") == 15
    assert bank.balance("a") == 15
    assert rate("eur") == 1.0
    assert bank.is_open
    with bank.session() as session:
        assert session == "session"
    assert backends.bank.stand_in.accounts == {"a": 15}
    backends.bank.pay.assert_called_once_with("a", amount=5, memo="rent")
    assert backends.bank.pay.calls[0].result == 15
    assert backends["rate"].call_count == 1


def test_a_coroutine_of_it(backends):
    import asyncio

    Bank("x").pay("a", 1)
    assert asyncio.run(Bank("x").report(2026)) == "2026: 11"


def test_what_is_programmed_comes_first(backends):
    backends.bank.pay.raises(TimeoutError, times=1)
    with pytest.raises(TimeoutError):
        Bank("x").pay("a", 5)
    assert Bank("x").pay("a", 5) == 15


def test_a_lost_reply_has_changed_it(backends):
    backends.bank.pay.loses_reply(TimeoutError)
    with pytest.raises(TimeoutError):
        Bank("x").pay("a", 5)
    assert backends.bank.stand_in.balance("a") == 15


def test_each_test_has_one_of_its_own(backends):
    Bank("x").pay("a", 5)
    backends.reset()
    assert Bank("x").balance("a") == 10


def test_threads_share_it(backends):
    FakeBank.made = 0
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Bank("x").balance("a"), range(64)))
    assert FakeBank.made == 1


def test_its_errors_are_the_applications(backends):
    with pytest.raises(KeyError):
        rate("usd")


def test_without_one_there_is_none():
    registry = Registry({"bank": Bank})
    assert registry.bank.stand_in is None


def test_a_fake_that_can_stand_for_the_real_one_has_no_differences():
    assert differences(Bank, FakeBank) == []
    assert differences(rate, fake_rate) == []


class Magic:
    def __getattr__(self, name):
        return lambda *args, **kwargs: name


def test_a_fake_that_answers_to_every_name_has_none():
    assert differences(Bank, Magic) == []


class Old:
    def pay(self, account, memo="", amount=0):
        """The order has changed."""

    def balance(self):
        """The account is new."""

    def report(self, year):
        """It is no coroutine."""

    def session(self, name):
        """It needs more."""

    def is_open(self):
        """It is no property."""


def test_each_difference_is_told():
    assert differences(Bank, Old) == [
        "pay() takes account, memo, amount in another order than account, amount",
        "balance() does not take 'account'",
        "report is a coroutine and not a method",
        "session() needs 'name', which the real one does not have",
        "is_open is a property and not a method",
    ]


class Empty:
    pass


def test_methods_that_are_missing_are_told():
    assert differences(Bank, Empty) == [
        f"it has no {name!r}" for name in ("pay", "balance", "report", "session", "is_open")
    ]


class Real:
    def many(self, first: int, *rest: int, **options: int) -> None: ...
    def optional(self, first: int = 0) -> None: ...


class Fewer:
    def many(self, first): ...
    def optional(self, first): ...


def test_parameters_of_any_number_are_compared():
    assert differences(Real, Fewer) == [
        "many() does not take *rest",
        "many() does not take **options",
        "optional() needs 'first', which the real one does not",
    ]
    assert differences(rate, Empty) == ["it is no function"]
    assert differences(rate, lambda: 1.0) == [
        "() does not take 'currency'",
        "() does not take 'day'",
    ]
    assert differences(Bank, rate) == ["it is no class"]


def mistakes(entry):
    with override_settings(ITKIT={"BACKENDS": {"bank": entry}}):
        return [(mistake.id, mistake.message, mistake.hint) for mistake in resolve.mistakes()]


BANK = f"{__name__}.Bank"
PLACE = 'ITKIT["BACKENDS"]["bank"]'


def test_a_fake_that_drifts_is_a_system_check():
    found = mistakes({"TARGET": BANK, "FAKE": f"{__name__}.Old"})

    assert len(found) == 5
    assert found[1] == (
        "itkit.E010",
        (
            f'{PLACE}["FAKE"] is {__name__ + ".Old"!r}, which differs from the real one: balance()'
            " does not take 'account'."
        ),
        "Correct the fake.",
    )


def test_a_fake_that_cannot_be_made_or_found_is_a_mistake():
    fake = f"{__name__}.FakeBank"
    assert mistakes({"TARGET": BANK, "FAKE": fake, "OPTIONS": {"begin": 5}}) == [
        (
            "itkit.E010",
            (
                f'{PLACE}["FAKE"] is {fake!r}, which cannot be made: got an unexpected keyword argument'
                " 'begin'."
            ),
            f'Give what it takes: {PLACE}["OPTIONS"].',
        )
    ]
    assert mistakes({"TARGET": BANK, "FAKE": f"{__name__}.FakeBnk"}) == [
        (
            "itkit.E005",
            f"{PLACE}[\"FAKE\"] is {__name__ + '.FakeBnk'!r}, but {__name__} has no 'FakeBnk'.",
            "Did you mean 'FakeBank'?",
        )
    ]
    assert mistakes({"TARGET": BANK, "OPTIONS": {"start": 5}}) == [
        (
            "itkit.E003",
            f"{PLACE} has OPTIONS, which are those of a FAKE, and none.",
            "Name the class that takes them as FAKE, or remove them.",
        )
    ]


def test_the_settings_name_it():
    entry = {"TARGET": BANK, "FAKE": f"{__name__}.FakeBank", "OPTIONS": {"start": 100}}
    with override_settings(ITKIT={"BACKENDS": {"bank": entry}}):
        registry = Registry.from_settings()
    registry.swap()
    try:
        assert Bank("x").pay("a", 1) == 101
    finally:
        registry.restore()

"""A user's application as the tests of the fakes need it: gateways that must never really run."""

import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol, runtime_checkable


class ReallyCalledError(Exception):
    """A real backend was reached."""


class HttpGateway:
    def ping(self) -> str:
        raise ReallyCalledError


class StripeGateway(HttpGateway):
    def __init__(self, key: str = "sk_test") -> None:
        self.key = key

    def charge(self, amount: int, token: str, *, currency: str = "eur") -> str:
        raise ReallyCalledError

    def refund(self, amount: int, reason=None):
        raise ReallyCalledError

    def notify(self, lines: list, **options) -> "None":
        raise ReallyCalledError

    def get_calls(self, day: str) -> list:
        raise ReallyCalledError

    @staticmethod
    def version(short: bool = False) -> str:
        raise ReallyCalledError

    @classmethod
    def from_env(cls, name: str) -> "StripeGateway":
        raise ReallyCalledError

    @functools.lru_cache(maxsize=1)  # noqa: B019 - what is tested
    def rates(self, base: str) -> dict:
        raise ReallyCalledError

    @property
    def account(self) -> str:
        """The account in use."""
        return f"acct of {self.key}"

    @account.setter
    def account(self, value: str) -> None:
        self.key = value

    def payouts(self, year: int) -> Iterator[str]:
        yield "real"
        raise ReallyCalledError

    @contextmanager
    def session(self, name: str) -> Iterator[str]:
        raise ReallyCalledError
        yield

    def __call__(self, question: str) -> str:
        raise ReallyCalledError

    def __enter__(self) -> "StripeGateway":
        raise ReallyCalledError

    def __exit__(self, *args: object) -> None:
        raise ReallyCalledError

    def __len__(self) -> int:
        return 42

    def _connect(self) -> str:
        return "private and real"


class AsyncGateway:
    async def charge(self, amount: int, token: str = "tok") -> str:
        raise ReallyCalledError

    async def notify(self, text: str) -> None:
        raise ReallyCalledError

    async def payouts(self, year: int) -> AsyncIterator[str]:
        yield "real"
        raise ReallyCalledError

    @asynccontextmanager
    async def session(self) -> AsyncIterator[str]:
        raise ReallyCalledError
        yield

    async def __aenter__(self) -> "AsyncGateway":
        raise ReallyCalledError

    async def __aexit__(self, *args: object) -> None:
        raise ReallyCalledError


class LoudGateway(StripeGateway):
    """A subclass of the application's, which is real and calls up."""

    def charge(self, amount: int, token: str, *, currency: str = "eur") -> str:
        return f"loud {super().charge(amount, token, currency=currency)}"


class PickyMeta(type):
    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError("no attribute of this class may be set")


class PickyGateway(metaclass=PickyMeta):
    def charge(self, amount: int) -> str:
        raise ReallyCalledError


class SlottedGateway:
    __slots__ = ("key",)

    def charge(self, amount: int) -> str:
        raise ReallyCalledError


def geocode(address: str, *, country: str = "AT") -> tuple[float, float]:
    raise ReallyCalledError


async def locate(address: str) -> tuple[float, float]:
    raise ReallyCalledError


def pages(first: int) -> Iterator[str]:
    yield "real"
    raise ReallyCalledError


async def live_pages(first: int) -> AsyncIterator[str]:
    yield "real"
    raise ReallyCalledError


def _with_closure(first: int, second: int):
    def convert(amount: int, rate: int = 3) -> int:
        return first + second + amount + rate

    return convert


convert = _with_closure(1, 2)


@functools.cache
def cached(address: str) -> str:
    raise ReallyCalledError


class Constants:
    LIMIT = 5


limit = 5

gateway = StripeGateway()  # a singleton, made before any swap


class IPaymentGateway(ABC):
    @abstractmethod
    def charge_card(self, amount: int, token: str) -> str: ...

    @property
    @abstractmethod
    def currency(self) -> str: ...


class IEmailService(ABC):
    @abstractmethod
    def send_email(self, to: str, subject: str = "", body: str = "") -> bool: ...

    @abstractmethod
    def send_welcome_email(self, email: str) -> bool: ...


@runtime_checkable
class ShippingProvider(Protocol):
    carrier: str

    def create_shipment(self, order_id: int) -> str: ...

    async def track(self, number: str) -> str: ...


class Sms(Protocol):
    def send(self, to: str, text: str) -> None: ...

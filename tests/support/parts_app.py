"""Clients whose methods lie in parts, made in every way that Python allows."""

import contextlib
import functools
import types
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class ReallyCalledError(Exception):
    """A real client was reached."""


class Charges:
    limit = 100

    def create(self, amount: int, *, currency: str = "eur") -> str:
        raise ReallyCalledError

    async def acreate(self, amount: int) -> str:
        raise ReallyCalledError

    def pages(self, first: int):
        yield "real"
        raise ReallyCalledError

    @contextlib.contextmanager
    def session(self):
        raise ReallyCalledError
        yield

    @staticmethod
    def version() -> str:
        raise ReallyCalledError

    @classmethod
    def default(cls, name: str) -> str:
        raise ReallyCalledError

    @property
    def currency(self) -> str:
        return "eur"

    def __enter__(self):
        raise ReallyCalledError

    def __exit__(self, *args):
        raise ReallyCalledError

    def __iter__(self):
        raise ReallyCalledError

    def __getitem__(self, key):
        raise ReallyCalledError

    def __len__(self):
        return 42


def http_get(url: str, query: str) -> str:
    raise ReallyCalledError


def new_charges():
    return Charges()


class SetInInit:
    def __init__(self):
        self.charges = Charges()


class MadeByAFunction:
    def __init__(self):
        self.charges = new_charges()


class GivenToInit:
    def __init__(self, charges):
        self.charges = charges


class SetByName:
    def __init__(self):
        for name in ("charges", "refunds"):
            setattr(self, name, Charges())


class SetInItsDict:
    def __init__(self):
        self.__dict__.update(charges=Charges())


class SetInNew:
    def __new__(cls):
        made = object.__new__(cls)
        made.charges = Charges()
        return made


class SetLater:
    def __init__(self):
        self.charges = None

    def _connect(self):
        self.charges = Charges()


class Cached:
    @functools.cached_property
    def charges(self):
        return Charges()


class Computed:
    def __init__(self):
        self._charges = Charges()

    @property
    def charges(self):
        return self._charges


class Resource:
    def __get__(self, owner, kind=None):
        return Charges()


class Described:
    charges = Resource()


class Slotted:
    __slots__ = ("charges",)

    def __init__(self):
        self.charges = Charges()


class Named(NamedTuple):
    charges: Charges
    name: str = "named"


@dataclass
class Data:
    charges: Charges = field(default_factory=Charges)
    name: str = "data"


@dataclass(frozen=True)
class Frozen:
    charges: Charges = field(default_factory=Charges)


class InItsClass:
    charges = Charges()


class AnyName:
    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return Charges()


class AnyAttribute:
    def __getattribute__(self, name):
        return Charges() if name == "charges" else object.__getattribute__(self, name)


class Base:
    def ping(self):
        raise ReallyCalledError


class Below(Base):
    def __init__(self):
        super().__init__()
        self.charges = Charges()


CLIENTS = {
    "set in __init__": (SetInInit, SetInInit),
    "made by a function": (MadeByAFunction, MadeByAFunction),
    "given to __init__": (GivenToInit, lambda: GivenToInit(Charges())),
    "setattr": (SetByName, SetByName),
    "__dict__": (SetInItsDict, SetInItsDict),
    "__new__": (SetInNew, SetInNew),
    "cached_property": (Cached, Cached),
    "property": (Computed, Computed),
    "descriptor": (Described, Described),
    "slots": (Slotted, Slotted),
    "NamedTuple": (Named, lambda: Named(Charges())),
    "dataclass": (Data, Data),
    "frozen dataclass": (Frozen, Frozen),
    "class attribute": (InItsClass, InItsClass),
    "__getattr__": (AnyName, AnyName),
    "__getattribute__": (AnyAttribute, AnyAttribute),
    "of a subclass": (Base, Below),
}
"""Of each kind the class that is faked, and what makes an object with ``charges``."""


class Functions:
    find = functools.partial(http_get, "https://class.example")
    sent = staticmethod(functools.partial(http_get, "https://static.example"))

    def __init__(self):
        self._charges = Charges()
        self.lookup = functools.partial(http_get, "https://object.example")
        self.ask = lambda query: http_get("https://lambda.example", query)
        self.create = self._charges.create
        self.send = self._send
        self.fetch = http_get

    def _send(self, query):
        raise ReallyCalledError


class MultiCallable:
    """As those of gRPC."""

    def __call__(self, request, timeout=None):
        raise ReallyCalledError

    def future(self, request):
        raise ReallyCalledError


class Channel:
    def unary_unary(self, path):
        return MultiCallable()


class GreeterStub:
    def __init__(self, channel):
        self.SayHello = channel.unary_unary("/Greeter/SayHello")


class Containers:
    def __init__(self):
        self.by_name = {"charges": Charges()}
        self.by_number = [Charges()]
        self.space = types.SimpleNamespace(charges=Charges())


class Nesting:
    class Charges:
        @staticmethod
        def create(amount: int) -> str:
            raise ReallyCalledError

        def refund(self, amount: int) -> str:
            raise ReallyCalledError

    class CardError(Exception):
        pass


class Lines:
    def __iter__(self):
        return self

    def __next__(self):
        raise ReallyCalledError


class AsyncLines:
    def __aiter__(self):
        return self

    async def __anext__(self):
        raise ReallyCalledError


class Table:
    def __getitem__(self, key):
        raise ReallyCalledError


class Deep:
    @functools.cached_property
    def chat(self):
        return DeepChat()


class DeepChat:
    def __init__(self):
        self.messages = DeepMessages()


class DeepMessages:
    @property
    def charges(self):
        return Charges()


class Colour(Enum):
    RED = "red"


class Policy:
    def __init__(self):
        self.attempts = 1

    def configure(self, attempts):
        self.attempts = attempts
        return attempts


class Configured:
    """Its constructor uses a part, and keeps values beside it."""

    def __init__(self):
        self.policy = Policy()
        self.attempts = self.policy.configure(3)
        self.colour = Colour.RED
        self.names = ["a", "b"]
        self.options = {"timeout": 3}
        self.error = ValueError("kept")

    def ping(self):
        raise ReallyCalledError

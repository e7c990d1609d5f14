"""The parts of a client: ``client.chat.completions.create`` is a method of a part of a part.

A part is an object with public methods, or a function, that a client holds. The real constructors
make the real client and its parts. Code that reads a part from the client gets a proxy instead,
which looks like the part. The client's fake answers the methods of the proxy, and records them
under their whole name. Values are no parts. Objects of Python's and Django's classes are none
either: they are isolated in other ways, or the network guard notices them.
"""

import copy
import functools
import sys
import threading
import weakref
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from functools import partial
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any, Final

from itkit.core.text import did_you_mean
from itkit.exceptions import UnknownMethodError
from itkit.fakes.classes.members import (
    REPLACED,
    SPECIAL_METHODS,
    Member,
    called_member,
    is_descriptor,
    members_of,
)
from itkit.fakes.fake import Fake
from itkit.fakes.snapshots import IMMUTABLE
from itkit.fakes.swap.replacements import called_replacement, replacement
from itkit.fakes.swap.stored import stored_names
from itkit.timeline import core

_REACHING: Final = frozenset({"ftplib", "http", "imaplib", "poplib", "smtplib", "urllib", "xmlrpc"})
_STANDARD: Final = sys.stdlib_module_names - _REACHING
_ISOLATED: Final = frozenset(
    {"celery", "django", "django_redis", "itkit", "kombu", "psycopg", "pytest", "redis", "valkey"}
)
"""Packages whose objects are no parts, nor those of their subclasses."""
_OF_DATA: Final = frozenset({"attr", "pydantic"})
"""Packages whose own methods make no part of an object: they describe data."""
ROUTINES: Final = (
    BuiltinFunctionType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    functools.partial,
    type(functools.cache(len)),
)
_CONTAINERS: Final = (dict, list, tuple)
_NAMED: Final = type(vars(namedtuple("Named", ["item"]))["item"])
_PEEKED: Final = 50  # items of a container
_OF_ALL: Final = frozenset(vars(object)) | {
    "__class_getitem__",
    "__del__",
    "__getattr__",
    "__init_subclass__",
    "__set_name__",
    "__slots__",
}
_building = threading.local()
_swapped: list[type] = []


def is_part(value: Any) -> bool:
    """Return whether calls of a value that a client holds may leave the process."""
    kind: Any = type(value)  # mypy does not know that a class is hashable
    if kind in IMMUTABLE or issubclass(kind, Proxy):
        return False
    if issubclass(kind, ROUTINES):
        return _is_foreign_routine(value)
    if issubclass(kind, ModuleType):
        return is_foreign(value.__name__)
    return has_methods(kind) or _holds_parts(value)


def _is_foreign_routine(value: Any) -> bool:
    if isinstance(value, functools.partial):
        return _is_foreign_routine_or_part(value.func)
    function = getattr(value, "__wrapped__", value)
    if getattr(function, REPLACED, None) is not None:
        return False  # it is faked by its own backend
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType | type):
        return is_foreign(type(owner).__module__)
    return is_foreign(getattr(function, "__module__", None))


def _is_foreign_routine_or_part(value: Any) -> bool:
    return isinstance(value, type) or is_part(value)


@functools.lru_cache(maxsize=4096)
def has_methods(kind: type) -> bool:
    """Return whether objects of a class have public methods that may reach out."""
    roots = [_root(base.__module__) for base in kind.__mro__]
    if issubclass(kind, BaseException | Enum | type) or not _ISOLATED.isdisjoint(roots):
        return False
    return any(
        root not in _STANDARD | _OF_DATA and defines_methods(base)
        for base, root in zip(kind.__mro__, roots, strict=True)
    )


def defines_methods(kind: type) -> bool:
    """Return whether a class has public methods that it has not inherited."""
    return any(_is_method(name, raw) for name, raw in vars(kind).items())


def _is_method(name: str, raw: Any) -> bool:
    if name in ("__getattr__", "__call__"):
        return True
    if (name.startswith("_") and name not in SPECIAL_METHODS) or isinstance(raw, type):
        return False
    stores = isinstance(raw, GetSetDescriptorType | MemberDescriptorType | _NAMED)
    return callable(raw) or (is_descriptor(raw) and not stores)


def _holds_parts(value: Any) -> bool:
    """Return whether a container, or an object without methods, holds parts."""
    if isinstance(value, dict):
        held = list(value.values())
    elif isinstance(value, list | tuple):
        held = list(value)
    elif _root(type(value).__module__) in _STANDARD - {"types"} | _ISOLATED:
        return False
    else:
        held = list(getattr(value, "__dict__", {}).values())
    return any(_is_client(item) for item in held[:_PEEKED])


def _is_client(value: Any) -> bool:
    kind: Any = type(value)
    return has_methods(kind)


def is_foreign(module: str | None) -> bool:
    """Return whether code of a module may reach out, and nothing else isolates it."""
    return _root(module) not in _STANDARD | _ISOLATED


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


def add_swapped(real: type) -> None:
    """Note that a class is swapped itself, so that its objects are no parts of another client."""
    _swapped.append(real)


def remove_swapped(real: type) -> None:
    """Note that a class is not swapped any more."""
    if real in _swapped:
        _swapped.remove(real)


def is_swapped(kind: type) -> bool:
    """Return whether a class, or a base of it, is swapped itself."""
    return any(base in _swapped for base in kind.__mro__)


@contextmanager
def under_construction(owner: object) -> Iterator[None]:
    """Let an object read its own real parts, within a block in this thread."""
    building: list[int] = _building.__dict__.setdefault("objects", [])
    building.append(id(owner))
    try:
        yield
    finally:
        building.pop()


def is_under_construction(owner: object) -> bool:
    """Return whether the real constructor of an object is running in this thread."""
    return id(owner) in getattr(_building, "objects", ())


class Parts:
    """The parts of the clients of one fake.

    Args:
        fake: answers the calls of the parts' methods.

    Attributes:
        backend: the name of the fake.
        seen: the classes of the parts that objects have shown, by the names of the parts.
    """

    def __init__(self, fake: Fake) -> None:
        self.backend = fake.name
        self._fake = fake
        self._made: weakref.WeakValueDictionary[tuple[str, int], Any] = (
            weakref.WeakValueDictionary()
        )
        self._standing: dict[tuple[str, type], dict[str, Any]] = {}
        self.seen: dict[str, type] = {}

    def connect(self) -> None:
        """Make the fake replace the parts that its properties return."""
        self._fake.wrap = self.wrap

    def wrap(self, name: str, value: Any) -> Any:
        """Return the proxy of a part that was read; return any other value as it is.

        Args:
            name: the name of the part, below that of the backend.
            value: the value that was read.
        """
        if not is_part(value) or is_swapped(type(value)):
            return value
        made = self._made.get((name, id(value)))
        if made is None:
            made = self._new(name, value)
            self._made[name, id(value)] = made
        return made

    def standing(self, name: str, kind: Any) -> dict[str, Any]:
        """Return the replacements of the methods of a part, by their names.

        Args:
            name: the name of the part.
            kind: the class of the object.
        """
        found = self._standing.get((name, kind))
        if found is None:
            found = {}
            if has_methods(kind):
                for key, member in members_of(kind).items():
                    found[key] = self._standing_for(name, key, member)
            self._standing[name, kind] = found
        return found

    def _new(self, name: str, value: Any) -> Any:
        if isinstance(value, ROUTINES):
            return called_replacement(self._fake.method(name, called_member(name, value)), value)
        if _is_client(value):
            self.seen[name] = type(value)
        self.check_names(f"{name}.", value)
        kind: Any = type(value)
        return _proxy_class(kind)(self, name, value)

    def _standing_for(self, name: str, key: str, member: Member) -> Any:
        whole = name if key == "__call__" else f"{name}.{key}"
        otherwise = member.otherwise
        if otherwise is not None and key in SPECIAL_METHODS:
            member = replace(member, otherwise=partial(self._outside, name, otherwise))
        method = self._fake.method(whole, replace(member, name=whole))
        return replacement(method)

    def _outside(self, name: str, otherwise: Callable[[Any], Any], owner: Any) -> Any:
        """Return the result of a special method; if that is the part itself, its proxy."""
        given = otherwise(owner)
        return self.wrap(name, owner) if given is owner else given

    def check_names(self, above: str, value: Any) -> None:
        """Check that the programmed methods exist, now that an object shows its names.

        Args:
            above: the beginning of the names of the object's methods, after that of the backend.
            value: the object.

        Raises:
            UnknownMethodError: the real object has no such method.
        """
        if not self._fake.programmed or isinstance(value, _CONTAINERS):
            return
        kind: Any = type(value)
        for method in list(self._fake.programmed):
            whole = method.member.name
            key = whole.removeprefix(above).partition(".")[0]
            if not whole.startswith(above) or key.startswith("_"):
                continue
            if hasattr(value, key) or key in stored_names(kind):
                continue
            known = [name for name in dir(value) if not name.startswith("_")]
            raise core.record_failure(
                UnknownMethodError(
                    f"{self.backend}.{above}{key} is programmed by the test, but the real object"
                    f" has no {key!r}. {did_you_mean(key, known)}"
                )
            )


class Proxy:
    """Looks like a part of a real client; the client's fake answers its methods."""

    _itkit_is_part: Final = True
    __slots__ = ("__weakref__", "_itkit_name", "_itkit_parts", "_itkit_real")

    _itkit_name: str
    _itkit_parts: Parts
    _itkit_real: Any

    def __init__(self, parts: Parts, name: str, real: Any) -> None:
        set_own = object.__setattr__
        set_own(self, "_itkit_parts", parts)
        set_own(self, "_itkit_name", name)
        set_own(self, "_itkit_real", real)

    @property  # type: ignore[misc]  # so that isinstance() says what it says of the real part
    def __class__(self) -> type:
        return type(self._itkit_real)

    def __getattr__(self, name: str) -> Any:
        real, parts, own = self._itkit_real, self._itkit_parts, self._itkit_name
        kind = type(real)
        if name.startswith("_"):
            return getattr(real, name)
        if isinstance(real, _CONTAINERS) and name in _GIVING:
            return partial(_GIVING[name], self)
        standing = parts.standing(own, kind).get(name)
        if standing is not None and (
            isinstance(standing, property) or name not in getattr(real, "__dict__", {})
        ):
            return standing.__get__(real, kind)
        return parts.wrap(f"{own}.{name}", getattr(real, name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._itkit_real, name, real_of(value))

    def __delattr__(self, name: str) -> None:
        delattr(self._itkit_real, name)

    def __dir__(self) -> list[str]:
        return dir(self._itkit_real)

    def __repr__(self) -> str:
        return f"<the fake {self._itkit_parts.backend}.{self._itkit_name} of {self._itkit_real!r}>"

    def __str__(self) -> str:
        return str(self._itkit_real)

    def __format__(self, specification: str) -> str:
        return format(self._itkit_real, specification)

    def __eq__(self, other: object) -> bool:
        return bool(self._itkit_real == real_of(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._itkit_real)

    def __copy__(self) -> Any:
        return self._itkit_parts.wrap(self._itkit_name, copy.copy(self._itkit_real))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._itkit_parts.wrap(self._itkit_name, copy.deepcopy(self._itkit_real, memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._itkit_real.__reduce_ex__(protocol)


def real_of(value: Any) -> Any:
    """Return the real object behind a part; any other value is returned as it is."""
    return object.__getattribute__(value, "_itkit_real") if type(value) in _PROXIES else value


_PROXIES: "weakref.WeakSet[type]" = weakref.WeakSet()


@functools.lru_cache(maxsize=4096)
def _proxy_class(kind: Any) -> type[Proxy]:
    """Return the class of proxies for the objects of a class, with its special methods."""
    namespace: dict[str, Any] = {"__slots__": (), "__module__": kind.__module__}
    faked = set(members_of(kind)) if has_methods(kind) else set()
    for name in dir(kind):
        if not (name.startswith("__") and name.endswith("__")) or name in _OF_ALL:
            continue
        if name in faked:
            namespace[name] = _faked_special(name)
        elif name in _GIVING and issubclass(kind, _CONTAINERS):
            namespace[name] = _GIVING[name]
        elif callable(getattr(kind, name, None)):
            namespace[name] = _forwarding(name)
    made = type(f"Fake{kind.__name__}", (Proxy,), namespace)
    _PROXIES.add(made)
    return made


def _faked_special(name: str) -> Any:
    @property  # type: ignore[misc]  # Python looks a special method up in the class, and binds it
    def special(self: Proxy) -> Any:
        real = self._itkit_real
        return self._itkit_parts.standing(self._itkit_name, type(real))[name].__get__(
            real, type(real)
        )

    return special


def _forwarding(name: str) -> Callable[..., Any]:
    def forward(self: Proxy, /, *args: Any, **kwargs: Any) -> Any:
        given = [real_of(value) for value in args]
        return getattr(self._itkit_real, name)(*given, **kwargs)

    return forward


def _item(self: Proxy, key: Any) -> Any:
    return _wrapped(self, key, self._itkit_real[key])


def _items(self: Proxy) -> Iterator[tuple[Any, Any]]:
    return iter([(key, _wrapped(self, key, value)) for key, value in self._itkit_real.items()])


def _get(self: Proxy, key: Any, default: Any = None) -> Any:
    return _wrapped(self, key, self._itkit_real.get(key, default))


def _values(self: Proxy) -> Iterator[Any]:
    return iter([_wrapped(self, key, value) for key, value in self._itkit_real.items()])


def _iterated(self: Proxy) -> Iterator[Any]:
    real = self._itkit_real
    if isinstance(real, dict):
        return iter(real)
    return iter([_wrapped(self, key, value) for key, value in enumerate(real)])


def _wrapped(self: Proxy, key: Any, value: Any) -> Any:
    return self._itkit_parts.wrap(f"{self._itkit_name}.{key}", value)


_GIVING: Final[dict[str, Callable[..., Any]]] = {
    "__getitem__": _item,
    "__iter__": _iterated,
    "get": _get,
    "items": _items,
    "values": _values,
}
"""What gives the items of a container."""

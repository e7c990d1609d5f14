"""The members of a class that are faked: its public methods and properties, and their kinds."""

import contextlib
import enum
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import Signature
from types import FunctionType
from typing import Any

from asgiref.sync import iscoroutinefunction

from itkit.fakes.classes.signatures import Binder, compile_binder, compile_checker, signature_of

SPECIAL_METHODS = frozenset(
    {
        "__aenter__",
        "__aexit__",
        "__aiter__",
        "__anext__",
        "__call__",
        "__enter__",
        "__exit__",
        "__getitem__",
        "__iter__",
        "__next__",
    }
)
"""Of the special methods only these reach out; the others describe the object and stay real."""

_ENTERING = frozenset({"__aenter__", "__enter__"})
_EXITING = frozenset({"__aexit__", "__exit__"})
_ITERATING = {"__iter__": "__next__", "__aiter__": "__anext__"}
_IMMUTABLE_TYPE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE
_OF_CONTAINERS = frozenset({"__getitem__", "__iter__"})
_CACHED = {("functools", "cached_property"), ("django.utils.functional", "cached_property")}

REPLACED = "_itkit_member"
"""Attribute of what stands for a member: where one fake covers another, the real one is meant."""

Otherwise = Callable[[Any], Any]
"""Makes the answer of a call for which nothing is programmed, given the object called."""


class Kind(enum.Enum):
    """The kind of value that a call of a member returns."""

    PLAIN = enum.auto()
    COROUTINE = enum.auto()
    GENERATOR = enum.auto()
    ASYNC_GENERATOR = enum.auto()
    CONTEXT = enum.auto()
    ASYNC_CONTEXT = enum.auto()
    PROPERTY = enum.auto()


@dataclass(frozen=True)
class Member:
    """One public method or property of a real class, or a real function.

    Attributes:
        name: the name in the class.
        kind: the kind of value that a call returns.
        function: the real function, which has the signature; for a property, its getter.
        has_owner: whether it takes ``self`` or ``cls``.
        raw: the object in the class's ``__dict__``.
        otherwise: makes the answer of calls that are not programmed; None where only the test can
            know it.
        is_own: whether the class defines the member itself and does not inherit it.
        is_object: whether the member is an object that is called itself, and no function of a
            class.
    """

    name: str
    kind: Kind
    function: Callable[..., Any]
    has_owner: bool
    raw: Any
    otherwise: Otherwise | None
    is_own: bool = False
    is_object: bool = False

    @cached_property
    def bind(self) -> Binder:
        """A function with the real method's parameters that returns the arguments by name."""
        return compile_binder(self._full_name, self.signature, has_owner=self.has_owner)

    @cached_property
    def check(self) -> Callable[..., bool]:
        """A function with the real method's parameters; wrong arguments raise TypeError.

        It returns whether an argument can change.
        """
        return compile_checker(self._full_name, self.signature, has_owner=self.has_owner)

    @cached_property
    def signature(self) -> Signature:
        """The signature of the real method."""
        return signature_of(self.function)

    @cached_property
    def returned(self) -> Any:
        """The annotation of the return value; ``Any`` where none can be resolved."""
        try:
            return typing.get_type_hints(self.function).get("return", Any)
        except Exception:  # noqa: BLE001 - an annotation may be anything, also a name that is gone
            return Any

    @property
    def _full_name(self) -> str:
        return getattr(self.function, "__qualname__", self.name)

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by name, however they are passed; defaults are filled in.

        Raises:
            TypeError: the real method does not take them.
        """
        return self.bind(None, *args, **kwargs) if self.has_owner else self.bind(*args, **kwargs)


def members_of(real: type) -> dict[str, Member]:
    """Return the public members of a class by name, inherited ones too."""
    found = {name: _member(name, raw, real) for name, raw in _attributes(real)}
    members = {name: member for name, member in found.items() if member is not None}
    for iterating, stepping in _ITERATING.items():
        if iterating in members and stepping in members:
            members[iterating] = replace(members[iterating], otherwise=lambda owner: owner)
    return members


def attributes_of(interface: type) -> dict[str, Member]:
    """Return the attributes that an interface only declares, such as ``currency: str``."""
    names = {
        name
        for kind in interface.__mro__
        for name in inspect.get_annotations(kind)
        if not name.startswith("_") and not hasattr(interface, name)
    }
    return {name: _property(name, None) for name in sorted(names)}


def function_member(function: Callable[..., Any]) -> Member:
    """Return the member for a plain function."""
    known = getattr(function, REPLACED, None)
    return known or _method(function.__name__, _copied(function), function, has_owner=False)


def _copied(function: Any) -> Any:
    """Return a copy of a function, which stays real when the code of the original is replaced."""
    if not isinstance(function, FunctionType):
        return function
    copied = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(copied, function, updated=("__dict__",))


def _attributes(real: type) -> Iterator[tuple[str, Any]]:
    abstract: frozenset[str] = getattr(real, "__abstractmethods__", frozenset())
    merged: dict[str, Any] = {}
    for kind in reversed(real.__mro__):
        if not _describes_only(kind):
            merged.update(vars(kind))
    # An object that is a container itself holds data.
    special = SPECIAL_METHODS - (_OF_CONTAINERS if issubclass(real, Container) else frozenset())
    for name, raw in merged.items():
        if not name.startswith("_") or name in special or name in abstract:
            yield name, raw


def _describes_only(kind: type) -> bool:
    """Return whether a class is one of Python's own classes in C, such as object and dict."""
    is_written_in_c = bool(kind.__flags__ & _IMMUTABLE_TYPE)
    return is_written_in_c and kind.__module__.partition(".")[0] in sys.stdlib_module_names


def _member(name: str, raw: Any, real: type) -> Member | None:
    known = getattr(getattr(raw, "fget", raw), REPLACED, None)
    if isinstance(known, Member):
        return known
    if isinstance(raw, property):
        return _property(name, raw)
    is_own = name in vars(real)
    if isinstance(raw, staticmethod):
        return _method(name, _copied(raw.__func__), raw, has_owner=False, is_own=is_own)
    if isinstance(raw, classmethod):
        return _method(name, _copied(raw.__func__), raw, has_owner=True, is_own=is_own)
    # Whatever binds itself to an instance is a method: functools.lru_cache and partialmethod
    # make such objects, and so do many decorators.
    function = _bound_to_class(raw, real)
    if function is not None and callable(function) and not isinstance(function, type):
        return _method(name, _copied(function), raw, has_owner=True, is_own=is_own)
    return _reading(name, raw) if _computes(raw) else None


def is_descriptor(raw: Any) -> bool:
    """Return whether an attribute of a class is a descriptor, which decides what is read.

    Before Python 3.14 a partial in a class is no method; the ``__get__`` that it has in 3.13 only
    warns of the change.
    """
    if isinstance(raw, functools.partial) and sys.version_info < (3, 14):
        return False
    return hasattr(type(raw), "__get__")


def _computes(raw: Any) -> bool:
    """Return whether a descriptor computes the value that is read, and does not only store it."""
    kind = type(raw)
    if not is_descriptor(raw) or isinstance(raw, type):
        return False
    root = kind.__module__.partition(".")[0]
    of_frameworks = root == "django" or root in sys.stdlib_module_names
    return not of_frameworks or any(
        (base.__module__, base.__qualname__) in _CACHED for base in kind.__mro__
    )


def _reading(name: str, raw: Any) -> Member:
    """Return the member for a descriptor that is read, such as a cached property."""

    def getter(owner: Any) -> Any:
        stored = getattr(owner, "__dict__", {})
        if name in stored and not hasattr(type(raw), "__set__"):
            return stored[name]
        return raw.__get__(owner, type(owner))

    computing = getattr(raw, "func", None)
    function = functools.wraps(computing)(getter) if inspect.isfunction(computing) else getter
    return Member(name, Kind.PROPERTY, function, has_owner=True, raw=raw, otherwise=function)


def _bound_to_class(raw: Any, real: type) -> Any:
    try:
        return raw.__get__(None, real) if is_descriptor(raw) else None
    except AttributeError:  # a descriptor for instances only, such as the name of an Enum's member
        return None


def _property(name: str, raw: property | None) -> Member:
    getter = raw.fget if raw and raw.fget else lambda self: None
    is_abstract = getattr(getter, "__isabstractmethod__", False)
    otherwise = None if raw is None or is_abstract else getter
    return Member(name, Kind.PROPERTY, getter, has_owner=True, raw=raw, otherwise=otherwise)


def _method(
    name: str, function: Callable[..., Any], raw: Any, *, has_owner: bool, is_own: bool = False
) -> Member:
    otherwise = _otherwise(name, function)
    return Member(name, _kind(function), function, has_owner, raw, otherwise, is_own)


def unknown_member(name: str) -> Member:
    """Return a member for a name that no object has shown yet; it takes any arguments."""

    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    unknown.__qualname__ = name
    return Member(name, Kind.PLAIN, unknown, has_owner=False, raw=None, otherwise=None)


def called_member(name: str, value: Callable[..., Any]) -> Member:
    """Return the member for an object that is called itself, such as a partial.

    Args:
        name: the name by which its calls are recorded.
        value: the object.
    """
    return replace(_method(name, value, value, has_owner=False), is_object=True)


def _kind(function: Callable[..., Any]) -> Kind:
    code = getattr(function, "__code__", None)
    if code is _CONTEXT_CODE:
        return Kind.CONTEXT
    if code is _ASYNC_CONTEXT_CODE:
        return Kind.ASYNC_CONTEXT
    if inspect.isgeneratorfunction(function):
        return Kind.GENERATOR
    if inspect.isasyncgenfunction(function):
        return Kind.ASYNC_GENERATOR
    # The wrapper that a decorator puts around a coroutine function is often a plain function.
    if iscoroutinefunction(function) or iscoroutinefunction(inspect.unwrap(function)):
        return Kind.COROUTINE
    return Kind.PLAIN


def _otherwise(name: str, function: Callable[..., Any]) -> Otherwise | None:
    if name in _ENTERING:
        return lambda owner: owner
    if name in _EXITING or signature_of(function).return_annotation in (None, "None"):
        return lambda _owner: None
    return None


def _nothing() -> Iterator[None]:
    yield


# contextlib makes all these functions from one code object, which no other function has.
_CONTEXT_CODE = contextlib.contextmanager(_nothing).__code__
_ASYNC_CONTEXT_CODE = contextlib.asynccontextmanager(_nothing).__code__  # type: ignore[arg-type]  # only its code

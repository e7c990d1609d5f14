"""Replacements of a class's methods, of the same signature and kind, which a fake answers."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial, wraps
from typing import Any

from asgiref.sync import markcoroutinefunction

from itkit.fakes.calls import Call
from itkit.fakes.classes.members import REPLACED, Kind, Member
from itkit.fakes.fake import Entered
from itkit.fakes.methods import Method
from itkit.timeline import core

Performer = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Answers a call of an object, None for what takes none, given its arguments unopened."""


def replacement(method: Method) -> Any:
    """Return the replacement of a real method in the ``__dict__`` of its class."""
    member, perform = method.member, performer(method)
    if not member.has_owner:
        return staticmethod(_unowned(member, perform))

    def function(owner: Any, /, *args: Any, **kwargs: Any) -> Any:
        return perform(owner, args, kwargs)

    is_plain = member.kind is Kind.PLAIN and not method.called_by_library
    alike = _like(member, method.recording() if is_plain else function)
    if member.kind is Kind.PROPERTY:
        return _property(method, alike)
    return classmethod(alike) if isinstance(member.raw, classmethod) else alike


def mock_replacement(member: Member, method_of: Callable[[Any], Method]) -> Any:
    """Return the replacement of a member in the class of a mock.

    It always takes the object, even for static methods, as each mock has a fake of its own.
    """
    perform_on = _PERFORMERS[member.kind]

    def function(owner: Any, /, *args: Any, **kwargs: Any) -> Any:
        return perform_on(method_of(owner), owner, args, kwargs)

    alike = _like(member, function)
    return property(alike) if member.kind is Kind.PROPERTY else alike


def called_replacement(method: Method, value: Any) -> Callable[..., Any]:
    """Return the replacement of a function that a client holds, or of an object that is called."""
    perform = performer(method)

    def function(*args: Any, **kwargs: Any) -> Any:
        return perform(value, args, kwargs)

    return _like(method.member, function)


def performer(method: Method) -> Performer:
    """Return the function that answers the calls of a method, for use by its replacement."""
    perform = _PERFORMERS[method.member.kind]
    return perform.__get__(method, Method)  # type: ignore[no-any-return]  # bound, as fast as can be


def _unowned(member: Member, perform: Performer) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        return perform(None, args, kwargs)

    return _like(member, function)


def _property(method: Method, get: Callable[..., Any]) -> property:
    raw = method.member.raw
    if isinstance(raw, property):
        return property(get, raw.fset, raw.fdel, raw.__doc__)
    return property(get) if raw is None else PartReading(method, get)


class PartReading(property):
    """Replaces a descriptor that is no property, such as a cached property.

    Args:
        method: records the reading, and answers.
        get: reads the value by the real descriptor.

    Attributes:
        raw: the real descriptor.
    """

    def __init__(self, method: Method, get: Callable[[Any], Any]) -> None:
        raw, name = method.member.raw, method.member.name.rpartition(".")[2]
        if hasattr(type(raw), "__set__"):
            super().__init__(get, raw.__set__, raw.__delete__, raw.__doc__)
        else:
            store = partial(_store, name)
            super().__init__(get, store, partial(_forget, name), raw.__doc__)
        self.raw = raw
        self._method = method

    def __get__(self, owner: Any, kind: type | None = None, /) -> Any:
        if owner is None:
            return self._method.outside(self.raw.__get__(None, kind))
        return super().__get__(owner, kind)


def _store(name: str, owner: Any, value: Any) -> None:
    vars(owner)[name] = value


def _forget(name: str, owner: Any) -> None:
    try:
        del vars(owner)[name]
    except KeyError:
        raise AttributeError(name) from None


def _like(member: Member, function: Callable[..., Any]) -> Callable[..., Any]:
    function = wraps(member.function)(function)
    # This attribute, copied from an abstract method, would keep the class from being instantiated.
    vars(function).pop("__isabstractmethod__", None)
    vars(function)[REPLACED] = member
    return markcoroutinefunction(function) if member.kind is Kind.COROUTINE else function


# Coroutines and generators run their first line when they are first awaited or iterated, not when
# they are called; so they are recorded then. Arguments are checked at once, as the real ones do.

_UP_TO_THE_CALLER = 3  # the frames of the functions below and of the replacement


def _made(method: Method, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """Return a call that will happen; the test fails if it never does."""
    call = method.begin(owner, args, kwargs, _UP_TO_THE_CALLER)
    core.own_timeline().made.append(call)
    return call


def _coroutine(method: Method, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _made(method, owner, args, kwargs)
    coroutine: Any = method.reply_async(call, owner, args, kwargs)
    # Python's warning about a forgotten await shows this name.
    coroutine.__qualname__ = method.member.function.__qualname__
    return coroutine


def _generator(method: Method, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _made(method, owner, args, kwargs)
    return _generated(method, call, owner, args, kwargs)


def _generated(
    method: Method, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[Any]:
    yield from method.reply(call, owner, args, kwargs)


def _async_generator(
    method: Method, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    call = _made(method, owner, args, kwargs)
    return _generated_async(method, call, owner, args, kwargs)


async def _generated_async(
    method: Method, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncIterator[Any]:
    values = await method.reply_async(call, owner, args, kwargs)
    if hasattr(values, "__aiter__"):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


def _context(method: Method, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _made(method, owner, args, kwargs)
    return _entered(method, call, owner, args, kwargs)


@contextmanager
def _entered(
    method: Method, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[Any]:
    value = method.reply(call, owner, args, kwargs)
    if isinstance(value, Entered):
        with value.manager as entered:
            yield entered
    else:
        yield value


def _async_context(
    method: Method, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    call = _made(method, owner, args, kwargs)
    return _entered_async(method, call, owner, args, kwargs)


@asynccontextmanager
async def _entered_async(
    method: Method, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncIterator[Any]:
    value = await method.reply_async(call, owner, args, kwargs)
    if isinstance(value, Entered):
        async with value.manager as entered:
            yield entered
    else:
        yield value


_PERFORMERS: dict[Kind, Any] = {
    Kind.PLAIN: Method.perform,
    Kind.PROPERTY: Method.read,
    Kind.COROUTINE: _coroutine,
    Kind.GENERATOR: _generator,
    Kind.ASYNC_GENERATOR: _async_generator,
    Kind.CONTEXT: _context,
    Kind.ASYNC_CONTEXT: _async_context,
}

"""What stands in a class for its real methods: the same signature and kind, answered by a fake."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import wraps
from typing import Any

from asgiref.sync import markcoroutinefunction

from itkit.fakes.calls import Call
from itkit.fakes.fake import Fake
from itkit.fakes.members import REPLACED, Kind, Member

FakeOf = Callable[[Any], Fake]
"""Gives the fake that answers for an object: one for a swapped class, its own for a mock."""

_Performer = Callable[[Fake, Call, Any, tuple[Any, ...], dict[str, Any]], Any]


def replacement(member: Member, fake_of: FakeOf) -> Any:
    """Return what replaces a member in the ``__dict__`` of its class."""
    if member.kind is Kind.PROPERTY:
        return _property(member, fake_of)
    if isinstance(member.raw, classmethod):
        return classmethod(_owned(member, fake_of))
    if member.has_owner:
        return _owned(member, fake_of)
    return staticmethod(_unowned(member, fake_of))


def mock_replacement(member: Member, fake_of: FakeOf) -> Any:
    """Return what stands for a member in the class of a mock.

    It always takes the object, for each has a fake of its own: static methods too.
    """
    function = _owned(member, fake_of)
    return property(function) if member.kind is Kind.PROPERTY else function


def _owned(member: Member, fake_of: FakeOf) -> Callable[..., Any]:
    """Return a function for a member that takes ``self`` or ``cls``, or is to take it."""
    perform = _PERFORMERS[member.kind]

    def function(owner: Any, /, *args: Any, **kwargs: Any) -> Any:
        fake = fake_of(owner)
        return perform(fake, fake.begin(member, owner, args, kwargs), owner, args, kwargs)

    return _like(member, function)


def answerer(member: Member, fake: Fake) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Return what answers the calls of a function, given its arguments unopened."""
    perform = _PERFORMERS[member.kind]

    def answer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return perform(fake, fake.begin(member, None, args, kwargs), None, args, kwargs)

    return answer


def _unowned(member: Member, fake_of: FakeOf) -> Callable[..., Any]:
    answer = answerer(member, fake_of(None))

    def function(*args: Any, **kwargs: Any) -> Any:
        return answer(args, kwargs)

    return _like(member, function)


def _property(member: Member, fake_of: FakeOf) -> property:
    get = _owned(member, fake_of)
    if isinstance(member.raw, property):
        return property(get, member.raw.fset, member.raw.fdel, member.raw.__doc__)
    return property(get)


def _like(member: Member, function: Callable[..., Any]) -> Callable[..., Any]:
    function = wraps(member.function)(function)
    # Copied from an abstract method, it would keep the class from being instantiated.
    vars(function).pop("__isabstractmethod__", None)
    vars(function)[REPLACED] = member
    return markcoroutinefunction(function) if member.kind is Kind.COROUTINE else function


# Coroutines and generators run their first line when they are first awaited or iterated, not
# when they are called; so they are recorded then. Arguments are checked at once, as in the real.


def _coroutine(
    fake: Fake, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    coroutine: Any = fake.perform_async(call, owner, args, kwargs)
    # Python's warning about a forgotten await shows this name.
    coroutine.__qualname__ = call.member.function.__qualname__
    return coroutine


def _generator(
    fake: Fake, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[Any]:
    yield from fake.perform(call, owner, args, kwargs)


async def _async_generator(
    fake: Fake, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncIterator[Any]:
    values = await fake.perform_async(call, owner, args, kwargs)
    if hasattr(values, "__aiter__"):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


@contextmanager
def _context(
    fake: Fake, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[Any]:
    yield fake.perform(call, owner, args, kwargs)


@asynccontextmanager
async def _async_context(
    fake: Fake, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncIterator[Any]:
    yield await fake.perform_async(call, owner, args, kwargs)


_PERFORMERS: dict[Kind, _Performer] = {
    Kind.PLAIN: Fake.perform,
    Kind.PROPERTY: Fake.perform,
    Kind.COROUTINE: _coroutine,
    Kind.GENERATOR: _generator,
    Kind.ASYNC_GENERATOR: _async_generator,
    Kind.CONTEXT: _context,
    Kind.ASYNC_CONTEXT: _async_context,
}

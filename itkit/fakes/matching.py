"""Decides which calls a test means: by all of their arguments, or by some."""

from collections.abc import Mapping
from types import FunctionType
from typing import Any

from itkit.core.text import did_you_mean
from itkit.exceptions import CallMismatchError
from itkit.fakes.answers import Condition
from itkit.fakes.classes.members import Member


def condition(
    name: str, member: Member, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Condition:
    """Return a function that checks some arguments of a call and ignores the others.

    Raises:
        CallMismatchError: the real method does not take one of these names.
    """
    expected = _some_arguments(name, member, args, kwargs)

    def holds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        got = member.arguments(args, kwargs)
        return all(_found(wanted, got, item) for item, wanted in expected.items())

    return holds


def matches(expected: Any, got: Any) -> bool:
    """Return whether an argument is what a test expects.

    A test expects a value, an object that defines its own equality, such as those of dirty-equals,
    or a function that returns whether an argument fits.
    """
    if isinstance(expected, FunctionType) and expected is not got:
        return bool(expected(got))
    return bool(expected == got)


def all_match(expected: Mapping[str, Any], got: Mapping[str, Any]) -> bool:
    """Return whether all arguments of a call are what a test expects."""
    return expected.keys() == got.keys() and all(
        matches(value, got[name]) for name, value in expected.items()
    )


def _some_arguments(
    name: str, member: Member, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    try:
        owner = (None,) if member.has_owner else ()
        bound = dict(member.signature.bind_partial(*owner, *args, **kwargs).arguments)
    except TypeError as error:
        known = [item for item in member.signature.parameters if item not in ("self", "cls")]
        unknown = next((item for item in kwargs if item not in known), "")
        raise CallMismatchError(
            f"{name} can never be called like this: {error}. {did_you_mean(unknown, known)}"
        ) from None
    if member.has_owner:
        bound.pop(next(iter(member.signature.parameters)), None)
    return bound


def _found(wanted: Any, got: Mapping[str, Any], item: str) -> bool:
    if isinstance(wanted, dict) and isinstance(got[item], dict):  # only some of the ** parameters
        return all(key in got[item] and matches(wanted[key], got[item][key]) for key in wanted)
    return matches(wanted, got[item])

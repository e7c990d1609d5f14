"""The values that a real method can return, by its annotation."""

import types
import typing
from decimal import Decimal
from typing import Any, Final

from itkit.fakes.classes.members import Kind, Member

UNKNOWN: Final = object()
"""Stands for a value where the annotation names none."""

_NEUTRAL: Final[tuple[type, ...]] = (bool, int, float, Decimal, str, bytes, list, tuple, dict, set)
_SINGLE: Final = frozenset({Kind.PLAIN, Kind.COROUTINE, Kind.PROPERTY})


def can_return(member: Member, value: Any) -> bool:
    """Return whether a real method may return a value; it may if it has no annotation."""
    return member.kind not in _SINGLE or _fits(member.returned, value)


def neutral(member: Member) -> Any:
    """Return a neutral value of the annotated type, such as an empty string, or ``UNKNOWN``."""
    return _neutral(member.returned) if member.kind in _SINGLE else UNKNOWN


def shown(member: Member) -> str:
    """Return the annotation as it is written in the source."""
    hint = member.returned
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _fits(hint: Any, value: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is typing.Union or origin is types.UnionType:
        return any(_fits(item, value) for item in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is typing.Annotated:
        return _fits(typing.get_args(hint)[0], value)
    kind = dict if typing.is_typeddict(hint) else origin or hint
    if kind is Any or not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return True
    return isinstance(value, int | float if kind is float else kind)


def _neutral(hint: Any) -> Any:
    if hint is types.NoneType or types.NoneType in typing.get_args(hint):
        return None
    kind = typing.get_origin(hint) or hint
    return kind() if kind in _NEUTRAL else UNKNOWN

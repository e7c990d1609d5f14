"""Copies of arguments, so that a record shows the values at the call and no later changes.

Containers and dataclasses are copied deeply; everything else, such as models, is kept as it is.
"""

import copy
import datetime
import decimal
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

IMMUTABLE: frozenset[type] = frozenset(
    {
        bool,
        bytes,
        complex,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        float,
        int,
        str,
        type(None),
        uuid.UUID,
    }
)
"""Types of values that cannot change."""

_SEQUENCES = (list, set, tuple, frozenset)
_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)


def are_immutable(values: Iterable[Any]) -> bool:
    """Return whether none of the values can change, which is true for most arguments."""
    for value in values:  # noqa: SIM110 - a generator would double the cost of every call
        if type(value) not in IMMUTABLE:
            return False
    return True


def snapshot(value: Any) -> Any:
    """Return a copy of the value, which later changes of its containers do not affect."""
    return _Copier().copy(value)


class _Copier:
    """Copies one value; remembers what it has copied, as a list may hold itself."""

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}

    def copy(self, value: Any) -> Any:
        kind = type(value)
        if kind in IMMUTABLE:
            return value
        if id(value) not in self._copies:
            self._copies[id(value)] = value
            self._copies[id(value)] = self._copy_of(value, kind)
        return self._copies[id(value)]

    def _copy_of(self, value: Any, kind: type[Any]) -> Any:
        if kind in _SEQUENCES:
            return kind(map(self.copy, value))
        if kind in _MAPPINGS:
            return self._mapping(value)
        if kind is deque:
            return deque(map(self.copy, value), value.maxlen)
        if kind is bytearray:
            return bytearray(value)
        if is_dataclass(value) and not isinstance(value, type):
            return self._dataclass(value)
        return value

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        copied: Any = copy.copy(value)
        for key, item in value.items():
            copied[key] = self.copy(item)
        return copied

    def _dataclass(self, value: Any) -> Any:
        copied = copy.copy(value)
        for item in fields(value):
            if hasattr(value, item.name):
                # A frozen dataclass refuses plain assignment.
                object.__setattr__(copied, item.name, self.copy(getattr(value, item.name)))
        return copied

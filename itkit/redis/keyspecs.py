"""Positions of keys in a command's arguments: the notation of ``itkit.redis.commands``.

Redis calls them key specifications, and describes them in the reply of ``COMMAND``.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Positions = Callable[[Sequence[Any]], Iterable[int]]

_RANGE = re.compile(r"(\d+)(?::(-?\d+)(?::(\d+))?)?")
_COUNTED = re.compile(r"(\d+)#(\d*)")
_BEHIND = re.compile(r"([A-Z]+)@(\d+)/(\d+)")


def parse(notation: str) -> Positions:
    """Return the function that finds the positions of the keys of given arguments."""
    finders = [_parse_one(part) for part in notation.split()]
    if len(finders) == 1:
        return finders[0]
    return lambda args: [position for find in finders for position in find(args)]


def word(arg: Any) -> str:
    """Return an argument in capitals, to compare it with the words of commands."""
    if isinstance(arg, bytes | bytearray | memoryview):
        return bytes(arg).decode("latin-1").upper()
    return str(arg).upper()


def _parse_one(part: str) -> Positions:
    if match := _RANGE.fullmatch(part):
        first = int(match[1])
        return _in_range(first, int(match[2] or first), int(match[3] or 1))
    if match := _COUNTED.fullmatch(part):
        return _counted(int(match[1]), int(match[2] or 1))
    if match := _BEHIND.fullmatch(part):
        return _behind(match[1], int(match[2]), int(match[3]))
    raise ValueError(f"{part!r} is not in the notation of itkit.redis.commands")


def _in_range(first: int, last: int, step: int) -> Positions:
    def find(args: Sequence[Any]) -> Iterable[int]:
        end = last if last >= 0 else len(args) + last
        return range(first, min(end, len(args) - 1) + 1, step)

    return find


def _counted(at: int, step: int) -> Positions:
    def find(args: Sequence[Any]) -> Iterable[int]:
        try:
            count = int(args[at])
        except (IndexError, TypeError, ValueError):
            return ()  # the server refuses such a command
        return range(at + 1, min(at + 1 + count * step, len(args)), step)

    return find


def _behind(keyword: str, start: int, share: int) -> Positions:
    def find(args: Sequence[Any]) -> Iterable[int]:
        for position in range(start, len(args)):
            if word(args[position]) == keyword:
                first = position + 1
                return range(first, first + (len(args) - first) // share)
        return ()

    return find

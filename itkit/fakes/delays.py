"""How long a fake takes to answer: really, or by a clock that the test has stopped."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

Clock = Callable[[float], object]
"""Moves a clock by a number of seconds."""


class Delay:
    """Some seconds before an answer.

    A call that is given a ``timeout`` of fewer seconds waits for these, and gets a
    ``TimeoutError``.

    Args:
        seconds: how many.
        virtual: whether nobody sleeps and only the call's record says how long it has taken; or
            what moves a clock that the test has stopped by so many seconds, such as ``shift`` of
            time-machine or ``tick`` of freezegun.

    Raises:
        TypeError: it is no number.
        ValueError: it is below 0, or not finite.
    """

    def __init__(self, seconds: Any, *, virtual: bool | Clock = False) -> None:
        if not isinstance(seconds, int | float):
            raise TypeError(f"A delay is {seconds!r}, expected a number of seconds.")
        if not 0 <= seconds < math.inf:  # which is false of what is no number, too
            raise ValueError(f"A delay is {seconds!r} seconds, expected 0 or more.")
        self._seconds = seconds
        self._virtual = virtual

    def wait(self, arguments: Mapping[str, Any]) -> float:
        """Wait, and return how many of the seconds nobody has slept.

        Args:
            arguments: of the call, by name.
        """
        seconds = self._within(arguments)
        if not self._virtual:
            time.sleep(seconds)
        return self._ended(seconds)

    async def wait_async(self, arguments: Mapping[str, Any]) -> float:
        """Wait as a coroutine does, and return how many of the seconds nobody has slept."""
        seconds = self._within(arguments)
        if not self._virtual:
            await asyncio.sleep(seconds)
        return self._ended(seconds)

    def _within(self, arguments: Mapping[str, Any]) -> float:
        limit = _limit(arguments)
        return self._seconds if limit is None else min(limit, self._seconds)

    def _ended(self, seconds: float) -> float:
        if callable(self._virtual):
            self._virtual(seconds)
        if seconds < self._seconds:
            raise TimeoutError(f"timed out after {seconds} s")
        return seconds if self._virtual else 0.0


def _limit(arguments: Mapping[str, Any]) -> float | None:
    limit = arguments.get("timeout")
    is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
    return max(limit, 0) if is_number else None  # type: ignore[type-var]  # as was just checked

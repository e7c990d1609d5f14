"""What a test programmed for one method: which answer comes next."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any

from itkit import boundary
from itkit.exceptions import UnprogrammedReturnError

Answer = Callable[..., Any]
"""Called with the arguments as the application passed them; returns or raises."""

Raisable = BaseException | type[BaseException]


class Program:
    """The answers of one method.

    Limited answers come first, in the order in which they were programmed; when they are used
    up the lasting one answers, which is the one programmed last. Both live in one deque and one
    attribute, whose single operations are atomic, so threads need no lock.
    """

    __slots__ = ("_lasting", "_limited", "delay")

    def __init__(self) -> None:
        self.delay = 0.0
        self._limited: deque[Answer] = deque()
        self._lasting: Answer | None = None

    def always(self, answer: Answer) -> None:
        """Answer like this from now on."""
        self._lasting = answer

    def limited(self, answer: Answer, times: int) -> None:
        """Answer like this for a number of calls, then as programmed otherwise."""
        self._limited.extend(repeat(answer, _checked_times(times)))

    def next(self) -> Answer | None:
        """Take the next answer; None where nothing is programmed."""
        try:
            return self._limited.popleft()
        except IndexError:
            return self._lasting


def checked_delay(seconds: Any) -> float:
    """Return a delay in seconds.

    Raises:
        TypeError: it is no number.
        ValueError: it is below 0.
    """
    if not isinstance(seconds, int | float):
        raise TypeError(f"A delay is {seconds!r}, expected a number of seconds.")
    if seconds < 0:
        raise ValueError(f"A delay is {seconds!r} seconds, expected 0 or more.")
    return seconds


def returning(value: Any) -> Answer:
    """Return an answer that returns the value."""
    return lambda *_args, **_kwargs: value


def raising(error: Any) -> Answer:
    """Return an answer that raises the exception, given as an instance or as a class.

    Raises:
        TypeError: it is no exception.
    """
    if not _is_raisable(error):
        raise TypeError(f"{error!r} is no exception. Pass an instance or a class of one.")

    def answer(*_args: Any, **_kwargs: Any) -> Any:
        # One instance may be raised many times; each time begins with a traceback of its own.
        raise error.with_traceback(None) if isinstance(error, BaseException) else error

    return answer


def one_by_one(name: str, values: Iterable[Any]) -> Answer:
    """Return an answer that gives one value a call and raises those that are exceptions."""
    listed = list(values)
    remaining: Iterator[Any] = iter(listed)

    def answer(*args: Any, **kwargs: Any) -> Any:
        for value in remaining:
            given = raising(value) if _is_raisable(value) else returning(value)
            return given(*args, **kwargs)
        raise boundary.keep(
            UnprogrammedReturnError(
                f"{name} was called more often than its returns_each() has values"
                f" ({len(listed)}).\n"
                f"  Add a value for each call, or program the rest with returns()."
            )
        )

    return answer


def _checked_times(times: Any) -> int:
    message = f"times is {times!r}, expected a whole number above 0."
    if not isinstance(times, int):
        raise TypeError(message)
    if times < 1:
        raise ValueError(message)
    return times


def _is_raisable(value: Any) -> bool:
    if isinstance(value, type):
        return issubclass(value, BaseException)
    return isinstance(value, BaseException)

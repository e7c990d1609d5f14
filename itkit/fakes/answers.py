"""The answers that a test has programmed for one method, and which of them comes next."""

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count, islice, repeat
from typing import Any, Generic, TypeVar

from itkit.core.text import repr_of
from itkit.exceptions import UnprogrammedReturnError
from itkit.timeline import callsite, core
from itkit.timeline.callsite import CallSite

Clock = Callable[[float], object]
"""Moves a clock by a number of seconds."""


class Delay:
    """A delay before an answer.

    A call with a shorter ``timeout`` waits for the time-out, and gets a ``TimeoutError``.

    Args:
        seconds: the number of seconds.
        virtual: True if nobody sleeps, so that only the call's record has the time that it took; or
            a function that moves the test's stopped clock by a number of seconds, such as ``shift``
            of time-machine or ``tick`` of freezegun.

    Raises:
        TypeError: ``seconds`` is not a number.
        ValueError: ``seconds`` is below 0, or not finite.
    """

    def __init__(self, seconds: Any, *, virtual: bool | Clock = False) -> None:
        if not isinstance(seconds, int | float):
            raise TypeError(f"A delay is {seconds!r}, expected a number of seconds.")
        if not 0 <= seconds < math.inf:  # also true for a value that is no number
            raise ValueError(f"A delay is {seconds!r} seconds, expected 0 or more.")
        self._seconds = seconds
        self._virtual = virtual

    def wait(self, arguments: Mapping[str, Any]) -> float:
        """Wait, and return the number of seconds that were not slept.

        Args:
            arguments: the arguments of the call, by name.
        """
        seconds = self._within(arguments)
        if not self._virtual:
            time.sleep(seconds)
        return self._ended(seconds)

    async def wait_async(self, arguments: Mapping[str, Any]) -> float:
        """Wait as a coroutine, and return the number of seconds that were not slept."""
        seconds = self._within(arguments)
        if not self._virtual:
            await asyncio.sleep(seconds)
        return self._ended(seconds)

    def _within(self, arguments: Mapping[str, Any]) -> float:
        limit = timeout_of(arguments)
        return self._seconds if limit is None else min(limit, self._seconds)

    def _ended(self, seconds: float) -> float:
        if callable(self._virtual):
            self._virtual(seconds)
        if seconds < self._seconds:
            raise TimeoutError(f"timed out after {seconds} s")
        return seconds if self._virtual else 0.0


def timeout_of(arguments: Mapping[str, Any]) -> float | None:
    """Return the seconds that a call is to wait at most, by its argument; None without one."""
    limit = arguments.get("timeout")
    is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
    return max(limit, 0) if is_number else None  # type: ignore[type-var]  # as was just checked


Answer = Callable[..., Any]
"""Called with the arguments as the application passed them; returns or raises."""

Raisable = BaseException | type[BaseException]
_LOST = "_itkit_is_lost"

Condition = Callable[[tuple[Any, ...], dict[str, Any]], bool]
"""Returns whether an answer is for a call, given the arguments as they were passed."""

Item = TypeVar("Item")


class Given:
    """One line of a test that programs answers; it shows whether calls have used them.

    Args:
        text: the programming call in the line, such as ``raises(Timeout('slow'), times=3)``.
        answer: the answer that was added, or an error instead of a reply.
        turns: the queue that the answer was added to; None if the answer is for one numbered call.
        number: the number of that call.
    """

    __slots__ = ("_answer", "_line", "_namespace", "_number", "_since", "_story", "_turns", "text")

    def __init__(
        self, text: str, answer: Any, turns: "Turns[Any] | None", number: int | None = None
    ) -> None:
        frame = callsite.outside_of_itkit(sys._getframe(1))
        self._namespace: dict[str, Any] = frame.f_globals
        self._line: int = frame.f_lineno
        self._answer = answer
        self._turns = turns
        self._number = number
        self._story = core.current()
        self._since = len(self._story)
        self.text = text

    @property
    def site(self) -> CallSite:
        """The line of the source."""
        return callsite.site(self._namespace, self._line)

    def unused(self, program: "AnswerProgram", method: object) -> str:
        """Return how much of the answers no call has used; empty if all are used or overruled.

        Args:
            program: the program that has the answers.
            method: the method of the fake.
        """
        if self._turns is None:
            waits = program.waits_for(self._number or 0, self._answer)
            return "there was no such call" if waits else ""
        left = sum(1 for answer in self._turns.limited if answer is self._answer)
        if left:
            return f"{left} not used"
        if self._turns.lasting is not self._answer:
            return ""
        if isinstance(self._answer, OneByOne) and self._answer.left:
            return f"{self._answer.left} not used"
        is_used = self._turns.is_used
        if program.is_for_all(self._turns):
            is_used = is_used or self._was_constant(program, method)
        return "" if is_used else "not used"

    def _was_constant(self, program: "AnswerProgram", method: object) -> bool:
        """Return whether calls were answered from the constant, without a look at the program."""
        if not program.was_constant:
            return False
        later = islice(iter(self._story), self._since, None)
        return any(getattr(crossing, "method", None) is method for crossing in later)


class AnswerProgram:
    """All answers that are programmed for one method.

    The first of these sources that has an answer gives it: the answer for a call by its number; the
    limited answers, in the order in which they were programmed; the conditional answers, the last
    one first; the lasting answer, which is the one programmed last; the outer program. Threads need
    no lock, as each change is one operation on a deque or one assignment.

    Args:
        outer: the program outside of an override.

    Attributes:
        constant: the answer of every call, where nothing else is programmed.
        is_required: whether the test requires a call of the method.
        given: the lines of the test that have programmed this.
        was_constant: whether there was a ``constant`` at any time.
    """

    __slots__ = ("_conditional", "_delay", "_losses", "_number", "_numbered", "_outer", "_turns",
                 "constant", "given", "is_required", "was_constant")  # fmt: skip

    def __init__(self, outer: "AnswerProgram | None" = None) -> None:
        self.constant: Returning | None = None
        self.is_required = False
        self.was_constant = False
        self.given: list[Given] = []
        self._delay: Delay | None = None
        self._outer = outer
        self._number = count(1)
        self._numbered: dict[int, Answer] = {}
        self._conditional: tuple[tuple[Condition, Turns[Answer]], ...] = ()
        self._turns: Turns[Answer] = Turns()
        self._losses: Turns[Raisable] = Turns()

    def answer(self, answer: Answer, times: int | None = None, text: str = "") -> None:
        """Use an answer from now on, or for a number of calls before all other answers."""
        self._turns.add(answer, times)
        self.given.append(Given(text, answer, self._turns))
        self._find_constant()

    def answers_when(self, condition: Condition) -> "Turns[Answer]":
        """Return the queue of answers for calls that meet a condition."""
        turns: Turns[Answer] = Turns()
        self._conditional = ((condition, turns), *self._conditional)
        self._find_constant()
        return turns

    def answer_call(self, number: int, answer: Answer, made: int, text: str = "") -> None:
        """Use an answer for one call of the test, by its number, after ``made`` calls."""
        self._numbered[checked_times(number, "on_call()")] = answer
        self.given.append(Given(f"on_call({number}).{text}", answer, None, number))
        self._number = count(made + 1)
        self._find_constant()

    def lose(self, error: Raisable, times: int | None = None) -> None:
        """Raise the error instead of the reply, always or for a number of calls."""
        self._losses.add(error, times)
        self.given.append(Given(f"loses_reply({repr_of(error)})", error, self._losses))
        self._find_constant()

    def is_for_all(self, turns: "Turns[Any]") -> bool:
        """Return whether answers are for all calls, and not for those that meet a condition."""
        return turns is self._turns

    def waits_for(self, number: int, answer: Answer) -> bool:
        """Return whether an answer for a call, by its number, was not given yet."""
        return self._numbered.get(number) is answer

    def wait(self, delay: Delay) -> None:
        """Delay the answer of each call by a number of seconds."""
        self._delay = delay
        self._find_constant()

    @property
    def delay(self) -> Delay | None:
        """The delay of each call before its answer."""
        if self._delay is None and self._outer is not None:
            return self._outer.delay
        return self._delay

    def next(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer | None:
        """Return the next answer and use it up; None where nothing is programmed."""
        if self._numbered and (numbered := self._numbered.pop(next(self._number), None)):
            return numbered
        if self._turns.limited and (limited := self._turns.next_limited()):
            return limited
        for condition, turns in self._conditional:
            if not turns.is_empty and condition(args, kwargs) and (answer := turns.next()):
                return answer
        if self._turns.lasting is None and self._outer is not None:
            return self._outer.next(args, kwargs)
        return self._turns.next()

    def next_loss(self) -> Raisable | None:
        """Return the next error instead of a reply and use it up; None where there is none."""
        loss = self._losses.next()
        return self._outer.next_loss() if loss is None and self._outer is not None else loss

    @contextmanager
    def without_constant(self) -> Iterator[None]:
        """Make each call within a block get its answer from ``next()``."""
        self.constant = None
        try:
            yield
        finally:
            self._find_constant()

    def _find_constant(self) -> None:
        """Set ``constant`` if all calls have the same answer, which makes a fake fast."""
        lasting = self._turns.lasting
        is_alone = not (self._turns.limited or self._conditional or self._numbered)
        is_plain = self._delay is None and self._losses.is_empty and self._outer is None
        self.constant = lasting if is_alone and is_plain and type(lasting) is Returning else None
        self.was_constant = self.was_constant or self.constant is not None


class Turns(Generic[Item]):
    """Items that are used once each, and a lasting one that is used after them.

    Attributes:
        limited: the items that are used once each.
        lasting: the item that is used for all further calls.
        is_used: whether the lasting item was used.
    """

    __slots__ = ("is_used", "lasting", "limited")

    def __init__(self) -> None:
        self.limited: deque[Item] = deque()
        self.lasting: Item | None = None
        self.is_used = False

    @property
    def is_empty(self) -> bool:
        """Whether there is no item."""
        return self.lasting is None and not self.limited

    def add(self, item: Item, times: int | None) -> None:
        """Add an item that is used for a number of calls, or for all further ones."""
        if times is None:
            self.lasting = item
            self.is_used = False
        else:
            self.limited.extend(repeat(item, checked_times(times)))

    def next(self) -> Item | None:
        """Return the next item and use it up; None where there is none."""
        limited = self.next_limited()
        if limited is not None:
            return limited
        self.is_used = True
        return self.lasting

    def next_limited(self) -> Item | None:
        """Return the next of the items that are used once, and use it up."""
        try:
            return self.limited.popleft()
        except IndexError:  # another thread may just have taken the last
            return None


class Returning:
    """An answer that is a value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Return the value."""
        return self.value


def raising(error: Any) -> Answer:
    """Return an answer that raises the exception, given as an instance or as a class.

    Raises:
        TypeError: the argument is not an exception.
    """
    checked_raisable(error)

    def answer(*_args: Any, **_kwargs: Any) -> Any:
        raise fresh(error)

    return answer


def lost(error: Raisable) -> BaseException:
    """Return an exception that replaces a reply, marked so that ``is_lost`` recognizes it."""
    found = fresh(error)
    raised = found() if isinstance(found, type) else found
    setattr(raised, _LOST, True)
    return raised


def is_lost(error: BaseException) -> bool:
    """Return whether an error replaces a reply that the service has given."""
    return getattr(error, _LOST, False)


def fresh(error: Raisable) -> Raisable:
    """Return an exception to raise, as a test may give one instance for many calls.

    Each time it begins with a new traceback.
    """
    return error.with_traceback(None) if isinstance(error, BaseException) else error


class OneByOne:
    """An answer that returns one value for each call, and raises those values that are exceptions.

    Args:
        name: the name of the method.
        values: the values that it returns, in order.
    """

    __slots__ = ("_count", "_name", "_values")

    def __init__(self, name: str, values: Iterable[Any]) -> None:
        self._name = name
        self._values = deque(values)
        self._count = len(self._values)

    @property
    def left(self) -> int:
        """The number of values that were not given yet."""
        return len(self._values)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return or raise the next value."""
        try:
            value = self._values.popleft()
        except IndexError:  # another thread may just have taken the last
            raise core.record_failure(
                UnprogrammedReturnError(
                    f"{self._name} was called more often than its returns_each() has values"
                    f" ({self._count}).\n"
                    f"  Add a value for each call, or program the rest with returns()."
                )
            ) from None
        given = raising(value) if is_raisable(value) else Returning(value)
        return given(*args, **kwargs)


def checked_times(times: Any, argument: str = "times") -> int:
    """Return a number of calls after a check.

    Raises:
        TypeError: ``times`` is not a whole number.
        ValueError: ``times`` is below 1.
    """
    message = f"{argument} is {times!r}, expected a whole number above 0."
    if not isinstance(times, int):
        raise TypeError(message)
    if times < 1:
        raise ValueError(message)
    return times


def checked_raisable(error: Any) -> Raisable:
    """Return an exception, given as an instance or as a class, after a check.

    Raises:
        TypeError: the argument is not an exception.
    """
    if not is_raisable(error):
        raise TypeError(f"{error!r} is no exception. Pass an instance or a class of one.")
    return error  # type: ignore[no-any-return]  # as was just checked


def is_raisable(value: Any) -> bool:
    """Return whether a value is an exception or a class of one."""
    if isinstance(value, type):
        return issubclass(value, BaseException)
    return isinstance(value, BaseException)

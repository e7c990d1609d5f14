"""Programs the answers of a method, of some of its calls, or of one of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

from itkit.core.text import repr_of
from itkit.exceptions import ImpossibleReturnError
from itkit.fakes.answers import Answer, OneByOne, Raisable, Returning, is_raisable, raising
from itkit.fakes.classes import returned
from itkit.fakes.methods import Method


class Programming(ABC):
    """The methods that say how calls are answered."""

    __slots__ = ()

    def returns(self, value: Any) -> Self:
        """Return the value from every call from now on (from ``async`` methods when awaited).

        Raises:
            ImpossibleReturnError: the real method can return no such value, by its annotation.
        """
        self._check_return(value)
        self._program(Returning(value), text=f"returns({repr_of(value)})")
        return self

    def returns_each(self, *values: Any) -> Self:
        """Return one value for each call, in order, or raise it if it is an exception.

        A call beyond the last value fails with an ``UnprogrammedReturnError``.

        Raises:
            ImpossibleReturnError: for the reasons of ``returns``.
        """
        for value in values:
            if not is_raisable(value):
                self._check_return(value)
        shown = ", ".join(map(repr, values))
        self._program(OneByOne(self._method.name, values), text=f"returns_each({shown})")
        return self

    def raises(self, error: Raisable, times: int | None = None) -> Self:
        """Raise the exception, given as an instance or a class, from every call from now on.

        Args:
            error: the error to raise.
            times: the number of calls that raise it, before all other answers; by default all
                calls.
        """
        limit = f", times={times}" if times is not None else ""
        self._program(raising(error), times, text=f"raises({repr_of(error)}{limit})")
        return self

    def does(self, function: Callable[..., Any]) -> Self:
        """Call the function with each call's arguments and answer with what it returns.

        The function gets the arguments as the application passed them, without ``self``. For an
        ``async`` method it may be ``async`` too.
        """
        name = getattr(function, "__name__", repr(function))
        self._program(function, text=f"does({name})")
        return self

    @property
    @abstractmethod
    def _method(self) -> Method:
        """The method whose calls are answered."""

    @abstractmethod
    def _program(self, answer: Answer, times: int | None = None, *, text: str) -> None:
        """Answer like this from now on, or for a number of calls ahead of all else."""

    def _check_return(self, value: Any) -> None:
        member = self._method.member
        if not returned.can_return(member, value):
            raise ImpossibleReturnError(
                f"{self._method.name} is to return {repr_of(value)} ({type(value).__qualname__}),"
                f" but the real one returns {returned.shown(member)}.\n"
                "  Return what it can return, or correct its annotation. What does(function)"
                " returns is not checked."
            )


class Rule(Programming):
    """Some calls of a method, whose answers are programmed apart from those of the others."""

    __slots__ = ("_add", "_of")

    def __init__(self, method: Method, add: Callable[[Answer, int | None, str], None]) -> None:
        self._of = method
        self._add = add

    @property
    def _method(self) -> Method:
        return self._of

    def _program(self, answer: Answer, times: int | None = None, *, text: str) -> None:
        self._add(answer, times, text)

"""The record of one call of a backend."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from django.core.mail import EmailMessage

from itkit.core.text import did_you_mean, repr_of
from itkit.exceptions import FoundError
from itkit.fakes.classes.members import Member
from itkit.timeline.core import Caller, Crossing, Strand


class CalledMethod(Protocol):
    """The part of a method that a record of a call needs; ``itkit.fakes.methods`` implements it.

    Attributes:
        name: the name in assertions and reports, such as ``payments.charge``.
        member: the member of the real class.
    """

    name: str
    member: Member


Record = tuple[
    CalledMethod, tuple[Any, ...], dict[str, Any], Any, dict[str, Any], int, Strand, float
]
"""A call that was answered at once, as the hot path of all fakes writes it: the method, arguments
by position and by name, the result, the caller's globals and line, the thread, the time."""

_KEYS = ("args", "arguments", "duration", "error", "kwargs", "name", "result", "site", "thread")


class Call(Crossing):
    """One call that a fake recorded; its fields are attributes and keys alike.

    Attributes:
        method: the method of the fake that was called.
        args: the positional arguments as they were passed.
        kwargs: the keyword arguments as they were passed.
        result: the value that the call returned; None while it runs, or when it raised an error.

        crash: the error with which a task that the call has sent crashed; None without one.

    Arguments that can change are copied when the call happens.
    """

    __slots__ = ("_error", "args", "crash", "kwargs", "method", "result")

    def __init__(
        self, method: CalledMethod, args: tuple[Any, ...], kwargs: dict[str, Any], caller: Caller
    ) -> None:
        super().__init__(caller)
        self.crash: FoundError | None = None
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.result: Any = None

    @classmethod
    def of(cls, record: Record) -> "Call":
        """Return the call for a short record on the timeline, as of those answered at once."""
        call = cls.__new__(cls)
        call.method, call.args, call.kwargs, call.result, namespace, line, strand, at = record
        call._restore(strand, at, 0.0, namespace, line)
        call.crash = None
        return call

    @property
    def error(self) -> BaseException | None:
        """The exception that the call, or the task that it has sent, ended with, if any."""
        if self.crash is not None:
            self.crash.is_seen = True
        return self._error

    @error.setter
    def error(self, error: BaseException | None) -> None:
        self._error = error

    @property
    def kind(self) -> str:
        """``backend``."""
        return "backend"

    @property
    def name(self) -> str:
        """Its name in assertions and reports, such as ``payments.charge``."""
        return self.method.name

    @property
    def shown(self) -> str:
        """Its text in a line of the timeline."""
        return repr(self)

    @property
    def details(self) -> Mapping[str, Any]:
        """The arguments, by their names where they have names, and the result."""
        named = {f"argument {number}": value for number, value in enumerate(self.args, 1)}
        with suppress(TypeError):  # the arguments do not fit the method
            named = self.arguments
        shown = {
            name: _mail(value) if isinstance(value, EmailMessage) else value
            for name, value in named.items()
        }
        return {**shown, "result": self.result} if self.result is not None else shown

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments by name, however they were passed, with defaults filled in."""
        return self.method.member.arguments(self.args, self.kwargs)

    def __getitem__(self, key: str) -> Any:
        if key not in _KEYS:
            raise KeyError(f"A call has no {key!r}. {did_you_mean(key, list(_KEYS))}")
        return getattr(self, key)

    def __repr__(self) -> str:
        positional = [_shown(value) for value in self.args]
        named = [f"{name}={_shown(value)}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(positional + named)}){self._outcome()}"

    def _outcome(self) -> str:
        if self.duration is None:
            return ""
        # A reply can be lost: then there is a result that the caller has not seen.
        error = self._error  # printing it does not count as a use
        has_result = self.crash is None and (error is None or self.result is not None)
        result = f" -> {repr_of(self.result)}" if has_result else ""
        return f"{result} !! {repr_of(error)}" if error is not None else result


def _shown(value: object) -> str:
    return _mail(value) if isinstance(value, EmailMessage) else repr_of(value)


def _mail(message: EmailMessage) -> str:
    """Return a mail as it is shown, as its ``repr()`` has only its address in memory."""
    return f'mail to {", ".join(map(str, message.recipients()))}: "{message.subject}"'

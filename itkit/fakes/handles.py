"""The handle of a fake, by which a test programs answers and asks about calls.

The application never sees a handle; it has plain objects of the real class.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from itkit.core.text import did_you_mean, repr_of
from itkit.exceptions import CallMismatchError, UnknownMethodError
from itkit.fakes import matching, messages
from itkit.fakes.answers import Answer, Clock, Delay, Given, Raisable, checked_raisable
from itkit.fakes.calls import Call
from itkit.fakes.fake import Fake
from itkit.fakes.methods import Method
from itkit.fakes.programming import Programming, Rule

if TYPE_CHECKING:
    import typing_extensions

    # Under --strict, a plain Handle would not be an annotation without a default.
    Real = typing_extensions.TypeVar("Real", default=Any)
else:
    Real = TypeVar("Real")
"""The class that a handle is the handle of; for type checkers, see ``itkit.mypy_plugin``."""


class MethodHandle(Programming):
    """One method of a fake, or a fake function: ``backends.payments.charge``."""

    __slots__ = ("_fake", "_of")

    def __init__(self, fake: Fake, method: Method) -> None:
        self._fake = fake
        self._of = method

    def when(self, *args: Any, **kwargs: Any) -> Rule:
        """Return an object that programs the calls with these arguments and any others.

        Where several conditions fit, the last one counts.

        Args:
            args: the expected first arguments.
            kwargs: the expected other arguments, by name. Each is a value, an object that knows
                what it equals, such as those of dirty-equals, or a function that returns whether
                an argument fits.

        Raises:
            CallMismatchError: the real method does not take these arguments.
        """
        holds = matching.condition(self._name, self._of.member, args, kwargs)
        program = self._of.programmed()
        turns = program.answers_when(holds)
        shown = ", ".join(
            [*map(repr_of, args), *(f"{name}={repr_of(value)}" for name, value in kwargs.items())]
        )

        def add(answer: Answer, times: int | None, text: str) -> None:
            turns.add(answer, times)
            program.given.append(Given(f"when({shown}).{text}", answer, turns))

        return Rule(self._of, add)

    def on_call(self, number: int) -> Programming:
        """Return an object that programs one call of this test, by its number from 1."""

        def add(answer: Answer, times: int | None, text: str) -> None:
            if times is not None:
                raise ValueError("on_call() is for one call, which has no times.")
            self._of.programmed().answer_call(number, answer, self.call_count, text)

        return Rule(self._of, add)

    def delays(self, seconds: float, *, virtual: bool | Clock = False) -> Self:
        """Delay every call by a number of seconds, and then answer as programmed.

        A call with a shorter ``timeout`` gets a ``TimeoutError`` after the time-out.

        Args:
            seconds: how many.
            virtual: True if nobody sleeps and only the record has the time; or a function that
                moves the test's stopped clock, such as ``shift`` of time-machine.
        """
        self._of.programmed().wait(Delay(seconds, virtual=virtual))
        return self

    def loses_reply(self, error: Raisable, times: int | None = None) -> Self:
        """Answer as programmed, but raise the error for the caller instead of the reply.

        A time-out looks like this if the other end has done its work nevertheless.

        Args:
            error: the error to raise, an instance or a class.
            times: the number of calls that lose their reply; by default all.
        """
        self._of.programmed().lose(checked_raisable(error), times)
        return self

    def required(self) -> Self:
        """Fail the test at its end if there was no call."""
        self._of.programmed().is_required = True
        return self

    @property
    def calls(self) -> list[Call]:
        """The calls in this test, in the order in which they began."""
        return list(self._of.calls())

    @property
    def call_count(self) -> int:
        """The number of calls in this test."""
        return len(self.calls)

    def was_called_with(self, *args: Any, **kwargs: Any) -> bool:
        """Return whether any call had these arguments, passed by position or by name alike.

        Raises:
            CallMismatchError: the real method does not take these arguments.
        """
        expected = self._expected(args, kwargs)
        return any(matching.all_match(expected, call.arguments) for call in self.calls)

    def assert_called_with(self, *args: Any, **kwargs: Any) -> None:
        """Fail unless at least one call, no matter which, had these arguments."""
        expected = self._expected(args, kwargs)
        calls = self.calls
        if not any(matching.all_match(expected, call.arguments) for call in calls):
            raise CallMismatchError(messages.no_such_call(self._name, expected, calls))

    def assert_called_once_with(self, *args: Any, **kwargs: Any) -> None:
        """Fail unless there was exactly one call and it had these arguments."""
        self.assert_called_with(*args, **kwargs)
        if self.call_count != 1:
            expected = messages.listed(self._expected(args, kwargs))
            self._fail_count(f"1 call, with {expected}")

    def assert_called(self, times: int | None = None) -> None:
        """Fail unless there was a call, or exactly the given number of calls."""
        if times is None:
            if not self.calls:
                self._fail_count("a call")
        elif self.call_count != times:
            self._fail_count(messages.counted(times))

    def assert_never_called(self) -> None:
        """Fail if there was any call."""
        if self.calls:
            self._fail_count("no call")

    if not TYPE_CHECKING:  # a type checker finds these mistakes itself

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):  # protocols of Python, such as __deepcopy__, look these up
                raise AttributeError(name)
            if messages.is_habit(name):
                raise self._unknown(name)
            return self[name]

        def __setattr__(self, name: str, value: Any) -> None:
            if not hasattr(type(self), name):
                raise self._unknown(name)
            super().__setattr__(name, value)

    def __getitem__(self, name: str) -> "MethodHandle":
        """Return the handle of a part's method, as ``chat["returns"]`` where a control hides it."""
        outline, part = self._fake.outline, self._of.member.name
        if outline is None or not outline.has(part, name):
            raise self._unknown(name)
        return MethodHandle(self._fake, self._fake.method(f"{part}.{name}"))

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refuse a call, as only the application calls, or a test has misspelt a control."""
        if self._of.member.name in self._fake.methods and "." not in self._of.member.name:
            raise _refusal(messages.called(self._name), self)
        raise self._unknown(self._name.rpartition(".")[2])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}: {messages.counted(self.call_count)}>"

    @property
    def _name(self) -> str:
        return self._of.name

    @property
    def _method(self) -> Method:
        return self._of

    def _program(self, answer: Answer, times: int | None = None, *, text: str) -> None:
        self._of.programmed().answer(answer, times, text)

    def _expected(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._of.member.arguments(args, kwargs)
        except TypeError as error:
            known = [name for name in self._of.member.signature.parameters if name != "self"]
            unknown = next((name for name in kwargs if name not in known), "")
            hint = did_you_mean(unknown, known) if unknown else ""
            raise CallMismatchError(
                f"{self._name} can never be called like this: {error}\n"
                f"  {hint or 'Name the arguments that the real method takes.'}"
            ) from None

    def _fail_count(self, wanted: str) -> None:
        raise CallMismatchError(messages.wrong_count(self._name, wanted, self.calls))

    def _unknown(self, name: str) -> UnknownMethodError:
        controls = [control for control in dir(type(self)) if not control.startswith("_")]
        if self._fake.outline is not None:
            controls += self._fake.outline.names(self._of.member.name)
        message = messages.unknown_control(
            self._name, name, controls, is_function=self._fake.is_function
        )
        return _refusal(message, self)


class Controls(ABC):
    """The methods of a fake that get the name of its method as a string."""

    __slots__ = ()

    @abstractmethod
    def _itkit_method(self, name: str) -> MethodHandle:
        """Return the handle of a method, or raise UnknownMethodError."""

    def configure_return(self, method: str, value: Any) -> None:
        """Return the value from every call of the method from now on."""
        self._itkit_method(method).returns(value)

    def configure_exception(self, method: str, error: Raisable, times: int | None = None) -> None:
        """Raise the exception from every call of the method, or from the next ``times`` calls."""
        self._itkit_method(method).raises(error, times)

    def configure_delay(self, method: str, seconds: float) -> None:
        """Delay every call of the method by a number of seconds, in real time."""
        self._itkit_method(method).delays(seconds)

    def call_count(self, method: str) -> int:
        """Return how often the method was called in this test."""
        return self._itkit_method(method).call_count

    def was_called_with(self, method: str, /, *args: Any, **kwargs: Any) -> bool:
        """Return whether any call of the method had these arguments, by position or by name."""
        return self._itkit_method(method).was_called_with(*args, **kwargs)

    def get_calls(self, method: str) -> list[Call]:
        """Return the calls of the method in this test, in the order in which they began."""
        return self._itkit_method(method).calls


class Handle(Controls, Generic[Real]):
    """The object by which a test controls a fake: ``backends.payments``.

    ``handle.charge`` is the handle of a method; ``handle["charge"]`` is the same, and the only
    way to a method whose name is also that of a control, such as ``get_calls``, or that begins
    with an underscore, such as ``__call__``.
    """

    __slots__ = ("_fake",)

    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def __getitem__(self, name: str) -> MethodHandle:
        return method_handle(self._fake, name)

    def __getattr__(self, name: str) -> MethodHandle:
        if name.startswith("_"):  # protocols of Python, such as __deepcopy__, look these up
            raise AttributeError(name)
        return method_handle(self._fake, name)

    if not TYPE_CHECKING:  # a type checker finds these mistakes itself

        def __setattr__(self, name: str, value: Any) -> None:
            if not hasattr(type(self), name):
                method = self[name]._name
                message = f"{method} cannot be replaced: use its returns(value) or does(function)"
                raise _refusal(message, self)
            super().__setattr__(name, value)

    @property
    def stand_in(self) -> Any:
        """The object of ``FAKE`` that answers calls that this test does not program, or None."""
        return self._fake.stand_in

    def spy(self) -> Self:
        """Let the real methods answer, and record the calls; programmed answers come first."""
        self._fake.spy()
        return self

    def strict(self) -> Self:
        """Fail from now on each call for which nothing is programmed."""
        self._fake.answer_unprogrammed("strict")
        return self

    def lenient(self) -> Self:
        """Answer calls for which nothing is programmed with an empty value by the annotation."""
        self._fake.answer_unprogrammed("lenient")
        return self

    @contextmanager
    def override(self) -> Iterator[Self]:
        """Use answers that are programmed within a block first, and forget them at its end."""
        with self._fake.overridden():
            yield self

    def __dir__(self) -> list[str]:
        outline = self._fake.outline
        parts = outline.names("") if outline is not None else ()
        return sorted({*super().__dir__(), *self._fake.methods, *parts})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._fake.name}>"

    def _itkit_method(self, name: str) -> MethodHandle:
        return method_handle(self._fake, name)


def method_handle(fake: Fake, name: str) -> MethodHandle:
    """Return the handle of a method.

    Raises:
        UnknownMethodError: the real class has no such method.
    """
    if name in fake.methods and "." not in name:
        return MethodHandle(fake, fake.methods[name])
    part, _, last = name.rpartition(".")
    if messages.is_habit(last) or fake.outline is None or not fake.outline.has(part, last):
        known = {key for key in fake.methods if "." not in key}
        known.update(fake.outline.names(part) if fake.outline is not None else ())
        is_control = last in dir(MethodHandle) and not last.startswith("_")
        told = messages.control_of_a_method if is_control else messages.unknown_method
        raise _refusal(told(fake.name, name, sorted(known)), fake)
    return MethodHandle(fake, fake.method(name))


def _refusal(message: str, asked: object) -> UnknownMethodError:
    error = UnknownMethodError(message)
    error.obj = asked  # without it, Python 3.12 and later add a suggestion of their own
    return error


def programming_line(address: str, method: str) -> str:
    """Return the line of a test that programs a method's return value."""
    if method.startswith("_") or hasattr(Handle, method):
        return f'{address}["{method}"].returns(...)'
    return f"{address}.{method}.returns(...)"

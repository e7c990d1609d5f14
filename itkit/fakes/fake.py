"""The fake of one backend: its methods, and the default answers where nothing is programmed."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from typing import Any, Final, Protocol

from itkit.exceptions import CallMismatchError, UnexpectedCallError
from itkit.fakes import messages
from itkit.fakes.answers import AnswerProgram, Given
from itkit.fakes.calls import Call
from itkit.fakes.classes import returned
from itkit.fakes.classes.members import Kind, Member, unknown_member
from itkit.fakes.methods import Arguments, DefaultAnswer, Method
from itkit.fakes.unprogrammed import Advice, UnprogrammedReturn
from itkit.timeline import core

_NO_NAME: Final = "itkit_has_no_such_name"


class Names(Protocol):
    """Knows which names a client and its parts have."""

    def has(self, part: str, name: str) -> bool:
        """Return whether a part may have a name; the part ``""`` is the client itself."""

    def names(self, part: str) -> list[str]:
        """Return the names that a part is known to have."""


class Fake:
    """Records the calls of one backend and answers them.

    Args:
        name: the name of the backend in assertions and reports.
        members: the members that are faked, by name.
        advice: the line to add to a test that programs nothing.
        is_function: whether the backend is a function, which is then the only member.
        called_by_library: whether libraries call it, on behalf of the application.
        is_spy: whether the real methods answer calls for which nothing is programmed.
        stand_in: makes the object that answers such calls, a new one for each test: it has methods
            of the same names, or is a function.
        unprogrammed: what such calls do otherwise: ``lazy`` returns a value that fails if it is
            used, ``lenient`` an empty value by the annotation, and ``strict`` fails.

    Attributes:
        methods: the methods of the fake, by their names; the names of parts' methods have dots.
        outline: the names of the parts; None where there are none.
        wrap: returns the fake of a part, given the part's name and the real value that was read.
        default: how calls are answered for which nothing is programmed: ``real``, ``stand_in``, one
            of the ``conf.UNPROGRAMMED`` ways, or ``other`` after a call of ``answer_by``.
        default_answer: the function that answers them.
        programmed: the methods for which a test has programmed something.
    """

    def __init__(
        self,
        name: str,
        members: Mapping[str, Member],
        advice: Advice,
        *,
        is_function: bool = False,
        called_by_library: bool = False,
        is_spy: bool = False,
        stand_in: Callable[[], Any] | None = None,
        unprogrammed: str = "lazy",
    ) -> None:
        self.name = name
        self.advice = advice
        self.is_function = is_function
        self.methods = {
            key: Method(
                name if is_function else f"{name}.{key}",
                member,
                self,
                called_by_library=called_by_library,
            )
            for key, member in members.items()
        }
        self.wrap: Callable[[str, Any], Any] = _as_it_is
        self.outline: Names | None = None
        self._called_by_library = called_by_library
        self._adding = threading.Lock()
        self.programmed: set[Method] = set()
        self._overridden: list[tuple[str, Given, str]] = []
        self._make_stand_in = stand_in
        self._stand_in: Any = None
        self._making = threading.Lock()
        unprogrammed = "stand_in" if stand_in is not None else unprogrammed
        self._usual: tuple[str, DefaultAnswer] = self._way("real" if is_spy else unprogrammed)
        self.default, self.default_answer = self._usual

    def method(self, name: str, member: Member | None = None) -> Method:
        """Return the method of a part, such as ``chat.completions.create``.

        Args:
            name: the name below that of the backend.
            member: the real member of this name; None where no object has shown it yet, so that the
                method takes any arguments.
        """
        found = self.methods.get(name)
        if found is None:
            with self._adding:  # two threads may be the first to ask
                found = self.methods.get(name)
                if found is None:
                    made = member if member is not None else unknown_member(name)
                    found = Method(
                        f"{self.name}.{name}",
                        made,
                        self,
                        called_by_library=self._called_by_library,
                    )
                    self.methods[name] = found
        if member is not None:
            found.become(member)
        return found

    @property
    def all_calls(self) -> list[str]:
        """The names of all calls; none for a client that has parts, or answers to any name."""
        outline = self.outline
        if outline is not None and (
            outline.has("", _NO_NAME) or not self.methods.keys() >= {*outline.names("")}
        ):
            return []
        return [method.name for method in self.methods.values()]

    @contextmanager
    def answering_one_by_one(self) -> Iterator[None]:
        """Let each call within a block go through ``Method.reply`` and take no short cut."""
        with ExitStack() as releases:
            for method in list(self.programmed):
                if method.program is not None:
                    releases.enter_context(method.program.without_constant())
            yield

    def reset(self) -> None:
        """Forget the answers that a test has programmed, and the stand-in."""
        self.default, self.default_answer = self._usual
        self._stand_in = None
        self._overridden.clear()
        while self.programmed:
            self.programmed.pop().program = None

    @property
    def stand_in(self) -> Any:
        """The hand-written object that answers calls for which nothing is programmed, if any."""
        if self._make_stand_in is not None:
            with self._making:  # two threads may be the first to ask
                if self._stand_in is None:
                    self._stand_in = self._make_stand_in()
        return self._stand_in

    def check_required(self) -> None:
        """Check that each method was called that the test has marked as required.

        Raises:
            CallMismatchError: a required method was not called.
        """
        for method in list(self.programmed):
            if method.program and method.program.is_required and not any(method.calls()):
                raise CallMismatchError(
                    messages.wrong_count(method.name, "a call, as required() says", [])
                )

    def given(self) -> list[tuple[str, Given, str]]:
        """Return the answers that the test has programmed, and which of them no call has used.

        Returns:
            For each line: the name of the method, the line, and a text about its unused answers, if
            any.
        """
        return [*self._overridden, *self._given_now(self.programmed)]

    @staticmethod
    def _given_now(methods: Iterable[Method]) -> Iterator[tuple[str, Given, str]]:
        for method in list(methods):
            if (program := method.program) is not None:
                for given in program.given:
                    yield method.name, given, given.unused(program, method)

    def answer_by(self, default_answer: DefaultAnswer) -> None:
        """Answer calls for which nothing is programmed by a function, in all tests."""
        self._usual = self.default, self.default_answer = "other", default_answer

    def answer_unprogrammed(self, way: str) -> None:
        """Answer calls for which nothing is programmed in one of the ``conf.UNPROGRAMMED`` ways."""
        self.default, self.default_answer = self._way(way)

    def spy(self) -> None:
        """Let the real methods answer calls for which nothing is programmed."""
        self.default, self.default_answer = self._way("real")

    @contextmanager
    def overridden(self) -> Iterator[None]:
        """Use answers that are programmed within a block first, and forget them at its end."""
        outer = self.default, self.default_answer
        programs = {item: item.program for item in self.programmed if item.program is not None}
        for method, program in programs.items():
            method.program = AnswerProgram(program)
        try:
            yield
        finally:
            self.default, self.default_answer = outer
            inner = [item for item in self.programmed if item.program is not programs.get(item)]
            self._overridden += self._given_now(inner)
            self.programmed |= programs.keys()
            for method in self.programmed:
                method.program = programs.get(method)

    def _way(self, name: str) -> tuple[str, DefaultAnswer]:
        ways: dict[str, DefaultAnswer] = {
            "real": self._real,
            "stand_in": self._stood_in,
            "lazy": self._lazy,
            "lenient": self._lenient,
            "strict": self._strict,
        }
        return name, ways[name]

    def _real(self, call: Call, owner: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
        member = call.method.member
        if member.is_object:
            return _answered(member, owner(*args, **kwargs))
        given = (owner, *args) if member.has_owner else args
        return _answered(member, member.function(*given, **kwargs))

    def _stood_in(self, call: Call, _owner: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
        member = call.method.member
        if self.is_function:
            return self.stand_in(*args, **kwargs)
        found = attrgetter(member.name)(self.stand_in)
        answer = found if member.kind is Kind.PROPERTY else found(*args, **kwargs)
        return _answered(member, answer)

    def _lazy(self, call: Call, owner: Any, _args: Arguments, _kwargs: dict[str, Any]) -> Any:
        member = call.method.member
        if member.otherwise is not None:
            return member.otherwise(owner)
        return UnprogrammedReturn(call, self.advice)

    def _lenient(self, call: Call, owner: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
        value = returned.neutral(call.method.member)
        return self._lazy(call, owner, args, kwargs) if value is returned.UNKNOWN else value

    def _strict(self, call: Call, owner: Any, _args: Arguments, _kwargs: dict[str, Any]) -> Any:
        member = call.method.member
        if member.kind is Kind.PROPERTY and member.otherwise is not None:
            return member.otherwise(owner)  # it reads a value that the real constructor has stored
        raise core.record_failure(
            UnexpectedCallError(
                f"{call!r} was not expected: the test programs nothing for it.\n"
                f"  called at {call.site}\n"
                f"  add to the test: {self.advice(member.name)}"
            )
        )


class Entered:
    """Wraps a context manager that a real method has returned, so that the block enters it."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager

    def __repr__(self) -> str:
        return repr(self.manager)


def _as_it_is(_name: str, value: Any) -> Any:
    return value


def _answered(member: Member, answer: Any) -> Any:
    return Entered(answer) if member.kind in (Kind.CONTEXT, Kind.ASYNC_CONTEXT) else answer

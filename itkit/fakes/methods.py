"""One method of a fake: records each call of it and answers as the test programmed."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from types import FrameType
from typing import Any, Protocol

from itkit.exceptions import LateCallError, NeverRunError
from itkit.fakes.answers import Answer, AnswerProgram, lost
from itkit.fakes.calls import Call, Record
from itkit.fakes.classes.members import Member
from itkit.fakes.snapshots import snapshot
from itkit.timeline import callsite, core

Arguments = tuple[Any, ...]
DefaultAnswer = Callable[[Call, Any, Arguments, dict[str, Any]], Any]
"""Answers a call for which nothing is programmed, given the object that was called and what it
was called with."""


class Answering(Protocol):
    """The part of a fake that its methods need."""

    default_answer: DefaultAnswer
    programmed: set["Method"]
    wrap: Callable[[str, Any], Any]


class Method:
    """Records the calls of one member of a fake and answers them.

    A method lives as long as the run. The program of a test is one attribute, which ``reset``
    replaces. The calls themselves are on the timeline of the test.

    Args:
        name: the name in assertions and reports, such as ``payments.charge``.
        member: the real one.
        fake: the fake that it belongs to.
        called_by_library: whether libraries call it, so that the call site is above the caller.
    """

    __slots__ = ("_check", "_fake", "called_by_library", "member", "name", "program")

    def __init__(
        self, name: str, member: Member, fake: Answering, *, called_by_library: bool = False
    ) -> None:
        self.name = name
        self.member = member
        self.called_by_library = called_by_library
        self.program: AnswerProgram | None = None
        self._check = member.check
        self._fake = fake

    @property
    def fake(self) -> Answering:
        """The fake that it belongs to."""
        return self._fake

    def become(self, member: Member) -> None:
        """Use this member from now on, as an object has shown what the name stands for."""
        if member is not self.member:
            self._check = member.check
            self.member = member

    def calls(self) -> Iterator[Call]:
        """Yield the calls in this test, in the order in which they began."""
        for crossing in core.current():
            if isinstance(crossing, Call) and crossing.method is self:
                yield crossing

    def programmed(self) -> AnswerProgram:
        """Return the method's program, which the test changes."""
        if self.program is None:
            self.program = AnswerProgram()
            self._fake.programmed.add(self)
        return self.program

    def crossing(self, record: Record) -> Call:
        """Return the call for a record on the timeline."""
        return Call.of(record)

    def recording(self) -> Callable[..., Any]:
        """Return a function of an object and its arguments that records a call and answers it.

        This is the hot path of all fakes. Where one value answers all calls and no argument can
        change, it calls nothing but the check of the arguments. Each lookup of a name in it would
        cost another twentieth, so the names are looked up here.
        """
        check, frame_at, here = self._check, sys._getframe, core.here

        def function(owner: Any, /, *args: Any, **kwargs: Any) -> Any:
            try:
                can_change = check(owner, *args, **kwargs)
            except TypeError as error:
                core.record_failure(error)
                __tracebackhide__ = True  # the mistake is in the call
                raise
            program = self.program
            if can_change or program is None or (constant := program.constant) is None:
                call = self._begun(can_change, args, kwargs, frame_at(1))
                return self.reply(call, owner, args, kwargs)
            strand = here.strand
            timeline = strand.timeline
            if timeline is None:  # and not "or", as an empty timeline is false
                timeline = core.running
            frame = frame_at(1)
            record = (
                self,
                args,
                kwargs,
                constant.value,
                frame.f_globals,
                frame.f_lineno,
                strand,
                perf_counter(),
            )
            timeline.record(record)
            if here.blocks:
                core.note_effect(record)
            if timeline.has_ended:
                raise self._late(Call.of(record))
            return constant.value

        return function

    def perform(self, owner: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
        """Record a call and answer it.

        The replacement of the real method calls this; its own caller is the call site.

        Args:
            owner: the object that was called; None for a function or a static method.
            args: the positional arguments.
            kwargs: the keyword arguments.

        Raises:
            TypeError: the real method does not take these arguments. Such a call never leaves
                the process, so it is not recorded.
            LateCallError: the test that has started this thread has ended.
        """
        return self.reply(self.begin(owner, args, kwargs, 2), owner, args, kwargs)

    def read(self, owner: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
        """Record that a property is read, and answer. Reading a part of the client is no crossing.

        Args:
            owner: the object that the property is read from.
            args: none.
            kwargs: none.
        """
        call = self.begin(owner, args, kwargs, 2)
        if self.program is not None:
            return self.reply(call, owner, args, kwargs)
        try:
            value = self._fake.default_answer(call, owner, args, kwargs)
        except BaseException as error:
            call.error, call.duration = error, perf_counter() - call.at
            self._record(call)
            raise
        wrapped = self.outside(value)
        if wrapped is value and not hasattr(type(value), "_itkit_is_part"):
            call.result, call.duration = value, perf_counter() - call.at
            self._record(call)
        return wrapped

    def outside(self, value: Any) -> Any:
        """Return a value that was read: for a part its fake, any other value as it is."""
        return self._fake.wrap(self.member.name, value)

    def begin(self, owner: Any, args: Arguments, kwargs: dict[str, Any], depth: int) -> Call:
        """Return the record of a new call, which is not on the timeline yet.

        Args:
            owner: the object that was called; None for a function or a static method.
            args: the positional arguments.
            kwargs: the keyword arguments.
            depth: how many frames above the calling function the call site is.

        Raises:
            TypeError: the real method does not take these arguments.
        """
        given = (owner, *args) if self.member.has_owner else args
        try:
            can_change = self._check(*given, **kwargs)
        except TypeError as error:
            core.record_failure(error)
            __tracebackhide__ = True  # as in recording()
            raise
        frame: callsite.Where = sys._getframe(depth + 1)
        if self.called_by_library:
            frame = callsite.caller(sys._getframe(depth + 1))
        return self._begun(can_change, args, kwargs, frame)

    def reply(
        self,
        call: Call,
        owner: Any,
        args: Arguments,
        kwargs: dict[str, Any],
        default: DefaultAnswer | None = None,
    ) -> Any:
        """Record a call that has begun and answer it.

        Args:
            call: the record.
            owner: the object that was called; None for a function or a static method.
            args: the positional arguments, not their copies.
            kwargs: the keyword arguments, not their copies.
            default: the function that answers if nothing is programmed, instead of the fake's
                default.
        """
        self._record(call)
        program, unslept = self.program, 0.0
        try:
            if program is not None and program.delay is not None:
                unslept = program.delay.wait(call.arguments)
            call.result = self._answer(call, program, owner, args, kwargs, default)
            _lose(program)
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.duration = perf_counter() - call.at + unslept
        return call.result

    async def reply_async(
        self, call: Call, owner: Any, args: Arguments, kwargs: dict[str, Any]
    ) -> Any:
        """Record a call that has begun and answer it; sleep and await as a coroutine does."""
        call.at = perf_counter()  # a coroutine may have waited long for its turn
        self._record(call)
        program, unslept = self.program, 0.0
        try:
            if program is not None and program.delay is not None:
                unslept = await program.delay.wait_async(call.arguments)
            if _is_in_asyncio():
                await asyncio.sleep(0)  # as real I/O: the task may end before the reply
            result = self._answer(call, program, owner, args, kwargs)
            call.result = await result if asyncio.iscoroutine(result) else result
            _lose(program)
        except asyncio.CancelledError as error:
            call.error = error
            if _has_loop_ended():
                core.record_failure_of(core.own_timeline().test, _forgotten(call))
            raise
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.duration = perf_counter() - call.at + unslept
        return call.result

    def _answer(  # noqa: PLR0917 - as its two callers have them
        self,
        call: Call,
        program: AnswerProgram | None,
        owner: Any,
        args: Arguments,
        kwargs: dict[str, Any],
        default: DefaultAnswer | None = None,
    ) -> Any:
        """Return the answer to a call. A sweep wraps this method to let the call fail."""
        answer = program.next(args, kwargs) if program is not None else None
        if answer is not None:
            return _given(answer, args, kwargs)
        return (default or self._fake.default_answer)(call, owner, args, kwargs)

    def _begun(
        self, has_mutable: object, args: Arguments, kwargs: dict[str, Any], frame: callsite.Where
    ) -> Call:
        if has_mutable:
            return Call(self, snapshot(args), snapshot(kwargs), frame)
        return Call(self, args, kwargs, frame)

    def _record(self, call: Call) -> None:
        timeline = core.own_timeline()
        timeline.record(call)
        if core.here.blocks:
            core.note_effect(call)
        if timeline.has_ended:
            call.error = self._late(call)
            raise call.error

    def _late(self, call: Call) -> LateCallError:
        return core.late(f"{self.name} was called", call.strand, call.site)


def _given(answer: Answer, args: Arguments, kwargs: dict[str, Any]) -> Any:
    """Return the result of a test's answer; fail the test if it does not take the arguments."""
    try:
        return answer(*args, **kwargs)
    except TypeError as error:
        own = error.__traceback__
        if own is not None and own.tb_next is None:  # the answer's own code has not begun
            core.record_failure(error)
            __tracebackhide__ = True  # the mistake is in the answer
        raise


def _is_in_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # another library runs this coroutine
        return False
    return True


def _has_loop_ended() -> bool:
    """Return whether asyncio cancels the remaining tasks, as its main coroutine has ended."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_cancel_all_tasks":
            return True
        frame = frame.f_back
    return False


def _forgotten(call: Call) -> NeverRunError:
    return NeverRunError(
        f"{call.name} had no reply when its event loop ended: nobody waited for the task.\n"
        f"  called at {call.site}\n"
        "  Keep the task that was created, and await it."
    )


def _lose(program: AnswerProgram | None) -> None:
    """Raise the error that the caller gets instead of the reply, if there is one."""
    loss = program.next_loss() if program is not None else None
    if loss is not None:
        raise lost(loss)

"""The fake itself: records each call of a backend and answers as the test programmed."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Any

from itkit import boundary
from itkit.fakes.answers import Program
from itkit.fakes.calls import Call
from itkit.fakes.members import Member
from itkit.fakes.snapshots import are_immutable, snapshot
from itkit.fakes.unprogrammed import Advice, UnprogrammedReturn


class Fake:
    """Records the calls of one backend and answers them.

    It lives as long as the run; what a test programmed is one pointer, which ``reset`` moves.
    The calls themselves lie on the timeline of the test.

    Args:
        name: what the backend is called in assertions and reports.
        members: what of it is faked, by name.
        advice: the line to add to a test that programs nothing.
        is_function: whether its one member is the backend itself, called by the backend's name.
    """

    def __init__(
        self,
        name: str,
        members: Mapping[str, Member],
        advice: Advice,
        *,
        is_function: bool = False,
    ) -> None:
        self.name = name
        self.members = members
        self.advice = advice
        self.is_function = is_function
        self._names = {member: name if is_function else f"{name}.{member}" for member in members}
        self._programs: dict[str, Program] = {}

    def reset(self) -> None:
        """Forget what was programmed."""
        self._programs = {}

    def program(self, member: Member) -> Program:
        """Return what is programmed for a member, to be changed by the test."""
        return self._programs.setdefault(member.name, Program())

    def name_of(self, member: Member) -> str:
        """Return what a member is called in assertions and reports."""
        return self._names[member.name]

    def calls(self, member: Member) -> Iterator[Call]:
        """Yield the calls of a member in this test, in the order in which they began."""
        for crossing in boundary.current():
            if isinstance(crossing, Call) and crossing.fake is self and crossing.member is member:
                yield crossing

    def begin(
        self, member: Member, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call:
        """Return the record of a call that has just been made; it is not on the timeline yet.

        Raises:
            TypeError: the real method does not take these arguments. Such a call never leaves
                the process, so it is not recorded.
        """
        if member.has_owner:
            member.check(owner, *args, **kwargs)
        else:
            member.check(*args, **kwargs)
        if not (are_immutable(args) and are_immutable(kwargs.values())):
            args, kwargs = snapshot(args), snapshot(kwargs)
        return Call(self._names[member.name], self, member, args, kwargs)

    def perform(self, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call and answer it; the arguments are those passed, not their copies."""
        program = self._programs.get(call.member.name)
        boundary.current().record(call)
        try:
            if program is not None and program.delay:
                time.sleep(program.delay)
            call.result = self._answer(call, program, owner, args, kwargs)
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.duration = perf_counter() - call.at
        return call.result

    async def perform_async(
        self, call: Call, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record a call and answer it; sleeps and awaits as a coroutine does."""
        program = self._programs.get(call.member.name)
        call.at = perf_counter()  # a coroutine may have waited long for its turn
        boundary.current().record(call)
        try:
            if program is not None and program.delay:
                await asyncio.sleep(program.delay)
            result = self._answer(call, program, owner, args, kwargs)
            call.result = await result if asyncio.iscoroutine(result) else result
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.duration = perf_counter() - call.at
        return call.result

    def _answer(
        self,
        call: Call,
        program: Program | None,
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        answer = program.next() if program is not None else None
        if answer is not None:
            return answer(*args, **kwargs)
        if call.member.otherwise is not None:
            return call.member.otherwise(owner)
        return UnprogrammedReturn(call, self.advice)

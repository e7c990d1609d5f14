"""Which faults a call of a backend can suffer, and how; mail and tasks are backends too."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import iscoroutine
from typing import Any, Final, NoReturn

from django.core.mail import EmailMessage

from itkit.backends.faults import RaisableError, is_timeout
from itkit.backends.registry import Registry
from itkit.core.wrapping import wrapped
from itkit.fakes import Call
from itkit.fakes.answers import timeout_of
from itkit.fakes.methods import Method
from itkit.sweep.choosing import TWICE
from itkit.sweep.gate.gate import SIMULATED, Passage, Point, Touched

_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")
"""The part of the ``repr()`` of an object that differs from object to object."""


def text_of(call: Call) -> str:
    """Return a call as a text, which is the same for equal calls of two variations.

    A mail is shown by its content, and an object with the ``repr()`` of ``object`` by its class.
    """
    shown = {name: _plain(value) for name, value in call.arguments.items()}
    return _ADDRESS.sub("", f"{call.name}({shown})")


def _plain(value: Any) -> Any:
    if isinstance(value, EmailMessage):
        return {"to": value.to, "subject": value.subject, "body": value.body}
    return value


class CallPoint(Point):
    """A call that is about to be answered.

    Args:
        call: the record of the call.
        raised: the errors that the backend may raise.
        is_task: whether the call hands a task to a worker, which may run it twice.
    """

    def __init__(self, call: Call, raised: Sequence[RaisableError], *, is_task: bool) -> None:
        super().__init__(call.name, call.caller)
        self.errors = tuple(one.name for one in raised)
        self.can_be_doubled = is_task
        self.is_timed = timeout_of(call.arguments) is not None
        backend = call.name.partition(".")[0]
        self.touched = Touched(changes=frozenset({f"backend {backend}"}))
        self._raised = raised

    def fail(self, kind: str) -> NoReturn:
        """Raise the error of this name."""
        found = next(one for one in self._raised if one.name == kind)
        raise found.make(f"the call has failed ({SIMULATED})")

    def time_out(self) -> NoReturn:
        """Raise the error of the backend that is called so, or Python's own."""
        for one in self._raised:
            if is_timeout(one.kind):
                raise one.make(f"timed out ({SIMULATED})")
        super().time_out()

    def lose(self) -> NoReturn:
        """Raise the first of the errors, which is the most general one."""
        raise self._raised[0].make(f"there was no reply ({SIMULATED})")


@contextmanager
def led(gate: Passage, registry: Registry, reached: set[int]) -> Iterator[None]:
    """Lead the calls of all fakes through a gate, within a block.

    Args:
        gate: the gate that lets them pass.
        registry: the registry of the backends.
        reached: a set, to which the id of each call that reaches the service is added.
    """
    backends = {id(backend.fake): backend for backend in registry.faked()}

    def reply(call: Call, point: Point, kind: str | None, result: Any) -> Any:
        call.result = result  # recorded although the caller may never receive it
        reached.add(id(call))
        gate.leave(point, kind)
        return result

    def answering(answer: Callable[..., Any]) -> Callable[..., Any]:
        def _answer(method: Method, call: Call, *given: Any) -> Any:
            backend = backends.get(id(method.fake))
            if backend is None:  # a fake that the test has made itself
                return answer(method, call, *given)
            point = CallPoint(call, backend.raised, is_task=backend.is_task_runner)
            kind = gate.enter(point)
            result = answer(method, call, *given)
            if kind == TWICE:
                result = answer(method, call, *given)
            if iscoroutine(result):
                return _awaited(result, partial(reply, call, point, kind))
            return reply(call, point, kind, result)

        return _answer

    with ExitStack() as releases:
        releases.enter_context(wrapped(Method, "_answer", answering))
        for backend in registry.faked():
            releases.enter_context(backend.fake.answering_one_by_one())
        yield


async def _awaited(result: Any, reply: Callable[[Any], Any]) -> Any:
    """Return the result of ``reply`` for what a coroutine returns."""
    return reply(await result)

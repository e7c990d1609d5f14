"""An act that does not come to its end under a fault, ended after a bound of time."""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from itkit.core.text import counted
from itkit.exceptions import HangError
from itkit.sweep.gate.gate import SIMULATED, Crash, Gate
from itkit.timeline import callsite

_SIGNAL: Final = signal.SIGURG
"""Nothing is done about it by default, and few programs have a use for it."""
_HANGING: Final = (
    "the act does not come to its end under the fault: nothing has happened for {}"
    ' (ITKIT["SWEEP"]["ACT_SECONDS"])\n  it waits at {}'
)
_FRAMES: Final = ("cr_frame", "gi_frame", "ag_frame")
_AWAITED: Final = ("cr_await", "gi_yieldfrom", "ag_await")


@contextmanager
def bounded(gate: Gate, seconds: float) -> Iterator[None]:
    """End what is done within a block, where no crossing follows the fault for long.

    A coroutine is cancelled at what it awaits. The main thread is interrupted by a signal, which
    ends what waits for a lock, a server or a time; of a coroutine there, only if it cannot be
    cancelled. In another thread nothing is bounded, as no signal reaches it.

    Args:
        gate: the gate of the crossings, which knows when the last one has passed.
        seconds: the most seconds without a crossing.
    """
    act = _Act(gate, seconds, _current_task())
    watcher = threading.Thread(target=act.watch, name="itkit-act-watch", daemon=True)
    before = signal.signal(_SIGNAL, act.interrupt) if act.is_in_main else None
    watcher.start()
    try:
        yield
    except asyncio.CancelledError:
        if not act.was_cancelled():
            raise
        raise Crash(SIMULATED) from None
    finally:
        act.is_over.set()
        watcher.join()
        if act.is_in_main:
            signal.signal(_SIGNAL, before)


class _Act:
    """An act that is bounded.

    Args:
        gate: the gate of its crossings.
        seconds: the most seconds without one.
        task: the task of asyncio that does it; None where none does.
    """

    def __init__(self, gate: Gate, seconds: float, task: "asyncio.Task[Any] | None") -> None:
        self.is_in_main = threading.current_thread() is threading.main_thread()
        self.is_over = threading.Event()
        self._gate = gate
        self._seconds = seconds
        self._task = task

    def watch(self) -> None:
        """Interrupt the act where it hangs: first its task, and then the main thread."""
        ways = [self._ask_task] if self._task is not None else []
        ways += [self._ask_main] if self.is_in_main else []
        while ways and not self.is_over.wait(self._seconds / 10):
            if self._gate.struck and time.monotonic() - self._gate.moved > self._seconds:
                self._gate.moved = time.monotonic()  # what tidies up may wait as well
                (ways.pop(0) if len(ways) > 1 else ways[0])()

    def interrupt(self, _signal: int, frame: Any) -> None:
        """End what the main thread does, as the handler of a signal."""
        if not self.is_over.is_set():
            self._end_at(frame)
            raise Crash(SIMULATED)

    def was_cancelled(self) -> bool:
        """Return whether it is this that has cancelled the task, which then goes on."""
        if self._task is None or self._gate.hang is None:
            return False
        self._task.uncancel()
        return True

    def _ask_task(self) -> None:
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._cancel, self._task)

    def _ask_main(self) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)

    def _cancel(self, task: "asyncio.Task[Any]") -> None:
        if not self.is_over.is_set():
            self._end_at(_frame_of(task))
            task.cancel()

    def _end_at(self, frame: Any) -> None:
        found = callsite.caller(frame)
        where = callsite.site(found.f_globals, found.f_lineno)
        self._gate.hang = self._gate.hang or HangError(
            _HANGING.format(counted(self._seconds, "second"), where)
        )
        self._gate.is_dead = True


def _current_task() -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None


def _frame_of(task: "asyncio.Task[Any]") -> FrameType | None:
    """Return the innermost frame in a user's own code of what a task awaits, or its first one."""
    awaited: Any = task.get_coro()
    first = found = None
    while awaited is not None:
        frame = _first_of(awaited, _FRAMES)
        first = first or frame
        if frame is not None and callsite.is_own_file(frame.f_globals.get("__file__")):
            found = frame
        awaited = _first_of(awaited, _AWAITED)
    return found or first


def _first_of(awaited: Any, names: tuple[str, ...]) -> Any:
    return next((value for name in names if (value := getattr(awaited, name, None))), None)

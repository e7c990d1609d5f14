"""An act that does not come to its end under a fault, ended after a bound of time."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from itkit.exceptions import HangError
from itkit.sweep.gate import SIMULATED, Crash, Gate
from itkit.timeline import callsite

_SIGNAL: Final = signal.SIGURG
"""Nothing is done about it by default, and few programs have a use for it."""
_HANGING: Final = (
    "the act does not come to its end under the fault: nothing has happened for {:g} seconds"
    ' (ITKIT["SWEEP"]["ACT_SECONDS"])\n  it waits at {}'
)


@contextmanager
def bounded(gate: Gate, seconds: float) -> Iterator[None]:
    """End what the main thread does within a block, where no crossing follows the fault for long.

    The thread is interrupted by a signal, which ends what waits for a lock, a server or a time. In
    another thread nothing is bounded, as no signal reaches it.

    Args:
        gate: the gate of the crossings, which knows when the last one has passed.
        seconds: the most seconds without a crossing.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    is_over = threading.Event()

    def interrupt(_signal: int, frame: Any) -> None:
        if is_over.is_set():
            return
        found = callsite.caller(frame)
        where = callsite.site(found.f_globals, found.f_lineno)
        gate.hang = gate.hang or HangError(_HANGING.format(seconds, where))
        gate.is_dead = True
        raise Crash(SIMULATED)

    def watch() -> None:
        while not is_over.wait(seconds / 10):
            if gate.struck is not None and time.monotonic() - gate.moved > seconds:
                gate.moved = time.monotonic()  # what tidies up may wait as well
                signal.pthread_kill(main.ident or 0, _SIGNAL)

    before = signal.signal(_SIGNAL, interrupt)
    watcher = threading.Thread(target=watch, name="itkit-act-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
        signal.signal(_SIGNAL, before)

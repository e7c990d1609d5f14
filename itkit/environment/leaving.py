"""A test that ends the process of the tests by ``os._exit()`` or ``os.exec*()`` fails the run.

Both leave an exit code that says nothing about the tests, as no runner notices the call.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from itkit.exceptions import ProcessLeftError
from itkit.timeline import audit, core


class Leaving:
    """How the process that has started a run may end.

    Attributes:
        status: the exit code of the run; None while there are tests to come.
        say: prints a line, even where a runner captures what tests print.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.say: Callable[[str], object] = _print
        self._process = os.getpid()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Let the run fail if code within a block ends this process with the exit code 0.

        A process that is forked from this one may end in any way. ``os._exit`` causes no audit
        event, so it is replaced. Checked with Python 3.11 and 3.13.
        """
        original = os._exit

        @wraps(original)
        def leave(status: int) -> Any:
            original(self._judged(status))

        os._exit = leave
        try:
            with audit.listening({"os.exec": self._refuse}):
                yield
        finally:
            if os._exit is leave:
                os._exit = original

    def _judged(self, status: int) -> int:
        if status or os.getpid() != self._process:
            return status
        if self.status is None:
            self.say(f"\nitkit: {_message('os._exit()')}\n")
        return 1 if self.status is None else self.status

    def _refuse(self, _arguments: tuple[Any, ...]) -> None:
        if self.status is None and os.getpid() == self._process:
            raise core.record_failure(ProcessLeftError(f"{_message('os.exec()')} It was refused."))


def _print(text: str) -> None:
    if sys.stderr is not None:  # at the end of the interpreter the module may be gone
        sys.stderr.write(text)
        sys.stderr.flush()


def _message(function: str) -> str:
    test = core.last_test()
    by = f" in {test}, or in what it has started" if test else ""
    return f"{function}{by} ends the process of the tests; the remaining tests would not run."

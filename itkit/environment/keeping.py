"""A run stands still where a test has failed, with its rows and keys: ``--itkit-keep``.

Other terminals join the run by ``manage.py itkit shell`` and ``dbshell``, as they join a run in
``--pdb``.
"""

import os
import select
import sys
import unittest
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from django.db import connections

from itkit.core.text import message_of, repr_of
from itkit.environment import running

_POLL_SECONDS: Final = 0.2
_LONGEST_LINE: Final = 4096
_STANDS: Final = """
itkit: {test} {how}. What it has
committed and its keys stay as they are while you look, from another terminal:
  manage.py itkit shell
  manage.py itkit dbshell
{rolled_back}Enter lets the run continue. So does manage.py itkit clean, and then it stops no more.
"""
_ROLLED_BACK: Final = (
    "The test is in a transaction, whose rows no other session sees: an IntegrationTestCase"
    " commits them.\n"
)


class Keeper:
    """Stops a run at each test that fails, and at its last test.

    Attributes:
        terminal: returns a context manager that gives its block the real terminal, where a runner
            captures output.
    """

    def __init__(self) -> None:
        self.terminal: Callable[[], AbstractContextManager[object]] = nullcontext
        self._failed: dict[str, str] = {}  # the errors in one line, by the ids of the tests
        self._stood = ""
        self._is_over = False

    def note(self, test: str, error: BaseException) -> None:
        """Note that a test has failed."""
        text = message_of(error).strip().partition("\n")[0]
        self._failed.setdefault(test, f"{type(error).__name__}: {text}" if text else repr_of(error))

    def watch(
        self, case: unittest.TestCase, test: str, look: Callable[[], None], *, is_last: bool
    ) -> None:
        """Stop a test case of unittest before it is torn down.

        Args:
            case: the test.
            test: the id of the test.
            look: a function that is called first, and notes the errors that are not noted yet.
            is_last: whether it is the last test of the run.
        """

        def before(original: Callable[[], Any]) -> Callable[[], Any]:
            def called() -> Any:
                look()
                self.stand(test, is_last=is_last)
                return original()

            return called

        # The methods are replaced on the instance, so that those that its class overrides run
        # later. A test whose set-up fails is not torn down, but its clean-ups run.
        case.tearDown = before(case.tearDown)  # type: ignore[method-assign]
        case.doCleanups = before(case.doCleanups)  # type: ignore[method-assign]

    def stand(self, test: str, *, is_last: bool) -> None:
        """Wait once until somebody lets the run go on, if the test has failed or is the last."""
        error = self._failed.get(test)
        if self._is_over or self._stood == test or (error is None and not is_last):
            return
        self._stood = test
        how = f"has failed, {error}" if error is not None else "is the last test"
        is_rolled_back = any(
            connection.in_atomic_block for connection in connections.all(initialized_only=True)
        )
        with self.terminal(), running.standing(test) as stands:
            _write(
                _STANDS.format(
                    test=test, how=how, rolled_back=_ROLLED_BACK if is_rolled_back else ""
                )
            )
            self._is_over = not _wait(stands)


def _wait(stands: running.Stop) -> bool:
    """Wait until Enter, or another process, lets the run go on; return whether it was Enter."""
    files = [0]
    while not stands.is_ended():
        try:
            ready, _, _ = select.select(files, [], [], _POLL_SECONDS)
        except (OSError, ValueError):  # there is no standard input
            files, ready = [], []
        if ready and os.read(0, _LONGEST_LINE):
            return True
        if ready:
            files = []  # the end of standard input: nobody types
    return False


def _write(text: str) -> None:
    stream = sys.__stderr__ or sys.stderr
    stream.write(text)
    stream.flush()

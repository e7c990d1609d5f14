"""The argument ``fault`` of a swept test, and ``fault()`` for an ordinary test."""

import shlex
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from inspect import isawaitable
from typing import Any, Final

from django.core import mail

from itkit import conf, environment
from itkit.core import names
from itkit.core.wrapping import wrapped
from itkit.exceptions import AtomicityError, FaultError, TaskCrashError
from itkit.fakes import Call
from itkit.sweep import rows
from itkit.sweep.act import apart, check_transactions, is_in_loop, variation
from itkit.sweep.choosing import AnyFault, Choice, FaultSpec, faults_of
from itkit.sweep.gate import calls, commands, statements
from itkit.sweep.gate.gate import Crash, Gate
from itkit.sweep.injection import hanging
from itkit.sweep.rows import Content
from itkit.timeline import core

_JOIN_SECONDS: Final = 10.0
_NO_FAULT: Final = "A fault cannot be injected"
_WOULD_END: Final = "a crash, or a lost connection, would end it"
_NOT_ATOMIC: Final = (
    "What the act has left is neither what was there before it nor what it leaves without a"
    " fault.\n"
    "  compared with before:\n{}\n  compared with a run without a fault:\n{}"
)


class Baseline:
    """The content that the run without a fault leaves, with which the variations are compared.

    Attributes:
        since: the moment at which the sweep began.
        before: the content before the act; None where no act has begun.
        after: the content after the act; None unless the test has asked for it.
    """

    def __init__(self) -> None:
        self.since = datetime.now(UTC)
        self.before: Content | None = None
        self.after: Content | None = None


class Fault:
    """The fault of one variation of a swept test, which has none in its first run.

    Attributes:
        error: the error that the act has raised under the fault; None where it has raised none.
        retry_error: the error that the retry has raised; None where it has raised none.
        option: the option of the command line that repeats this variation.
        was_entered: whether the test has entered a block in which a fault may happen.
        mails: the number of mails that the act has sent.
    """

    def __init__(
        self,
        choice: Choice | None = None,
        spec: AnyFault | None = None,
        *,
        mode: str = names.SWEEP_OFF,
        baseline: Baseline | None = None,
    ) -> None:
        self.error: BaseException | None = None
        self.retry_error: Exception | None = None
        self.option = f"--itkit-fault {shlex.quote(str(spec))}" if spec is not None else ""
        self.gate = Gate(choice or Choice(), mode, faults_of(spec))
        self._spec = spec
        self._baseline = baseline or Baseline()
        self._is_on = mode != names.SWEEP_OFF
        self.was_entered = False
        self.mails = 0
        self._before: Content | None = None
        self._reached: set[int] = set()

    @property
    def has_fault(self) -> bool:
        """Whether a fault is to happen in this variation."""
        return self._spec is not None

    @property
    def shown(self) -> str:
        """Nothing: the fault is on the timeline."""
        return ""

    @property
    def columns(self) -> tuple[()]:
        """Nothing: there is one act."""
        return ()

    @property
    def where(self) -> str:
        """The crossings that the faults have happened to, with their lines."""
        return ", ".join(f"{struck.name} at {struck.site}" for struck in self.gate.all_struck)

    @property
    def has_failed(self) -> bool:
        """Whether the act has raised an error under the fault, or has died."""
        return self.error is not None

    @contextmanager
    def injected(self) -> Iterator[None]:
        """Let one crossing within the block suffer the fault of this variation.

        An error that the act raises under the fault, or its death, does not leave the block; it is
        kept as ``fault.error``. In the first run nothing is changed.

        Raises:
            FaultError: the test has an open transaction.
            HangError: the act has not come to its end under the fault.
        """
        check_transactions(_NO_FAULT, because=_WOULD_END)
        self.was_entered = True
        if not self._is_on:
            yield
            return
        may_be_compared = not self.has_fault or self._baseline.after is not None
        if self._before is None and may_be_compared:
            self._before = self._content()
        sent = _mails()
        try:
            with _led(self.gate, self._reached):
                yield
            self.mails += _mails() - sent
        except Crash as crash:
            self.error = crash
        except Exception as error:
            if self.gate.struck is None:
                raise
            self.error = error
        if self.gate.struck is not None:
            _excuse_tasks()
        if self.gate.hang is not None:
            raise self.gate.hang

    def retry(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do the act again if it has failed, as a client, a worker or a cron job would.

        An error of the second attempt is kept as ``fault.retry_error``: it may be right that the
        code under test refuses a second attempt.

        Args:
            act: the function to call. Where it is a coroutine function, await the call of
                ``retry()``.
            *args: positional arguments for the function.
            **kwargs: keyword arguments for the function.

        Returns:
            The result of the function; None where the act has not failed, or its retry has.
        """
        if not self.has_failed:
            return _Nothing() if is_in_loop() else None
        try:
            result = act(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the code under test may raise anything
            self.retry_error = error
            return None
        return self._awaited(result) if isawaitable(result) else result

    def done(self, method: Any) -> list[Call]:
        """Return the calls of a backend's method that have reached the service.

        Calls whose reply was lost are among them; calls that have failed are not.

        Args:
            method: a method of a backend, such as ``backends.payments.charge``.
        """
        return [call for call in method.calls if self._has_reached(call)]

    def assert_atomic(self) -> None:
        """Fail unless the act has had either its whole effect or none.

        The rows of all models, and the calls that have reached the backends, must equal those
        before the act, or those after an act without a fault. Keys in Redis are not compared, nor
        are columns that had other values before the act without a fault, such as a random salt.

        Raises:
            AtomicityError: they equal neither; the message lists the rows and calls that differ.
        """
        if not self._is_on:
            return
        content = self._content()
        if not self.has_fault:
            self._baseline.before, self._baseline.after = self._before, content
            return
        before, after, first = self._before, self._baseline.after, self._baseline.before
        if before is None or after is None or first is None:
            return
        by_chance = rows.differing(first.rows, before.rows)
        found = [content.differences(expected, by_chance) for expected in (before, after)]
        if all(found):
            raise AtomicityError(_NOT_ATOMIC.format(*map(rows.shown, found)))

    def check(self) -> None:
        """Check that the fault of this variation has happened.

        Raises:
            FaultError: the fault has not happened; the message lists the crossings that passed.
        """
        self.gate.check()

    async def _awaited(self, result: Awaitable[Any]) -> Any:
        try:
            return await result
        except Exception as error:  # noqa: BLE001 - as above
            self.retry_error = error
            return None

    def _has_reached(self, call: Call) -> bool:
        return id(call) in self._reached or call.error is None or call.result is not None

    def _content(self) -> Content:
        made = [call for call in core.current() if isinstance(call, Call)]
        reached = [calls.text_of(one) for one in made if self._has_reached(one)]
        with core.between_tests():
            return Content(apart(rows.load, self._baseline.since), Counter(reached))


def _mails() -> int:
    """Return how many mails the test has sent."""
    return len(getattr(mail, "outbox", ()))


class _Nothing:
    """The result of a retry that did nothing in a coroutine, which may await it or not."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


def current() -> Fault:
    """Return the fault of the running variation, or one that never happens without one."""
    running = variation()
    return running if isinstance(running, Fault) else Fault()


@contextmanager
def fault(crossing: str, kind: str) -> Iterator[None]:
    """Let one crossing within the block fail, in a test that is not swept.

    An error that the code under test raises leaves the block, as it would without a fault; only a
    crash ends with the block.

    Args:
        crossing: the name of the crossing or a pattern, such as ``"COMMIT"``,
            ``"INSERT shop_order"`` or ``"payments.charge"``; the second of them is
            ``"payments.charge#2"``.
        kind: ``"error"`` for the first of its errors, the name of an exception, ``"lost_reply"``,
            ``"timeout"``, ``"crash"``, ``"crash_before"`` or ``"run_twice"``.

    Raises:
        FaultError: no such crossing was reached, it has no such kind, or a transaction is open.
    """
    check_transactions(_NO_FAULT, because=_WOULD_END)
    spec = FaultSpec.parse(f"{crossing}:{kind}")
    gate = Gate(Choice(), names.SWEEP_QUICK, [spec])
    try:
        with _led(gate, set()):
            yield
    except Crash:
        pass
    except Exception:  # such as Django's, which cannot end a transaction after a crash
        if not gate.is_dead:
            raise
    gate.check()


@contextmanager
def _led(gate: Gate, reached: set[int]) -> Iterator[None]:
    """Lead all that leaves the process through a gate, within a block.

    Connections that the fault has broken connect anew afterwards. Python prints the error of a
    thread by ``threading.excepthook``, which is replaced here to leave out a crash. Checked with
    Python 3.11 and 3.13.
    """
    found = environment.current()
    if found is None:
        raise FaultError("A fault needs --integration: the test is to be skipped without it.")
    seen: set[Any] = set()
    try:
        with ExitStack() as releases:
            releases.enter_context(wrapped(threading, "excepthook", _passing_over))
            releases.callback(_join, gate)
            releases.enter_context(statements.led(gate, seen))
            releases.enter_context(commands.led(gate))
            releases.enter_context(calls.led(gate, found.backends, reached))
            releases.enter_context(hanging.bounded(gate, conf.get().sweep.act_seconds))
            yield
    finally:
        for connection in seen:
            if gate.is_dead or statements.is_broken(connection):
                statements.revive(connection)
        if gate.is_dead:
            found.drop_connections()


def _passing_over(excepthook: Callable[..., Any]) -> Callable[..., Any]:
    """Return an ``excepthook`` that leaves out a crash, of which pytest would warn."""

    def leave_out_crashes(args: Any) -> None:
        if not isinstance(args.exc_value, Crash):
            excepthook(args)

    return leave_out_crashes


def _join(gate: Gate) -> None:
    """Wait for the end of the threads that have crashed, but for those of a pool, which go on."""
    deadline = time.monotonic() + _JOIN_SECONDS
    for thread in gate.crashed - {threading.current_thread(), threading.main_thread()}:
        thread.join(max(0, deadline - time.monotonic()))


def _excuse_tasks() -> None:
    """Mark the tasks that a fault has crashed as seen: a real worker would run them again."""
    for error in core.current().kept:
        if isinstance(error, TaskCrashError):
            error.is_seen = True

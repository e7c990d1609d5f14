"""After the tests: code that they have left running can reach nothing any more, and fails the run.

The developer's settings are not put back in this process. Threads, pools, tasks and finalizers
that outlive the tests find that each way out is shut: databases, Redis, backends, the network. Each
attempt fails. itkit waits for them for a moment, and reports them with the test and the line that
started them.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, Final, NamedTuple

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from itkit.exceptions import RunOverError
from itkit.network import guarding
from itkit.timeline import audit, callsite, core

NO_TEST: Final = "after the tests"
_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.02
_PROCESSES: Final = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec")


class Late(NamedTuple):
    """Something that outlives the tests.

    Attributes:
        test: the test that has started it, or a text where no test has.
        error: the error that says what it has tried to do.
    """

    test: str
    error: RunOverError


class Door:
    """The one way out of a process, which is shut when the tests are over.

    Args:
        is_held: returns whether a runner has yet to destroy the test database of an alias; returns
            None for a database that is left to Django, where itkit does not know.
    """

    def __init__(self, is_held: Callable[[str], bool | None]) -> None:
        self._is_held = is_held
        self._names = {alias: connections.settings[alias]["NAME"] for alias in connections}
        self._tidying: int | None = None
        self._late: dict[tuple[int | None, str], Late] = {}
        self._is_reported = False

    @contextmanager
    def shut(self, guard: guarding.NetworkGuard) -> Iterator[None]:
        """Refuse everything within a block, except what the calling thread has to tidy up.

        Args:
            guard: the guard of the network.
        """
        self._tidying = threading.get_ident()
        with ExitStack() as releases:
            releases.enter_context(core.over(self._refuse_crossing))
            releases.enter_context(self._no_databases())
            releases.callback(setattr, guard, "refuse", None)
            guard.refuse = self.refuse
            audit.refuse_at_the_end(RunOverError)
            processes = dict.fromkeys(_PROCESSES, self._refuse_process)
            releases.enter_context(audit.listening(processes))
            releases.callback(self._forget)
            yield

    def lock(self) -> None:
        """Refuse everything to the thread that has shut the door as well, once it has tidied up."""
        self._tidying = None

    def refuse(self, what: str) -> None:
        """Raise for something that goes out, unless it is a part of the tidying up.

        Args:
            what: the thing that is refused, such as "A connection to Redis".

        Raises:
            RunOverError: always; the message names the line, and where its thread was started.
        """
        if threading.get_ident() != self._tidying:
            self._refuse(what)

    def wait(self) -> list[Late]:
        """Wait a moment for what outlives the tests, and return it; print what comes later."""
        deadline = time.monotonic() + _SECONDS
        while (left := _left()) and time.monotonic() < deadline:
            left[0].join(_POLL_SECONDS)
        for thread in left:
            if not thread.daemon and not any(key[0] == thread.ident for key in self._late):
                self._note(thread, "", RunOverError(_still(thread)))
        self._is_reported = True
        return list(self._late.values())

    def _refuse(self, what: str) -> None:
        thread = threading.current_thread()
        frame = callsite.outside_of_libraries(sys._getframe(1))
        called_at = (
            str(callsite.site(frame.f_globals, frame.f_lineno))
            if frame is not None
            else "a library"
        )
        error = RunOverError(
            f"{what} was refused: the run with --integration is over in this process.\n"
            f"  from {called_at}\n{_started(thread)}"
            "  Let the test wait for what it starts. Code that comes after a run belongs in another"
            " process: your own settings are not restored in this one."
        )
        self._note(thread, called_at, error)
        raise error

    def _note(self, thread: threading.Thread, called_at: str, error: RunOverError) -> None:
        key = thread.ident, called_at
        if key in self._late:
            return
        origin = core.origin_of(thread)
        self._late[key] = Late((origin.test if origin else "") or NO_TEST, error)
        if self._is_reported:
            _print(f"itkit: {error}")
            _end_red()

    def _forget(self) -> None:
        self._late.clear()
        self._is_reported = False

    def _refuse_process(self, _arguments: tuple[Any, ...]) -> None:
        """Refuse a process that a thread of a test starts: psql, redis-cli or manage.py.

        The main thread may start processes: code that runs after a run belongs in another process.
        """
        if core.origin_of(threading.current_thread()) is not None:
            self.refuse("A process")

    def _refuse_crossing(self, _crossing: object) -> None:
        self.refuse("A statement, a command of Redis or a call of a backend")

    @contextmanager
    def _no_databases(self) -> Iterator[None]:
        """Refuse, within a block, all connections of Django to databases.

        Django has no hook for this, so a method that ``connect()`` calls first is replaced on the
        base class of all connections. (SimpleTestCase leaves the original ``connect`` on the
        objects.) Checked with Django 5.2 and 6.1.
        """
        check = BaseDatabaseWrapper.check_settings

        @wraps(check)
        def refuse_or_check(wrapper: BaseDatabaseWrapper) -> None:
            if threading.get_ident() != self._tidying or not self._is_of_tests(wrapper):
                self._refuse(f"A connection to the database {wrapper.alias!r}")
            check(wrapper)

        BaseDatabaseWrapper.check_settings = refuse_or_check  # type: ignore[assignment, method-assign]  # see above
        try:
            yield
        finally:
            BaseDatabaseWrapper.check_settings = check  # type: ignore[method-assign]  # as it was

    def _is_of_tests(self, wrapper: BaseDatabaseWrapper) -> bool:
        """Return whether a connection leads to a test database that is still to be destroyed."""
        held = self._is_held(wrapper.alias)
        if held is None:
            return bool(wrapper.settings_dict["NAME"] != self._names.get(wrapper.alias))
        return held


class _Red:
    """Gives the process the exit code 1 when the interpreter forgets this object.

    That is after all ``atexit`` hooks, such as the one with which coverage.py saves its data; by
    then nothing else can change the exit code.
    """

    def __del__(
        self,
        is_finalizing: Callable[[], bool] = sys.is_finalizing,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        if is_finalizing():
            leave(1)


_red: _Red | None = None


def _end_red() -> None:
    global _red  # noqa: PLW0603 - of the interpreter, for good
    _red = _Red()


def _print(text: str) -> None:
    if sys.stderr is not None:  # at the end of the interpreter the module may be gone
        sys.stderr.write(f"{text}\n")


def _started(thread: threading.Thread) -> str:
    origin = core.origin_of(thread)
    if origin is None:
        return ""
    by = f", by {origin.test}" if origin.test else ""
    return f"  in the thread {thread.name!r}, started at {origin.site}{by}\n"


def _still(thread: threading.Thread) -> str:
    frame = _frame_of(thread)
    called_at = callsite.site(frame.f_globals, frame.f_lineno) if frame is not None else "a library"
    return (
        f"A thread still runs {_SECONDS:.0f} seconds after the tests.\n"
        f"  at {called_at}\n{_started(thread)}"
        "  Let the test wait for what it starts."
    )


def _left() -> list[threading.Thread]:
    """Return the threads that the run has started and that run code of the project."""
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.current_thread()
        and core.origin_of(thread) is not None
        and _runs_own_code(thread)
    ]


def _runs_own_code(thread: threading.Thread) -> bool:
    """Return whether a thread runs code of the project; an idle thread of a pool does not."""
    given = (getattr(thread, "_target", None), getattr(thread, "function", None), type(thread).run)
    return (
        any(callsite.is_own_code(_unwrapped(function)) for function in given)
        or _frame_of(thread) is not None
        or any(_tasks_of(thread))
    )


def _frame_of(thread: threading.Thread) -> callsite.Where | None:
    frame = sys._current_frames().get(thread.ident or 0)
    return callsite.outside_of_libraries(frame) if frame is not None else None


def _tasks_of(thread: threading.Thread) -> Iterator[object]:
    """Yield the tasks of the project in the event loop that a thread runs."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        loop = frame.f_locals.get("self") if frame.f_code.co_name == "run_forever" else None
        if isinstance(loop, asyncio.AbstractEventLoop):
            for task in asyncio.all_tasks(loop):
                code = getattr(task.get_coro(), "cr_code", None)
                if code is not None and callsite.is_own_file(code.co_filename):
                    yield task
        frame = frame.f_back


def _unwrapped(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    return function if hasattr(function, "__globals__") else type(function).__call__

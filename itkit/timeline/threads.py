"""Assigns the work of threads and processes to the test that has started or submitted it.

Python has no event for this, so the functions that start and submit work are wrapped during a run.
Checked on Python 3.11.
"""

import asyncio
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from multiprocessing.pool import ThreadPool
from typing import Any, Final

from asgiref.current_thread_executor import CurrentThreadExecutor

from itkit.core import handshake
from itkit.core.wrapping import wrapped
from itkit.exceptions import NeverRunError
from itkit.timeline import callsite, core
from itkit.timeline.callsite import CallSite
from itkit.timeline.core import Opened, Strand, Submitted, Timeline

_SERVING: Final = frozenset({"concurrent.futures.thread", "multiprocessing.pool", "socketserver"})
"""Modules whose threads outlast a test on purpose, as they serve later tests too."""

_ENVIRONMENT: Final = 10
"""The position of the environment among the arguments of ``Popen``."""

_STARTING: Final = ("execve", "posix_spawn", "posix_spawnp")

_SUBMITTING: Final = ("apply_async", "imap", "imap_unordered", "_map_async")
"""The methods of a ``ThreadPool`` by which all its other methods submit work."""


@contextmanager
def followed() -> Iterator[None]:
    """Let each thread, and each job of a thread pool, belong to the test that starts it.

    Not all versions have hooks for these: Python 3.13 raises an audit event for the start of a
    thread, and 3.11 does not. Checked with Python 3.11 and 3.13 and asgiref 3.13.
    """
    with ExitStack() as releases:
        for owner, name, decorated in (
            (threading.Thread, "start", _starting),
            (ThreadPoolExecutor, "submit", _submitting),
            (CurrentThreadExecutor, "submit", _passing),
            *((ThreadPool, name, _submitting) for name in _SUBMITTING),
            (BaseHTTPRequestHandler, "parse_request", _requested),
            (Future, "exception", _asking),
            (asyncio.BaseEventLoop, "create_task", _tasking),
            (asyncio.BaseEventLoop, "call_exception_handler", _complaining),
            (warnings, "_warn_unawaited_coroutine", _unawaited),
            (subprocess.Popen, "__init__", _inviting),
            *((os, name, _inviting_by_name) for name in _STARTING),
        ):
            releases.enter_context(wrapped(owner, name, decorated))
        depth = sys.get_coroutine_origin_tracking_depth()
        releases.callback(sys.set_coroutine_origin_tracking_depth, depth)
        sys.set_coroutine_origin_tracking_depth(max(depth, 1))  # the loop of this thread
        yield


def _starting(start: Callable[..., Any]) -> Callable[..., Any]:
    def tag_and_start(thread: threading.Thread) -> None:
        target: Any = getattr(thread, "_target", None)
        serves = getattr(target, "__module__", None) in _SERVING
        # A server starts the thread of a request when the request has come.
        if not serves or getattr(target, "__name__", "") == "process_request_thread":
            core.own(thread)
        core.note_origin(thread, callsite.caller(sys._getframe(1)))
        start(thread)

    return tag_and_start


def _submitting(submit: Callable[..., Any]) -> Callable[..., Any]:
    def submit_owned(pool: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        timeline = core.owner()
        if timeline is not None:
            caller = callsite.caller(sys._getframe(1))
            submission = Submitted(globals(), caller.f_globals, caller.f_lineno)
            submitter = callsite.Submitter(caller)
            function = _Owned(function, timeline, submission, core.here.blocks, submitter)
        return submit(pool, function, *args, **kwargs)

    return submit_owned


def _passing(submit: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper that remembers the coroutine for which the test's thread works."""

    def submit_passed(executor: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        submitter = callsite.Submitter(callsite.caller(sys._getframe(1)))
        return submit(executor, _Passed(function, submitter), *args, **kwargs)

    return submit_passed


def _tasking(create: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper that notes who makes a task of a library's own coroutine.

    Such as ``asyncio.gather(Order.objects.acount())``: no line of the project awaits it in there.
    """

    def create_task(loop: Any, coroutine: Any, **kwargs: Any) -> Any:
        task = create(loop, coroutine, **kwargs)
        code = getattr(coroutine, "cr_code", None)
        if code is None or not callsite.is_own_file(code.co_filename):
            callsite.note_task(task, sys._getframe(1))
        return task

    return create_task


def _inviting(initialize: Callable[..., None]) -> Callable[..., None]:
    """Return a wrapper that lets a process find its test in any environment that it gets."""

    def start(process: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) <= _ENVIRONMENT:
            kwargs["env"] = handshake.completed(kwargs.get("env"))
        initialize(process, *args, **kwargs)

    return start


def _inviting_by_name(start: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper that does so for functions of ``os`` that get an environment."""

    def start_invited(path: Any, argv: Any, env: Any = None, **kwargs: Any) -> Any:
        return start(path, argv, handshake.completed(env), **kwargs)

    return start_invited


def _requested(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper that assigns a request to the running test, not to its connection's."""

    def parse_request(handler: Any) -> Any:
        strand = core.here.strand
        if strand.timeline is not None:
            strand.timeline = core.running if core.running.test else None
        return parse(handler)

    return parse_request


def _asking(exception: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper that notes who retrieves the error of a future without raising it."""

    def ask(future: Any, timeout: float | None = None) -> Any:
        error = exception(future, timeout)
        if error is not None:
            core.note_asked(error, sys._getframe(1).f_code.co_filename)
        return error

    return ask


def _complaining(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper that notes errors which, by the event loop, nobody retrieves."""

    def call_exception_handler(loop: Any, context: dict[str, Any]) -> Any:
        if (error := context.get("exception")) is not None:
            core.note_unasked(error)
        return handle(loop, context)

    return call_exception_handler


def _unawaited(warn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook for warnings that a coroutine was never awaited, for faked functions.

    A faked coroutine function stays one, so it reports its call only when it is awaited.
    """

    def warn_unawaited_coroutine(coroutine: Any) -> Any:
        variables = coroutine.cr_frame.f_locals if coroutine.cr_frame is not None else {}
        method = getattr(variables.get("_itkit_perform"), "__self__", None)
        if method is not None:
            origin = (coroutine.cr_origin or [None])[0]
            submission = f"\n  called at {CallSite(*origin)}" if origin is not None else ""
            core.record_failure_of(
                core.own_timeline().test,
                NeverRunError(
                    f"{method.name}() was called, but its coroutine was never awaited, so the call"
                    f" has not happened.{submission}\n  Write: await ..."
                ),
            )
        return warn(coroutine)

    return warn_unawaited_coroutine


class _Passed:
    """A function that a coroutine runs in the thread of the test.

    Args:
        function: the function.
        submitter: the coroutine.

    Attributes:
        submitter: the coroutine; ``callsite`` finds it on the stack of the thread.
    """

    __slots__ = ("_function", "submitter")

    def __init__(self, function: Callable[..., Any], submitter: callsite.Submitter) -> None:
        self._function = function
        self.submitter = submitter

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)


class _Owned:
    """A function that a test has submitted to a pool.

    Args:
        function: the function that was submitted.
        timeline: the timeline of the test.
        submitted: the line that has submitted it, for records.
        blocks: the transactions that are open at its submission, as it may run within them.
        submitter: the code that has submitted it.

    Attributes:
        submitter: the code that has submitted it; ``callsite`` finds it on the pool's stack.
    """

    __slots__ = ("_blocks", "_function", "_submitted", "_timeline", "submitter")

    def __init__(
        self,
        function: Callable[..., Any],
        timeline: Timeline,
        submitted: Submitted,
        blocks: Sequence[Opened],
        submitter: callsite.Submitter,
    ) -> None:
        self._function = function
        self._timeline = timeline
        self._submitted = submitted
        self._blocks = list(blocks)
        self.submitter = submitter

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function on behalf of the test."""
        here = core.here
        own = Strand(threading.current_thread(), self._timeline, self._submitted)
        strand, here.strand = here.strand, own
        blocks, here.blocks = here.blocks, [*here.blocks, *self._blocks]
        try:
            return self._function(*args, **kwargs)
        finally:
            here.strand, here.blocks = strand, blocks

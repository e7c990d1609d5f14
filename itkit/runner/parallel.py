"""The workers of ``manage.py test --parallel``: in the environment, and reported if they die."""

import ctypes
import functools
import multiprocessing
import multiprocessing.util
import os
import types
import unittest
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

from django.test import runner as django_runner
from django.test.runner import ParallelTestSuite

from itkit import environment
from itkit.core import names
from itkit.exceptions import RunOverError, WorkerError
from itkit.observation import swallowed
from itkit.runner import scopes
from itkit.runner.workers import Died, Done, Failed, Happened, Send, Sent, Workers
from itkit.timeline import core

_END: Final = "itkit_end"  # an event of a worker, in addition to those of Django's result
_FIRST: Final = 100  # the priority among multiprocessing's actions at the end of a process
_LONGEST: Final = 800  # characters of a message
_MOST_SENT: Final = 4  # of one worker


def scoped(base: type[ParallelTestSuite]) -> type[ParallelTestSuite]:
    """Return a project's own parallel suite, or Django's, with its workers in the environment."""
    # The project's overrides come before our class, which replaces Django's.
    between = () if base is ParallelTestSuite else (base,)
    return type("ScopedSuite", (_ScopedSuite, *between, _WatchedSuite), {})


class _ScopedSuite(ParallelTestSuite):
    """Runs the workers of a parallel suite in the environment.

    With spawn, Django pickles these functions by their names, so they are functions of this module.
    They get the functions of the project's own suite as arguments.
    """

    _late: Any = None  # workers use it at their end to report what outlives their tests

    @property
    def init_worker(self) -> Any:  # type: ignore[override]  # Django reads its __func__ only
        project = super().init_worker.__func__  # type: ignore[attr-defined]
        return types.MethodType(functools.partial(_init_worker, project, self._late), self)

    @property
    def run_subsuite(self) -> Any:  # type: ignore[override]  # Django reads its __func__ only
        project = super().run_subsuite.__func__  # type: ignore[attr-defined]
        return types.MethodType(functools.partial(_run_subsuite, project), self)

    def run(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        current = environment.current()
        if current is not None:
            current.account.suite = None
            scopes.report_imports(result)
        self._late = multiprocessing.SimpleQueue()
        with closing(self._late):
            super().run(result, *args, **kwargs)
            while not self._late.empty():
                for test, text in self._late.get():
                    error = RunOverError(text)
                    result.addError(scopes.Ended(test), (RunOverError, error, None))
        scopes.finish(result, has_workers=True)
        return result

    def handle_event(self, result: Any, tests: Any, event: Any) -> None:
        current = environment.current()
        if current is None or event[0] != _END:
            super().handle_event(result, tests, event)
            return
        _, begun, not_set_up, notes = event
        current.account.add(begun)
        current.account.add_not_set_up(not_set_up)
        current.notes.add_all(notes)


class _WatchedSuite(ParallelTestSuite):
    """Runs workers of itkit's instead of a pool, which would wait for ever for a dead worker.

    All else is as in Django 5.2 to 6.1.
    """

    def run(self, result: Any) -> Any:  # type: ignore[override]  # the stubs have it too narrow
        self.initialize_suite()
        result.buffer = False  # the results of the workers contain their output
        suite: Any = self
        initargs = (
            suite.initial_settings,
            suite.serialized_contents,
            suite.process_setup.__func__,
            suite.process_setup_args,
            suite.debug_mode,
            suite.used_aliases,
        )
        jobs = [
            (suite.runner_class, index, subsuite, suite.failfast, suite.buffer)
            for index, subsuite in enumerate(suite.subsuites)
        ]
        workers = Workers(
            suite.processes,
            begin=functools.partial(_begin, suite.init_worker.__func__, initargs),
            work=functools.partial(_work, suite.run_subsuite.__func__),
        )
        stop = result.stop

        def stop_workers() -> None:  # as Ctrl-C does
            stop()
            workers.stop()

        result.stop = stop_workers
        report = _Report(suite, result)
        try:
            with closing(workers.run(jobs)) as running:
                for happened in running:
                    report.add(happened)
                    if result.shouldStop:
                        workers.stop()
        finally:
            vars(result).pop("stop", None)
        report.take_back()
        return result


class _Report:
    """Adds the events of the workers to the result of the main process.

    Args:
        suite: the suite that the workers run.
        result: the result of the main process.
    """

    def __init__(self, suite: Any, result: Any) -> None:
        self._suite = suite
        self._result = result
        self._tests: dict[int, list[unittest.TestCase]] = {}
        self._running: dict[int, str] = {}  # the running test of each job, empty between tests
        self._last: dict[int, str] = {}

    def add(self, happened: Happened) -> None:
        """Report one event of a worker."""
        if isinstance(happened, Sent):
            test, events = happened.value
            self._take(happened.job, events)
            self._running[happened.job] = test
            self._last[happened.job] = test or self._last.get(happened.job, "")
            if test and (current := environment.current()) is not None:
                current.account.add([test])
        elif isinstance(happened, Done):
            _, events = happened.value
            self._take(happened.job, events)
            self._running.pop(happened.job, None)
        else:
            self._add_error(happened)

    def take_back(self) -> None:
        """Count tests that were running when the workers were stopped as not run."""
        current = environment.current()
        for test in self._running.values():
            if current is not None and test:
                current.account.take_back(test)

    def _take(self, job: int, events: Any) -> None:
        tests = self._tests_of(job)
        for event in events:
            self._suite.handle_event(self._result, tests, event)

    def _add_error(self, happened: Failed | Died) -> None:
        job = happened.job
        running = self._running.pop(job, "") if job is not None else ""
        found = [test for test in self._tests_of(job) if test.id() == running]
        test: Any = found[0] if found else scopes.Ended(self._where(happened))
        if isinstance(happened, Died):
            text = f"The {happened}{self._when(job, running)}.{_advice(happened)}"
        elif happened.worker:
            when = self._when(job, running)
            text = f"Worker {happened.worker} was stopped by an error{when}:\n{happened.text}"
        else:
            text = f"The tests cannot be sent to a worker:\n{happened.text}"
        error = WorkerError(text)
        self._result.startTest(test)
        self._result.addError(test, (type(error), error, None))
        self._result.stopTest(test)

    def _when(self, job: int | None, running: str) -> str:
        if running:
            return f" while it ran {running}"
        if job is None:
            return ", and was running no test"
        last = self._last.get(job)
        return (
            f" after {last} had ended" if last else f" before the first test of {self._name(job)}"
        )

    def _where(self, happened: Failed | Died) -> str:
        part = self._name(happened.job) if happened.job is not None else "the start"
        return f"{part}, in worker {happened.worker}"

    def _name(self, job: int) -> str:
        tests = self._tests_of(job)
        kind = type(tests[0]) if tests else type(self._suite)
        return f"{kind.__module__}.{kind.__qualname__}"

    def _tests_of(self, job: int | None) -> list[unittest.TestCase]:
        if job is None:
            return []
        if job not in self._tests:
            self._tests[job] = list(self._suite.subsuites[job])
        return self._tests[job]


def _advice(died: Died) -> str:
    if died.code == -9:
        return " The system does that when it is out of memory."
    if died.code >= 0:
        return " Something has called os._exit(), or sys.exit() outside of a test."
    return ""


def _begin(project: Callable[..., None], initargs: tuple[Any, ...], number: int) -> None:
    """Initialise a process as a worker by the function that Django's pool calls."""
    counter = multiprocessing.Value(
        ctypes.c_int, number - 1
    )  # in this process, where nobody waits for it
    project(counter, *initargs)


def _work(project: Callable[[Any], Any], send: Send, args: tuple[Any, ...]) -> Any:
    """Run one class of tests in a worker by the function that Django's pool calls."""
    current = environment.current()
    if current is None:
        return project(args)
    # A function of the project's own may change the results, so they are known only at its end.
    is_djangos = getattr(project, "args", ()) == (django_runner._run_subsuite,)  # type: ignore[attr-defined]
    stream = _Stream(send, has_results=is_djangos)
    current.account.follower = stream.follow
    index, events = project(args)
    return index, events[stream.sent :]


class _Stream:
    """Sends the beginning and end of each test, with the results until then, to the main process.

    Without this, a worker that dies before a class ends would lose the results of the class.

    Args:
        send: sends a value to the main process.
        has_results: whether to send the results as well.

    Attributes:
        sent: the number of events that were sent.
    """

    def __init__(self, send: Send, *, has_results: bool) -> None:
        self.sent = 0
        self._send = send
        self._has_results = has_results

    def follow(self, test: str, result: Any) -> None:
        # A test may run once more with a result of its own, as those do that may fail once.
        is_ours = self._has_results and isinstance(result, django_runner.RemoteTestResult)
        events = result.events[self.sent :] if is_ours else []
        self._send((test, events))
        self.sent += len(events)


def _init_worker(project: Callable[..., None], late: Any, *args: Any, **kwargs: Any) -> None:
    """Attach a worker to the run, before and after Django switches its databases."""
    spawned = environment.current() is None
    if spawned:
        args = _set_up_spawned(*args)
        environment.attach(names.MAIN_WORKER)
        scopes.install()
    project(*args, **kwargs)
    current = environment.current()
    if current is not None:
        number: int = django_runner._worker_id  # type: ignore[attr-defined]  # not in the stubs
        current.enter_worker(names.worker_id(number))
        # Runs before multiprocessing waits for the threads and ends the process.
        multiprocessing.util.Finalize(None, _end_worker, args=(late,), exitpriority=_FIRST)


def _end_worker(outbox: Any) -> None:
    """Refuse the connections of a worker without further tests; report what outlives the tests."""
    current = environment.current()
    if current is None or current.process != os.getpid():
        return
    found = [(late.test, str(late.error)) for late in current.shut()]
    found += [(test, str(error)) for test, error in swallowed.late()]
    if found:
        # The pipe is read only when all workers have ended, so all output has to fit into it.
        outbox.put([(test, text[:_LONGEST]) for test, text in found[:_MOST_SENT]])


def _set_up_spawned(
    counter: Any,
    settings: Any = None,
    serialized: Any = None,
    process_setup: Any = None,
    process_setup_args: Any = None,
    *rest: Any,
) -> tuple[Any, ...]:
    """Load the project in a spawned worker; Django would do this only after it was attached.

    Return the arguments for Django's own initializer, without the set-up that is done already.
    """
    import django

    if process_setup is not None:
        process_setup(*(process_setup_args or ()))
    django.setup()
    return (counter, settings, serialized, None, None, *rest)


def _run_subsuite(project: Callable[[Any], Any], args: tuple[Any, ...]) -> Any:
    """Run one class of tests in a worker, and add itkit's reports to its events."""
    core.pop_failures()  # the run reports errors of importing the tests
    index, events = project(args)
    current = environment.current()
    if current is not None:
        notes = [tuple(note) for note in current.notes.take()]
        events.append((_END, *current.account.take(), notes))
    return index, events

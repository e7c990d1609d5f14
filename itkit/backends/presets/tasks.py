"""Tasks of Django 6.0 and later: recorded, and run by the test, at once or on commit."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from django.conf import settings
from django.db import transaction
from django.test import override_settings

from itkit.backends.presets.base import RUNS, Named, PresetHandle, Results, TaskRunner
from itkit.exceptions import ConfigurationError

try:
    from django.tasks import TaskResult, TaskResultStatus
    from django.tasks.backends.immediate import ImmediateBackend
    from django.tasks.exceptions import InvalidTaskBackend, TaskResultDoesNotExist
    from django.tasks.signals import task_finished
    from django.utils.crypto import get_random_string
except ImportError as error:
    raise ConfigurationError("Tasks came with Django 6.0, and this one is older.") from error

Result = Any
"""A ``TaskResult``; Django and its stubs disagree whether it is generic."""

_running: "Tasks | None" = None


class Queue:
    """The call that is recorded for tasks."""

    def enqueue(self, task: Named, /, *_args: Any, **_kwargs: Any) -> Result:
        """Enqueue a task, given by its name, with its arguments, and return its result."""
        return task.take(task)


class TasksHandle(PresetHandle):
    """The handle of tasks: ``backends.tasks.enqueue.calls``, ``backends.tasks.run()``."""

    __slots__ = ()

    @property
    def results(self) -> list[Result]:
        """The results of the tasks that were enqueued in this test, in order."""
        self._builtin.look()
        return list(self._builtin.results)

    def run(self) -> list[Result]:
        """Run the tasks that have not run yet, and those that they enqueue; return the results."""
        return Results(self._builtin.run(), self._builtin.look)


class Tasks(TaskRunner):
    """All aliases of TASKS.

    The results are in the memory of the process, and all of its threads see them.
    """

    takes: ClassVar = {"RUN": RUNS}
    calls = ("enqueue",)
    handle = TasksHandle
    real = Queue

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._named: dict[str, Named] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put our backend into TASKS within a block."""
        global _running  # noqa: PLW0603 - as global as the setting
        path = f"{__name__}.{RecordingBackend.__name__}"
        tasks = {
            alias: {**entry, "BACKEND": path, "OPTIONS": {}}
            for alias, entry in settings.TASKS.items()
        }
        outer, _running = _running, self
        try:
            with override_settings(TASKS=tasks):
                yield
        finally:
            _running = outer

    def reset(self) -> None:
        """Forget the results."""
        super().reset()
        self._named.clear()

    def take(self, backend: "RecordingBackend", result: Result, named: Named) -> Result:
        """Keep the result of a task, run the task at its time, and return the result."""
        self.results.append(result)
        self._named[result.id] = named
        if self.option("RUN") == "now":
            self.execute(backend, result)
        elif self.option("RUN") == "commit":
            transaction.on_commit(partial(self.execute, backend, result))
        return result

    def execute(self, backend: "RecordingBackend", result: Result) -> None:
        """Run a task, and note if it has crashed.

        A result has only the text of an error. The error itself is available while Django sends its
        signal.
        """
        raised: list[BaseException] = []

        def hear(task_result: Result, **_: object) -> None:
            if task_result is result and (error := sys.exc_info()[1]) is not None:
                raised.append(error)

        task_finished.connect(hear)
        try:
            backend.execute(result)
        finally:
            task_finished.disconnect(hear)
        if result.status is TaskResultStatus.FAILED and result.id in self._named:
            text = result.errors[-1].traceback.strip().splitlines()[-1]
            error = raised[-1] if raised else None
            self.note_crash(self._named.pop(result.id), result, text, error)

    def run(self) -> Iterator[Result]:
        """Run the tasks that have not run yet, and those that they enqueue."""
        while waiting := [one for one in self.results if one.status is TaskResultStatus.READY]:
            for result in waiting:
                backend: Any = result.task.get_backend()
                self.execute(backend, result)
                yield result


class RecordingBackend(ImmediateBackend):
    """Based on Django's backend that runs tasks in the process; runs them when the test says so."""

    supports_defer = True
    supports_get_result = True

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Result:
        """Enqueue a task, as a backend of Django's tasks does."""
        self.validate_task(task)
        result: Result = TaskResult(
            task=task,
            id=get_random_string(32),
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        if _running is None:
            raise InvalidTaskBackend("The tests' backend of tasks is used outside of a run.")
        named = Named(task.module_path, partial(_running.take, self, result))
        return Queue().enqueue(named, *args, **kwargs)

    def execute(self, result: Result) -> None:
        """Run a task once, and record how it ended."""
        if result.status is TaskResultStatus.READY:
            self._execute_task(result)  # type: ignore[attr-defined]  # not in the stubs

    def get_result(self, result_id: str) -> Result:
        """Return the result of a task of this test."""
        found = _running.results if _running is not None else []
        for result in found:
            if result.id == result_id:
                return result
        raise TaskResultDoesNotExist(result_id)

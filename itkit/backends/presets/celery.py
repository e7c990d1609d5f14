"""Tasks of Celery: recorded, and run by the test, at once or on commit; no broker is needed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from django.db import transaction

from itkit.backends.presets.base import RUNS, Named, PresetHandle, Results, TaskRunner
from itkit.core.text import repr_of
from itkit.exceptions import ConfigurationError

try:
    from celery import Celery, current_app, signature
    from celery.app.task import Task
    from celery.result import AsyncResult
    from celery.utils import uuid
    from kombu.exceptions import OperationalError
except ImportError as error:
    raise ConfigurationError("Celery is not installed.") from error


class Sending:
    """The calls that are recorded for tasks."""

    def apply_async(
        self, task: Named, args: tuple[Any, ...], kwargs: dict[str, Any], **options: Any
    ) -> Any:
        """Send a task, given by its name, with its arguments and options."""
        return task.take(task, args, kwargs, options)


class CeleryHandle(PresetHandle):
    """The handle of Celery: ``backends.tasks.apply_async.calls``, ``backends.tasks.run()``."""

    __slots__ = ()

    def run(self) -> list[Any]:
        """Run the tasks that have not run yet, and those that they send; return the results."""
        return Results(self._builtin.run(), self._builtin.look)

    @property
    def results(self) -> list[Any]:
        """The results of the tasks that were run in this test, in order."""
        self._builtin.look()
        return list(self._builtin.results)


class CeleryTasks(TaskRunner):
    """The tasks of all apps of Celery in this process, sent by ``delay`` or ``apply_async``.

    A task that is sent only by its name and is not defined in this process is recorded and never
    run. Chains continue. The body of a chord does not run, as it would need a result backend.
    """

    takes: ClassVar = {"RUN": RUNS}
    calls = ("apply_async",)
    raises = (OperationalError,)
    handle = CeleryHandle
    real = Sending

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._waiting: list[Callable[[], Any]] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Redirect all tasks that are sent to this fake for the duration of the block.

        Celery sends its signal only when a task was sent already. So the two methods that all ways
        of sending use are replaced. Checked with Celery 5.7.
        """
        task, app = Task.apply_async, Celery.send_task
        Task.apply_async, Celery.send_task = self._of_task(), self._of_app()
        try:
            yield
        finally:
            Task.apply_async, Celery.send_task = task, app

    def remark(self) -> str:
        """Return a hint that tasks do not run at once, if the project's settings expect that."""
        if not current_app.conf.task_always_eager or self.option("RUN") == "now":
            return ""
        return (
            "task_always_eager of Celery has no effect: the BUILTIN 'celery' records the tasks"
            ' (with "OPTIONS": {"RUN": "now"} it runs them at once)'
        )

    def reset(self) -> None:
        """Forget the results, and the tasks that have not run."""
        super().reset()
        self._waiting.clear()

    def take(
        self, task: Any, named: Named, args: Any, kwargs: dict[str, Any], options: dict[str, Any]
    ) -> Any:
        """Keep a task, and run it at its time; return the result for the sender."""
        task_id = options.get("task_id") or uuid()
        if isinstance(task, Celery):  # an app without a task of this name
            return AsyncResult(task_id, app=task)
        kept = {key: options[key] for key in ("link", "link_error", "headers") if key in options}

        def apply() -> Any:
            result = task.apply(args, kwargs, task_id=task_id, **kept)
            self.results.append(result)
            if result.failed():
                self.note_crash(named, result, repr_of(result.result), result.result)
            if result.successful() and options.get("chain"):
                _send_next(task.app, result.result, list(options["chain"]))
            return result

        if self.option("RUN") == "now":
            return apply()
        if self.option("RUN") == "commit":
            transaction.on_commit(apply)
        else:
            self._waiting.append(apply)
        return AsyncResult(task_id, app=task.app)

    def run(self) -> Iterator[Any]:
        """Run the tasks that have not run yet, and those that they send."""
        while self._waiting:
            yield self._waiting.pop(0)()

    def _of_task(self) -> Callable[..., Any]:
        """Return the replacement of a task's ``apply_async``."""

        def apply_async(
            task: Any, args: Any = None, kwargs: Any = None, task_id: Any = None, **options: Any
        ) -> Any:
            given = tuple(args or ())
            if task.typing:
                bound = getattr(task, "__self__", None)
                own = given if bound is None else (bound, *given)
                task.__header__(*own, **(kwargs or {}))  # this refuses wrong arguments
            return self._send(task.name, task, given, kwargs, {"task_id": task_id, **options})

        return apply_async

    def _of_app(self) -> Callable[..., Any]:
        """Return the replacement of an app's ``send_task``."""

        def send_task(
            app: Any, name: str, args: Any = None, kwargs: Any = None, **options: Any
        ) -> Any:
            return self._send(name, app.tasks.get(name, app), tuple(args or ()), kwargs, options)

        return send_task

    def _send(self, name: str, task: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        given = {key: value for key, value in options.items() if value is not None}
        named = Named(name, partial(self.take, task))
        return Sending().apply_async(named, args, kwargs or {}, **given)


def _send_next(app: Any, result: Any, remaining: list[Any]) -> None:
    """Send the next task of a chain, as a worker does after each task."""
    following = signature(remaining.pop(), app=app)
    following.apply_async((result,), chain=remaining)

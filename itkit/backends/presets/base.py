"""The base classes of all built-in backends."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, ClassVar, Final

from itkit.core.text import did_you_mean
from itkit.exceptions import ConfigurationError, TaskCrashError
from itkit.fakes import Call, Handle
from itkit.timeline import callsite, core

_TELLING: Final = frozenset(
    {
        "errors",
        "failed",
        "get",
        "info",
        "is_finished",
        "result",
        "return_value",
        "state",
        "status",
        "successful",
        "traceback",
    }
)
"""The attributes of a result, of Celery or Django, by which a test learns of a crash."""

_crashes: dict[int, TaskCrashError] = {}
"""The crashes, by the ids of the results, which the backend that ran the tasks keeps."""

RUNS: Final = ("never", "now", "commit")
"""When a task runs: when the test says so, at once, or when the transaction is committed."""


class Preset(ABC):
    """A backend that itkit knows.

    Attributes:
        takes: the options of the preset, and the possible values of each, the default first. An
            option without listed values may have any text.
        is_shared: whether any object of ``real`` may answer calls of objects in other processes.
        calls: the methods of ``real`` that are recorded.
        raises: the errors that a sweep raises from it.
        handle: the object by which a test uses the preset.
        real: the class whose calls are recorded. It answers them itself if a test programs nothing.
    """

    takes: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    is_shared: ClassVar[bool] = False
    calls: ClassVar[tuple[str, ...]]
    raises: ClassVar[tuple[type[Exception], ...]] = (ConnectionError,)
    handle: ClassVar[type["PresetHandle"]]
    real: type

    def __init__(self, options: Mapping[str, Any]) -> None:
        for key, value in options.items():
            self._check(key, value)
        self._options = options

    @abstractmethod
    def installed(self) -> AbstractContextManager[None]:
        """Redirect the real API to this fake for the duration of the block."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the state that a test has left."""

    def remark(self) -> str:
        """Return a hint for the start line about behaviour that may surprise, or an empty text."""
        return ""

    def option(self, key: str) -> str:
        """Return the value of an option."""
        allowed = self.takes[key]
        return str(self._options.get(key, allowed[0] if allowed else "default"))

    def _check(self, key: str, value: object) -> None:
        if key not in self.takes:
            hint = did_you_mean(key, list(self.takes)) if self.takes else "It takes none."
            raise ConfigurationError(f"{type(self).__name__} has no option {key!r}. {hint}")
        if self.takes[key] and value not in self.takes[key]:
            expected = ", ".join(map(repr, self.takes[key]))
            raise ConfigurationError(f"The option {key} is {value!r}, expected one of {expected}.")


class TaskRunner(Preset):
    """A built-in backend that runs tasks.

    Attributes:
        results: the results of the tasks of this test, in order.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self.results: list[Any] = []
        self._crashes: list[TaskCrashError] = []

    def reset(self) -> None:
        """Forget the results."""
        for result in self.results:
            _crashes.pop(id(result), None)
        self.results.clear()
        self._crashes.clear()

    def look(self) -> None:
        """Note that the test looks at the results, and so sees their crashes."""
        for crash in self._crashes:
            crash.is_seen = True

    def note_crash(
        self, named: "Named", result: Any, text: str, error: BaseException | None
    ) -> None:
        """Let a crashed task fail its test, unless the test looks at the result.

        Args:
            named: the task, as it was sent.
            result: the result of the task, by which the test may look at the crash.
            text: a text about the error with which the task ended.
            error: the error itself, if it is available.
        """
        story = core.own_timeline()
        sent = next(
            (call for call in story if isinstance(call, Call) and _sends(call, named)), None
        )
        sent_at = f"\n  sent at {sent.site}" if sent is not None else ""
        crash = TaskCrashError(
            f"The task {str(named)!r} has crashed, and the test did not look at that: {text}"
            f"{sent_at}\n"
            "  Catch the error, read what run() returns, or the error of the call that has sent it."
        )
        if error is not None and error.__traceback__ is not None:
            crash.behind = error
        if sent is not None:
            sent.error, sent.crash = error or crash, crash
        self._crashes.append(crash)
        _crashes[id(result)] = crash
        _watch(result)
        core.record_failure_of(story.test, crash)


def _watch(result: Any) -> None:
    """Give the result of a task a class that notes when the test looks at it.

    The test has this object itself, whose class has no event for this. Checked with Celery 5.7 and
    with the tasks of Django 6.0 and 6.1.
    """
    kind: Any = type(result)  # mypy does not know that a class is hashable
    object.__setattr__(result, "__class__", _watched(kind))  # the object may be frozen


class Results(list[Any]):
    """The results of tasks for the test; reading one counts as a look at the crashes."""

    def __init__(self, results: Iterable[Any], look: Callable[[], None]) -> None:
        super().__init__(results)
        self._look = look

    def __getitem__(self, index: Any) -> Any:
        self._look()
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        self._look()
        return super().__iter__()


class PresetHandle(Handle[Any]):
    """The handle of a built-in backend."""

    __slots__ = ("_builtin",)

    _builtin: Any

    def __init__(self, fake: Any, builtin: Any) -> None:
        super().__init__(fake)
        object.__setattr__(self, "_builtin", builtin)


class Named(str):
    """The name of a task, which is recorded and compared as a text.

    Attributes:
        take: accepts the task of this name.
    """

    __slots__ = ("take",)

    take: Callable[..., Any]

    def __new__(cls, name: str, take: Callable[..., Any]) -> "Named":
        """Make a name."""
        self = super().__new__(cls, name)
        self.take = take
        return self


def _sends(call: Call, named: Named) -> bool:
    return any(argument is named for argument in call.args)


@cache
def _watched(kind: type) -> type:
    """Return a class of results that notes when code of tests reads how the task has ended."""
    if "__getattribute__" in vars(kind):
        return kind
    namespace = {"__slots__": (), "__module__": kind.__module__, "__getattribute__": _look_and_get}
    return type(kind.__name__, (kind,), namespace)


def _look_and_get(self: Any, name: str) -> Any:
    if name in _TELLING and (crash := _crashes.get(id(self))) is not None:
        asking = sys._getframe(1).f_code.co_filename
        crash.is_seen = crash.is_seen or callsite.is_of_tests(asking)
    return object.__getattribute__(self, name)

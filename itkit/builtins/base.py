"""What all built-in backends are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Final

from itkit.conf import did_you_mean
from itkit.exceptions import ConfigurationError
from itkit.fakes import Handle

RUNS: Final = ("never", "now", "commit")
"""When a task is run: by the test itself, at once, or when the transaction is committed."""


class Builtin(ABC):
    """A backend that itkit knows.

    Attributes:
        takes: its options, and the values that each may have; the first is the default. Empty for
            any text.
        is_shared: whether any object of ``real`` may answer a call that another one got, in another
            process.
        calls: the methods of ``real`` that are recorded.
        handle: what a test holds of it.
        real: the class whose calls are recorded, and answered by itself where a test programs
            nothing.
    """

    takes: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    is_shared: ClassVar[bool] = False
    calls: ClassVar[tuple[str, ...]]
    handle: ClassVar[type["BuiltinHandle"]]
    real: type

    def __init__(self, options: Mapping[str, Any]) -> None:
        for key, value in options.items():
            self._check(key, value)
        self._options = options

    @abstractmethod
    def installed(self) -> AbstractContextManager[None]:
        """Lead what this stands for here, within a block."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what a test has left."""

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


class BuiltinHandle(Handle[Any]):
    """The handle of a built-in backend."""

    __slots__ = ("_builtin",)

    _builtin: Any

    def __init__(self, fake: Any, builtin: Any) -> None:
        super().__init__(fake)
        object.__setattr__(self, "_builtin", builtin)


class Named(str):
    """The name of a task, which is recorded and compared as a text.

    Attributes:
        take: takes the task that it is the name of.
    """

    __slots__ = ("take",)

    take: Callable[..., Any]

    def __new__(cls, name: str, take: Callable[..., Any]) -> "Named":
        """Make a name."""
        self = super().__new__(cls, name)
        self.take = take
        return self

"""Finds the errors that a backend may raise, so that a sweep can raise each of them."""

import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from django.utils.module_loading import import_string

from itkit.exceptions import ConfigurationError

_WORD: Final = re.compile(r"\w+")
NETWORK: Final = (ConnectionError,)
"""The error of a backend about which nothing is known."""


class RaisableError(NamedTuple):
    """An error that a backend may raise.

    Attributes:
        kind: the exception.
    """

    kind: type[Exception]

    @property
    def name(self) -> str:
        """Its name in a report."""
        return self.kind.__name__

    def make(self, text: str) -> Exception:
        """Return an instance of the error.

        Args:
            text: the text of the error, where its class takes one.

        Raises:
            ConfigurationError: the class can be made neither from a text nor without arguments.
        """
        for args in ((text,), ()):
            try:
                return self.kind(*args)
            except TypeError:
                continue
        raise ConfigurationError(
            f"{self.name} cannot be made from a text alone, so no sweep can raise it; other errors"
            ' of the backend can be named as its "FAULTS" in ITKIT["BACKENDS"]'
        )


def named(paths: Iterable[str]) -> tuple[RaisableError, ...]:
    """Return the errors that the settings name for a backend; the first one is for lost replies."""
    return tuple(RaisableError(import_string(path)) for path in paths)


def obstacle(kind: Any) -> str | None:
    """Return why a sweep cannot raise a value; None if it can."""
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return "it is no class of exceptions"
    try:
        RaisableError(kind).make("a text")
    except ConfigurationError as error:
        return str(error)
    return None


def found(real: Any) -> tuple[RaisableError, ...]:
    """Return the errors that a class or function seems to raise, the most general first.

    These are the exceptions of its module that its source or docstrings mention, and their
    subclasses. If none is mentioned, all exceptions of the module are returned, and if the module
    has none, ``ConnectionError``. Exceptions that cannot be made from a text alone are left out.
    """
    module = sys.modules.get(real.__module__)
    kinds = {
        value
        for value in getattr(module, "__dict__", {}).values()
        if obstacle(value) is None
        and value.__module__.partition(".")[0] not in ("builtins", "itkit")
    }
    mentioned = words_of(real)
    bases = tuple(kind for kind in kinds if kind.__name__ in mentioned)
    kinds = {kind for kind in kinds if issubclass(kind, bases)} or kinds
    return tuple(map(RaisableError, _most_general_first(kinds) or NETWORK))


def is_timeout(kind: type[BaseException]) -> bool:
    """Return whether a class of errors is for a reply that does not come in time."""
    return issubclass(kind, TimeoutError) or "timeout" in kind.__name__.lower()


def words_of(real: Any) -> set[str]:
    """Return the words in the source of a class or function, or in its docstring."""
    try:
        source = inspect.getsource(real)
    except (OSError, TypeError):  # there is none
        source = inspect.getdoc(real) or ""
    return set(_WORD.findall(source))


def _most_general_first(kinds: Iterable[type[Exception]]) -> Sequence[type[Exception]]:
    listed = list(kinds)
    return sorted(
        listed, key=lambda kind: (-sum(issubclass(each, kind) for each in listed), kind.__name__)
    )

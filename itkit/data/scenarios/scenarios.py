"""Scenarios: functions of ``<app>/scenarios.py`` that make rows, which can then be restored."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, overload

from django.apps import apps

from itkit.core.text import did_you_mean
from itkit.data.factories import factories
from itkit.exceptions import DataError

Manager = Any
"""A ``TestDataManager``, whose module imports this one."""


@dataclass(frozen=True)
class Scenario:
    """A function that makes rows by a data manager, and names some of them.

    Attributes:
        function: takes the manager, and returns a dict of names, or nothing.
        sources: modules whose text decides what the function makes, besides its own module, the
            factories and the models.
    """

    function: Callable[[Manager], Mapping[str, Any] | None]
    sources: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.function.__name__

    @property
    def full_name(self) -> str:
        """The name with its module."""
        return f"{self.function.__module__}.{self.name}"

    def __call__(self, data: Manager) -> Mapping[str, Any] | None:
        """Make the rows, without any cache."""
        return self.function(data)


@overload
def scenario(function: Callable[..., Any], /) -> Scenario: ...
@overload
def scenario(*, sources: Iterable[str] = ()) -> Callable[[Callable[..., Any]], Scenario]: ...
def scenario(
    function: Callable[..., Any] | None = None, /, *, sources: Iterable[str] = ()
) -> Scenario | Callable[[Callable[..., Any]], Scenario]:
    """Mark a function of ``<app>/scenarios.py`` as a scenario for ``data.scenario("its_name")``.

    The function takes a data manager, makes rows, and returns a dict of those that a test wants to
    have by name. Anything else that it does, such as sending mail, happens only when its rows are
    made and not when they are restored.

    Args:
        function: the function.
        sources: modules that the function calls. Its rows are made anew when one of them, a factory
            or a model changes.
    """
    if function is not None:
        return Scenario(function)
    return lambda function: Scenario(function, tuple(sources))


def find(what: object) -> Scenario:
    """Return a scenario, given by its name with or without its app, or as an object.

    Raises:
        DataError: no scenario has this name, or several have.
    """
    if isinstance(what, Scenario):
        return what
    known = _registry(modules())
    found = [each for name, each in known if what in (name, each.name)]
    if len(found) == 1:
        return found[0]
    names = [name for name, _ in known]
    if found:
        raise DataError(
            f"{what!r} may be any of {', '.join(name for name, each in known if each in found)}."
        )
    raise DataError(
        f"There is no scenario {what!r} in any scenarios.py. {did_you_mean(str(what), names)}"
    )


@cache
def _registry(modules: tuple[ModuleType, ...]) -> list[tuple[str, Scenario]]:
    """Return all scenarios, with their names and the names of their apps."""
    return [
        (f"{_label(module)}.{item.name}", item)
        for module in modules
        for item in vars(module).values()
        if isinstance(item, Scenario) and item.function.__module__ == module.__name__
    ]


def modules() -> tuple[ModuleType, ...]:
    """Return the modules in which scenarios are found."""
    return factories.modules_named("scenarios", "tests.scenarios")


def _label(module: ModuleType) -> str:
    app = apps.get_containing_app_config(module.__name__)
    return app.label if app else module.__name__

"""Tracks which methods of a service are called, and which branches of its code are taken."""

import inspect
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, TypedDict

from itkit.core.instrumentation import Instrumentation, Instrumented, functions_in
from itkit.exceptions import BindingError
from itkit.fakes import handle_of, is_mock
from itkit.timeline import callsite


class ServiceCoverage(TypedDict):
    """The methods of a service that tests have used, sorted, and the branches, as in the source.

    Attributes:
        methods_called: the public methods of the interface whose code was run.
        methods_missed: the public methods whose code was not run.
        branches_covered: the branches that the service's code has taken at conditions, loops,
            ``match`` and ``except``.
        branches_missed: the branches that it has not taken.
    """

    methods_called: list[str]
    methods_missed: list[str]
    branches_covered: list[str]
    branches_missed: list[str]


class Tracker:
    """Tracks the object of an interface until ``stop()``.

    Args:
        interface: the class that names the methods.
        service: the object, class or module that is bound to the interface.

    Raises:
        BindingError: the service has no code of the project to track.
    """

    def __init__(self, interface: Any, service: Any) -> None:
        self._instrumentation = Instrumentation()
        self._mock = service if is_mock(service) else None
        self._entries: dict[str, str | None] = {}
        self._branches: dict[str, str] = {}
        names = list(_public_methods(interface))
        if self._mock is not None:
            self._entries = dict.fromkeys(names)
            return
        instrumented: dict[FunctionType, Instrumented] = {}
        for function in _functions_of(service):
            found = self._instrumentation.add(function) if function not in instrumented else None
            if found is not None:
                instrumented[function] = found
                self._branches.update(found.branches)
        for name in names:
            value = inspect.getattr_static(service, name, None)
            behind = [
                instrumented[found] for found in functions_in([value]) if found in instrumented
            ]
            if behind:
                self._entries[name] = behind[0].entry
        if not self._entries:
            raise BindingError(
                f"{interface!r} cannot be tracked: {service!r} has no public method of it that is"
                " written in Python in a file of the project."
            )

    def stop(self) -> None:
        """Give the service its own code back; the record stays."""
        self._instrumentation.remove()

    def coverage(self) -> ServiceCoverage:
        """Return the methods and branches that were used until now."""
        called = {name for name, entry in self._entries.items() if self._is_called(name, entry)}
        covered = self._branches.keys() & self._instrumentation.hit
        return ServiceCoverage(
            methods_called=sorted(called),
            methods_missed=sorted(self._entries.keys() - called),
            branches_covered=_in_order(self._branches, covered),
            branches_missed=_in_order(self._branches, self._branches.keys() - covered),
        )

    def _is_called(self, name: str, entry: str | None) -> bool:
        if self._mock is not None:
            return handle_of(self._mock).call_count(name) > 0
        return entry in self._instrumentation.hit


def _public_methods(interface: Any) -> Iterator[str]:
    for name in dir(interface):
        value = inspect.getattr_static(interface, name, None)
        if not name.startswith("_") and any(True for _ in functions_in([value])):
            yield name


def _functions_of(service: Any) -> Iterator[FunctionType]:
    """Yield the functions of the project in a class, an object or a module."""
    if isinstance(service, ModuleType):
        found = [
            function
            for function in functions_in(vars(service).values())
            if function.__module__ == service.__name__
        ]
    else:
        kind = service if isinstance(service, type) else type(service)
        owners = [service, *kind.__mro__]
        values = [value for owner in owners for value in getattr(owner, "__dict__", {}).values()]
        found = list(functions_in(values))
    for function in found:
        if callsite.is_own_file(function.__code__.co_filename):
            yield function


def _in_order(branches: dict[str, str], points: set[str]) -> list[str]:
    """Return the names of branches in the order of the source."""
    return [label for point, label in branches.items() if point in points]

"""``TestContainer``: binds interfaces to objects for one test."""

import inspect
import typing
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload

from itkit.backends import registry
from itkit.backends.tracking import ServiceCoverage, Tracker
from itkit.core.text import did_you_mean
from itkit.exceptions import BindingError
from itkit.fakes import Handle, MethodHandle, handle_of, is_mock, mock_object

T = TypeVar("T")
Interface = Callable[..., T]
"""A class, which may be abstract; mypy does not accept an abstract class as ``type[T]``."""


class Module(Protocol):
    """A group of bindings to install: an object, or its class, that configures a container."""

    def configure(self, container: "TestContainer", /) -> None:
        """Bind the interfaces of the module to objects."""


class TestContainer:
    """Binds interfaces to real objects, classes and recording fakes.

    A container whose bindings are all real is the "all real" one. It is a context manager, which
    closes the objects that it made at its end.

    ```python
    with TestContainer() as container:
        container.bind(ITaxCalculator, TaxCalculator)  # made when first asked for
        container.bind_mock(IPaymentGateway)
        orders = container.get(OrderService)
        container.get_mock(IPaymentGateway).configure_return("charge_card", "txn_1")
    ```
    """

    __test__ = False  # pytest would collect the class for its name

    def __init__(self) -> None:
        self._bindings: dict[Any, Any] = {}
        self._made: dict[type, Any] = {}
        self._making: list[type] = []
        self._closing = ExitStack()
        self._trackers: dict[Any, Tracker] = {}
        self._tracking = ExitStack()

    def bind(self, interface: Interface[Any], implementation: object) -> None:
        """Bind an interface to an object, or to a class that is instantiated at its first use.

        Objects that the container made before are made anew, so that none of them keeps the earlier
        binding.
        """
        self._bindings[interface] = implementation
        self._made.clear()
        if interface in self._trackers:
            self.track(interface)

    def bind_mock(self, interface: Interface[T]) -> T:
        """Bind a recording fake to an interface, and return the fake.

        Args:
            interface: an ABC, a Protocol or any class; none of its code is run.

        Raises:
            BindingError: the interface is not a class.
        """
        if not isinstance(interface, type):
            raise BindingError(
                f"bind_mock() takes an ABC, a Protocol or any class, not {interface!r}."
            )
        mock: T = mock_object(interface, f"container.get_mock({interface.__name__})")
        self.bind(interface, mock)
        return mock

    def get(self, interface: Interface[T]) -> T:
        """Return the object that is bound to an interface; each class is instantiated only once.

        The container provides the arguments of a constructor as well, by their annotations. A class
        without a binding is bound to itself.

        Raises:
            BindingError: nothing is bound to it, or to an argument of its constructor.
        """
        if interface not in self._bindings and not isinstance(interface, type):
            raise BindingError(self._nothing_bound(interface))
        bound = self._bindings.get(interface, interface)
        if not isinstance(bound, type):
            return bound  # type: ignore[no-any-return]  # as bind() took it
        if bound is not interface and bound in self._bindings:
            return self.get(bound)  # type: ignore[no-any-return]  # as bind() took it
        if bound not in self._made:
            self._made[bound] = self._make(bound)
        return self._made[bound]  # type: ignore[no-any-return]  # made of the class above

    @overload
    def get_mock(self, interface: Interface[T]) -> Handle[T]: ...
    @overload
    def get_mock(self, interface: str) -> Handle[Any]: ...
    def get_mock(self, interface: Interface[Any] | str) -> Handle[Any]:
        """Return the handle of the fake that is bound to an interface.

        A backend of ``ITKIT["BACKENDS"]`` is found too, by its class or its name.

        Raises:
            BindingError: no fake is bound to it.
        """
        bound = self._bindings.get(interface)
        if bound is not None and is_mock(bound):
            return handle_of(bound)
        backends = registry.current()
        if bound is None and backends is not None and interface in backends:
            return _class_handle(interface, backends[interface])
        raise BindingError(self._no_mock(interface))

    def track(self, interface: Interface[Any]) -> None:
        """Record from now on which methods and branches are used of the object of an interface.

        The functions of its class, or of the bound module, get other code, which records their use
        until the container is closed or collected. ``measure_integration_coverage`` returns the
        record. A second call begins a new record, and so does another ``bind()``.

        Raises:
            BindingError: the bound object has no code in Python in the project.
        """
        service = self._bindings.get(interface, interface)
        while isinstance(service, type) and self._bindings.get(service, service) is not service:
            service = self._bindings[service]
        if (earlier := self._trackers.pop(interface, None)) is not None:
            earlier.stop()
        tracker = Tracker(interface, service)
        self._trackers[interface] = tracker
        self._tracking.callback(weakref.finalize(self, tracker.stop))

    def coverage_of(self, interface: Interface[Any]) -> ServiceCoverage:
        """Return what was used of an interface's object since ``track()``.

        Raises:
            BindingError: the interface is not tracked.
        """
        tracker = self._trackers.get(interface)
        if tracker is None:
            name = _name(interface)
            raise BindingError(
                f"{name} is not tracked, so nobody has noted what was used of it.\n"
                f"  Add before the first call of it: container.track({name})"
            )
        return tracker.coverage()

    def install(self, module: Module | type[Module] | Mapping[Any, Any]) -> None:
        """Bind the interfaces of a module, or each interface of a mapping."""
        if isinstance(module, Mapping):
            for interface, implementation in module.items():
                self.bind(interface, implementation)
        else:
            configured = module() if isinstance(module, type) else module
            configured.configure(self)

    def close(self) -> None:
        """Close the objects that the container made, the last one first, if they have ``close``.

        All are closed even if one of them raises an error, which is raised afterwards. Bound
        objects are left to the code that made them.
        """
        self._made.clear()
        self._tracking.close()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _make(self, wanted: type[T]) -> T:
        if inspect.isabstract(wanted) or getattr(wanted, "_is_protocol", False):
            raise BindingError(self._nothing_bound(wanted))
        if wanted in self._making:
            circle = " -> ".join(kind.__name__ for kind in [*self._making, wanted])
            raise BindingError(f"Constructors need each other: {circle}. Bind one to an object.")
        self._making.append(wanted)
        try:
            made = wanted(**self._dependencies(wanted))
        finally:
            self._making.pop()
        close = getattr(made, "close", None)
        if callable(close):
            self._closing.callback(close)
        return made

    def _dependencies(self, wanted: type) -> dict[str, Any]:
        if wanted.__init__ is object.__init__:  # type: ignore[misc]  # only compared
            return {}
        hints = typing.get_type_hints(wanted.__init__)  # type: ignore[misc]  # of this very class
        parameters = list(inspect.signature(wanted).parameters.values())
        resolved = {
            item.name: self._dependency(wanted, item, hints.get(item.name))
            for item in parameters
            if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
        }
        return {name: value for name, value in resolved.items() if value is not _DEFAULT}

    def _dependency(self, wanted: type, parameter: inspect.Parameter, hint: Any) -> Any:
        kinds = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
        for kind in kinds:
            if kind in self._bindings:
                return self.get(kind)
        if parameter.default is not parameter.empty:
            return _DEFAULT
        if kinds and kinds[0].__module__ != "builtins":
            return self.get(kinds[0])
        raise BindingError(
            f"{wanted.__name__} needs an argument {parameter.name!r}, for which nothing is bound.\n"
            f"  Annotate it with an interface, or bind an object: "
            f"container.bind({wanted.__name__}, {wanted.__name__}(...))"
        )

    def _nothing_bound(self, wanted: object) -> str:
        name = _name(wanted)
        needed = f" (for {self._making[-1].__name__})" if self._making else ""
        hint = did_you_mean(name, [_name(kind) for kind in self._bindings])
        return (
            f"Nothing is bound to {name}{needed}. {hint}\n"
            f"  Add: container.bind({name}, ...) or container.bind_mock({name})"
        )

    def _no_mock(self, interface: Interface[Any] | str) -> str:
        name = interface if isinstance(interface, str) else _name(interface)
        bound = self._bindings.get(interface)
        state = "is not bound" if bound is None else f"is bound to {bound!r}, which is real"
        mocks = [_name(kind) for kind, stands in self._bindings.items() if is_mock(stands)]
        known = [*mocks, *(registry.current() or ())]
        return f"{name} {state}. Mocks: {', '.join(sorted(known)) or 'none'}."


def measure_integration_coverage(
    container: TestContainer, services: Iterable[tuple[Interface[Any], str]]
) -> dict[str, ServiceCoverage]:
    """Return which methods and branches of real services the test has used, by category.

    Args:
        container: the container that tracks them: ``container.track(UserService)`` precedes their
            use.
        services: pairs of an interface and the name of its category.

    Raises:
        BindingError: an interface is not tracked.
    """
    return {category: container.coverage_of(interface) for interface, category in services}


_DEFAULT: Any = object()


def _name(interface: object) -> str:
    return getattr(interface, "__name__", None) or repr(interface)


def _class_handle(
    interface: Interface[Any] | str, handle: Handle[Any] | MethodHandle
) -> Handle[Any]:
    if isinstance(handle, Handle):
        return handle
    raise BindingError(
        f"The backend {interface!r} is a function. Use its handle: backends[{interface!r}]"
    )

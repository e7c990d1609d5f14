"""``ITKIT["BACKENDS"]``: real backends by their names, swapped for fakes during a run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from types import FunctionType
from typing import Any, Final, TypeVar, overload

from itkit.backends import faults, resolve
from itkit.backends.faults import RaisableError
from itkit.backends.patches import Patches
from itkit.backends.presets import Preset, TaskRunner
from itkit.backends.resolve import ResolvedBackend
from itkit.conf import BackendSettings
from itkit.core.text import did_you_mean
from itkit.exceptions import UnknownBackendError
from itkit.fakes import (
    ClassSwap,
    Fake,
    FunctionSwap,
    Handle,
    Member,
    MethodHandle,
    function_member,
    members_of,
    programming_line,
)
from itkit.fakes.answers import Given
from itkit.fakes.swap.reading import looking_once

Real = TypeVar("Real")

_AS_DEFAULT: Final = BackendSettings()


class Backend:
    """One backend: the real class or function, its fake and the test's handle.

    Args:
        name: the key of the backend in ``ITKIT["BACKENDS"]``.
        real: a class or function that can be swapped, as ``fakes.obstacle`` has found.
        settings: the entry of the backend.
        fake: a hand-written class or function that answers calls that are not programmed.
        builtin: the preset that redirects the real API here, if there is one.

    Attributes:
        is_real: whether it stays real in all tests of the run.
    """

    def __init__(
        self,
        name: str,
        real: Any,
        settings: BackendSettings = _AS_DEFAULT,
        fake: Any = None,
        builtin: Preset | None = None,
    ) -> None:
        self.name = name
        self.real = real
        self.is_real = settings.mode == "real"
        self._settings = settings
        self._builtin = builtin
        self._swapped: ExitStack | None = None
        self._stand_in = _maker(fake, settings.options) if fake is not None else None
        self.fake: Fake
        self.handle: Handle[Any] | MethodHandle
        self._swap: ClassSwap | FunctionSwap
        if isinstance(real, FunctionType):
            self._fake_function(real)
        else:
            self._fake_class(real)

    def swap(self) -> None:
        """Swap the real backend for its fake; a second call does nothing."""
        if self._swapped is None:
            with ExitStack() as stack:
                stack.callback(self._swap.restore)
                self._swap.swap()
                if self._builtin is not None:
                    stack.enter_context(self._builtin.installed())
                self._swapped = stack.pop_all()

    def restore(self) -> None:
        """Put the real backend back; a second call does nothing."""
        stack, self._swapped = self._swapped, None
        if stack is not None:
            stack.close()

    def reset(self) -> None:
        """Forget the answers that a test programmed, and the state that it has left."""
        self.fake.reset()
        if self._builtin is not None:
            self._builtin.reset()

    def check(self) -> None:
        """Check that the test has called the methods that it requires to be called.

        Raises:
            CallMismatchError: the test has not made a call that it requires.
        """
        self.fake.check_required()

    @property
    def swapped(self) -> tuple[ClassSwap | FunctionSwap, Any]:
        """The swap of the fake, and the real class or function."""
        return self._swap, self.real

    @cached_property
    def raised(self) -> tuple[RaisableError, ...]:
        """The errors that it may raise; callers get the first one instead of a lost reply."""
        if self._settings.faults:
            return faults.named(self._settings.faults)
        if self._builtin is not None:
            return tuple(map(RaisableError, self._builtin.raises))
        return faults.found(self.real)

    @property
    def is_task_runner(self) -> bool:
        """Whether it takes tasks, which a sweep may run twice."""
        return isinstance(self._builtin, TaskRunner)

    @property
    def shared(self) -> Any:
        """The class whose objects may answer calls of objects in other processes, or None."""
        return self.real if self._builtin is not None and self._builtin.is_shared else None

    @property
    def setting(self) -> str | None:
        """The setting with the path of the real backend, if there is one."""
        return self._settings.setting

    def _fake_class(self, real: type) -> None:
        address = _address(self.name)
        self.fake = Fake(
            self.name,
            self._members(real),
            lambda method: programming_line(address, method),
            **self._behaviour(),
        )
        builtin = self._builtin
        self.handle = Handle(self.fake) if builtin is None else builtin.handle(self.fake, builtin)
        self._swap = ClassSwap(real, self.fake, has_parts=builtin is None)

    def _fake_function(self, real: FunctionType) -> None:
        member = function_member(real)
        line = f"{_address(self.name)}.returns(...)"
        self.fake = Fake(
            self.name, {member.name: member}, lambda _: line, is_function=True, **self._behaviour()
        )
        self.handle = MethodHandle(self.fake, self.fake.methods[member.name])
        self._swap = FunctionSwap(real, self.fake.methods[member.name])

    def _members(self, real: type) -> dict[str, Member]:
        members = members_of(real)
        builtin = self._builtin
        return members if builtin is None else {name: members[name] for name in builtin.calls}

    def _behaviour(self) -> dict[str, Any]:
        return {
            "called_by_library": self._builtin is not None,
            "is_spy": self._settings.mode == "spy" or self._builtin is not None,
            "stand_in": self._stand_in,
            "unprogrammed": self._settings.unprogrammed,
        }


class Registry:
    """The backends of a project, as a test reaches them: ``backends.payments``.

    ``backends["payments"]`` is the same, and also works for a name that a method of the registry
    has. ``backends[StripeGateway]`` finds a backend by the real class or function. Iteration yields
    the names.

    The backends are swapped once per run. Between tests only the programmed answers are forgotten.
    A test of the real backends restores them within a block: ``with backends.restored(): ...``

    Args:
        backends: the real backends by name, alone or with their entries of the settings.
    """

    def __init__(self, backends: Mapping[str, Any]) -> None:
        self._backends = {name: _backend(name, real) for name, real in backends.items()}
        self._by_real = {id(backend.real): backend for backend in self._backends.values()}
        self._swapped: ExitStack | None = None
        faked = [backend for backend in self._backends.values() if not backend.is_real]
        self._patches = Patches(
            [backend.swapped for backend in faked],
            {backend.setting for backend in faked if backend.setting is not None},
        )

    def __repr__(self) -> str:
        return f"<Backends: {', '.join(self._backends) or 'none'}>"

    @classmethod
    def from_settings(cls) -> "Registry":
        """Make the registry that ``ITKIT["BACKENDS"]`` describes; nothing is swapped yet.

        Raises:
            ConfigurationError: anything is wrong with it; the message lists all of it.
        """
        return cls(resolve.locate())

    def swap(self) -> None:
        """Swap all backends for their fakes; a second call does nothing."""
        if self._swapped is None:
            with ExitStack() as stack, looking_once():
                self._make_current(stack)
                for backend in self._backends.values():
                    if not backend.is_real:
                        stack.callback(backend.restore)
                        backend.swap()
                self._swapped = stack.pop_all()

    def restore(self) -> None:
        """Put all real backends back, the last one first; a second call does nothing."""
        stack, self._swapped = self._swapped, None
        if stack is not None:
            stack.close()

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Let the real backends answer within a block, in all threads.

        Programmed answers and recorded calls are kept. If the fakes are not in place, as within
        another such block, it does nothing.
        """
        is_swapped = self._swapped is not None
        self.restore()
        try:
            yield
        finally:
            if is_swapped:
                self.swap()

    def reset(self) -> None:
        """Forget the answers that a test programmed; its calls are on its timeline."""
        for backend in self._backends.values():
            backend.reset()

    def watch_patches(self) -> None:
        """Begin to look for patches that tests leave over the fakes."""
        self._patches.start()

    def accept_patches(self) -> None:
        """Accept the present patches over the fakes, as they belong to several tests."""
        if self._swapped is not None:
            self._patches.accept()

    def remove_patches(self) -> list[str]:
        """Remove the patches that a test left over the fakes; return a line of text about each."""
        if self._swapped is None:
            self.swap()
            return ["The fakes are taken out\n    write: with backends.restored():"]
        return self._patches.remove()

    def fakes(self) -> dict[str, Fake]:
        """Return the fakes by the names of their backends, without those that stay real."""
        found = self._backends.items()
        return {name: backend.fake for name, backend in found if not backend.is_real}

    def faked(self) -> list[Backend]:
        """Return the backends that are faked."""
        return [backend for backend in self._backends.values() if not backend.is_real]

    def check(self) -> None:
        """Check that the test has called the methods that it requires to be called.

        Raises:
            CallMismatchError: the test has not made a call that it requires.
        """
        for backend in self._backends.values():
            backend.check()

    def given(self) -> Iterator[tuple[str, Given, str]]:
        """Yield what the test has programmed: the method, the line, and its unused answers."""
        for backend in self._backends.values():
            yield from backend.fake.given()

    def __getattr__(self, name: str) -> Any:
        """Return the handle of a backend: a ``Handle``, or a ``MethodHandle`` of a function.

        ``backends[StripeGateway]`` and ``backends[geocode]`` return the same object with its type.

        Raises:
            UnknownBackendError: no backend has this name.
        """
        if name.startswith("_"):  # protocols of Python, such as __deepcopy__, look these up
            raise AttributeError(name)
        return self[name]

    @overload
    def __getitem__(self, key: str) -> Any: ...
    @overload
    def __getitem__(self, key: type[Real]) -> Handle[Real]: ...  # type: ignore[overload-overlap]  # first fit
    @overload
    def __getitem__(self, key: Callable[..., Any]) -> MethodHandle: ...
    def __getitem__(self, key: Any) -> Any:
        backend = self._find(key)
        if backend is None:
            error = UnknownBackendError(self._unknown(key))
            error.obj = self  # without it, Python 3.12 and later add a suggestion of their own
            raise error
        if backend.is_real:
            raise UnknownBackendError(
                f'ITKIT["BACKENDS"]["{backend.name}"] has the MODE "real", so there is nothing to'
                ' program or to ask. Set it to "spy" to record the calls of the real one.'
            )
        return backend.handle

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._backends)

    def __len__(self) -> int:
        return len(self._backends)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._backends})

    def _find(self, key: object) -> Backend | None:
        if isinstance(key, str):
            return self._backends.get(key)
        return self._by_real.get(id(key))

    def _unknown(self, key: object) -> str:
        if isinstance(key, str):
            hint = did_you_mean(key, self._backends)
            return f'ITKIT["BACKENDS"] names no {key!r}. {hint}'
        known = ", ".join(sorted(self._backends)) or "none"
        return (
            f'ITKIT["BACKENDS"] has no entry for {key!r}; its entries are: {known}.\n'
            f"  Add one with the TARGET {_path_of(key)!r}."
        )

    def _make_current(self, stack: ExitStack) -> None:
        global _current
        outer, _current = _current, self
        stack.callback(_set_current, outer)


_current: Registry | None = None


def current() -> Registry | None:
    """Return the registry that is swapped in; if there are several, the innermost one."""
    return _current


def _set_current(registry: Registry | None) -> None:
    global _current  # noqa: PLW0603 - see Registry._make_current
    _current = registry


def shared_classes(registry: Registry) -> dict[str, Callable[[], Any]]:
    """Return, by the names of backends, the classes whose objects answer for all processes.

    This is a function, as each public method of the registry reserves a name that a backend could
    have.
    """
    backends = registry._backends.items()
    return {name: backend.shared for name, backend in backends if backend.shared is not None}


def calls_of(registry: Registry) -> dict[str, list[str]]:
    """Return the names of all calls that each backend can have, by the name of the backend.

    Backends are left out whose calls are known only when they happen.
    """
    return {name: calls for name, fake in registry.fakes().items() if (calls := fake.all_calls)}


def _backend(name: str, found: Any) -> Backend:
    if isinstance(found, ResolvedBackend):
        return Backend(name, found.real, found.settings, found.fake, found.builtin)
    return Backend(name, found)


def _maker(fake: Any, options: Mapping[str, Any]) -> Callable[[], Any]:
    return partial(fake, **options) if isinstance(fake, type) else lambda: fake


def _address(name: str) -> str:
    return f'backends["{name}"]' if hasattr(Registry, name) else f"backends.{name}"


def _path_of(real: object) -> str:
    return f"{getattr(real, '__module__', '...')}.{getattr(real, '__qualname__', '...')}"

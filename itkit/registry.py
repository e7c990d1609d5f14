"""``ITKIT["BACKENDS"]``: each name a real backend, swapped for its fake during a run."""

import difflib
import importlib
import keyword
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import FunctionType
from typing import Any, overload

from django.conf import settings as django_settings

from itkit import conf
from itkit.conf import BackendSettings, Mistake, did_you_mean
from itkit.exceptions import ConfigurationError, UnknownBackendError
from itkit.fakes import (
    ClassSwap,
    Fake,
    FunctionSwap,
    Handle,
    MethodHandle,
    function_member,
    members_of,
    obstacle,
    programming_line,
)


class Backend:
    """One backend: the real class or function, its fake and the test's handle.

    Args:
        name: its key in ``ITKIT["BACKENDS"]``.
        real: a class or function for which ``fakes.obstacle`` finds none.
    """

    def __init__(self, name: str, real: Any) -> None:
        self.name = name
        self.real = real
        self.handle: Handle | MethodHandle
        self._swap: ClassSwap | FunctionSwap
        if isinstance(real, FunctionType):
            self._fake_function(real)
        else:
            self._fake_class(real)

    def swap(self) -> None:
        """Put the fake in the place of the real backend."""
        self._swap.swap()

    def restore(self) -> None:
        """Put the real backend back."""
        self._swap.restore()

    def reset(self) -> None:
        """Forget what a test programmed."""
        self._fake.reset()

    def _fake_class(self, real: type) -> None:
        address = _address(self.name)
        self._fake = Fake(
            self.name, members_of(real), lambda method: programming_line(address, method)
        )
        self.handle = Handle(self._fake)
        self._swap = ClassSwap(real, self._fake)

    def _fake_function(self, real: FunctionType) -> None:
        member = function_member(real)
        line = f"{_address(self.name)}.returns(...)"
        self._fake = Fake(self.name, {member.name: member}, lambda _: line, is_function=True)
        self.handle = MethodHandle(self._fake, member)
        self._swap = FunctionSwap(real, self._fake)


class Registry:
    """The backends of a project, as a test reaches them: ``backends.payments``.

    ``backends["payments"]`` is the same, and the way to a name that is also that of a method of
    the registry; ``backends[StripeGateway]`` goes by the real class or function. Iteration gives
    the names.

    They are swapped once per run; between tests only what was programmed is forgotten. A test of
    the real backends themselves puts them back for a while: ``with backends.restored(): ...``
    """

    def __init__(self, backends: Mapping[str, Any]) -> None:
        self._backends = {name: Backend(name, real) for name, real in backends.items()}
        self._by_real = {id(backend.real): backend for backend in self._backends.values()}
        self._swapped: ExitStack | None = None

    @classmethod
    def from_settings(cls) -> "Registry":
        """Make the registry that ``ITKIT["BACKENDS"]`` describes; nothing is swapped yet.

        Raises:
            ConfigurationError: anything is wrong with it; the message lists all of it.
        """
        found = _resolve(conf.get().backends)
        if found.mistakes:
            lines = [f"  {mistake.message} {mistake.hint}" for mistake in found.mistakes]
            raise ConfigurationError("\n".join(['ITKIT["BACKENDS"] has mistakes:', *lines]))
        return cls(found.backends)

    def swap(self) -> None:
        """Put the fakes in the place of all backends; a second call does nothing."""
        if self._swapped is None:
            with ExitStack() as stack:
                self._make_current(stack)
                for backend in self._backends.values():
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
        """Let the real backends answer in here, in all threads; then the fakes again.

        What was programmed and called is kept. If the fakes are not in place, as in another
        block like this one, it does nothing.
        """
        is_swapped = self._swapped is not None
        self.restore()
        try:
            yield
        finally:
            if is_swapped:
                self.swap()

    def reset(self) -> None:
        """Forget what a test programmed; its calls are on its timeline."""
        for backend in self._backends.values():
            backend.reset()

    def __getattr__(self, name: str) -> Any:
        """Return the handle of a backend: of a class ``Handle``, of a function ``MethodHandle``.

        ``backends[StripeGateway]`` and ``backends[geocode]`` give the same with its type.

        Raises:
            UnknownBackendError: no backend has this name.
        """
        if name.startswith("_"):  # protocols of Python, such as __deepcopy__, ask for these
            raise AttributeError(name)
        return self[name]

    @overload
    def __getitem__(self, key: str) -> Any: ...
    @overload
    def __getitem__(self, key: type) -> Handle: ...  # type: ignore[overload-overlap]  # first fit
    @overload
    def __getitem__(self, key: Callable[..., Any]) -> MethodHandle: ...
    def __getitem__(self, key: Any) -> Any:
        backend = self._find(key)
        if backend is None:
            error = UnknownBackendError(self._unknown(key))
            error.obj = self  # without it, Python 3.12 and later add a suggestion of their own
            raise error
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
    """Return the registry that is swapped in, the innermost if several are."""
    return _current


def _set_current(registry: Registry | None) -> None:
    global _current  # noqa: PLW0603 - see Registry._make_current
    _current = registry


def _address(name: str) -> str:
    return f'backends["{name}"]' if hasattr(Registry, name) else f"backends.{name}"


def _path_of(real: object) -> str:
    return f"{getattr(real, '__module__', '...')}.{getattr(real, '__qualname__', '...')}"


def mistakes() -> list[Mistake]:
    """Return everything that is wrong with ``ITKIT["BACKENDS"]``, for the system checks.

    Mistakes in the shape of ``ITKIT`` are those of ``conf.mistakes``; while there are any, none
    are looked for here.
    """
    if conf.mistakes():
        return []
    return _resolve(conf.get().backends).mistakes


def _resolve(entries: Mapping[str, BackendSettings]) -> "_Resolver":
    resolver = _Resolver()
    for name, entry in entries.items():
        resolver.add(name, entry)
    return resolver


class _Resolver:
    """Finds the class or function of each entry and collects what is wrong on the way."""

    def __init__(self) -> None:
        self.backends: dict[str, Any] = {}
        self.mistakes: list[Mistake] = []

    def add(self, name: str, entry: BackendSettings) -> None:
        place = f'ITKIT["BACKENDS"]["{name}"]'
        found = self._path(place, entry)
        if self._is_attribute(place, name) and found is not None:
            source, path = found
            real = self._imported(source, path)
            if real is not None and self._is_usable(source, path, real, place):
                self.backends[name] = real

    def _is_attribute(self, place: str, name: str) -> bool:
        if name.isidentifier() and not name.startswith("_") and not keyword.iskeyword(name):
            return True
        message = f"{place} has a name that tests cannot write: backends.{name}."
        self._report(3, message, "Use letters, digits and underscores, and no keyword of Python.")
        return False

    def _path(self, place: str, entry: BackendSettings) -> tuple[str, str] | None:
        """Return what holds the dotted path, for messages, and the path."""
        if (entry.setting is None) == (entry.target is None):
            stated = "neither" if entry.setting is None else "both"
            self._report(
                3,
                f"{place} has {stated} of SETTING and TARGET, expected one.",
                "Name the Django setting that holds the dotted path, or give the path as TARGET.",
            )
            return None
        if entry.target is not None:
            return f'{place}["TARGET"]', entry.target
        return self._path_in_setting(place, str(entry.setting))

    def _path_in_setting(self, place: str, setting: str) -> tuple[str, str] | None:
        path = getattr(django_settings, setting, None)
        if path is None and not hasattr(django_settings, setting):
            own = [name for name in dir(django_settings) if name.isupper()]
            mend = f'Define it, or correct {place}["SETTING"].'
            hint = did_you_mean(setting, own) if _has_near(setting, own) else mend
            self._report(4, f'{place}["SETTING"] names no setting: {setting!r}.', hint)
        elif not isinstance(path, str):
            message = f"The setting {setting} is {_kind_of(path)}, expected a dotted path."
            self._report(5, message, f"Put the path there, or give it as TARGET in {place}.")
        else:
            return f"The setting {setting}", path
        return None

    def _imported(self, source: str, path: str) -> Any:
        module_name, _, attribute = path.rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # noqa: BLE001 - a project's module may fail in any way
            reason = f"{type(error).__name__}: {error}" if module_name else "it has no module"
            message = f"{source} is {path!r}, which cannot be imported ({reason})."
            self._report(5, message, _hint_below(module_name))
            return None
        if not hasattr(module, attribute):
            message = f"{source} is {path!r}, but {module_name} has no {attribute!r}."
            public = [name for name in dir(module) if not name.startswith("_")]
            self._report(5, message, did_you_mean(attribute, public))
            return None
        return getattr(module, attribute)

    def _is_usable(self, source: str, path: str, real: Any, place: str) -> bool:
        reason = obstacle(real)
        same = [name for name, other in self.backends.items() if other is real]
        if reason is not None:
            message = f"{source} is {path!r}, which cannot be swapped: {reason}."
            hint = "Name the project's own class or function that uses it."
        elif same:
            message = f'{place} names {path!r}, and so does ITKIT["BACKENDS"]["{same[0]}"].'
            hint = "Remove one of the two."
        else:
            return True
        self._report(6, message, hint)
        return False

    def _report(self, number: int, message: str, hint: str) -> None:
        self.mistakes.append(Mistake(number, message, hint))


def _kind_of(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value).__qualname__
    return f"an {kind}" if kind[0] in "aeiouAEIOU" else f"a {kind}"


def _hint_below(path: str) -> str:
    """Return how to mend a dotted path that goes on below ``path``, which is no module."""
    module, _, name = path.rpartition(".")
    with suppress(Exception):  # a project's module may fail in any way
        if isinstance(getattr(importlib.import_module(module), name), type):
            return f"Name the class, {path}: all its methods are swapped."
    return "Correct the path: package.module.Name."


def _has_near(name: str, available: list[str]) -> bool:
    return bool(difflib.get_close_matches(name, available, n=1, cutoff=0.5))

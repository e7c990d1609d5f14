"""Where the real backends of ``ITKIT["BACKENDS"]`` are: the class or function that each names."""

import difflib
import importlib
import importlib.util
import inspect
import keyword
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from django.conf import settings as django_settings

from itkit import builtins, conf, containers
from itkit.builtins import Builtin
from itkit.conf import BackendSettings, Mistake, did_you_mean
from itkit.exceptions import ConfigurationError
from itkit.fakes import differences, obstacle, stays_real

_WAYS: Final = ("SETTING", "TARGET", "CONTAINER", "BUILTIN")
_BESIDE: Final = {"ALIAS": "SETTING", "KEY": "CONTAINER"}


class Located(NamedTuple):
    """One real backend, what the settings say of it, and its fake, if that is written by hand."""

    real: Any
    settings: BackendSettings
    fake: Any = None
    builtin: Builtin | None = None


def locate() -> dict[str, Located]:
    """Return what ``ITKIT["BACKENDS"]`` names, by the names of the backends.

    Raises:
        ConfigurationError: anything is wrong with it; the message lists all of it.
    """
    found = _resolve(conf.get().backends)
    if found.mistakes:
        lines = [f"  {mistake.message} {mistake.hint}" for mistake in found.mistakes]
        raise ConfigurationError("\n".join(['ITKIT["BACKENDS"] has mistakes:', *lines]))
    return found.backends


def mistakes() -> list[Mistake]:
    """Return everything that is wrong with ``ITKIT["BACKENDS"]``, for the system checks.

    Mistakes in the shape of ``ITKIT`` are those of ``conf.mistakes``; while there are any, none
    are looked for here.
    """
    if conf.mistakes():
        return []
    return _resolve(conf.get().backends).mistakes


def warnings() -> list[Mistake]:
    """Return what stays real of the backends that are faked, for the system checks."""
    if conf.mistakes():
        return []
    return _resolve(conf.get().backends).warnings


def _resolve(entries: Mapping[str, BackendSettings]) -> "_Resolver":
    resolver = _Resolver()
    for name, entry in entries.items():
        resolver.add(name, entry)
    return resolver


class _Resolver:
    """Finds the class or function of each entry and collects what is wrong on the way."""

    def __init__(self) -> None:
        self.backends: dict[str, Located] = {}
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []

    def add(self, name: str, entry: BackendSettings) -> None:
        place = f'ITKIT["BACKENDS"]["{name}"]'
        if not (self._is_attribute(place, name) & self._is_complete(place, entry)):
            return
        if entry.builtin is not None:
            located = self._builtin(place, entry)
        else:
            located = self._real(place, entry)
        if located is not None:
            self.backends[name] = located

    def _is_complete(self, place: str, entry: BackendSettings) -> bool:
        """Tell whether an entry says in one way where the real backend is."""
        stated = [key for key in _WAYS if getattr(entry, key.lower()) is not None]
        if len(stated) != 1:
            listed = f"{', '.join(_WAYS[:-1])} and {_WAYS[-1]}"
            message = f"{place} has {' and '.join(stated) or 'none'} of {listed}, expected one."
            hint = (
                "Name the Django setting that holds the dotted path, or give the path as TARGET; a"
                f" BUILTIN is one of {', '.join(conf.BUILTINS)}."
            )
            self._report(3, message, hint)
            return False
        for key, way in _BESIDE.items():
            if (value := getattr(entry, key.lower())) is not None and way not in stated:
                message = f"{place} has {key} = {value!r}, which goes with a {way}."
                self._report(3, message, f"Remove {key}, or name the {way}.")
                return False
        if entry.builtin is not None and entry.fake is not None:
            message = f"{place} has a BUILTIN and a FAKE, expected one of them."
            self._report(3, message, "Remove one of the two.")
            return False
        if entry.container is not None and entry.key is None:
            message = f"{place} has a CONTAINER and no KEY."
            self._report(3, message, "Name what the container is asked for as KEY.")
            return False
        return True

    def _builtin(self, place: str, entry: BackendSettings) -> Located | None:
        try:
            builtin = builtins.make(str(entry.builtin), entry.options)
        except ConfigurationError as error:
            message = f"{place} is the BUILTIN {entry.builtin!r}: {error}"
            self._report(11, message, f"Correct {place}.")
            return None
        if self._is_usable(f'{place}["BUILTIN"]', str(entry.builtin), builtin.real, place):
            return Located(builtin.real, entry, None, builtin)
        return None

    def _real(self, place: str, entry: BackendSettings) -> Located | None:
        if entry.container is not None:
            found = self._in_container(place, entry.container, str(entry.key))
        else:
            found = self._by_path(place, entry)
        if found is not None and self._is_usable(*found, place):
            real = found[2]
            if isinstance(real, type) and entry.mode != "real":
                self._warn_of_remains(place, found[1], real)
            return Located(real, entry, self._fake(place, entry, real))
        return None

    def _warn_of_remains(self, place: str, path: str, real: type) -> None:
        if remains := stays_real(real):
            message = f"{place} fakes {path!r}, of which this stays real: {'; '.join(remains)}."
            hint = "Name the class, or your own function that calls it, as a TARGET of its own."
            self.warnings.append(Mistake(2, message, hint, "W"))

    def _by_path(self, place: str, entry: BackendSettings) -> tuple[str, str, Any] | None:
        """Return what holds the path of the real backend, for messages, the path, and it."""
        found = self._path(place, entry)
        real = self._imported(*found) if found is not None else None
        return (*found, real) if found is not None and real is not None else None

    def _in_container(self, place: str, path: str, key: str) -> tuple[str, str, Any] | None:
        source = f'{place}["CONTAINER"]'
        is_module = "." not in path and importlib.util.find_spec(path) is not None
        container = importlib.import_module(path) if is_module else self._imported(source, path)
        if container is None:
            return None
        try:
            return f'{place}["KEY"]', key, containers.implementation(container, key)
        except ConfigurationError as error:
            self._report(12, f"{source} is {path!r}: {error}", f"Correct {place}.")
            return None

    def _is_attribute(self, place: str, name: str) -> bool:
        if name.isidentifier() and not name.startswith("_") and not keyword.iskeyword(name):
            return True
        message = f"{place} has a name that tests cannot write: backends.{name}."
        self._report(3, message, "Use letters, digits and underscores, and no keyword of Python.")
        return False

    def _path(self, place: str, entry: BackendSettings) -> tuple[str, str] | None:
        """Return what holds the dotted path, for messages, and the path."""
        if entry.target is not None:
            return f'{place}["TARGET"]', entry.target
        return self._path_in_setting(place, str(entry.setting), entry.alias)

    def _path_in_setting(
        self, place: str, setting: str, alias: str | None
    ) -> tuple[str, str] | None:
        path = getattr(django_settings, setting, None)
        if alias is not None and hasattr(django_settings, setting):
            return self._path_of_alias(place, setting, path, alias)
        if path is None and not hasattr(django_settings, setting):
            own = [name for name in dir(django_settings) if name.isupper()]
            mend = f'Define it, or correct {place}["SETTING"].'
            hint = did_you_mean(setting, own) if _has_near(setting, own) else mend
            self._report(4, f'{place}["SETTING"] names no setting: {setting!r}.', hint)
        elif not isinstance(path, str):
            message = f"The setting {setting} is {_kind_of(path)}, expected a dotted path."
            is_table = isinstance(path, Mapping)
            mend = f"Put the path there, or give it as TARGET in {place}."
            hint = f'Name one of its entries: {place}["ALIAS"].' if is_table else mend
            self._report(5, message, hint)
        else:
            return f"The setting {setting}", path
        return None

    def _path_of_alias(
        self, place: str, setting: str, table: Any, alias: str
    ) -> tuple[str, str] | None:
        """Return the path in a setting of the kind of CACHES, STORAGES, TASKS or MAILERS."""
        source = f'{setting}["{alias}"]'
        if not isinstance(table, Mapping):
            message = f"The setting {setting} is {_kind_of(table)}, expected a dict of aliases."
            self._report(5, message, f'Remove {place}["ALIAS"].')
        elif alias not in table:
            message = f"The setting {setting} has no {alias!r}."
            self._report(4, message, did_you_mean(alias, [str(name) for name in table]))
        else:
            entry = table[alias]
            path = entry.get("BACKEND") if isinstance(entry, Mapping) else entry
            if isinstance(path, str):
                return source, path
            message = f"{source} has no dotted path as its BACKEND."
            self._report(5, message, f"Put the path there, or give it as TARGET in {place}.")
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
        same = [name for name, other in self.backends.items() if other.real is real]
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

    def _fake(self, place: str, entry: BackendSettings, real: Any) -> Any:
        """Return the fake that is written by hand, made sure that it can stand for the real one."""
        if entry.fake is None:
            if entry.options:
                message = f"{place} has OPTIONS, which are those of a FAKE, and none."
                self._report(3, message, "Name the class that takes them as FAKE, or remove them.")
            return None
        source = f'{place}["FAKE"]'
        fake = self._imported(source, entry.fake)
        if fake is None:
            return None
        for difference in differences(real, fake):
            message = f"{source} is {entry.fake!r}, which differs from the real one: {difference}."
            self._report(10, message, "Correct the fake.")
        if isinstance(fake, type) and (wrong := _cannot_be_made(fake, entry.options)):
            message = f"{source} is {entry.fake!r}, which cannot be made: {wrong}."
            self._report(10, message, f'Give what it takes: {place}["OPTIONS"].')
        return fake

    def _report(self, number: int, message: str, hint: str) -> None:
        self.mistakes.append(Mistake(number, message, hint))


def _cannot_be_made(kind: type, options: Mapping[str, Any]) -> str | None:
    try:
        inspect.signature(kind).bind(**options)
    except TypeError as error:
        return str(error)
    except ValueError:  # a class that does not tell what it takes
        return None
    return None


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

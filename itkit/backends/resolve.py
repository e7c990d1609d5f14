"""Finds the class or function that each entry of ``ITKIT["BACKENDS"]`` names."""

import difflib
import importlib
import importlib.util
import inspect
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from django.conf import settings as django_settings

from itkit import conf
from itkit.backends import di, faults, presets
from itkit.backends.presets import Preset
from itkit.conf import BackendSettings, Mistake
from itkit.core.text import did_you_mean
from itkit.exceptions import ConfigurationError
from itkit.fakes import differences, obstacle, stays_real

_SETTING: Final = "The setting "
_WAYS: Final = ("SETTING", "TARGET", "CONTAINER", "BUILTIN")
_BESIDE: Final = {"ALIAS": "SETTING", "KEY": "CONTAINER"}


class ResolvedBackend(NamedTuple):
    """One real backend, its entry in the settings, and its fake if that is written by hand."""

    real: Any
    settings: BackendSettings
    fake: Any = None
    builtin: Preset | None = None


def locate() -> dict[str, ResolvedBackend]:
    """Return the resolved backends of ``ITKIT["BACKENDS"]`` by their names.

    Raises:
        ConfigurationError: anything is wrong with it; the message lists all of it.
    """
    found = _resolve(conf.get().backends)
    if found.mistakes:
        lines = [f"  {mistake.message} {mistake.hint}" for mistake in found.mistakes]
        raise ConfigurationError("\n".join(['ITKIT["BACKENDS"] has mistakes:', *lines]))
    return found.backends


def remarks() -> Iterator[str]:
    """Yield hints for the start line about behaviour of the presets that may surprise a user."""
    for located in locate().values():
        if located.builtin is not None and (remark := located.builtin.remark()):
            yield remark


def mistakes() -> list[Mistake]:
    """Return everything that is wrong with ``ITKIT["BACKENDS"]``, for the system checks.

    ``conf.mistakes`` reports mistakes in the shape of ``ITKIT``. If it finds any, nothing is
    checked here.
    """
    if conf.mistakes():
        return []
    return _resolve(conf.get().backends).mistakes


def warnings() -> list[Mistake]:
    """Return warnings about parts of faked backends that stay real, for the system checks."""
    if conf.mistakes():
        return []
    return _resolve(conf.get().backends).warnings


def _resolve(entries: Mapping[str, BackendSettings]) -> "_Resolver":
    resolver = _Resolver()
    for name, entry in entries.items():
        resolver.add(name, entry)
    return resolver


class _Resolver:
    """Finds the class or function of each entry, and collects the mistakes."""

    def __init__(self) -> None:
        self.backends: dict[str, ResolvedBackend] = {}
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []

    def add(self, name: str, entry: BackendSettings) -> None:
        key_path = f'ITKIT["BACKENDS"]["{name}"]'
        if not (self._is_attribute(key_path, name) & self._is_complete(key_path, entry)):
            return
        self._check_faults(f'{key_path}["FAULTS"]', entry.faults)
        if entry.builtin is not None:
            located = self._builtin(key_path, entry)
        else:
            located = self._real(key_path, entry)
        if located is not None:
            self.backends[name] = located

    def _is_complete(self, key_path: str, entry: BackendSettings) -> bool:
        """Return whether an entry names the real backend in exactly one way."""
        stated = [key for key in _WAYS if getattr(entry, key.lower()) is not None]
        if len(stated) != 1:
            listed = f"{', '.join(_WAYS[:-1])} and {_WAYS[-1]}"
            message = f"{key_path} has {' and '.join(stated) or 'none'} of {listed}, expected one."
            hint = (
                "Name the Django setting that holds the dotted path, or give the path as TARGET; a"
                f" BUILTIN is one of {', '.join(conf.BUILTINS)}."
            )
            self._report(3, message, hint)
            return False
        for key, way in _BESIDE.items():
            if (value := getattr(entry, key.lower())) is not None and way not in stated:
                message = f"{key_path} has {key} = {value!r}, which goes with a {way}."
                self._report(3, message, f"Remove {key}, or name the {way}.")
                return False
        if entry.builtin is not None and entry.fake is not None:
            message = f"{key_path} has a BUILTIN and a FAKE, expected one of them."
            self._report(3, message, "Remove one of the two.")
            return False
        if entry.container is not None and entry.key is None:
            message = f"{key_path} has a CONTAINER and no KEY."
            self._report(3, message, "Name what the container is asked for as KEY.")
            return False
        return True

    def _check_faults(self, source: str, paths: Iterable[str]) -> None:
        """Check that a sweep can raise the errors that an entry names."""
        for path in paths:
            found = self._imported(source, path)
            if found is not None and (reason := faults.obstacle(found)):
                self._report(15, f"{source} names {path!r}: {reason}.", "Correct it, or remove it.")

    def _builtin(self, key_path: str, entry: BackendSettings) -> ResolvedBackend | None:
        try:
            builtin = presets.make(str(entry.builtin), entry.options)
        except ConfigurationError as error:
            message = f"{key_path} is the BUILTIN {entry.builtin!r}: {error}"
            self._report(11, message, f"Correct {key_path}.")
            return None
        if self._is_usable(f'{key_path}["BUILTIN"]', str(entry.builtin), builtin.real, key_path):
            return ResolvedBackend(builtin.real, entry, None, builtin)
        return None

    def _real(self, key_path: str, entry: BackendSettings) -> ResolvedBackend | None:
        if entry.container is not None:
            found = self._in_container(key_path, entry.container, str(entry.key))
        else:
            found = self._by_path(key_path, entry)
        if found is not None and self._is_usable(*found, key_path):
            real = found[2]
            if isinstance(real, type) and entry.mode != "real":
                self._warn_of_remains(key_path, found[1], real)
            return ResolvedBackend(real, entry, self._fake(key_path, entry, real))
        return None

    def _warn_of_remains(self, key_path: str, path: str, real: type) -> None:
        if remains := stays_real(real):
            message = f"{key_path} fakes {path!r}, of which this stays real: {'; '.join(remains)}."
            hint = "Name the class, or your own function that calls it, as a TARGET of its own."
            self.warnings.append(Mistake(2, message, hint, "W"))

    def _by_path(self, key_path: str, entry: BackendSettings) -> tuple[str, str, Any] | None:
        """Return the key path of the real backend's path, the path, and the backend."""
        found = self._path(key_path, entry)
        real = self._imported(*found) if found is not None else None
        return (*found, real) if found is not None and real is not None else None

    def _in_container(self, key_path: str, path: str, key: str) -> tuple[str, str, Any] | None:
        source = f'{key_path}["CONTAINER"]'
        is_module = "." not in path and importlib.util.find_spec(path) is not None
        container = importlib.import_module(path) if is_module else self._imported(source, path)
        if container is None:
            return None
        try:
            return f'{key_path}["KEY"]', key, di.implementation(container, key)
        except ConfigurationError as error:
            self._report(12, f"{source} is {path!r}: {error}", f"Correct {key_path}.")
            return None

    def _is_attribute(self, key_path: str, name: str) -> bool:
        if name.isidentifier() and not name.startswith("_") and not keyword.iskeyword(name):
            return True
        message = f"{key_path} has a name that tests cannot write: backends.{name}."
        self._report(3, message, "Use letters, digits and underscores, and no keyword of Python.")
        return False

    def _path(self, key_path: str, entry: BackendSettings) -> tuple[str, str] | None:
        """Return the key path of the dotted path, and the path."""
        if entry.target is not None:
            return f'{key_path}["TARGET"]', entry.target
        return self._path_in_setting(key_path, str(entry.setting), entry.alias)

    def _path_in_setting(
        self, key_path: str, setting: str, alias: str | None
    ) -> tuple[str, str] | None:
        path = getattr(django_settings, setting, None)
        if alias is not None and hasattr(django_settings, setting):
            return self._path_of_alias(key_path, setting, path, alias)
        if path is None and not hasattr(django_settings, setting):
            own = [name for name in dir(django_settings) if name.isupper()]
            mend = f'Define it, or correct {key_path}["SETTING"].'
            hint = did_you_mean(setting, own) if _has_near(setting, own) else mend
            self._report(4, f'{key_path}["SETTING"] names no setting: {setting!r}.', hint)
        elif not isinstance(path, str):
            message = f"The setting {setting} is {_kind_of(path)}, expected a dotted path."
            is_table = isinstance(path, Mapping)
            mend = f"Put the path there, or give it as TARGET in {key_path}."
            hint = f'Name one of its entries: {key_path}["ALIAS"].' if is_table else mend
            self._report(5, message, hint)
        else:
            return f"{_SETTING}{setting}", path
        return None

    def _path_of_alias(
        self, key_path: str, setting: str, table: Any, alias: str
    ) -> tuple[str, str] | None:
        """Return the path in a setting of the kind of CACHES, STORAGES, TASKS or MAILERS."""
        source = f'{setting}["{alias}"]'
        if not isinstance(table, Mapping):
            message = f"The setting {setting} is {_kind_of(table)}, expected a dict of aliases."
            self._report(5, message, f'Remove {key_path}["ALIAS"].')
        elif alias not in table:
            message = f"The setting {setting} has no {alias!r}."
            self._report(4, message, did_you_mean(alias, [str(name) for name in table]))
        else:
            entry = table[alias]
            path = entry.get("BACKEND") if isinstance(entry, Mapping) else entry
            if isinstance(path, str):
                return source, path
            message = f"{source} has no dotted path as its BACKEND."
            self._report(5, message, f"Put the path there, or give it as TARGET in {key_path}.")
        return None

    def _imported(self, source: str, path: str) -> Any:
        module_name, _, attribute = path.rpartition(".")
        shown = conf.shown(source, path) if source.startswith(_SETTING) else repr(path)
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # noqa: BLE001 - a project's module may fail in any way
            reason = f"{type(error).__name__}: {error}" if module_name else "it has no module"
            message = f"{source} is {shown}, which cannot be imported ({reason})."
            if repr(path) != shown:
                message = f"{source} is {shown}, and cannot be imported."
            self._report(5, message, _hint_with_dots(path) or _hint_below(module_name))
            return None
        if not hasattr(module, attribute):
            message = f"{source} is {path!r}, but {module_name} has no {attribute!r}."
            public = [name for name in dir(module) if not name.startswith("_")]
            hint = _hint_with_dots(path) or did_you_mean(attribute, public)
            self._report(5, message, hint)
            return None
        return getattr(module, attribute)

    def _is_usable(self, source: str, path: str, real: Any, key_path: str) -> bool:
        reason = obstacle(real)
        same = [name for name, other in self.backends.items() if other.real is real]
        if reason is not None:
            message = f"{source} is {path!r}, which cannot be swapped: {reason}."
            hint = "Name the project's own class or function that uses it."
        elif same:
            message = f'{key_path} names {path!r}, and so does ITKIT["BACKENDS"]["{same[0]}"].'
            hint = "Remove one of the two."
        else:
            return True
        self._report(6, message, hint)
        return False

    def _fake(self, key_path: str, entry: BackendSettings, real: Any) -> Any:
        """Return the hand-written fake, after a check that it can replace the real one."""
        if entry.fake is None:
            if entry.options:
                message = f"{key_path} has OPTIONS, which are those of a FAKE, and none."
                self._report(3, message, "Name the class that takes them as FAKE, or remove them.")
            return None
        source = f'{key_path}["FAKE"]'
        fake = self._imported(source, entry.fake)
        if fake is None:
            return None
        for difference in differences(real, fake):
            message = f"{source} is {entry.fake!r}, which differs from the real one: {difference}."
            self._report(10, message, "Correct the fake.")
        if isinstance(fake, type) and (wrong := _cannot_be_made(fake, entry.options)):
            message = f"{source} is {entry.fake!r}, which cannot be made: {wrong}."
            self._report(10, message, f'Give what it takes: {key_path}["OPTIONS"].')
        return fake

    def _report(self, number: int, message: str, hint: str) -> None:
        self.mistakes.append(Mistake(number, message, hint))


def _cannot_be_made(kind: type, options: Mapping[str, Any]) -> str | None:
    try:
        inspect.signature(kind).bind(**options)
    except TypeError as error:
        return str(error)
    except ValueError:  # a class whose signature cannot be read
        return None
    return None


def _kind_of(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value).__qualname__
    return f"an {kind}" if kind[0] in "aeiouAEIOU" else f"a {kind}"


def _hint_with_dots(path: str) -> str:
    """Return a hint for the spelling of an entry point or of a file; else an empty text."""
    dotted = re.sub(r"\.py(?=\W)|[:/]+", lambda match: "." * (match[0] != ".py"), path)
    return f"Write {dotted!r}, with dots: package.module.Name." if dotted != path else ""


def _hint_below(path: str) -> str:
    """Return a hint for a dotted path that continues below ``path``, which is no module."""
    module, _, name = path.rpartition(".")
    with suppress(Exception):  # a project's module may fail in any way
        if isinstance(getattr(importlib.import_module(module), name), type):
            return f"Name the class, {path}: all its methods are swapped."
    return "Correct the path: package.module.Name."


def _has_near(name: str, available: list[str]) -> bool:
    return bool(difflib.get_close_matches(name, available, n=1, cutoff=0.5))

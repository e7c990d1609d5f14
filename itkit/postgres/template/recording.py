"""Records what migrations read: files, settings, the environment, and the code that they use.

Python's audit events report files, directories and processes. Three functions are replaced
meanwhile, to record the environment, settings and checks whether a file exists. Values that only
Django itself reads, or that the import of a module reads, are left out, as the ``fingerprint``
covers them. So are values that differ in each run in any project.
"""

import glob
import importlib.machinery
import os
import shlex
import sys
import sysconfig
import threading
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, wraps
from importlib.util import source_from_cache
from pathlib import Path
from types import FrameType
from typing import Any, Final

import django
from django.apps import AppConfig, apps
from django.apps.registry import Apps
from django.conf import LazySettings
from django.conf import settings as django_settings
from django.db import router
from django.db.migrations.loader import MigrationLoader
from django.db.models.signals import post_migrate, pre_migrate

from itkit.postgres.template import fingerprint, reads, sources
from itkit.postgres.template.sources import Unrepeatable
from itkit.timeline import audit

_PACKAGES: Final = frozenset({"site-packages", "dist-packages"})
_NOTHING: Final = ("/proc", "/sys", "/dev")
_DRIVERS: Final = frozenset({"psycopg", "psycopg2", "psycopg_pool"})
_AROUND_PYTHONS_OWN: Final = ("threads.py", "wrapping.py")
"""Modules of itkit whose functions replace functions of the standard library."""
_READ_FOR_IMPORTS: Final = (
    "inspect.py",
    "linecache.py",
    "pkgutil.py",
    "tokenize.py",
    "traceback.py",
)
_OF_MODULES: Final = tuple(importlib.machinery.all_suffixes())
_IMPORT, _PYTHON, _ITKIT, _DJANGO, _OTHER = "import", "python", "itkit", "django", "other"

_EACH_RUNS_OWN: Final = frozenset(
    {
        "ALLOWED_HOSTS",
        "CACHES",
        "DATABASES",
        "DEBUG",
        "EMAIL_BACKEND",
        "ITKIT",
        "FILE_UPLOAD_TEMP_DIR",
        "LOGGING",
        "LOGGING_CONFIG",
        "MEDIA_ROOT",
        "MIGRATION_MODULES",  # which --nomigrations changes; the fingerprint has what comes of it
        "SETTINGS_MODULE",
        "STATIC_ROOT",
        "TASKS",
        "TEST_RUNNER",
    }
)
"""Settings that Django, itkit or a project change for each test run, or that affect no data."""

_NOT_ASKED: Final = _EACH_RUNS_OWN | frozenset(fingerprint.SETTINGS)
_OF_DJANGOS_CODE: Final = frozenset({"SECRET_KEY", "SECRET_KEY_FALLBACKS", "INSTALLED_APPS"})
"""Settings that may differ in each process, and from which Django itself makes no data."""

_EACH_PROCESS_OWN: Final = (
    "ITKIT_",
    "PYTEST_",
    "COV_CORE_",
    "COVERAGE_",
    "DJANGO_ALLOW_ASYNC_UNSAFE",
    "DJANGO_SETTINGS_MODULE",
)


class Recorder:
    """Collects the names of values that are read, with the values at that moment.

    Attributes:
        unrepeatable: the values that differ at each read, by the module of the migration or
            receiver that reads them; known at the end of the recording.
    """

    def __init__(self) -> None:
        self.unrepeatable: Mapping[str, list[Unrepeatable]] = {}
        self._values: dict[str, str] = {}
        self._at_the_end: set[str] = set()
        self._written: set[str] = set(_log_files())
        self._modules: set[str] = set()
        self._configurations: set[tuple[str, str]] = set()
        self._busy = threading.local()

    @property
    def values(self) -> dict[str, str]:
        """The values that were read, in the form of ``reads.Reads``."""
        return dict(self._values)

    def unrepeatable_reads(self) -> Iterator[tuple[str, str, str]]:
        """Yield the values that differ at each read: the line, the value, and its reader."""
        for module, found in sorted(self.unrepeatable.items()):
            for what in dict.fromkeys(one.what for one in found):
                first = next(one for one in found if one.what == what)
                line = f"{reads.file_name(str(first.path))}:{first.line}"
                yield line, f"{first.call} reads {what}", _called(module)

    def listeners(self) -> dict[str, audit.Listener]:
        """Return the listeners for audit events about files, by the events' names."""
        return {
            "open": self._quiet(self._opened),
            "os.listdir": self._quiet(self._listed),
            "os.scandir": self._quiet(self._scanned),
            "os.mkdir": self._quiet(self._made),
            "os.rename": self._quiet(self._renamed),
            "glob.glob/2": self._quiet(self._globbed),
            "pathlib.Path.glob": self._quiet(self._path_globbed),
            "pathlib.Path.rglob": self._quiet(self._path_globbed_below),
            "subprocess.Popen": self._quiet(self._started),
            "os.posix_spawn": self._quiet(self._spawned),
            "os.system": self._quiet(self._spoken),
        }

    def setting(self, name: str) -> None:
        """Note that a setting is being read."""
        if name not in _NOT_ASKED and f"setting {name}" not in self._values:
            self._quiet(self._set)((name,))

    def variable(self, name: str) -> None:
        """Note that a variable of the environment is being read."""
        if f"variable {name}" not in self._values and not name.startswith(_EACH_PROCESS_OWN):
            self._quiet(self._taken)((name,))

    def configuration(self, app: AppConfig) -> None:
        """Note that code asks for the configuration of an app."""
        self._quiet(self._configured)((type(app),))

    def path(self, path: Any) -> None:
        """Note that code checks whether a path exists."""
        self._quiet(self._asked)((path,))

    def finish(self) -> None:
        """Add the values that are known only at the end."""
        self._busy.is_busy = True
        self._add_code()
        written = {reads.file_name(path) for path in self._written}
        for name in list(self._values):
            kind, what = name.split(" ", 1)
            if kind == "file" and (what in written or self._is_gone(name)):
                del self._values[name]
        around = {str(above) for path in written for above in Path(path).parents} | written
        for name in self._at_the_end:
            kind, what = name.split(" ", 1)
            is_known = f"file {what}" in self._values or (kind == "path" and what in around)
            if not is_known:
                self._values[name] = reads.recorded(name)

    def _is_gone(self, name: str) -> bool:
        """Return whether a file does not exist any more, as migrations made and removed it."""
        return (
            self._values[name] != sources.ABSENT
            and not (reads.root() / name.partition(" ")[2]).exists()
        )

    def _add_code(self) -> None:
        loaded = {
            getattr(module, "__dict__", {}).get("__file__"): name
            for name, module in list(sys.modules.items())
        }
        migrations = {sources.own_file(name): name for name in _migration_modules()}
        migrations.pop(None, None)
        by_name = (
            loaded[path]
            for path in self._modules
            if path in loaded and Path(path) not in migrations
        )
        begin = [(name, sources.ALL) for name in migrations.values()]
        dynamic = ((name, sources.ALL) for name in by_name)
        used = sources.used(
            [*begin, *dynamic], [*_called_by_django(), *sorted(self._configurations)]
        )
        self.unrepeatable = used.unrepeatable
        names = {
            f"code {sources.named(reads.file_name(str(path)), parts)}"
            for path, parts in used.parts.items()
            if path not in migrations
        }
        names |= {f"file {reads.file_name(str(path))}" for path in used.files}
        names |= {f"setting {name}" for name in used.settings - _NOT_ASKED - _OF_DJANGOS_CODE}
        names |= {
            f"variable {name}" for name in used.variables if not name.startswith(_EACH_PROCESS_OWN)
        }
        for name in names - self._values.keys():
            self._values[name] = reads.recorded(name)

    def _quiet(self, listener: audit.Listener) -> audit.Listener:
        """Return a listener that ignores its own events, and raises no error for invalid paths."""

        @wraps(listener)
        def hear(arguments: tuple[Any, ...]) -> None:
            if getattr(self._busy, "is_busy", False):
                return
            self._busy.is_busy = True
            try:
                with suppress(OSError, TypeError, ValueError):  # an invalid path
                    listener(arguments)
            finally:
                self._busy.is_busy = False

        return hear

    def _opened(self, arguments: tuple[Any, ...]) -> None:
        path, _mode, flags = arguments
        if isinstance(path, int):
            return
        path = _text(path)
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self._written.add(path)
        elif _is_import() and path.endswith(_OF_MODULES):
            self._note_module(path)
        elif _is_of_interest(_reader(but=(_PYTHON, _IMPORT))):
            self._note_file(path)

    def _note_module(self, path: str) -> None:
        """Note a module that is loaded by its name, and not by an ``import`` in the source."""
        source = source_from_cache(path) if path.endswith(".pyc") else path
        if not source.endswith(".py") or _is_covered(source):
            return
        if _is_run_as_a_file():
            self._note_file(source)
        elif _is_loaded_by_name():
            self._modules.add(source)

    def _note_file(self, path: str) -> None:
        name = f"file {reads.file_name(path)}"
        if name in self._values or path in self._written or _is_covered(path):
            return
        found = Path(path)
        if not path.endswith(".pyc") and (found.is_file() or not found.exists()):
            self._values[name] = reads.recorded(name)

    def _listed(self, arguments: tuple[Any, ...]) -> None:
        self._note_later("directory", _text(arguments[0] or "."))

    def _scanned(self, arguments: tuple[Any, ...]) -> None:
        if not isinstance(arguments[0], int) and not _is_glob():
            self._note_later("directory", _text(arguments[0] or "."))

    def _globbed(self, arguments: tuple[Any, ...]) -> None:
        pattern, _recursive, directory, _descriptor = arguments
        pattern = os.fsdecode(pattern)
        if directory is not None:
            pattern = f"{glob.escape(_text(directory))}/{pattern}"
        self._note_later("pattern", pattern)

    def _path_globbed(self, arguments: tuple[Any, ...]) -> None:
        directory, pattern = arguments
        self._note_later("pattern", f"{glob.escape(str(directory))}/{pattern}")

    def _path_globbed_below(self, arguments: tuple[Any, ...]) -> None:
        directory, pattern = arguments
        self._note_later("pattern", f"{glob.escape(str(directory))}/**/{pattern}")

    def _asked(self, arguments: tuple[Any, ...]) -> None:
        path = arguments[0]
        if not isinstance(path, int) and not _is_import():
            self._note_later("path", _text(path))

    def _note_later(self, kind: str, path: str) -> None:
        if not _is_covered(path) and _is_of_interest(_reader()):
            self._at_the_end.add(f"{kind} {reads.file_name(path)}")

    def _made(self, arguments: tuple[Any, ...]) -> None:
        self._written.add(_text(arguments[0]))

    def _renamed(self, arguments: tuple[Any, ...]) -> None:
        self._written.add(_text(arguments[1]))

    def _started(self, arguments: tuple[Any, ...]) -> None:
        """Note the files that the command of a process names; other files it reads are not seen."""
        _executable, command, directory, _environment = arguments
        named = [] if isinstance(command, str | bytes) else list(command)[1:]
        self._note_arguments(named, _text(directory or "."))

    def _spawned(self, arguments: tuple[Any, ...]) -> None:
        _path, command, _environment = arguments
        self._note_arguments(list(command)[1:], _text("."))

    def _spoken(self, arguments: tuple[Any, ...]) -> None:
        self._note_arguments(arguments, _text("."))

    def _note_arguments(self, arguments: Iterable[str | bytes], directory: str) -> None:
        """Note the files that arguments name, also as words of a text for a shell."""
        if not _is_of_interest(_reader()):
            return
        for argument in map(os.fsdecode, arguments):
            for word in {argument, *_words(argument)}:
                path = os.path.join(directory, word)  # noqa: PTH118
                if os.path.isfile(path):  # noqa: PTH113 - a word may be too long for a Path
                    self._note_file(path)

    def _set(self, arguments: tuple[Any, ...]) -> None:
        (name,) = arguments
        if _is_on_behalf(name):
            self._values[f"setting {name}"] = reads.recorded(f"setting {name}")

    def _configured(self, arguments: tuple[Any, ...]) -> None:
        (kind,) = arguments
        if _reader() == _OTHER:
            self._configurations.add((kind.__module__, kind.__qualname__))

    def _taken(self, arguments: tuple[Any, ...]) -> None:
        (name,) = arguments
        if _reader() == _OTHER:
            self._values[f"variable {name}"] = reads.recorded(f"variable {name}")


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record the values that migrations within a block read."""
    _empty_caches()
    recorder = Recorder()
    with _imported_again(), ExitStack() as hooks:
        hooks.enter_context(audit.listening(recorder.listeners()))
        hooks.enter_context(_settings_seen(recorder))
        hooks.enter_context(_environment_seen(recorder))
        hooks.enter_context(_questions_seen(recorder))
        hooks.enter_context(_configurations_seen(recorder))
        yield recorder
        hooks.close()
        recorder.finish()


def _empty_caches() -> None:
    """Forget catalogues of texts and templates that were read, so that they are read again."""
    if "django.utils.translation.trans_real" in sys.modules:
        sys.modules["django.utils.translation.trans_real"]._translations.clear()
        sys.modules["gettext"]._translations.clear()  # in the same way as Django's own tests
    from django.template import engines

    for engine in engines._engines.values():  # type: ignore[attr-defined]  # not in the stubs
        for loader in vars(getattr(engine, "engine", engine)).get("template_loaders", ()):
            loader.reset()


@contextmanager
def _imported_again() -> Iterator[None]:
    """Import the project's modules of migrations again, as their import may read values.

    Earlier steps have imported them already. At the end of the block the earlier modules are
    restored, which tests may have imported too.
    """
    known = {
        name: sys.modules.pop(name)
        for name in list(_migration_modules())
        if sources.own_file(name) is not None
    }
    try:
        yield
    finally:
        sys.modules.update(known)
        for name, module in known.items():
            package, _, last = name.rpartition(".")
            if package in sys.modules:
                setattr(sys.modules[package], last, module)


@contextmanager
def _settings_seen(recorder: Recorder) -> Iterator[None]:
    """Let the recorder note each access to a setting within a block.

    ``settings`` caches each value at its first read and calls none of its methods afterwards, so
    ``__getattribute__`` of its class is replaced. Checked with Django 5.2, 6.0 and 6.1.
    """
    original = LazySettings.__getattribute__

    def access(self: LazySettings, name: str) -> Any:
        if name.isupper() and self is django_settings:
            recorder.setting(name)
        return original(self, name)

    with _replaced(LazySettings, "__getattribute__", access):
        yield


@contextmanager
def _environment_seen(recorder: Recorder) -> Iterator[None]:
    """Record each variable that is read, except in iterations over all of them.

    There is no audit event for this, so methods of the class of ``os.environ`` are replaced.
    Checked with Python 3.11 and 3.13.
    """
    kind = type(os.environ)
    get, walk = kind.__getitem__, kind.__iter__
    met = threading.local()

    def taken(self: Any, name: Any) -> Any:
        is_met = name == getattr(met, "name", None) or _instruction() == getattr(
            met, "instruction", None
        )
        if isinstance(name, str | bytes) and not is_met:  # bytes in os.environb
            recorder.variable(os.fsdecode(name))
        return get(self, name)

    def walked(self: Any) -> Iterator[Any]:
        met.instruction = _instruction()  # dict(os.environ) then reads each of the keys
        try:
            for met.name in walk(self):
                yield met.name
        finally:
            met.name = None

    with _replaced(kind, "__getitem__", taken), _replaced(kind, "__iter__", walked):
        yield


@contextmanager
def _questions_seen(recorder: Recorder) -> Iterator[None]:
    """Record each path whose status is read.

    There is no audit event for this, so ``os.stat`` and ``os.access`` are replaced. Checked with
    Python 3.11 and 3.13.
    """
    originals = os.stat, os.access

    @wraps(originals[0])
    def stat(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        recorder.path(path)
        return originals[0](path, *args, **kwargs)

    @wraps(originals[1])
    def access(path: Any, *args: Any, **kwargs: Any) -> bool:
        recorder.path(path)
        return originals[1](path, *args, **kwargs)

    with _replaced(os, "stat", stat), _replaced(os, "access", access):
        yield


@contextmanager
def _configurations_seen(recorder: Recorder) -> Iterator[None]:
    """Record each configuration of an app that migrations ask for, as it may have read values.

    Checked with Django 5.2, 6.0 and 6.1.
    """
    original = Apps.get_app_config

    @wraps(original)
    def get_app_config(self: Apps, app_label: str) -> AppConfig:
        found = original(self, app_label)
        recorder.configuration(found)
        return found

    with _replaced(Apps, "get_app_config", get_app_config):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    is_own, original = name in vars(owner), getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


def _text(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a Path would lose nothing, but time


def _frames() -> Iterator[FrameType]:
    """Yield the frames that have caused an event, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename in (__file__, audit.__file__):
        frame = frame.f_back
    while frame is not None:
        yield frame
        frame = frame.f_back


def _instruction() -> tuple[int, int]:
    """Return the running instruction of the first code outside of the methods of mappings."""
    for frame in _frames():
        if "_collections_abc" not in frame.f_code.co_filename:
            return id(frame.f_code), frame.f_lasti
    return 0, 0


def _reader(but: tuple[str, ...] = (_PYTHON,)) -> str:
    """Return the kind of the code that has caused an event.

    Args:
        but: the kinds of code that only do what other code asks for.
    """
    return next((kind for kind in map(_kind_of_frame, _frames()) if kind not in but), _PYTHON)


def _is_of_interest(reader: str) -> bool:
    """Return whether what code reads may decide the result of migrations.

    A thread may run a function of the standard library only, as those of a pool do with
    ``map(Path.read_text, paths)``.
    """
    return reader in (_DJANGO, _OTHER, _PYTHON)


def _words(text: str) -> list[str]:
    """Return the words that a shell finds in a text, and the values of options among them."""
    split = shlex.shlex(text, posix=True, punctuation_chars=True)
    split.whitespace_split = True
    try:
        words = list(split)
    except ValueError:  # a quotation that does not end
        return []
    return [part for word in words for part in (word, word.partition("=")[2]) if part]


def _is_import() -> bool:
    return _reader() == _IMPORT


def _is_loaded_by_name() -> bool:
    """Return whether a function loads a module, and no ``import`` statement of the project."""
    for frame in _frames():
        kind = _kind_of_frame(frame)
        if kind != _IMPORT:
            return kind != _OTHER or bool(_PACKAGES & set(Path(frame.f_code.co_filename).parts))
    return False


def _is_run_as_a_file() -> bool:
    """Return whether code runs a file by ``loader.exec_module()``, without importing a module."""
    for frame in _frames():
        if _kind_of_frame(frame) != _IMPORT:
            return _kind_of_frame(frame) == _OTHER
        if frame.f_code.co_name == "_find_and_load":
            return False
    return False


def _is_glob() -> bool:
    """Return whether a directory is searched for a pattern, which another event has reported."""
    for frame in _frames():
        name = frame.f_code.co_name
        if frame.f_code.co_filename.endswith("glob.py") or "glob" in name or "select" in name:
            return True
        if _kind_of_frame(frame) != _PYTHON:
            return False
    return False


def _is_on_behalf(name: str) -> bool:
    """Return whether code outside of Django reads a setting, directly or through Django.

    The search ends at itkit's own code, which is below the migrations on the stack, and also
    between a statement and its cursor.
    """
    kinds = map(_kind_of_frame, _frames())
    first = next(kinds, _ITKIT)
    if first == _DJANGO and name in _OF_DJANGOS_CODE:
        return False
    for kind in (first, *kinds):
        if kind in (_ITKIT, _OTHER):
            return kind == _OTHER
    return False


def _kind_of_frame(frame: FrameType) -> str:
    return _kind(frame.f_code.co_filename)


@cache
def _kind(filename: str) -> str:
    if filename.startswith(("<frozen importlib", "<frozen zipimport")) or "/_pytest/" in filename:
        return _IMPORT
    if filename.startswith("<"):
        return _PYTHON
    path = Path(filename)
    if path.is_relative_to(_directory(audit)):
        return _PYTHON if path.name in _AROUND_PYTHONS_OWN else _ITKIT
    if path.is_relative_to(_directory(django)) or (
        _DRIVERS & set(path.parts) and _PACKAGES & set(path.parts)
    ):
        return _DJANGO
    if _PACKAGES & set(path.parts) or not any(map(path.is_relative_to, _standard_library())):
        return _OTHER
    return _IMPORT if path.name in _READ_FOR_IMPORTS else _PYTHON


@cache
def _is_covered(path: str) -> bool:
    """Return whether a file is no part of the project; installed packages have versions."""
    packages = (str(_directory(django)), str(_directory(audit)))
    shared = f"{sys.base_prefix}/share"  # gettext looks here for Python's own texts
    covered = (shared, *_NOTHING, *zoneinfo.TZPATH, *_standard_library(), *packages)
    found = Path(path)
    return bool(_PACKAGES & set(found.parts)) or any(found.is_relative_to(one) for one in covered)


@cache
def _standard_library() -> tuple[str, ...]:
    return tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})


def _directory(module: Any) -> Path:
    return Path(module.__file__).parent


def _log_files() -> Iterator[str]:
    """Yield the files that this process logs to, as reading them means reading its own output."""
    import logging

    for reference in list(logging._handlerList):  # type: ignore[attr-defined]  # not in the stubs
        handler = reference()
        if isinstance(handler, logging.FileHandler):
            yield handler.baseFilename


def _migration_modules() -> Iterator[str]:
    """Yield the modules of migrations that are loaded."""
    packages = [MigrationLoader.migrations_module(app.label)[0] for app in apps.get_app_configs()]
    below = tuple(f"{package}." for package in packages if package)
    yield from (name for name in list(sys.modules) if name.startswith(below))


def _called(module: str) -> str:
    for app in apps.get_app_configs():
        package = MigrationLoader.migrations_module(app.label)[0]
        if package and module.startswith(f"{package}."):
            return f"the migration {app.label}.{module.removeprefix(package)[1:]}"
    return f"the module {module}"


def _called_by_django() -> Iterable[tuple[str, str]]:
    """Yield the receivers of the signals of ``migrate``, and the routers: module and name."""
    for signal in (pre_migrate, post_migrate):
        for app in apps.get_app_configs():
            live = signal._live_receivers(app)
            for receiver in (*live[0], *live[1]):
                name = getattr(receiver, "__qualname__", type(receiver).__qualname__)
                yield receiver.__module__, name.partition(".")[0]
    for one in router.routers:
        yield type(one).__module__, type(one).__qualname__.partition(".")[0]

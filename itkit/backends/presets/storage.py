"""A storage of files that keeps them in memory until the end of the test."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from django.conf import settings
from django.core.files.storage import InMemoryStorage, storages

from itkit.backends.presets.base import Preset, PresetHandle
from itkit.exceptions import ConfigurationError

_LED = (
    "delete",
    "exists",
    "generate_filename",
    "get_accessed_time",
    "get_alternative_name",
    "get_available_name",
    "get_created_time",
    "get_modified_time",
    "get_valid_name",
    "is_name_available",
    "listdir",
    "open",
    "save",
    "size",
    "url",
)


class StorageHandle(PresetHandle):
    """The handle of a storage: ``backends.files.save.calls``, ``backends.files.names``."""

    __slots__ = ()

    @property
    def names(self) -> list[str]:
        """The names of all files, sorted."""
        return sorted(_walk(self._builtin.files))

    def read(self, name: str) -> bytes:
        """Return the contents of a file.

        Raises:
            FileNotFoundError: no file has this name.
        """
        with self._builtin.files._open(name) as file:
            content: bytes = file.read()
        return content


class Storage(Preset):
    """One alias of STORAGES, whose object is redirected for all that hold it, as a FileField."""

    takes: ClassVar = {"ALIAS": ()}
    calls = ("delete", "open", "save")
    handle = StorageHandle

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        alias = self.option("ALIAS")
        if alias not in settings.STORAGES:
            raise ConfigurationError(f"STORAGES has no alias {alias!r}.")
        # Each storage gets a class of its own, as the methods of the class are recorded.
        self.real = type("Files", (InMemoryStorage,), {})
        self.files = self.real()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Redirect the storage to this fake for the duration of the block.

        Fields of models hold the storage object. So this object gets another class, with the same
        results of ``isinstance``. Checked with Django 5.2, 6.0 and 6.1.
        """
        storage: Any = storages[self.option("ALIAS")]
        original = type(storage)
        storage.__class__ = type(original.__name__, (original,), self._methods(original))
        try:
            yield
        finally:
            storage.__class__ = original

    def reset(self) -> None:
        """Forget all files."""
        if any(self.files.listdir("")):
            self.files = self.real()

    def _methods(self, original: type) -> dict[str, Any]:
        return {
            **{name: self._leading(name) for name in _LED},
            "path": _no_path,
            "__module__": original.__module__,
            "__qualname__": original.__qualname__,
        }

    def _leading(self, name: str) -> Any:
        def lead(_storage: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(self.files, name)(*args, **kwargs)

        return lead


def _no_path(_storage: Any, name: str) -> str:
    raise NotImplementedError(f"{name!r} is in memory: a storage that tests use has no paths.")


def _walk(files: InMemoryStorage, directory: str = "") -> Iterator[str]:
    directories, names = files.listdir(directory)
    for name in names:
        yield f"{directory}{name}"
    for name in directories:
        yield from _walk(files, f"{directory}{name}/")

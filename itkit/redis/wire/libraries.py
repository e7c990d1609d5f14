"""The client libraries that are isolated: redis-py, and valkey-py, its fork, once it is imported.

They differ in the names of their modules and of one attribute. A library that is installed but not
used is not imported, as the import takes as long as the rest of Redis' isolation.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, NamedTuple

_NAMES: Final = ("redis", "valkey")


class Library(NamedTuple):
    """One client library.

    Attributes:
        sync: the class that all its connections inherit.
        asynchronous: the class that all its connections for asyncio inherit.
        sentinels: the class that asks Sentinels for a server, and the one for asyncio.
        response_error: the class of the error that the server answers with.
        connection_error: the class of the error for a server that does not answer.
        handshake: the attribute of a connection with the function that replaces its ``on_connect``.
    """

    sync: type[Any]
    asynchronous: type[Any]
    sentinels: tuple[type[Any], type[Any]]
    response_error: type[Exception]
    connection_error: type[Exception]
    handshake: str


@contextmanager
def each(found: Callable[[Library], None]) -> Iterator[None]:
    """Call a function for each library that is imported, now or later within a block.

    Args:
        found: gets the library, before the import of the library returns.
    """
    finder = _Finder(lambda name: found(_library(name)))
    sys.meta_path.insert(0, finder)
    try:
        for name in _NAMES:
            if name in sys.modules:
                found(_library(name))
        yield
    finally:
        sys.meta_path.remove(finder)


def library_of(connection: Any) -> Library:
    """Return the library of a connection."""
    return next(
        library
        for library in (_library(name) for name in _NAMES if name in sys.modules)
        if isinstance(connection, library.sync | library.asynchronous)
    )


class _Finder(MetaPathFinder):
    """Finds no module itself, but notices the import of a library.

    Args:
        imported: gets the name of the library.
    """

    def __init__(self, imported: Callable[[str], None]) -> None:
        self._imported = imported

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _NAMES:
            return None
        others = [each for each in sys.meta_path if each is not self and hasattr(each, "find_spec")]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_and_add(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:  # the caller may use the spec later
                    self._imported(name)

            loader.exec_module = execute_and_add
        return spec


@cache
def _library(name: str) -> Library:
    errors = import_module(f"{name}.exceptions")
    return Library(
        import_module(f"{name}.connection").AbstractConnection,
        import_module(f"{name}.asyncio.connection").AbstractConnection,
        (
            import_module(f"{name}.sentinel").Sentinel,
            import_module(f"{name}.asyncio.sentinel").Sentinel,
        ),
        errors.ResponseError,
        errors.ConnectionError,
        f"{name}_connect_func",
    )

"""The client libraries that are isolated: redis-py, and valkey-py, its fork, if it is installed.

They differ in the names of their modules and of one attribute.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

_NAMES: Final = ("redis", "valkey")


class Library(NamedTuple):
    """One client library.

    Attributes:
        sync: the class that all its connections inherit.
        asynchronous: the same of those for asyncio.
        response_error: what is raised where the server answers with an error.
        connection_error: what is raised where it does not answer.
        handshake: the attribute of a connection with the function that takes the place of its
            ``on_connect``.
    """

    sync: type[Any]
    asynchronous: type[Any]
    response_error: type[Exception]
    connection_error: type[Exception]
    handshake: str


@cache
def libraries() -> tuple[Library, ...]:
    """Return the libraries that are installed; they are imported."""
    return tuple(_library(name) for name in _NAMES if find_spec(name) is not None)


def library_of(connection: Any) -> Library:
    """Return the library whose connection this is."""
    return next(
        library
        for library in libraries()
        if isinstance(connection, library.sync | library.asynchronous)
    )


def _library(name: str) -> Library:
    errors = import_module(f"{name}.exceptions")
    return Library(
        import_module(f"{name}.connection").AbstractConnection,
        import_module(f"{name}.asyncio.connection").AbstractConnection,
        errors.ResponseError,
        errors.ConnectionError,
        f"{name}_connect_func",
    )

"""Puts the connections of all client libraries under a guard, and releases them.

Only this module patches the libraries. They have no hook for commands or sockets. So some methods
are replaced on the two classes that all connections inherit (TCP, TLS, sockets, Sentinel; sync and
asyncio), and on the classes that ask a Sentinel for a server.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

from itkit.redis import addresses
from itkit.redis.wire import async_connection, libraries, sync_connection, wire
from itkit.redis.wire.guard import ConnectionGuard
from itkit.redis.wire.libraries import Library


@contextlib.contextmanager
def under(guard: ConnectionGuard) -> Iterator[None]:
    """Put every connection of the libraries in this process under a guard, within a block."""
    with contextlib.ExitStack() as restore:
        wire.put_under(guard)
        restore.callback(wire.put_under, None)
        restore.enter_context(libraries.each(partial(_replace_in, restore)))
        try:
            yield
        finally:
            restore.close()
            close_all(guard)


def _replace_in(restore: contextlib.ExitStack, library: Library) -> None:
    _replace(library.sync, sync_connection.methods(library), restore)
    _replace(library.asynchronous, async_connection.methods(library), restore)
    asking, asking_in_loop = library.sentinels
    _replace(asking, _sentinel_methods(asking), restore)
    _replace(asking_in_loop, _async_sentinel_methods(asking_in_loop), restore)
    for kind in (library.sync, library.asynchronous):
        module = sys.modules[kind.__module__]
        _replace(module, {"parse_url": _parsing(module.parse_url)}, restore)


def _parsing(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a function that takes the URLs of Celery as well.

    A project may give ``CELERY_BROKER_URL`` to a client of its own, which has the spelling of
    Celery in the tests.
    """

    @wraps(parse)
    def parse_url(url: str) -> Any:
        return parse(addresses.for_clients(url))

    return parse_url


def _replace(
    kind: Any, methods: dict[str, Callable[..., Any]], restore: contextlib.ExitStack
) -> None:
    """Replace methods of a class, or functions of a module, until a stack is closed.

    The libraries have no hook for commands or sockets. Checked with redis-py 5.1, 6.4 and 8.1 and
    valkey-py 6.2.
    """
    for name, method in methods.items():
        restore.callback(setattr, kind, name, vars(kind)[name])
        setattr(kind, name, method)


def close_all(guard: ConnectionGuard) -> None:
    """Close connections that were opened under the guard, so that they reach their servers."""
    for connection in list(guard.connections):
        loop = wire.loop_of(connection)
        if loop is None:
            connection.disconnect()
        elif guard.pid == os.getpid():  # a forked loop shares its selector with the parent's
            _close_in(loop, connection)


def _close_in(loop: asyncio.AbstractEventLoop, connection: Any) -> None:
    if loop is asyncio._get_running_loop():
        connection._close()  # at once, as its next command may be sent before a callback runs
        return
    with contextlib.suppress(RuntimeError):  # the loop is closed, and the connection with it
        loop.call_soon_threadsafe(connection._close)


def _sentinel_methods(kind: type[Any]) -> dict[str, Callable[..., Any]]:
    """Return the replacements of the methods of a library's ``Sentinel``, by their names.

    No Sentinel is asked for a server of the project. The answer is the Sentinel's own address: a
    connection to it goes to the tests' server, like connections to all addresses of the project.
    """
    master, replicas = kind.discover_master, kind.discover_slaves

    @wraps(master)
    def discover_master(self: Any, service_name: str) -> Any:
        return _address_of(self) or master(self, service_name)

    @wraps(replicas)
    def discover_slaves(self: Any, service_name: str) -> Any:
        address = _address_of(self)
        return [address] if address is not None else replicas(self, service_name)

    return {"discover_master": discover_master, "discover_slaves": discover_slaves}


def _async_sentinel_methods(kind: type[Any]) -> dict[str, Callable[..., Any]]:
    """Return the replacements for asyncio."""
    master, replicas = kind.discover_master, kind.discover_slaves

    @wraps(master)
    async def discover_master(self: Any, service_name: str) -> Any:
        return _address_of(self) or await master(self, service_name)

    @wraps(replicas)
    async def discover_slaves(self: Any, service_name: str) -> Any:
        address = _address_of(self)
        return [address] if address is not None else await replicas(self, service_name)

    return {"discover_master": discover_master, "discover_slaves": discover_slaves}


def _address_of(asking: Any) -> tuple[str, int] | None:
    """Return the address of a Sentinel that the tests' server replaces, if there is one."""
    for sentinel in asking.sentinels:
        given = sentinel.connection_pool.connection_kwargs
        host, port = given.get("host", "localhost"), int(given.get("port", 0))
        if wire.current().stands_for(host, port):
            return host, port
    return None

"""Put the connections of all client libraries under a guard and release them.

This is the one place that patches. The libraries have no hook for commands or sockets, so some
methods are replaced on the two classes that all connections inherit (TCP, TLS, sockets, those of
Sentinel; sync and asyncio). Checked with redis-py 5.1, 6.4 and 8.1 and valkey-py 6.2.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from itkit.redis import async_connection, libraries, sync_connection, wire
from itkit.redis.guard import Guard
from itkit.redis.libraries import Library


@contextlib.contextmanager
def under(guard: Guard) -> Iterator[None]:
    """Have every connection of the libraries in this process obey a guard for a block."""
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


def _replace(
    kind: type[Any], methods: dict[str, Callable[..., Any]], restore: contextlib.ExitStack
) -> None:
    for name, method in methods.items():
        restore.callback(setattr, kind, name, vars(kind)[name])
        setattr(kind, name, method)


def close_all(guard: Guard) -> None:
    """Close what was opened under the guard, so that it reaches its own server again."""
    for connection in list(guard.connections):
        loop = wire.loop_of(connection)
        if loop is None:
            connection.disconnect()
        elif guard.pid == os.getpid():  # a forked loop shares its selector with the parent's
            _close_in(loop, connection)


def _close_in(loop: asyncio.AbstractEventLoop, connection: Any) -> None:
    if loop is asyncio._get_running_loop():
        connection._close()  # now: its next command may be on its way before a callback
        return
    with contextlib.suppress(RuntimeError):  # the loop is closed, and the connection with it
        loop.call_soon_threadsafe(connection._close)

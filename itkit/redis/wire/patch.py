"""Put the connections of all client libraries under a guard and release them.

This is the one place that patches. The libraries have no hook for commands or sockets, so some
methods are replaced on the two classes that all connections inherit (TCP, TLS, sockets, those of
Sentinel; sync and asyncio), and on those that ask a Sentinel where a server is.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from itkit.redis.wire import async_connection, libraries, sentinels, sync_connection, wire
from itkit.redis.wire.guard import ConnectionGuard
from itkit.redis.wire.libraries import Library


@contextlib.contextmanager
def under(guard: ConnectionGuard) -> Iterator[None]:
    """Make every connection of the libraries in this process ask a guard, within a block."""
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
    _replace(asking, sentinels.methods(asking), restore)
    _replace(asking_in_loop, sentinels.async_methods(asking_in_loop), restore)


def _replace(
    kind: type[Any], methods: dict[str, Callable[..., Any]], restore: contextlib.ExitStack
) -> None:
    """Replace methods of a class until a stack is closed.

    The libraries have no hook for commands or sockets. Checked with redis-py 5.1, 6.4 and 8.1 and
    valkey-py 6.2.
    """
    for name, method in methods.items():
        restore.callback(setattr, kind, name, vars(kind)[name])
        setattr(kind, name, method)


def close_all(guard: ConnectionGuard) -> None:
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

"""The isolation in a library's asyncio connections; ``sync_connection`` explains the reasons."""

import asyncio
import functools
from collections.abc import Callable, Iterable
from typing import Any

from itkit.redis.server.redis_py import redis
from itkit.redis.wire import wire
from itkit.redis.wire.libraries import Library

Method = Callable[..., Any]


def methods(library: Library) -> dict[str, Method]:
    """Return the replacements of the methods of ``AbstractConnection``, by their names."""
    original = vars(library.asynchronous)
    return wire.replacements(
        original,
        functools.partial(_pack_together, original["pack_command"]),
        connect=_connecting,
        on_connect=_shaking_hands,
        send=_sending,
        read=functools.partial(_reading, library.response_error),
    )


def _pack_together(pack_command: Method, connection: Any, commands: Iterable[Any]) -> list[bytes]:
    """Pack commands without the connection's ``pack_command``, which redis-py's method calls."""
    return [b"".join(chunk for args in commands for chunk in pack_command(connection, *args))]


def _connecting(original: Method) -> Method:
    @functools.wraps(original)
    async def connect(self: Any, *args: Any, **kwargs: Any) -> None:
        await _drop_older(self)
        if not self.is_connected:
            with wire.dialling(self, functools.partial(_dial, self)) as link:
                link.loop = asyncio.get_running_loop()
                await original(self, *args, **kwargs)

    return connect


async def _drop_older(connection: Any) -> None:
    if connection.is_connected and wire.is_stranger(connection):
        await connection.disconnect(nowait=True)


async def _dial(connection: Any) -> None:
    """Connect to the isolated server, instead of redis-py's ``_connect``.

    The streams are set as the attributes in which redis-py keeps them. Checked with redis-py 5.1,
    6.4 and 8.1 and valkey-py 6.2.
    """
    try:
        async with asyncio.timeout(connection.socket_connect_timeout):
            connection._reader, connection._writer = await _streams(connection)
    except OSError as error:  # also TimeoutError
        raise wire.unreachable(connection, error) from error


async def _streams(connection: Any) -> tuple[Any, Any]:
    guard = wire.current()
    if path := guard.options.get("path"):
        # redis-py's own method would send the handshake on the bare connection.
        return await asyncio.open_unix_connection(path)
    is_tls = issubclass(guard.connection_class, redis.SSLConnection)
    kind = redis.asyncio.SSLConnection if is_tls else redis.asyncio.Connection
    bare = wire.bare_connection(connection, kind)
    await bare._connect()
    streams = bare._reader, bare._writer
    bare._reader = bare._writer = None  # else it would warn that it was not closed
    return streams


def _shaking_hands(original: Method) -> Method:
    @functools.wraps(original)
    async def on_connect(self: Any, *args: Any, **kwargs: Any) -> None:
        with wire.logging_in(self):
            await original(self, *args, **kwargs)

    return on_connect


def _sending(original: Method) -> Method:
    @functools.wraps(original)
    async def send_packed_command(self: Any, command: Any, *args: Any, **kwargs: Any) -> None:
        await _drop_older(self)
        expected = wire.expected_of(self, command)
        await original(self, command, *args, **kwargs)
        wire.expect(self, expected)

    return send_packed_command


def _reading(response_error: type[Exception], original: Method) -> Method:
    @functools.wraps(original)
    async def read_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        link = wire.link_of(self)
        if link is None or not link.isolated:
            return await original(self, *args, **kwargs)
        try:
            reply = await original(self, *args, **kwargs)
        except response_error:
            link.skip()
            raise
        if link.plain:  # nearly always; saves a call
            link.plain -= 1
            return reply
        return link.read(reply)

    return read_response

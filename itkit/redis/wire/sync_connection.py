"""The isolation in a library's sync connections; ``async_connection`` does the same with await."""

import functools
from collections.abc import Callable
from typing import Any

from itkit.redis.wire import wire
from itkit.redis.wire.libraries import Library

Method = Callable[..., Any]


def methods(library: Library) -> dict[str, Method]:
    """Return the replacements of the methods of ``AbstractConnection``, by their names."""
    original = vars(library.sync)
    replaced = wire.replacements(
        original,
        original["pack_commands"],
        connect=_connecting,
        on_connect=_shaking_hands,
        send=_sending,
        read=functools.partial(_reading, library.response_error),
    )
    return {**replaced, "send_command": _send_command}


def _connecting(original: Method) -> Method:
    @functools.wraps(original)
    def connect(self: Any, *args: Any, **kwargs: Any) -> None:
        _drop_older(self)
        if self._sock is None:
            with wire.dialling(self, functools.partial(_dial, self)):
                original(self, *args, **kwargs)

    return connect


def _drop_older(connection: Any) -> None:
    """Disconnect a connection that was opened before the guard was on."""
    if connection._sock is not None and wire.is_stranger(connection):
        connection.disconnect()


def _dial(connection: Any) -> Any:
    bare = wire.bare_connection(connection, wire.current().connection_class)
    try:
        return bare._connect()
    except OSError as error:
        raise wire.unreachable(connection, error) from error


def _shaking_hands(original: Method) -> Method:
    @functools.wraps(original)
    def on_connect(self: Any, *args: Any, **kwargs: Any) -> None:
        with wire.logging_in(self):
            original(self, *args, **kwargs)

    return on_connect


def _send_command(self: Any, *args: Any, **kwargs: Any) -> None:
    # redis-py's own method packs without pack_command().
    packed = self.pack_command(*args)
    self.send_packed_command(packed, check_health=kwargs.get("check_health", True))


def _sending(original: Method) -> Method:
    @functools.wraps(original)
    def send_packed_command(self: Any, command: Any, *args: Any, **kwargs: Any) -> None:
        _drop_older(self)
        expected = wire.expected_of(self, command)
        original(self, command, *args, **kwargs)
        # Noted after sending, which may connect first and read the replies of the handshake.
        wire.expect(self, expected)

    return send_packed_command


def _reading(response_error: type[Exception], original: Method) -> Method:
    @functools.wraps(original)
    def read_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        link = wire.link_of(self)
        if link is None or not link.isolated:
            return original(self, *args, **kwargs)
        try:
            reply = original(self, *args, **kwargs)
        except response_error:
            link.skip()
            raise
        if link.plain:  # nearly always; saves a call
            link.plain -= 1
            return reply
        return link.read(reply)

    return read_response

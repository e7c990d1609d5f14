"""The parts of the isolation that sync and asyncio connections share while a guard is on."""

import contextlib
import functools
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from itkit.exceptions import EscapeError
from itkit.redis.prefix.namespace import Expected
from itkit.redis.prefix.rewrite import Rewriter
from itkit.redis.server.server import OwnConnection
from itkit.redis.wire.guard import ConnectionGuard
from itkit.redis.wire.libraries import library_of
from itkit.redis.wire.pending_replies import ATTRIBUTE, Link, Packed
from itkit.timeline import audit, core

Method = Callable[..., Any]
Wrap = Callable[[Method], Method]

_LOGIN: Final = ("username", "password", "credential_provider")
_TIMEOUTS: Final = ("socket_timeout", "socket_connect_timeout")

_guard: ConnectionGuard | None = None


def put_under(guard: ConnectionGuard | None) -> None:
    """Put all connections of this process under a guard, or under none."""
    global _guard  # noqa: PLW0603 - as global as redis-py's classes
    _guard = guard


def guard() -> ConnectionGuard | None:
    """Return the guard that is on, if one is."""
    return _guard


def current() -> ConnectionGuard:
    """Return the guard that is on.

    Raises:
        EscapeError: no guard is on, as it was taken off while a command was being sent.
    """
    if _guard is None:
        raise EscapeError("A Redis command was sent while its isolation was taken down.")
    return _guard


def link_of(connection: Any) -> Link | None:
    """Return the link of the connection's socket; None if the socket is older than the guard."""
    link: Link | None = connection.__dict__.get(ATTRIBUTE)
    return link if link is not None and link.guard is _guard else None


def is_stranger(connection: Any) -> bool:
    """Return whether a connection's socket is older than the guard, and not one of ours."""
    return link_of(connection) is None and not isinstance(connection, OwnConnection)


def loop_of(connection: Any) -> AbstractEventLoop | None:
    """Return the event loop in which a connection was opened; None for a sync one."""
    link: Link = vars(connection)[ATTRIBUTE]
    return link.loop


def replacements(
    own: Mapping[str, Any],
    pack_commands: Method,
    *,
    connect: Wrap,
    on_connect: Wrap,
    send: Wrap,
    read: Wrap,
) -> dict[str, Method]:
    """Return the replacements of the methods of a class of connections, by their names.

    redis-py 5 and valkey-py have no methods ``…_check_health``; from redis-py 6 on, the methods
    without this ending call those with it.

    Args:
        own: the methods of the class.
        pack_commands: packs commands without a call of the connection's ``pack_command``.
        connect: wraps the methods that connect.
        on_connect: wraps the methods that shake hands.
        send: wraps the method that sends packed commands.
        read: wraps the method that reads a reply.
    """
    wrappers = {
        "connect": connect,
        "connect_check_health": connect,
        "on_connect": on_connect,
        "on_connect_check_health": on_connect,
        "send_packed_command": send,
        "read_response": read,
    }
    wrapped = {name: wrap(own[name]) for name, wrap in wrappers.items() if name in own}
    return wrapped | _packing(own["pack_command"], pack_commands)


@contextlib.contextmanager
def dialling(connection: Any, dial: Callable[[], Any]) -> Iterator[Link]:
    """Make a connection dial the isolated server, whatever its address is, while it connects.

    There is no hook between the address and the socket, so the object's own method is replaced
    while it connects. Checked with redis-py 5.1, 6.4 and 8.1 and valkey-py 6.2.

    Raises:
        EscapeError: the connection goes to a server that it may not reach.
    """
    guard = current()
    link = Link(guard, isolated=guard.isolates(connection))
    vars(connection)[ATTRIBUTE] = link
    attribute = library_of(connection).handshake
    handshake = getattr(connection, attribute)
    if link.isolated:
        guard.connections.add(connection)
        vars(connection)["_connect"] = dial  # found before the method of any class
        # This function replaces on_connect(), to log in to the project's own server in its own way.
        # Here the connection would be left with the default user of the tests' server.
        setattr(connection, attribute, None)
    try:
        with audit.trusted():
            yield link
    finally:
        vars(connection).pop("_connect", None)
        setattr(connection, attribute, handshake)


@contextlib.contextmanager
def logging_in(connection: Any) -> Iterator[None]:
    """Make a connection use the login of the isolated server during its handshake."""
    if not _is_isolated(connection):
        yield
        return
    own = {name: getattr(connection, name) for name in _LOGIN}
    _assign(connection, {name: current().options.get(name) for name in _LOGIN})
    try:
        yield
    finally:
        _assign(connection, own)


def bare_connection(connection: Any, kind: type[Any]) -> Any:
    """Return an unconnected connection to the isolated server, with another one's timeouts."""
    timeouts = {name: getattr(connection, name) for name in _TIMEOUTS}
    return kind(**{**timeouts, **current().options})


def unreachable(connection: Any, error: OSError) -> Exception:
    """Return the error of a connection's library for an isolated server that does not answer."""
    kind = library_of(connection).connection_error
    return kind(f"The tests' Redis at {current().address} is gone: {error}")


def _packing(pack_command: Method, pack_commands: Method) -> dict[str, Method]:
    """Return the replacements of a connection's methods that pack commands."""

    @functools.wraps(pack_command)
    def pack_one(self: Any, *args: Any) -> Any:
        if not _is_isolated(self):
            return pack_command(self, *args)
        sent, expected = _rewriter(self)(args)
        return Packed(pack_command(self, *sent), (expected,))

    @functools.wraps(pack_commands)
    def pack_many(self: Any, commands: Iterable[Any]) -> Any:
        if not _is_isolated(self):
            return pack_commands(self, commands)
        sent, expected = _rewriter(self).all(commands)
        return Packed(pack_commands(self, sent), expected)

    return {"pack_command": pack_one, "pack_commands": pack_many}


def expected_of(connection: Any, packed: Any) -> Sequence[Expected]:
    """Return the readers of the replies to packed commands.

    Raises:
        EscapeError: the commands were not packed by the connection.
    """
    if isinstance(packed, Packed):
        return packed.expected
    if _is_isolated(connection):
        raise core.record_failure(
            EscapeError(
                "Bytes for Redis were refused: they were not packed by pack_command() or "
                "pack_commands() of their connection, so their keys have no prefix."
            )
        )
    return ()


def expect(connection: Any, expected: Sequence[Expected]) -> None:
    """Note which replies a connection owes for the commands that it has sent."""
    link = link_of(connection)
    if link is not None and link.isolated:
        link.expect(expected)


def _is_isolated(connection: Any) -> bool:
    link = link_of(connection)
    return current().isolates(connection) if link is None else link.isolated


def _rewriter(connection: Any) -> Rewriter:
    guard = current()
    return guard.rewrite if guard.shared is None else guard.rewrite_of(connection)


def _assign(connection: Any, values: dict[str, Any]) -> None:
    """Give a connection another login, by its attributes and without its credential provider.

    Checked with redis-py 5.1, 6.4 and 8.1 and valkey-py 6.2.
    """
    for name, value in values.items():
        setattr(connection, name, value)  # not vars(): asyncio's connection has slots for them

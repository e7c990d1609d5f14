"""Closes connections that a process has opened before its tests, such as at import.

itkit cannot see what is sent on them. So those connections that would be refused or redirected now
are shut, by their descriptors, as a client may be written in C.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from django.db import connections

from itkit.network import addresses

_DESCRIPTORS: Final = Path("/dev/fd")
_EPHEMERAL: Final = 32768
"""The first port that a system gives to clients; servers have lower ports."""
_UNIX: Final = getattr(socket, "AF_UNIX", None)


def shut(is_allowed: Callable[[str, int], bool]) -> list[str]:
    """Close connections to servers on this machine that the settings name, and those that leave it.

    It is called before itkit itself connects to anything.

    Args:
        is_allowed: returns whether the tests may connect to a host and port of another machine.

    Returns:
        The addresses to which they led. Connections that Django has opened are closed, and not
        listed.
    """
    for of_django in connections.all(initialized_only=True):
        if of_django.vendor == "postgresql":
            of_django.close()
    named = addresses.named()
    found = []
    for descriptor in _descriptors():
        # Not a socket, or one that is connected to nothing.
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
            holder = _holder(connection, named, is_allowed)
            if holder is not None:
                connection.shutdown(socket.SHUT_RDWR)
                found.append(holder)
    return found


def _descriptors() -> Iterator[int]:
    with suppress(OSError):
        yield from [int(entry.name) for entry in _DESCRIPTORS.iterdir() if entry.name.isdecimal()]


def _holder(
    connection: socket.socket,
    named: dict[addresses.Key, str],
    is_allowed: Callable[[str, int], bool],
) -> str | None:
    """Return the address of a connection that has to be shut; None if it may stay open."""
    peer = connection.getpeername()
    if connection.family == _UNIX:
        return named.get(addresses.of_socket(peer)) if isinstance(peer, str) and peer else None
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    host, port = peer[:2]
    if addresses.is_local(host):
        return named.get(port)
    is_client = port < _EPHEMERAL <= connection.getsockname()[1]
    if is_client and not is_allowed(host, port):
        return f"{host}:{port}"
    return None

"""The guard against connections that go out of this machine, for which no fake answers.

It hears Python's audit events of sockets, so it sees whatever is made of them: urllib, requests,
httpx, asyncio, raw sockets, any thread. What brings sockets of its own in C goes past it: libpq,
gRPC, pycurl.
"""

import fnmatch
import ipaddress
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType
from typing import Any, Final, NamedTuple, NoReturn

from django.conf import settings as django_settings

from itkit import audit, boundary, conf, sites
from itkit.exceptions import EscapeError

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


class _Destination(NamedTuple):
    """Where something goes; None stands for any port."""

    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


@contextmanager
def guarded(servers: Iterable[str] = ()) -> Iterator[None]:
    """Refuse, within a block, what goes out of this machine, as ``ITKIT["NETWORK"]`` says.

    Args:
        servers: hosts of the tests' own servers, which may be elsewhere.
    """
    settings = conf.get().network
    if not settings.block:
        yield
        return
    guard = _Guard([*settings.allow, *servers, *_other_databases()])
    with audit.listening(guard.listeners()):
        yield


def _other_databases() -> Iterator[str]:
    """Yield the hosts of databases that are left to Django, whose test databases these are."""
    for database in django_settings.DATABASES.values():
        host, engine = database.get("HOST", ""), database.get("ENGINE", "")
        if host and not host.startswith("/") and "postgresql" not in engine:
            yield host


class _Guard:
    """Refuses destinations but this machine and those that are allowed.

    Args:
        allowed: hosts (``api.example.com``, ``*.example.com``), with a port or without, and
            networks (``10.0.0.0/8``).
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = [_parsed(entry) for entry in allowed]
        self._resolved: set[_Destination] = set()
        self._own = _Resolving()

    def listeners(self) -> dict[str, Callable[[tuple[Any, ...]], None]]:
        """Return what hears the events of sockets, by their names."""
        return {
            "socket.connect": self._connect,
            "socket.sendto": self._to_address,
            "socket.sendmsg": self._to_address,
            "socket.getaddrinfo": self._to_name,
            "socket.gethostbyname": self._to_name,
        }

    def _connect(self, arguments: tuple[Any, ...]) -> None:
        try:
            self._to_address(arguments)
        except EscapeError:
            arguments[0].close()  # callers do that on an OSError only
            raise

    def _to_address(self, arguments: tuple[Any, ...]) -> None:
        connection, address = arguments[:2]
        if connection.family in _INTERNET and isinstance(address, tuple) and len(address) > 1:
            self._check(_Destination(_text(address[0]), address[1]))

    def _to_name(self, arguments: tuple[Any, ...]) -> None:
        """Check the name that is about to be looked up; an address is, when it is connected to."""
        host, *rest = arguments
        if host is None or self._own.is_resolving or _address(_text(host)) is not None:
            return
        port = rest[0] if rest and isinstance(rest[0], int) else None
        destination = _Destination(_text(host), port)
        self._check(destination)
        if any(_names(entry, destination) for entry in self._allowed):
            self._remember(destination)

    def _check(self, destination: _Destination) -> None:
        if not (_is_local(destination.host) or self._is_allowed(destination)):
            _refuse(destination)

    def _is_allowed(self, destination: _Destination) -> bool:
        any_port = destination._replace(port=None)
        if destination in self._resolved or any_port in self._resolved:
            return True
        if any(_names(entry, destination) for entry in self._allowed):
            return True
        # Last, as it asks the resolver: a live server may listen on the name of this machine.
        return destination.host in _own_addresses(self._own)

    def _remember(self, name: _Destination) -> None:
        """Let the addresses of an allowed name through: a connection tells the address only."""
        ports = {port for host, port in self._allowed if fnmatch.fnmatch(name.host.lower(), host)}
        for address in self._own.addresses(name.host):
            self._resolved |= {_Destination(address, port) for port in ports}


class _Resolving(threading.local):
    """Looks names up for the guard itself, which does not check that."""

    is_resolving = False

    def addresses(self, name: str) -> frozenset[str]:
        """Return the addresses of a name; none where it has none."""
        self.is_resolving = True
        try:
            found = socket.getaddrinfo(name, None)
        except OSError:
            return frozenset()
        finally:
            self.is_resolving = False
        return frozenset(str(address[0]) for *_, address in found)


def _parsed(entry: str) -> _Destination:
    """Return an entry of ``ALLOW``, whose shape ``conf`` has checked, with its port apart."""
    if _network(entry) is not None:
        return _Destination(entry, None)
    host, colon, port = entry.rpartition(":")
    if colon and port.isdecimal():
        return _Destination(host.strip("[]").lower(), int(port))
    return _Destination(entry.strip("[]").lower(), None)


def _names(entry: _Destination, destination: _Destination) -> bool:
    """Tell whether an entry of ``ALLOW`` means a destination, whose port may not be known yet."""
    if entry.port is not None and destination.port not in (None, entry.port):
        return False
    address, network = _address(destination.host), _network(entry.host)
    if address is not None and network is not None:
        return address in network
    return fnmatch.fnmatch(destination.host.lower(), entry.host)


def _is_local(host: str) -> bool:
    """Tell whether a host is this machine, by its usual names and addresses."""
    if host in ("", "localhost", socket.gethostname()) or host.endswith(".localhost"):
        return True
    address = _address(host)
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped is not None and (mapped.is_loopback or mapped.is_unspecified)


@cache
def _own_addresses(resolving: _Resolving) -> frozenset[str]:
    return resolving.addresses(socket.gethostname())


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    with suppress(ValueError):
        return ipaddress.ip_network(text, strict=False)
    return None


def _text(host: str | bytes | bytearray) -> str:
    return host if isinstance(host, str) else bytes(host).decode("idna")


def _refuse(destination: _Destination) -> NoReturn:
    frame = sites.outside_of_libraries(sys._getframe(1))
    if frame is None:
        place = f"a library, in the thread {threading.current_thread().name!r}"
    else:
        place = str(sites.site(frame.f_globals, frame.f_lineno))
    allow = [*conf.get().network.allow, destination.host]
    target = _target(frame)
    fake = f"  to fake it:        {_backend_line(target)}\n" if target else ""
    raise boundary.keep(
        EscapeError(
            f"A connection to {destination} was refused: no fake answers it.\n"
            f"  from {place}\n"
            f"{fake}"
            f'  to let it through: ITKIT = {{"NETWORK": {{"ALLOW": {allow!r}}}}}'.replace("'", '"')
        )
    )


def _target(frame: FrameType | None) -> str | None:
    """Return the dotted path of the class or the public function that a user would fake."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        owner, _, function = frame.f_code.co_qualname.rpartition(".")
        name = owner or function
        if "<" not in name and not name.startswith("_") and not _is_of_a_test(module, name):
            return f"{module}.{name}"
        frame = sites.outside_of_libraries(frame.f_back) if frame.f_back is not None else None
    return None


def _is_of_a_test(module: str, name: str) -> bool:
    return name.lower().startswith("test") or "test" in module.rpartition(".")[2]


def _backend_line(target: str) -> str:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", target.rpartition(".")[2]).lower()
    return f'ITKIT = {{"BACKENDS": {{"{name}": {{"TARGET": "{target}"}}}}}}'

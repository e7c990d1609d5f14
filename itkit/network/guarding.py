"""The guard against connections that no fake answers and that itkit does not isolate.

It refuses connections to other machines, and to servers on this machine that the project's settings
name, as these are a developer's own. It listens to Python's audit events for sockets, so it sees
all code that uses them, in any thread: urllib, requests, httpx, asyncio, memcached, brokers, raw
sockets. It does not see libraries with their own sockets in C: libpq, gRPC, pycurl.
"""

import fnmatch
import ipaddress
import re
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final, NamedTuple, NoReturn

from django.conf import settings as django_settings

from itkit import conf
from itkit.core import urls
from itkit.core.handshake import Payload
from itkit.exceptions import EscapeError
from itkit.network import addresses, ports
from itkit.network.addresses import Key
from itkit.timeline import audit, callsite, core

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_UNIX: Final = getattr(socket, "AF_UNIX", None)
_TESTS_REDIS: Final = "the tests' Redis"


class _Destination(NamedTuple):
    """The destination of a connection; None stands for any port."""

    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


class Servers(NamedTuple):
    """The servers of a run, as its guard distinguishes them.

    Attributes:
        own: the hosts of the tests' own servers, with a port if they are on this machine.
        named: the servers on this machine that the project's settings name, with the settings. They
            are read before itkit changes the settings.
        redis: the tests' Redis, which only clients that use the prefix may reach.
        root: id of the process from which all others of the run descend.
    """

    own: tuple[str, ...] = ()
    named: Mapping[Key, str] = {}
    redis: Key | None = None
    root: int = 0


def of_run(payload: Payload) -> Servers:
    """Return the servers of a run; it is called before the run changes the settings."""
    named = addresses.named()
    postgres = [urls.parse(url, urls.POSTGRES_SCHEMES) for url in set(payload.databases.values())]
    own = [
        f"{server.host or 'localhost'}:{server.port or 5432}"
        for server in postgres
        if server.is_local and not server.host.startswith("/")
    ]
    redis: Key | None = None
    if payload.redis is not None:
        server = urls.parse(payload.redis, urls.REDIS_SCHEMES)
        if server.socket:
            redis = addresses.of_socket(server.socket)
        elif server.is_local:
            redis = server.port or 6379
    not_named = [entry for entry in own if int(entry.rpartition(":")[2]) not in named]
    return Servers((*payload.hosts, *not_named), named, redis, payload.process)


def is_let_through(host: str, port: int) -> bool:
    """Return whether the settings let tests connect to an address of another machine."""
    settings = conf.get()
    entries = map(_parsed, [*settings.network.allow, *settings.redis.allow_addresses])
    destination = _Destination(host, port)
    return not settings.network.block or any(_names(entry, destination) for entry in entries)


@contextmanager
def guarded(servers: Servers | None = None) -> Iterator["NetworkGuard"]:
    """Refuse connections that tests may not make within a block, as ``ITKIT["NETWORK"]`` says.

    Args:
        servers: the servers of the run; by default those that the settings name.
    """
    guard = NetworkGuard(servers if servers is not None else Servers(named=addresses.named()))
    with audit.listening(guard.listeners()):
        yield guard


def _other_databases() -> Iterator[str]:
    """Yield the addresses of databases that are left to Django, with Django's test databases."""
    for database in django_settings.DATABASES.values():
        host, engine = database.get("HOST", ""), database.get("ENGINE", "")
        if "postgresql" in engine or "sqlite" in engine:
            continue
        port = database.get("PORT") or addresses.default_port(engine)
        if host.startswith("/"):
            yield host
        elif host or port:
            bracketed = f"[{host}]" if ":" in host else host or "localhost"
            yield f"{bracketed}:{port}" if port else bracketed


class NetworkGuard:
    """Refuses connections to other machines and to foreign servers, unless they are allowed.

    Args:
        servers: the servers of the run.

    Attributes:
        refuse: raises an error for each connection after the tests; None during the tests.
    """

    refuse: Callable[[str], None] | None = None

    def __init__(self, servers: Servers) -> None:
        self._settings = conf.get().network
        allowed = [*self._settings.allow, *conf.get().redis.allow_addresses]
        databases = list(_other_databases())
        self._allowed = [_parsed(entry) for entry in (*allowed, *servers.own, *databases)]
        self._named = servers.named
        self._redis = servers.redis
        self._ports = ports.Ports(servers.root)
        self._warned: set[Key] = set()
        self._resolved: set[_Destination] = set()
        self._own = _Resolving()

    def listeners(self) -> dict[str, Callable[[tuple[Any, ...]], None]]:
        """Return the listeners for audit events about sockets, by the events' names."""
        return {
            "socket.bind": self._bind,
            "socket.connect": self._connect,
            "socket.sendto": self._to_address,
            "socket.sendmsg": self._to_address,
            "socket.getaddrinfo": self._to_name,
            "socket.gethostbyname": self._to_name,
        }

    def _bind(self, arguments: tuple[Any, ...]) -> None:
        self._ports.note(arguments[0])

    def _connect(self, arguments: tuple[Any, ...]) -> None:
        try:
            self._to_address(arguments)
        except EscapeError:
            arguments[0].close()  # callers handle only an OSError
            raise

    def _to_address(self, arguments: tuple[Any, ...]) -> None:
        connection, address = arguments[:2]
        if audit.is_trusted():
            return
        if connection.family in _INTERNET and isinstance(address, tuple) and len(address) > 1:
            self._check(_Destination(_text(address[0]), address[1]))
        elif connection.family == _UNIX and isinstance(address, str | bytes):
            path = address if isinstance(address, str) else address.decode(errors="replace")
            if path and not path.startswith("\0"):
                self._check_here(_Destination(path, None), addresses.of_socket(path))

    def _to_name(self, arguments: tuple[Any, ...]) -> None:
        """Check a name that is about to be looked up; an address is checked at the connection."""
        host, *rest = arguments
        if host is None or self._own.is_resolving or _address(_text(host)) is not None:
            return
        if addresses.is_local(_text(host)):
            return  # the port may be unknown here; it is checked at the connection
        port = rest[0] if rest and isinstance(rest[0], int) else None
        destination = _Destination(_text(host), port)
        self._check(destination)
        if any(_names(entry, destination) for entry in self._allowed):
            self._remember(destination)

    def _check(self, destination: _Destination) -> None:
        if self._is_allowed(destination):
            return
        is_here = addresses.is_local(destination.host)
        # Last, as it needs the resolver: a live server may listen on the name of this machine.
        if is_here or destination.host in _own_addresses(self._own):
            if destination.port is not None:
                self._check_here(destination, destination.port)
        else:
            if self.refuse is not None:
                self.refuse(f"A connection to {destination}")
            if self._settings.block:
                _refuse(destination)

    def _check_here(self, destination: _Destination, key: Key) -> None:
        """Check a server on this machine, which may be a developer's own."""
        if self._is_allowed(destination):
            return
        if key == self._redis:
            _refuse_named(destination, _TESTS_REDIS)
        if self._ports.are_ours(key):
            return
        if self.refuse is not None and isinstance(key, int):
            self.refuse(f"A connection to {destination}")
        holder = self._named.get(key)
        if holder is None and not ports.is_open(key):
            return  # a test may check how the code handles a server that does not exist
        # The present settings as well, as a test may have overridden them.
        holder = holder or addresses.named().get(key)
        if holder is not None:
            _refuse_named(destination, holder)
        if isinstance(key, str) or not self._settings.block:
            return
        if self._settings.local == "refuse":
            _refuse_local(destination)
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(_unknown(destination), RuntimeWarning, stacklevel=2)

    def _is_allowed(self, destination: _Destination) -> bool:
        any_port = destination._replace(port=None)
        if destination in self._resolved or any_port in self._resolved:
            return True
        return any(_names(entry, destination) for entry in self._allowed)

    def _remember(self, name: _Destination) -> None:
        """Allow the addresses of an allowed name, as a connection shows only an address."""
        entries = [
            entry for entry in self._allowed if fnmatch.fnmatch(name.host.lower(), entry.host)
        ]
        for address in self._own.addresses(name.host):
            self._resolved |= {_Destination(address, entry.port) for entry in entries}


class _Resolving(threading.local):
    """Looks names up for the guard itself, which does not check these look-ups."""

    is_resolving = False

    def addresses(self, name: str) -> frozenset[str]:
        """Return the addresses of a name, which may be none."""
        self.is_resolving = True
        try:
            found = socket.getaddrinfo(name, None)
        except OSError:
            return frozenset()
        finally:
            self.is_resolving = False
        return frozenset(str(address[0]) for *_, address in found)


def _parsed(entry: str) -> _Destination:
    """Return host and port of an entry of ``ALLOW``, whose form ``conf`` has checked."""
    if entry.startswith("/"):
        return _Destination(addresses.of_socket(entry), None)
    if _network(entry) is not None:
        return _Destination(entry, None)
    host, colon, port = entry.rpartition(":")
    if colon and port.isdecimal():
        return _Destination(host.strip("[]").lower(), int(port))
    return _Destination(entry.strip("[]").lower(), None)


def _names(entry: _Destination, destination: _Destination) -> bool:
    """Return whether an entry of ``ALLOW`` fits a destination, whose port may not be known yet."""
    if destination.host.startswith("/"):
        return entry.host.startswith("/") and addresses.of_socket(destination.host) == entry.host
    if entry.port is not None and destination.port not in (None, entry.port):
        return False
    address, network = _address(destination.host), _network(entry.host)
    if address is not None and network is not None and address in network:
        return True
    # All names of this machine count as one, as client and settings may use different ones.
    if entry.host and addresses.is_local(entry.host) and addresses.is_local(destination.host):
        return True
    return fnmatch.fnmatch(destination.host.lower(), entry.host)


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
    frame = callsite.outside_of_libraries(sys._getframe(1))
    target = _target(frame)
    fake = f"  to fake it:        {_backend_line(target)}\n" if target else ""
    raise core.record_failure(
        EscapeError(
            f"A connection to {destination} was refused: no fake answers it.\n"
            f"  from {_location_of(frame)}\n"
            f"{fake}"
            f"  to let it through: {_allowing(destination.host)}"
        )
    )


def _refuse_named(destination: _Destination, holder: str) -> NoReturn:
    frame = callsite.outside_of_libraries(sys._getframe(1))
    reason = (
        f"{holder} names this server of your own, and itkit does not isolate what this client does"
        " there."
    )
    if holder == _TESTS_REDIS:
        reason = (
            "it is the tests' Redis, and itkit does not put the tests' prefix on what this client"
            " sends."
        )
    raise core.record_failure(
        EscapeError(
            f"A connection to {destination} was refused: {reason}\n"
            f"  from {_location_of(frame)}\n"
            f"  to let it through: {_allowing(str(destination))}"
        )
    )


def _refuse_local(destination: _Destination) -> NoReturn:
    frame = callsite.outside_of_libraries(sys._getframe(1))
    raise core.record_failure(
        EscapeError(
            f"A connection to {destination} was refused: no process of this run has started the"
            ' server there, and ITKIT["NETWORK"]["LOCAL"] is "refuse".\n'
            f"  from {_location_of(frame)}\n"
            f"  to let it through: {_allowing(str(destination))}"
        )
    )


def _unknown(destination: _Destination) -> str:
    frame = callsite.outside_of_libraries(sys._getframe(1))
    return (
        f"The tests have connected to {destination}, where a server is that no process of this run"
        f" has started.\n"
        f"  from {_location_of(frame)}\n"
        '  to refuse such connections: ITKIT = {"NETWORK": {"LOCAL": "refuse"}}\n'
        f"  to allow this one:          {_allowing(str(destination))}"
    )


def _location_of(frame: callsite.Where | None) -> str:
    if frame is None:
        return f"a library, in the thread {threading.current_thread().name!r}"
    return str(callsite.site(frame.f_globals, frame.f_lineno))


def _allowing(entry: str) -> str:
    allow = [*conf.get().network.allow, entry]
    return f'ITKIT = {{"NETWORK": {{"ALLOW": {allow!r}}}}}'.replace("'", '"')


def _target(frame: callsite.Where | None) -> str | None:
    """Return the dotted path of the class or public function that a user would fake."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        owner, _, function = frame.f_code.co_qualname.rpartition(".")
        name = owner or function
        if "<" not in name and not name.startswith("_") and not _is_of_a_test(module, name):
            return f"{module}.{name}"
        frame = callsite.outside_of_libraries(frame.f_back) if frame.f_back is not None else None
    return None


def _is_of_a_test(module: str, name: str) -> bool:
    return name.lower().startswith("test") or "test" in module.rpartition(".")[2]


def _backend_line(target: str) -> str:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", target.rpartition(".")[2]).lower()
    return f'ITKIT = {{"BACKENDS": {{"{name}": {{"TARGET": "{target}"}}}}}}'

"""Which server a redis-py connection may reach while an isolation is installed."""

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from django.conf import settings

from itkit import conf
from itkit.exceptions import EscapeError
from itkit.redis import addresses
from itkit.redis.addresses import Address
from itkit.redis.prefix.namespace import Namespace
from itkit.redis.prefix.rewrite import Rewriter
from itkit.redis.server import server as servers
from itkit.redis.wire.pending_replies import ATTRIBUTE
from itkit.timeline import core


class Shared(NamedTuple):
    """The databases of the caches whose keys outlast a test, and the rewriter of their commands."""

    databases: frozenset[tuple[Address, int]]
    rewrite: Rewriter


class ConnectionGuard:
    """The guard of one isolation in one process, with its server and its current namespace.

    Args:
        server: URL of the isolated server; None refuses all but the allowed addresses.
        project: URLs of the project's own servers, which the isolated one replaces.
        allowed: addresses that are let through as they are.
        rewrite: puts the prefix on commands; holds the current namespace.
        shared: the databases of the caches that outlast a test, and their rewriter.
        make_way: uninstalls the guard's isolation when another one is installed in a forked
            process; raises ``IsolationError`` in the process of the isolation itself.

    Attributes:
        refuse: raises an error for each connection, after the tests.
    """

    refuse: Callable[[str], None] | None = None

    def __init__(
        self,
        server: str | None,
        project: Iterable[str],
        allowed: Iterable[str],
        rewrite: Rewriter,
        shared: Shared | None = None,
        *,
        make_way: Callable[[], None],
    ) -> None:
        self.make_way = make_way
        self.rewrite = rewrite
        self.shared = shared
        self._may_wait = False
        self.pid = os.getpid()
        self.options = servers.options(server) if server else {}
        self.connection_class = self.options.pop("connection_class", None)
        self.connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self.address = addresses.of_url(server) if server else None
        self._stood_for = {self.address, *map(addresses.of_url, project)} if server else set()
        self._allowed = {addresses.of_text(text) for text in allowed} - {None}

    @property
    def namespace(self) -> Namespace:
        """The namespace of the current generation."""
        return self.rewrite.namespace

    def note_wait(self) -> None:
        """Note that a command was sent that blocks, or another one whose reply names a key."""
        self._may_wait = True

    def is_waited_on(self) -> bool:
        """Return whether a connection may be waiting for an element of a list or a stream."""
        if not self._may_wait:
            return False
        self._may_wait = False  # reset first, as a thread may send the next command that waits
        try:
            connections = list(self.connections)
        except RuntimeError:  # a thread has just opened one
            self._may_wait = True
            return True
        links = (vars(connection).get(ATTRIBUTE) for connection in connections)
        if any(link is not None and link.is_waited_on for link in links):
            self._may_wait = True
        return self._may_wait

    def stands_for(self, host: str, port: int | str) -> bool:
        """Return whether connections to an address go to the isolated server."""
        return addresses.at(host, port) in self._stood_for

    def rewrite_of(self, connection: Any) -> Rewriter:
        """Return the rewriter of a connection's commands."""
        database = (_address_of(connection), int(connection.db or 0))
        if self.shared is not None and database in self.shared.databases:
            return self.shared.rewrite
        return self.rewrite

    def isolates(self, connection: Any) -> bool:
        """Return whether a connection goes to the isolated server; False when it is let through.

        Raises:
            EscapeError: the connection goes to another server, which is not allowed.
        """
        if isinstance(connection, servers.OwnConnection):
            return False
        address = _address_of(connection)
        if self.refuse is not None:
            self.refuse(f"A connection to Redis at {address}")
        if address in self._stood_for:
            return True
        if address in self._allowed:
            return False
        raise core.record_failure(EscapeError(_refusal(address, self.address)))


def _address_of(connection: Any) -> Address | None:
    path = getattr(connection, "path", None)
    if path:
        return addresses.on_socket(path)
    host, port = getattr(connection, "host", None), getattr(connection, "port", None)
    return None if host is None or port is None else addresses.at(host, port)


def _refusal(address: Address | None, isolated: Address | None) -> str:
    if address is None:
        return "A Redis connection was refused: itkit cannot tell which server it goes to."
    reason = (
        f"it is neither the tests' Redis ({isolated}) nor one that the settings name as the"
        " project's own."
        if isolated
        else "no setting names a Redis of the project, so that none was started for the tests."
    )
    return (
        f"A connection to Redis at {address} was refused: {reason}\n"
        f"{_how_to_redirect(addresses.names_of(address, settings))}\n"
        'To let it through as it is, without a prefix: ITKIT["REDIS"]["ALLOW_ADDRESSES"] = '
        f"[{_listed((*conf.get().redis.allow_addresses, str(address)))}]"
    )


def _how_to_redirect(holders: Sequence[str]) -> str:
    listed = conf.get().redis.settings
    unlisted = [name for name in holders if name not in listed]
    if not holders:
        return (
            "No setting holds this address. To send it to the tests' Redis, take it from a setting "
            'and name that in ITKIT["REDIS"]["SETTINGS"].'
        )
    if not unlisted:
        return (
            f'ITKIT["REDIS"]["SETTINGS"] names {holders[0]} already, which held another address'
            " when the run began: an override during a test comes too late. To send it to the"
            f" tests' Redis, have {holders[0]} hold it before the run."
        )
    named = _listed((*listed, unlisted[0]))
    return f'To send it to the tests\' Redis: ITKIT["REDIS"]["SETTINGS"] = [{named}]'


def _listed(items: Iterable[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)

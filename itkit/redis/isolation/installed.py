"""redis-py under isolation in one process: that of a worker, or one that a test has started."""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from itkit import conf
from itkit.exceptions import IsolationError
from itkit.redis import project
from itkit.redis.prefix.rewrite import Rewriter
from itkit.redis.wire import patch, wire
from itkit.redis.wire.guard import ConnectionGuard, Shared


class RedisRoute(NamedTuple):
    """The server of an isolated process' connections, and the rewriters of their commands.

    Attributes:
        server: URL of the isolated server, with the login for the application; None where each
            connection is refused.
        rewrite: puts the prefix on commands.
        shared: puts the prefix on commands of the caches whose keys outlast a test.
    """

    server: str | None
    rewrite: Rewriter
    shared: Shared | None = None


class Installed:
    """The isolation of redis-py in one process.

    Args:
        project: labels and URLs of the project's own servers, for which the isolated one stands.
    """

    def __init__(self, project: Sequence[tuple[str, str]]) -> None:
        self._project = project
        self._guard: ConnectionGuard | None = None
        self._undo = contextlib.ExitStack()
        self._ends = contextlib.ExitStack()
        self._pid = 0
        self._route: RedisRoute | None = None

    @property
    def route(self) -> RedisRoute:
        """The route of connections; known after the first :meth:`install`."""
        if self._route is None:
            raise IsolationError("This isolation of Redis was never installed.")
        return self._route

    @property
    def prefix(self) -> str:
        """The prefix of the current generation."""
        return self.route.rewrite.namespace.text

    @property
    def own_url(self) -> str | None:
        """URL of the server that belongs to one worker alone, where there is one."""
        return None

    def install(self) -> None:
        """Isolate all of redis-py in this process, and point the named settings at the server.

        A connection that is open already moves to the isolated server before its next command. In a
        forked process the isolation of its parent is replaced.

        Raises:
            IsolationError: another isolation is installed in this process.
            ServiceUnavailableError: the server does not answer.
        """
        if (other := wire.guard()) is not None:
            other.make_way()
        # An address, not a whole host, that the network may reach is let through here as well.
        allowed = (*conf.get().redis.allow_addresses, *conf.get().network.allow)
        urls = [url for _, url in self._project]
        route = self._route = self._route or self._new_route()
        guard = self._guard = ConnectionGuard(
            route.server, urls, allowed, route.rewrite, route.shared, make_way=self._make_way
        )
        with contextlib.ExitStack() as stack:
            ends = stack.enter_context(contextlib.ExitStack())
            self._begin(ends)
            stack.enter_context(patch.under(guard))
            if route.server is not None:
                stack.enter_context(project.pointed_at(route.server))
            self._undo = stack.pop_all()
            self._ends = ends
        self._pid = os.getpid()

    def drop_connections(self) -> None:
        """Close all connections of the clients, which connect again for their next command."""
        if self._guard is not None:
            patch.close_all(self._guard)

    def shut(self, refuse: Callable[[str], None]) -> None:
        """Leave redis-py and the settings as they are, but refuse all connections from now on.

        Args:
            refuse: raises an error that says what was refused, which is its argument.
        """
        if self._guard is not None:
            self._guard.refuse = refuse
            patch.close_all(self._guard)
        self._ends.close()

    def uninstall(self) -> None:
        """Undo all that :meth:`install` did; a second call does nothing."""
        self._undo.close()

    def _new_route(self) -> RedisRoute:
        """Return the route of connections, with a login that the server accepts from now on.

        Raises:
            ServiceUnavailableError: the server, which creates the login, does not answer.
        """
        raise NotImplementedError

    def _begin(self, releases: contextlib.ExitStack) -> None:
        """Acquire what is needed while the isolation lasts, and push its release on the stack."""

    def _make_way(self) -> None:
        """Leave redis-py to another isolation, in a process that was forked from this one."""
        if self._pid == os.getpid():
            raise IsolationError(
                f"Redis is isolated under {self.prefix} already: uninstall() that isolation before"
                " another one is installed."
            )
        self.uninstall()

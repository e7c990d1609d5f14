"""redis-py under isolation in one process: a worker's, or one that its test has started."""

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
    """Where the connections of an isolated process go, and what becomes of their commands.

    Attributes:
        server: URL of the isolated server with the login that the application has; None where each
            connection is refused.
        rewrite: puts the prefix on commands.
        shared: the same for the caches whose keys outlast a test.
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
        """Where connections go; known since the first :meth:`install`."""
        if self._route is None:
            raise IsolationError("This isolation of Redis was never installed.")
        return self._route

    @property
    def prefix(self) -> str:
        """The prefix of the current generation."""
        return self.route.rewrite.namespace.text

    @property
    def own_url(self) -> str | None:
        """URL of a server that is one worker's own, where there is one."""
        return None

    def install(self) -> None:
        """Isolate all of redis-py in this process, and point the named settings at the server.

        A connection that is open already changes over before its next command. In a forked
        process the isolation of its parent is replaced.

        Raises:
            IsolationError: another isolation is installed in this process.
            ServiceUnavailableError: the server does not answer.
        """
        if (other := wire.guard()) is not None:
            other.make_way()
        allowed = conf.get().redis.allow_addresses
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
        """Close all connections of the clients, which connect anew with their next command."""
        if self._guard is not None:
            patch.close_all(self._guard)

    def shut(self, refuse: Callable[[str], None]) -> None:
        """Leave redis-py and the settings as they are, but refuse all connections from now on.

        Args:
            refuse: raises, given what is refused.
        """
        if self._guard is not None:
            self._guard.refuse = refuse
            patch.close_all(self._guard)
        self._ends.close()

    def uninstall(self) -> None:
        """Undo all that :meth:`install` did; does nothing the second time."""
        self._undo.close()

    def _new_route(self) -> RedisRoute:
        """Return where connections go, with a login that the server knows from now on.

        Raises:
            ServiceUnavailableError: the server, which is to have that login, does not answer.
        """
        raise NotImplementedError

    def _begin(self, releases: contextlib.ExitStack) -> None:
        """Begin what lasts as long as the isolation, and note how it is released."""

    def _make_way(self) -> None:
        """Leave redis-py to another isolation, in a process that was forked from this one's."""
        if self._pid == os.getpid():
            raise IsolationError(
                f"Redis is isolated under {self.prefix} already: uninstall() that isolation before"
                " another one is installed."
            )
        self.uninstall()

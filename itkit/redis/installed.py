"""redis-py under isolation in one process: a worker's, or one that its test has started."""

import contextlib
import os
from collections.abc import Callable, Sequence

from itkit import conf
from itkit.exceptions import IsolationError
from itkit.redis import patch, project
from itkit.redis.guard import Guard, Shared
from itkit.redis.rewrite import Rewriter

_installed: "Installed | None" = None


class Installed:
    """The isolation of redis-py in one process.

    Args:
        server: URL of the isolated server with the login that the application has; None where each
            connection is refused.
        project: URLs of the project's own servers, for which the isolated one stands.
        rewrite: puts the prefix on commands.
        shared: does so for the caches that outlast a test.

    Attributes:
        own_url: of a server that is one worker's own, where there is one.
    """

    own_url: str | None = None

    def __init__(
        self,
        server: str | None,
        project: Sequence[str],
        rewrite: Rewriter,
        shared: Shared | None = None,
    ) -> None:
        self._reached = server
        self._project = project
        self._rewrite = rewrite
        self._shared = shared
        self._guard: Guard | None = None
        self._undo = contextlib.ExitStack()
        self._ends = contextlib.ExitStack()
        self._pid = 0

    @property
    def prefix(self) -> str:
        """The prefix of the current generation."""
        return self._rewrite.namespace.text

    def install(self) -> None:
        """Isolate all of redis-py in this process, and point the named settings at the server.

        A connection that is open already changes over before its next command. In a forked
        process the isolation of its parent is replaced.

        Raises:
            IsolationError: another isolation is installed in this process.
        """
        global _installed  # noqa: PLW0603 - as global as redis-py, which it patches
        if _installed is not None:
            _installed._make_way(self)
        allowed = conf.get().redis.allow_addresses
        guard = self._guard = Guard(
            self._reached, self._project, allowed, self._rewrite, self._shared
        )
        with contextlib.ExitStack() as stack:
            ends = stack.enter_context(contextlib.ExitStack())
            self._begin(ends)
            stack.enter_context(patch.under(guard))
            if self._reached is not None:
                stack.enter_context(project.pointed_at(self._reached))
            self._undo = stack.pop_all()
            self._ends = ends
        self._pid = os.getpid()
        _installed = self

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
        global _installed  # noqa: PLW0603 - as global as redis-py, which it patches
        if _installed is self:
            _installed = None
        self._undo.close()

    def _begin(self, releases: contextlib.ExitStack) -> None:
        """Begin what lasts as long as the isolation, and note how it is released."""

    def _make_way(self, other: "Installed") -> None:
        """Leave redis-py to another isolation, in a process that was forked from this one's."""
        if self._pid == os.getpid():
            raise IsolationError(
                f"Redis is isolated under {self.prefix} already, so it cannot be under "
                f"{other.prefix}: uninstall() the first one before."
            )
        self.uninstall()

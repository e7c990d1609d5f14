"""Redis for one worker: everything that redis-py sends lands under the worker's prefix."""

import contextlib
from collections.abc import Sequence
from typing import Any

from itkit import conf, names
from itkit.exceptions import ServiceUnavailableError
from itkit.redis import acl, live, policy
from itkit.redis import server as servers
from itkit.redis.counter import Counter
from itkit.redis.denials import Denials
from itkit.redis.installed import Installed
from itkit.redis.namespace import Namespace
from itkit.redis.rewrite import Rewriter
from itkit.redis.shared import sharing
from itkit.redis.tracking import Tracking

_GENERATIONS = 64
"""So many tests leave their keys before they are removed, in one go."""


class Isolation(Installed):
    """The isolation of one worker's Redis.

    Args:
        server: URL of the isolated server, ``unix://…`` or ``redis://…``; None where the project
            has no Redis, and each connection is refused.
        run: id of the run.
        worker: id of the worker.
        owned: whether the server is thrown away after the run.
        project: labels and URLs of the project's own servers, for which the isolated one stands.
        secret: of the run, where each worker has a user of its own on the server.

    Raises:
        ServiceUnavailableError: the server, which is to have the worker's user, does not answer.
    """

    def __init__(
        self,
        *,
        server: str | None,
        run: str,
        worker: str,
        owned: bool,
        project: Sequence[tuple[str, str]],
        secret: str = "",
    ) -> None:
        self._server = server
        listed = conf.get().redis.allow_commands
        limited: str | None = None
        self._denials = None
        if server is not None and secret:
            allowed = policy.allowed(listed, owned=owned)
            limited = acl.grant(server, run, worker, secret=secret, owned=owned, allowed=allowed)
            self._denials = Denials(server, names.redis_user(run, worker))
        self._run = run
        self._worker = worker
        self._counter = Counter()
        self._tracking = self._new_tracking(owned=owned)
        reached = limited or server
        options: dict[str, Any] = {
            "owned": owned,
            "login": servers.login(reached) if reached else None,
            "limited": limited is not None,
            "ask": live.asking(server) if server else None,
            "listed": listed,
        }
        rewrite = Rewriter(self._next_namespace(), **options)
        shared = sharing(run, worker, project, options)
        super().__init__(reached, [url for _, url in project], rewrite, shared)

    @property
    def generation(self) -> int:
        """The number of the current generation."""
        return self._rewrite.namespace.generation

    @property
    def generations(self) -> str:
        """Path of the memory that tells that number to other processes, or an empty text."""
        return self._counter.path

    def new_generation(self) -> None:
        """Begin with no keys: one assignment, which all threads and connections see at once.

        The keys of those before are removed when there are many generations. Who waits for one of
        them, such as a worker of rq, is told that none has come, to wait for one of now.
        """
        namespace = self._rewrite.namespace = self._next_namespace()
        if self._counter.is_read or (self._guard is not None and self._guard.is_waited_on()):
            self._wake()
        if self._tracking is not None and namespace.generation % _GENERATIONS == 0:
            kept = (namespace, self._shared.rewrite.namespace) if self._shared else (namespace,)
            written = self._tracking.written()
            past = [name for name in written if not any(one.holds(name) for one in kept)]
            self._tracking.remove(past)

    def left(self) -> list[str]:
        """Return a line for each key that the current generation has.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        if self._server is None or self._tracking is None:
            return []
        prefix = self.prefix
        names = self._tracking.written(prefix)
        if not self._tracking.is_on:
            names = servers.names_under(self._server, prefix)
        found = servers.left(self._server, sorted(names)) if names else ()
        return [key.told(len(prefix)) for key in found]

    def denied(self) -> list[str]:
        """Return what the server has denied since the last call, in a line each.

        It is not asked where this process has sent nothing, so what others have sent under the
        same prefix is told later.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        if self._denials is None or not self._take_notice():
            return []
        return self._denials.new()

    def clear(self) -> int:
        """Remove the keys of all generations from all databases; return how many there were.

        To be called while the isolation is installed: then their names are known, and nothing has
        to be looked for.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        if self._server is None:
            return 0
        if self._tracking is not None:
            names = self._tracking.written()
            if self._tracking.is_on:
                return self._tracking.remove(names)
        return servers.remove(self._server, self._rewrite.namespace.root)

    def _wake(self) -> None:
        """Have the server answer the clients of this worker that wait for an older generation.

        Only its user tells them from those of others. A server that has died is for the tests to
        report.
        """
        if self._server is None or self._denials is None:
            return
        user = names.redis_user(self._run, self._worker)
        with (
            contextlib.suppress(ServiceUnavailableError),
            servers.connected(self._server) as client,
        ):
            for one in client.client_list():
                if one["user"] == user and "b" in one["flags"]:
                    client.client_unblock(int(one["id"]))

    def _take_notice(self) -> bool:
        """Whether this process has sent any command since the last call."""
        rewriters = [self._rewrite, *([self._shared.rewrite] if self._shared else [])]
        is_used = any(rewrite.is_used for rewrite in rewriters)
        for rewrite in rewriters:
            rewrite.is_used = False
        return is_used

    def _begin(self, releases: contextlib.ExitStack) -> None:
        if self._tracking is not None:
            self._tracking.start()
            releases.callback(self._tracking.stop)
        if self._denials is not None:
            releases.callback(self._denials.close)

    def _new_tracking(self, *, owned: bool) -> Tracking | None:
        """Return what knows the keys to remove or to tell of, where there is need for it."""
        if self._server is None or (owned and conf.get().redis.leaks == "off"):
            return None
        return Tracking(self._server, names.key_prefix(self._run, self._worker))

    def _next_namespace(self) -> Namespace:
        return Namespace(self._run, self._worker, self._counter.next())

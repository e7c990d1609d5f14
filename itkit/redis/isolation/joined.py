"""Redis for a process that a test has started: under the prefix of the test that is running."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from itkit import conf
from itkit.core.handshake import Invitation
from itkit.redis.isolation.installed import Installed, RedisRoute
from itkit.redis.prefix import command_info
from itkit.redis.prefix.namespace import GenerationReader, Namespace
from itkit.redis.prefix.rewrite import FollowingRewriter, PassingRewriter
from itkit.redis.server import acl
from itkit.redis.server import server as servers
from itkit.redis.shared import sharing


class JoinedIsolation(Installed):
    """The isolation of a process that a test has started.

    The process logs in as the test's worker does. The worker counts the generations, and knows and
    removes the keys of both processes.

    Args:
        invitation: the environment variables that the test has set for its processes.
        server: URL of the isolated server; None where the project has no Redis.
        run: id of the run.
        owned: whether the server is thrown away after the run.
        project: labels and URLs of the project's own servers, which the isolated one replaces.
        secret: the secret of the run, where each worker has a user of its own on the server.
    """

    def __init__(
        self,
        invitation: Invitation,
        *,
        server: str | None,
        run: str,
        owned: bool,
        project: Sequence[tuple[str, str]],
        secret: str = "",
    ) -> None:
        super().__init__(project)
        self._invitation = invitation
        self._server = server
        self._run = run
        self._owned = owned
        self._secret = secret

    def _new_route(self) -> RedisRoute:
        if self._invitation.redis is not None:
            return RedisRoute(self._invitation.redis, PassingRewriter())
        server, run, worker = self._server, self._run, self._invitation.worker
        ask = command_info.asking(server) if server else None
        if server is not None and self._secret:
            server = acl.logged_in(server, run, worker, secret=self._secret)
        options: dict[str, Any] = {
            "owned": self._owned,
            "login": servers.login(server) if server else None,
            "limited": bool(self._secret),
            "ask": ask,
            "listed": conf.get().redis.allow_commands,
        }
        generation = _generations(self._invitation)
        rewrite = FollowingRewriter(partial(Namespace, run, worker), generation, **options)
        return RedisRoute(server, rewrite, sharing(run, worker, self._project, options))


def _generations(invitation: Invitation) -> Callable[[], int]:
    """Return the function that reads the generation of the test that is running."""
    try:
        return GenerationReader(invitation.generations).now
    except OSError:  # this process belongs to another user, or the system has no such memory
        return lambda: invitation.generation

"""Redis for a process that a test has started: under the prefix of that test, whichever it is."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from itkit import conf
from itkit.payload import Invitation
from itkit.redis import acl, live
from itkit.redis import server as servers
from itkit.redis.counter import Reader
from itkit.redis.installed import Installed
from itkit.redis.namespace import Namespace
from itkit.redis.rewrite import FollowingRewriter, PassingRewriter
from itkit.redis.shared import sharing


def joined(
    invitation: Invitation,
    *,
    server: str | None,
    run: str,
    owned: bool,
    project: Sequence[tuple[str, str]],
    secret: str = "",
) -> Installed:
    """Return the isolation of a process that a test has started.

    It has the login of the test's worker, which counts the generations, and knows and removes the
    keys of both.

    Args:
        invitation: to the test.
        server: as of ``Isolation``.
        run: as of ``Isolation``.
        owned: as of ``Isolation``.
        project: as of ``Isolation``.
        secret: as of ``Isolation``.
    """
    urls = [url for _, url in project]
    if invitation.redis is not None:
        return Installed(invitation.redis, urls, PassingRewriter())
    ask = live.asking(server) if server else None
    if server is not None and secret:
        server = acl.logged_in(server, run, invitation.worker, secret=secret)
    options: dict[str, Any] = {
        "owned": owned,
        "login": servers.login(server) if server else None,
        "limited": bool(secret),
        "ask": ask,
        "listed": conf.get().redis.allow_commands,
    }
    namespace_of = partial(Namespace, run, invitation.worker)
    rewrite = FollowingRewriter(namespace_of, _generations(invitation), **options)
    shared = sharing(run, invitation.worker, project, options)
    return Installed(server, urls, rewrite, shared)


def _generations(invitation: Invitation) -> Callable[[], int]:
    """Return what tells the generation of the test that is running."""
    try:
        return Reader(invitation.generations).now
    except OSError:  # this process is another user's, or the system has no memory of that kind
        return lambda: invitation.generation

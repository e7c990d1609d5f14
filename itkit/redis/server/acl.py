"""A user of the server that reaches the keys and channels of one worker, and no others.

redis-py and scripts get the prefix, but a library of functions, another client, or a script that
tries to, can avoid it. Only the server itself can refuse their commands. Its ``ACL LOG`` has the
commands that it has denied: see ``denials``.
"""

from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2s

from itkit.core import names, urls
from itkit.redis import policy
from itkit.redis.server import server as servers
from itkit.redis.server.redis_py import redis

# Commands for administrators that only read, or concern only the connection that sends them. The
# three that show other users are left out.
_HARMLESS = policy.PASSED - {"ACL|GETUSER", "ACL|LIST", "ACL|USERS"}
_REACHING = ("-flushall", "-flushdb", "-swapdb", "-move", "-migrate")
_REACHING_SINCE_7 = (
    *("-script|flush", "-script|kill", "-function|load", "-function|delete", "-function|flush"),
    *("-function|restore", "-function|kill"),
)


def grant(
    server: str, run: str, worker: str, *, secret: str, owned: bool, allowed: Iterable[str] = ()
) -> str | None:
    """Create a worker's user and return the URL of the server with its login.

    None means that the server has no ACL users, or that itkit may not create one. In that case only
    the client's guard protects other keys. A user that exists already stays, and so do its
    connections.

    Args:
        server: URL with a login of ours.
        run: id of the run.
        worker: id of the worker.
        secret: the secret of the run, from which passwords are made: a process that a worker starts
            uses the worker's.
        owned: whether the server is thrown away after the run, so that more commands are harmless.
        allowed: commands that may reach beyond the worker, as ``policy.allowed`` returns them.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    user, password = names.redis_user(run, worker), _password(secret, worker)
    everything = f"{names.key_prefix(run, worker)}*"
    rules = (
        *("on", "resetpass", f">{password}", "resetkeys", f"~{everything}", "resetchannels"),
        *("+@all", "-@admin", *_REACHING),
    )
    more = {*allowed, *(policy.PASSED | policy.OWN_SERVER_ONLY if owned else _HARMLESS)}
    with servers.connected(server) as client:
        if not (
            _is_set(client, user, *rules, *_since_7(everything))
            # Redis 6 cannot allow patterns without allowing to publish anywhere.
            or _is_set(client, user, *rules, "allchannels")
        ):
            return None
        _add(client, user, more)
    return logged_in(server, run, worker, secret=secret)


def logged_in(server: str, run: str, worker: str, *, secret: str) -> str:
    """Return the URL of a server with the login of a worker's user.

    Args:
        server: URL with a login of ours.
        run: id of the run.
        worker: id of the worker.
        secret: the run's secret, from which passwords are made.
    """
    user, password = names.redis_user(run, worker), _password(secret, worker)
    return str(replace(urls.parse(server, urls.REDIS_SCHEMES), user=user, password=password))


def revoke(client: "redis.Redis", run: str) -> None:
    """Delete the users of a run, if there are any, and close their connections."""
    try:
        users = [str(user) for user in client.acl_users()]
        ours = [user for user in users if user.startswith(names.redis_user(run, worker=""))]
        if ours:
            client.acl_deluser(*ours)
    except redis.ResponseError:
        return  # as in ``grant``: then there are none


def runs_with_users(client: "redis.Redis") -> set[str]:
    """Return the ids of the runs that have users."""
    try:
        users = client.acl_users()
    except redis.ResponseError:
        return set()  # as in ``grant``: then there are none
    return {run for user in users if (run := names.run_of_user(str(user))) is not None}


def _password(secret: str, worker: str) -> str:
    return blake2s(worker.encode(), key=secret.encode()).hexdigest()


def _since_7(everything: str) -> tuple[str, ...]:
    """Return the rules that Redis 6 does not have.

    The server allows a subscription to a pattern only if the rules have exactly this pattern. It
    allows SORT with weights and values in other keys only if all keys may be read. The rules in
    brackets are for these commands alone.
    """
    return (
        *("clearselectors", f"&{everything}", "(+psubscribe allchannels)"),
        *(f"&__keyspace@*__:{everything}", "&__keyevent@*__:*"),
        f"(+sort +sort_ro ~{everything} %R~*)",
        *_REACHING_SINCE_7,
    )


def _is_set(client: "redis.Redis", user: str, *rules: str) -> bool:
    try:
        client.execute_command("ACL", "SETUSER", user, *rules)  # type: ignore[no-untyped-call]  # redis-py's
    except redis.ResponseError:
        return False
    return True


def _add(client: "redis.Redis", user: str, commands: Iterable[str]) -> None:
    """Let a user send commands; commands that the server does not know are ignored."""
    with client.pipeline(transaction=False) as pipeline:
        for name in sorted(commands):
            pipeline.execute_command("ACL", "SETUSER", user, f"+{name.lower()}")  # type: ignore[no-untyped-call]  # redis-py's
        pipeline.execute(raise_on_error=False)

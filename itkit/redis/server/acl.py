"""A user of the server that reaches the keys and channels of one worker, and no others.

redis-py and scripts get the prefix, but a library of functions, another client, or a script that
tries to, can avoid it. Only the server itself can refuse their commands. An application or a Lua
script may catch the error of such a command, but the server's ``ACL LOG`` has it nevertheless.
Others use the log as well, so itkit only reads it.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2s
from typing import Any, Final

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
_WHERE: Final = {"lua": "a Lua script", "multi": "a transaction", "module": "a module"}
_COMMAND: Final = re.compile(r"\bcmd=(\S+)")

_Denial = tuple[str, str, str, str]  # reason, object, context, and the command of the client


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


class Denials:
    """The denials to one user; each is returned once.

    Args:
        server: URL with a login that may read the log.
        user: name of the user.
    """

    def __init__(self, server: str, user: str) -> None:
        self._server = server
        self._client = servers.client(server)
        self._user = user
        self._seen: Counter[_Denial] = Counter()

    def new(self) -> list[str]:
        """Return a line for each denial since the last call.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        with servers.failures_explained(self._server):
            entries: list[dict[str, Any]] = self._client.acl_log()
        found: Counter[_Denial] = Counter()
        for entry in entries:
            if entry["username"] == self._user:
                found[_denial(entry)] += int(entry["count"])
        # A full log drops its oldest entries, so a count can be lower than before.
        new, self._seen = found - self._seen, found
        return [_line(denial, count) for denial, count in new.items()]

    def close(self) -> None:
        """Close the connection."""
        self._client.connection_pool.disconnect()


def can_read_acl_log(server: str) -> bool:
    """Return whether a login may read the server's log of denied commands.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    with servers.connected(server) as client:
        try:
            client.acl_log(count=1)
        except redis.ResponseError:
            return False
    return True


def _denial(entry: dict[str, Any]) -> _Denial:
    client = entry.get("client-info")
    # Some versions of redis-py parse the line already.
    command = client.get("cmd") if isinstance(client, dict) else _found(_COMMAND, str(client))
    return entry["reason"], entry["object"], entry["context"], command or ""


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None


def _line(denial: _Denial, count: int) -> str:
    reason, name, context, command = denial
    where = _WHERE.get(context)
    by = f" by {command.replace('|', ' ').upper()}" if command and reason != "command" else ""
    inside = f" in {where}" if where else ""
    times = f", {count} times" if count > 1 else ""
    shown = name.replace("|", " ").upper() if reason == "command" else repr(name)
    return f"{reason} {shown}{by}{inside}{times}"

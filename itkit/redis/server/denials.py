"""The commands that the server has denied to a worker's user, which no client can hide.

An application or a Lua script may catch the error, but the server's ``ACL LOG`` has it
nevertheless. Others use the log as well, so itkit only reads it.
"""

import re
from collections import Counter
from typing import Any, Final

from itkit.redis.server import server as servers
from itkit.redis.server.redis_py import redis

_WHERE: Final = {"lua": "a Lua script", "multi": "a transaction", "module": "a module"}
_COMMAND: Final = re.compile(r"\bcmd=(\S+)")

_Denial = tuple[str, str, str, str]  # reason, object, context, and the command of the client


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

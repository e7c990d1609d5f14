"""A user of the server that reaches the keys and channels of one run, and no others.

The prefix is put on what redis-py sends, but a Lua script can build a key inside the server. There
only the server itself can say no.
"""

import secrets
from dataclasses import replace

import redis

from itkit import names, urls
from itkit.redis import server as servers

# Of what an administrator may do, the client guard lets these pass: they only read, or concern
# the connection that sends them.
_HARMLESS = (
    *("+config|get", "+acl|whoami", "+slowlog|get", "+slowlog|len", "+role", "+lastsave"),
    *("+client|list", "+client|id", "+client|info", "+client|getname", "+client|setname"),
)
_REACHING = ("-flushall", "-flushdb", "-swapdb", "-move", "-migrate")
_REACHING_SINCE_7 = (
    *("-script|flush", "-script|kill", "-function|load", "-function|delete", "-function|flush"),
    *("-function|restore", "-function|kill"),
)


def grant(server: str, run: str) -> str | None:
    """Create the run's user and return the URL of the server with its login.

    None means that the server has no such users, or that we may not create one: then the client
    guard is all there is.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    user, password = names.redis_user(run), secrets.token_urlsafe(24)
    everything = f"{names.KEY_ROOT}{run}:*"
    rules = (
        *("reset", "on", f">{password}", f"~{everything}", "resetchannels"),
        *("+@all", "-@admin", *_REACHING, *_HARMLESS),
    )
    with servers.connected(server) as client:
        if not (
            _is_set(client, user, *rules, *_since_7(everything))
            # Redis 6 cannot allow patterns without allowing to publish anywhere.
            or _is_set(client, user, *rules, "allchannels")
        ):
            return None
    url = urls.parse(server, urls.REDIS_SCHEMES)
    return str(replace(url, user=user, password=password))


def revoke(client: redis.Redis, run: str) -> None:
    """Delete the run's user, and with it its connections, if there is one."""
    try:
        client.acl_deluser(names.redis_user(run))
    except redis.ResponseError:
        return  # as in ``grant``: then there is none


def _since_7(everything: str) -> tuple[str, ...]:
    """Return the rules that Redis 6 does not have.

    A pattern may be subscribed to if the rules have that very pattern, and SORT may look for
    weights and values if all keys may be read. The rules in brackets are for these commands alone.
    """
    return (
        *(f"&{everything}", "(+psubscribe allchannels)"),
        f"(+sort +sort_ro ~{everything} %R~*)",
        *_REACHING_SINCE_7,
    )


def _is_set(client: redis.Redis, user: str, *rules: str) -> bool:
    try:
        client.execute_command("ACL", "SETUSER", user, *rules)  # type: ignore[no-untyped-call]  # redis-py's
    except redis.ResponseError:
        return False
    return True

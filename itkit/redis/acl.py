"""A user of the server that reaches the keys and channels of one run, and no others.

The prefix is put on what redis-py sends, but a Lua script can build a key inside the server. There
only the server itself can say no.
"""

import secrets
from dataclasses import replace

import redis

from itkit import names, urls
from itkit.redis import server as servers

# Of what an administrator may do, the client guard lets these pass: they only read.
_READING = ("+config|get", "+client|list", "+acl|whoami", "+slowlog|get", "+slowlog|len")
_REACHING = ("-flushall", "-flushdb", "-swapdb", "-move", "-migrate")


def grant(server: str, run: str) -> str | None:
    """Create the run's user and return the URL of the server with its login.

    None means that the server has no such users, or that we may not create one: then the client
    guard is all there is.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    password = secrets.token_urlsafe(24)
    everything = f"{names.KEY_ROOT}{run}:*"
    with servers.connected(server) as client:
        try:
            client.execute_command(  # type: ignore[no-untyped-call]  # redis-py's
                "ACL", "SETUSER", names.redis_user(run), "reset", "on", f">{password}",
                f"~{everything}", "resetchannels", f"&{everything}",
                "+@all", "-@admin", *_REACHING, *_READING,
            )  # fmt: skip
        except redis.ResponseError:
            return None
    url = urls.parse(server, urls.REDIS_SCHEMES)
    return str(replace(url, user=names.redis_user(run), password=password))


def revoke(client: redis.Redis, run: str) -> None:
    """Delete the run's user, and with it its connections, if there is one."""
    try:
        client.acl_deluser(names.redis_user(run))
    except redis.ResponseError:
        return  # as in ``grant``: then there is none

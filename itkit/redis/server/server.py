"""itkit's own connections to a Redis server, without prefix and guard."""

import contextlib
import functools
import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from itkit.core import urls
from itkit.exceptions import IsolationError, ServiceUnavailableError
from itkit.redis.server import redis_py
from itkit.redis.server.redis_py import redis
from itkit.timeline import audit

_TIMEOUT = 10.0
_SCANNED = 10_000


class OwnConnection:
    """Marks connections that the isolation and the network guard let through unchanged."""

    def _connect(self) -> Any:
        with audit.trusted():
            return super()._connect()  # type: ignore[misc]  # of what this is mixed into


@functools.cache
def _own(kind: type[Any]) -> type[Any]:
    """Return the marked subclass of a class of redis-py's connections."""
    return type(f"Own{kind.__name__}", (OwnConnection, kind), {})


def options(url: str) -> dict[str, Any]:
    """Return redis-py's keyword arguments for a URL, also for Valkey's schemes.

    Raises:
        ConfigurationError: the text is not the URL of a Redis server.
        ServiceUnavailableError: redis-py is not installed.
    """
    redis_py.require()
    server = urls.parse(url, urls.REDIS_SCHEMES)
    scheme = server.scheme.replace("valkeys", "rediss").replace("valkey", "redis")
    url = str(replace(server, scheme=scheme))
    parsed: dict[str, Any] = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]  # redis-py's
    return {"connection_class": redis.Connection, **parsed}


def login(url: str) -> tuple[str, str] | None:
    """Return the user and the password in a URL, or None when it has neither.

    Raises:
        ConfigurationError: the text is not the URL of a Redis server.
    """
    server = urls.parse(url, urls.REDIS_SCHEMES)
    if not (server.user or server.password):
        return None
    return server.user or "default", server.password


@contextlib.contextmanager
def connected(url: str, *, database: int = 0, timeout: float = _TIMEOUT) -> Iterator["redis.Redis"]:
    """Give a block a client of itkit's own.

    Args:
        url: the URL of the server; the database in it is ignored.
        database: the number of the database.
        timeout: seconds for a connection, and for each reply.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    made = client(url, database=database, timeout=timeout)
    try:
        with failures_explained(url):
            yield made
    finally:
        made.connection_pool.disconnect()


@functools.cache
def _anonymous() -> dict[str, None]:
    """Return the options that keep a connection from sending the name of its library.

    Without them redis-py would read its version from the disk for each connection.
    """
    parameters = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    is_new = "driver_info" in parameters
    return {"driver_info": None} if is_new else {"lib_name": None, "lib_version": None}


@contextlib.contextmanager
def raw(url: str, database: int) -> Iterator["redis.Redis"]:
    """Give a block a client of itkit's own, whose replies are bytes.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    made = client(url, database=database, decode_responses=False)
    with failures_explained(url), made:
        yield made


def client(url: str, *, database: int = 0, timeout: float = _TIMEOUT, **more: Any) -> "redis.Redis":
    """Return a client of itkit's own, which the caller has to close.

    Args:
        url: the URL of the server, with a login of ours.
        database: number of the database; None for the database in the URL.
        timeout: seconds to wait for an answer.
        more: options of redis-py's connections.
    """
    arguments = _anonymous() | options(url) | {"db": database, "decode_responses": True, **more}
    pool = redis.ConnectionPool(
        **arguments | {"connection_class": _own(arguments["connection_class"])},
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
    )
    return redis.Redis(connection_pool=pool)


@contextlib.contextmanager
def failures_explained(url: str) -> Iterator[None]:
    """Add the address of the server to errors within a block if the server does not answer.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        address = urls.parse(url, urls.REDIS_SCHEMES).address
        raise ServiceUnavailableError(f"Redis at {address} does not answer: {error}") from error


def probe(url: str, timeout: float) -> str:
    """Return the name and version of a server, such as ``Valkey 9.1.2`` or ``Redis 7.0.15``.

    Args:
        url: the URL of the server.
        timeout: seconds within which it has to answer.

    Raises:
        ServiceUnavailableError: the server does not answer, or refuses the login.
        IsolationError: the server is a node of Redis Cluster or a Sentinel.
    """
    with connected(url, timeout=timeout) as client:
        info = client.info("server")
    mode = info.get("redis_mode") or info.get("server_mode")  # the second is Valkey's
    if mode != "standalone":
        address = urls.parse(url, urls.REDIS_SCHEMES).address
        raise IsolationError(
            f"Redis at {address} runs in {mode} mode, which itkit does not support: set "
            'ITKIT["REDIS"]["URL"] to a single server, or leave it out for an embedded one.'
        )
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"


def remove(url: str, root: str) -> int:
    """Remove all keys that begin with ``root`` from all databases; return how many there were.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    return sum(_remove_here(client, root) for client in _databases(url))


def _databases(url: str) -> Iterator["redis.Redis"]:
    """Yield a client for each database that has keys."""
    for number in databases_of(url):
        with connected(url, database=number) as client:
            yield client


def databases_in_use(client: "redis.Redis") -> list[int]:
    """Return the numbers of the databases that have keys."""
    return [int(name.removeprefix("db")) for name in client.info("keyspace")]


def databases_of(url: str) -> list[int]:
    """Return the numbers of a server's databases that have keys.

    Raises:
        ServiceUnavailableError: the server does not answer.
    """
    with connected(url) as client:
        return databases_in_use(client)


def _remove_here(client: "redis.Redis", root: str) -> int:
    removed, cursor = 0, 0
    while True:
        cursor, keys = client.scan(cursor, match=f"{root}*", count=_SCANNED)
        if keys:
            removed += client.unlink(*keys)
        if cursor == 0:
            return removed

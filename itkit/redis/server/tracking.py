"""Collects the names of all keys that anybody writes under a root, as the server reports them.

A search for them would take seconds on a server where others have a million keys. The tracking is
switched on by one connection (``CLIENT TRACKING`` in its broadcasting mode), and the server reports
on another one. This works with both protocols and all versions of redis-py.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from itkit.exceptions import ServiceUnavailableError
from itkit.redis.server import server as servers
from itkit.redis.server.redis_py import redis

_CHANNEL: Final = "__redis__:invalidate"
_PATIENCE: Final = 10.0
_BATCH: Final = 1000
_RAW: Final = {"decode_responses": False, "protocol": 2}


class Tracking:
    """Knows the keys that were written since its start and that were not removed.

    Args:
        server: URL with a login that may track.
        root: the beginning of the names of the keys.

    Attributes:
        is_on: whether no name was missed. The server may refuse to track, or may have closed a
            connection that did not read its reports fast enough.
    """

    def __init__(self, server: str, root: str) -> None:
        self._server = server
        self._root = root
        self._names: set[bytes] = set()
        self._releases = contextlib.ExitStack()
        self._pid = os.getpid()
        self._asking: Any = None
        self._asking_id = 0
        self._listener: Any = None
        self.is_on = False

    def start(self) -> None:
        """Begin to track, if the server allows it."""
        with self._lost_if_it_fails():
            client: Any = self._opened(servers.client(self._server, **_RAW))
            self._listener = client.pubsub()
            self._listener.execute_command("CLIENT", "ID")
            listener_id = self._listener.parse_response()
            self._listener.subscribe(_CHANNEL)
            self._listener.get_message(timeout=_PATIENCE)
            # The pool has one connection, as there are never two commands at once.
            self._asking = self._opened(servers.client(self._server, **_RAW))
            self._asking_id = self._asking.client_id()
            # Without writes of this connection itself, as it removes keys.
            options = ("REDIRECT", listener_id, "BCAST", "PREFIX", self._root, "NOLOOP")
            self._asking.execute_command("CLIENT", "TRACKING", "ON", *options)
            self.is_on = True

    def written(self, prefix: str = "") -> list[bytes]:
        """Return the names of written keys that begin like this and may still exist."""
        with self._lost_if_it_fails():
            self._read()
        start = prefix.encode()
        return [name for name in self._names if name.startswith(start)]

    def remove(self, names: Sequence[bytes]) -> int:
        """Remove keys from all databases and forget their names; return how many there were.

        If the server does not answer any more, return 0 and switch the tracking off.
        """
        removed = 0
        with self._lost_if_it_fails():
            for number in servers.databases_in_use(self._asking) if names else ():
                removed += self._remove_from(number, names)
            self._names.difference_update(names)
        return removed

    def _remove_from(self, database: int, names: Sequence[bytes]) -> int:
        with self._asking.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("SELECT", database)
            for start in range(0, len(names), _BATCH):
                pipeline.unlink(*names[start : start + _BATCH])
            return sum(pipeline.execute()[1:])

    def stop(self) -> None:
        """Stop tracking."""
        self.is_on = False
        self._releases.close()

    def _read(self) -> None:
        """Read the reports of the server.

        The server reports all earlier writes on the second connection before it answers the PING on
        the first one. So these reports come before the answer to a PING on the second connection.
        """
        if not self.is_on:
            return
        if self._asking.client_id() != self._asking_id:
            raise redis.ConnectionError("redis-py has reconnected without reporting it")
        self._listener.ping()
        kind = ""
        while kind != "pong":
            message = self._listener.get_message(timeout=_PATIENCE)
            kind = message["type"] if message else ""
            if kind not in {"message", "pong"}:  # no report, or redis-py has subscribed again
                raise redis.ConnectionError(
                    "the server has stopped reporting which keys are written"
                )
            if kind == "message" and message["data"]:
                self._names.update(message["data"])

    def _opened(self, client: "redis.Redis") -> "redis.Redis":
        self._releases.callback(client.connection_pool.disconnect)
        return client

    @contextlib.contextmanager
    def _lost_if_it_fails(self) -> Iterator[None]:
        if self.is_on and self._pid != os.getpid():
            self.is_on = False  # the connections belong to the parent process
        try:
            yield
        except (redis.RedisError, ServiceUnavailableError):
            self.stop()

"""A Redis server for one worker alone: all commands, no prefix, and no keys of others."""

import contextlib
from collections.abc import Sequence
from typing import Any

from itkit.exceptions import ServiceUnavailableError
from itkit.redis.isolation import levels
from itkit.redis.isolation.installed import Installed, RedisRoute
from itkit.redis.isolation.levels import KeyLevel, KeyLevels
from itkit.redis.prefix.rewrite import PassingRewriter
from itkit.redis.server import server as servers
from itkit.redis.server.keys import FoundKey, KeyReader
from itkit.redis.server.redis_py import redis
from itkit.redis.shared import shared_databases


class OwnServer(Installed):
    """Replaces ``PrefixIsolation`` where each worker has a server of its own.

    Args:
        server: URL of the worker's server, which is thrown away after it.
        project: labels and URLs of the project's own servers, which it replaces.

    Attributes:
        generation: always 0, as there is no prefix.
        generations: always empty, as there are no generations to follow.
    """

    generation = 0
    generations = ""

    def __init__(self, server: str, *, project: Sequence[tuple[str, str]]) -> None:
        super().__init__(project)
        self._server = server
        self._passing = PassingRewriter()
        self._kept = {number for _, number in shared_databases(project)}
        self._configuration: dict[Any, Any] = {}
        self._levels = KeyLevels()
        self._reader: KeyReader  # since install()

    @property
    def own_url(self) -> str:
        """URL of the worker's server."""
        return self._server

    def new_generation(self) -> None:
        """Begin with no keys but those of levels, and with the initial configuration."""
        # If a test has shut the server down, the next test reports that.
        with (
            contextlib.suppress(ServiceUnavailableError),
            servers.connected(self._server) as client,
        ):
            self._empty(client)
            if self._passing.take_configured():
                self._configure(client)
            self._levels.write(self._server, b"")

    def add_level(self) -> KeyLevel | None:
        """Let each test from now on begin with the keys that exist, as ``PrefixIsolation`` does.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        names = self._reader.names_under("")
        if not names:
            return None
        return self._levels.add(levels.read(self._server, names, b"", self._kept.__contains__))

    def end_level(self, level: KeyLevel) -> None:
        """Let no test from now on begin with the keys of a level."""
        self._levels.end(level)

    def left(self) -> list[str]:
        """Return a line for each existing key.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        found = self._reader.existing(self._reader.names_under(""), b"")
        return [key.describe() for key in found if key.name not in self._levels.names]

    def read_keys(self, most: int | None = None) -> list[tuple[FoundKey, object]]:
        """Return the existing keys, each with its value.

        Args:
            most: the greatest number of keys, and of elements of a value; None for all.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        return self._reader.read(self._reader.names_under(""), b"", most)

    def denied(self) -> list[str]:
        """Return an empty list, as everything is allowed."""
        return []

    def clear(self) -> int:
        """Remove nothing, as the server is thrown away."""
        return 0

    def _new_route(self) -> RedisRoute:
        return RedisRoute(self._server, self._passing)

    def _begin(self, releases: contextlib.ExitStack) -> None:
        self._reader = KeyReader(self._server, self._kept)
        releases.callback(self._reader.close)
        with servers.connected(self._server) as client:
            self._configuration = client.config_get("*")

    def _empty(self, client: "redis.Redis") -> None:
        """Remove all keys but those of shared caches."""
        if not self._kept:
            client.flushall()
            return
        for number in set(servers.databases_in_use(client)) - self._kept:
            with servers.connected(self._server, database=number) as there:
                there.flushdb()

    def _configure(self, client: "redis.Redis") -> None:
        found = client.config_get("*")
        for name, value in self._configuration.items():
            if found[name] != value:
                client.config_set(name, value)

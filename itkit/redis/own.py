"""A Redis server of one worker's own: all commands, no prefix, and no keys of others."""

import contextlib
from collections.abc import Sequence
from typing import Any

import redis

from itkit.exceptions import ServiceUnavailableError
from itkit.redis import server as servers
from itkit.redis.installed import Installed
from itkit.redis.rewrite import PassingRewriter
from itkit.redis.shared import shared_places


class OwnServer(Installed):
    """Stands in the place of ``Isolation`` where each worker has a server.

    Args:
        server: URL of the worker's server, which is thrown away after it.
        project: labels and URLs of the project's own servers, for which it stands.

    Attributes:
        generation: always the same, as there is no prefix.
        generations: as of ``Isolation``: there are none to be told of.
    """

    generation = 0
    generations = ""

    def __init__(self, server: str, *, project: Sequence[tuple[str, str]]) -> None:
        self._passing = PassingRewriter()
        super().__init__(server, [url for _, url in project], self._passing)
        self._server = self.own_url = server
        self._kept = {number for _, number in shared_places(project)}
        self._configuration: dict[Any, Any] = {}

    def new_generation(self) -> None:
        """Begin with no keys, and with the configuration that the server had at first."""
        # A server that a test has shut down is for the next one to report.
        with (
            contextlib.suppress(ServiceUnavailableError),
            servers.connected(self._server) as client,
        ):
            self._empty(client)
            if self._passing.is_configured:
                self._passing.is_configured = False
                self._configure(client)

    def left(self) -> list[str]:
        """Return a line for each key that there is.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        names = servers.names_under(self._server, "")
        found = servers.left(self._server, names) if names else ()
        return [key.told() for key in found if key.database not in self._kept]

    def denied(self) -> list[str]:
        """Return nothing: all is allowed."""
        return []

    def clear(self) -> int:
        """Leave all that is there to go with the server."""
        return 0

    def _begin(self, releases: contextlib.ExitStack) -> None:
        del releases
        with servers.connected(self._server) as client:
            self._configuration = client.config_get("*")

    def _empty(self, client: redis.Redis) -> None:
        """Remove all keys but those of shared caches."""
        if not self._kept:
            client.flushall()
            return
        for number in set(servers.databases_in_use(client)) - self._kept:
            with servers.connected(self._server, database=number) as there:
                there.flushdb()

    def _configure(self, client: redis.Redis) -> None:
        found = client.config_get("*")
        for name, value in self._configuration.items():
            if found[name] != value:
                client.config_set(name, value)

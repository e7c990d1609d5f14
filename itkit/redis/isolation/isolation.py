"""Redis for one worker: everything that redis-py sends lands under the worker's prefix."""

import contextlib
from collections.abc import Sequence
from typing import Any

from itkit import conf
from itkit.core import names
from itkit.exceptions import ServiceUnavailableError
from itkit.redis import policy
from itkit.redis.isolation import levels
from itkit.redis.isolation.installed import Installed, RedisRoute
from itkit.redis.isolation.levels import KeyLevel, KeyLevels
from itkit.redis.prefix import command_info
from itkit.redis.prefix.namespace import GenerationCounter, Namespace
from itkit.redis.prefix.rewrite import Rewriter
from itkit.redis.server import acl
from itkit.redis.server import server as servers
from itkit.redis.server.acl import Denials
from itkit.redis.server.keys import FoundKey, KeyReader
from itkit.redis.server.tracking import Tracking
from itkit.redis.shared import sharing

_GENERATIONS = 64
"""The number of tests after which their keys are removed together."""


class PrefixIsolation(Installed):
    """The isolation of one worker's Redis.

    Args:
        server: URL of the isolated server, ``unix://…`` or ``redis://…``; None where the project
            has no Redis, and each connection is refused.
        run: id of the run.
        worker: id of the worker.
        owned: whether the server is thrown away after the run.
        project: labels and URLs of the project's own servers, which the isolated one replaces.
        secret: the secret of the run, where each worker has a user of its own on the server.
    """

    def __init__(
        self,
        *,
        server: str | None,
        run: str,
        worker: str,
        owned: bool,
        project: Sequence[tuple[str, str]],
        secret: str = "",
    ) -> None:
        super().__init__(project)
        self._server = server
        self._run = run
        self._worker = worker
        self._owned = owned
        self._secret = secret
        self._counter: GenerationCounter  # since install()
        self._reader: KeyReader  # since install(), where there is a server
        self._denials: Denials | None = None
        self._tracking = self._new_tracking()
        self._levels = KeyLevels()

    @property
    def generation(self) -> int:
        """The number of the current generation."""
        return self._rewrite.namespace.generation

    @property
    def _rewrite(self) -> Rewriter:
        return self.route.rewrite

    @property
    def generations(self) -> str:
        """Path of the memory in which other processes read that number, or an empty text."""
        return self._counter.path

    def new_generation(self) -> None:
        """Begin a generation without keys, by one assignment that all threads see at once.

        The keys of earlier generations are removed when there are many. A client that waits for
        such a key, as a worker of rq does, gets an empty reply. Its next wait is for a key of the
        new generation.
        """
        namespace = self._rewrite.namespace = self._next_namespace()
        if self._counter.is_read or (self._guard is not None and self._guard.is_waited_on()):
            self._wake()
        if self._tracking is not None and namespace.generation % _GENERATIONS == 0:
            kept = [rewrite.namespace for rewrite in self._rewriters()]
            written = self._tracking.written()
            past = [name for name in written if not any(one.holds(name) for one in kept)]
            self._tracking.remove(past)
        if self._server is not None:
            self._levels.write(self._server, self.prefix.encode())

    def add_level(self) -> KeyLevel | None:
        """Let each generation from now on begin with the keys that the current one has.

        Returns:
            The level, which ``end_level`` ends; None where there are no keys but those of levels.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        if self._server is None or self._rewrite.used is not self._rewrite.namespace:
            return None
        if not (names := self._names()):
            return None
        level = levels.read(self._server, names, self.prefix.encode(), lambda _number: False)
        return self._levels.add(level)

    def end_level(self, level: KeyLevel) -> None:
        """Let no generation from now on begin with the keys of a level."""
        self._levels.end(level)

    def left(self) -> list[str]:
        """Return a line for each key of the current generation, without those of levels.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        if self._server is None or self._tracking is None:
            return []
        found = self._reader.existing(self._names(), self.prefix.encode())
        return [key.describe() for key in found if key.name not in self._levels.names]

    def read_keys(self, most: int | None = None) -> list[tuple[FoundKey, object]]:
        """Return the keys of the current generation, each with its value.

        Args:
            most: the greatest number of keys, and of elements of a value; None for all.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        names = self._names()
        return self._reader.read(names, self.prefix.encode(), most) if names else []

    def _names(self) -> set[bytes]:
        """Return the names of the keys of the current generation; some may not exist any more."""
        if self._server is None:
            return set()
        if self._tracking is not None:
            names = self._tracking.written(self.prefix)
            if self._tracking.is_on:
                return set(names)
        return set(self._reader.names_under(self.prefix))

    def denied(self) -> list[str]:
        """Return a line for each command that the server has denied since the last call.

        The server is not asked if this process has sent no command. So denials of other processes
        under the same prefix may be reported later.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        if self._denials is None or not self._take_notice():
            return []
        return self._denials.new()

    def clear(self) -> int:
        """Remove the keys of all generations from all databases; return how many there were.

        It is called while the isolation is installed, as the names of the keys are known then and
        no search is needed.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """
        if self._server is None:
            return 0
        if self._tracking is not None:
            names = self._tracking.written()
            if self._tracking.is_on:
                return self._tracking.remove(names)
        return servers.remove(self._server, self._rewrite.namespace.root)

    def _wake(self) -> None:
        """Make the server answer the clients of this worker that wait for an older generation.

        The server knows them by their user. If the server has died, the tests report that.
        """
        if self._server is None or self._denials is None:
            return
        user = names.redis_user(self._run, self._worker)
        with (
            contextlib.suppress(ServiceUnavailableError),
            servers.connected(self._server) as client,
        ):
            for one in client.client_list():
                if one["user"] == user and "b" in one["flags"]:
                    client.client_unblock(int(one["id"]))

    def _take_notice(self) -> bool:
        """Return whether this process has sent any command since the last call."""
        used = [rewrite.take_used() for rewrite in self._rewriters()]  # each is asked
        return any(used)

    def _rewriters(self) -> list[Rewriter]:
        shared = self.route.shared
        return [self._rewrite, *([shared.rewrite] if shared else [])]

    def _new_route(self) -> RedisRoute:
        server, run, worker = self._server, self._run, self._worker
        listed = conf.get().redis.allow_commands
        limited: str | None = None
        if server is not None and self._secret:
            limited = acl.grant(
                server,
                run,
                worker,
                secret=self._secret,
                owned=self._owned,
                allowed=policy.allowed(listed, owned=self._owned),
            )
            self._denials = Denials(server, names.redis_user(run, worker))
        reached = limited or server
        options: dict[str, Any] = {
            "owned": self._owned,
            "login": servers.login(reached) if reached else None,
            "limited": limited is not None,
            "ask": command_info.asking(server) if server else None,
            "listed": listed,
        }
        self._counter = GenerationCounter()
        rewrite = Rewriter(self._next_namespace(), **options)
        return RedisRoute(reached, rewrite, sharing(run, worker, self._project, options))

    def _begin(self, releases: contextlib.ExitStack) -> None:
        if self._server is not None:
            self._reader = KeyReader(self._server)
            releases.callback(self._reader.close)
        if self._tracking is not None:
            self._tracking.start()
            releases.callback(self._tracking.stop)
        if self._denials is not None:
            releases.callback(self._denials.close)

    def _new_tracking(self) -> Tracking | None:
        """Return the tracking of keys to remove or to report; None where nothing needs it."""
        if self._server is None or (self._owned and conf.get().redis.leaks == "off"):
            return None
        return Tracking(self._server, names.key_prefix(self._run, self._worker))

    def _next_namespace(self) -> Namespace:
        return Namespace(self._run, self._worker, self._counter.next())

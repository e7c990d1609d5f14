"""The common parts of the servers of one start: its options, its guard, its cache."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from itkit.exceptions import ServiceUnavailableError
from itkit.services.cache import Cache, open_cache
from itkit.services.supervisor import ServerProgram, Supervisor


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a start.

    Attributes:
        source: like the next three, the key of the same name in ``ITKIT``.
        state: the name of the state with which a cluster may begin, if an earlier run has saved it.
        fits: returns whether a saved cluster is the right one, given the text saved with it.
        rebuild: whether to ignore saved clusters.
    """

    source: str = "auto"
    start_timeout: float = 30.0
    cache_dir: str | None = None
    data_root: str | None = None
    state: str | None = None
    fits: Callable[[str], bool] = bool
    rebuild: bool = False


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of a server that we started, with which later runs may begin.

    Attributes:
        is_saved: Whether the server began with a state that an earlier run had saved.
        data: The server's data directory.
        snapshot: The path for a copy of the directory that will be saved.
        save: Saves the copy, if there is one.
    """

    is_saved: bool
    data: Path
    snapshot: Path
    save: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A server that was started: its address, its product, and its program."""

    url: str
    product: str
    address: str
    program: ServerProgram
    state: ServerState | None = None


class ServerRun:
    """One start. The guard is started when the first server has to be started."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.renew_deadline()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._supervisor: Supervisor | None = None
        self._cache: Cache | None = None
        self._is_stopped = False

    def renew_deadline(self) -> None:
        """Give the next step as much time as a start has."""
        self.deadline = time.monotonic() + self.options.start_timeout

    @property
    def supervisor(self) -> Supervisor:
        """The guard of this run, started on first use.

        Raises:
            ServiceUnavailableError: the guard cannot make its directory, or the run was stopped.
        """
        with self._lock:
            if self._is_stopped:
                raise ServiceUnavailableError("The servers have been stopped.")
            if self._supervisor is None:
                self._supervisor = Supervisor(self.options.data_root)
            return self._supervisor

    def cache(self) -> Cache:
        """Return the cache of files that servers need.

        Raises:
            SearchEndedError: the directory that the options name cannot be used.
        """
        supervisor = self.supervisor
        with self._lock:
            if self._cache is None:
                self._cache = open_cache(self.options.cache_dir, supervisor)
            return self._cache

    @property
    def notes(self) -> Iterator[str]:
        """Notes about the start for the user."""
        if self._cache is not None and self._cache.is_full:
            yield self.full_cache()

    def full_cache(self) -> str:
        """Return that the cache is full, and what to do about that."""
        return (
            f"the cache in {self.cache().directory} is full, so nothing of this run is kept:"
            " make room, or name another by ITKIT_CACHE_DIR"
        )

    def exit_code(self, program: ServerProgram) -> int | None:
        """Return how a server ended, or None while it runs."""
        return self.supervisor.exit_code(program)

    def stop(self) -> None:
        """Stop everything that was started.

        A second call does nothing. So does a call in a forked process, which does not own the
        servers.
        """
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._is_stopped = True
            if self._supervisor is not None:
                self._supervisor.stop()

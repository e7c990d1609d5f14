"""What the servers of one start have in common: its options, its guard, its cache."""

import os
import threading
import time
from dataclasses import dataclass

from itkit.exceptions import ServiceUnavailableError
from itkit.services.cache import Cache, open_cache
from itkit.services.supervisor import Program, Supervisor


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to start servers; the keys of the same names in ``ITKIT``."""

    source: str = "auto"
    start_timeout: float = 30.0
    cache_dir: str | None = None
    data_root: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A server that was started: where it is reached, what it is, and its program."""

    url: str
    product: str
    place: str
    program: Program


class Run:
    """One start. The guard comes to life when the first server has to be started."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.deadline = time.monotonic() + options.start_timeout
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._supervisor: Supervisor | None = None
        self._is_stopped = False

    @property
    def supervisor(self) -> Supervisor:
        """The guard of this run, started on first use.

        Raises:
            ServiceUnavailableError: it has no place to work in, or the run was stopped.
        """
        with self._lock:
            if self._is_stopped:
                raise ServiceUnavailableError("The servers have been stopped.")
            if self._supervisor is None:
                self._supervisor = Supervisor(self.options.data_root)
            return self._supervisor

    def cache(self) -> Cache:
        """Return the cache of what servers need.

        Raises:
            SearchEndedError: the directory that the options name cannot be used.
        """
        return open_cache(self.options.cache_dir, self.supervisor)

    def exit_code(self, program: Program) -> int | None:
        """Return how a server ended, or None while it runs."""
        return self.supervisor.exit_code(program)

    def stop(self) -> None:
        """Stop everything that was started.

        The second call does nothing, nor does one in a forked process: the servers are not its.
        """
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._is_stopped = True
            if self._supervisor is not None:
                self._supervisor.stop()

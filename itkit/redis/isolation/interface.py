"""The interface of a worker's Redis for the environment, for both ways of isolation."""

from collections.abc import Callable
from typing import Protocol

from itkit.redis.isolation.levels import KeyLevel
from itkit.redis.server.keys import FoundKey


class WorkerRedis(Protocol):
    """The Redis of one worker: under a prefix, or a server of its own.

    The constructors acquire nothing. ``install`` acquires, and ``uninstall`` releases in the
    reverse order.
    """

    @property
    def prefix(self) -> str:
        """The beginning of each key's name on the server; empty on a dedicated server."""

    @property
    def generation(self) -> int:
        """The number of the current generation; 0 where there is no prefix."""

    @property
    def generations(self) -> str:
        """Path of the memory in which other processes read the generation, or an empty text."""

    @property
    def own_url(self) -> str | None:
        """URL of the worker's own server, where it has one."""

    def install(self) -> None:
        """Isolate redis-py in this process.

        Raises:
            IsolationError: another isolation is installed in this process.
            ServiceUnavailableError: the server does not answer.
        """

    def shut(self, refuse: Callable[[str], None]) -> None:
        """Refuse all connections from now on.

        Args:
            refuse: raises an error that says what was refused, which is its argument.
        """

    def uninstall(self) -> None:
        """Undo all that ``install`` did; the second call does nothing."""

    def drop_connections(self) -> None:
        """Close all connections of this process, which connect again when they are used."""

    def new_generation(self) -> None:
        """Let the next test begin with no keys but those of levels."""

    def add_level(self) -> KeyLevel | None:
        """Let each test from now on begin with the keys that exist; None if there are no new ones.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """

    def end_level(self, level: KeyLevel) -> None:
        """Let no test from now on begin with the keys of a level."""

    def left(self) -> list[str]:
        """Return a line for each key that the test has left behind.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """

    def read_keys(self, most: int | None = None) -> list[tuple[FoundKey, object]]:
        """Return the keys that exist now, each with its value.

        Args:
            most: the greatest number of keys, and of elements of a value; of a text, a hundred
                times as many bytes. None for all.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """

    def denied(self) -> list[str]:
        """Return a line for each command that the server has denied since the last call.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """

    def clear(self) -> int:
        """Remove the worker's keys and return how many there were.

        Raises:
            ServiceUnavailableError: the server does not answer.
        """

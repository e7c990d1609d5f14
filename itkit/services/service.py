"""Servers that are ready to be used."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from itkit.exceptions import ServiceUnavailableError
from itkit.services.need import Kind
from itkit.services.run import ServerRun, ServerState
from itkit.services.supervisor import ServerProgram, failure


@dataclass(frozen=True, kw_only=True)
class Service:
    """One server.

    Attributes:
        kind: Postgres, or Redis, which may be a Valkey.
        url: How to connect to it; may hold a password.
        product: What it is, such as ``Postgres 18.6`` or ``Valkey 9.1.2``.
        source: ``embedded``, ``system``, or where its URL was given.
        address: Where it listens, for people: a socket or ``host:port``.
        milliseconds: How long it took to find or start it.
        started: Whether we started it; then it is thrown away.
        state: What of it may be saved before.
        passed_over: Why servers that answer were not used in its place.
    """

    kind: Kind
    url: str = field(repr=False)  # may hold a password
    product: str
    source: str
    address: str
    milliseconds: int
    started: bool
    state: ServerState | None = field(default=None, repr=False, compare=False)
    passed_over: tuple[str, ...] = field(default=(), compare=False)


class Services:
    """The servers of one run, until they are stopped."""

    def __init__(self, services: Mapping[Service, ServerProgram | None], run: ServerRun) -> None:
        self._services = services
        self._run = run

    def __iter__(self) -> Iterator[Service]:
        return iter(self._services)

    @property
    def postgres(self) -> Service | None:
        """The Postgres, if one was needed."""
        return self._find("postgres")

    @property
    def redis(self) -> Service | None:
        """The Redis or Valkey, if one was needed."""
        return self._find("redis")

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the start."""
        return tuple(self._run.notes)

    def directory(self) -> Path:
        """Return a directory of the run, which is removed at its end, whatever that is.

        Raises:
            ServiceUnavailableError: no file system has room for a directory.
        """
        return self._run.supervisor.directory

    def check(self) -> None:
        """Make sure that the servers which we started still run.

        Raises:
            ServiceUnavailableError: a server has died; the message has the end of its log.
        """
        for service, program in self._services.items():
            code = None if program is None else self._run.exit_code(program)
            if program is not None and code is not None:
                raise ServiceUnavailableError(
                    f"{service.product} ({service.source}) at {service.address} has died: "
                    f"{failure(program, code)}"
                )

    def stop(self) -> None:
        """Stop what we started and remove what it wrote; the second call does nothing."""
        self._run.stop()

    def _find(self, kind: Kind) -> Service | None:
        return next((service for service in self if service.kind == kind), None)

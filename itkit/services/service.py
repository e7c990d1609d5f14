"""Servers that are ready for use."""

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
        kind: ``postgres`` or ``redis``; Valkey counts as Redis.
        url: Its URL, which may contain a password.
        product: Its name and version, such as ``Postgres 18.6`` or ``Valkey 9.1.2``.
        source: ``embedded``, ``system``, or where its URL was given.
        address: Its address in words: a socket or ``host:port``.
        milliseconds: How long it took to find or start it.
        started: Whether we started it; if so, it is thrown away.
        state: The state that may be saved before it is thrown away.
        passed_over: Why other servers that answer were not used.
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
        """Notes about the start for the user."""
        return tuple(self._run.notes)

    def directory(self) -> Path:
        """Return a directory of the run, which is removed when the run ends in any way.

        Raises:
            ServiceUnavailableError: no file system has enough space for a directory.
        """
        return self._run.supervisor.directory

    def check(self) -> None:
        """Check that the servers which we started still run.

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
        """Stop the servers that we started and remove their files; a second call does nothing."""
        self._run.stop()

    def _find(self, kind: Kind) -> Service | None:
        return next((service for service in self if service.kind == kind), None)

"""What a process finds in its environment: of the run, and of the test that has started it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from itkit.core import names, urls
from itkit.core.names import INVITATION_VARIABLE, PAYLOAD_VARIABLE, PGOPTIONS_VARIABLE
from itkit.exceptions import ItkitError

_TRAVELLING = (PAYLOAD_VARIABLE, INVITATION_VARIABLE, "PGOPTIONS", PGOPTIONS_VARIABLE)
_given: dict[str, str] = {}
"""What a process that the running test starts has to find, though ``os.environ`` be emptied."""


def completed(environment: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return the environment of a process that is about to be started, with what invites it.

    Args:
        environment: the environment that it is given; None for that of this process.

    Returns:
        The same, where no test is running, or where it says by ``ITKIT_TEST`` what is wanted.
    """
    found = os.environ if environment is None else environment
    # What is given may have bytes for names, as os.environb has.
    if not _given or INVITATION_VARIABLE in {os.fsdecode(name) for name in found}:
        return environment
    return {**_given, **found, **{name: _given[name] for name in _given if "PGOPTIONS" in name}}


def invitation() -> dict[str, str]:
    """Return what a process that the running test starts finds; nothing where none is running."""
    return dict(_given)


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What a worker needs to know of the run; it travels in the environment as JSON.

    Set before a pool starts, it reaches workers by fork, spawn, forkserver and xdist alike.
    """

    run: str
    databases: dict[str, str] = field(default_factory=dict)
    databases_owned: bool = False
    databases_secret: str = field(default="", repr=False)
    snapshot: tuple[str, str] | None = None
    migrate: bool = True
    redis: str | None = None
    redis_secret: str = field(default="", repr=False)
    redis_owned: bool = False
    redis_per_worker: bool = False
    redis_project: list[tuple[str, str]] = field(default_factory=list)
    seed: str = ""
    sweep: str = names.SWEEP_QUICK
    fault: str = ""
    schedule: str = ""
    state: str = ""
    summary: str = ""
    short_summary: str = ""
    process: int = 0
    files: str = ""
    report: str = ""
    report_all: bool = False
    budgets: str = ""
    coverage: str = ""

    @property
    def asked_variations(self) -> dict[str, str]:
        """The options that ask for one variation of a sweep, by what it varies."""
        asked = {"fault": self.fault, "schedule": self.schedule, "state": self.state}
        return {what: value for what, value in asked.items() if value}

    @property
    def hosts(self) -> list[str]:
        """The hosts of the servers on other machines."""
        found = [*self.databases.values(), *([self.redis] if self.redis else [])]
        parsed = [urls.parse(url, (*urls.POSTGRES_SCHEMES, *urls.REDIS_SCHEMES)) for url in found]
        return [server.host for server in parsed if server.host and not server.is_local]

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Put the payload where processes started within a block will find it."""
        outer = os.environ.get(PAYLOAD_VARIABLE)  # of a run around this one
        os.environ[PAYLOAD_VARIABLE] = json.dumps(asdict(self))
        try:
            yield
        finally:
            os.environ.pop(PAYLOAD_VARIABLE)
            if outer is not None:
                os.environ[PAYLOAD_VARIABLE] = outer

    @classmethod
    def from_environment(cls) -> "Payload":
        """Read what the main process has exported.

        Raises:
            ItkitError: the main process has exported nothing: this process is no worker of a run.
        """
        try:
            raw = json.loads(os.environ[PAYLOAD_VARIABLE])
        except (KeyError, ValueError) as error:
            raise ItkitError(
                f"This worker finds no valid {PAYLOAD_VARIABLE} in its environment: it was not"
                " started by a run with --integration."
            ) from error
        raw["snapshot"] = tuple(raw["snapshot"]) if raw["snapshot"] else None
        raw["redis_project"] = [(label, url) for label, url in raw["redis_project"]]
        return cls(**raw)


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """Where a process that a test starts finds this test; it travels beside the payload.

    Workers of a pool are started outside of tests and find none.

    Attributes:
        worker: the worker whose test it is.
        process: id of the process that runs the test.
        generation: the generation of keys in Redis, now.
        generations: path of the memory that has the current one; empty where there is none.
        redis: URL of the worker's own server, where each has one.
        relay: the address where the calls of backends are answered, and the secret for it.
    """

    worker: str
    process: int
    generation: int
    generations: str
    redis: str | None = None
    relay: tuple[str, str] | None = field(default=None, repr=False)

    def export(self) -> None:
        """Put the invitation where processes started from now on will find it."""
        os.environ[INVITATION_VARIABLE] = json.dumps(vars(self))  # asdict() takes ten times as long
        _given.update({name: os.environ[name] for name in _TRAVELLING if name in os.environ})

    @staticmethod
    def withdraw() -> None:
        """Remove the invitation from the environment of processes that are started from now on."""
        os.environ.pop(INVITATION_VARIABLE, None)
        _given.clear()

    @classmethod
    def from_environment(cls) -> "Invitation | None":
        """Read what the test has exported; None where this process was not started by a test.

        Raises:
            ItkitError: no test has exported what is there.
        """
        found = os.environ.get(INVITATION_VARIABLE)
        try:
            return cls(**json.loads(found)) if found else None
        except (TypeError, ValueError) as error:
            raise ItkitError(
                f"{INVITATION_VARIABLE} in the environment is not what a test exports: start this"
                " process without it."
            ) from error

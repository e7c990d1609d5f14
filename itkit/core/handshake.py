"""The environment variables by which a process finds its run, and the test that has started it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace

from itkit.core import names, urls
from itkit.core.names import INVITATION_VARIABLE, PAYLOAD_VARIABLE, PGOPTIONS_VARIABLE
from itkit.exceptions import ItkitError

_TRAVELLING = (PAYLOAD_VARIABLE, INVITATION_VARIABLE, "PGOPTIONS", PGOPTIONS_VARIABLE)
_given: dict[str, str] = {}
"""The variables for processes of the running test, also for those that get an empty environment."""


_moved: dict[str, str] = {}
"""The values that ITKIT_TEST had in the parent of this process, each with the value that it has."""


def completed(environment: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return the environment of a process that is about to be started, with the invitation.

    Args:
        environment: the environment that it gets; None for the environment of this process.

    Returns:
        The same environment if no test is running, or if it already has ``ITKIT_TEST``. A value
        that a process has from before it was forked is replaced.
    """
    found = os.environ if environment is None else environment
    # The names in it may be bytes, as in os.environb.
    names_in_it = {os.fsdecode(name): name for name in found}
    if _given and (name := names_in_it.get(INVITATION_VARIABLE)) is not None:
        now = _moved.get(os.fsdecode(found[name]))
        return environment if now is None else {**found, name: now}
    if not _given:
        return environment
    return {**_given, **found, **{name: _given[name] for name in _given if "PGOPTIONS" in name}}


def invitation() -> dict[str, str]:
    """Return the variables for processes of the running test; empty if no test is running."""
    return dict(_given)


@dataclass(frozen=True, kw_only=True)
class Payload:
    """The facts about the run that a worker needs, passed in the environment as JSON.

    It is set before a pool starts, so it reaches workers of fork, spawn, forkserver and xdist.
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
        """Put the payload into the environment of processes that are started within a block."""
        outer = os.environ.get(PAYLOAD_VARIABLE)  # the payload of a run around this one
        os.environ[PAYLOAD_VARIABLE] = json.dumps(asdict(self))
        try:
            yield
        finally:
            os.environ.pop(PAYLOAD_VARIABLE)
            if outer is not None:
                os.environ[PAYLOAD_VARIABLE] = outer

    @classmethod
    def from_environment(cls) -> "Payload":
        """Read the payload that the main process has exported.

        Raises:
            ItkitError: there is no payload, as this process is no worker of a run.
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
    """The variables by which a process that a test starts joins the test, beside the payload.

    Workers of a pool are started outside of tests, and find no invitation.

    Attributes:
        worker: the worker that runs the test.
        process: id of the process that runs the test.
        generation: the present generation of keys in Redis.
        generations: path of the memory that has the current generation; empty if there is none.
        redis: URL of the worker's own server, if each worker has one.
        relay: the address at which calls of backends are answered, and its secret.
    """

    worker: str
    process: int
    generation: int
    generations: str
    redis: str | None = None
    relay: tuple[str, str] | None = field(default=None, repr=False)

    def export(self) -> None:
        """Put the invitation into the environment of processes that are started from now on."""
        os.environ[INVITATION_VARIABLE] = json.dumps(vars(self))  # asdict() takes ten times as long
        found = ((name, os.environ.get(name)) for name in _TRAVELLING)
        _given.update({name: value for name, value in found if value is not None})

    @classmethod
    def move_relay(cls, address: tuple[str, str]) -> None:
        """Replace the address at which calls of backends are answered, if a test has invited.

        Args:
            address: the new address, and its secret.
        """
        with suppress(ItkitError):  # a process that joins by what a test has written there says so
            if (invitation := cls.from_environment()) is not None:
                before = os.environ[INVITATION_VARIABLE]
                replace(invitation, relay=address).export()
                _moved[before] = os.environ[INVITATION_VARIABLE]

    @staticmethod
    def withdraw() -> None:
        """Remove the invitation from the environment of processes that are started from now on."""
        os.environ.pop(INVITATION_VARIABLE, None)
        _given.clear()

    @classmethod
    def from_environment(cls) -> "Invitation | None":
        """Read the invitation of the test that has started this process; None if no test has.

        Raises:
            ItkitError: the variable was not exported by a test.
        """
        found = os.environ.get(INVITATION_VARIABLE)
        try:
            return cls(**json.loads(found)) if found else None
        except (TypeError, ValueError) as error:
            raise ItkitError(
                f"{INVITATION_VARIABLE} in the environment is not what a test exports: start this"
                " process without it."
            ) from error

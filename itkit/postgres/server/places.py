"""The registry of our places: schemas of a database, or databases of a server.

A place belongs to the tests of one worker, or is a template or a kept clone of one. The registry
cannot disagree with the places, as each place has its entry as a comment. The comment of a run's
place names the run, which holds an advisory lock for its id as long as it lives. The comment of a
template or of a kept place says that it stays. A place is dropped only if its name is ours, its
comment agrees, we own it, and the lock of its run is free.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from itkit.core import names
from itkit.postgres.server import locks, roles
from itkit.postgres.server.driver import Connection

_RUN_COMMENT = re.compile(
    r"itkit run (?P<run>[0-9a-f]{8}): dropped when the run ends"
    r"(?:; clone of (?P<template>\w+), catalogue (?P<stamp>[0-9a-f]+)(?:, needs .+)?)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Registered:
    """The content of the comment of a run's place.

    Attributes:
        name: the name of the place.
        run: id of the run that it belongs to.
        template: the template from which the place was cloned.
        stamp: the stamp of the catalogue when the place was made.
    """

    name: str
    run: str
    template: str | None = None
    stamp: str | None = None


def comment(run: str, *, template: str | None = None, stamp: str | None = None) -> str:
    """Return the comment that registers a place as one of a run's."""
    clone = f"; clone of {template}, catalogue {stamp}" if template else ""
    return f"itkit run {run}: dropped when the run ends{clone}"


def application_name(run: str, worker: str) -> str:
    """Return the ``application_name`` of the connections of a worker's tests."""
    return f"itkit-{run}-{worker}"


class Places(ABC):
    """The places that one connection reaches.

    Args:
        connection: a connection of our own, in autocommit.
        secret: the secret of the run, if the places of its workers are to have roles of their own.
    """

    def __init__(self, connection: Connection, secret: str = "") -> None:
        self.connection = connection
        self.secret = secret

    @property
    @abstractmethod
    def role_comment(self) -> str:
        """The comment that registers the role of such a place."""

    @abstractmethod
    def described(self) -> dict[str, str]:
        """Return name and comment of each place that may be ours and belongs to our role.

        A place also counts as ours if it belongs to a role that ours has created for it.
        """

    @abstractmethod
    def create(self, name: str, run: str, *, has_role: bool = False) -> None:
        """Create an empty place and register it as a run's.

        Args:
            name: the name of the place.
            run: id of the run.
            has_role: whether it gets a role of its own as its owner, by which the tests log in.
        """

    @abstractmethod
    def register(self, name: str, text: str) -> None:
        """Set the comment of a place."""

    @abstractmethod
    def rename(self, name: str, new: str, text: str) -> None:
        """Give a place, with its role, another name and another comment.

        The caller has opened a transaction.
        """

    @abstractmethod
    def drop(self, name: str) -> None:
        """Drop one of our places with its contents and its role.

        Do nothing if it does not exist any more.
        """

    @abstractmethod
    def lent(self, name: str, role: str) -> AbstractContextManager[list[str]]:
        """Let a temporary role own a place within a block, in which it makes a template.

        After the block, only we can log in by the owners of the place and of its contents. The
        block receives a list, which contains after the block what could not be handed over.

        Args:
            name: the name of the place, which exists and is empty.
            role: the name of the role.
        """

    @abstractmethod
    def size(self, name: str) -> int:
        """Return the number of bytes that a place takes on the server's disk."""

    @abstractmethod
    def end_sessions(self, run: str, worker: str = "%") -> None:
        """End all sessions of the tests of a run or of one of its workers."""

    def registered(self) -> Iterator[Registered]:
        """Yield each place of a run that is ours by name, comment and owner."""
        for name, description in self.described().items():
            found = _parsed(name, description)
            if found is not None:
                yield found

    def registration(self, name: str) -> Registered | None:
        """Return the registry's entry for one place."""
        return next((found for found in self.registered() if found.name == name), None)

    def has_role(self, name: str) -> bool:
        """Return whether a place has a role that our login has created."""
        return roles.exists(self.connection, name, self.role_comment)

    def ours(self) -> list[str]:
        """Return the names of all places of runs, templates and kept places."""
        return list(filter(_is_ours, self.described()))

    def drop_of_run(self, run: str) -> list[str]:
        """Drop all places of one run, each in its own transaction, and return their names.

        A test may have left a connection with an open transaction, whose locks would block the drop
        for ever. So the sessions of this run, and only those with its name, are ended first.
        """
        self.end_sessions(run)
        ours = [found.name for found in self.registered() if found.run == run]
        dropped = [name for name in ours if self._drop_registered(name, run)]
        self._drop_roles_alone(run)
        return dropped

    def drop_stale(self) -> list[str]:
        """Drop the places of dead runs and return their names.

        The lock is tried without waiting. So two sweeps at once are safe: one gets the lock, and
        the other one continues.
        """
        dropped: list[str] = []
        logins = roles.registered(self.connection, self.role_comment)
        runs = {found.run for found in self.registered()} | set(map(names.run_of_schema, logins))
        for run in sorted(filter(None, runs)):
            with locks.dead_run(self.connection, run) as is_dead:
                if is_dead:
                    dropped += self.drop_of_run(run)
        self._drop_roles_alone()
        roles.drop_lost(self.connection)
        return dropped

    def _drop_roles_alone(self, run: str | None = None) -> None:
        """Drop roles without a place, as of a run that was killed while it migrated.

        Args:
            run: id of a run whose places were all dropped.
        """
        logins = roles.registered(self.connection, self.role_comment)
        for name in set(logins) - self.described().keys():
            if names.run_of_schema(name) in (None, run):
                roles.drop(self.connection, name, self.role_comment)

    def _drop_registered(self, name: str, run: str) -> bool:
        """Drop a place of a run, unless it is a template that another run is making anew."""
        fingerprint = names.fingerprint_of_schema(name)
        if fingerprint is None:
            self.drop(name)
            return True
        with locks.idle_template(self.connection, fingerprint) as is_idle:
            found = self.registration(name) if is_idle else None
            if found is not None and found.run == run:
                self.drop(name)
                return True
        return False


def require_ours(name: str) -> None:
    """Refuse a name that is not one of ours."""
    if not _is_ours(name):
        raise ValueError(f"{name!r} is no name of itkit's")


def _is_ours(name: str) -> bool:
    return bool(names.run_of_schema(name) or names.fingerprint_of_schema(name))


def _parsed(name: str, description: str) -> Registered | None:
    match = _RUN_COMMENT.fullmatch(description)
    if match is None:
        return None
    # The name of a template has no run in it; while it is made, only its comment names the run.
    if match["run"] != names.run_of_schema(name) and names.fingerprint_of_schema(name) is None:
        return None
    return Registered(name, match["run"], match["template"], match["stamp"])

"""One state of the migrations: migrated once, cloned, and kept for the next run.

Read top-down. ``Template.provide`` gives a worker its place in the cheapest way there is: it claims
one that an earlier run has kept, else it clones the template, else it has the template made.
``keep`` is the way back. What a place is, a schema or a database, the subclasses know.

A clone is registered with its template's name while the template is locked, so a template without
a clone in the registry is in nobody's use and may be evicted.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, NamedTuple

from itkit.core import names
from itkit.exceptions import IsolationError
from itkit.postgres.server import locks, places
from itkit.postgres.server.places import Places
from itkit.postgres.template.reads import Finder, Reads

TEMPLATE_COMMENT: Final = "itkit template: stays for the next runs"
_KEPT_COMMENT: Final = "itkit kept: waits for the next run, catalogue "
_TEMPLATES: Final = 4
_UNUSED_DAYS: Final = 14


@dataclass(frozen=True)
class TemplateState:
    """What is known of a template that was made.

    Attributes:
        stamp: the stamp of its catalogue, which shows whether somebody has changed it since.
        needs: why the tests have to log in by the project's own role; empty where each worker has
            one of its own.
        differences: the objects that a clone of it would lack; where there are any it is of no use.
        digest: the digest of the description of its catalogue, which faithful clones share; empty
            where the server writes something of its own into each clone.
        script: the script that clones it.
        reads: the values that its migrations have read, as the text of a ``Reads``.
    """

    stamp: str
    differences: tuple[str, ...] = ()
    digest: str = ""
    script: str = ""
    needs: str = ""
    reads: str = ""


class Migrated(NamedTuple):
    """What is known when all migrations have run.

    Attributes:
        needs: why that was not possible by the role of a worker, if roles are wanted and it was
            not.
        values: the values that the migrations have read, as a ``Reads`` has them.
    """

    needs: str = ""
    values: Mapping[str, str] = {}


class Template(ABC):
    """The template of one fingerprint.

    Args:
        place: the registry of places of its kind, on a connection of our own.
        fingerprint: the fingerprint, as ``fingerprint.of_state`` returns it.
        run: id of the run that uses it.
        is_private: whether the template ends with the run, as nothing is to be kept.

    Attributes:
        base: the digest of what decides each template beside what its migrations read.
        changed: the values that were read for the nearest template, and have changed since.
        is_settled: whether this process has found out before that it is the one.
    """

    base = ""
    changed: tuple[str, ...] = ()
    is_settled = False

    def __init__(self, place: Places, fingerprint: str, run: str, *, is_private: bool) -> None:
        self.places = place
        self.fingerprint = fingerprint
        self.run = run
        self.name = names.template_schema(fingerprint)
        self.is_private = is_private

    def provide(
        self,
        name: str,
        migrate: Callable[[str], Migrated | None],
        save: Callable[[], None] | None = None,
    ) -> tuple[str, ...] | None:
        """Give a worker its place, or say why none can be had.

        Args:
            name: the name of the worker's place.
            migrate: runs all migrations in the place it is given, and returns what is known then.
            save: saves the server for later runs, with a template that was just made; None where
                that is not wanted. No test can have written to it: all that need this template
                wait for it.

        Returns:
            What a clone would lack. When there is anything, the worker's place was not made. None
            where another run has made the template meanwhile, of something else than is read now:
            then there is another one for this run.
        """
        with self._locked(shared=True):
            state = self.state()
            if state is not None and not self._fits(state):
                return None
            if state is not None and self._take(state, name):
                return state.differences
        with self._locked(shared=False):
            state = self.state()  # another run may have made it by now
            if state is not None and not self._fits(state):
                return None
            if state is not None and self._take(state, name):
                return state.differences
            self.drop()  # what is there is half made, or not what it was
            lacking = self.make(name, migrate)
            if save is not None:
                self._saved(name, save)
            return lacking

    def _saved(self, name: str, save: Callable[[], None]) -> None:
        """Save the server, with the worker's place as one that the next run can claim."""
        is_kept = self.keep(name, 1)
        save()
        if is_kept and not self._claim(name):
            raise IsolationError(f"The place {name} was changed while the server was saved.")

    def keep(self, name: str, limit: int) -> bool:
        """Keep a worker's place, which was reset, for the next run; False when it cannot be.

        Args:
            name: the name of the worker's place.
            limit: how many may be kept.
        """
        state, registered = self.state(), self.places.registration(name)
        if state is None or registered is None or state.differences:
            return False
        now = self.stamp(name)
        # A reset may have altered and altered back, so another stamp is no proof of a change.
        if now != registered.stamp and not self.is_faithful(state, name):
            return False
        with locks.claim(self.places.connection, self.fingerprint):
            if len(self._kept()) >= limit:
                return False
            kept = names.new_kept_schema(self.fingerprint)
            self.places.rename(name, kept, f"{_KEPT_COMMENT}{now}")
        return True

    def renew(self, name: str) -> bool:
        """Drop a worker's place, and clone the template in its stead.

        Args:
            name: the name of the place, in which nobody is.

        Returns:
            Whether that could be done; nothing has changed if not.
        """
        with self._locked(shared=True):
            state = self.state()
            if state is None or state.differences or not self.is_intact(state):
                return False
            self.places.drop(name)
            self.clone(state, name)
        return True

    def rebuild(self) -> None:
        """Remove the template, so that whoever needs it next makes it anew."""
        with self._locked(shared=False):
            self.drop()

    def drop(self) -> None:
        """Drop the template and all that was kept of it."""
        for name in self._kept():
            self.places.drop(name)
        self.places.drop(self.name)

    @abstractmethod
    def exists(self) -> bool:
        """Return whether the template was made; somebody may have changed it since."""

    @abstractmethod
    def state(self) -> TemplateState | None:
        """Return what is known of the template; None when it is not there."""

    @abstractmethod
    def reads(self) -> Reads:
        """Return what the template, which exists, was made of."""

    @abstractmethod
    def is_intact(self, state: TemplateState) -> bool:
        """Return whether nobody has changed the catalogue of the template since it was made."""

    @abstractmethod
    def is_logged(self) -> bool:
        """Whether all rows of the template are in the server's log, so that a copy has them."""

    @abstractmethod
    def unused_days(self) -> float:
        """Return for how long no run has used the template, which exists."""

    @abstractmethod
    def make(self, name: str, migrate: Callable[[str], Migrated | None]) -> tuple[str, ...]:
        """Make the template, and with it the place of the worker that has asked for it."""

    @abstractmethod
    def clone(self, state: TemplateState, name: str) -> None:
        """Make a worker's place of the template, registered as the run's."""

    @abstractmethod
    def stamp(self, name: str) -> str:
        """Return the stamp of a place's catalogue."""

    @abstractmethod
    def is_faithful(self, state: TemplateState, name: str) -> bool:
        """Whether a place has the catalogue of the template, although its stamp has changed."""

    def registration(self, stamp: str) -> str:
        """Return the comment of a clone."""
        return places.comment(self.run, template=self.name, stamp=stamp)

    def _fits(self, state: TemplateState) -> bool:
        """Whether the template was made of what is read now; one of this run alone always is."""
        return self.is_settled or self.is_private or Finder().fits([Reads.parse(state.reads)])

    def _take(self, state: TemplateState, name: str) -> bool:
        """Claim or clone, where that is possible; False when the template has to be made anew."""
        if state.differences or self._claim(name):
            return True
        if not self.is_intact(state):
            return False
        self.clone(state, name)
        return True

    def _claim(self, name: str) -> bool:
        """Take over a kept place, if there is one that nobody has changed."""
        while True:
            with locks.claim(self.places.connection, self.fingerprint):
                kept = next(iter(self._kept().items()), None)
                if kept is None:
                    return False
                old_name, stamp = kept
                self.places.rename(old_name, name, self.registration(stamp))
            if self.stamp(name) == stamp:
                return True
            self.places.drop(name)

    def _kept(self) -> dict[str, str]:
        """Return the kept places of this fingerprint with the stamps of their catalogues."""
        return {
            name: text.removeprefix(_KEPT_COMMENT)
            for name, text in self.places.described().items()
            if names.fingerprint_of_schema(name) == self.fingerprint
            and text.startswith(_KEPT_COMMENT)
        }

    def _locked(self, *, shared: bool) -> AbstractContextManager[None]:
        return locks.template(self.places.connection, self.fingerprint, shared=shared)


def stays(comment: str) -> bool:
    """Return whether the comment of a place is that of a template, or of what was kept of one."""
    return comment.startswith((TEMPLATE_COMMENT, _KEPT_COMMENT))


def evict(templates: list[Template]) -> int:
    """Drop templates, with what was kept of them, that no run uses or is likely to use.

    Args:
        templates: all that exist in a database or on a server.

    Returns:
        How many are left.
    """
    unused = sorted(((one.unused_days(), one) for one in templates), key=itemgetter(0))
    old = [one for n, (days, one) in enumerate(unused) if n >= _TEMPLATES or days > _UNUSED_DAYS]
    return len(templates) - sum(map(_dropped_if_unused, old))


def drop_unused(templates: list[Template]) -> None:
    """Drop all templates that no other run uses, with what was kept of them.

    Args:
        templates: all that exist in a database or on a server.
    """
    for template in templates:
        _dropped_if_unused(template)


def _dropped_if_unused(template: Template) -> bool:
    with locks.idle_template(template.places.connection, template.fingerprint) as is_idle:
        in_use = any(found.template == template.name for found in template.places.registered())
        if not is_idle or in_use:
            return False
        template.drop()
        return True

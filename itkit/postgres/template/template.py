"""The template of one state of the migrations: made once, cloned, and kept for later runs.

``Template.provide`` gives a worker its place in the cheapest possible way. It claims a place that
an earlier run has kept, or else clones the template, or else makes the template first. ``keep``
keeps a place for a later run. The subclasses know whether a place is a schema or a database.

A clone is registered with its template's name while the template is locked. So nobody uses a
template without a clone in the registry, and it may be evicted.
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
    """The known facts about a template that was made.

    Attributes:
        stamp: the stamp of its catalogue, which shows later changes.
        needs: why the tests have to log in by the project's own role; empty if each worker has a
            role.
        differences: the objects that a clone would lack; if there are any, the template is not
            used.
        digest: the digest of its catalogue's description, which faithful clones share; empty if the
            server writes values of its own into each clone.
        script: the script that makes clones.
        reads: the values that its migrations have read, as the text of a ``Reads``.
    """

    stamp: str
    differences: tuple[str, ...] = ()
    digest: str = ""
    script: str = ""
    needs: str = ""
    reads: str = ""


class Migrated(NamedTuple):
    """The known facts when all migrations have run.

    Attributes:
        needs: why the role of a worker could not run them; empty if it could, or if no roles are
            wanted.
        values: the values that the migrations have read, in the form of ``Reads``.
    """

    needs: str = ""
    values: Mapping[str, str] = {}


class Template(ABC):
    """The template of one fingerprint.

    Args:
        places: the registry of places of its kind, on a connection of our own.
        fingerprint: the fingerprint, as ``fingerprint.of_state`` returns it.
        run: id of the run that uses it.
        is_private: whether the template ends with the run, as nothing is kept.

    Attributes:
        base: the fingerprint without the values that migrations read.
        changed: the values that were read for the nearest template and have changed since.
        is_settled: whether this process has decided before to use this template.
    """

    base = ""
    changed: tuple[str, ...] = ()
    is_settled = False

    def __init__(self, places: Places, fingerprint: str, run: str, *, is_private: bool) -> None:
        self.places = places
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
        """Give a worker its place, or return why this is not possible.

        Args:
            name: the name of the worker's place.
            migrate: runs all migrations in a place, and returns the facts about the result.
            save: saves the server for later runs, with a template that was just made; None if this
                is not wanted. No test can have written to the server, as all workers wait for the
                template.

        Returns:
            The objects that a clone would lack. If there are any, the worker's place was not made.
            None if another run has made the template meanwhile from other values than the present
            ones: this run needs another template in that case.
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
            self.drop()  # the template is incomplete, or was changed
            lacking = self.make(name, migrate)
            if save is not None:
                self._saved(name, save)
            return lacking

    def _saved(self, name: str, save: Callable[[], None]) -> None:
        """Save the server, with the worker's place as a kept one, which the next run can claim."""
        is_kept = self.keep(name, 1)
        save()
        if is_kept and not self._claim(name):
            raise IsolationError(f"The place {name} was changed while the server was saved.")

    def keep(self, name: str, limit: int) -> bool:
        """Keep a worker's place, which was reset, for the next run; return False if it cannot be.

        Args:
            name: the name of the worker's place.
            limit: the greatest number of kept places.
        """
        state, registered = self.state(), self.places.registration(name)
        if state is None or registered is None or state.differences:
            return False
        now = self.stamp(name)
        # A reset may have altered an object and altered it back, which changes the stamp too.
        if now != registered.stamp and not self.is_faithful(state, name):
            return False
        with locks.claim(self.places.connection, self.fingerprint):
            if len(self._kept()) >= limit:
                return False
            kept = names.new_kept_schema(self.fingerprint)
            self.places.rename(name, kept, f"{_KEPT_COMMENT}{now}")
        return True

    def renew(self, name: str) -> bool:
        """Drop a worker's place, and clone the template under its name.

        Args:
            name: the name of the place, to which nobody is connected.

        Returns:
            Whether this was possible; if not, nothing has changed.
        """
        with self._locked(shared=True):
            state = self.state()
            if state is None or state.differences or not self.is_intact(state):
                return False
            self.places.drop(name)
            self.clone(state, name)
        return True

    def rebuild(self) -> None:
        """Remove the template, so that the next run that needs it makes it anew."""
        with self._locked(shared=False):
            self.drop()

    def drop(self) -> None:
        """Drop the template and its kept places."""
        for name in self._kept():
            self.places.drop(name)
        self.places.drop(self.name)

    @abstractmethod
    def exists(self) -> bool:
        """Return whether the template was made; somebody may have changed it since."""

    @abstractmethod
    def state(self) -> TemplateState | None:
        """Return the known facts about the template; None if it does not exist."""

    @abstractmethod
    def reads(self) -> Reads:
        """Return the values that were read for the template, which exists."""

    @abstractmethod
    def is_intact(self, state: TemplateState) -> bool:
        """Return whether nobody has changed the catalogue of the template since it was made."""

    @abstractmethod
    def is_logged(self) -> bool:
        """Return whether all rows of the template are logged, so that a copied cluster has them."""

    @abstractmethod
    def unused_days(self) -> float:
        """Return the number of days since a run has used the template, which exists."""

    @abstractmethod
    def make(self, name: str, migrate: Callable[[str], Migrated | None]) -> tuple[str, ...]:
        """Make the template, and the place of the worker that has requested it."""

    @abstractmethod
    def clone(self, state: TemplateState, name: str) -> None:
        """Make a worker's place from the template, and register it as the run's."""

    @abstractmethod
    def stamp(self, name: str) -> str:
        """Return the stamp of a place's catalogue."""

    @abstractmethod
    def is_faithful(self, state: TemplateState, name: str) -> bool:
        """Return whether a place has the template's catalogue, although its stamp has changed."""

    def registration(self, stamp: str) -> str:
        """Return the comment of a clone."""
        return places.comment(self.run, template=self.name, stamp=stamp)

    def _fits(self, state: TemplateState) -> bool:
        """Return whether the template's values are the present ones; a private one always fits."""
        return self.is_settled or self.is_private or Finder().fits([Reads.parse(state.reads)])

    def _take(self, state: TemplateState, name: str) -> bool:
        """Claim or clone a place; return False if the template has to be made anew."""
        if state.differences or self._claim(name):
            return True
        if not self.is_intact(state):
            return False
        self.clone(state, name)
        return True

    def _claim(self, name: str) -> bool:
        """Claim a kept place, if there is one that nobody has changed."""
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
    """Return whether a comment is that of a template or of a kept place."""
    return comment.startswith((TEMPLATE_COMMENT, _KEPT_COMMENT))


def evict(templates: list[Template]) -> int:
    """Drop templates that no run uses or is likely to use, with their kept places.

    Args:
        templates: all templates that exist in a database or on a server.

    Returns:
        The number of remaining templates.
    """
    unused = sorted(((one.unused_days(), one) for one in templates), key=itemgetter(0))
    old = [one for n, (days, one) in enumerate(unused) if n >= _TEMPLATES or days > _UNUSED_DAYS]
    return len(templates) - sum(map(_dropped_if_unused, old))


def drop_unused(templates: list[Template]) -> None:
    """Drop all templates that no other run uses, with their kept places.

    Args:
        templates: all templates that exist in a database or on a server.
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

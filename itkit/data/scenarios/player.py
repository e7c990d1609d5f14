"""Plays a scenario: its rows are made once, kept, and restored wherever a test wants them."""

import hashlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.db import DatabaseError, connections, transaction

from itkit.core import seed
from itkit.data.cleanup import leaks
from itkit.data.cleanup.rows import TrackedRows
from itkit.data.factories import factories, lookup, recipes
from itkit.data.scenarios import scenarios
from itkit.data.scenarios.scenarios import Manager, Scenario
from itkit.data.scenarios.snapshots import ConflictError, RowSnapshot
from itkit.data.scenarios.world import World, reference
from itkit.exceptions import DataError

Model = lookup.Model
Snapshots = Callable[[], Path | None]

_SEED: Final = "scenarios"
_DECIDING: Final = ("django", "django-itkit", "factory-boy", "faker", "model-bakery")
_COLUMNS: Final = """
    SELECT current_setting('server_version_num'),
           md5(string_agg(concat_ws(' ', relname, attname, atttypid::regtype, atttypmod), ','
                          ORDER BY relname, attnum))
      FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
     WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND attnum > 0
"""

_in_process: dict[str, RowSnapshot] = {}
_schemas: dict[tuple[str, str], str] = {}


def play(
    played: Scenario,
    using: str,
    *,
    snapshots: Snapshots,
    new_manager: Callable[[], Manager],
    manager: Manager,
    tracked: TrackedRows,
) -> World:
    """Restore a scenario's rows, or make them and keep them for the next time.

    Args:
        played: the scenario.
        using: alias of ``DATABASES``.
        snapshots: returns the directory where the rows are kept for other processes, or None.
        new_manager: makes a manager for rows that are kept; its unique values meet no others.
        manager: the manager of the test, for rows that are not kept.
        tracked: the rows that the test's manager knows.
    """
    player = _Player(played, using, snapshots, new_manager)
    snapshot, origin = player.restored()
    if snapshot is None:
        return player.live(manager, tracked, origin)
    rows = list(snapshot.keys(using))
    inherited = {up for row in rows for up in row.inherited}
    for row in rows:
        if not row.model._meta.auto_created and row not in inherited:
            tracked.add_row(row)
    return World(played.name, snapshot.world, using, origin)


class _Player:
    """Plays one scenario once, in one database."""

    def __init__(
        self,
        played: Scenario,
        using: str,
        snapshots: Snapshots,
        new_manager: Callable[[], Manager],
    ) -> None:
        self._scenario = played
        self._using = using
        self._snapshots = snapshots
        self._new_manager = new_manager

    def restored(self) -> tuple[RowSnapshot | None, str]:
        """Return the snapshot that was restored, or None, and a text that says how or why not."""
        if connections[self._using].vendor != "postgresql":
            return None, "made anew: only Postgres restores"
        name = f"{self._scenario.name}-{_fingerprint(self._scenario, self._using)}"
        snapshot = self._kept(name)
        origin = "restored"
        if snapshot is None:
            snapshot, origin = self._taken(name), "made, and kept"
            if snapshot is None:
                return None, "made anew: it cannot be kept"
        try:
            with transaction.atomic(using=self._using):
                snapshot.restore(self._using)
        except (ConflictError, DatabaseError) as error:
            return None, f"made anew: {str(error).splitlines()[0]}"
        return snapshot, origin

    def live(self, manager: Manager, tracked: TrackedRows, origin: str) -> World:
        """Make the rows as a part of the test, with the test's unique values; they are not kept."""
        with tracked.recording():
            named = self._named(manager)
        return World(self._scenario.name, named, self._using, origin)

    def _kept(self, name: str) -> RowSnapshot | None:
        if name not in _in_process and (directory := self._snapshots()) is not None:
            snapshot = RowSnapshot.read(directory / name)
            if snapshot is not None:
                _in_process[name] = snapshot
        return _in_process.get(name)

    def _taken(self, name: str) -> RowSnapshot | None:
        """Make the rows, copy them, and take them back: the first test also gets restored rows."""
        with transaction.atomic(using=self._using):
            tables = lookup.tables(self._using, with_links=True)
            inventory = _Inventory(self._using, tables)
            new_rows = leaks.NewRows(self._using, tables)
            new_rows.begin()
            named = self._run()
            snapshot = RowSnapshot.take(self._using, new_rows.new(), named)
            changed = inventory.changed_besides(snapshot)
            transaction.set_rollback(True, using=self._using)
        if changed:
            warnings.warn(
                f"The scenario {self._scenario.name!r} is made anew each time, as it changes or "
                f"removes rows that were there before: {', '.join(changed)}.",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        _in_process[name] = snapshot
        if (directory := self._snapshots()) is not None:
            snapshot.write(directory / name)
        return snapshot

    def _run(self) -> dict[str, Any]:
        with seed.apart(_SEED, self._scenario.full_name):
            return self._named(self._new_manager())

    def _named(self, manager: Manager) -> dict[str, Any]:
        """Make the rows, and return references to those that are named."""
        name = self._scenario.name
        with _playing(self._scenario):
            named = self._scenario(manager)
        if named is not None and not isinstance(named, Mapping):
            raise DataError(f"The scenario {name!r} returns {named!r}, expected a dict of names.")
        return {key: reference(name, key, value) for key, value in (named or {}).items()}


class _PlayingThread(threading.local):
    """The scenarios that are being made, an outer one first."""

    def __init__(self) -> None:
        self.playing: list[Scenario] = []


_thread = _PlayingThread()


@contextmanager
def _playing(played: Scenario) -> Iterator[None]:
    if played in _thread.playing:
        path = " → ".join(each.name for each in (*_thread.playing, played))
        raise DataError(f"A scenario cannot play itself: {path}.")
    _thread.playing.append(played)
    try:
        yield
    finally:
        _thread.playing.pop()


class _Inventory:
    """How many rows there are, and how many of them were written since."""

    def __init__(self, using: str, tables: list[Model]) -> None:
        self._using = using
        self._tables = tables
        with connections[using].cursor() as cursor:
            cursor.execute(
                "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint % 4294967296"
            )
            (self._since,) = cursor.fetchone()
        self._before = self._count()

    def changed_besides(self, snapshot: RowSnapshot) -> list[str]:
        """Return the labels of the models of which earlier rows were removed or changed."""
        made = {table.model: len(table.keys) for table in snapshot.tables}
        return [
            label
            for label, (rows, written) in self._count().items()
            if rows - self._before[label][0] != made.get(label, 0) or written != made.get(label, 0)
        ]

    def _count(self) -> dict[str, tuple[int, int]]:
        quote = connections[self._using].ops.quote_name
        written = f"count(*) FILTER (WHERE xmin::text::bigint >= {self._since})"
        counts = " UNION ALL ".join(
            f"SELECT {number}, count(*), {written} FROM {quote(model._meta.db_table)}"  # noqa: S608 - names of models
            for number, model in enumerate(self._tables)
        )
        with connections[self._using].cursor() as cursor:
            cursor.execute(counts)
            return {
                self._tables[number]._meta.label: (rows, written)
                for number, rows, written in cursor.fetchall()
            }


def _fingerprint(played: Scenario, using: str) -> str:
    """Return a name that depends on all that decides which rows a scenario makes."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        (schema,) = cursor.fetchone()
    if (using, schema) not in _schemas:
        _schemas[using, schema] = _state_of_schema(using)
    text = f"{played.full_name} {_schemas[using, schema]} {_sources(played)}"
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def _state_of_schema(using: str) -> str:
    with connections[using].cursor() as cursor:
        cursor.execute(_COLUMNS)
        state = str(cursor.fetchone())
    if apps.is_installed("django.contrib.contenttypes"):  # generic keys name them
        from django.contrib.contenttypes.models import ContentType

        state += str(sorted(ContentType.objects.using(using).values_list()))
    return state


@cache
def _sources(played: Scenario) -> str:
    """Return a digest of the modules that decide what a scenario makes, and of the libraries."""
    found = (*factories.modules(), *recipes.modules(), *scenarios.modules())
    names = {played.function.__module__, *played.sources, *(each.__name__ for each in found)}
    names |= {model.__module__ for model in apps.get_models()}
    digest = hashlib.blake2s()
    for name in sorted(names):
        file = getattr(sys.modules.get(name) or import_module(name), "__file__", None)
        digest.update(f"{name}\0".encode() + (Path(file).read_bytes() if file else b""))
    for package in _DECIDING:
        try:
            digest.update(f"{package} {metadata.version(package)}\0".encode())
        except metadata.PackageNotFoundError:
            continue
    return digest.hexdigest()

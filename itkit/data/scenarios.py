"""Scenarios: functions that make a world once, which is then restored wherever it is wanted."""

import hashlib
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, overload

from django.apps import apps
from django.db import DatabaseError, connections, models, transaction

from itkit import conf, seed
from itkit.data import discovery, factories, leaks, lookup, recipes
from itkit.data.rows import Row, TrackedRows, concrete
from itkit.data.snapshots import ConflictError, Snapshot
from itkit.exceptions import DataError

if TYPE_CHECKING:
    from itkit.data.manager import TestDataManager

Model = type[models.Model]

_SEED: Final = "scenarios"
_DECIDING: Final = ("django", "django-itkit", "factory-boy", "faker", "model-bakery")
_COLUMNS: Final = """
    SELECT current_schema(), current_setting('server_version_num'),
           md5(string_agg(concat_ws(' ', relname, attname, atttypid::regtype, atttypmod), ','
                          ORDER BY relname, attnum))
      FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
     WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND attnum > 0
"""


@dataclass(frozen=True)
class Scenario:
    """A function that makes rows by a data manager, and names some of them.

    Attributes:
        function: takes the manager, and returns a dict of names, or nothing.
        sources: modules whose text decides what it makes, besides its own, the factories and the
            models.
    """

    function: Callable[["TestDataManager"], Mapping[str, Any] | None]
    sources: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.function.__name__

    @property
    def place(self) -> str:
        """The name with its module."""
        return f"{self.function.__module__}.{self.name}"

    def __call__(self, data: "TestDataManager") -> Mapping[str, Any] | None:
        """Make the rows, without any cache."""
        return self.function(data)


class World:
    """What a scenario has named: attributes that are instances, lists of them, or plain values.

    Rows are read when they are asked for, once.
    """

    def __init__(self, scenario: str, named: Mapping[str, Any], using: str, origin: str) -> None:
        self._scenario = scenario
        self._named = named
        self._using = using
        self._origin = origin

    def __getattr__(self, name: str) -> Any:
        named = self.__dict__.get("_named", {})
        if name.startswith("_") or name not in named:
            raise AttributeError(
                f"The scenario {self.__dict__.get('_scenario')!r} names no {name!r}. "
                f"{conf.did_you_mean(name, dict(named))}"
            )
        found = _found(named[name], self._using)
        setattr(self, name, found)
        return found

    def __dir__(self) -> Iterable[str]:
        return sorted(self._named)

    def __repr__(self) -> str:
        return f"<World of {self._scenario}: {', '.join(sorted(self._named))}; {self._origin}>"


@overload
def scenario(function: Callable[..., Any], /) -> Scenario: ...
@overload
def scenario(*, sources: Iterable[str] = ()) -> Callable[[Callable[..., Any]], Scenario]: ...
def scenario(
    function: Callable[..., Any] | None = None, /, *, sources: Iterable[str] = ()
) -> Scenario | Callable[[Callable[..., Any]], Scenario]:
    """Let a function of ``<app>/scenarios.py`` be played by ``data.scenario("its_name")``.

    It takes a data manager, makes rows, and returns a dict of those that a test wants to have by
    name. What else it does, such as sending mail, it does only when it is not restored.

    Args:
        function: the function.
        sources: modules that it calls: with a change of theirs, or of factories or models, its
            rows are made anew.
    """
    if function is not None:
        return Scenario(function)
    return lambda function: Scenario(function, tuple(sources))


def find(what: object) -> Scenario:
    """Return a scenario by its name, with or without its app, or as it is.

    Raises:
        DataError: there is none, or several.
    """
    if isinstance(what, Scenario):
        return what
    known = _registry(_modules())
    found = [each for name, each in known if what in (name, each.name)]
    if len(found) == 1:
        return found[0]
    names = [name for name, _ in known]
    if found:
        raise DataError(
            f"{what!r} may be any of {', '.join(name for name, each in known if each in found)}."
        )
    raise DataError(
        f"There is no scenario {what!r} in any scenarios.py. {conf.did_you_mean(str(what), names)}"
    )


def play(
    played: Scenario,
    using: str,
    *,
    directory: Path | None,
    new_manager: Callable[[], "TestDataManager"],
    manager: "TestDataManager",
    tracked: TrackedRows,
) -> World:
    """Restore a scenario's rows, or make them and keep them for the next time.

    Args:
        played: the scenario.
        using: alias of ``DATABASES``.
        directory: where snapshots are kept, besides in this process.
        new_manager: makes the manager of rows that are kept: with values that meet no others.
        manager: of the test, for rows that are not.
        tracked: the rows that it knows.
    """
    player = _Player(played, using, directory, new_manager)
    snapshot, origin = player.restored()
    if snapshot is None:
        return player.live(manager, tracked, origin)
    rows = list(snapshot.keys(using))
    inherited = {
        Row(using, concrete(up), row.pk) for row in rows for up in row.model._meta.all_parents
    }
    for row in rows:
        if not row.model._meta.auto_created and row not in inherited:
            tracked.add_row(row)
    return World(played.name, snapshot.world, using, origin)


class _Player:
    """One playing of a scenario in one database."""

    def __init__(
        self,
        played: Scenario,
        using: str,
        directory: Path | None,
        new_manager: Callable[[], "TestDataManager"],
    ) -> None:
        self._scenario = played
        self._using = using
        self._directory = directory
        self._new_manager = new_manager

    def restored(self) -> tuple[Snapshot | None, str]:
        """Return what has been restored, and how that came; None and why if nothing could be."""
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

    def live(self, manager: "TestDataManager", tracked: TrackedRows, origin: str) -> World:
        """Make the rows as a part of the test, with its values, as they are there for once."""
        with tracked.recording():
            named = self._named(manager)
        world = {name: _reference(self._scenario, name, value) for name, value in named.items()}
        return World(self._scenario.name, world, self._using, origin)

    def _kept(self, name: str) -> Snapshot | None:
        if name not in _in_process and self._directory is not None:
            snapshot = Snapshot.read(self._directory / name)
            if snapshot is not None:
                _in_process[name] = snapshot
        return _in_process.get(name)

    def _taken(self, name: str) -> Snapshot | None:
        """Make the rows, copy them, and take them back, so that they can be restored as ever."""
        with transaction.atomic(using=self._using):
            tables = lookup.tables(self._using, with_links=True)
            inventory = _Inventory(self._using, tables)
            marks = leaks.Marks(self._using, tables)
            marks.begin()
            named = self._run()
            world = {key: _reference(self._scenario, key, value) for key, value in named.items()}
            snapshot = Snapshot.take(self._using, marks.new(), world)
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
        if self._directory is not None:
            snapshot.write(self._directory / name)
        return snapshot

    def _run(self) -> Mapping[str, Any]:
        with seed.apart(_SEED, self._scenario.place):
            return self._named(self._new_manager())

    def _named(self, manager: "TestDataManager") -> Mapping[str, Any]:
        named = self._scenario(manager)
        if named is not None and not isinstance(named, Mapping):
            raise DataError(
                f"The scenario {self._scenario.name!r} returns {named!r}, expected a dict of names."
            )
        return named or {}


class _Inventory:
    """How many rows there are, and how many of them have been written since."""

    def __init__(self, using: str, tables: list[Model]) -> None:
        self._using = using
        self._tables = tables
        with connections[using].cursor() as cursor:
            cursor.execute(
                "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint % 4294967296"
            )
            (self._since,) = cursor.fetchone()
        self._before = self._count()

    def changed_besides(self, snapshot: Snapshot) -> list[str]:
        """Return the labels of the models of which rows of before are gone or written again."""
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


_in_process: dict[str, Snapshot] = {}
_schemas: dict[tuple[str, str], str] = {}


def _reference(played: Scenario, name: str, value: Any) -> Any:
    """Return what stands for a value that a scenario names, in words of JSON."""
    if isinstance(value, models.Model):
        return {"row": [value._meta.label, str(value.pk)]}
    if isinstance(value, list | tuple | models.QuerySet):
        return {"list": [_reference(played, name, item) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": {str(key): _reference(played, name, item) for key, item in value.items()}}
    if value is None or isinstance(value, str | int | float):
        return {"is": value}
    raise DataError(
        f"The scenario {played.name!r} names {name!r}, which is {value!r}. It can name saved "
        "instances, lists and dicts of them, texts and numbers."
    )


def _found(reference: Any, using: str) -> Any:
    ((kind, value),) = reference.items()
    if kind == "row":
        return _row(*value, using=using)
    if kind == "list":
        return _all_found(value, using)
    if kind == "dict":
        return {key: _found(item, using) for key, item in value.items()}
    return value


def _row(label: str, key: str, *, using: str) -> models.Model:
    rows: models.QuerySet[Any] = models.QuerySet(apps.get_model(label), using=using)
    found: models.Model = rows.get(pk=key)
    return found


def _all_found(references: list[Any], using: str) -> list[Any]:
    """Return the values of a list; rows of one model are read at once."""
    labels = {item["row"][0] for item in references if "row" in item}
    if len(labels) != 1 or not all("row" in item for item in references):
        return [_found(item, using) for item in references]
    model = apps.get_model(labels.pop())
    rows: models.QuerySet[Any] = models.QuerySet(model, using=using)
    keys = [model._meta.pk.to_python(item["row"][1]) for item in references]
    found = rows.in_bulk(keys)
    return [found[key] for key in keys]


def _fingerprint(played: Scenario, using: str) -> str:
    """Return a name of all that decides which rows a scenario makes."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        (schema,) = cursor.fetchone()
    if (using, schema) not in _schemas:
        _schemas[using, schema] = _state_of_schema(using)
    text = f"{played.place} {_schemas[using, schema]} {_sources(played)}"
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def _state_of_schema(using: str) -> str:
    with connections[using].cursor() as cursor:
        cursor.execute(_COLUMNS)
        state = str(cursor.fetchone()[1:])
    if apps.is_installed("django.contrib.contenttypes"):  # rows of a generic key name these
        from django.contrib.contenttypes.models import ContentType

        state += str(sorted(ContentType.objects.using(using).values_list()))
    return state


@cache
def _sources(played: Scenario) -> str:
    """Return a digest of the modules that decide what a scenario makes, and of the libraries."""
    found = (*factories.modules(), *recipes.modules(), *_modules())
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


@cache
def _registry(modules: tuple[ModuleType, ...]) -> list[tuple[str, Scenario]]:
    """Return all scenarios, with their names and their apps'."""
    return [
        (f"{_label(module)}.{item.name}", item)
        for module in modules
        for item in vars(module).values()
        if isinstance(item, Scenario) and item.function.__module__ == module.__name__
    ]


def _modules() -> tuple[ModuleType, ...]:
    return discovery.modules("scenarios", "tests.scenarios")


def _label(module: ModuleType) -> str:
    app = apps.get_containing_app_config(module.__name__)
    return app.label if app else module.__name__

"""A batch's plan: instances wait for each other and are written by table, not one by one.

Factories run unchanged and in the usual order; only the writing is put off. Three rules keep
factories and tests from noticing that:

- An instance has its key as soon as it exists, so that references to it and values derived from it
  are right.
- An instance that needs ``save()`` is saved at once (``obstacles`` says why).
- Before any statement that names a table with waiting rows, these rows are written.

Only the order differs: the hooks that a factory calls after creation run when all rows are written.
"""

import gc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, models, router, transaction

from itkit.data.bulk import insertion, obstacles
from itkit.data.bulk.explanation import Explanation, Hook, How, Way
from itkit.data.bulk.keys import Keys
from itkit.data.cleanup.rows import add_to_recording, concrete
from itkit.data.factories import lookup
from itkit.data.factories.factories import Factory

Model = type[models.Model]

BAKERY: Final = "model_bakery"
_WORTH_COPYING: Final = 50  # rows; with fewer, an INSERT is as fast


class Waiting(NamedTuple):
    """An instance whose row is not yet written."""

    instance: models.Model
    maker: str


class _Unsure(NamedTuple):
    """Instances that were written within somebody's savepoint, which may be rolled back."""

    model: Model
    using: str
    waiting: list[Waiting]
    savepoints: tuple[str | None, ...]

    @property
    def is_open(self) -> bool:
        current = connections[self.using].savepoint_ids
        return tuple(current[: len(self.savepoints)]) == self.savepoints

    def missing(self) -> list[Waiting]:
        found = lookup.all_rows(self.model, self.using).in_bulk(
            [item.instance.pk for item in self.waiting]
        )
        return [item for item in self.waiting if item.instance.pk not in found]


class Destination(NamedTuple):
    """How the instances of a factory are written.

    Attributes:
        model: the model of the instances.
        using: alias of ``DATABASES``.
        maker: name of the factory.
        obstacle: the reason why they cannot wait, or None.
    """

    model: Model
    using: str
    maker: str
    obstacle: str | None


class BatchPlan:
    """The unwritten instances of one batch, and the functions to call afterwards.

    A context manager: at its end all instances are written, in one transaction per database. An
    error takes all of them back.

    Args:
        copy: whether to write by COPY wherever that is possible, and not only where it is faster.
    """

    def __init__(self, *, copy: bool = False) -> None:
        self.explanation = Explanation()
        self._copy = copy
        self._keys = Keys()
        self._waiting: dict[tuple[Model, str], list[Waiting]] = defaultdict(list)
        self._unsure: list[_Unsure] = []
        self._following: list[Callable[[], object]] = []
        self._obstacles: dict[tuple[Model, str], str | None] = {}
        self._destinations: dict[Factory, Destination] = {}
        self._depths: dict[str, int] = {}
        self._open = ExitStack()
        self._is_writing = False

    def __enter__(self) -> Self:
        self._open.enter_context(_no_garbage())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if failure is not None:
            self._open.__exit__(kind, failure, traceback)
            return
        with self._open:
            self.finish()

    def obstacle(self, model: Model, using: str) -> str | None:
        """Return the reason why no row of a model can wait, or None."""
        self._enter(using)
        if (model, using) not in self._obstacles:
            self._obstacles[model, using] = obstacles.of_model(model, using)
        return self._obstacles[model, using]

    def destination(self, factory: Factory) -> Destination:
        """Return how the instances of a factory are written."""
        if factory not in self._destinations:
            model, using = factory._meta.get_model_class(), _database_of(factory)
            reason = obstacles.of_factory(factory) or self.obstacle(model, using)
            self._destinations[factory] = Destination(model, using, factory.__name__, reason)
        return self._destinations[factory]

    def add(self, instance: models.Model, using: str, maker: str) -> str | None:
        """Add an instance, with its key, to the batch; return the obstacle, or None."""
        reason = obstacles.of_instance(instance)
        if reason is None:
            instance._state.db = using  # else a reference to it would be one to another database
            self._keys.give(instance, using)
            self._waiting[type(instance), using].append(Waiting(instance, maker))
        return reason

    def count_saved(self, model: Model, maker: str, reason: str) -> None:
        """Count a row that could not wait."""
        self.explanation.rows[Way(model._meta.label, maker, "one by one", reason)] += 1

    def count_hook(self, factory: str, name: str) -> None:
        """Count a call of a hook after creation."""
        self.explanation.hooks[Hook(factory, name)] += 1

    @property
    def hooks(self) -> int:
        """How many functions wait to be called."""
        return len(self._following)

    def follow(self, function: Callable[[], object]) -> None:
        """Call a function when all rows that wait have been written."""
        self._following.append(function)

    def last_waiting(self, model: Model) -> models.Model | None:
        """Return the instance of a model that was added last and still waits, or None."""
        for (kind, _), waiting in self._waiting.items():
            if kind is model and waiting:
                return waiting[-1].instance
        return None

    def has_saved(self, model: Model) -> bool:
        """Return whether rows of a model could not wait."""
        return any(
            way.model == model._meta.label and way.how == "one by one"
            for way in self.explanation.rows
        )

    def finish(self) -> None:
        """Write the rows that wait and call the functions that follow, until neither is left."""
        self._write_all()
        while self._following:
            following, self._following = self._following, []
            for function in following:
                function()
            self._write_all()

    def _write_all(self) -> None:
        self.write()
        if self._unsure:
            self._find_missing()
            self.write()

    def _find_missing(self) -> None:
        """Add the instances again whose rows were rolled back with somebody's savepoint."""
        unsure, self._unsure = self._unsure, []
        self._is_writing = True
        try:
            for item in unsure:
                if item.is_open:
                    self._unsure.append(item)
                else:
                    self._waiting[item.model, item.using] += item.missing()
        finally:
            self._is_writing = False

    def write(self) -> None:
        """Write the rows that wait; the rows that others refer to come first."""
        self._is_writing = True
        try:
            while self._waiting:
                for target in _in_order(self._waiting):
                    self._write_of(*target, self._waiting.pop(target))
        finally:
            self._is_writing = False

    def _write_of(self, model: Model, using: str, waiting: list[Waiting]) -> None:
        instances = [item.instance for item in waiting]
        wants_copy = self._copy or len(instances) >= _WORTH_COPYING
        obstacle = insertion.obstacle_to_copy(model, instances, using) if wants_copy else None
        is_copied = wants_copy and obstacle is None
        try:
            with transaction.atomic(using=using):
                insertion.insert(model, instances, using, copy=is_copied)
        except DatabaseError as error:
            _tell_guilty(error, model, waiting, using)
            raise
        savepoints = tuple(connections[using].savepoint_ids)
        if len(savepoints) > self._depths[using]:
            self._unsure.append(_Unsure(model, using, waiting, savepoints))
        how: How = "by COPY" if is_copied else "by INSERT"
        for item in waiting:
            add_to_recording(instance=item.instance, created=True)
            way = Way(model._meta.label, item.maker, how, obstacle or "")
            self.explanation.rows[way] += 1

    def _enter(self, using: str) -> None:
        if using in self._depths:
            return
        self._open.enter_context(transaction.atomic(using=using))
        self._depths[using] = len(connections[using].savepoint_ids)
        self._open.enter_context(connections[using].execute_wrapper(self._look_at))

    def _look_at(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: Any, context: Any
    ) -> Any:
        """Write the rows that wait before a statement that may read them or refer to them."""
        if not self._is_writing and (self._waiting or self._unsure) and self._is_concerned(sql):
            self._write_all()
        return execute(sql, params, many, context)

    def _is_concerned(self, sql: Any) -> bool:
        if not isinstance(sql, str):  # psycopg has composed it, and needs a connection to render it
            return True
        kinds = {model for model, _ in self._waiting} | {item.model for item in self._unsure}
        return any(table in sql for kind in kinds for table in _tables_of(kind))


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Put the garbage collection off, which finds nothing: a batch keeps all that it makes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _database_of(factory: Factory) -> str:
    """Return the alias of ``DATABASES`` that a factory writes to."""
    alias: str = factory._meta.database
    if alias == DEFAULT_DB_ALIAS:
        return router.db_for_write(factory._meta.get_model_class())
    return alias


def _tables_of(model: Model) -> Iterator[str]:
    yield model._meta.db_table
    for parent in model._meta.all_parents:
        yield parent._meta.db_table


def _in_order(targets: Iterable[tuple[Model, str]]) -> list[tuple[Model, str]]:
    """Return the destinations so that models come after those they refer to; cut cycles anywhere.

    The order matters only for foreign keys that Django has not declared: Postgres checks Django's
    foreign keys when the transaction ends.
    """
    by_model: dict[Model, list[tuple[Model, str]]] = defaultdict(list)
    for target in targets:
        by_model[concrete(target[0])].append(target)
    ordered: list[tuple[Model, str]] = []
    entered: set[Model] = set()

    def visit(model: Model) -> None:
        if model in entered:
            return
        entered.add(model)
        for referred in _referred_by(model):
            if referred in by_model:
                visit(referred)
        ordered.extend(by_model[model])

    for model in list(by_model):
        visit(model)
    return ordered


def _referred_by(model: Model) -> Iterator[Model]:
    for key in lookup.foreign_keys(model):
        yield concrete(key.related_model)


def _tell_guilty(error: DatabaseError, model: Model, waiting: list[Waiting], using: str) -> None:
    """Add a note that names the row which caused an error, one of many in a statement."""
    with transaction.atomic(using=using):
        for number, item in enumerate(waiting, 1):
            if not _can_be_written(item, model, using):
                error.add_note(
                    f"itkit: it is the row of {item.maker}, number {number} of {len(waiting)} of "
                    f"{model._meta.label}. They were written together; with "
                    'create_batch(…, bulk="never") each is saved on its own.'
                )
                break
        transaction.set_rollback(True, using=using)


def _can_be_written(item: Waiting, model: Model, using: str) -> bool:
    try:
        with transaction.atomic(using=using):
            insertion.insert(model, [item.instance], using, copy=False)
    except DatabaseError:
        return False
    return True

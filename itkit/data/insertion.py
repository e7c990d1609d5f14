"""How planned instances get into their tables: keys that are reserved before, one INSERT or COPY.

Since the keys are known before any row is written, references among planned rows are complete at
once, cycles of them included: Django's foreign keys are looked at when the transaction ends.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from django.db import connections, models

from itkit.data import lookup, obstacles

Model = type[models.Model]
Instances = Sequence[models.Model]

_FIRST_BLOCK: Final = 16
_LARGEST_BLOCK: Final = 4096
_ROWS_PER_STATEMENT: Final = 2000  # Postgres takes 65,535 parameters


class Keys:
    """Primary keys taken from the sequences of the tables, in blocks that grow with the demand."""

    def __init__(self) -> None:
        self._free: dict[tuple[Model, str], deque[int]] = defaultdict(deque)
        self._block: dict[tuple[Model, str], int] = {}

    def give(self, instance: models.Model, using: str) -> None:
        """Set the key of an instance that has none, and of its parents."""
        field, names = _key_of(type(instance))
        if field is None or instance.pk is not None:
            return
        key = self._next(field, using)
        for name in names:
            setattr(instance, name, key)

    def _next(self, field: Any, using: str) -> int:
        place = field.model, using
        free = self._free[place]
        if not free:
            size = self._block.get(place, _FIRST_BLOCK)
            free.extend(_reserved(field, using, size))
            self._block[place] = min(size * 2, _LARGEST_BLOCK)
        return free.popleft()


def insert(model: Model, instances: Instances, using: str, *, copy: bool) -> None:
    """Write the rows of a model, those of its parents' tables before its own."""
    _complete_references(model, instances)
    for table in _tables(model):
        if copy:
            _copy_into(table, instances, using)
        elif table is model and not model._meta.parents:
            # No manager of the model: what it does on its own has been found to be an obstacle.
            rows: models.QuerySet[Any] = models.QuerySet(model, using=using)
            rows.bulk_create(instances, batch_size=_ROWS_PER_STATEMENT)
        else:
            _insert_into(table, instances, using)
    for instance in instances:
        instance._state.adding = False
        instance._state.db = using


def _complete_references(model: Model, instances: Sequence[Any]) -> None:
    """Take over the keys that objects have got since they were assigned, as ``save()`` does.

    Raises:
        ValueError: one has not been saved.
    """
    keys = [(key.attname, key.name) for key in lookup.foreign_keys(model)]
    for instance in instances:
        values, cached = vars(instance), instance._state.fields_cache
        if any(values[attname] is None and cached.get(name) is not None for attname, name in keys):
            instance._prepare_related_fields_for_save(operation_name="save")


def obstacle_to_copy(model: Model, instances: Instances, using: str) -> str | None:
    """Return why the rows cannot be written by COPY, or None."""
    return _obstacle_of_tables(model, using) or _obstacle_of_values(instances)


def _obstacle_of_tables(model: Model, using: str) -> str | None:
    with connections[using].cursor() as cursor:
        if not hasattr(cursor, "copy"):
            return "COPY needs psycopg 3"
    for table in _tables(model):
        for field in table._meta.local_concrete_fields:
            if field.generated or field.has_db_default():
                return f"{field.name} is filled by the database"
            if _may_be_written_by_expression(field):
                return f"{field.name} is written by an expression"
    return None


def _may_be_written_by_expression(field: Any) -> bool:
    if isinstance(field, models.BinaryField):  # only on other databases
        return False
    return hasattr(field, "get_placeholder") or hasattr(field, "get_placeholder_sql")


def _obstacle_of_values(instances: Instances) -> str | None:
    for instance in instances:
        for name, value in vars(instance).items():
            if hasattr(value, "resolve_expression"):
                return f"a value of {name} is an expression"
    return None


@cache
def _key_of(model: Model) -> tuple[Any, list[str]]:
    """Return the field that a sequence fills, and the attributes that hold its value."""
    names = {table._meta.pk.attname: None for table in _tables(model)}
    return obstacles.key_column(model), list(names)


@cache
def _tables(model: Model) -> tuple[Model, ...]:
    """Return the models whose tables a row of a model has a row in, parents first."""
    concrete = model._meta.concrete_model or model
    parents = [parent for parent in concrete._meta.all_parents if not parent._meta.proxy]
    return (*reversed(parents), concrete) if parents else (model,)


def _insert_into(table: Model, instances: Instances, using: str) -> None:
    # bulk_create() refuses models that inherit tables, and so does every public way but save().
    fields = _written_fields(table)
    returning = [item for item in table._meta.db_returning_fields if not item.primary_key]
    rows: Any = models.QuerySet(table, using=using)  # has no public way to insert
    for start in range(0, len(instances), _ROWS_PER_STATEMENT):
        batch = list(instances[start : start + _ROWS_PER_STATEMENT])
        results = rows._insert(batch, fields=fields, returning_fields=returning, using=using)
        for instance, values in zip(batch, results or (), strict=False):
            for field, value in zip(returning, values, strict=True):
                setattr(instance, field.attname, value)


def _copy_into(table: Model, instances: Instances, using: str) -> None:
    connection = connections[using]
    quote = connection.ops.quote_name
    fields = _written_fields(table)
    columns = ", ".join(quote(field.column) for field in fields)
    statement = f"COPY {quote(table._meta.db_table)} ({columns}) FROM STDIN"
    # Django turns the errors of execute() into its own, but not those of copy().
    translated = connection.wrap_database_errors
    with connection.cursor() as cursor, translated, cursor.copy(statement) as copy:
        for instance in instances:
            copy.write_row([_prepared(field, instance, connection) for field in fields])


def _prepared(field: Any, instance: models.Model, connection: Any) -> Any:
    return field.get_db_prep_save(field.pre_save(instance, add=True), connection)


def _written_fields(table: Model) -> list[Any]:
    return [field for field in table._meta.local_concrete_fields if not field.generated]


def _reserved(field: Any, using: str, size: int) -> list[int]:
    connection = connections[using]
    table = connection.ops.quote_name(field.model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)",
            [table, field.column, size],
        )
        return [key for (key,) in cursor.fetchall()]

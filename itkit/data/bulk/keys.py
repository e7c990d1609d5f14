"""Reserves primary keys: blocks of values of the sequences of Postgres."""

from collections import defaultdict, deque
from functools import cache
from typing import Any, Final

from django.db import connections, models

Model = type[models.Model]

_FIRST_BLOCK: Final = 16
_LARGEST_BLOCK: Final = 4096


def counted(model: Model) -> "models.AutoField[Any, Any] | None":
    """Return the field whose sequence gives a model's keys, or None; it may be a parent's."""
    field = model._meta.pk
    while field.remote_field and field.remote_field.parent_link:
        field = field.remote_field.model._meta.pk
    return field if isinstance(field, models.AutoField) else None


def sequence(field: Any, using: str) -> str | None:
    """Return the name of the sequence that gives the values of a field, without its schema."""
    table = connections[using].ops.quote_name(field.model._meta.db_table)
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE oid = pg_get_serial_sequence(%s, %s)::regclass",
            [table, field.column],
        )
        found = cursor.fetchone()
    return found[0] if found else None


class Keys:
    """Keys that are taken from the tables' sequences, in blocks that grow with the demand."""

    def __init__(self) -> None:
        self._free: dict[tuple[Model, str], deque[int]] = defaultdict(deque)
        self._block: dict[tuple[Model, str], int] = {}

    def give(self, instance: models.Model, using: str) -> None:
        """Set the key of an instance that has none, and the keys of its parents."""
        field, names = _key_of(type(instance))
        if instance.pk is None and field is not None:
            key = self._next(field, using)
        elif instance.pk is None and len(names) > 1:
            key = getattr(instance, names[0])  # a parent's key has a default, such as a UUID
        else:
            return
        for name in names:
            setattr(instance, name, key)

    def _next(self, field: Any, using: str) -> int:
        model_and_alias = field.model, using
        free = self._free[model_and_alias]
        if not free:
            size = self._block.get(model_and_alias, _FIRST_BLOCK)
            free.extend(_reserved(field, using, size))
            self._block[model_and_alias] = min(size * 2, _LARGEST_BLOCK)
        return free.popleft()


@cache
def tables(model: Model) -> tuple[Model, ...]:
    """Return the models whose tables have a part of each row of a model, parents first."""
    concrete = model._meta.concrete_model or model
    parents = [parent for parent in concrete._meta.all_parents if not parent._meta.proxy]
    return (*reversed(parents), concrete)


@cache
def _key_of(model: Model) -> tuple[Any, list[str]]:
    """Return the field that a sequence fills, and the attributes that hold a row's key.

    The attribute of the topmost parent comes first.
    """
    return counted(model), list({table._meta.pk.attname: None for table in tables(model)})


def _reserved(field: Any, using: str, size: int) -> list[int]:
    connection = connections[using]
    table = connection.ops.quote_name(field.model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)",
            [table, field.column, size],
        )
        return [key for (key,) in cursor.fetchall()]

"""Values for fields that must differ from row to row, where model_bakery's values would collide."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from django.db import connections, models, router

from itkit.data.factories.lookup import Field
from itkit.data.unique import UniqueValues

Model = type[models.Model]


class Fillers:
    """Draws the values of unique columns.

    Args:
        unique: the source of the values.
        using: alias of ``DATABASES``; by default the one that the router returns.
    """

    def __init__(self, unique: UniqueValues, using: str | None) -> None:
        self._unique = unique
        self._using = using

    def values(self, model: Model, given: Any) -> Iterator[tuple[str, Any]]:
        """Yield a value for each field that must differ and is not among the given names."""
        for field in _fields_that_differ(model):
            if field.name not in given:
                draw = self._generator(field)
                if draw is not None:
                    yield field.name, draw()

    def _generator(self, field: Field) -> Callable[[], Any] | None:
        if isinstance(field, models.AutoField) or field.choices:
            return None
        if isinstance(field, models.EmailField):
            return self._unique.email
        if isinstance(field, models.URLField):
            return lambda: f"https://example.com/{self._unique.hex()}"
        if isinstance(field, models.CharField | models.TextField):
            return lambda: self._unique.text(field.max_length)
        if isinstance(field, models.IntegerField):
            return lambda: 1 + self._unique.number(self._largest(field))
        return None

    def _largest(self, field: Field) -> int:
        alias = self._using or router.db_for_write(field.model)
        _, largest = connections[alias].ops.integer_field_range(field.get_internal_type())
        return min(largest or 2**31 - 1, 2**31 - 1)


def is_empty(field: Field) -> bool:
    """Return whether a field needs a value and nothing gives it one."""
    return not field.null and not field.has_default() and not field.has_db_default()


@cache
def _fields_that_differ(model: Model) -> tuple[Field, ...]:
    """Return the fields whose values no two rows may share, and that nothing else fills in."""
    together = _fields_unique_together(model)
    return tuple(
        field
        for field in model._meta.fields
        if (field.unique or field.name in together or isinstance(field, models.EmailField))
        and is_empty(field)
    )


def _fields_unique_together(model: Model) -> set[str]:
    groups: list[Sequence[str]] = [*model._meta.unique_together]
    groups += [constraint.fields for constraint in model._meta.total_unique_constraints]
    return {name for group in groups for name in group}

"""Values for fields that model_bakery cannot fill.

Its values would collide in fields that must differ from row to row. It refuses fields of a class
that it does not know, such as a ``FilePathField`` or the project's own subclass of a field.
"""

import datetime
import decimal
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.db import connections, models, router

from itkit.data.factories.lookup import Field
from itkit.data.unique import UniqueValues

Model = type[models.Model]


_FIRST: Final = datetime.datetime(1950, 1, 1)  # noqa: DTZ001 - made aware where a field needs it
_DAYS: Final = 50_000
_SECONDS_OF_A_DAY: Final = 24 * 60 * 60
_FIRST_ADDRESS: Final = {
    4: ipaddress.IPv4Address("10.0.0.0"),
    6: ipaddress.IPv6Address("2001:db8::"),
}
_ADDRESSES: Final = 2**24


class Fillers:
    """Draws the values of unique columns, and those of fields that model_bakery does not know.

    Args:
        unique: the source of the values.
        using: alias of ``DATABASES``; by default the one that the router returns.
    """

    def __init__(self, unique: UniqueValues, using: str | None) -> None:
        self._unique = unique
        self._using = using

    def values(self, model: Model, given: Any) -> Iterator[tuple[str, Any]]:
        """Yield a value for each such field that is not among the given names."""
        filled = set(given)
        for field in _fields_that_differ(model):
            draw = None if field.name in filled else self._generator(field)
            if draw is not None:
                filled.add(field.name)
                yield field.name, draw()
        for field in _fields_unknown_to_bakery(model):
            if field.name not in filled:
                draw = self._generator(field) or _generator_of_base(field)
                if draw is not None:
                    yield field.name, draw()

    def _generator(self, field: Any) -> Callable[[], Any] | None:
        if isinstance(field, models.AutoField) or field.choices:
            return None
        return (
            self._generator_of_text(field)
            or self._generator_of_time(field)
            or self._generator_of_number(field)
        )

    def _generator_of_text(self, field: Any) -> Callable[[], Any] | None:
        if isinstance(field, models.EmailField):
            return self._unique.email
        if isinstance(field, models.URLField):
            return lambda: f"https://example.com/{self._unique.hex()}"
        if isinstance(
            field, models.CharField | models.TextField | models.FileField | models.FilePathField
        ):
            return lambda: self._unique.text(field.max_length)
        if isinstance(field, models.GenericIPAddressField):
            first = _FIRST_ADDRESS[6 if field.protocol.lower() == "ipv6" else 4]
            return lambda: str(first + self._unique.number(_ADDRESSES))
        if isinstance(field, models.BinaryField):
            return lambda: self._unique.hex().encode()
        return None

    def _generator_of_time(self, field: Any) -> Callable[[], Any] | None:
        draw = self._unique.number
        if isinstance(field, models.DateTimeField):
            first = _FIRST.replace(tzinfo=datetime.UTC if settings.USE_TZ else None)
            return lambda: first + datetime.timedelta(seconds=draw())
        if isinstance(field, models.DateField):
            return lambda: datetime.date.fromordinal(_FIRST.toordinal() + draw(_DAYS))
        if isinstance(field, models.TimeField):
            return lambda: _time_of_day(draw(_SECONDS_OF_A_DAY))
        if isinstance(field, models.DurationField):
            return lambda: datetime.timedelta(seconds=draw())
        return None

    def _generator_of_number(self, field: Any) -> Callable[[], Any] | None:
        if isinstance(field, models.IntegerField):
            return lambda: 1 + self._unique.number(self._largest(field))
        if isinstance(field, models.FloatField):
            return lambda: float(self._unique.number())
        if isinstance(field, models.DecimalField) and field.max_digits is not None:
            below = min(10**field.max_digits, 2**31 - 1)
            return lambda: decimal.Decimal(self._unique.number(below)).scaleb(
                -(field.decimal_places or 0)
            )
        return None

    def _largest(self, field: Field) -> int:
        alias = self._using or router.db_for_write(field.model)
        _, largest = connections[alias].ops.integer_field_range(field.get_internal_type())
        return min(largest or 2**31 - 1, 2**31 - 1)


def _time_of_day(seconds: int) -> datetime.time:
    return (_FIRST + datetime.timedelta(seconds=seconds)).time()


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
        and not field.generated
    )


def _fields_unique_together(model: Model) -> set[str]:
    groups: list[Sequence[str]] = [*model._meta.unique_together]
    groups += [constraint.fields for constraint in model._meta.total_unique_constraints]
    return {name for group in groups for name in group}


@cache
def _fields_unknown_to_bakery(model: Model) -> tuple[Field, ...]:
    """Return other fields that need a value and that model_bakery would refuse."""
    from model_bakery import generators

    known = generators.get_type_mapping()
    return tuple(
        field
        for field in model._meta.concrete_fields
        if type(field) not in known
        and generators.get(type(field)) is None
        and is_empty(field)
        and not (field.blank or field.choices or field.generated or field.is_relation)
    )


def _generator_of_base(field: Field) -> Callable[[], Any] | None:
    """Return what model_bakery draws the values of a class from that the field's class extends."""
    from model_bakery import baker, generators

    known = generators.get_type_mapping()
    base = next((kind for kind in type(field).__mro__ if kind in known), None)
    if base is None:
        return None
    draw = known[base]
    return lambda: draw(**baker.get_required_values(draw, field))

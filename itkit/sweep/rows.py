"""The content of all tables, compared without the values that differ from run to run."""

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.db import connections, models, router
from django.test.testcases import (  # type: ignore[attr-defined]  # not in the stubs
    DatabaseOperationForbidden,
)

_DEPTH: Final = 2
_MOST_SHOWN: Final = 12
Rows = dict[tuple[type[models.Model], object], dict[str, Any]]
"""The values of each row, by its model and its key."""
Exact = dict[tuple[type[models.Model], str, object], dict[str, Any]]
"""The same with all values, by the alias of the database as well, compared within one run."""
Column = tuple[type[models.Model], str]
_DIGITS: Final = re.compile(r"\d+")
LOOSE: Final = "\0"
"""Stands before a number that may be the key of a row, which is another one in each run."""


class Content(NamedTuple):
    """The content of the tables, and the calls that have reached the backends.

    Attributes:
        rows: the rows of all models.
        calls: how often there was each call, as a text.
    """

    rows: Rows
    calls: Counter[str]

    def differences(self, expected: "Content", without: Container[Column] = ()) -> list[str]:
        """Return a line for each row and call that is missing or extra.

        Args:
            expected: the content that is compared with.
            without: columns that are left out.
        """
        pairs = (
            (texts(self.rows, without), texts(expected.rows, without)),
            (self.calls, expected.calls),
        )
        lines = []
        for own, other in pairs:
            lines += [f"missing: {text}" for text in sorted((other - own).elements())]
            lines += [f"extra:   {text}" for text in sorted((own - other).elements())]
        return lines


def shown(lines: Iterable[str]) -> str:
    """Return the first lines of many, as a message prints them."""
    listed = list(lines)
    more = [f"and {len(listed) - _MOST_SHOWN} more"] if len(listed) > _MOST_SHOWN else []
    return "\n".join(f"    {line}" for line in [*listed[:_MOST_SHOWN], *more]).replace(LOOSE, "")


def load(since: datetime) -> Rows:
    """Return the rows of all models, without surrogate keys.

    Args:
        since: the begin of the sweep; a later time was read from the clock.
    """
    found: Rows = {}
    for model, alias in _tables():
        found |= _rows(model, alias, since)
    return found


def exact() -> Exact:
    """Return the rows of all models, with all values that their own tables have."""
    found: Exact = {}
    for model, alias in _tables():
        names = [field.attname for field in model._meta.local_concrete_fields]
        with suppress(DatabaseOperationForbidden):  # the test may not use this database
            for key, *values in model._base_manager.using(alias).values_list("pk", *names):
                found[model, alias, key] = dict(zip(names, values, strict=True))
    return found


def column(model: type[models.Model], name: str) -> Counter[str]:
    """Return how often there is each value of a field in the rows of a model, as a text."""
    found: Counter[str] = Counter()
    for alias in connections:
        if router.allow_migrate_model(alias, model):
            with suppress(DatabaseOperationForbidden):
                values = model._base_manager.using(alias).values_list(name, flat=True)
                found.update(map(str, values))
    return found


def _tables() -> Iterator[tuple[type[models.Model], str]]:
    """Yield the models that have tables of their own, with the alias of each database of these."""
    for model in apps.get_models(include_auto_created=True):
        if model._meta.managed and not model._meta.proxy and not model._meta.swapped:
            for alias in connections:
                if router.allow_migrate_model(alias, model):
                    yield model, alias


def texts(found: Rows, without: Container[Column] = ()) -> Counter[str]:
    """Return rows as texts, with their numbers; a foreign key is the row that it refers to.

    Args:
        found: the rows.
        without: columns that are left out.
    """
    return Counter(text_of(found, model, key, without) for model, key in found)


def text_of(found: Rows, model: Any, key: object, without: Container[Column] = ()) -> str:
    """Return a row as a text."""
    return _text(found, model, key, _DEPTH, without)


def loose(text: str) -> str:
    """Return a text with a mark before each number, as it may be the key of a row."""
    return _DIGITS.sub(lambda digits: f"{LOOSE}{digits[0]}", text)


def differing(one: Rows, other: Rows) -> set[Column]:
    """Return the columns whose values are others in two runs that do the same."""
    seen = [_by_column(rows) for rows in (one, other)]
    return {
        column for column in seen[0].keys() | seen[1].keys() if seen[0][column] != seen[1][column]
    }


def _by_column(found: Rows) -> defaultdict[Column, Counter[str]]:
    columns: defaultdict[Column, Counter[str]] = defaultdict(Counter)
    for (model, _), values in found.items():
        for name, value in values.items():
            if not isinstance(value, _Reference):
                columns[model, name][repr(value)] += 1
    return columns


def _rows(model: type[models.Model], alias: str, since: datetime) -> Rows:
    fields = [field for field in model._meta.concrete_fields if not _is_by_chance(field)]
    names = [field.attname for field in fields]
    try:
        rows = list(model._base_manager.using(alias).values_list("pk", *names))
    except DatabaseOperationForbidden:  # the test may not use this database
        return {}
    return {
        (model, key): {
            field.name: _Reference(field.related_model, value)
            if field.is_relation and value is not None
            else plain(value, since)
            for field, value in zip(fields, values, strict=True)
        }
        for key, *values in rows
    }


class _Reference(NamedTuple):
    model: Any
    key: object


def _is_by_chance(field: Any) -> bool:
    """Return whether the value of a column differs from run to run."""
    if isinstance(field, models.AutoField) or getattr(field, "auto_now", False):
        return True
    if getattr(field, "auto_now_add", False):
        return True
    kinds = (models.UUIDField, models.DateTimeField, models.DateField, models.TimeField)
    return isinstance(field, kinds) and callable(field.default)


def plain(value: Any, since: datetime) -> Any:
    """Return a value, or ``now`` for a time that the clock has given."""
    if isinstance(value, datetime):
        start = since if value.tzinfo is not None else since.replace(tzinfo=None)
        return "now" if value >= start else value
    return value


def _text(
    rows: Rows, model: type[models.Model], key: object, depth: int, without: Container[Column]
) -> str:
    values = rows.get((model._meta.concrete_model or model, key), {})
    parts = []
    for name, value in values.items():
        if (model, name) in without:
            continue
        shown = loose(repr(value)) if isinstance(value, str) else repr(value)
        if isinstance(value, _Reference):
            shown = _text(rows, value.model, value.key, depth - 1, without) if depth else "…"
        parts.append(f"{name}={shown}")
    return f"{model._meta.label}({', '.join(parts)})"

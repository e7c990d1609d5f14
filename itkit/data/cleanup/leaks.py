"""Rows that tested code has made and the manager does not know."""

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from django.db import DEFAULT_DB_ALIAS, models
from django.db.models.signals import post_save

from itkit.conf import DATA_LEAKS, DataLeaks
from itkit.data.cleanup import ledger, rows
from itkit.data.cleanup.rows import Row, TrackedRows, concrete
from itkit.data.factories import lookup
from itkit.data.factories.lookup import all_rows
from itkit.exceptions import DataError, LeakedRowsError
from itkit.timeline import callsite

Model = type[models.Model]

_SHOWN: Final = 20


@dataclass(frozen=True)
class Leak:
    """A row that the manager did not know.

    Attributes:
        row: the row that has leaked.
        site: the line that saved it; None if it was not saved by ``save()`` in this process.
        references: a row known to the manager that it refers to, or None.
        references_site: the line that saved that row.
    """

    row: Row
    site: callsite.CallSite | None
    references: Row | None
    references_site: callsite.CallSite | None

    def __str__(self) -> str:
        text = f"{self.row.model._meta.label} {self.row.pk}"
        if self.site is not None:
            text += f", saved at {self.site}"
        if self.references is not None:
            text += f", references {self.references.model._meta.label} {self.references.pk}"
            text += f" of {self.references_site}" if self.references_site else ""
        return text


class _Count(Protocol):
    """How new rows are distinguished from old ones."""

    def begin(self) -> None: ...
    def new(self) -> Iterator[Row]: ...
    def end(self) -> None: ...


class Watch:
    """Looks for leaks, from its creation until ``close()``.

    Args:
        mode: ``report`` warns of leaks and ``fail`` raises an error; both compare the tables before
            and after. ``exact`` raises an error too, and lets the database note each new row.
        using: alias of ``DATABASES``.

    Raises:
        DataError: the mode is unknown, or the database does not support it.
    """

    def __init__(self, mode: DataLeaks, using: str | None) -> None:
        if mode not in DATA_LEAKS:
            known = ", ".join(map(repr, DATA_LEAKS))
            raise DataError(f"leaks is {mode!r}, expected one of {known}.")
        self._mode = mode
        self._using = using or DEFAULT_DB_ALIAS
        self._sites: dict[Row, callsite.CallSite] = {}
        self._count: _Count | None = None
        if mode != "off":
            tables = lookup.tables(self._using)
            kind = _Ledger if mode == "exact" else NewRows
            self._count = kind(self._using, tables)
            self._count.begin()
            post_save.connect(self._note_site)

    def leaks(self, tracked: TrackedRows) -> list[Leak]:
        """Return the new rows that still exist and that nobody tracks.

        Rows in a transaction that can only be rolled back are no leaks.
        """
        if self._count is None or rows.is_broken(self._using):
            return []
        known = {each for row in tracked for each in (row, *row.inherited)}
        found: dict[Model, list[Row]] = defaultdict(list)
        for row in self._count.new():
            if row not in known:
                found[row.model].append(row)
        referenced = {
            row: target
            for model, rows in found.items()
            for row, target in _referenced(model, rows, known)
        }
        return [self._leak(row, referenced.get(row)) for rows in found.values() for row in rows]

    def _leak(self, row: Row, references: Row | None) -> Leak:
        of_references = self._sites.get(references) if references else None
        return Leak(row, self._sites.get(row), references, of_references)

    def close(self) -> None:
        """Stop looking."""
        if self._count is not None:
            post_save.disconnect(self._note_site)
            count, self._count = self._count, None
            count.end()

    def judge(self, leaks: list[Leak]) -> None:
        """Warn of leaks, or raise an error.

        Raises:
            LeakedRowsError: there are leaked rows, and the mode forbids them.
        """
        if not leaks:
            return
        if self._mode != "report":
            raise LeakedRowsError(_message(leaks))
        warnings.warn(_message(leaks), RuntimeWarning, stacklevel=2)

    def _note_site(self, *, instance: models.Model, created: bool, **_: object) -> None:
        if created:
            frame = callsite.caller(sys._getframe(1))
            self._sites[Row.of(instance)] = callsite.site(frame.f_globals, frame.f_lineno)


class NewRows:
    """Compares the tables: by their highest key, or by all keys where no sequence gives them."""

    def __init__(self, using: str, tables: list[Model]) -> None:
        self._using = using
        self._tables = tables
        self._highest: dict[Model, int] = {}
        self._keys: dict[Model, set[Any]] = {}

    def begin(self) -> None:
        """Remember the rows that exist."""
        for model in self._tables:
            if isinstance(model._meta.pk, models.AutoField):
                self._highest[model] = all_rows(model, self._using).aggregate(
                    highest=models.Max("pk", default=0)
                )["highest"]
            else:
                self._keys[model] = set(_keys(model, self._using))

    def new(self) -> Iterator[Row]:
        """Yield the rows that were added since."""
        for model, highest in self._highest.items():
            for key in _keys(model, self._using, pk__gt=highest):
                yield Row(self._using, model, key)
        for model, keys in self._keys.items():
            for key in set(_keys(model, self._using)) - keys:
                yield Row(self._using, model, key)

    def end(self) -> None:
        """Stop comparing."""


class _Ledger:
    """Lets the database note new rows."""

    def __init__(self, using: str, tables: list[Model]) -> None:
        self._using = using
        self._tables = tables

    def begin(self) -> None:
        ledger.open_in(self._using, self._tables)

    def new(self) -> Iterator[Row]:
        noted = ledger.noted_in(self._using)
        for model in self._tables:
            keys = [model._meta.pk.to_python(key) for key in noted.get(model._meta.db_table, ())]
            for start in range(0, len(keys), 1000):
                for key in _keys(model, self._using, pk__in=keys[start : start + 1000]):
                    yield Row(self._using, model, key)

    def end(self) -> None:
        ledger.close_in(self._using)


def _keys(model: Model, using: str, **conditions: Any) -> Iterator[Any]:
    return all_rows(model, using).filter(**conditions).values_list("pk", flat=True).iterator()


def _referenced(model: Model, rows: list[Row], known: set[Row]) -> Iterator[tuple[Row, Row]]:
    """Yield the rows of a model, each with a known row that it refers to, if there is one."""
    by_key = {row.pk: row for row in rows}
    keys = [key for key in lookup.foreign_keys(model) if key.target_field.primary_key]
    columns = [key.attname for key in keys]
    using = rows[0].using
    for pk, *values in all_rows(model, using).filter(pk__in=by_key).values_list("pk", *columns):
        for key, value in zip(keys, values, strict=True):
            target = Row(using, concrete(key.related_model), value)
            if target in known:
                yield by_key[pk], target
                break


def _message(leaks: list[Leak]) -> str:
    lines = [str(leak) for leak in leaks[:_SHOWN]]
    if len(leaks) > _SHOWN:
        lines.append(f"and {len(leaks) - _SHOWN} more")
    rows = "1 row" if len(leaks) == 1 else f"{len(leaks)} rows"
    return "\n  ".join(
        [
            f"{rows} that the test has made and the data manager does not know:",
            *lines,
            (
                "They have been removed. To let it know them, call data.track(…), or run the code "
                "that makes them in `with data.capture():`."
            ),
        ]
    )

"""Snapshots of rows in Postgres: copied out once, and restored as often as tests want them.

A snapshot is a file: a description as JSON, and the rows of each table as the binary COPY of
Postgres, which is about the fastest way to write rows.
"""

import json
import os
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.db import connections, models

from itkit.data.bulk import insertion, keys
from itkit.data.cleanup.rows import Row, concrete
from itkit.data.factories import lookup

Model = type[models.Model]
Keys = dict[Model, set[Any]]

_CONTENTS: Final = "contents.json"
_KEPT: Final = 4  # files of one name that are kept


class ConflictError(Exception):
    """The rows conflict with the database and cannot be restored."""


@dataclass
class TableRows:
    """The rows of one model's own table.

    Attributes:
        model: label of the model.
        columns: the names of the columns.
        keys: the keys of the rows, as text.
        outside: the keys of rows that these refer to and that are not among them, by the label of
            the model.
        sequence: the sequence that gives the keys, or None.
        last: the highest key that the sequence has given.
    """

    model: str
    columns: list[str]
    keys: list[str]
    outside: dict[str, list[str]]
    sequence: str | None
    last: int


@dataclass
class RowSnapshot:
    """Rows, and the names by which a test reaches them.

    Attributes:
        tables: the rows of each table.
        world: references to rows, or plain values, by their names.
        rows: the copy of each table, by the model's label.
    """

    tables: list[TableRows]
    world: Any
    rows: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def take(cls, using: str, rows: Iterable[Row], world: Any) -> "RowSnapshot":
        """Copy rows out of a database."""
        by_model: Keys = defaultdict(set)
        for row in rows:
            by_model[row.model].add(row.pk)
        snapshot = cls([], world)
        for model in list(by_model):
            table = _described(using, model, by_model)
            snapshot.tables.append(table)
            snapshot.rows[table.model] = _copied(using, model, table)
        return snapshot

    def restore(self, using: str) -> None:
        """Copy the rows back, and let the sequences continue after their keys.

        Raises:
            ConflictError: a row refers to one that does not exist.
            DatabaseError: the database refuses the rows, for example because they exist already.
        """
        for table in self.tables:
            for label, outside in table.outside.items():
                _check_there(using, label, outside, table.model)
        for table in self.tables:
            _put_back(using, table, self.rows[table.model])

    def keys(self, using: str) -> Iterator[Row]:
        """Yield the rows as they are in a database."""
        for table in self.tables:
            model = apps.get_model(table.model)
            for key in table.keys:
                yield Row(using, model, model._meta.pk.to_python(key))

    def write(self, path: Path) -> None:
        """Write the file, completely or not at all, and remove old files of the same name."""
        writer = f"{os.getpid()}.{threading.get_ident()}"
        partial = path.with_name(f"{path.name}.{writer}.partial")
        with zipfile.ZipFile(partial, "w") as file:
            contents = {"tables": [asdict(table) for table in self.tables], "world": self.world}
            file.writestr(_CONTENTS, json.dumps(contents))
            for name, copied in self.rows.items():
                file.writestr(name, copied)
        partial.rename(path)
        kind = path.name.rpartition("-")[0]
        found = sorted(path.parent.glob(f"{kind}-*"), key=_last_change)
        for old in found[:-_KEPT]:
            old.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> "RowSnapshot | None":
        """Read a file; None if there is no file or it cannot be read."""
        with suppress(OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            with zipfile.ZipFile(path) as file:
                contents = json.loads(file.read(_CONTENTS))
                tables = [TableRows(**table) for table in contents["tables"]]
                rows = {table.model: file.read(table.model) for table in tables}
            return cls(tables, contents["world"], rows)
        return None


def _last_change(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another worker has just removed it
        return 0.0


def _described(using: str, model: Model, rows: Keys) -> TableRows:
    counted = keys.counted(model)
    is_counted = counted is model._meta.pk  # or a parent's table gives the key, or no sequence does
    return TableRows(
        model=model._meta.label,
        columns=[item.column for item in lookup.written_fields(model)],
        keys=sorted(map(str, rows[model])),
        outside=dict(_outside(using, model, rows)),
        sequence=keys.sequence(counted, using) if is_counted else None,
        last=max(rows[model]) if is_counted else 0,
    )


def _outside(using: str, model: Model, keys: Keys) -> Iterator[tuple[str, list[str]]]:
    """Yield the keys of other rows that these refer to, which migrations or the test have made."""
    found: dict[Model, set[Any]] = defaultdict(set)
    rows = lookup.all_rows(model, using)
    for item in model._meta.local_concrete_fields:
        if isinstance(item, models.ForeignKey) and item.target_field.primary_key:
            target = concrete(item.related_model)
            own = rows.filter(pk__in=keys[model]).exclude(**{item.attname: None})
            found[target] |= set(own.values_list(item.attname, flat=True)) - keys.get(target, set())
    for target, outside in found.items():
        if outside:
            yield target._meta.label, sorted(map(str, outside))


def _copied(using: str, model: Model, table: TableRows) -> bytes:
    connection: Any = connections[using]
    quote = connection.ops.quote_name
    key = model._meta.pk
    columns = ", ".join(map(quote, table.columns))
    statement = (
        f"COPY (SELECT {columns} FROM {quote(model._meta.db_table)} WHERE {quote(key.column)} ="  # noqa: S608 - names of the model's
        f" ANY(%s::{key.rel_db_type(connection)}[])) TO STDOUT (FORMAT BINARY)"
    )
    return insertion.copy_out(statement, [table.keys], using)


def _put_back(using: str, table: TableRows, rows: bytes) -> None:
    model = apps.get_model(table.model)
    insertion.copy_in(model, table.columns, using, rows)
    if table.sequence is not None:
        sequence = connections[using].ops.quote_name(table.sequence)
        with connections[using].cursor() as cursor:
            cursor.execute(
                f"SELECT setval(%s, greatest(%s, last_value)) FROM {sequence}",  # noqa: S608 - as above
                [sequence, table.last],
            )


def _check_there(using: str, label: str, needed: list[str], by: str) -> None:
    found = lookup.all_rows(apps.get_model(label), using).filter(pk__in=needed).count()
    if found != len(needed):
        keys = ", ".join(needed[:5])
        raise ConflictError(f"{by} refers to {label} {keys}, and not all of them exist")

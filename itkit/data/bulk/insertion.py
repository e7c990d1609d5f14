"""Writes planned instances, which have their keys, into their tables: by one INSERT or COPY.

Since the keys are known before any row is written, references among planned rows are complete at
once, also in cycles: Postgres checks Django's foreign keys when the transaction ends.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Final

from django.db import connections, models

from itkit.data.bulk import keys
from itkit.data.factories import lookup

Model = type[models.Model]
Instances = Sequence[models.Model]

_ROWS_PER_STATEMENT: Final = 2000  # Postgres takes 65,535 parameters


def insert(model: Model, instances: Instances, using: str, *, copy: bool) -> None:
    """Write the rows of a model; the rows of its parents' tables come first."""
    _complete_references(model, instances)
    for table in keys.tables(model):
        if copy:
            _copy_into(table, instances, using)
        elif len(keys.tables(model)) == len(table._meta.pk_fields) == 1:
            # The model's managers are not used: those that do more than Django's are obstacles.
            lookup.all_rows(table, using).bulk_create(instances, batch_size=_ROWS_PER_STATEMENT)
        else:
            _insert_into(table, instances, using)
    for instance in instances:
        instance._state.adding = False
        instance._state.db = using


def _complete_references(model: Model, instances: Sequence[Any]) -> None:
    """Copy the keys that assigned objects have received since, as ``save()`` does.

    Raises:
        ValueError: one of the objects has not been saved.
    """
    names = [(key.attname, key.name) for key in lookup.foreign_keys(model)]
    for instance in instances:
        values, cached = vars(instance), instance._state.fields_cache
        if any(values[attname] is None and cached.get(name) is not None for attname, name in names):
            instance._prepare_related_fields_for_save(operation_name="save")


def obstacle_to_copy(model: Model, instances: Instances, using: str) -> str | None:
    """Return why the rows cannot be written by COPY, or None."""
    return _obstacle_of_tables(model, using) or _obstacle_of_values(instances)


def _obstacle_of_tables(model: Model, using: str) -> str | None:
    with connections[using].cursor() as cursor:
        if not hasattr(cursor, "copy"):
            return "COPY needs psycopg 3"
    for table in keys.tables(model):
        for field in table._meta.local_concrete_fields:
            if field.generated or field.has_db_default():
                return f"{field.name} is filled by the database"
            if _may_be_written_by_expression(field):
                return f"{field.name} is written by an expression"
    return None


def _may_be_written_by_expression(field: Any) -> bool:
    if isinstance(field, models.BinaryField):  # an error only on other databases
        return False
    return hasattr(field, "get_placeholder") or hasattr(field, "get_placeholder_sql")


def _obstacle_of_values(instances: Instances) -> str | None:
    for instance in instances:
        for name, value in vars(instance).items():
            if hasattr(value, "resolve_expression"):
                return f"a value of {name} is an expression"
    return None


def _insert_into(table: Model, instances: Instances, using: str) -> None:
    # bulk_create() refuses models that inherit tables, and fails where a part of a composite key is
    # filled as the row is written. Only save() accepts them publicly.
    fields = lookup.written_fields(table)
    returning = [item for item in table._meta.db_returning_fields if not item.primary_key]
    rows: Any = lookup.all_rows(table, using)  # Django has no public way to insert into one table
    for start in range(0, len(instances), _ROWS_PER_STATEMENT):
        batch = list(instances[start : start + _ROWS_PER_STATEMENT])
        results = rows._insert(batch, fields=fields, returning_fields=returning, using=using)
        for instance, values in zip(batch, results or (), strict=False):
            for field, value in zip(returning, values, strict=True):
                setattr(instance, field.attname, value)


def _copy_into(table: Model, instances: Instances, using: str) -> None:
    connection, fields = connections[using], lookup.written_fields(table)
    with copying(table, [field.column for field in fields], using) as copy:
        for instance in instances:
            copy.write_row([_prepared(field, instance, connection) for field in fields])


@contextmanager
def copying(table: Model, columns: Iterable[str], using: str, how: str = "") -> Iterator[Any]:
    """Open a COPY into columns of a table; ``how`` is the text of its options."""
    connection: Any = connections[using]
    statement = _copy_statement(table, columns, using, how)
    # Django converts the errors of execute() to its own classes, but not those of copy().
    translated = connection.wrap_database_errors
    with connection.cursor() as cursor, translated, cursor.copy(statement) as copy:
        yield copy


def copy_out(statement: str, parameters: Sequence[Any], using: str) -> bytes:
    """Return the bytes that a ``COPY … TO STDOUT`` sends."""
    connection: Any = connections[using]
    with connection.cursor() as cursor:
        if hasattr(cursor, "copy"):
            with cursor.copy(statement, parameters) as copy:
                return b"".join(map(bytes, copy))
        found = BytesIO()
        cursor.copy_expert(cursor.mogrify(statement, parameters), found)  # psycopg2
        return found.getvalue()


def copy_in(table: Model, columns: Iterable[str], using: str, rows: bytes) -> None:
    """Write rows that ``copy_out`` has returned into columns of a table.

    Args:
        table: the model of the table.
        columns: the names of the columns.
        using: alias of the database.
        rows: the rows, in the binary format.
    """
    connection: Any = connections[using]
    with connection.cursor() as cursor, connection.wrap_database_errors:
        if hasattr(cursor, "copy"):
            with copying(table, columns, using, "(FORMAT BINARY)") as copy:
                copy.write(rows)
        else:
            statement = _copy_statement(table, columns, using, "(FORMAT BINARY)")
            cursor.copy_expert(statement, BytesIO(rows))  # psycopg2


def _copy_statement(table: Model, columns: Iterable[str], using: str, how: str) -> str:
    quote = connections[using].ops.quote_name
    target = f"{quote(table._meta.db_table)} ({', '.join(map(quote, columns))})"
    return f"COPY {target} FROM STDIN {how}"


def _prepared(field: Any, instance: models.Model, connection: Any) -> Any:
    return field.get_db_prep_save(field.pre_save(instance, add=True), connection)

"""The references in a database: of models, of constraints without a model, of generic keys."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.apps.registry import Apps
from django.core.exceptions import ValidationError
from django.db import connections, models

from itkit.data.cleanup.rows import concrete
from itkit.data.factories.lookup import tables

Model = type[models.Model]

# Since Django 6.1 the database itself can set null.
_NULLING: Final = (models.SET_NULL, getattr(models, "DB_SET_NULL", models.SET_NULL))
_NO_MODEL: Final = "itkit_undeclared"
_CONSTRAINTS: Final = """
    SELECT child.relname, referring.attname,
           format_type(referring.atttypid, referring.atttypmod), parent.relname, referred.attname
      FROM pg_constraint
      JOIN pg_class child ON child.oid = conrelid
      JOIN pg_class parent ON parent.oid = confrelid
      JOIN pg_attribute referring ON (referring.attrelid, referring.attnum) = (conrelid, conkey[1])
      JOIN pg_attribute referred ON (referred.attrelid, referred.attnum) = (confrelid, confkey[1])
     WHERE contype = 'f' AND cardinality(conkey) = 1 AND conparentid = 0
       AND child.relkind = 'r' AND child.relnamespace = current_schema()::regnamespace
       AND confdeltype NOT IN ('n', 'd')
"""


class Reference(NamedTuple):
    """A column that refers to another column by its values.

    Attributes:
        model: the model whose rows refer; a stand-in made by itkit for a table without a model.
        column: the attribute of these rows.
        target: the model that is referred to.
        target_column: the attribute of the target, ``pk`` for its key.
        is_nulling: whether the column becomes null when the row that it refers to is deleted.
    """

    model: Model
    column: str
    target: Model
    target_column: str
    is_nulling: bool


class GenericReference(NamedTuple):
    """A pair of columns, a content type's key and a row's, that may refer to any model."""

    model: Model
    kind: str
    column: str

    def values(self, keys: set[Any]) -> set[Any]:
        """Return keys as values of the column, without keys that the column cannot hold."""
        field: Any = self.model._meta.get_field(self.column)
        found = set()
        for key in keys:
            try:
                found.add(field.to_python(str(key)))
            except ValidationError:  # the column holds numbers, and the key is none
                continue
        return found


@dataclass
class References:
    """All references within a database.

    Attributes:
        to: the references to a model, by that model.
        generic: the references that may be to any model.
    """

    to: dict[Model, list[Reference]]
    generic: list[GenericReference]
    _kinds: dict[tuple[str, str], int]

    @classmethod
    def of(cls, using: str) -> "References":
        """Read the references of a database."""
        to: dict[Model, list[Reference]] = defaultdict(list)
        declared = list(_declared(using))
        for reference in (*declared, *_undeclared(using, declared)):
            to[reference.target].append(reference)
        generic = list(_generic(using))
        return cls(to, generic, dict(_content_types(using)) if generic else {})

    def kinds(self, model: Model) -> list[int]:
        """Return the keys of the content types of a model and of its proxies."""
        names = {
            (kind._meta.app_label, kind._meta.model_name or "")
            for kind in (model, *apps.get_models())
            if concrete(kind) is model
        }
        return [self._kinds[name] for name in names if name in self._kinds]


def label(model: Model) -> str:
    """Return the name of a model in a report; for a table without a model, the table's name."""
    return model._meta.db_table if model._meta.app_label == _NO_MODEL else model._meta.label


def _declared(using: str) -> Iterator[Reference]:
    for model in tables(using, with_links=True):
        for field in model._meta.local_fields:
            if isinstance(field, models.ForeignKey):
                target = field.target_field
                yield Reference(
                    model=model,
                    column=field.attname,
                    target=concrete(field.related_model),
                    target_column="pk" if target.primary_key else target.attname,
                    is_nulling=field.remote_field.on_delete in _NULLING,
                )


def _undeclared(using: str, declared: list[Reference]) -> Iterator[Reference]:
    """Yield the foreign keys in the catalogue of Postgres that no model declares.

    Foreign keys that the database itself sets to null are left out.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        return
    known = {(item.model._meta.db_table, _column_of(item)) for item in declared}
    by_table = {model._meta.db_table: model for model in tables(using, with_links=True)}
    with connection.cursor() as cursor:
        cursor.execute(_CONSTRAINTS)
        found = [row for row in cursor.fetchall() if row[:2] not in known]
    for table in {name for row in found for name in (row[0], row[3])} - by_table.keys():
        by_table[table] = _stand_in(table)
    for table, column, type_, parent_table, parent_column in found:
        child, parent = by_table[table], by_table[parent_table]
        yield Reference(
            model=child,
            column=_attribute(child, column, type_),
            target=parent,
            target_column=_attribute(parent, parent_column, type_),
            is_nulling=False,
        )


def _generic(using: str) -> Iterator[GenericReference]:
    if not apps.is_installed("django.contrib.contenttypes"):
        return
    from django.contrib.contenttypes.fields import GenericForeignKey

    for model in tables(using):
        for field in model._meta.private_fields:
            if isinstance(field, GenericForeignKey) and field.model is model:
                kind = model._meta.get_field(field.ct_field)
                yield GenericReference(model, kind.attname, field.fk_field)


def _content_types(using: str) -> Iterator[tuple[tuple[str, str], int]]:
    from django.contrib.contenttypes.models import ContentType

    if ContentType in tables(using):
        rows = ContentType.objects.using(using).values_list("app_label", "model", "pk")
        for app, model, key in rows:
            yield (app, model), key


def _column(type_: str, **options: Any) -> Any:
    """Return a field whose type only the database knows.

    It has no class of its own, as a project that walks the subclasses of ``Field`` would find it.
    """
    field: Any = models.Field(**options)

    def db_type(connection: Any) -> str:
        del connection
        return type_

    field.db_type = db_type
    return field


def _stand_in(table: str) -> Model:
    """Return a model for a table that has none; its rows are known by their ``ctid``."""
    meta = type(
        "Meta",
        (),
        {"managed": False, "db_table": table, "app_label": _NO_MODEL, "apps": Apps()},
    )
    tuple_id = _column("tid", primary_key=True, db_column="ctid")
    body = {"Meta": meta, "tuple_id": tuple_id, "__module__": __name__}
    return type("Undeclared", (models.Model,), body)


def _column_of(reference: Reference) -> str:
    field: Any = reference.model._meta.get_field(reference.column)
    column: str = field.column
    return column


def _attribute(model: Model, column: str, type_: str) -> str:
    """Return the attribute of a column; add the column to a stand-in that does not have it yet."""
    for field in model._meta.concrete_fields:
        if field.column == column:
            return "pk" if field.primary_key else field.attname
    name = f"column_{len(model._meta.concrete_fields)}"
    model.add_to_class(name, _column(type_, db_column=column))
    return name

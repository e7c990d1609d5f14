"""Looks up names that a test or a setting uses among the installed models and their fields."""

from functools import cache
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models, router

from itkit.core.text import did_you_mean
from itkit.exceptions import DataError

Model = type[models.Model]
if TYPE_CHECKING:  # generic in Django's stubs only
    Field = models.Field[Any, Any]
    ForeignKey = models.ForeignKey[Any, Any]
    ForeignObject = models.ForeignObject[Any, Any]
else:
    Field = models.Field
    ForeignKey = models.ForeignKey
    ForeignObject = models.ForeignObject


def model_labelled(label: str) -> Model:
    """Return the model of a label such as ``shop.Order``.

    Raises:
        DataError: no such model is installed.
    """
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        hint = label_hint(label)
        raise DataError(f"No installed model is called {label!r}. {hint}") from None


def label_hint(label: str) -> str:
    """Return a hint that offers the model with the nearest label, or all models."""
    return did_you_mean(label, [model._meta.label for model in apps.get_models()])


def models_named(name: str) -> list[Model]:
    """Return the models whose class is called ``name``, ignoring case and underscores."""
    wanted = name.replace("_", "").lower()
    return [model for model in apps.get_models() if model._meta.model_name == wanted]


def tables(using: str, *, with_links: bool = False) -> list[Model]:
    """Return the models whose tables Django makes in a database: no proxies, nothing unmanaged.

    Args:
        using: alias of ``DATABASES``.
        with_links: whether to include the models that Django makes for a ManyToManyField.
    """
    connection = connections[using]
    return [
        model
        for model in apps.get_models(include_auto_created=with_links)
        if model._meta.can_migrate(connection) and router.allow_migrate_model(using, model)
    ]


def all_rows(model: Model, using: str | None) -> models.QuerySet[Any]:
    """Return all rows of a model, also those that its managers hide, as in soft deletion."""
    return models.QuerySet(model, using=using)


def field_of(model: Model, name: str) -> Field | None:
    """Return a model's own field by its name or the name of its column (``user_id``), or None."""
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return field if isinstance(field, models.Field) else None


@cache
def foreign_key_by_id(model: Model, name: str) -> ForeignKey | None:
    """Return the foreign key whose id is called ``name`` (``user_id``), or None."""
    field = field_of(model, name)
    return field if isinstance(field, models.ForeignKey) and name != field.name else None


def row(key: ForeignKey, value: Any, using: str | None) -> Any:
    """Return the row that a foreign key with this value references.

    Raises:
        DataError: no row has this value.
    """
    target = key.related_model
    found = all_rows(target, using).filter(**{key.target_field.attname: value}).first()
    if found is None:
        raise DataError(
            f"{key.attname}={value!r}: there is no such {target._meta.label}. "
            f"Create it first, or pass {key.name}=…."
        )
    return found


def field_names(model: Model) -> list[str]:
    """Return the names of a model's fields; relations have two names."""
    fields = model._meta.fields
    return sorted({field.name for field in fields} | {field.attname for field in fields})


def written_fields(table: Model) -> list[Any]:
    """Return the fields of a model's own table that store the value that they are given."""
    return [field for field in table._meta.local_concrete_fields if not field.generated]


@cache
def foreign_objects(model: Model) -> tuple[ForeignObject, ...]:
    """Return a model's references by several columns, which ``ForeignObject`` declares."""
    return tuple(field for field in model._meta.fields if type(field) is models.ForeignObject)


@cache
def foreign_keys(model: Model) -> tuple[ForeignKey, ...]:
    """Return a model's foreign keys, without the links to its parents."""
    return tuple(
        field
        for field in model._meta.fields
        if isinstance(field, models.ForeignKey) and field not in field.model._meta.parents.values()
    )

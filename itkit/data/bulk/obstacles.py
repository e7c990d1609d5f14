"""What keeps a row from being written in bulk: code that would notice the missing ``save()``.

An obstacle is a text with the reason why an instance is saved on its own. The obstacles of a
factory and of a model are the same for all their instances; a few depend on the instance.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models
from django.db.models.signals import post_save, pre_save

from itkit.data.bulk import keys
from itkit.data.factories.factories import Factory, is_inherited

Model = type[models.Model]

_SAVING: Final = ("save", "save_base", "_save_parents", "_save_table", "_do_insert")
_USER: Final = "django.contrib.auth.base_user"  # its save() only completes set_password()
_MAKING: Final = ("_create", "_get_or_create", "_get_manager")  # by which a factory makes instances
_ENTERING: Final = ("create", "_generate")  # the methods of a factory


def of_factory(factory: Factory) -> str | None:
    """Return why no instance of a factory can be planned, or None."""
    reason = _of_methods(factory, _MAKING)
    if reason is None and factory._meta.django_get_or_create:
        reason = f"{factory.__name__} has django_get_or_create"
    return reason or _of_manager(factory._meta.get_model_class())


def of_entry(factory: Factory) -> str | None:
    """Return why a factory has to be called by its own ``create()``, or None."""
    return _of_methods(factory, _ENTERING)


def _of_methods(factory: Factory, names: Iterable[str]) -> str | None:
    from factory.django import DjangoModelFactory

    for name in names:
        if not is_inherited(factory, name, DjangoModelFactory):
            return f"{factory.__name__} has a {name}() of its own"
    return None


def of_model(model: Model, using: str) -> str | None:
    """Return why no row of a model can be written in bulk to a database, or None."""
    return _of_class(model) or _of_receivers(model) or _of_key(model, using)


def of_instance(instance: models.Model) -> str | None:
    """Return why this instance cannot wait for the others of its model, or None."""
    if getattr(instance, "_password", None) is not None:
        return "set_password() has been called, which save() follows up"
    if hasattr(instance.pk, "resolve_expression"):
        return "its key is an expression"
    for link in _links(type(instance)):
        if getattr(instance, link.attname) is not None:
            return f"{link.name} is given, so that the row of the parent may exist"
    for field in _file_fields(type(instance)):
        file = getattr(instance, field.attname)
        if file and not file._committed:
            return f"{field.name} has a file, which save() stores"
    return None


@cache
def _of_class(model: Model) -> str | None:
    for name in _SAVING:
        owner = next(kind for kind in model.__mro__ if name in vars(kind))
        if owner is not models.Model and owner.__module__ != _USER:
            return f"{owner.__name__} has a {name}() of its own"
    for field in model._meta.concrete_fields:
        if not is_djangos(type(field), "pre_save"):
            return f"{type(field).__name__} of {field.name} fills itself in as the row is saved"
    if model._meta.order_with_respect_to:
        return "order_with_respect_to counts the rows before"
    if len(_roots(model)) > 1:
        return "it inherits several tables with keys of their own"
    if any(not link.primary_key for link in _links(model)):
        return "its link to the table that it inherits is not its key"
    filled = next(_referenced_and_filled_by_database(model), None)
    return filled and f"{filled} is filled by the database, and others refer to it"


def _of_receivers(model: Model) -> str | None:
    for signal, name in ((pre_save, "pre_save"), (post_save, "post_save")):
        # Private, as is every way to find the receivers; the same in Django 5.2 to 6.1.
        for receivers in signal._live_receivers(model):
            for receiver in receivers:
                if not getattr(receiver, "__module__", "").startswith("itkit."):
                    called = getattr(receiver, "__qualname__", type(receiver).__qualname__)
                    return f"{called}() listens to {name}"
    return None


def _of_key(model: Model, using: str) -> str | None:
    field = keys.counted(model)
    if field is None:
        return None
    connection = connections[using]
    if connection.vendor != "postgresql":
        return f"{connection.display_name} has no keys to reserve"
    if keys.sequence(field, using) is None:
        return f"no sequence gives the keys of {field.model._meta.db_table}"
    return None


def _of_manager(model: Model) -> str | None:
    manager: Any = getattr(model, "objects", model._default_manager)
    made_by = type(manager), manager._queryset_class
    for kind in made_by:
        if not is_djangos(kind, "create"):
            return f"{kind.__name__} has a create() of its own"
    return None


def is_djangos(kind: type, method: str) -> bool:
    """Return whether a class has a method from Django, which no other class overrides."""
    owner = next(base for base in kind.__mro__ if method in vars(base))
    return owner.__module__.startswith("django.")


def _roots(model: Model) -> set[Model]:
    """Return the topmost models whose tables a model inherits, or the model itself."""
    return {table for table in keys.tables(model) if not any(table._meta.parents.values())}


@cache
def _links(model: Model) -> tuple[Any, ...]:
    """Return the fields by which the tables of a model refer to those that they inherit."""
    return tuple(
        link for table in keys.tables(model) for link in table._meta.parents.values() if link
    )


def _referenced_and_filled_by_database(model: Model) -> Iterator[str]:
    for table in keys.tables(model):
        if table._meta.pk.has_db_default():
            yield table._meta.pk.name
    for relation in model._meta.related_objects:
        if relation.many_to_many:  # the table of its links is a model of its own
            continue
        for target in _targets(relation.field):
            if target.has_db_default() or target.generated:
                yield target.name


def _targets(reference: Any) -> tuple[Any, ...]:
    try:
        found: tuple[Any, ...] = reference.foreign_related_fields
    except FieldDoesNotExist:  # a ForeignObject may be declared by columns that do not exist
        return ()
    return found


@cache
def _file_fields(model: Model) -> tuple["models.FileField", ...]:
    return tuple(item for item in model._meta.concrete_fields if isinstance(item, models.FileField))

"""Refuses names of values that nothing can take, before anything is made, with the nearest names.

A name is legal if factory_boy, model_bakery and Django's models accept it. A factory, model or
manager with methods of its own may take any name, so that nothing is refused there.
"""

import inspect
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models.fields.related_descriptors import (
    ReverseManyToOneDescriptor,
    ReverseOneToOneDescriptor,
)
from django.db.models.signals import pre_init

from itkit.core.text import did_you_mean
from itkit.data.bulk.obstacles import is_djangos
from itkit.data.factories import factories, lookup, recipes
from itkit.exceptions import DataError

Model = type[models.Model]
Names = tuple[str, ...]

_SPLITTER: Final = "__"  # factory_boy's and model_bakery's
_MAKING: Final = (  # the methods of a factory through which the values pass
    "_adjust_kwargs",
    "_build",
    "_create",
    "_generate",
    "_get_manager",
    "_get_or_create",
    "build",
    "create",
)


class _Asked(NamedTuple):
    """The destination of a value: the name of a factory, or "" for model_bakery, and the model.

    ``path`` is the part before the value's name: ``customer__`` for a value of a sub-factory.
    """

    maker: str
    model: Model
    path: str


def refuse_for_factory(factory: factories.Factory, values: Mapping[str, Any]) -> None:
    """Raise an error for values that neither a factory nor its model can take.

    Raises:
        DataError: there are such values.
    """
    names = _names_of_values(values)
    _refuse(lambda: _of_factory(factory, names, ""))


def refuse_for_recipe(recipe: recipes.Recipe, values: Mapping[str, Any]) -> None:
    """Raise an error for values that neither a recipe of model_bakery nor its model can take.

    Raises:
        DataError: there are such values.
    """
    from model_bakery.recipe import Recipe

    if type(recipe) is Recipe and not _is_bakery_customised():
        known = tuple(recipe.attr_mapping)
        _refuse(lambda: _of_bakery(recipes.model_of(recipe), tuple(values), "", known))


def refuse_for_model(model: Model, values: Mapping[str, Any]) -> None:
    """Raise an error for values that a model made by model_bakery cannot take.

    Raises:
        DataError: there are such values.
    """
    if not _is_bakery_customised():
        _refuse(lambda: _of_bakery(model, tuple(values), ""))


def _refuse(find: Callable[[], Names]) -> None:
    found = find()
    if found:
        # The cached answer may be from an earlier test. Since then the model may have changed, or a
        # receiver of pre_init that takes the value may have been connected.
        _of_factory.cache_clear()
        _of_bakery.cache_clear()
        found = find()
    if found:
        raise DataError("\n".join(found))


def _names_of_values(values: Mapping[str, Any]) -> Names:
    """Return the names of values, without those of values that go to no model."""
    from factory.declarations import SKIP
    from factory.enums import BuilderPhase, get_builder_phase

    return tuple(
        name
        for name, value in values.items()
        if value is not SKIP
        and get_builder_phase(value)  # type: ignore[no-untyped-call]  # factory_boy has no types
        is not BuilderPhase.POST_INSTANTIATION
    )


@cache
def _of_factory(factory: factories.Factory, names: Names, path: str) -> Names:
    meta = factory._meta
    model = meta.get_model_class()
    if model is None or meta.abstract:
        return ()
    declared = {**meta.pre_declarations.declarations, **meta.post_declarations.declarations}
    own = {*declared, *meta.parameters, *meta.exclude, *meta.rename, *meta.inline_args}
    asked = _Asked(factory.__name__, model, path)
    found: list[str] = []
    for first, nested in _grouped(names).items():
        if first in declared:
            if None not in nested:
                found += _of_declaration(factory, first, declared[first], nested, path)
        elif (
            first not in own
            and not (None in nested and _takes(model, first))
            and not _takes_any_name(factory)
        ):
            found += _sentences(asked, first, nested, {*own, *_names(model)})
    return tuple(found)


def _of_declaration(
    factory: factories.Factory, name: str, declared: Any, nested: dict[str | None, str], path: str
) -> Iterator[str]:
    """Yield the mistakes in values such as ``customer__name`` for a declaration of a factory."""
    from factory.declarations import Maybe, RelatedFactory, RelatedFactoryList, SubFactory
    from factory.enums import get_builder_phase

    if type(declared) in (SubFactory, RelatedFactory, RelatedFactoryList):
        target = declared.get_factory()
        if factories.is_factory(target):
            yield from _of_factory(target, _rests(nested), f"{path}{name}{_SPLITTER}")
    elif type(declared) is Maybe:  # a trait declares it as well; one of both has to take it
        choices = [item for item in (declared.yes, declared.no) if get_builder_phase(item)]  # type: ignore[no-untyped-call]
        for rest, value in nested.items():
            found = [
                list(_of_declaration(factory, name, item, {rest: value}, path)) for item in choices
            ]
            if all(found):
                yield from itertools.chain(*found[:1])
    elif get_builder_phase(declared) is None:  # type: ignore[no-untyped-call]
        for rest in _rests(nested):
            yield (
                f"{path}{name}{_SPLITTER}{rest} has no effect: {name} of {factory.__name__} is a "
                f"plain value, not a SubFactory. Pass {path}{name}=…, or leave it out."
            )


@cache
def _of_bakery(model: Model, names: Names, path: str, own: Names = ()) -> Names:
    if _model_takes_any_name(model):
        return ()
    found: list[str] = []
    for first, nested in _grouped(names).items():
        if first in own or first in _options():
            continue
        if not _takes(model, first) and not _reverse_model(model, first):
            known = {*own, *_names(model), *_accessors(model)}
            if first.startswith("_"):
                known |= _options()
            found += _sentences(_Asked("", model, path), first, nested, known)
        elif None not in nested:
            found += _of_related(model, first, _rests(nested), f"{path}{first}{_SPLITTER}")
    return tuple(found)


def _of_related(model: Model, name: str, names: Names, path: str) -> Names:
    """Return the mistakes in values for a row that model_bakery makes along with another one."""
    field = lookup.field_of(model, name)
    if isinstance(field, models.ForeignKey):
        return _of_model(field.related_model, names, path)
    if isinstance(field, models.ManyToManyField):
        return _of_bakery(field.related_model, names, path)
    target = _reverse_model(model, name)
    return () if target is None else _of_bakery(target, names, path)


def _of_model(model: Model, names: Names, path: str) -> Names:
    factory = factories.of_model(model)
    if factory is not None:
        return _of_factory(factory, names, path)
    recipe = recipes.of_model(model, ())
    return _of_bakery(model, names, path, () if recipe is None else tuple(recipe.attr_mapping))


def _grouped(names: Iterable[str]) -> dict[str, dict[str | None, str]]:
    """Return the names by their first part, each with its rest, which is None if it has none."""
    grouped: dict[str, dict[str | None, str]] = defaultdict(dict)
    for name in names:
        first, splitter, rest = name.partition(_SPLITTER)
        grouped[first][rest if splitter else None] = name
    return grouped


def _rests(nested: Iterable[str | None]) -> Names:
    return tuple(rest for rest in nested if rest)


def _sentences(
    asked: _Asked, first: str, nested: Mapping[str | None, str], known: set[str]
) -> Iterator[str]:
    """Yield a sentence for each name whose first part nothing takes."""
    maker, model, path = asked
    label = model._meta.label
    is_option = bool(maker) and first in _options()
    for name in nested.values():
        if _takes(model, first):
            reason = f"{maker} does not declare {first!r}, so nothing is made for it"
            hint = f"Pass {path}{first}=…, or declare it as a SubFactory."
        elif isinstance(inspect.getattr_static(model, first, None), property):
            reason = f"{first!r} is a property of {label} that cannot be set"
            hint = "Leave it out."
        elif is_option:
            reason = f"{first!r} is an option of model_bakery, and {maker} is one of factory_boy"
            hint = "Leave it out."
        else:
            owner = f"neither {maker} nor {label} has a" if maker else f"{label} has no"
            reason = f"{owner} field {first!r}"
            hint = did_you_mean(first, sorted(known))
        yield f"{path}{name}: {reason}. {hint}"


def _takes_any_name(factory: factories.Factory) -> bool:
    from factory.django import DjangoModelFactory, DjangoOptions

    if type(factory._meta) is not DjangoOptions:
        return True
    if not all(factories.is_inherited(factory, name, DjangoModelFactory) for name in _MAKING):
        return True
    model: Model = factory._meta.get_model_class()  # type: ignore[no-untyped-call]
    if _model_takes_any_name(model):
        return True
    manager: Any = getattr(model, "objects", model._default_manager)
    kinds = type(manager), type(manager.get_queryset())
    return not all(
        is_djangos(kind, method) for kind in kinds for method in ("create", "get_or_create")
    )


def _model_takes_any_name(model: Model) -> bool:
    attributes: Any = model
    return (
        type(model).__call__ is not type.__call__
        or attributes.__new__ is not object.__new__
        or attributes.__init__ is not models.Model.__init__
        or pre_init.has_listeners(model)  # a receiver gets the values and may take some out
    )


def _takes(model: Model, name: str) -> bool:
    """Return whether a model's constructor uses a value of this name, or raises an error for it.

    A relation without ``related_name`` has a name for queries. For this name the constructor would
    only set an attribute that nothing reads.
    """
    attribute = inspect.getattr_static(model, name, None)
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return isinstance(attribute, property) and attribute.fset is not None
    return attribute is not None or not isinstance(field, models.ForeignObjectRel)


def _names(model: Model) -> set[str]:
    """Return the names that a message offers: those of fields and of properties that can be set."""
    meta = model._meta
    fields = [*meta.fields, *meta.many_to_many, *meta.private_fields]
    names = {field.name for field in fields}
    names |= {field.attname for field in meta.fields}
    return names | {
        name
        for kind in model.__mro__
        if kind is not models.Model
        for name, item in vars(kind).items()
        if isinstance(item, property) and item.fset is not None
    }


def _accessors(model: Model) -> set[str]:
    return {name for item in model._meta.related_objects if (name := item.get_accessor_name())}


def _reverse_model(model: Model, name: str) -> Model | None:
    """Return the model behind the reverse accessor of a name, or None."""
    if name in {field.name for field in model._meta.private_fields}:  # a GenericRelation
        return None
    descriptor = inspect.getattr_static(model, name, None)
    if isinstance(descriptor, ReverseOneToOneDescriptor):
        return descriptor.related.related_model
    if isinstance(descriptor, ReverseManyToOneDescriptor):  # also of many to many
        rel: Any = descriptor.rel
        if getattr(descriptor, "reverse", True):
            return rel.related_model  # type: ignore[no-any-return]
    return None


def _is_bakery_customised() -> bool:
    return getattr(settings, "BAKER_CUSTOM_CLASS", None) is not None


@cache
def _options() -> frozenset[str]:
    """Return the names of model_bakery's own parameters, such as ``_quantity``."""
    try:
        from model_bakery import baker
    except ImportError:
        return frozenset()

    making: tuple[Any, ...] = (
        baker.make,
        baker.prepare,
        baker.Baker.make,
        baker.Baker.prepare,
        baker.Baker._make,
    )
    return frozenset(
        parameter.name
        for function in making
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD and parameter.name != "self"
    )

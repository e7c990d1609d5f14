"""The project's own factories: found in ``<app>/factories.py`` and ``<app>/tests/factories.py``."""

import copy
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, models

from itkit.core.text import did_you_mean
from itkit.exceptions import DataError

Model = type[models.Model]
Factory = Any  # factory_boy publishes no types
Registry = Mapping[Model, tuple[Factory, ...]]


def of_model(model: Model) -> Factory | None:
    """Return the factory of a model, or None when the project has none for it.

    Where there are several, the one that is named after the model is returned.

    Raises:
        DataError: the project has several, and none is called ``<Model>Factory``.
    """
    found = _registry(modules()).get(model, ())
    if len(found) < 2:
        return found[0] if found else None
    named = [item for item in found if item.__name__ == f"{model.__name__}Factory"]
    if len(named) == 1:
        return named[0]
    raise DataError(
        f"{model._meta.label} has {len(found)} factories: {_listed(found)}. Pass the one that you "
        f"mean to create(), or name the default {model.__name__}Factory."
    )


def is_factory(what: object) -> bool:
    """Return whether ``what`` is a factory of factory_boy that makes rows."""
    # Without an import of factory_boy, which takes up to half a second, there can be none.
    base = getattr(sys.modules.get("factory.django"), "DjangoModelFactory", None)
    return base is not None and isinstance(what, type) and issubclass(what, base)


def is_inherited(factory: Factory, method: str, base: Factory) -> bool:
    """Return whether a factory has a class method from a base, and none of its own."""
    own: object = getattr(getattr(factory, method), "__func__", None)  # a static method has none
    return own is getattr(base, method).__func__


def all_factories() -> list[Factory]:
    """Return all factories of the project."""
    registry = _registry(modules())
    return [factory for found in registry.values() for factory in found]


def traits(factory: Factory) -> list[str]:
    """Return the names of a factory's traits."""
    from factory.declarations import Trait

    return [name for name, item in factory._meta.parameters.items() if isinstance(item, Trait)]


def trait_values(factory: Factory, states: tuple[str, ...]) -> dict[str, bool]:
    """Return the values that switch a factory's traits on.

    Raises:
        DataError: the factory has no such trait.
    """
    if not states:
        return {}
    known = traits(factory)
    for state in states:
        if state not in known:
            hint = did_you_mean(state, known)
            raise DataError(f"{factory.__name__} has no trait {state!r}. {hint}")
    return dict.fromkeys(states, True)


def declares(factory: Factory, name: str) -> bool:
    """Return whether a factory says how the value of ``name`` is made."""
    return name in factory._meta.pre_declarations or name in factory._meta.post_declarations


def hashes(factory: Factory, name: str) -> bool:
    """Return whether a factory turns a given ``name``, such as a password, into something else."""
    from factory.declarations import Transformer

    declaration = factory._meta.base_declarations.get(name)
    return name in factory._meta.post_declarations or isinstance(declaration, Transformer)


def database(factory: Factory) -> str | None:
    """Return the alias of ``DATABASES`` that a factory writes to, or None for the router's."""
    alias: str = factory._meta.database
    return None if alias == DEFAULT_DB_ALIAS else alias


@cache
def on_database(factory: Factory, using: str) -> Factory:
    """Return a factory that writes to another alias of ``DATABASES``, as do those that it uses.

    It continues the sequences of the given factory.
    """
    if not is_factory(factory):  # it makes no rows but, for example, a dict
        return factory
    body = _on_database(factory._meta.base_declarations, using)
    body["Meta"] = type("Meta", (), {"database": using})
    body["Params"] = type("Params", (), _traits_on_database(factory, using))
    return type(factory)(factory.__name__, (factory,), body)


def _on_database(declarations: Mapping[str, Any], using: str) -> dict[str, Any]:
    """Return copies of the declarations that use a factory, which write to another database.

    A declaration has no argument for the database, so a method of each copy is replaced. Checked
    with factory_boy 3.3.
    """
    moved = {}
    for name, declaration in declarations.items():
        if hasattr(declaration, "get_factory"):
            moved[name] = copy.copy(declaration)
            # Called late, because factories may use each other in a circle.
            moved[name].get_factory = partial(_factory_on_database, declaration, using)
    return moved


def _factory_on_database(declaration: Any, using: str) -> Factory:
    return on_database(declaration.get_factory(), using)


def _traits_on_database(factory: Factory, using: str) -> dict[str, Any]:
    from factory.declarations import Trait

    return {
        name: Trait(  # type: ignore[no-untyped-call]  # factory_boy publishes no types
            **(trait.overrides | _on_database(trait.overrides, using))
        )
        for name, trait in factory._meta.parameters.items()
        if isinstance(trait, Trait)
    }


def modules() -> tuple[ModuleType, ...]:
    """Return the modules in which factories are found."""
    return modules_named("factories", "tests.factories")


@cache
def _registry(modules: tuple[ModuleType, ...]) -> Registry:
    found: dict[Model, dict[Factory, None]] = defaultdict(dict)
    for module in modules:
        for model, factory in _factories_in(module):
            found[model][factory] = None
    return {model: tuple(factories) for model, factories in found.items()}


def _factories_in(module: ModuleType) -> Iterator[tuple[Model, Factory]]:
    for _, item in inspect.getmembers(module, is_factory):
        if not item._meta.abstract:
            yield item._meta.get_model_class(), item


def _listed(factories: tuple[Factory, ...]) -> str:
    return ", ".join(f"{item.__module__}.{item.__name__}" for item in factories)


def modules_named(*names: str) -> tuple[ModuleType, ...]:
    """Return the modules of the installed apps that have a name, such as ``factories``."""
    return _modules(tuple(apps.app_configs), names)


@cache
def _modules(labels: tuple[str, ...], names: tuple[str, ...]) -> tuple[ModuleType, ...]:
    paths = [f"{apps.get_app_config(label).name}.{name}" for label in labels for name in names]
    return tuple(import_module(path) for path in paths if _is_there(path))


def _is_there(path: str) -> bool:
    parent = find_spec(path.rpartition(".")[0])
    # A tests.py is no package, and an import would run the module of the tests.
    return bool(parent and parent.submodule_search_locations and find_spec(path))

"""The project's own recipes of model_bakery: found in ``<app>/baker_recipes.py``."""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, TypeGuard

from django.apps import apps
from django.db import models

from itkit.core.text import did_you_mean
from itkit.data.factories import factories
from itkit.exceptions import DataError

Model = type[models.Model]
Recipe = Any  # model_bakery is loaded when it is needed


def is_recipe(what: object) -> TypeGuard[Recipe]:
    """Return whether ``what`` is a recipe of model_bakery."""
    try:
        from model_bakery.recipe import Recipe as RecipeClass
    except ImportError:
        return False  # model_bakery is not there, so there is none

    return isinstance(what, RecipeClass)


def of_model(model: Model, states: tuple[str, ...]) -> Recipe | None:
    """Return the recipe of a state; without a state, the recipe with the model's name, or None.

    Raises:
        DataError: the recipe does not exist, or several are asked for at once.
    """
    known = _registry(modules()).get(model, {})
    if not states:
        return known.get(model._meta.model_name or "")
    if len(states) > 1:
        raise DataError(
            f"{model._meta.label} is made by model_bakery, where {', '.join(map(repr, states))} "
            "are recipes: only one can be followed. Extend one by the other in baker_recipes.py."
        )
    if states[0] not in known:
        raise DataError(_unknown(model, states[0], known))
    return known[states[0]]


def modules() -> tuple[ModuleType, ...]:
    """Return the modules in which recipes are found."""
    return factories.modules_named("baker_recipes")


def model_of(recipe: Recipe) -> Model:
    """Return the model of the instances that a recipe makes."""
    model = recipe._model
    return apps.get_model(model) if isinstance(model, str) else model


def _unknown(model: Model, state: str, known: Mapping[str, Recipe]) -> str:
    if known:
        hint = did_you_mean(state, dict(known))
        return (
            f"There is no recipe {state!r} of {model._meta.label} in any baker_recipes.py. {hint}"
        )
    app = model._meta.app_config.name
    return (
        f"{model._meta.label} has no factory, so it has no state {state!r}. Write "
        f"{model.__name__}Factory in {app}/factories.py with the state as a factory.Trait, a "
        f"recipe called {state} in {app}/baker_recipes.py, or pass the values."
    )


@cache
def _registry(modules: tuple[ModuleType, ...]) -> Mapping[Model, Mapping[str, Recipe]]:
    found: dict[Model, dict[str, Recipe]] = defaultdict(dict)
    for module in modules:
        for name, item in vars(module).items():
            if is_recipe(item):
                found[model_of(item)][name] = item
    return found

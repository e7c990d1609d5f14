"""Modules that a project keeps in its apps under a name that is agreed on."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from django.apps import apps


def modules(*names: str) -> tuple[ModuleType, ...]:
    """Return the modules of the installed apps that are called so, such as ``factories``."""
    return _modules(tuple(apps.app_configs), names)


@cache
def _modules(labels: tuple[str, ...], names: tuple[str, ...]) -> tuple[ModuleType, ...]:
    places = [f"{apps.get_app_config(label).name}.{name}" for label in labels for name in names]
    return tuple(import_module(place) for place in places if _is_there(place))


def _is_there(place: str) -> bool:
    parent = find_spec(place.rpartition(".")[0])
    # A tests.py is no package, and to import it would run the tests' module.
    return bool(parent and parent.submodule_search_locations and find_spec(place))

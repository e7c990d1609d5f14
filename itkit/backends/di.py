"""Finds the class behind a key of a dependency-injection container, for several packages.

The container is only asked, and needs no override: the class is faked in place, so that objects
which the container has given before are faked as well.
"""

from collections.abc import Callable
from operator import attrgetter
from types import FunctionType, ModuleType
from typing import Any, Final

from django.apps import apps
from django.utils.module_loading import import_string

from itkit.exceptions import ConfigurationError

Asking = Callable[[Any, str], Any]
"""Returns the value of a container for a key: a class, or an object of one."""


def implementation(container: Any, key: str) -> Any:
    """Return the class or function behind a key.

    Args:
        container: the container, or a function without arguments that returns it.
        key: the name of a provider, or the dotted path of the interface, depending on the package.

    Raises:
        ConfigurationError: the container is of no known package, or has no such key.
    """
    if isinstance(container, FunctionType):
        container = container()
    package = _package_of(container)
    if package not in _ASKING:
        known = ", ".join(sorted(_ASKING))
        raise ConfigurationError(f"{container!r} is no container of any of these: {known}.")
    try:
        found = _ASKING[package](container, key)
    except Exception as error:
        raise ConfigurationError(
            f"the container of {package} gives nothing for {key!r}: {type(error).__name__}: {error}"
        ) from error
    return found if isinstance(found, type | FunctionType) else type(found)


def _package_of(container: Any) -> str:
    if isinstance(container, ModuleType):
        return container.__name__
    kinds = container.__mro__ if isinstance(container, type) else type(container).__mro__
    packages = [kind.__module__.partition(".")[0] for kind in kinds]
    return next((package for package in packages if package in _ASKING), packages[0])


def _by_provider(container: Any, name: str) -> Any:
    """Return a provider's class, or else an object, which may be a real singleton."""
    provider = attrgetter(name)(container)
    return getattr(provider, "cls", None) or provider()


def _by_resolving(container: Any, name: str) -> Any:
    return attrgetter(name)(container).resolve_sync()


def _by_interface(container: Any, path: str) -> Any:
    return container.get(import_string(path))


def _of_django_injector(_module: Any, path: str) -> Any:
    app: Any = apps.get_app_config("django_injector")
    return _by_interface(app.injector, path)


def _of_registry(registry: Any, path: str) -> Any:
    import svcs

    with svcs.Container(registry) as container:
        return _by_interface(container, path)


_ASKING: Final[dict[str, Asking]] = {
    "dependency_injector": _by_provider,
    "django_injector": _of_django_injector,
    "injector": _by_interface,
    "injectq": _by_interface,
    "svcs": _of_registry,
    "that_depends": _by_resolving,
    "wireup": _by_interface,
}

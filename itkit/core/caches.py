"""Empties the caches of this process: Django's caches in memory, and values read from rows.

A reset takes rows back without the ORM, so Django does not notice it. Django's flush sends
``post_migrate`` at its end, which examines all permissions and content types again. Here the caches
of Django's own applications are emptied instead, and only the project's receivers are called.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.apps import AppConfig, apps
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends import locmem
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import connections, transaction
from django.db.models.signals import post_migrate
from django.utils.module_loading import import_string

_MODELS: Final = (("contenttypes", "ContentType"), ("sites", "Site"))
"""Django's models whose managers cache rows in the process."""


_memory: Any = locmem  # the names of its stores are not public

Contents = dict[Any, tuple[dict[str, bytes], dict[str, float | None]]]
"""Values and expiry times, by the names of the caches in memory."""


def aliases_of(kind: type[BaseCache]) -> list[str]:
    """Return the aliases of ``CACHES`` whose backend is a class or a subclass of it."""
    backends = {
        alias: import_string(str(cache["BACKEND"])) for alias, cache in settings.CACHES.items()
    }
    return [
        alias
        for alias, backend in backends.items()
        if isinstance(backend, type) and issubclass(backend, kind)
    ]


def in_memory() -> list[str]:
    """Return the aliases of ``CACHES`` that keep their values in the memory of this process."""
    return aliases_of(LocMemCache)


def of_own_kinds() -> list[str]:
    """Return the aliases of ``CACHES`` in memory whose classes may keep more than Django's does."""
    return [
        alias
        for alias in in_memory()
        if import_string(str(settings.CACHES[alias]["BACKEND"])).clear is not LocMemCache.clear
    ]


def names_in_memory(aliases: Iterable[str]) -> frozenset[Any]:
    """Return the names of the caches in the memory of this process to which some aliases lead."""
    return frozenset(settings.CACHES[alias].get("LOCATION", "") for alias in aliases)


def clear(lasting: frozenset[Any], of_own_kinds: Iterable[str]) -> None:
    """Empty the caches in the memory of this process, whichever settings they were made by.

    Args:
        lasting: the names of those that keep their values.
        of_own_kinds: the aliases of those whose own ``clear()`` is called as well; one that the
            settings do not have any more is left out.
    """
    for alias in of_own_kinds:
        if alias in settings.CACHES:
            caches[alias].clear()
    for name in _names_without(lasting):
        with _memory._locks[name]:
            _memory._caches[name].clear()
            _memory._expire_info[name].clear()


def contents(lasting: frozenset[Any]) -> Contents:
    """Return the contents of the caches in the memory of this process.

    Args:
        lasting: the names of those that are left out.
    """
    return {
        name: (dict(_memory._caches[name]), dict(_memory._expire_info[name]))
        for name in _names_without(lasting)
        if _memory._caches[name]
    }


def put(kept: Contents) -> None:
    """Put values back into the caches in which ``contents`` has found them."""
    for name, (values, expiry) in kept.items():
        _memory._caches[name].update(values)
        _memory._expire_info[name].update(expiry)


def _names_without(lasting: frozenset[Any]) -> list[Any]:
    """Return the names of all caches in memory but some.

    A cache of no settings is among them: one of a test with ``override_settings``, or one that a
    library has made. The stores have no public names. Checked with Django 5.2 and 6.1.
    """
    return [name for name in list(_memory._caches) if name not in lasting]


def forget_rows() -> None:
    """Empty the caches in which Django's own applications keep rows."""
    for label, model in _MODELS:
        if apps.is_installed(f"django.contrib.{label}"):
            manager: Any = apps.get_model(label, model).objects
            manager.clear_cache()


def tell_receivers(alias: str) -> bool:
    """Call the project's receivers of ``post_migrate``, as Django's flush does.

    The rows that they made earlier exist already. Rows that they write nevertheless are rolled
    back.

    Args:
        alias: the alias of the database that was reset.

    Returns:
        Whether they have written anything, so that sequences have advanced.
    """
    found = list(_receivers())
    if not found:
        return False
    with transaction.atomic(using=alias):
        for app, receiver in found:
            receiver(
                signal=post_migrate,
                sender=app,
                app_config=app,
                verbosity=0,
                interactive=False,
                using=alias,
            )
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
            [has_written] = cursor.fetchone()
        transaction.set_rollback(True, using=alias)
    return bool(has_written)


def _receivers() -> Iterator[tuple[AppConfig, Any]]:
    """Yield the receivers that are not Django's, each with the application that it listens for."""
    for app in apps.get_app_configs():
        if app.models_module is None:
            continue
        # It has no public name. Checked with Django 5.2 and 6.1.
        found, asynchronous = post_migrate._live_receivers(app)
        for receiver in (*found, *map(async_to_sync, asynchronous)):
            if not str(getattr(receiver, "__module__", "")).startswith("django."):
                yield app, receiver

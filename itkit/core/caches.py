"""Empties the caches of this process: Django's caches in memory, and values read from rows.

A reset takes rows back without the ORM, so Django does not notice it. Django's flush sends
``post_migrate`` at its end, which examines all permissions and content types again. Here the caches
of Django's own applications are emptied instead, and only the project's receivers are called.
"""

from collections.abc import Iterator
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.apps import AppConfig, apps
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import connections, transaction
from django.db.models.signals import post_migrate
from django.utils.module_loading import import_string

_MODELS: Final = (("contenttypes", "ContentType"), ("sites", "Site"))
"""Django's models whose managers cache rows in the process."""


Contents = dict[str, tuple[dict[str, bytes], dict[str, float | None]]]
"""Values and expiry times, by the aliases of the caches."""


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


def clear(aliases: list[str]) -> None:
    """Empty caches.

    Args:
        aliases: the aliases of ``CACHES``; those that the settings do not have any more are left
            out.
    """
    for alias in aliases:
        if alias in settings.CACHES:
            caches[alias].clear()


def contents(aliases: list[str]) -> Contents:
    """Return the contents of caches that keep their values in the memory of this process.

    Args:
        aliases: the aliases of ``CACHES``, as ``in_memory`` returns them.
    """
    found: Contents = {}
    for alias in aliases:
        # Neither has a public name. Checked with Django 5.2 and 6.1.
        cache: Any = caches[alias] if alias in settings.CACHES else None
        if cache is not None and cache._cache:
            found[alias] = (dict(cache._cache), dict(cache._expire_info))
    return found


def put(kept: Contents) -> None:
    """Put values back into the caches in which ``contents`` has found them."""
    for alias, (values, expiry) in kept.items():
        if alias in settings.CACHES:
            cache: Any = caches[alias]
            cache._cache.update(values)
            cache._expire_info.update(expiry)


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

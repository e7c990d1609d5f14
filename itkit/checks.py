"""System checks: a mistake in the settings is found, with its remedy, before anything starts.

itkit.E001  an unknown key in ``ITKIT``
itkit.E002  a value of the wrong type or shape
itkit.E003  a backend that does not say in one way where the real one is (SETTING, TARGET, CONTAINER
            or BUILTIN), or has no usable name
itkit.E004  a backend whose SETTING, or ALIAS in it, is not in the settings
itkit.E005  a backend whose path cannot be imported
itkit.E006  a backend that cannot be faked, or is named twice
itkit.E007  a name in ``ITKIT["REDIS"]`` that holds no Redis address, or one that is none; two
            servers where there is to be one
itkit.E008  a data alias whose model does not exist
itkit.E009  a data alias with a field that its model does not have
itkit.E010  a FAKE that is written by hand and cannot stand for the real backend
itkit.E011  a BUILTIN whose framework is not there, or that has a wrong option
itkit.E012  a CONTAINER that is of no known package, or has nothing for its KEY
itkit.E013  a model in ``ITKIT["DATA"]["DELETE_BY_MODEL"]`` that does not exist
itkit.E014  an environment variable ``ITKIT_...`` that nothing reads
itkit.E015  an error in the FAULTS of a backend that no sweep can raise
itkit.W001  ``manage.py test`` is the command of another app and does not know ``--integration``
itkit.W002  a part of a faked backend stays real
itkit.W003  redis-py is too old for the prefix of the tests' keys
itkit.W004  an option of ``DATABASES``, or the code, is for another driver than the one of Django
itkit.W005  settings that name Redis servers, to which tests may not connect
"""

import re
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands

from itkit import conf

_OF_REDIS = re.compile(r"REDIS|VALKEY|^RQ_|CACHEOPS|CHANNEL_LAYERS|CELERY|BROKER|QUEUE")
_URL = re.compile(r"\b(?:redis|rediss|redis\+socket|valkey|valkeys)://")


def register() -> None:
    """Register the checks under the tag ``itkit``."""
    checks.register(check_settings, "itkit")
    checks.register(check_command, "itkit")
    checks.register(check_libraries, "itkit")


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Report the mistakes in the setting ``ITKIT``."""
    wrong_table = conf.mistakes()
    if wrong_table:
        return _messages(wrong_table)  # the other checks read the table
    from itkit import data
    from itkit.backends import resolve

    found = [*resolve.mistakes(), *resolve.warnings(), *data.mistakes()]
    table = conf.get().redis
    if (
        any((*table.settings, *table.allow_addresses, *table.shared_aliases))
        or table.per_worker_server
        or any(_may_name_redis(name) for name in dir(settings))
    ):
        from itkit import redis  # here, as runserver need not import it

        found += redis.mistakes()
    return _messages(found)


def check_command(**_: Any) -> list[checks.CheckMessage]:
    """Report that another app's ``test`` command hides ours, if the runner is not ours either."""
    owner = get_commands().get("test")
    if owner == "itkit" or _runner_is_ours(settings.TEST_RUNNER):
        return []
    return [
        checks.Warning(
            f"manage.py test is the command of {owner!r}, which knows no --integration.",
            hint='List "itkit" before that app in INSTALLED_APPS, or set'
            ' TEST_RUNNER = "itkit.runner.IntegrationRunner".',
            id="itkit.W001",
        )
    ]


def check_libraries(**_: Any) -> list[checks.CheckMessage]:
    """Report libraries that the tests cannot use, or that differ from those of production."""
    found: list[checks.CheckMessage] = []
    if any("redis" in str(cache.get("BACKEND")) for cache in settings.CACHES.values()):
        from itkit.redis.server import redis_py

        if version := redis_py.too_old():
            message = redis_py.TOO_OLD.format(version)
            found.append(checks.Warning(message, hint=redis_py.UPDATE, id="itkit.W003"))
    if {"psycopg", "psycopg2"} <= sys.modules.keys():
        message = (
            "psycopg2 is imported, and Django's driver is psycopg, which is installed as well."
        )
        hint = "If production has psycopg2 only, uninstall psycopg: Django takes psycopg2 then."
        found.append(checks.Warning(message, hint=hint, id="itkit.W004"))
    databases: dict[str, dict[str, Any]] = settings.DATABASES
    for alias, database in databases.items():
        options = database.get("OPTIONS") or {}
        if options.keys() & {"isolation_level", "cursor_factory"}:
            from itkit.postgres.server import driver

            found += [
                checks.Warning(
                    f'DATABASES[{alias!r}]["OPTIONS"] has {message}', hint=hint, id="itkit.W004"
                )
                for message, hint in driver.misunderstood(options)
            ]
    return found


def _may_name_redis(name: str) -> bool:
    """Return whether a setting may name a Redis server by its name or its text."""
    if name in {"CACHES", "ITKIT"} or not name.isupper():
        return False
    if _OF_REDIS.search(name):
        return True
    with warnings.catch_warnings(), suppress(ImproperlyConfigured):
        warnings.simplefilter("ignore")  # as this reads deprecated settings as well
        return bool(_URL.search(str(getattr(settings, name))))
    return False


def _messages(mistakes: Iterable[conf.Mistake]) -> list[checks.CheckMessage]:
    kinds = {"E": checks.Error, "W": checks.Warning}
    return [kinds[item.level](item.message, hint=item.hint, id=item.id) for item in mistakes]


def _runner_is_ours(path: str) -> bool:
    from django.test.utils import get_runner

    try:
        bases = get_runner(settings, path).__mro__
        return any(base.__module__.startswith("itkit.runner") for base in bases)
    except (ImportError, AttributeError):
        return False  # Django itself reports a TEST_RUNNER that cannot be imported

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
itkit.W001  ``manage.py test`` is not itkit's and knows no ``--integration``
itkit.W002  a backend that is faked, of which something stays real
"""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.management import get_commands

from itkit import conf


def register() -> None:
    """Register the checks under the tag ``itkit``."""
    checks.register(check_settings, "itkit")
    checks.register(check_command, "itkit")


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Report what is wrong with the setting ``ITKIT``."""
    wrong_table = conf.mistakes()
    if wrong_table:
        return _messages(wrong_table)  # the others read the table, so they can wait
    from itkit import data, locators

    found = [*locators.mistakes(), *locators.warnings(), *data.mistakes()]
    table = conf.get().redis
    if any((*table.settings, *table.allow_addresses, *table.shared_aliases)) or (
        table.per_worker_server
    ):
        from itkit import redis  # so that runserver does not import it for nothing

        found += redis.mistakes()
    return _messages(found)


def check_command(**_: Any) -> list[checks.CheckMessage]:
    """Report that another app's ``test`` command hides ours, and the runner does not make up."""
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


def _messages(mistakes: Iterable[conf.Mistake]) -> list[checks.CheckMessage]:
    kinds = {"E": checks.Error, "W": checks.Warning}
    return [kinds[item.level](item.message, hint=item.hint, id=item.id) for item in mistakes]


def _runner_is_ours(path: str) -> bool:
    from django.test.utils import get_runner

    try:
        return any(base.__module__ == "itkit.runner" for base in get_runner(settings, path).__mro__)
    except (ImportError, AttributeError):
        return False  # Django itself reports a TEST_RUNNER that cannot be imported

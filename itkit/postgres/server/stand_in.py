"""Uses Postgres instead of SQLite for a run: ``ITKIT["POSTGRES"]["REPLACE_SQLITE"]``."""

from pathlib import Path
from typing import Any, Final

from django.db import connections

from itkit import conf

_SQLITE: Final = "django.db.backends.sqlite3"
_POSTGRES: Final = "django.db.backends.postgresql"
_IN_MEMORY: Final = (":memory:", "file:")

_replaced: dict[str, dict[str, Any]] = {}
"""The original settings of the aliases that are replaced for now."""


def replace_sqlite() -> None:
    """Replace the aliases of SQLite by aliases of Postgres, if the settings say so.

    Django's open connections are closed. A second call does nothing.
    """
    if not conf.get().postgres.replace_sqlite:
        return
    for alias in connections:
        settings = connections.settings[alias]
        if settings["ENGINE"] == _SQLITE:
            _replaced[alias] = settings
            _set(alias, _postgres(settings))


def put_sqlite_back() -> None:
    """Put the aliases of SQLite back; a second call does nothing."""
    while _replaced:
        alias, settings = _replaced.popitem()
        _set(alias, settings)


def is_replaced(alias: str) -> bool:
    """Return whether an alias of SQLite is replaced by Postgres now."""
    return alias in _replaced


def _set(alias: str, settings: dict[str, Any]) -> None:
    """Give an alias other settings, in the copy that Django has made of ``DATABASES``.

    Checked with Django 5.2, 6.0 and 6.1.
    """
    connections[alias].close()
    del connections[alias]
    connections.settings[alias] = settings


def _postgres(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an alias with the engine Postgres, without the options for SQLite."""
    name = str(settings["NAME"])
    is_in_memory = not name or name.startswith(_IN_MEMORY)
    return {
        **settings,
        "ENGINE": _POSTGRES,
        "NAME": "sqlite" if is_in_memory else Path(name).stem,
        "OPTIONS": {},
        "TEST": {**settings["TEST"], "NAME": None},
    }

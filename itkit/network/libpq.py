"""``PGOPTIONS``: where connections land that are made by libpq and not by Django.

psycopg and SQLAlchemy, in this process or in one that a test starts, get no more of the settings
than ``NAME``, ``HOST``, ``PORT``, ``USER`` and ``PASSWORD``; the worker's schema is in ``OPTIONS``.
libpq reads the variable where a connection names no ``options`` of its own. Those of Django and of
itkit do.
"""

import os
from typing import Final

from itkit.core.names import PGOPTIONS_VARIABLE

VARIABLE: Final = "PGOPTIONS"


def lead_to(options: str) -> None:
    """Let libpq add options to those that the variable had before the run.

    Args:
        options: the options as the server takes them, such as ``-c search_path=public``.
    """
    original = os.environ.setdefault(PGOPTIONS_VARIABLE, os.environ.get(VARIABLE, ""))
    os.environ[VARIABLE] = f"{original} {options}".strip()  # the last -c wins


def put_back() -> None:
    """Give the variable back what it had before the run; does nothing the second time."""
    original = os.environ.pop(PGOPTIONS_VARIABLE, None)
    if original:
        os.environ[VARIABLE] = original
    elif original is not None:
        os.environ.pop(VARIABLE, None)

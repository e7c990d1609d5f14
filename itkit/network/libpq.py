"""Sets ``PGOPTIONS``, which leads connections of libpq outside of Django to the worker's place.

Code that uses psycopg or SQLAlchemy, in this process or in one that a test starts, usually takes
only ``NAME``, ``HOST``, ``PORT``, ``USER`` and ``PASSWORD`` from the settings. The worker's schema,
however, is in ``OPTIONS``. libpq reads the variable if a connection has no ``options`` of its own;
the connections of Django and itkit have them. This is a module of its own, as both a worker and a
process that a test starts set the variable.
"""

import os
from typing import Final

from itkit.core.names import PGOPTIONS_VARIABLE

VARIABLE: Final = "PGOPTIONS"


def lead_to(options: str) -> None:
    """Let libpq use options after those that the variable had before the run.

    Args:
        options: the options in the server's syntax, such as ``-c search_path=public``.
    """
    original = os.environ.setdefault(PGOPTIONS_VARIABLE, os.environ.get(VARIABLE, ""))
    os.environ[VARIABLE] = f"{original} {options}".strip()  # the last -c wins


def put_back() -> None:
    """Restore the variable's value from before the run; a second call does nothing."""
    original = os.environ.pop(PGOPTIONS_VARIABLE, None)
    if original:
        os.environ[VARIABLE] = original
    elif original is not None:
        os.environ.pop(VARIABLE, None)

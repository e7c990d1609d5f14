"""Backends that itkit knows by itself: mail, tasks of Django and of Celery, storages of files.

Each is a small class whose calls are recorded as those of any backend. What it stands for is led to
it for the length of a run.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from itkit.builtins.base import Builtin

__all__ = ["KNOWN", "Builtin", "make"]

KNOWN: Final = {
    "celery": "itkit.builtins.celery.CeleryTasks",
    "mail": "itkit.builtins.mail.Mail",
    "storage": "itkit.builtins.storage.Storage",
    "tasks": "itkit.builtins.tasks.Tasks",
}
"""The names that ``BUILTIN`` may have. What a project does not use is not imported."""


def make(name: str, options: Mapping[str, Any]) -> Builtin:
    """Return a built-in backend.

    Args:
        name: one of ``KNOWN``.
        options: its ``OPTIONS``.

    Raises:
        ConfigurationError: what it stands for is not installed, or an option is wrong.
    """
    module, _, kind = KNOWN[name].rpartition(".")
    made: Builtin = getattr(import_module(module), kind)(options)
    return made

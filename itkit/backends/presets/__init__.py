"""Presets: backends that itkit knows by itself. Each is a small class whose calls are recorded.

During a run, the calls of the real API are redirected to the preset. Read in this order: ``base``,
``mail``, ``tasks`` (of Django), ``celery``, ``storage``.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from itkit.backends.presets.base import Preset, TaskRunner

__all__ = ["KNOWN", "Preset", "TaskRunner", "make"]

KNOWN: Final = {
    "celery": "itkit.backends.presets.celery.CeleryTasks",
    "mail": "itkit.backends.presets.mail.Mail",
    "storage": "itkit.backends.presets.storage.Storage",
    "tasks": "itkit.backends.presets.tasks.Tasks",
}
"""The names that ``BUILTIN`` may have. Presets that a project does not use are not imported."""


def make(name: str, options: Mapping[str, Any]) -> Preset:
    """Return a built-in backend.

    Args:
        name: one of ``KNOWN``.
        options: the ``OPTIONS`` of the entry.

    Raises:
        ConfigurationError: the package of the preset is not installed, or an option is wrong.
    """
    module, _, kind = KNOWN[name].rpartition(".")
    made: Preset = getattr(import_module(module), kind)(options)
    return made

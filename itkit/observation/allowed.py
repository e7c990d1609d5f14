"""The names by which a test allows something: of columns, models, calls, and others."""

import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from django.apps import apps

from itkit.core.text import did_you_mean

_OF_MODEL: Final = re.compile(r"\w+\.[A-Z]\w*")
_MOST_SHOWN: Final = 30
_UNKNOWN: Final = "{} has {!r}, and nothing is called so. {}"


def unknown_name(
    argument: str,
    patterns: Iterable[str],
    calls: Mapping[str, Collection[str]],
    *,
    has_columns: bool = False,
) -> str:
    """Return what is wrong with a name or pattern that nothing can have; else an empty text.

    Names of keys, responses and loggers may be any. A name with the form of a model's, or that
    begins with the name of a backend, has to be one that exists.

    Args:
        argument: the argument of the test that has the patterns, for the message.
        patterns: the names and patterns.
        calls: the names of all calls of each backend whose calls are known.
        has_columns: whether the names are those of columns, such as ``shop.Order.note``, and not
            those of models.
    """
    for pattern in patterns:
        known = _known(pattern, calls, has_columns=has_columns)
        if known and not any(fnmatchcase(name, pattern) for name in known):
            return _UNKNOWN.format(argument, pattern, _available(pattern, known))
    return ""


def _known(
    pattern: str, calls: Mapping[str, Collection[str]], *, has_columns: bool
) -> Collection[str]:
    """Return the names of which a pattern has to match one; none if it may name something else."""
    backend, dot, _ = pattern.partition(".")
    if dot and backend in calls:
        return calls[backend]
    if not _OF_MODEL.match(pattern):
        return ()
    models = apps.get_models(include_auto_created=True)
    if not has_columns:
        return [model._meta.label for model in models]
    fields = [
        (model._meta.label, field) for model in models for field in model._meta.concrete_fields
    ]
    return [f"{label}.{field.name}" for label, field in fields]


def _available(pattern: str, known: Collection[str]) -> str:
    """Return the nearest name, and those with which the pattern has the beginning in common."""
    head = _OF_MODEL.match(pattern)
    near = [name for name in known if head is not None and name.startswith(f"{head[0]}.")]
    names = sorted(near or known)
    listed = f"Available: {', '.join(names[:_MOST_SHOWN])}"
    listed += ", …" if len(names) > _MOST_SHOWN else "."
    hint = did_you_mean(pattern, names)
    return listed if hint.startswith("Available") else f"{hint} {listed}"

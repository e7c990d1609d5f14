"""Imports redis-py, which a project without Redis need not have.

The import happens when a name of redis-py is first used. It takes a tenth of a second, which a
project without Redis does not pay, even if another package has installed redis-py. Where redis-py
is not installed, its names in an ``except`` are replaced by a class that is never raised.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from itkit.exceptions import ServiceUnavailableError

OLDEST: Final = (5, 0)
"""The first version with RESP3, by which the server reports the keys that were written."""


TOO_OLD: Final = "redis-py {} is too old for the prefix of the tests' keys, which needs RESP3."
UPDATE: Final = "Update it, for the tests at least: pip install 'redis>=5'"


class _NeverRaisedByRedis(Exception):  # noqa: N818 - it stands for classes of all kinds
    """Replaces each class of redis-py where redis-py is not installed."""


class _Late:
    """Replaces the module, and imports it when a name of it is used."""

    def __getattr__(self, name: str) -> Any:
        library = _library()
        return _NeverRaisedByRedis if library is None else getattr(library, name)


@cache
def _library() -> ModuleType | None:
    try:
        return import_module("redis")
    except ImportError:
        return None


if TYPE_CHECKING:
    import redis
else:
    redis = _Late()

__all__ = ["TOO_OLD", "UPDATE", "redis", "require", "too_old"]


def require() -> None:
    """Make sure that redis-py is installed and new enough.

    Raises:
        ServiceUnavailableError: redis-py is not installed, or too old.
    """
    if found := too_old():
        raise ServiceUnavailableError(f"{TOO_OLD.format(found)} {UPDATE}")
    if _library() is None:
        raise ServiceUnavailableError(
            "The settings name a Redis, and itkit reaches it by redis-py, which is not installed:"
            " pip install 'django-itkit[redis]'"
        )


@cache  # cached, as each of itkit's clients would read the metadata from a file otherwise
def too_old() -> str:
    """Return the version of redis-py if it is too old for the prefix; empty if it is not."""
    try:
        found = version("redis")
    except PackageNotFoundError:
        return ""
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdecimal())
    return found if numbers < OLDEST else ""

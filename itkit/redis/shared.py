"""The caches of ``ITKIT["REDIS"]["SHARED_ALIASES"]``: their keys outlast the tests of a worker."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from itkit import conf
from itkit.core import caches
from itkit.redis import addresses
from itkit.redis.addresses import Address
from itkit.redis.prefix.namespace import Namespace
from itkit.redis.prefix.rewrite import Rewriter
from itkit.redis.wire.guard import Shared

_GENERATION: Final = 0
"""A generation that no test has, as tests count from 1."""

CacheDatabase = tuple[Address, int]


def sharing(
    run: str, worker: str, project: Sequence[tuple[str, str]], options: Mapping[str, Any]
) -> Shared | None:
    """Return the databases of shared caches and their rewriter; None where there are none.

    Args:
        run: id of the run.
        worker: id of the worker.
        project: labels and URLs of the project's own servers.
        options: the options of the rewriter.
    """
    databases = shared_databases(project)
    if not databases:
        return None
    return Shared(databases, Rewriter(Namespace(run, worker, _GENERATION), **options))


def shared_databases(project: Sequence[tuple[str, str]]) -> frozenset[CacheDatabase]:
    """Return the databases of shared caches, each as its server's address and its number.

    Args:
        project: labels and URLs of the project's own servers.
    """
    aliases = conf.get().redis.shared_aliases
    return frozenset(database for alias in aliases for database in _databases_of(project, alias))


def mistakes(project: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the mistakes in the setting: unknown aliases, and databases with several aliases.

    Args:
        project: labels and URLs of the project's own servers.
    """
    shared = conf.get().redis.shared_aliases
    for alias in shared:
        databases = set(_databases_of(project, alias))
        if not databases and alias not in caches.in_memory():
            yield f"{alias!r}, which is no cache in Redis or in memory"
        for label, url in project:
            if _database_of(url) in databases and label not in map(label_of, shared):
                yield f"{alias!r}, whose database is that of {label} as well"


def label_of(alias: str) -> str:
    """Return the label of a cache among the project's own servers."""
    return f'CACHES["{alias}"]'


def _databases_of(project: Sequence[tuple[str, str]], alias: str) -> Iterator[CacheDatabase]:
    return (_database_of(url) for label, url in project if label == label_of(alias))


def _database_of(url: str) -> CacheDatabase:
    return addresses.of_url(url), addresses.database(url) or 0

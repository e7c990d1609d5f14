"""The caches of ``ITKIT["REDIS"]["SHARED_ALIASES"]``: their keys outlast the tests of a worker."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from itkit import caches, conf
from itkit.redis import addresses
from itkit.redis.addresses import Address
from itkit.redis.guard import Shared
from itkit.redis.namespace import Namespace
from itkit.redis.rewrite import Rewriter

_GENERATION: Final = 0
"""That of no test, which are counted from 1."""

Place = tuple[Address, int]


def sharing(
    run: str, worker: str, project: Sequence[tuple[str, str]], options: Mapping[str, Any]
) -> Shared | None:
    """Return what puts the prefix on the commands of shared caches; None where there are none.

    Args:
        run: id of the run.
        worker: id of the worker.
        project: labels and URLs of the project's own servers.
        options: of the rewriter.
    """
    places = shared_places(project)
    if not places:
        return None
    return Shared(places, Rewriter(Namespace(run, worker, _GENERATION), **options))


def shared_places(project: Sequence[tuple[str, str]]) -> frozenset[Place]:
    """Return the databases of shared caches, each by its server's address and its number.

    Args:
        project: labels and URLs of the project's own servers.
    """
    aliases = conf.get().redis.shared_aliases
    return frozenset(place for alias in aliases for place in _places(project, alias))


def mistakes(project: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield what is wrong with the setting: an alias that is none, or not the only one there.

    Args:
        project: labels and URLs of the project's own servers.
    """
    shared = conf.get().redis.shared_aliases
    for alias in shared:
        places = set(_places(project, alias))
        if not places and alias not in caches.in_memory():
            yield f"{alias!r}, which is no cache in Redis or in memory"
        for label, url in project:
            if _place(url) in places and label not in map(label_of, shared):
                yield f"{alias!r}, whose database is that of {label} as well"


def label_of(alias: str) -> str:
    """Return how a cache is called among the project's own servers."""
    return f'CACHES["{alias}"]'


def _places(project: Sequence[tuple[str, str]], alias: str) -> Iterator[Place]:
    return (_place(url) for label, url in project if label == label_of(alias))


def _place(url: str) -> Place:
    return addresses.of_url(url), addresses.database(url)

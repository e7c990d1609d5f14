"""Shows and removes what itkit keeps for later runs: ``manage.py itkit clean``.

itkit keeps schemas and databases on servers that runs do not start themselves, and the cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from django.template.defaultfilters import filesizeformat

from itkit import conf, postgres, services
from itkit.core.urls import redact
from itkit.environment import running
from itkit.environment.run import postgres_need
from itkit.exceptions import ServiceUnavailableError

_IN_USE = "stays, as a run uses it"
_REMAINS = "stays, as something else is in it or uses it"
_WOULD_GO = "would be removed"
_GONE = "removed"


@dataclass(frozen=True)
class Line:
    """The outcome for one thing that is kept.

    Attributes:
        what: the kind of thing, and its name.
        where: its location, with a preposition.
        size: the size, in bytes.
        outcome: the outcome, in words.
    """

    what: str
    where: str
    size: int
    outcome: str

    def __str__(self) -> str:
        """Return the line that describes it."""
        size = str(filesizeformat(self.size)).replace("\N{NO-BREAK SPACE}", " ")
        return redact(f"{self.what} {self.where}, {size}: {self.outcome}")


def server() -> services.Service | None:
    """Return the Postgres on which runs may have left something, without starting one.

    It is the server that the user gave to itkit, or else the project's own server if it is on this
    machine and answers.

    Raises:
        ServiceUnavailableError: the server that the user gave does not answer.
    """
    need = postgres_need(conf.get())
    if need is None:
        return None
    try:
        # Runs may have left something on a server on which the role may only read by now.
        need = replace(need, probe=postgres.probe)
        return services.start([need], services.Options(source="settings")).postgres
    except ServiceUnavailableError:
        if need.given:
            raise
        return None


def let_go(*, dry_run: bool) -> Iterator[str]:
    """Let runs that wait because of ``--itkit-keep`` continue, and yield each outcome.

    Args:
        dry_run: whether to let no run continue.
    """
    for standing in running.all_standing():
        if not dry_run:
            standing.let_go()
        outcome = "would go on" if dry_run else "goes on"
        yield f"run of process {standing.process}, which stands at {standing.test}: {outcome}"


def clean_server(server: services.Service, *, dry_run: bool) -> Iterator[Line]:
    """Remove what runs have left on a server, and yield the outcomes.

    Args:
        server: the server, as ``server`` returns it.
        dry_run: whether to remove nothing.

    Raises:
        ServiceUnavailableError: the server refuses to remove something; the rest was removed.
    """
    found = postgres.leftovers(server.url)
    if found and not dry_run:
        postgres.clean(server.url)
    left = set(found if dry_run else postgres.leftovers(server.url))
    for item in found:
        within = f"in {item.database} " if item.kind == "schema" else ""
        outcome = _outcome(is_used=item.is_used, is_left=item in left, dry_run=dry_run)
        yield Line(f"{item.kind} {item.name}", f"{within}on {server.address}", item.size, outcome)


def clean_cache(*, dry_run: bool) -> Iterator[Line]:
    """Remove the cache of binaries and clusters, and yield the outcomes.

    Args:
        dry_run: whether to remove nothing.
    """
    for entry in services.cached(conf.get().cache_dir):
        try:
            is_left = dry_run or not services.remove(entry.path)
            outcome = _outcome(is_used=entry.is_used, is_left=is_left, dry_run=dry_run)
        except OSError as error:
            outcome = f"could not be removed: {error.strerror}"
        yield Line(f"cached {entry.path.name}", f"in {entry.path.parent}", entry.size, outcome)


def _outcome(*, is_used: bool, is_left: bool, dry_run: bool) -> str:
    if not is_left:
        return _GONE
    if is_used:
        return _IN_USE
    return _WOULD_GO if dry_run else _REMAINS

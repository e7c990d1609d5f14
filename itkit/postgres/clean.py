"""What itkit keeps on a server for later runs, and its removal for ``manage.py itkit clean``."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from django.db import connections

from itkit.core import names
from itkit.core.urls import POSTGRES_SCHEMES, parse, redact
from itkit.exceptions import ServiceUnavailableError
from itkit.postgres.isolation import DatabaseIsolation, Isolation, SchemaIsolation
from itkit.postgres.migrations import extensions
from itkit.postgres.server import databases, driver, locks
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.places import Places
from itkit.postgres.server.server import connect, connect_to_server, postgres_aliases
from itkit.postgres.template.schemas import Schemas
from itkit.postgres.template.template import stays

_APPLICATION = "itkit clean"


@dataclass(frozen=True)
class Leftover:
    """One schema or database of itkit's on a server.

    Attributes:
        kind: ``schema`` or ``database``.
        database: the database of the schema; of a database, the one that itkit was connected to.
        name: the name of the schema or database.
        size: the size, in bytes.
        is_used: whether a run that is alive uses it, so that it has to stay.
    """

    kind: str
    database: str
    name: str
    size: int = field(compare=False)
    is_used: bool = field(compare=False)


def leftovers(server: str) -> list[Leftover]:
    """Return what is ours on a server, in the databases that tests of this project use.

    Args:
        server: URL.

    Raises:
        ServiceUnavailableError: the server does not answer, or refuses to.
    """
    found: list[Leftover] = []
    with _failures_explained(server):
        for isolation, home in _homes(server):
            with _connected(server, home) as connection:
                found += _places_left(isolation, connection)
                if isinstance(isolation, SchemaIsolation):
                    found += _shared_left(connection)
    return found


def clean(server: str) -> None:
    """Remove all leftovers that no run uses, and the databases if they are ours.

    A failure in one database does not keep the other databases from being cleaned.

    Args:
        server: URL.

    Raises:
        ServiceUnavailableError: the server refuses to remove something.
    """
    with _failures_explained(server), ExitStack() as removals:
        for isolation, home in _homes(server):
            removals.callback(_clean_home, server, isolation, home)


def _clean_home(server: str, isolation: Isolation, home: str) -> None:
    with _connected(server, home) as connection:
        places = isolation.places(connection)
        places.drop_stale()
        for fingerprint in sorted(
            set(filter(None, map(names.fingerprint_of_schema, _kept(places))))
        ):
            _drop_if_unused(places, fingerprint)
        with connect_to_server(server, application=_APPLICATION) as maintenance:
            _leave(isolation, maintenance, connection)


def _drop_if_unused(places: Places, fingerprint: str) -> None:
    """Drop a template and all that belongs to it, even if parts of it are missing."""
    with locks.idle_template(places.connection, fingerprint) as is_idle:
        if not is_idle or fingerprint in _fingerprints_in_use(places):
            return
        for name in _kept(places):
            if names.fingerprint_of_schema(name) == fingerprint:
                places.drop(name)


def _leave(isolation: Isolation, maintenance: Connection, connection: Connection) -> None:
    """Drop what all runs have shared, if no run is alive."""
    with locks.setup(maintenance):
        if not locks.other_runs_alive(connection) and not isolation.places(connection).ours():
            isolation.leave(maintenance, connection)


def _places_left(isolation: Isolation, connection: Connection) -> Iterator[Leftover]:
    places = isolation.places(connection)
    kind = "schema" if isinstance(isolation, SchemaIsolation) else "database"
    alive = _alive(places)
    in_use = _fingerprints_in_use(places)
    registered = [found.name for found in places.registered()]
    for name in sorted({*registered, *_kept(places)}):
        is_used = name in alive or names.fingerprint_of_schema(name) in in_use
        yield Leftover(kind, connection.info.dbname, name, places.size(name), is_used)


def _shared_left(connection: Connection) -> Iterator[Leftover]:
    """Yield what all runs share in a database: the extensions, and the database itself."""
    home = connection.info.dbname
    is_used = locks.other_runs_alive(connection)
    if extensions.are_ours(connection):
        size = Schemas(connection).size(names.EXTENSION_SCHEMA)
        yield Leftover("schema", home, names.EXTENSION_SCHEMA, size, is_used)
    if databases.is_ours(connection, home):
        yield Leftover("database", home, home, databases.size(connection, home), is_used)


def _kept(places: Places) -> list[str]:
    """Return the templates, their scripts, and the kept clones."""
    return [
        name
        for name, comment in places.described().items()
        if names.fingerprint_of_schema(name) and stays(comment)
    ]


def _alive(places: Places) -> set[str]:
    """Return the places of runs that are alive."""
    alive = set()
    for found in places.registered():
        with locks.dead_run(places.connection, found.run) as is_dead:
            if not is_dead:
                alive.add(found.name)
    return alive


def _fingerprints_in_use(places: Places) -> set[str | None]:
    """Return the fingerprints of the templates from which places of living runs were made."""
    alive = _alive(places)
    return {
        names.fingerprint_of_schema(found.template)
        for found in places.registered()
        if found.template and found.name in alive
    }


def _homes(server: str) -> list[tuple[Isolation, str]]:
    """Return the databases that runs may have used as homes, in either isolation.

    These are the databases of itkit's own, of any project, and those in which the user may have
    allowed the schemas of this project's runs.
    """
    url = parse(server, POSTGRES_SCHEMES)
    own = [str(connections[alias].settings_dict["NAME"]) for alias in postgres_aliases()]
    with connect_to_server(server, application=_APPLICATION) as maintenance:
        named = dict.fromkeys([*databases.for_schemas(maintenance), *own, url.name])
        existing = [name for name in named if databases.may_create_schemas(maintenance, name)]
        home = maintenance.info.dbname
    schemas: list[tuple[Isolation, str]] = [(SchemaIsolation(), name) for name in existing]
    return [*schemas, (DatabaseIsolation(url), home)]


@contextmanager
def _connected(server: str, database: str) -> Iterator[Connection]:
    url = str(replace(parse(server, POSTGRES_SCHEMES), name=database))
    with connect(url, application=_APPLICATION) as connection:
        yield connection


@contextmanager
def _failures_explained(server: str) -> Iterator[None]:
    try:
        yield
    except driver.Error as error:
        address = parse(server, POSTGRES_SCHEMES).address
        reason = redact(str(error).strip())
        raise ServiceUnavailableError(f"Postgres at {address}: {reason}") from error

"""One Postgres server: whether it answers, and connections to it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from itkit.core.urls import POSTGRES_SCHEMES, ServerURL, parse
from itkit.exceptions import IsolationError, ServiceUnavailableError
from itkit.postgres.server import driver, sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.stand_in import is_replaced

MAINTENANCE_DATABASE = "postgres"
_NO_CONNECT: Final = "permission denied for database"
_REFUSED_OPTIONS: Final = "unsupported startup parameter"  # the words of pgbouncer


def probe(url: str, timeout: float) -> str:
    """Return the server's name and version, such as ``Postgres 18.6``.

    Args:
        url: URL of any database of the server; it need not exist yet.
        timeout: seconds to wait for an answer.

    Raises:
        driver.OperationalError: no answer, or the role may not connect.
    """
    with connect_to_server(url, timeout=timeout) as connection:
        return product(connection)


def product(connection: Connection) -> str:
    """Return a server's name and version, such as ``Postgres 18.6``."""
    return f"Postgres {connection.info.parameter_status('server_version') or ''}".split(" (")[0]


def connect(
    url: str,
    *,
    application: str,
    timeout: float = 30.0,
    search_path: str = "pg_catalog",
    options: str = "",
) -> Connection:
    """Connect to one database, in autocommit, with only the system catalogue on the path.

    Raises:
        driver.OperationalError: no answer, or the role may not connect.
        IsolationError: a pooler in front of the server does not pass the path on.
    """
    with _pooler_refused(url):
        connection = driver.connect(
            url,
            connect_timeout=max(1, round(timeout)),
            application_name=application,
            # Our queries of the catalogue are cheap; parallel workers and compilation would delay
            # them.
            options=f"-c search_path={search_path} -c max_parallel_workers_per_gather=0 -c jit=off"
            f" {options}",
        )
    found = value(connection, "SHOW search_path")
    if found != search_path:
        connection.close()
        raise _no_place_for_a_pooler(url, f"the search_path is {found}, not {search_path}")
    return connection


def value(
    connection: Connection,
    query: str | sql.Composable,
    parameters: Sequence[Any] | Mapping[str, Any] = (),
) -> Any:
    """Return the first column of the first row of a query, or None if there is no row."""
    row = connection.execute(query, parameters or None).fetchone()
    return row[0] if row else None


def answers(connection: Connection) -> bool:
    """Return whether a session still answers."""
    with suppress(driver.Error):
        return bool(value(connection, "SELECT true"))
    return False


def literal(text: str) -> str:
    """Return a text as a constant of SQL."""
    return sql.Literal(text).as_string().lstrip()


def connect_to_server(url: str, *, application: str = "itkit", timeout: float = 30.0) -> Connection:
    """Connect to the server's maintenance database, or else to the one that the URL names.

    Raises:
        driver.OperationalError: no answer, or the server does not know the role.
        IsolationError: the role may not connect to the database, or a pooler answers.
    """
    server = parse(url, POSTGRES_SCHEMES)
    try:
        maintenance = str(replace(server, name=MAINTENANCE_DATABASE))
        return connect(maintenance, application=application, timeout=timeout)
    except driver.OperationalError:
        if not server.name:
            raise
    with _refusal_explained(server):
        return connect(url, application=application, timeout=timeout)


@contextmanager
def _refusal_explained(server: ServerURL) -> Iterator[None]:
    try:
        yield
    except driver.OperationalError as error:
        if _NO_CONNECT not in str(error):
            raise
        raise IsolationError(
            f"the role {server.user!r} may not connect to the database {server.name!r}; let an"
            f' administrator run GRANT CONNECT ON DATABASE "{server.name}" TO "{server.user}";'
        ) from error


@contextmanager
def _pooler_refused(url: str) -> Iterator[None]:
    try:
        yield
    except driver.OperationalError as error:
        reason = str(error).strip().rpartition("FATAL:")[2].strip()
        if not reason.startswith(_REFUSED_OPTIONS):
            raise
        raise _no_place_for_a_pooler(url, reason) from error


def _no_place_for_a_pooler(url: str, reason: str) -> IsolationError:
    return IsolationError(
        f"what answers at {parse(url, POSTGRES_SCHEMES).address} is a pooler that does not pass"
        f" startup options on to Postgres ({reason}), so that tests would not stay in their"
        ' schemas; let ITKIT_POSTGRES_URL (ITKIT["POSTGRES"]["URL"]) name the server itself, not'
        " the pooler"
    )


def postgres_aliases() -> list[str]:
    """Return the aliases of ``DATABASES`` whose engine is Postgres, in the order of the setting.

    Raises:
        ServiceUnavailableError: no driver for Postgres is installed.
    """
    try:
        return [alias for alias in connections if connections[alias].vendor == "postgresql"]
    except ImproperlyConfigured as error:
        if not driver.missing():
            raise
        raise ServiceUnavailableError(driver.missing()) from error


def project_server() -> tuple[str, str] | None:
    """Return the setting and the URL of the project's own server; None if it names none."""
    for alias in postgres_aliases():
        database: Mapping[str, Any] = settings.DATABASES[alias]
        if not is_replaced(alias) and "service" not in (database.get("OPTIONS") or {}):
            return f'DATABASES["{alias}"]', _url_of(database)
    return None


def _url_of(database: Mapping[str, Any]) -> str:
    options: Mapping[str, Any] = database.get("OPTIONS") or {}
    kept = ("sslmode", "sslrootcert", "sslcert", "sslkey", "passfile", "hostaddr")
    server = ServerURL(
        scheme="postgresql",
        host=str(database.get("HOST") or ""),
        port=int(database["PORT"]) if database.get("PORT") else None,
        user=str(database.get("USER") or ""),
        password=str(database.get("PASSWORD") or ""),
        name=str(database.get("NAME") or ""),
        options={name: str(options[name]) for name in kept if name in options},
    )
    return str(server)

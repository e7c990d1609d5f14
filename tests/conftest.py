"""Fixtures with real parts: servers of our own, and whole small projects."""

import compileall
import gc
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections

import itkit
from itkit import postgres, redis, services
from itkit.core import urls
from itkit.data import TestDataManager
from itkit.exceptions import ServiceUnavailableError
from tests.support import sentinel as sentinels
from tests.support.doors import mark_repetitions
from tests.support.projects import Project, directory, environment
from tests.support.warm import Server

ALIAS = "postgres"  # in DATABASES, for the tests of data that need a Postgres


def pytest_configure() -> None:
    """Have no collection of garbage while tests are imported, of which hardly anything is garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Have later collections of garbage leave out the objects of pytest, Django and the tests."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return three workers for two processors, as tests wait for the processes that they start."""
    return math.ceil((os.cpu_count() or 1) * 1.5)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark repetitions as slow before pytest leaves out what is slow."""
    mark_repetitions(items)


@pytest.fixture(scope="module", autouse=True)
def found_by_fakes(request: pytest.FixtureRequest) -> None:
    """Take all objects that are older than a module's first test out of those that fakes look through.

    These are the modules and items of all tests, and what earlier tests have imported: some 500,000
    objects, among which each test of a fake would look for those of a class. Those that a test is
    about, it makes itself.
    """
    if request.path.parent.name in ("backends", "fakes"):
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """Compile itkit once, as pip does, so that no command of a project has to."""
    compileall.compile_dir(Path(itkit.__file__).parent, quiet=2)


@pytest.fixture(scope="session")
def cache_dir() -> Iterator[Path]:
    """A cache of binaries and clusters, filled once for all tests and away from the user's."""
    with directory() as path:
        yield path


@pytest.fixture(scope="session")
def servers(cache_dir: Path) -> Iterator[services.Services]:
    """A Postgres and a Valkey for the session, in the role of servers that are not itkit's."""
    needs = [
        services.Need(kind="postgres", probe=postgres.probe),
        services.Need(kind="redis", probe=redis.probe),
    ]
    with directory() as root:
        started = services.start(needs, _options("embedded", cache_dir, root))
        yield started
        started.stop()


@pytest.fixture(scope="session")
def postgres_url(servers: services.Services) -> str:
    """URL of a Postgres whose maintenance database is free for tests."""
    assert servers.postgres is not None
    return servers.postgres.url


@pytest.fixture(scope="session")
def kept_url(cache_dir: Path) -> Iterator[str]:
    """URL of a Postgres on which projects keep what they have migrated, for the runs after them.

    No test looks at what is left on this one.
    """
    with directory() as root:
        started = services.start(
            [services.Need(kind="postgres", probe=postgres.probe)],
            _options("embedded", cache_dir, root),
        )
        assert started.postgres is not None
        yield started.postgres.url
        started.stop()


@pytest.fixture(scope="session")
def system_url(cache_dir: Path) -> Iterator[str]:
    """URL of the machine's own Postgres, whose version is another one."""
    with directory() as root:
        try:
            started = services.start(
                [services.Need(kind="postgres", probe=postgres.probe)],
                _options("system", cache_dir, root),
            )
        except ServiceUnavailableError as error:
            pytest.skip(f"no system Postgres: {error}")
        assert started.postgres is not None
        yield started.postgres.url
        started.stop()


def _options(source: Literal["embedded", "system"], cache: Path, root: Path) -> services.Options:
    return services.Options(
        source=source, start_timeout=60, cache_dir=str(cache), data_root=str(root)
    )


@pytest.fixture(scope="session")
def redis_url(servers: services.Services) -> str:
    """URL of a Valkey."""
    assert servers.redis is not None
    return servers.redis.url


@pytest.fixture(scope="session")
def warm() -> Iterator[Server | None]:
    """What runs the commands of projects, unless each is to be an ordinary process."""
    if os.environ.get("ITKIT_TEST_PLAIN") or not hasattr(os, "pidfd_open"):
        yield None
        return
    server = Server(environment())
    yield server
    server.stop()


@pytest.fixture
def project(tmp_path: Path, cache_dir: Path, warm: Server | None) -> Iterator[Project]:
    """A small shop on Postgres and Redis, whose own servers do not exist."""
    with directory() as data_root:
        started = Project(tmp_path, cache=cache_dir, data_root=data_root, warm=warm)
        yield started
        started.kill()


@pytest.fixture
def shared_servers(request: pytest.FixtureRequest) -> None:
    """Have a project's runs use servers of the session, which keep what one of them has migrated.

    For modules that test something else than servers: ``pytest.mark.usefixtures``.
    """
    if "project" in request.fixturenames:
        project = request.getfixturevalue("project")
        project.kept_url = request.getfixturevalue("kept_url")
        project.env["ITKIT_POSTGRES_URL"] = project.kept_url
        project.env["ITKIT_REDIS_URL"] = request.getfixturevalue("redis_url")


@pytest.fixture
def no_databases(postgres_url: str) -> None:
    """Drop the databases of itkit's that runs of earlier tests have left, by whichever role."""
    query = "SELECT datname FROM pg_database WHERE datname LIKE 'itkit\\_%'"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for (name,) in connection.execute(query).fetchall():
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def machine() -> Iterator[sentinels.Machine]:
    """The servers of a developer's machine."""
    with sentinels.machine() as started:
        yield started


@pytest.fixture
def sentinel(machine: sentinels.Machine) -> sentinels.Sentinel:
    """A developer's data on these servers, which no run of itkit may change."""
    made = sentinels.Sentinel(machine)
    made.restore()
    return made


@pytest.fixture
def beside_a_developer(
    request: pytest.FixtureRequest, machine: sentinels.Machine
) -> Iterator[None]:
    """Have a project's settings name the servers of a developer, on which nothing may change.

    For modules whose projects try to reach further than they may: ``pytest.mark.usefixtures``. Where
    the runs find their own servers stays as it is.
    """
    if "project" not in request.fixturenames:
        yield
        return
    developer = sentinels.Sentinel(machine)
    project = request.getfixturevalue("project")
    source = project.env["ITKIT_SOURCE"]
    developer.point(project, "boss")
    project.env["ITKIT_SOURCE"] = source
    with developer.untouched():
        yield


@pytest.fixture
def data() -> Iterator[TestDataManager]:
    """A manager whose rows are removed after the test."""
    with TestDataManager() as manager:
        yield manager


@pytest.fixture(scope="module")
def database(postgres_url: str, django_db_blocker: Any) -> Iterator[None]:
    """A database of our own on the server, with the tables of all apps, as one more alias."""
    server = urls.parse(postgres_url, urls.POSTGRES_SCHEMES)
    name = f"data_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as maintenance:
        maintenance.execute(f"CREATE DATABASE {name}")
    connections.settings[ALIAS] = connections.configure_settings(
        {
            "default": {},
            ALIAS: {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": name,
                "USER": server.user,
                "PASSWORD": server.password,
                "HOST": server.host,
                "PORT": server.port or "",
            },
        }
    )[ALIAS]
    with django_db_blocker.unblock():
        call_command("migrate", database=ALIAS, run_syncdb=True, verbosity=0)
        yield
        connections[ALIAS].close()
    del connections[ALIAS]
    del connections.settings[ALIAS]
    with psycopg.connect(postgres_url, autocommit=True) as maintenance:
        maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")

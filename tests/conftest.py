"""Fixtures with real parts: servers of our own, and whole small projects."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from itkit import postgres, redis, services
from itkit.exceptions import ServiceUnavailableError
from tests.projects import Project


def _short_directory() -> Path:
    """Make a directory that the server's user can reach and whose path leaves room for a socket."""
    path = Path(tempfile.mkdtemp(prefix="it-"))
    path.chmod(0o711)
    return path


@pytest.fixture(scope="session")
def cache_dir() -> Iterator[Path]:
    """A cache of binaries and clusters, filled once for all tests and away from the user's."""
    path = _short_directory()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def servers(cache_dir: Path) -> Iterator[services.Services]:
    """A Postgres and a Valkey for the session, in the role of servers that are not itkit's."""
    root = _short_directory()
    started = services.start(
        [
            services.Need(kind="postgres", probe=postgres.probe),
            services.Need(kind="redis", probe=redis.probe),
        ],
        services.Options(
            source="embedded", start_timeout=60, cache_dir=str(cache_dir), data_root=str(root)
        ),
    )
    yield started
    started.stop()
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def postgres_url(servers: services.Services) -> str:
    """URL of a Postgres whose maintenance database is free for tests."""
    assert servers.postgres is not None
    return servers.postgres.url


@pytest.fixture(scope="session")
def system_url(cache_dir: Path) -> Iterator[str]:
    """URL of the machine's own Postgres, whose version is another one."""
    root = _short_directory()
    try:
        started = services.start(
            [services.Need(kind="postgres", probe=postgres.probe)],
            services.Options(
                source="system", start_timeout=60, cache_dir=str(cache_dir), data_root=str(root)
            ),
        )
    except ServiceUnavailableError as error:
        pytest.skip(f"no system Postgres: {error}")
    assert started.postgres is not None
    yield started.postgres.url
    started.stop()
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def redis_url(servers: services.Services) -> str:
    """URL of a Valkey."""
    assert servers.redis is not None
    return servers.redis.url


@pytest.fixture
def project(tmp_path: Path, cache_dir: Path) -> Iterator[Project]:
    """A small shop on Postgres and Redis, whose own servers do not exist."""
    data_root = _short_directory()
    yield Project(tmp_path, cache=cache_dir, data_root=data_root)
    shutil.rmtree(data_root)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left to wait for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_suites.py")

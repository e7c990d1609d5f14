"""A cache without room costs time, and no run."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from itkit import postgres, services
from itkit.exceptions import ServiceUnavailableError
from itkit.services.cache import Cache
from itkit.services.errors import SourceUnusableError
from itkit.services.programs import installation
from itkit.services.supervisor import Supervisor
from tests.support.projects import Project, directory

FULL = "[Errno 28] No space left on device"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with directory() as root:
        supervisor = Supervisor(str(root))
        yield Cache(tmp_path, supervisor)
        supervisor.stop()


def entry(cache: Cache, error: Exception, *, is_needed: bool = True) -> Path:
    """Build an entry that there is no room for in the directory of the cache."""

    def build(path: Path) -> None:
        path.mkdir()
        (path / "half").touch()
        if path.parent == cache.directory:
            raise error
        (path / "whole").touch()

    owner = cache.directory.stat().st_uid
    return cache.entry("thing", build, owner=owner, deadline=1e12, is_needed=is_needed)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SourceUnusableError(FULL)]
)
def test_what_has_no_room_is_built_for_the_run_alone(cache: Cache, error: Exception) -> None:
    path = entry(cache, error)
    assert (path / "whole").exists()
    assert path.parent != cache.directory
    assert [found for found in cache.directory.iterdir() if found.is_dir()] == []
    assert cache.is_full
    assert entry(cache, error) == path


def test_what_is_for_later_runs_is_not_built_elsewhere(cache: Cache) -> None:
    with pytest.raises(SourceUnusableError, match="No space left"):
        entry(cache, SourceUnusableError(FULL), is_needed=False)
    with pytest.raises(SourceUnusableError, match="another reason"):
        entry(cache, SourceUnusableError("another reason"))
    assert not cache.is_full


def test_a_server_starts_beside_a_full_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Cache._build

    def refused(cache: Cache, path: Path, make: object) -> None:
        def too_large(target: Path) -> None:
            make(target)
            raise OSError(28, "No space left on device")

        build(cache, path, too_large)

    monkeypatch.setattr(Cache, "_build", refused)
    need = services.Need(kind="postgres", probe=postgres.probe)
    with directory() as root, directory() as place:
        options = services.Options(
            source="embedded", cache_dir=str(place / "cache"), data_root=str(root), start_timeout=60
        )
        try:
            started = services.start([need], options)
        except ServiceUnavailableError as error:
            pytest.fail(str(error))
        assert started.postgres is not None
        with psycopg.connect(started.postgres.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        (note,) = started.notes
        started.stop()
    assert note.startswith(
        f"the cache in {place / 'cache'} is full, so nothing of this run is kept"
    )


FULL_FOR_STATES = """
    from itkit.services import cache

    build = cache.Cache._build

    def too_large(self, path, make):
        if "-state-" in path.name:
            raise OSError(28, "No space left on device")
        build(self, path, make)

    cache.Cache._build = too_large
"""


def test_a_migrated_cluster_that_has_no_room_is_told_in_one_line(
    project: Project,
) -> None:
    project.write("test_one.py", "def test_one(db):\n    pass\n")
    project.settings(FULL_FOR_STATES)
    with directory() as place:
        result = project.pytest(
            "--integration", "test_one.py", ITKIT_SOURCE="embedded", ITKIT_CACHE_DIR=str(place)
        )
    assert result.code == 0, result.output
    told = (
        "itkit: The migrated cluster could not be saved for the next run: the cache in"
        f" {place} is full, so nothing of this run is kept: make room, or name another by"
        " ITKIT_CACHE_DIR"
    )
    assert told in result.output, result.output


def test_a_tree_that_cannot_be_copied_is_told_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(50):
        os.mkfifo(source / f"fifo{number}")
    with pytest.raises(SourceUnusableError, match="cannot be copied to") as caught:
        installation._copy_tree_slowly(source, tmp_path / "target")
    assert str(caught.value).count("fifo") == 1

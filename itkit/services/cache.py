"""The cache of what is made once: initialised clusters, and copies of binaries that root needs."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import platformdirs
from filelock import FileLock, Timeout

from itkit.services.errors import SearchEndedError
from itkit.services.supervisor import Supervisor

ENTRY: Final = "itkit-entry-"
"""Begins the name of every entry, so that nothing else in the directory is taken for one."""

_SYSTEM_CACHE: Final = Path("/var/cache/itkit")
_KEPT: Final = 30 * 24 * 3600.0
_PARTIAL: Final = ".partial"


class Cache:
    """Directories that are built under a temporary name and then renamed, so never seen half."""

    def __init__(self, directory: Path, supervisor: Supervisor) -> None:
        self._directory = directory
        self._supervisor = supervisor

    def entry(
        self, name: str, build: Callable[[Path], None], *, owner: int, deadline: float
    ) -> Path:
        """Return a directory of the cache, which ``build`` has made at the path it is given.

        Args:
            name: Names the entry; all that decides its content belongs into it.
            build: Makes the directory. At most one process of this machine does so at a time.
            owner: The id of the user to whom the directory must belong.
            deadline: On the clock of ``time.monotonic``.

        Raises:
            SourceUnusableError: the building failed.
            SearchEndedError: another process was still building at the deadline.
        """
        path = self._directory / f"{ENTRY}{name}"
        if not _is_owned(path, owner):
            with self._locked(path, deadline):
                if not _is_owned(path, owner):  # nobody else was faster
                    self._build(path, build)
        with suppress(OSError):  # another run may just have discarded it
            os.utime(path)  # it is in use
        return path

    def discard(self, name: str, deadline: float) -> None:
        """Remove an entry that turned out to be of no use."""
        path = self._directory / f"{ENTRY}{name}"
        with self._locked(path, deadline):
            shutil.rmtree(path, ignore_errors=True)

    def _build(self, path: Path, build: Callable[[Path], None]) -> None:
        self._remove_leftovers(path.name)
        partial = path.with_name(f"{path.name}.{self._supervisor.directory.name}{_PARTIAL}")
        self._supervisor.add_scratch(partial)
        build(partial)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)

    def _remove_leftovers(self, name: str) -> None:
        """Remove half-built ones, which only a killed guard leaves, and what is long out of use."""
        for path in self._directory.glob(f"{ENTRY}*/"):
            half = path.name.startswith(f"{name}.") and path.suffix == _PARTIAL
            if half or _is_old(path):
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _locked(self, path: Path, deadline: float) -> Iterator[None]:
        lock = FileLock(f"{path}.lock")
        while True:
            with suppress(Timeout):
                lock.acquire(timeout=0)
                break
            self._supervisor.pause(deadline)
        try:
            yield
        finally:
            lock.release()


def open_cache(directory: str | None, supervisor: Supervisor) -> Cache:
    """Return the cache in the directory given, or in the user's.

    Root's is below /var/cache, because the user that the server runs as must reach the copies of
    binaries in it. A user without a home has a private directory in the temporary directory.

    Raises:
        SearchEndedError: the directory given cannot be used.
    """
    if directory is not None:
        path = Path(directory).absolute()
        if _make_private(path):
            return Cache(path, supervisor)
        raise SearchEndedError(
            f"the cache directory {directory} (ITKIT_CACHE_DIR) cannot be used: it must be "
            "writable, belong to this user and be closed to the writing of others",
            'another ITKIT_CACHE_DIR (ITKIT["CACHE_DIR"]), or none for the usual one',
        )
    for candidate in _candidates():
        if _make_private(candidate):
            return Cache(candidate, supervisor)
    return Cache(supervisor.directory, supervisor)  # nothing is kept, all works


def _candidates() -> list[Path]:
    home = _SYSTEM_CACHE if os.geteuid() == 0 else platformdirs.user_cache_path("itkit")
    return [home, Path(tempfile.gettempdir()) / f"itkit-cache-{os.geteuid()}"]


def _make_private(path: Path) -> bool:
    """Make the directory if need be; return whether it is ours alone to write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            path.chmod(0o755 if os.geteuid() == 0 else 0o700)
        status = path.lstat()
    except OSError:
        return False
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    is_closed = not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return is_ours and is_closed and os.access(path, os.W_OK | os.X_OK)


def _is_owned(path: Path, owner: int) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == owner


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _KEPT
    except OSError:
        return False  # another run has just finished or removed it

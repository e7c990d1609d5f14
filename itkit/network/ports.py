"""Finds out whether the tests' own processes have started a server on this machine.

On Linux the system shows which process has opened a socket. Elsewhere only the sockets of this
process are known.
"""

import os
import socket
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from itkit.network.addresses import Key

_PROC: Final = Path("/proc")
_TABLES: Final = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
"""The tables of sockets, and the state of a listening socket in each table."""


class Ports:
    """The sockets that the processes of a run have opened.

    Args:
        root: id of the process from which all others of the run on this machine descend; 0 if it is
            not known.
    """

    def __init__(self, root: int = 0) -> None:
        self._root = root
        self._bound: weakref.WeakSet[Any] = weakref.WeakSet()
        self._found: dict[frozenset[str], bool] = {}

    def note(self, bound: Any) -> None:
        """Note a socket of this process that is about to get an address."""
        with suppress(TypeError):  # a socket without the class of the module socket
            self._bound.add(bound)

    def are_ours(self, key: Key) -> bool:
        """Return whether a process of the run has opened the server."""
        if any(_key_of(bound) == key for bound in list(self._bound)):
            return True
        inodes = frozenset(_inodes(key))
        if inodes and inodes not in self._found:
            self._found[inodes] = _is_of_a_tree(inodes, self._root_here())
        return self._found.get(inodes, False)

    def _root_here(self) -> int:
        own = os.getpid()
        return self._root if self._root in _ancestors(own, _parents()) else own


def is_open(key: Key) -> bool:
    """Return whether anybody listens there; True if the system does not show it."""
    return not _tells() or any(_inodes(key))


def _tells() -> bool:
    return (_PROC / "net" / "tcp").exists()


def _key_of(bound: socket.socket) -> Key | None:
    try:
        name = bound.getsockname()
    except OSError:  # the socket was closed
        return None
    if isinstance(name, tuple):
        return int(name[1])
    return str(Path(name).resolve()) if isinstance(name, str) and name else None


def _inodes(key: Key) -> Iterator[str]:
    """Yield the sockets that listen on a port, or at a path, by their inodes."""
    if isinstance(key, str):
        for line in _lines("unix"):
            words = line.split(maxsplit=7)
            if len(words) == 8 and os.path.realpath(words[7]) == key:
                yield words[6]
        return
    for table, state in _TABLES.items():
        for line in _lines(table):
            words = line.split()
            if words[3] == state and int(words[1].rpartition(":")[2], 16) == key:
                yield words[9]


def _lines(table: str) -> list[str]:
    with suppress(OSError):
        return (_PROC / "net" / table).read_text().splitlines()[1:]
    return []


def _is_of_a_tree(inodes: frozenset[str], root: int) -> bool:
    """Return whether a process, or one that descends from it, holds one of the sockets."""
    parents = _parents()
    wanted = {f"socket:[{inode}]" for inode in inodes}
    ours = [process for process in parents if root in _ancestors(process, parents)]
    return any(not wanted.isdisjoint(_held(process)) for process in ours)


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for directory in _PROC.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
            # The name of the program, in parentheses, may contain any characters.
            rest = (directory / "stat").read_text().rpartition(")")[2].split()
            found[int(directory.name)] = int(rest[1])
    return found


def _ancestors(process: int, parents: dict[int, int]) -> set[int]:
    """Return a process and all its ancestors."""
    found: set[int] = set()
    while process and process not in found:
        found.add(process)
        process = parents.get(process, 0)
    return found


def _held(process: int) -> Iterator[str]:
    with suppress(OSError):  # it has ended, or is somebody else's
        for entry in (_PROC / str(process) / "fd").iterdir():
            with suppress(OSError):
                yield str(entry.readlink())

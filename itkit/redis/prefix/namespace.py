"""The prefix of one generation of one worker, the counter of its generations, and what a plan is.

``plans`` has the plans, which rewrite the arguments of commands and say how replies are read.
"""

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Final

from itkit.core import names

_TYPES: Final = (bytearray, memoryview)
_NUMBER: Final = slice(0, 8)
_IS_READ: Final = 8
_SIZE: Final = 9


class Namespace:
    """The keys and channels of one generation. The object is immutable and replaced atomically.

    The prefix has only lower-case letters, digits and colons. So it is the same in a glob pattern
    and in a key, and a cluster would see no hash tag in it.
    """

    __slots__ = ("_raw", "_raw_root", "generation", "root", "text")

    def __init__(self, run: str, worker: str, generation: int) -> None:
        self.generation = generation
        self.root = names.key_prefix(run, worker)
        self.text = f"{self.root}{generation}:"
        self._raw_root = self.root.encode()
        self._raw = self.text.encode()

    def add(self, name: Any) -> Any:
        """Return a key, channel or pattern with the prefix, in a form that redis-py accepts.

        An argument that redis-py does not accept is returned as it is, so that redis-py refuses it.
        """
        if isinstance(name, str):
            return self.text + name
        if isinstance(name, bytes):
            return self._raw + name
        if isinstance(name, _TYPES):
            return self._raw + bytes(name)
        if isinstance(name, int | float) and not isinstance(name, bool):
            return f"{self.text}{name!r}"
        return name

    def holds(self, name: bytes) -> bool:
        """Return whether a key is of this generation."""
        return name.startswith(self._raw)

    def strip(self, name: Any) -> Any:
        """Return a name in a reply without the prefix of any generation of this worker.

        A reply may be read when the generation of its command is over.
        """
        if isinstance(name, str) and name.startswith(self.root):
            return name[name.index(":", len(self.root)) + 1 :]
        if isinstance(name, bytes) and name.startswith(self._raw_root):
            return name[name.index(b":", len(self._raw_root)) + 1 :]
        return name


class NoNamespace(Namespace):
    """The namespace of a worker with a server of its own: names stay as they are."""

    __slots__ = ()

    def __init__(self) -> None:
        self.generation = 0
        self.root = self.text = ""
        self._raw = self._raw_root = b""

    def strip(self, name: Any) -> Any:
        """Return a name as it is."""
        return name


class GenerationCounter:
    """Counts the generations of one worker.

    Attributes:
        path: the path by which processes that the worker's tests start find the memory. The file is
            on no disk, so that nothing has to be removed. Empty where the system has no such
            memory.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):  # not on macOS
            file = os.memfd_create("itkit-generation")
            self.path = f"/proc/{os.getpid()}/fd/{file}"
        else:
            with tempfile.TemporaryFile() as unnamed:
                file = os.dup(unnamed.fileno())
            self.path = ""
        weakref.finalize(self, os.close, file)
        os.ftruncate(file, _SIZE)
        self._memory = mmap.mmap(file, _SIZE)
        self._last = 0

    def next(self) -> int:
        """Increase the number, which all readers see, and return it."""
        self._last += 1
        self._memory[_NUMBER] = self._last.to_bytes(8, "little")
        return self._last

    @property
    def is_read(self) -> bool:
        """Whether another process has begun to read it."""
        return self._memory[_IS_READ] != 0


class GenerationReader:
    """Reads the counter of another process.

    Args:
        path: the path of the counter's memory.

    Raises:
        OSError: the memory cannot be read, as the process has ended or belongs to another user.
    """

    def __init__(self, path: str) -> None:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(file, _SIZE)
        finally:
            os.close(file)
        self._memory[_IS_READ] = 1

    def now(self) -> int:
        """Return the number."""
        return int.from_bytes(self._memory[_NUMBER], "little")


Arguments = Sequence[Any]


class ReplyEffect(Enum):
    """What a command does to the order of the replies on its connection."""

    BEGIN = auto()
    EXECUTE = auto()
    DISCARD = auto()
    SUBSCRIBE = auto()


Expected = Callable[[Any], Any] | ReplyEffect | None
"""How to read a command's reply: by a function, by its effect, or unchanged if it is None."""

Rewritten = tuple[Arguments, Expected]
Plan = Callable[[Namespace, Arguments], Rewritten]
"""Rewrites the arguments of one command for a namespace."""

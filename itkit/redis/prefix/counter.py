"""The number of a worker's generation, in memory that other processes can read as well."""

import mmap
import os
import tempfile
import weakref
from typing import Final

_NUMBER: Final = slice(0, 8)
_IS_READ: Final = 8
_SIZE: Final = 9


class Counter:
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


class Reader:
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

"""The number of a worker's generation, in memory that other processes can read as well."""

import mmap
import os
import tempfile
import weakref
from typing import Final

_SIZE: Final = 8


class Counter:
    """Counts the generations of one worker.

    Attributes:
        path: where the processes of the worker's tests find the memory. It is that of no file, so
            that nothing has to be removed; empty where the system has none of that kind.
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
        """Count one on, for everybody who reads, and return the number."""
        self._last += 1
        self._memory[:] = self._last.to_bytes(_SIZE, "little")
        return self._last


class Reader:
    """Reads the counter of another process.

    Args:
        path: of its memory.

    Raises:
        OSError: it cannot be read, because the process has ended, or is that of another user.
    """

    def __init__(self, path: str) -> None:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(file, _SIZE, prot=mmap.PROT_READ)
        finally:
            os.close(file)

    def now(self) -> int:
        """Return the number."""
        return int.from_bytes(self._memory, "little")

"""Caches in files: each worker has a directory of its own, which is empty when a test begins."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.cache.backends.filebased import FileBasedCache

from itkit.core import caches


def aliases() -> list[str]:
    """Return the aliases of ``CACHES`` that keep their values in files."""
    return caches.aliases_of(FileBasedCache)


class Files:
    """The directories of one worker's caches in files.

    Args:
        root: directory of the run; it need not exist on this machine yet. Without one, caches stay
            as they are.
        worker: id of the worker.
    """

    def __init__(self, root: str, worker: str) -> None:
        self._root = root
        self.worker = worker
        self.refuse: Callable[[str], None] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Point all caches in files at the worker's directories within a block.

        Each object of Django's class keeps its path in ``_dir``, in every thread. So a property
        replaces that attribute. Checked with Django 5.2 and 6.1.
        """
        if not self._root:
            yield
            return
        cache: Any = FileBasedCache
        cache._dir = property(self._of, _remember)
        try:
            yield
        finally:
            del cache._dir

    def clear(self) -> None:
        """Remove what the caches of this worker hold."""
        if self._root:
            shutil.rmtree(self._own, ignore_errors=True)

    @property
    def _own(self) -> Path:
        return Path(self._root) / self.worker

    def _of(self, cache: FileBasedCache) -> str:
        if self.refuse is not None:
            self.refuse("A cache in files")
        original = Path(vars(cache)["_dir"])
        # One directory for each directory of the project: two aliases may share one.
        return str(self._own / original.relative_to(original.anchor))


def _remember(cache: FileBasedCache, directory: str) -> None:
    vars(cache)["_dir"] = directory

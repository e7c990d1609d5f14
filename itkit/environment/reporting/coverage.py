"""The boundary coverage of a run, ``--itkit-coverage``: collected by process, and added up."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from itkit import conf
from itkit.backends.registry import Registry
from itkit.timeline import core

if TYPE_CHECKING:
    from itkit.backends import outcomes


def prepared() -> str:
    """Return the directory of the boundary coverage, emptied."""
    from itkit.report import coverage

    path = Path(conf.get().report.coverage).absolute()
    coverage.prepare(path)
    return str(path)


class BoundaryCollection:
    """What the tests of this process see of the boundaries.

    Args:
        directory: the directory of the run's coverage; empty where nobody asks for it.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._collector: outcomes.Collector | None = None

    def begin(self, backends: Registry, worker: str) -> None:
        """Begin to collect, where the run asks for that.

        Args:
            backends: the registry of the backends.
            worker: id of this process as a worker.
        """
        if self._directory:
            from itkit.backends import outcomes

            self._collector = outcomes.Collector(backends, Path(self._directory))
            self._collector.write(worker)

    def followed(self) -> AbstractContextManager[None]:
        """Note within a block what is on no timeline; do nothing where nobody asks for it."""
        return self._collector.followed() if self._collector is not None else nullcontext()

    def add(self, story: core.Timeline, worker: str) -> None:
        """Add what a test has seen.

        Args:
            story: the timeline of the test.
            worker: id of this process as a worker.
        """
        if self._collector is not None:
            self._collector.add(story)
            self._collector.write(worker)

    def result(self, minimum: float | None) -> tuple[list[str], bool]:
        """Return what the tests of all processes have seen, at the end of the run.

        Args:
            minimum: the percentage that is required, if any.

        Returns:
            The lines to be printed, and whether it is less than required.
        """
        if self._collector is None:
            return [], False
        from itkit.report import coverage

        directory = Path(self._directory)
        found = coverage.collect(directory)
        lines = [*found.lines(), f"  the page: {(directory / coverage.PAGE).as_uri()}"]
        is_short = minimum is not None and found.percent < minimum
        if is_short:
            lines.append(f"itkit: boundary coverage of {found.percent} % is less than {minimum} %")
        return lines, is_short

"""The pages of the report, ``--itkit-report``: one for each failed test, with rows and keys."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import connections

from itkit import conf
from itkit.core import names
from itkit.exceptions import ServiceUnavailableError

if TYPE_CHECKING:
    from itkit import postgres, redis, report

_MOST_KEYS = 50  # keys on the page of a failure, and elements of one value


def prepared(option: str | None, arguments: Sequence[str], *, is_asked: bool) -> str:
    """Return the directory of the report, emptied; an empty text where there is to be none.

    Args:
        option: the value of ``--itkit-report``, if it is given.
        arguments: of the command line.
        is_asked: whether another option asks for a report.
    """
    setting = conf.get().report.dir or (names.REPORT_DIRECTORY if is_asked else None)
    if option is None and setting is None:
        return ""
    from itkit import report

    path = report.chosen(option, setting, arguments)
    if path is None:
        return ""
    report.Folder(path).prepare()
    return str(path)


def state_of(routing: "postgres.Routing", isolation: "redis.WorkerRedis") -> "report.State":
    """Return the rows and keys of a test, read by sessions that are none of the test's.

    Args:
        routing: the worker's databases.
        isolation: the worker's Redis.
    """
    from itkit import report

    try:
        keys = [(key.describe(), value) for key, value in isolation.read_keys(_MOST_KEYS)]
    except ServiceUnavailableError:
        keys = []
    return report.State(
        tables=[(found.table, found.rows, found.has_more) for found in routing.differences()],
        keys=keys,
        is_rolled_back=any(
            connection.in_atomic_block for connection in connections.all(initialized_only=True)
        ),
    )


class Pages:
    """The pages of one process, and the state that the last failed test has left.

    Args:
        directory: the directory of the report; empty where there is none.
        of_all: whether tests that pass have a page as well.
    """

    def __init__(self, directory: str, *, of_all: bool) -> None:
        self._directory = directory
        self._of_all = of_all
        self._looked_at = ""
        self._state: report.State | None = None

    def are_for(self, error: BaseException | None) -> bool:
        """Return whether a test gets a page; ``error`` is None where it has passed."""
        return bool(self._directory) and (error is not None or self._of_all)

    def forget_state(self) -> None:
        """Forget the state of the test before."""
        self._looked_at, self._state = "", None

    def look(self, test: str, read: Callable[[], "report.State"]) -> None:
        """Keep what the servers have at the failure of a test, before it is taken back.

        Args:
            test: its id.
            read: reads the state of the servers.
        """
        if self._directory and self._looked_at != test:
            self._looked_at, self._state = test, read()

    def state(self, test: str) -> "report.State | None":
        """Return what was kept for a test, by its id; None where nothing was."""
        return self._state if self._looked_at == test else None

    def write(self, trace: "report.Trace") -> str:
        """Write a page of the report; return a line that names it."""
        try:
            page = self._folder.add(trace)
        except OSError as failure:
            return f"its page could not be written: {failure}"
        return f"its page: {page.as_uri()}"

    def finish(self) -> None:
        """Complete the index of the report, which is not written anew with each page of many."""
        if self._directory:
            with suppress(OSError):  # somebody has removed the directory
                self._folder.write_index()

    @cached_property
    def _folder(self) -> "report.Folder":
        """The folder, which knows the entries of its index: they are read once for all pages."""
        from itkit import report

        return report.Folder(Path(self._directory))

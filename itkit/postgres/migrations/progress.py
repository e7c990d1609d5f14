"""Prints which migration is running, once migrating has taken some time."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from itkit.postgres.migrations.watch import MigrationNames

WAIT_SECONDS = 2.0
_POLL_SECONDS = 1.0
_CLEARED = "\r\x1b[K"


@contextmanager
def shown(alias: str, names: MigrationNames, stderr: int | None) -> Iterator[None]:
    """Print, within a block that migrates, which migration runs and for how long.

    A terminal sees one line that is written anew each second, and is cleared at the end. Anything
    else gets a single line.

    Args:
        alias: an alias of ``DATABASES``.
        names: knows which migration is running.
        stderr: a file descriptor, which no runner captures; None shows nothing.
    """
    if stderr is None:
        yield
        return
    over, begin = threading.Event(), time.monotonic()

    def print_progress() -> None:
        is_terminal, has_printed = os.isatty(stderr), False
        wait = WAIT_SECONDS
        while not over.wait(wait):
            wait = _POLL_SECONDS
            seconds = time.monotonic() - begin
            line = f"itkit: migrating alias {alias!r}: {names.running}, {seconds:.0f} s so far"
            if not is_terminal:
                _write(stderr, f"\n{line}\n")
                return
            _write(stderr, f"{_CLEARED}{line}")
            has_printed = True
        if has_printed:
            _write(stderr, _CLEARED)

    thread = threading.Thread(target=print_progress, name="itkit-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _write(stderr: int, text: str) -> None:
    with suppress(OSError):  # a pipe that nobody reads is no reason to fail
        os.write(stderr, text.encode())

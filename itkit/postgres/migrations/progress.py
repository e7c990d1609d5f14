"""Prints which migration is running, if migrating takes some time."""

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

    A terminal shows one line, which is updated each second and cleared at the end. Other outputs
    get a single line.

    Args:
        alias: an alias of ``DATABASES``.
        names: knows which migration is running.
        stderr: a file descriptor that no runner captures; None prints nothing.
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
    with suppress(OSError):  # a closed pipe must not fail the migrations
        os.write(stderr, text.encode())

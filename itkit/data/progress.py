"""A progress bar for work that takes long, on a terminal that can show one."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

WAIT_SECONDS: Final = 2.0


def counted(title: str, count: int) -> Iterator[int]:
    """Yield the numbers from 0 to ``count`` - 1; show a bar if this takes more than two seconds.

    The bar is on stderr, and only if that is a terminal: a test runner that captures output shows
    none.
    """
    started = time.monotonic()
    with ExitStack() as shown:
        bar = None
        for number in range(count):
            yield number
            if bar is None and time.monotonic() - started > WAIT_SECONDS:
                bar = shown.enter_context(_bar())
                task = bar.add_task(title, total=count)
            if bar is not None:
                bar.update(task, completed=number + 1)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(file=sys.stderr)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )

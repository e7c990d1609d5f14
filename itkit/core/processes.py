"""Finds out whether other processes exist, and ends this process with another one."""

import os
import select
import threading
import time

_POLL_SECONDS = 0.2
_STATUS = 70
"""The exit code of a process that ends because another one has ended."""


def is_there(process: int) -> bool:
    """Return whether a process with an id exists, which may be another one than before."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_with(process: int, thread: str) -> None:
    """End this process, at once and without any clean-up, when another process has ended.

    Args:
        process: id of the other process. A parent that has ended counts as ended even if nobody has
            waited for it.
        thread: name of the thread that waits for its end.
    """
    is_parent = os.getppid() == process
    try:
        ended = os.pidfd_open(process)
    except (AttributeError, OSError):  # not available on macOS, or the process has ended already
        ended = None

    def watch() -> None:
        if ended is not None:
            poll = select.poll()
            poll.register(ended)
            poll.poll()
        while ended is None and is_there(process) and (not is_parent or os.getppid() == process):
            time.sleep(_POLL_SECONDS)
        os._exit(_STATUS)

    threading.Thread(target=watch, name=thread, daemon=True).start()

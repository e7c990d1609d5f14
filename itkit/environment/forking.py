"""What a forked process forgets of its parent, and how a worker ends with its parent.

It is a module of its own, so that whoever looks for forks finds it.
"""

import multiprocessing
import os
from typing import TYPE_CHECKING

from itkit.core import processes
from itkit.timeline.failure_channel import FailureChannel

if TYPE_CHECKING:
    from itkit.postgres import Routing


def forget(routing: "Routing", channel: FailureChannel) -> None:
    """Let a process that was just forked open its own connections, and report its errors.

    Args:
        routing: the process's connections of Django, which it has inherited.
        channel: the way by which its errors get to its parent.
    """
    routing.forget_connections()
    channel.use_in_child()


def end_with_parent() -> None:
    """End this worker when its parent is gone: nobody is left to give it work or read its results.

    A pool's workers hold the write ends of their own queues, so they would wait for ever after a
    SIGKILL of the main process, and keep its pipes open.
    """
    parent = os.getppid()
    main = multiprocessing.parent_process()
    # The main process may be gone by now, and then another one is the parent. Only a forkserver
    # is always another one.
    if main is not None and multiprocessing.get_start_method() != "forkserver":
        parent = main.pid or parent
    processes.end_with(parent, "itkit-parent-watch")

"""The conductor: the scopes of a run, its workers and its tests, over all parts.

Read in this order: ``run`` (what one command provides), ``process`` (starts a run, attaches to it
and ends it), ``worker`` (a process attached to the run, and the scope of each test), ``verdict``
(what fails a test), ``reporting`` (messages, notes, pages, coverage), ``child`` (a process that a
test has started), ``forking`` (what a forked process forgets), ``cases`` (Django's own test cases),
``files`` (caches in files), ``leaving`` and ``afterwards`` (tests that end the process, or outlive
themselves), ``running`` (runs that another terminal may join), ``keeping`` (``--itkit-keep``),
``bisection`` (``--itkit-bisect``).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itkit.environment.process import attach, current, leave_with, reopen, start, stop
    from itkit.environment.worker import Environment

__all__ = ["Environment", "attach", "current", "leave_with", "reopen", "start", "stop"]


def __getattr__(name: str) -> Any:
    """Import the names on their first use: ``child`` is imported by every process of a project."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from itkit.environment import process, worker

    # Kept, as several of them are used for each test.
    globals().update({one: getattr(process, one) for one in __all__ if one != "Environment"})
    globals()["Environment"] = worker.Environment
    return globals()[name]

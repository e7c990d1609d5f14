"""Runs one test again and again, and lets another crossing of what it does fail each time.

Read in this order: ``decorating`` (what makes a test a swept one), ``choosing`` (which faults it
is run with, as its author and the command line say), ``gate`` (numbers the crossings of the act,
and lets one of them fail), ``statements``, ``calls`` and ``commands`` (what each kind of crossing
can suffer, and how), ``rows`` (the content of all tables, to be compared), ``injection`` (what a
test holds), ``variations`` (which faults there are after the first run, and what was found).
"""

from typing import TYPE_CHECKING, Any

from itkit.sweep.decorating import faults

if TYPE_CHECKING:
    from itkit.sweep.injection import Fault, fault

__all__ = ["Fault", "fault", "faults"]


def __getattr__(name: str) -> Any:
    """Import what needs Django on its first use: modules of tests import this one."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from itkit.sweep import injection

    return getattr(injection, name)

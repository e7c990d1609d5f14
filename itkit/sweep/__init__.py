"""One test run again and again, each time with another crossing failed, or in another schedule.

Read in this order: ``decorating`` (what makes a test a swept one), ``choosing`` (which variations
it has, as its author and the command line say), ``gate`` (numbers the crossings of the act,
and lets one of them fail), ``statements``, ``calls`` and ``commands`` (what each kind of crossing
can suffer, and how), ``rows`` (the content of all tables, to be compared), ``injection`` (what a
test holds), ``hanging`` (an act that does not come to its end), ``variations`` (what all sweeps
have in common, and what was found), ``fault_sweep`` (which faults there are after the first run).

Of races: ``actors`` (several acts, of which one at a time is let on), ``aftermath`` (what they have
left, compared with what their orders leave), ``racing`` (what a test holds), ``race_sweep`` (which
schedules there are). Of repetitions: ``repeating`` (what a test holds) and ``repeat_sweep``.
Of states: ``stating`` (what a test holds, and what a refused act has written) and ``state_sweep``.
``sweeps`` finds the sweep of a test.
"""

from typing import TYPE_CHECKING, Any

from itkit.sweep.decorating import faults, races, repeats, states

if TYPE_CHECKING:
    from itkit.sweep.injection import Fault, fault
    from itkit.sweep.racing import Race
    from itkit.sweep.repeating import Repeat
    from itkit.sweep.stating import SweptState

__all__ = ["Fault", "Race", "Repeat", "SweptState", "fault", "faults", "races", "repeats", "states"]


def __getattr__(name: str) -> Any:
    """Import what needs Django on its first use: modules of tests import this one."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from itkit.sweep import injection, racing, repeating, stating

    modules = {"Race": racing, "Repeat": repeating, "SweptState": stating}
    return getattr(modules.get(name, injection), name)

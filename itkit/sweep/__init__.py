"""One test run again and again, each time with another crossing failed, or in another schedule.

Read in this order: ``decorating`` (what makes a test a swept one), ``choosing`` (which variations
it has, as its author and the command line say), ``variations`` (what all sweeps have in common, and
what was found), ``gate`` (numbers the crossings of the act). The kinds of sweeps are ``injection``
(of faults), ``race`` (of schedules), ``repeat`` (the act once more) and ``state`` (the act from
each state). ``sweeps`` finds the sweep of a test.

All kinds use ``act`` (its transactions and threads), ``rows`` (the content of all tables), and
``aftermath`` (all that acts have left, to be compared).
"""

from typing import TYPE_CHECKING, Any

from itkit.sweep.decorating import faults, races, repeats, states

if TYPE_CHECKING:
    from itkit.sweep.injection.fault import Fault, fault
    from itkit.sweep.race.race import Race
    from itkit.sweep.repeat import Repeat
    from itkit.sweep.state import SweptState

__all__ = ["Fault", "Race", "Repeat", "SweptState", "fault", "faults", "races", "repeats", "states"]


def __getattr__(name: str) -> Any:
    """Import what needs Django on its first use: modules of tests import this one."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from itkit.sweep import repeat, state
    from itkit.sweep.injection import fault
    from itkit.sweep.race import race

    modules = {"Race": race, "Repeat": repeat, "SweptState": state}
    return getattr(modules.get(name, fault), name)

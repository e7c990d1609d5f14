"""The sweep that a test asks for.

It is a module of its own, as each kind of sweep imports ``variations``, and this imports each kind.
"""

from collections.abc import Callable
from typing import Any

from itkit.environment import Environment
from itkit.sweep.choosing import AnyChoice, RaceChoice, RepeatChoice, StatesChoice
from itkit.sweep.injection.fault_sweep import FaultSweep
from itkit.sweep.race.race_sweep import RaceSweep
from itkit.sweep.repeat import RepeatSweep
from itkit.sweep.state import StateSweep
from itkit.sweep.variations import Sweep


def sweep_of(
    environment: Environment,
    choice: AnyChoice,
    test: str,
    *say: Callable[[str], Any],
) -> Sweep:
    """Return the sweep of a test.

    Args:
        environment: the environment that the tests run in.
        choice: the variations that the author of the test has chosen.
        test: its id.
        *say: prints a line although what a test prints is captured, where that needs more.
    """
    if isinstance(choice, RaceChoice):
        return RaceSweep(environment, test, *say)
    if isinstance(choice, RepeatChoice):
        return RepeatSweep(environment, test, *say)
    if isinstance(choice, StatesChoice):
        return StateSweep(environment, choice, test, *say)
    return FaultSweep(environment, choice, test, *say)

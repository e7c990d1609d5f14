"""Which states the act of a test is done from, after its first run."""

from collections.abc import Iterator
from typing import Any, Final

from itkit import conf
from itkit.core import names
from itkit.environment import Environment
from itkit.exceptions import FaultError
from itkit.sweep.choosing import StatesChoice, StateSpec
from itkit.sweep.stating import SweptState
from itkit.sweep.variations import Sweep, Variation

_NO_ACT: Final = "The test is swept with states, and has no act: with state.act(): ..."


class StateSweep(Sweep):
    """The variations of one test in which its act is done from another state.

    Args:
        environment: the environment that the tests run in.
        choice: the states.
        *args: as all sweeps take them.
    """

    word = "state"
    failing = "The test does not hold from"
    when = "from"

    def __init__(self, environment: Environment, choice: StatesChoice, *args: Any) -> None:
        super().__init__(environment, *args)
        payload = environment.payload
        is_one = payload.fault or payload.schedule
        self._mode = names.SWEEP_OFF if is_one else payload.sweep
        self._choice = choice

    def new(self, spec: StateSpec | None = None) -> SweptState:
        """Return what the test holds in a run, the first of which is from the first state."""
        return SweptState(self._choice, spec)

    def begin(self, first: SweptState) -> bool:
        """Return whether there are more states.

        Raises:
            FaultError: the test has no act.
        """
        if self._mode == names.SWEEP_OFF:
            return False
        if not first.was_entered:
            raise FaultError(_NO_ACT)
        self.count(len(self._choice.states))
        return len(self._choice.states) > 1

    def variations(self) -> Iterator[Variation]:
        """Yield each state but the first."""
        total = len(self._choice.states)
        for number, spec in enumerate(self._choice.states[1:], 2):
            self.count(total)
            reason = self.bound(conf.get().sweep.variations)
            if number < total and reason:
                self.leave(total - number, total, reason)
            is_last = number == total or bool(reason)
            yield Variation(spec, is_last)
            if is_last:
                return

    def not_tried(self) -> Iterator[str]:
        """Yield what is not a state of this field."""
        yield f"what other fields than {self._choice.field} say"

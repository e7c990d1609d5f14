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
_NO_STATE: Final = "--itkit-state is {!r}, and the states of {} are: {}."


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
    option = "state"

    def __init__(self, environment: Environment, choice: StatesChoice, *args: Any) -> None:
        super().__init__(environment, *args)
        self._choice = choice

    def new(self, spec: StateSpec | None = None) -> SweptState:
        """Return what the test holds in a run, the first of which is from the first state."""
        return SweptState(self._choice, spec)

    def begin(self, first: SweptState) -> bool:
        """Return whether there are more states.

        Raises:
            FaultError: the test has no act, or the field no state that the command line asks for.
        """
        if self._mode == names.SWEEP_OFF:
            return False
        if not first.was_entered:
            raise FaultError(_NO_ACT)
        if self._only:
            self._asked()
            return True
        self.count(len(self._choice.states))
        return len(self._choice.states) > 1

    def variations(self) -> Iterator[Variation]:
        """Yield each state but the first, or the only one that the command line asks for."""
        if self._only:
            yield Variation(self._asked(), is_last=True, is_shown=True)
            return
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

    def _asked(self) -> StateSpec:
        """Return the state that the command line asks for."""
        states = self._choice.states
        for spec in states:
            if str(spec) == self._only:
                return spec
        known = ", ".join(repr(str(spec)) for spec in states)
        raise FaultError(_NO_STATE.format(self._only, self._choice.field, known))

    def not_tried(self) -> Iterator[str]:
        """Yield what is not a state of this field."""
        yield f"what other fields than {self._choice.field} say"

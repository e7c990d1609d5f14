"""How the act of a test is done once more, after its first run."""

from collections.abc import Iterator
from typing import Final

from itkit.core import names
from itkit.exceptions import FaultError
from itkit.sweep.repeating import BY_ANOTHER, TWICE, Repeat
from itkit.sweep.variations import Sweep, Variation

_NO_ACT: Final = "The test is swept by repetition, and does nothing twice: call repeat(act, ...)."


class RepeatSweep(Sweep):
    """The variations of one test in which its act is done once more."""

    word = "repetition"
    failing = "The test does not hold after"
    when = "after"

    def new(self, spec: str | None = None) -> Repeat:
        """Return what the test holds in a run."""
        return Repeat(spec)

    def begin(self, first: Repeat) -> bool:
        """Return whether the act is to be done once more.

        Raises:
            FaultError: the test has none.
        """
        if self._mode == names.SWEEP_OFF:
            return False
        if not first.was_called:
            raise FaultError(_NO_ACT)
        return True

    def variations(self) -> Iterator[Variation]:
        """Yield both ways to do an act once more."""
        for spec in (TWICE, BY_ANOTHER):
            self.count(2)
            yield Variation(spec, is_last=spec == BY_ANOTHER)

    def not_tried(self) -> Iterator[str]:
        """Yield what other sweeps are for."""
        yield "both at once (races), and a second time after a failure (faults)"

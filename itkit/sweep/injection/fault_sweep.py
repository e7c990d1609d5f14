"""Which faults a swept test is run with, after its first run."""

from collections.abc import Iterator
from typing import Any, Final

from itkit import conf
from itkit.core import names
from itkit.environment import Environment
from itkit.exceptions import FaultError
from itkit.sweep.choosing import AnyFault, Choice, FaultPair, FaultSpec, parse_fault
from itkit.sweep.gate.gate import Crossed
from itkit.sweep.injection.fault import Baseline, Fault
from itkit.sweep.variations import Sweep, Variation

_NO_BLOCK: Final = (
    "The test is swept, and nothing in it can fail: put what it does into a block,"
    " with fault.injected(): ..."
)
_NO_CROSSING: Final = (
    "Nothing within fault.injected() can fail: no write, COMMIT, call of a backend, mail or task"
    " was seen there. Put what the test does into the block, or name what is to fail:"
    ' @faults(at=["SELECT *"]).'
)


class FaultSweep(Sweep):
    """The variations of one test, each with a fault.

    Args:
        environment: the environment that the tests run in.
        choice: the faults that the test is swept with.
        *args: as all sweeps take them.
    """

    word = "fault"
    failing = "The test does not survive"
    when = "after"
    option = "fault"

    def __init__(self, environment: Environment, choice: Choice, *args: Any) -> None:
        super().__init__(environment, *args)
        self._choice = choice
        self._baseline = Baseline()
        self._specs: list[FaultSpec] = []
        self._crossed: list[Crossed] = []
        self._last: Fault | None = None
        self._distinct: dict[tuple[str, int], tuple[str, ...]] = {}
        self._equal = 0
        self._quiet = 0

    def new(self, spec: AnyFault | None = None) -> Fault:
        """Return what the test holds in a run."""
        self._last = Fault(self._choice, spec, mode=self._mode, baseline=self._baseline)
        return self._last

    def _begin(self, first: Fault) -> bool:
        """Collect the faults that can be tried, and return whether there are any.

        Raises:
            FaultError: nothing in the test can fail.
        """
        if self._only:
            return True
        crossed = first.gate.crossed
        if not any(one.kinds for one in crossed):
            raise FaultError(_NO_CROSSING if first.was_entered else _NO_BLOCK)
        self._equal = sum(one.equal for one in crossed)
        self._quiet = sum(one.is_quiet for one in crossed)
        found = [FaultSpec(one.key, one.number, kind) for one in crossed for kind in one.kinds]
        self._crossed = [one for one in crossed if one.kinds]
        self._distinct = {(one.key, one.number): one.distinct for one in crossed}
        most = conf.get().sweep.variations
        if len(found) > most:
            self.leave(len(found) - most, len(found), f'ITKIT["SWEEP"]["VARIATIONS"] is {most}')
        self._specs = found[:most]
        return True

    def variations(self) -> Iterator[Variation]:
        """Yield one for each fault, or the only one that the command line asks for."""
        if self._only:
            yield Variation(parse_fault(self._only), is_last=True, is_shown=True)
            return
        has_pairs = self._mode == names.SWEEP_FULL
        total = len(self._specs)
        pairs: list[FaultPair] = []
        for number, spec in enumerate(self._specs, 1):
            self.count(total)
            is_over = number < total and bool(reason := self.bound(total + 1))
            if is_over:
                self.leave(total - number, total, reason)
            yield Variation(spec, is_last=is_over or (number == total and not has_pairs))
            if is_over:
                return
            if has_pairs:
                pairs += self._pairs(spec)
        yield from self._paired(pairs)

    def _paired(self, pairs: list[FaultPair]) -> Iterator[Variation]:
        """Yield the variations with two faults, as many as the settings let there be."""
        total = self.tried + len(pairs)
        for pair in pairs:
            if reason := self.bound(conf.get().sweep.variations):
                self.leave(total - self.tried, total, reason)
                return
            self.count(total)
            yield Variation(pair, is_last=False)

    def _pairs(self, spec: FaultSpec) -> Iterator[FaultPair]:
        """Yield this fault, which has just happened, with each that could happen after it."""
        if self._last is None or spec.kind not in self._distinct.get(
            (spec.target, spec.number), ()
        ):
            return
        gate = self._last.gate
        if gate.struck is None or gate.is_dead:
            return
        for one in gate.crossed_since:
            for kind in one.distinct:
                yield FaultPair(spec, FaultSpec(one.key, one.number, kind))

    def grid(self) -> tuple[list[str], list[tuple[str, str, list[str]]]]:
        """Return a column for each kind of fault, and a row for each crossing that can fail.

        A cell is empty where the fault would have the effect of another, or cannot be.
        """
        kinds = list(dict.fromkeys(kind for one in self._crossed for kind in one.kinds))
        rows = []
        for one in self._crossed:
            specs = {kind: FaultSpec(one.key, one.number, kind) for kind in one.kinds}
            cells = [self.result(specs[kind]) if kind in specs else "" for kind in kinds]
            rows.append((f"{one.key}#{one.number}", str(one.site), cells))
        return kinds, rows

    def not_tried(self) -> Iterator[str]:
        """Yield how many faults have the effect of another, and how many crossings only read."""
        yield f"{self._equal} faults that have the effect of another"
        yield f"{self._quiet} crossings that only read, or were left out (--itkit-sweep=full)"
        if self._mode == names.SWEEP_QUICK:
            yield "two faults in one run (--itkit-sweep=full)"

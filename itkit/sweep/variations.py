"""The variations of a swept test after its first run, and the report of those that fail."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Final, NamedTuple

from itkit import conf
from itkit.core import names
from itkit.environment import Environment
from itkit.environment.notes import UNTRIED, Note
from itkit.sweep.choosing import Choice, FaultSpec
from itkit.sweep.gate import Crossed
from itkit.sweep.injection import Baseline, Fault

_SLOW_SECONDS: Final = 2.0
_MOST_SHOWN: Final = 20
_NO_BLOCK: Final = (
    "The test is swept, and nothing in it can fail: put what it does into a block,"
    " with fault.injected(): ..."
)
_NO_CROSSING: Final = (
    "Nothing within fault.injected() can fail: no write, COMMIT, call of a backend, mail or task"
    " was seen there. Put what the test does into the block, or name what is to fail:"
    ' @faults(at=["SELECT *"]).'
)


class Broken(NamedTuple):
    """One variation in which the test has failed.

    Attributes:
        spec: the fault of the variation.
        struck: the crossing that the fault has happened to; None where it was not reached.
        summary: one line that says what is wrong.
        text: the whole text of the failure.
    """

    spec: FaultSpec
    struck: Crossed | None
    summary: str
    text: str


class Sweep:
    """The variations of one test.

    Args:
        environment: the environment that the tests run in.
        choice: the faults that the test is swept with.
        test: the id of the test.
        say: a function that prints a line although the output of tests is captured.

    Attributes:
        findings: the variations that have failed.
        is_repeated: whether only the one fault of the command line is tried.
    """

    def __init__(
        self,
        environment: Environment,
        choice: Choice,
        test: str,
        say: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        self.findings: list[Broken] = []
        self._environment = environment
        self._choice = choice
        self._test = test
        self._say = say
        self._mode = environment.payload.sweep
        self._only = environment.payload.fault
        self._baseline = Baseline()
        self._tried = 0
        self._found = 0
        self._equal = 0
        self._quiet = 0
        self._untried = ""
        self._start = time.monotonic()
        self._announced = self._start

    @property
    def is_repeated(self) -> bool:
        """Whether only the one fault of the command line is tried."""
        return bool(self._only)

    @contextmanager
    def varied(self, spec: FaultSpec | None = None) -> Iterator[Fault]:
        """Make the test that runs within a block the variation of a fault, or the first run.

        Args:
            spec: the fault; None for the first run, which has none.
        """
        outer = self._environment.variation
        fault = Fault(self._choice, spec, mode=self._mode, baseline=self._baseline)
        self._environment.variation = fault
        try:
            yield fault
        finally:
            self._environment.variation = outer

    def specs(self, first: Fault) -> list[FaultSpec]:
        """Return the faults that are to be tried, after the first run.

        Args:
            first: the ``Fault`` of that run, which has seen the crossings.
        """
        if self._mode == names.SWEEP_OFF:
            return []
        if self._only:
            return [FaultSpec.parse(self._only)]
        crossed = first.gate.crossed
        self._equal = sum(one.equal for one in crossed)
        self._quiet = sum(one.is_quiet for one in crossed)
        found = [FaultSpec(one.key, one.number, kind) for one in crossed for kind in one.kinds]
        self._found = len(found)
        most = conf.get().sweep.variations
        if len(found) > most:
            self._leave(len(found) - most, f'ITKIT["SWEEP"]["VARIATIONS"] is {most}')
        return found[:most]

    def obstacle(self, first: Fault) -> str:
        """Return why there is nothing to try, where that is a mistake; otherwise an empty text."""
        if self._mode == names.SWEEP_OFF or any(one.kinds for one in first.gate.crossed):
            return ""
        return _NO_CROSSING if first.was_entered else _NO_BLOCK

    def is_last(self, index: int, count: int) -> bool:
        """Return whether a variation is the last one of the test, or of the time that is left.

        Args:
            index: the number of the variation, from 0.
            count: how many variations there are.
        """
        self._tried += 1
        self._announce_progress(count)
        seconds = conf.get().sweep.seconds
        if index + 1 < count and time.monotonic() - self._start > seconds:
            self._leave(count - index - 1, f'ITKIT["SWEEP"]["SECONDS"] is {seconds:g}')
            return True
        return index + 1 == count

    def report(self) -> str:
        """Return the failures, grouped by what is wrong; an empty text where there are none."""
        if self._untried:
            self._environment.notes.add(Note(UNTRIED, self._test, self._untried, self._test))
        if not self.findings:
            return ""
        broken = len(self.findings)
        lines = [f"The test does not survive {broken} of the {self._tried} faults that were tried."]
        ordered = sorted(self.findings, key=_summary)
        groups = [list(group) for _, group in groupby(ordered, key=_summary)]
        for group in sorted(groups, key=lambda group: self.findings.index(group[0])):
            lines += ["", *_shown(group)]
        lines += ["", f"Not tried: {'; '.join(self._not_tried())}."]
        return "\n".join(lines)

    def _not_tried(self) -> Iterator[str]:
        if self._untried:
            yield self._untried
        yield f"{self._equal} faults that have the effect of another"
        yield f"{self._quiet} crossings that only read, or were left out (--itkit-sweep=full)"

    def _leave(self, count: int, reason: str) -> None:
        self._untried = f"{count} of {self._found} faults were not tried, as {reason}"

    def _announce_progress(self, count: int) -> None:
        now = time.monotonic()
        if now - self._announced > _SLOW_SECONDS:
            self._announced = now
            self._say(f"\nitkit: {self._test}: fault {self._tried} of {count}\n")


def _summary(finding: Broken) -> str:
    return finding.summary


def _shown(group: list[Broken]) -> Iterator[str]:
    """Yield the lines of findings that have the same summary."""
    shortest = min(group, key=lambda finding: len(finding.text))
    yield f"{shortest.summary}"
    yield f"  after {'this fault' if len(group) == 1 else f'each of these {len(group)} faults'}:"
    width = max(len(repr(str(one.spec))) for one in group[:_MOST_SHOWN])
    for one in group[:_MOST_SHOWN]:
        place = f"{one.struck.name} at {one.struck.site}" if one.struck is not None else ""
        yield f"    {str(one.spec)!r:<{width}}  {place}".rstrip()
    if len(group) > _MOST_SHOWN:
        yield f"    and {len(group) - _MOST_SHOWN} more"
    yield f"  with {str(shortest.spec)!r}:"
    yield from (f"    {line}".rstrip() for line in shortest.text.rstrip().splitlines())

"""The sweep of one test: the base of all kinds of sweeps, and the report of their findings."""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

from itkit import conf
from itkit.core import names
from itkit.core.text import counted
from itkit.environment import Environment
from itkit.environment.reporting.notes import UNTRIED, Note
from itkit.exceptions import printable

if TYPE_CHECKING:
    from itkit.report import Trace

_SLOW_SECONDS: Final = 2.0
_MOST_SHOWN: Final = 20
_MOST_ROWS: Final = 200  # of the grid in a page


class Varying(Protocol):
    """The object that a test holds in one of its runs, such as a ``Fault`` or a ``Race``.

    Attributes:
        option: the option of the command line that repeats the variation.
    """

    option: str

    @property
    def shown(self) -> str:
        """The text that explains a failure, beside the timeline."""

    @property
    def has_fault(self) -> bool:
        """Whether it is a variation, and not the first run."""

    @property
    def columns(self) -> Sequence[Sequence[str]]:
        """For acts at once their names, and then their crossings, each in the column of its act."""

    @property
    def where(self) -> str:
        """The crossing that was varied, with its line."""

    def check(self) -> None:
        """Check that the variation has happened, and has left what it may."""


class Variation(NamedTuple):
    """One run of the test that is to be made.

    Attributes:
        spec: the fault, schedule, repetition or state of the variation.
        is_last: whether there is none after it.
        is_shown: whether it is reported as any other test, as the command line asks for it alone.
    """

    spec: Any
    is_last: bool
    is_shown: bool = False


class Broken(NamedTuple):
    """One variation in which the test has failed.

    Attributes:
        spec: the fault, schedule, repetition or state of the variation.
        where: the crossing that was varied, with its line.
        summary: one line that says what is wrong.
        text: the whole text of the failure.
    """

    spec: Any
    where: str
    summary: str
    text: str


class Sweep(ABC):
    """The variations of one test.

    Args:
        environment: the environment that the tests run in.
        test: the id of the test.
        say: a function that prints a line although the output of tests is captured.

    Attributes:
        findings: the variations that have failed.
    """

    word: ClassVar[str]
    """The word for one variation, such as ``fault``."""
    failing: ClassVar[str]
    """The beginning of a report."""
    when: ClassVar[str]
    """The word before a variation that has failed."""
    option: ClassVar[str] = ""
    """What of a run's payload asks for one variation; empty where nothing does."""

    def __init__(
        self,
        environment: Environment,
        test: str,
        say: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        self.findings: list[Broken] = []
        self.environment = environment
        self.tried = 0
        self._test = test
        self._say = say
        asked = environment.payload.asked_variations
        self._only = asked.pop(self.option, "")
        # Where one variation of another kind is asked for, this test is run once.
        self._mode = names.SWEEP_OFF if asked else environment.payload.sweep
        self._untried: dict[str, str] = {}  # why variations of a kind are not tried
        self._run: list[Any] = []
        self._page: Trace | None = None
        self._start = time.monotonic()
        self._announced = self._start

    @abstractmethod
    def new(self, spec: Any = None) -> Varying:
        """Return the object that the test holds in a variation; without one, in the first run."""

    def begin(self, first: Any) -> bool:
        """Look at the first run, which has passed, and return whether there are more.

        Args:
            first: the object that the test has held in the first run.

        Raises:
            FaultError: the test, or an option, is a mistake.
        """
        return self._mode != names.SWEEP_OFF and self._begin(first)

    @abstractmethod
    def _begin(self, first: Any) -> bool:
        """Do what ``begin()`` does, where the test is to be swept."""

    @abstractmethod
    def variations(self) -> Iterator[Variation]:
        """Yield the variations; each is run before the next one is asked for."""

    @abstractmethod
    def not_tried(self) -> Iterator[str]:
        """Yield the variations that were not tried, and why; bounds are reported elsewhere."""

    def mistake(self) -> str:
        """Return what is wrong with the test itself, as its runs have shown; or nothing."""
        return ""

    @contextmanager
    def varied(self, spec: Any = None) -> Iterator[Any]:
        """Make the test that runs within a block a variation, or the first run.

        Args:
            spec: the fault, schedule, repetition or state of the variation.
        """
        outer = self.environment.variation
        varying = self.new(spec)
        self.environment.unwritten = None
        if spec is not None:
            self._run.append(spec)
        self.environment.variation = varying
        try:
            yield varying
        finally:
            self.environment.variation = outer

    def find(self, spec: Any, varying: Varying, summary: str, text: str) -> None:
        """Note that the test has failed in a variation.

        Args:
            spec: the fault, schedule, repetition or state of the variation.
            varying: the object that the test has held in the variation.
            summary: one line that says what is wrong.
            text: the whole text of the failure.
        """
        self.findings.append(Broken(spec, varying.where, summary, text))
        trace = self.environment.unwritten
        if trace is not None and (self._page is None or trace.length < self._page.length):
            self._page = trace

    def close(self) -> None:  # noqa: B027 - nothing, where they share nothing
        """Release what the variations share."""

    def report(self) -> str:
        """Return what was found, grouped by what is wrong; nothing where nothing was."""
        self.close()
        if mistake := self.mistake():
            return mistake
        for text in self._untried.values():
            self.environment.notes.add(Note(UNTRIED, self._test, text, self._test))
        if not self.findings:
            return ""
        what = self._counts()
        lines = [what]
        ordered = sorted(self.findings, key=_summary)
        groups = [list(group) for _, group in groupby(ordered, key=_summary)]
        for group in sorted(groups, key=lambda group: self.findings.index(group[0])):
            lines += ["", *self._shown(group)]
        left_out = "; ".join([*self._untried.values(), *self.not_tried()])
        lines += ["", f"Not tried: {left_out}."]
        if self._page is not None:
            lines.append(self._written(self._page, what, left_out))
        return printable("\n".join(lines))

    def grid(self) -> tuple[list[str], list[tuple[str, str, list[str]]]]:
        """Return what has become of the variations: the heads of columns, and rows.

        A row has what was varied, its line of source, and a cell for each column.
        """
        lines = {one.spec: one.where for one in self.findings}
        return ["outcome"], [
            (str(spec), lines.get(spec, ""), [self.result(spec)])
            for spec in dict.fromkeys(self._run)
        ]

    def result(self, spec: Any) -> str:
        """Return what has become of a variation, in a word."""
        if any(one.spec == spec for one in self.findings):
            return "failed"
        return "passed" if spec in self._run else "not tried"

    def leave(self, count: int, total: int, reason: str, plural: str = "") -> None:
        """Note that some variations are not tried.

        Args:
            count: how many.
            total: the number of variations.
            reason: why.
            plural: the word for them, by default the plural of ``word``.
        """
        if not count:
            return
        noun = plural or f"{self.word}s"
        was = "was" if count == 1 else "were"
        self._untried[noun] = f"{count} of {total} {noun} {was} not tried, as {reason}"

    def count(self, total: int) -> None:
        """Count a variation that is about to be run, and tell of it where that takes long.

        Args:
            total: the number of variations, as far as it is known.
        """
        self.tried += 1
        now = time.monotonic()
        if now - self._announced > _SLOW_SECONDS:
            self._announced = now
            self._say(f"\nitkit: {self._test}: {self.word} {self.tried} of {total}\n")

    def bound(self, most: int) -> str:
        """Return why no further variation is to be run; nothing where one may be.

        Args:
            most: how many may be.
        """
        seconds = conf.get().sweep.seconds
        if time.monotonic() - self._start > seconds:
            return f'ITKIT["SWEEP"]["SECONDS"] is {seconds:g}'
        return f'ITKIT["SWEEP"]["VARIATIONS"] is {most}' if self.tried >= most else ""

    def _counts(self) -> str:
        """Return how many of the variations have failed, in a sentence."""
        if self.tried == 1:
            return f"{self.failing} the one {self.word} that was tried."
        tried = counted(self.tried, self.word)
        return f"{self.failing} {len(self.findings)} of the {tried} that were tried."

    def _written(self, trace: "Trace", what: str, left_out: str) -> str:
        """Write the one page of the test, which has the shortest failure; return its line."""
        from itkit.report import Grid

        heads, rows = self.grid()
        omitted = max(0, len(rows) - _MOST_ROWS)
        grid = Grid(
            what=what, heads=heads, rows=rows[:_MOST_ROWS], omitted=omitted, left_out=left_out
        )
        return self.environment.write_page(replace(trace, grid=grid))

    def _shown(self, group: list[Broken]) -> Iterator[str]:
        """Yield the lines of the findings with which the same is wrong."""
        shortest = min(group, key=lambda finding: len(finding.text))
        yield f"{shortest.summary}"
        number = (
            f"this {self.word}" if len(group) == 1 else f"each of these {len(group)} {self.word}s"
        )
        yield f"  {self.when} {number}:"
        width = max(len(repr(str(one.spec))) for one in group[:_MOST_SHOWN])
        for one in group[:_MOST_SHOWN]:
            yield f"    {str(one.spec)!r:<{width}}  {one.where}".rstrip()
        if len(group) > _MOST_SHOWN:
            yield f"    and {len(group) - _MOST_SHOWN} more"
        yield f"  with {str(shortest.spec)!r}:"
        yield from (f"    {line}".rstrip() for line in shortest.text.rstrip().splitlines())


def _summary(finding: Broken) -> str:
    return finding.summary

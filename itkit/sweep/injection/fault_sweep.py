"""Which faults a swept test is run with, after its first run."""

import sys
from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings

from itkit import conf
from itkit.core import names
from itkit.core.text import counted, listed
from itkit.environment import Environment
from itkit.exceptions import FaultError
from itkit.sweep.act import check_names
from itkit.sweep.choosing import AnyFault, Choice, FaultPair, FaultSpec, parse_fault
from itkit.sweep.gate.gate import Crossed
from itkit.sweep.injection.fault import Baseline, Fault
from itkit.sweep.variations import Sweep, Variation

_NO_BLOCK: Final = (
    "The test is swept, and nothing in it can fail: put what it does into a block,"
    " with fault.injected(): ..."
)
_NO_CROSSING: Final = (
    "Nothing within fault.injected() can fail. These crossings fail in this project, and none of"
    " them was seen there:\n{}\n{}The crossings within the block were:\n{}\n"
    "Put what the test does into the block, or name what is to fail:"
    ' @faults(at=["SELECT *"]).'
)
_UNWATCHED: Final = (
    'To have {0} fail as well, add them to ITKIT["BACKENDS"]: "{1}": {{"BUILTIN": "{2}"}}.'
)
_MAILS: Final = "mail"
_UNWATCHED_MAILS: Final = (
    'faults of {} that {} sent, as ITKIT["BACKENDS"] has no "email": {{"BUILTIN": "mail"}}'
)
_PAIR: Final = "pair of faults"
_PAIRS: Final = "pairs of faults"
_MOST_SHOWN: Final = 12


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
        self._found = 0
        self._paired_number = 0

    def new(self, spec: AnyFault | None = None) -> Fault:
        """Return what the test holds in a run."""
        self._last = Fault(self._choice, spec, mode=self._mode, baseline=self._baseline)
        return self._last

    def _begin(self, first: Fault) -> bool:
        """Collect the faults that can be tried, and return whether there are any.

        Raises:
            FaultError: nothing in the test can fail, or the test chooses a call that there is not.
        """
        check_names("at", self._choice.at)
        if self._only:
            return True
        crossed = first.gate.crossed
        if not any(one.kinds for one in crossed):
            raise FaultError(self._nothing_fails(first) if first.was_entered else _NO_BLOCK)
        if not _is_watched(_MAILS) and first.mails and not self._choice.leaves_out(_MAILS):
            number = counted(first.mails, "mail")
            was = "was" if first.mails == 1 else "were"
            self._untried[_MAILS] = _UNWATCHED_MAILS.format(number, was)
        self._equal = sum(one.equal for one in crossed)
        self._quiet = sum(one.is_quiet for one in crossed)
        found = [FaultSpec(one.key, one.number, kind) for one in crossed for kind in one.kinds]
        self._crossed = [one for one in crossed if one.kinds]
        self._distinct = {(one.key, one.number): one.distinct for one in crossed}
        self._found = len(found)
        most = conf.get().sweep.variations
        if self._found > most:
            self.leave(self._found - most, self._found, f'ITKIT["SWEEP"]["VARIATIONS"] is {most}')
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
                self.leave(self._found - number, self._found, reason)
            yield Variation(spec, is_last=is_over or (number == total and not has_pairs))
            if is_over:
                return
            if has_pairs:
                pairs += self._pairs(spec)
        yield from self._paired(pairs)

    def _paired(self, pairs: list[FaultPair]) -> Iterator[Variation]:
        """Yield the variations with two faults, as many as the settings let there be."""
        singles = self.tried
        for pair in pairs:
            if reason := self.bound(conf.get().sweep.variations):
                self.leave(len(pairs) - self._paired_number, len(pairs), reason, _PAIRS)
                return
            self.count(singles + len(pairs))
            self._paired_number += 1
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
        if self._equal:
            has = "has" if self._equal == 1 else "have"
            yield f"{counted(self._equal, 'fault')} that {has} the effect of another"
        is_quick = self._mode == names.SWEEP_QUICK
        if self._quiet and is_quick:
            crossings = counted(self._quiet, "crossing")
            yield f"{crossings} that only read, or were left out (--itkit-sweep=full)"
        elif self._quiet:
            yield f"{counted(self._quiet, 'crossing')} that the test leaves out"
        yield (
            "two faults in one run (--itkit-sweep=full)" if is_quick else "three faults in one run"
        )

    def _counts(self) -> str:
        """Return how many faults, and how many pairs of faults, have failed."""
        pairs = self._paired_number
        if not pairs:
            return super()._counts()
        broken = sum(isinstance(one.spec, FaultPair) for one in self.findings)
        return (
            f"{self.failing} {len(self.findings) - broken} of the"
            f" {counted(self.tried - pairs, self.word)}, and {broken} of the"
            f" {counted(pairs, _PAIR, _PAIRS)}, that were tried."
        )

    def _nothing_fails(self, first: Fault) -> str:
        """Return which crossings fail in this project, and which were seen instead of them."""
        has_redis = bool(
            self.environment.payload.redis or self.environment.payload.redis_per_worker
        )
        crossings = [f"{one.name} at {one.site}" for one in first.gate.crossed] or ["none"]
        seen = listed(list(dict.fromkeys(crossings)), most=_MOST_SHOWN)
        if first.mails and not _is_watched(_MAILS):
            seen += f"\n  {counted(first.mails, 'mail')}"
        remedies = "".join(f"{line}\n" for line in _unwatched())
        return _NO_CROSSING.format(listed(list(_watched(has_redis=has_redis))), remedies, seen)


def _watched(*, has_redis: bool) -> Iterator[str]:
    """Yield the kinds of crossings that fail in this project."""
    yield "statements that write, and COMMIT"
    if has_redis:
        yield "commands that write to Redis"
    backends = conf.get().backends
    if called := [name for name, one in backends.items() if one.builtin is None]:
        yield f"calls of {', '.join(called)}"
    for name, one in backends.items():
        if one.builtin is not None:
            yield f"calls of {name}, which is the built-in {one.builtin!r}"


def _unwatched() -> Iterator[str]:
    """Yield how mails, and the tasks of the packages that the project uses, can fail as well."""
    if not _is_watched(_MAILS):
        yield _UNWATCHED.format("mails", "email", _MAILS)
    if "celery" in sys.modules and not _is_watched("celery"):
        yield _UNWATCHED.format("Celery's tasks", "celery", "celery")
    if settings.is_overridden("TASKS") and not _is_watched("tasks"):
        yield _UNWATCHED.format("Django's tasks", "tasks", "tasks")


def _is_watched(builtin: str) -> bool:
    return any(one.builtin == builtin for one in conf.get().backends.values())

"""Which variations a swept test has, as its author, a setting or the command line says."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple, TypeAlias

from itkit.exceptions import ConfigurationError, FaultError

LOST: Final = "lost_reply"
BEFORE: Final = "crash_before"
AFTER: Final = "crash_after"
TWICE: Final = "run_twice"
TIMEOUT: Final = "timeout"
CRASH: Final = "crash"
ERROR: Final = "error"
"""``error`` stands for all kinds that are names of exceptions, ``crash`` for ``crash_after``."""
WORDS: Final = (LOST, BEFORE, AFTER, TWICE, TIMEOUT)

ATTRIBUTE: Final = "_itkit_sweep"
"""The attribute of a swept test that holds its choice."""
_THEN: Final = " then "
_NO_SPEC: Final = (
    "{!r} names no fault. Write the crossing, its number among those of the same name, and the"
    " kind, such as 'payments.charge#1:lost_reply' or 'COMMIT#2:crash_after'."
)

_NO_SCHEDULE: Final = (
    "{!r} is no schedule. Write who is let on, and for how many crossings, such as '0x3,1x2,0': the"
    " first act passes three crossings, then the second one two, then the first one goes on to its"
    " end."
)
_PART: Final = re.compile(r"(\d+)(?:x([1-9]\d*))?")


class FaultSpec(NamedTuple):
    """One fault, as a report prints it and ``--itkit-fault`` takes it.

    Attributes:
        target: the name of the crossing, or a pattern such as ``INSERT *``.
        number: the number of the crossing among those of this name, from 1.
        kind: the fault, such as ``lost_reply``, or the name of an exception.
    """

    target: str
    number: int
    kind: str

    @classmethod
    def parse(cls, text: str) -> "FaultSpec":
        """Return the fault that a text such as ``payments.charge#1:lost_reply`` describes.

        Without a number, the fault happens to the first crossing of that name.

        Raises:
            FaultError: the text describes no fault.
        """
        crossing, _, kind = text.rpartition(":")
        target, sign, number = crossing.rpartition("#")
        if not sign or not number.isdecimal():
            target, number = crossing, "1"
        if not target or not kind or int(number) < 1:
            raise FaultError(_NO_SPEC.format(text))
        return cls(target, int(number), kind)

    def __str__(self) -> str:
        return f"{self.target}#{self.number}:{self.kind}"


class FaultPair(NamedTuple):
    """Two faults in one variation, the second of which happens after the first.

    Attributes:
        first: the fault that happens first.
        second: the other one.
    """

    first: FaultSpec
    second: FaultSpec

    def __str__(self) -> str:
        return f"{self.first}{_THEN}{self.second}"


AnyFault: TypeAlias = FaultSpec | FaultPair


def parse_fault(text: str) -> AnyFault:
    """Return the fault, or the pair of faults, that a text describes.

    Raises:
        FaultError: the text describes neither.
    """
    first, then, second = text.partition(_THEN)
    spec = FaultSpec.parse(first)
    return FaultPair(spec, FaultSpec.parse(second)) if then else spec


def faults_of(spec: AnyFault | None) -> tuple[FaultSpec, ...]:
    """Return the faults of a variation; none for the first run."""
    if spec is None:
        return ()
    return spec if isinstance(spec, FaultPair) else (spec,)


class SchedulePart(NamedTuple):
    """One part of a schedule.

    Attributes:
        actor: who is let on, from 0.
        steps: the number of crossings that the act passes; None for all that it has.
    """

    actor: int
    steps: int | None = None

    def __str__(self) -> str:
        return f"{self.actor}" if self.steps is None else f"{self.actor}x{self.steps}"


class ScheduleSpec(NamedTuple):
    """Who is let on when, as a report prints it and ``--itkit-schedule`` takes it.

    Attributes:
        parts: the parts in their order; after them, the acts that are not done go on.
        is_alone: whether the actors that are not named do nothing.
        is_second: whether the same is run a second time, to see what is another one then.
    """

    parts: tuple[SchedulePart, ...]
    is_alone: bool = False
    is_second: bool = False

    @classmethod
    def parse(cls, text: str) -> "ScheduleSpec":
        """Read ``0x3,1x2,0``.

        Raises:
            FaultError: the text is no such thing.
        """
        found = [_PART.fullmatch(part.strip()) for part in text.split(",")]
        parts = [
            SchedulePart(int(part[1]), int(part[2]) if part[2] else None)
            for part in found
            if part is not None
        ]
        if len(parts) < len(found):
            raise FaultError(_NO_SCHEDULE.format(text))
        return cls(tuple(parts))

    @classmethod
    def serial(cls, order: Iterable[int], *, is_alone: bool = False) -> "ScheduleSpec":
        """Return the schedule of acts one after another."""
        return cls(tuple(SchedulePart(actor) for actor in order), is_alone)

    @property
    def order(self) -> tuple[int, ...]:
        """The actors, as they are named."""
        return tuple(part.actor for part in self.parts)

    @property
    def is_serial(self) -> bool:
        """Whether each act is done before the next one begins."""
        return all(part.steps is None for part in self.parts)

    def __str__(self) -> str:
        return ",".join(map(str, self.parts))


class RaceChoice(NamedTuple):
    """A test is swept with schedules, as its decorator, or its fixture, says."""


class RepeatChoice(NamedTuple):
    """A test is swept by doing its act once more, as its decorator, or its fixture, says."""


class StateSpec(NamedTuple):
    """One state that an act is done from, as a report prints it.

    Attributes:
        value: the value of the field.
        is_allowed: whether the act must succeed from there.
    """

    value: Any
    is_allowed: bool

    def __str__(self) -> str:
        return f"{self.value}"


class StatesChoice(NamedTuple):
    """A test is swept with the states that a field has, as its decorator says.

    Attributes:
        field: its name, such as ``shop.Order.status``.
        states: those that are allowed, then the others in the order of the field's choices.
        refusal: the errors that are a refusal.
    """

    field: str
    states: tuple[StateSpec, ...]
    refusal: type[Exception] | tuple[type[Exception], ...]


class Choice(NamedTuple):
    """The faults that a test is swept with, as its decorator says.

    Attributes:
        at: patterns of the crossings that fail; where it is empty, those that write fail.
        kinds: the kinds of faults; where it is empty, those that differ in their effects.
        skip: patterns of the crossings that do not fail.
    """

    at: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def names(self, *names: str) -> bool:
        """Return whether ``at`` names a crossing."""
        return _match(names, self.at)

    def leaves_out(self, *names: str) -> bool:
        """Return whether ``skip`` names a crossing, or ``at`` names only other ones."""
        return _match(names, self.skip) or bool(self.at and not self.names(*names))

    def has(self, kind: str) -> bool:
        """Return whether ``kinds`` has a kind, or the word that stands for it."""
        word = CRASH if kind == AFTER else ERROR if kind not in WORDS else kind
        return kind in self.kinds or word in self.kinds


AnyChoice: TypeAlias = Choice | RaceChoice | RepeatChoice | StatesChoice


def check_options(fault: str | None, schedule: str | None) -> None:
    """Make sure that the options of the command line that ask for one variation can be read.

    Args:
        fault: the value of ``--itkit-fault``.
        schedule: the value of ``--itkit-schedule``.

    Raises:
        ConfigurationError: one cannot be.
    """
    for option, value, parse in (
        ("--itkit-fault", fault, parse_fault),
        ("--itkit-schedule", schedule, ScheduleSpec.parse),
    ):
        try:
            if value:
                parse(value)
        except FaultError as error:
            raise ConfigurationError(f"{option}: {error}") from error


def matches(target: str, *names: str) -> bool:
    """Return whether a name, or a pattern, matches one of these names."""
    return _match(names, (target,))


def choice_of(function: Any) -> AnyChoice | None:
    """Return what a test method or function is swept with; None where it is not."""
    found: AnyChoice | None = getattr(function, ATTRIBUTE, None)
    return found


def _match(names: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(
        name == pattern or fnmatchcase(name, pattern) for pattern in patterns for name in names
    )

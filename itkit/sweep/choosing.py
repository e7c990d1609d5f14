"""Which faults a swept test runs with: the choice of its author, and of the command line."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from itkit.exceptions import FaultError

LOST: Final = "lost_reply"
BEFORE: Final = "crash_before"
AFTER: Final = "crash_after"
TWICE: Final = "run_twice"
CRASH: Final = "crash"
ERROR: Final = "error"
"""``error`` stands for all kinds that are names of exceptions, ``crash`` for ``crash_after``."""
WORDS: Final = (LOST, BEFORE, AFTER, TWICE)

ATTRIBUTE: Final = "_itkit_faults"
"""The attribute of a swept test that holds its ``Choice``."""
_NO_SPEC: Final = (
    "{!r} names no fault. Write the crossing, its number among those of the same name, and the"
    " kind, such as 'payments.charge#1:lost_reply' or 'COMMIT#2:crash_after'."
)


class FaultSpec(NamedTuple):
    """One fault, as a report prints it and ``--itkit-fault`` takes it.

    Attributes:
        target: the name of the crossing, or a pattern such as ``INSERT *``.
        number: the number of the crossing among those of this name, from 1.
        kind: what happens to it, such as ``lost_reply``, or the name of an exception.
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
        place, _, kind = text.rpartition(":")
        target, sign, number = place.rpartition("#")
        if not sign or not number.isdecimal():
            target, number = place, "1"
        if not target or not kind or int(number) < 1:
            raise FaultError(_NO_SPEC.format(text))
        return cls(target, int(number), kind)

    def __str__(self) -> str:
        return f"{self.target}#{self.number}:{self.kind}"


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


def matches(target: str, *names: str) -> bool:
    """Return whether a name, or a pattern, matches one of these names."""
    return _match(names, (target,))


def choice_of(function: Any) -> Choice | None:
    """Return the faults that a test method or function is swept with; None where it is not."""
    found: Choice | None = getattr(function, ATTRIBUTE, None)
    return found


def _match(names: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(
        name == pattern or fnmatchcase(name, pattern) for pattern in patterns for name in names
    )

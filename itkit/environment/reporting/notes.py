"""The notes at the end of a run, once for each call site. They are neither errors nor warnings.

A warning would fail a run with ``-W error``, and would be shown again for each test.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from itkit.exceptions import printable

EFFECT: Final = "effect"
UNUSED: Final = "unused"
USED: Final = "used"
ALTERED: Final = "altered"
UNREPEATABLE: Final = "unrepeatable"
UNTRIED: Final = "untried"
SPARED: Final = "spared"

_HEADINGS: Final = {
    EFFECT: (
        "itkit: effects that left the process while a transaction was open, and would have stayed"
        ' after a rollback (ITKIT["EFFECTS"] = "fail" makes an error of each, "off" hides them;'
        ' "IN_TRANSACTION": "allow" in a backend\'s entry allows its calls):'
    ),
    UNUSED: (
        'itkit: answers that tests have programmed, and no call has used (ITKIT["UNUSED"] = "fail"'
        ' makes an error of each, "off" hides them):'
    ),
    ALTERED: (
        "itkit: changes that tests made to the structure of the database, and what became of each:"
    ),
    UNREPEATABLE: (
        "itkit: values that migrations have read and that differ each time. The rows that were made"
        " with them stay as they are until the migrations run again, as with --rebuild:"
    ),
    SPARED: "itkit: budgets of which tests have used less than is kept:",
    UNTRIED: "itkit: swept tests that were not run with all variations:",
}
_MOST_SHOWN: Final = 30
_PARTS: Final = re.compile(r"(\D+)(\d*)")


class Note(NamedTuple):
    """One note that is printed at the end of the run.

    Attributes:
        kind: a key of the headings above, or ``USED``, which removes the notes about the same line.
        where: the line of the source, with its function.
        text: the text of the note.
        test: the id of the test, or another text that says what ran.
    """

    kind: str
    where: str
    text: str
    test: str


class Notes:
    """The notes of a run, or of one of its workers."""

    def __init__(self) -> None:
        self._notes: list[Note] = []

    def add(self, note: Note) -> None:
        """Add a note."""
        self._notes.append(note)

    def add_all(self, notes: Iterable[Iterable[str]]) -> None:
        """Add the notes of a worker, in the form in which they were sent."""
        self._notes += [Note(*note) for note in notes]

    def take(self) -> list[Note]:
        """Return all notes, and forget them."""
        taken, self._notes = self._notes, []
        return taken

    def lines(self) -> Iterator[str]:
        """Yield the lines to be printed at the end; none if there are no notes."""
        used = {note.where for note in self._notes if note.kind == USED}
        for kind, heading in _HEADINGS.items():
            texts: dict[tuple[str, str], list[str]] = {}
            for note in self._notes:
                if note.kind == kind and note.where not in used:
                    texts.setdefault((note.where, note.text), []).append(note.test)
            if not texts:
                continue
            yield heading
            # The workers' notes arrive in any order.
            in_order = sorted(texts.items(), key=lambda item: _natural(item[0][0]))
            for (where, text), tests in in_order[:_MOST_SHOWN]:
                names = _shown(tests)
                yield printable(f"  {where}: {text}") + (f", in {names}" if names != where else "")
            if len(texts) > _MOST_SHOWN:
                yield f"  and {len(texts) - _MOST_SHOWN} more"


def _natural(where: str) -> list[tuple[str, int]]:
    """Return a key that sorts lines by what is there, then by file, then by line number."""
    return [(text, int(digits or 0)) for text, digits in _PARTS.findall(where)]


def _shown(tests: list[str]) -> str:
    first, *others = sorted(set(tests))
    return f"{first} and {len(others)} more" if others else first

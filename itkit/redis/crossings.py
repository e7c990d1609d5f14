"""Commands of Redis on the timeline.

Where they come from is not recorded: to find that would cost more than the prefix does.
"""

from collections.abc import Sequence
from typing import Final

from itkit.boundary import Crossing, Strand
from itkit.redis import commands
from itkit.redis.keyspecs import word

WRITES: Final = frozenset(commands.WRITES.split())
"""What is on the timeline: what changes data, or tells others."""

Record = tuple[object, Sequence[object], Strand, float]
"""What is recorded of a command: who did it, the first two words, the thread, the time."""


class Command(Crossing):
    """One command that was sent to Redis.

    Attributes:
        words: the first two, the second of which is the key, if there is one.
    """

    __slots__ = ("words",)

    def __init__(self, record: Record) -> None:
        _, words, self._strand, self.at = record
        self.words = tuple(map(_text, words))
        self.duration, self.error = None, None

    @property
    def name(self) -> str:
        """The command and its key, without the prefix."""
        return " ".join(self.words)

    @property
    def is_noted(self) -> bool:
        """Whether it writes."""
        command = word(self.words[0])
        return command in WRITES or "|".join(map(word, self.words)) in WRITES

    @property
    def site(self) -> None:
        """Not recorded."""
        return None


def _text(word: object) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)

"""Commands of Redis on the timeline: those that write, and all of them while a test observes.

Call sites are recorded only then, as finding them costs more than adding the prefix.
"""

import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from itkit.redis import commands
from itkit.redis.keyspecs import word
from itkit.timeline import callsite, core
from itkit.timeline.callsite import CallSite
from itkit.timeline.core import Crossing, Strand

WRITES: Final = frozenset(commands.WRITES.split())
"""The commands that change data or publish a message."""

_LOOK_UPS: Final = frozenset({"GET", "GETEX", "MGET"})
_QUIET: Final = frozenset({"AUTH", "CLIENT", "HELLO", "PING", "SELECT"})

recorded: Container[object] = WRITES
"""The commands that are on the timeline."""

listener: Callable[[Sequence[object]], None] | None = None
"""Called with the words of each command that writes."""

Record = tuple[object, Sequence[object], Strand, float]
"""The record of a command: the rewriter, the command's first two words, the thread, the time."""


class _All:
    def __contains__(self, name: object) -> bool:
        return True


class RedisCommand(Crossing):
    """One command that was sent to Redis.

    Attributes:
        words: the command and its key; for a look-up all of its keys.
        found: whether each key of a look-up existed; empty until the reply is read.
    """

    __slots__ = ("found", "words")

    def __init__(self, record: Record) -> None:
        _, words, strand, at = record
        self._restore(strand, at, None, {}, 0)
        self.words = tuple(map(_text, words))
        self.found: tuple[bool, ...] = ()

    @property
    def kind(self) -> str:
        """``redis``."""
        return "redis"

    @property
    def name(self) -> str:
        """The command and its key, without the prefix."""
        return " ".join(self.words)

    @property
    def is_noted(self) -> bool:
        """Whether it writes."""
        return writes(self.words)

    @property
    def site(self) -> CallSite | None:
        """None, as call sites are recorded only while a test observes."""
        return None


class Observed(RedisCommand):
    """A command that a test observes, with its call site and the keys that it has found."""

    __slots__ = ("_read",)

    def __init__(self, record: Record, read: Callable[[Any], Any] | None) -> None:
        super().__init__(record)
        self._read = read
        frame = callsite.caller(sys._getframe(1))
        self._namespace, self._line = frame.f_globals, callsite.spot(frame)
        if self.is_look_up:  # a nil reply does not call the reader, which would change this
            self.found = (False,) * len(self.words[1:])

    @property
    def is_look_up(self) -> bool:
        """Whether it asks for values by their keys."""
        return word(self.words[0]) in _LOOK_UPS

    @property
    def is_quiet(self) -> bool:
        """Whether the command concerns the connection only, and no data."""
        return word(self.words[0]) in _QUIET

    @property
    def site(self) -> CallSite | None:
        """The line of the source that it came from."""
        return callsite.site(self._namespace, self._line)

    def __call__(self, reply: Any) -> Any:
        """Read the reply, as the command's own reader does."""
        if self.is_look_up:
            values = reply if isinstance(reply, list) else [reply]
            self.found = tuple(value is not None for value in values)
        return reply if self._read is None else self._read(reply)


@contextmanager
def observing() -> Iterator[None]:
    """Record all commands on the timeline within a block, with the keys that they have found."""
    global recorded  # noqa: PLW0603 - as global as the timeline
    outer, recorded = recorded, _All()
    try:
        yield
    finally:
        recorded = outer


def is_observing() -> bool:
    """Return whether a test observes."""
    return recorded is not WRITES


@contextmanager
def listening(function: Callable[[Sequence[object]], None]) -> Iterator[None]:
    """Call a function with the words of each command that writes, within a block."""
    global listener  # noqa: PLW0603 - as global as the timeline
    outer, listener = listener, function
    try:
        yield
    finally:
        listener = outer


def note(record: Record, expected: Any) -> Any:
    """Record a command, if a test observes, and return the reader of its reply.

    Raises:
        LateCallError: the command writes, for a test that has ended.
    """
    timeline = core.own_timeline()
    if not timeline.test:
        return expected
    maker, words, strand, at = record
    if timeline.has_ended and writes(words[:2]):
        refuse_late(record)
    if listener is not None and writes(words[:2]):
        listener(words)
    if not is_observing() or not (expected is None or callable(expected)):
        if words[0] in WRITES or writes(words[:2]):
            timeline.record((maker, words[:2], strand, at))
            if core.here.blocks:
                note_effect((maker, words[:2], strand, at))
        return expected
    kept = words if word(words[0]) == "MGET" else words[:2]
    command = Observed((maker, kept, strand, at), expected)
    timeline.record(command)
    if core.here.blocks and command.is_noted:
        note_effect(command)
    return command


def note_effect(command: Record | RedisCommand) -> None:
    """Note that a command writes, as a transaction may be open."""
    core.note_effect(command, callsite.caller(sys._getframe(1)))


def refuse_late(record: Record) -> NoReturn:
    """Refuse a command for a test that has ended, as it would write into the keys of another test.

    Raises:
        LateCallError: always.
    """
    _, words, strand, _ = record
    frame = callsite.caller(sys._getframe(1))
    name = named(words[:2])
    site = callsite.site(frame.f_globals, frame.f_lineno)
    raise core.late(f"{name} was sent to Redis", strand, site)


def named(words: Sequence[object]) -> str:
    """Return the name of a command, given its first two words."""
    return " ".join(map(_text, words))


def writes(words: Sequence[object]) -> bool:
    """Return whether a command writes; it may be bytes, in small letters, or two words in one."""
    name = word(words[0]).replace(" ", "|")
    return name in WRITES or (len(words) > 1 and f"{name}|{word(words[1])}" in WRITES)


def _text(word: object) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)

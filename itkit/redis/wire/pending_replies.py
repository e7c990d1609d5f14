"""The replies that one socket of a redis-py connection owes, and the commands packed for it."""

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from itkit.redis.prefix import pubsub
from itkit.redis.prefix.namespace import Expected, Namespace, ReplyEffect

ATTRIBUTE: Final = "_itkit_link"
"""The attribute of a connection with the link of its socket."""

_TRANSACTION: Final = (ReplyEffect.BEGIN, ReplyEffect.EXECUTE)


class Guarding(Protocol):
    """The part of a guard that a link needs; ``itkit.redis.wire.guard`` implements it."""

    def note_wait(self) -> None:
        """Note that a command was sent that blocks, or another one whose reply names a key."""

    @property
    def namespace(self) -> Namespace:
        """The namespace of the replies."""


class Packed(list[Any]):
    """Commands as bytes for a socket, together with the readers of their replies."""

    __slots__ = ("expected",)

    def __init__(self, chunks: Iterable[Any], expected: Sequence[Expected]) -> None:
        super().__init__(chunks)
        self.expected = expected


class Link:
    """The replies that one socket still owes, in the order of the commands.

    Replies come in that order, so a queue assigns them to the commands. Nearly all replies are read
    unchanged: for those at the head of the queue there is only a count. Frames of publish and
    subscribe come in between, and are recognised by their shape.
    """

    __slots__ = ("_expected", "_queued", "_subscribed", "guard", "isolated", "loop", "plain")

    def __init__(self, guard: Guarding, *, isolated: bool) -> None:
        self.guard = guard
        self.isolated = isolated
        self.loop: AbstractEventLoop | None = None
        self.plain = 0
        self._expected: deque[Callable[[Any], Any] | None] = deque()
        self._queued: list[Callable[[Any], Any] | None] | None = None
        self._subscribed = False

    @property
    def is_waited_on(self) -> bool:
        """Whether a reply is expected that names a key, as that of a blocking command does."""
        return bool(self._expected)

    def expect(self, expected: Sequence[Expected]) -> None:
        """Note the commands that were sent."""
        if not (self._expected or self._subscribed) and self._queued is None:
            # Where no command between has a reader, the reply to EXEC is read unchanged as well.
            is_whole = len(expected) > 1 and (expected[0], expected[-1]) == _TRANSACTION
            if not any(expected[1:-1] if is_whole else expected):
                self.plain += len(expected)
                return
        for item in expected:
            self._expect_in_context(item)

    def read(self, reply: Any) -> Any:
        """Return a reply, or a frame of publish and subscribe, without the prefix."""
        if self.plain:
            self.plain -= 1
            return reply
        if self._subscribed:
            if pubsub.is_message(reply):
                return pubsub.message(self.guard.namespace, reply)
            if reply is None:  # no reply came in time
                return None
        if not self._expected:
            return reply
        reader = self._expected.popleft()
        return reply if reader is None or reply is None else reader(reply)

    def skip(self) -> None:
        """Note that the reply was an error, which redis-py raised."""
        if self.plain:
            self.plain -= 1
        elif self._expected:
            self._expected.popleft()

    def _expect_in_context(self, item: Expected) -> None:
        """Note a command with a reader of its reply, with an effect, or in a transaction."""
        self.guard.note_wait()
        if item is ReplyEffect.SUBSCRIBE:
            self._subscribed = True
            # Frames may come before these.
            self._expected.extendleft([None] * self.plain)
            self.plain = 0
            return
        reader: Callable[[Any], Any] | None = None
        if item is ReplyEffect.BEGIN:
            self._queued = []
        elif item is ReplyEffect.EXECUTE:
            reader = partial(_read_each, self._queued or [])
            self._queued = None
        elif item is ReplyEffect.DISCARD:
            self._queued = None
        elif self._queued is None:
            reader = item
        else:
            self._queued.append(item)
        self._expected.append(reader)


def _read_each(readers: list[Callable[[Any], Any] | None], answer: list[Any]) -> list[Any]:
    """Read the answer to EXEC: the replies to the queued commands, which may be errors."""
    return [
        reply if reader is None or reply is None or isinstance(reply, Exception) else reader(reply)
        for reader, reply in zip(readers, answer, strict=True)
    ]

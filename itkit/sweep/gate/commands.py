"""Which faults a command of Redis, or a pipeline of commands, can suffer, and how."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

from itkit import redis
from itkit.sweep.gate.gate import EVERYTHING, SIMULATED, Passage, Point, Touched
from itkit.timeline import core


class CommandPoint(Point):
    """A command that is about to be sent, or several in a pipeline.

    Args:
        commands: the words of each command.
        caller: the frame or line that sends them.
        errors: the module with the errors of the client library.

    Attributes:
        is_blocking: whether the reply may come only when somebody else has done something.
    """

    errors = ("ConnectionError",)
    more_errors = ("TimeoutError", "BusyLoadingError", "ReadOnlyError")

    def __init__(
        self, commands: Sequence[Sequence[object]], caller: core.Caller, errors: ModuleType
    ) -> None:
        names = [redis.command_name(words) for words in commands]
        is_one = len(names) == 1
        key = names[0].partition(" ")[0] if is_one else "PIPELINE"
        super().__init__(names[0] if is_one else f"PIPELINE {', '.join(names)}", caller, key)
        self.is_quiet = not any(redis.command_writes(words) for words in commands)
        self.lasts = not self.is_quiet
        self._errors = errors
        self.touched = _touched(commands)
        self.is_blocking = any(map(redis.is_blocking, commands))

    def fail(self, kind: str) -> NoReturn:
        """Raise the library's error of this name."""
        raise getattr(self._errors, kind)(f"the command has failed ({SIMULATED})")

    def lose(self) -> NoReturn:
        """Raise the error of the library for a reply that does not come in time."""
        raise self._errors.TimeoutError(f"Timeout reading from socket ({SIMULATED})")


def _touched(commands: Sequence[Sequence[object]]) -> Touched:
    """Return the keys that commands read and write; everything where they are not known."""
    reads: set[str] = set()
    changes: set[str] = set()
    for words in commands:
        keys = redis.command_keys(words)
        if keys is None:
            return Touched(changes=frozenset({EVERYTHING}))
        found = changes if redis.command_writes(words) else reads
        found.update(f"key {key}" for key in keys)
    return Touched(reads=frozenset(reads), changes=frozenset(changes))


@contextmanager
def led(gate: Passage) -> Iterator[None]:
    """Lead the commands of all clients through a gate, within a block."""

    def begin(commands: Sequence[Sequence[object]], caller: core.Caller, errors: ModuleType) -> Any:
        point = CommandPoint(commands, caller, errors)
        kind = gate.enter(point)
        return lambda: gate.leave(point, kind)

    with redis.clients_led(begin):
        yield

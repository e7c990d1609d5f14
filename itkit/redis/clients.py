"""Calls a function around each command that a client of Redis sends, while a sweep runs.

The clients are wrapped and not their connections, which wait for seconds before a retry: an error
that is raised here looks like one that a client raises when it has given up. Checked with redis-py
5.1, 6.4 and 8.1 and valkey-py 6.2.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from itkit.core.wrapping import wrapped
from itkit.redis import crossings
from itkit.redis.commands import KEYS, REDIS_KEYS
from itkit.redis.keyspecs import Positions, parse, word
from itkit.redis.server.server import OwnConnection
from itkit.timeline import callsite, core

_LIBRARIES: Final = {"redis": "Redis", "valkey": "Valkey"}

_BLOCKING: Final = frozenset(
    {
        *("BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "BLMPOP", "BZMPOP"),
        *("XREAD", "XREADGROUP", "WAIT", "WAITAOF"),
    }
)

Begin = Callable[[Sequence[Sequence[object]], core.Caller, ModuleType], Callable[[], None]]
"""Called before commands are sent, with the words of each, the caller, and the module with the
errors of the library. It returns a function that is called when the replies have come."""

CommandsOf = Callable[[Any, Sequence[object]], Sequence[Sequence[object]]]
"""Returns the commands that a call of a method sends, from its object and its arguments."""


def command_name(words: Sequence[object]) -> str:
    """Return the name of a command on the timeline: its first two words."""
    return crossings.named(words[:2])


def command_writes(words: Sequence[object]) -> bool:
    """Return whether a command writes."""
    return crossings.writes(words[:2])


def is_blocking(words: Sequence[object]) -> bool:
    """Return whether the reply to a command may have to wait for an action of somebody else."""
    return word(words[0]) in _BLOCKING


def command_keys(words: Sequence[object]) -> list[str] | None:
    """Return the keys that a command names; None where it is not known which words are keys."""
    found = word(words[0]).replace(" ", "|")
    positions = _positions()
    find = positions.get(found) or positions.get(f"{found}|{word(words[1]) if words[1:] else ''}")
    if find is None:
        return None
    return [crossings.named([words[position]]) for position in find(words)]


@cache
def _positions() -> dict[str, Positions]:
    """Return the positions of the keys of each command, by the command's name."""
    tables = (*KEYS.items(), *REDIS_KEYS.items())
    return {name: parse(notation) for notation, names in tables for name in names.split()}


@contextmanager
def clients_led(begin: Begin) -> Iterator[None]:
    """Call a function around each command of all clients, within a block.

    The libraries have no hook for this. Checked with the versions above.

    Args:
        begin: the function; an error that it raises reaches the caller of the client.
    """
    with ExitStack() as releases:
        for name, client in _LIBRARIES.items():
            if name not in sys.modules:
                continue
            errors = import_module(f"{name}.exceptions")
            for module, is_async in ((f"{name}.client", False), (f"{name}.asyncio.client", True)):
                found = import_module(module)
                lead = _led_async if is_async else _led
                for owner, method, commands_of in (
                    (getattr(found, client), "execute_command", _its_words),
                    (found.Pipeline, "immediate_execute_command", _its_words),
                    (found.Pipeline, "execute", _queued),
                ):
                    around = _but_for_own(lead(begin, errors, commands_of))
                    releases.enter_context(wrapped(owner, method, around))
        yield


Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


def _but_for_own(lead: Wrapper) -> Wrapper:
    """Return a wrapper that leaves out itkit's own clients, which renew a lease at any moment."""

    def decorated(execute: Callable[..., Any]) -> Callable[..., Any]:
        led = lead(execute)

        def execute_one_or_many(self: Any, *args: Any, **options: Any) -> Any:
            kind = getattr(self.connection_pool, "connection_class", object)
            return (execute if issubclass(kind, OwnConnection) else led)(self, *args, **options)

        return execute_one_or_many

    return decorated


def _led(begin: Begin, errors: ModuleType, commands_of: CommandsOf) -> Wrapper:
    def decorated(execute: Callable[..., Any]) -> Callable[..., Any]:
        def execute_led(self: Any, *args: Any, **options: Any) -> Any:
            if not (commands := commands_of(self, args)):  # a pipeline that is empty
                return execute(self, *args, **options)
            end = begin(commands, callsite.caller(sys._getframe(1)), errors)
            reply = execute(self, *args, **options)
            end()
            return reply

        return execute_led

    return decorated


def _led_async(begin: Begin, errors: ModuleType, commands_of: CommandsOf) -> Wrapper:
    def decorated(execute: Callable[..., Any]) -> Callable[..., Any]:
        async def execute_led(self: Any, *args: Any, **options: Any) -> Any:
            if not (commands := commands_of(self, args)):  # a pipeline that is empty
                return await execute(self, *args, **options)
            end = begin(commands, callsite.caller(sys._getframe(1)), errors)
            reply = await execute(self, *args, **options)
            end()
            return reply

        return execute_led

    return decorated


def _its_words(_: Any, args: Sequence[object]) -> Sequence[Sequence[object]]:
    return [args]


def _queued(pipeline: Any, _: Sequence[object]) -> Sequence[Sequence[object]]:
    return [command[0] for command in pipeline.command_stack]

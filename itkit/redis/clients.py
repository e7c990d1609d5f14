"""The clients of the libraries led past a function, with each command, while a sweep runs.

Not the connections, as their own retries wait for seconds: what is raised here is what a client
raises when it has given up. Checked with redis-py 5.1, 6.4 and 8.1 and valkey-py 6.2.
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
"""Is called before commands are sent, and returns what is called when the reply is there. It gets
the words of each, the caller, and the module with the errors of the library."""


def command_name(words: Sequence[object]) -> str:
    """Return what the timeline calls a command: its first two words."""
    return crossings.named(words[:2])


def command_writes(words: Sequence[object]) -> bool:
    """Tell whether a command writes."""
    return crossings.writes(words[:2])


def is_blocking(words: Sequence[object]) -> bool:
    """Tell whether the reply to a command may come only when somebody else has done something."""
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
    """Return where the keys of each command are, by its name."""
    tables = (*KEYS.items(), *REDIS_KEYS.items())
    return {name: parse(notation) for notation, names in tables for name in names.split()}


@contextmanager
def clients_led(begin: Begin) -> Iterator[None]:
    """Have a function called around each command of all clients, within a block.

    The libraries have no hook for that. Checked with the versions above.
    """
    with ExitStack() as releases:
        for name, client in _LIBRARIES.items():
            if name not in sys.modules:
                continue
            errors = import_module(f"{name}.exceptions")
            for module, is_async in ((f"{name}.client", False), (f"{name}.asyncio.client", True)):
                found = import_module(module)
                one, many = (_one_async, _many_async) if is_async else (_one, _many)
                for owner, method, lead in (
                    (getattr(found, client), "execute_command", one),
                    (found.Pipeline, "immediate_execute_command", one),
                    (found.Pipeline, "execute", many),
                ):
                    around = _but_for_own(lead(begin, errors))
                    releases.enter_context(wrapped(owner, method, around))
        yield


Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


def _but_for_own(lead: Wrapper) -> Wrapper:
    """Leave itkit's own clients as they are: the lease of a run is renewed at any moment."""

    def decorated(execute: Callable[..., Any]) -> Callable[..., Any]:
        led = lead(execute)

        def execute_one_or_many(self: Any, *args: Any, **options: Any) -> Any:
            kind = getattr(self.connection_pool, "connection_class", object)
            return (execute if issubclass(kind, OwnConnection) else led)(self, *args, **options)

        return execute_one_or_many

    return decorated


def _one(begin: Begin, errors: ModuleType) -> Wrapper:
    def decorated(execute: Callable[..., Any]) -> Callable[..., Any]:
        def execute_command(self: Any, *args: Any, **options: Any) -> Any:
            end = begin([args], callsite.caller(sys._getframe(1)), errors)
            reply = execute(self, *args, **options)
            end()
            return reply

        return execute_command

    return decorated


def _one_async(begin: Begin, errors: ModuleType) -> Wrapper:
    def decorated(execute: Callable[..., Any]) -> Callable[..., Any]:
        async def execute_command(self: Any, *args: Any, **options: Any) -> Any:
            end = begin([args], callsite.caller(sys._getframe(1)), errors)
            reply = await execute(self, *args, **options)
            end()
            return reply

        return execute_command

    return decorated


def _many(begin: Begin, errors: ModuleType) -> Wrapper:
    def decorated(execute: Callable[..., Any]) -> Callable[..., Any]:
        def execute_pipeline(self: Any, *args: Any, **options: Any) -> Any:
            if not (commands := _commands(self)):
                return execute(self, *args, **options)
            end = begin(commands, callsite.caller(sys._getframe(1)), errors)
            replies = execute(self, *args, **options)
            end()
            return replies

        return execute_pipeline

    return decorated


def _many_async(begin: Begin, errors: ModuleType) -> Wrapper:
    def decorated(execute: Callable[..., Any]) -> Callable[..., Any]:
        async def execute_pipeline(self: Any, *args: Any, **options: Any) -> Any:
            if not (commands := _commands(self)):
                return await execute(self, *args, **options)
            end = begin(commands, callsite.caller(sys._getframe(1)), errors)
            replies = await execute(self, *args, **options)
            end()
            return replies

        return execute_pipeline

    return decorated


def _commands(pipeline: Any) -> list[Sequence[object]]:
    return [command[0] for command in pipeline.command_stack]

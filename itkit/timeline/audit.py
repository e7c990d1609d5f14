"""Passes Python's audit events to listeners by one hook, as PEP 578 lets no hook be removed.

An event without listeners costs one lookup in a dict.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Listener = Callable[[tuple[Any, ...]], None]
"""Gets the arguments of an event; its errors are raised in the code that caused the event."""

_is_trusted: ContextVar[bool] = ContextVar("itkit_is_trusted", default=False)
_listeners: dict[str, tuple[Listener, ...]] = {}  # the listeners to each event, the latest first
_at_the_end: list[type[Exception]] = []
_has_hook = False


@contextmanager
def listening(listeners: Mapping[str, Listener]) -> Iterator[None]:
    """Listen to events, by their names, within a block; such blocks may end in any order.

    The listener that was added last gets an event first. If it raises an error, no other gets it.
    """
    _add_hook()
    heard = _listeners  # the name may be gone if the block ends with the interpreter
    for event, listener in listeners.items():
        heard[event] = (listener, *heard.get(event, ()))
    try:
        yield
    finally:
        for event, listener in listeners.items():
            others = list(heard[event])
            others.remove(listener)
            if others:
                heard[event] = tuple(others)
            else:
                del heard[event]


@contextmanager
def trusted() -> Iterator[None]:
    """Allow connections that itkit itself opens in this thread or task, within a block."""
    token = _is_trusted.set(True)
    try:
        yield
    finally:
        _is_trusted.reset(token)


def is_trusted() -> bool:
    """Return whether itkit itself is opening a connection."""
    return _is_trusted.get()


def _add_hook() -> None:
    global _has_hook  # noqa: PLW0603 - of the interpreter, for good
    if not _has_hook:
        sys.addaudithook(_hearing(_listeners, _at_the_end, sys.is_finalizing))
        _has_hook = True


def refuse_at_the_end(error: type[Exception]) -> None:
    """Make connections fail while the interpreter clears its modules, after all ``atexit`` hooks.

    Args:
        error: the error that is raised then.
    """
    _at_the_end[:] = [error]


def _hearing(
    listeners: dict[str, tuple[Listener, ...]],
    at_the_end: list[type[Exception]],
    is_finalizing: Callable[[], bool],
) -> Callable[[str, tuple[Any, ...]], None]:
    """Return the hook. It uses no globals, which are removed while the interpreter ends."""

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in listeners:
            return
        if not is_finalizing():
            for listener in listeners.get(event, ()):
                listener(arguments)
        elif at_the_end and event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
            raise at_the_end[0]("The run is over: no connection is made any more.")

    return hear

"""Python's audit events, heard by whoever asks: PEP 578 lets no hook be removed, so there is one.

An event that nobody listens to costs one look into a dict.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Listener = Callable[[tuple[Any, ...]], None]
"""Gets the arguments of an event; what it raises, the code that caused the event gets."""

_is_trusted: ContextVar[bool] = ContextVar("itkit_is_trusted", default=False)
_listeners: dict[str, tuple[Listener, ...]] = {}  # of each event, the latest listener first
_at_the_end: list[type[Exception]] = []
_has_hook = False


@contextmanager
def listening(listeners: Mapping[str, Listener]) -> Iterator[None]:
    """Hear events, by their names, within a block, which need not be the first one to end.

    Whoever has begun to listen last hears an event first; when it raises, nobody else hears it.
    """
    _add_hook()
    heard = _listeners  # the name may be gone, where the interpreter's end is that of the block
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
    """Allow, within a block, the connections that itkit itself opens in this thread or task."""
    token = _is_trusted.set(True)
    try:
        yield
    finally:
        _is_trusted.reset(token)


def is_trusted() -> bool:
    """Return whether itkit itself is connecting."""
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
    """Return the hook. It needs no global, as these go one by one while the interpreter ends."""

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in listeners:
            return
        if not is_finalizing():
            for listener in listeners.get(event, ()):
                listener(arguments)
        elif at_the_end and event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
            raise at_the_end[0]("The run is over: no connection is made any more.")

    return hear

"""Python's audit events, heard by whoever asks: PEP 578 lets no hook be removed, so there is one.

An event that nobody listens to costs one look into a dict.
"""

import atexit
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Listener = Callable[[tuple[Any, ...]], None]
"""Gets the arguments of an event; what it raises, the code that caused the event gets."""

_is_trusted: ContextVar[bool] = ContextVar("itkit_is_trusted", default=False)
_listeners: dict[str, Listener] = {}
_has_hook = False


@contextmanager
def listening(listeners: dict[str, Listener]) -> Iterator[None]:
    """Hear events, by their names, within a block; those of an outer block are put back."""
    _add_hook()
    heard = _listeners  # the name may be gone, where the interpreter's end is that of the block
    outer = {event: heard.get(event) for event in listeners}
    heard.update(listeners)
    try:
        yield
    finally:
        for event, listener in outer.items():
            if listener is None:
                heard.pop(event, None)
            else:
                heard[event] = listener


@contextmanager
def trusted() -> Iterator[None]:
    """Let through, within a block, what itkit itself connects to in this thread or task."""
    token = _is_trusted.set(True)
    try:
        yield
    finally:
        _is_trusted.reset(token)


def is_trusted() -> bool:
    """Tell whether itkit itself is connecting."""
    return _is_trusted.get()


def _add_hook() -> None:
    global _has_hook  # noqa: PLW0603 - of the interpreter, for good
    if not _has_hook:
        sys.addaudithook(_hearing(_listeners))
        # While the interpreter ends, the globals of the listeners' modules go one by one.
        atexit.register(_listeners.clear)
        _has_hook = True


def _hearing(listeners: dict[str, Listener]) -> Callable[[str, tuple[Any, ...]], None]:
    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event in listeners:
            listeners[event](arguments)

    return hear

"""Wraps methods of other classes for a while, where there is no event to listen to.

It is a module of its own, as rooms that do not know each other wrap methods.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

_ABSENT: Final = object()


@contextmanager
def wrapped(
    owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Wrap a method within a block.

    Args:
        owner: the class or module that has the method, or inherits it.
        name: the name of the method, which may be a class method or a static one.
        wrapper: receives the function, and returns its replacement.
    """
    own = vars(owner).get(name, _ABSENT)
    original = own.__func__ if isinstance(own, classmethod) else getattr(owner, name)
    ours: Any = wraps(original)(wrapper(original))
    if isinstance(own, classmethod):
        ours = classmethod(ours)
    elif isinstance(own, staticmethod):
        ours = staticmethod(ours)
    setattr(owner, name, ours)
    try:
        yield
    finally:
        # Code that has wrapped it meanwhile keeps ours, which does nothing without a test.
        if vars(owner).get(name) is ours:
            if own is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

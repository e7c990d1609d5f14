"""The names under which a class stores the values of its objects, as its code shows."""

import dis
import functools
import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final

_DYNAMIC: Final = frozenset({"__dict__", "__setattr__", "setattr", "vars"})
_MAKING: Final = frozenset({"__init__", "__post_init__", "__setstate__"})


def answers_to_any_name(real: type) -> bool:
    """Return whether objects of a class may accept any name, beyond those that it shows."""
    if hasattr(real, "__getattr__") or issubclass(real, tuple):
        return True
    reading: Any = real.__getattribute__  # the method of a fake contains the real one
    if inspect.unwrap(reading) is not object.__getattribute__:
        return True
    if isinstance(real.__new__, FunctionType):
        return True
    making = [function for function in functions_of(real) if function.__name__ in _MAKING]
    return any(not _DYNAMIC.isdisjoint(function.__code__.co_names) for function in making)


@functools.lru_cache(maxsize=512)
def stored_names(real: type) -> frozenset[str]:
    """Return the public names under which a class stores the values of its objects."""
    found: set[str] = set()
    for kind in real.__mro__:
        found.update(vars(kind).get("__annotations__", ()))
        slots = vars(kind).get("__slots__", ())
        found.update([slots] if isinstance(slots, str) else slots)
    for function in functions_of(real):
        owner = function.__code__.co_varnames[:1]
        previous: Any = None
        for step in dis.get_instructions(function):
            loaded = previous if isinstance(previous, tuple) else (previous,)
            if step.opname == "STORE_ATTR" and loaded[-1:] == owner:
                found.add(step.argval)
            previous = step.argval if step.opname.startswith("LOAD_FAST") else None
    return frozenset(name for name in found if not name.startswith("_"))


def functions_of(real: type) -> Iterator[FunctionType]:
    """Yield the functions of a class and its bases, without their decorators and fakes."""
    for kind in real.__mro__:
        for raw in vars(kind).values():
            function = inspect.unwrap(raw) if isinstance(raw, FunctionType) else None
            if isinstance(function, FunctionType):
                yield function

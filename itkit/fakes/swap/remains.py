"""Which parts of a faked class stay real, because no fake can replace them."""

import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from itkit.fakes.classes.members import members_of
from itkit.fakes.swap.parts import defines_methods, has_methods, is_foreign
from itkit.fakes.swap.reading import is_nested, subclasses_of
from itkit.timeline import callsite


def stays_real(real: type) -> list[str]:
    """Return the names that stay real in a class, although their calls may leave the process."""
    return [*_of_metaclass(real), *_of_held_classes(real), *_of_subclasses(real)]


def _of_metaclass(real: type) -> Iterator[str]:
    metaclass: type = type(real)
    for kind in metaclass.__mro__:
        if is_foreign(kind.__module__) and defines_methods(kind):
            names = [name for name in vars(kind) if not name.startswith("_")]
            shown = ", ".join(sorted(names)) or "all names"
            yield f"{shown} of its metaclass {kind.__qualname__}"


def _of_held_classes(real: type) -> Iterator[str]:
    """Yield the classes that are attributes of the class, whose callers make objects of them."""
    for kind in real.__mro__:
        for name, raw in vars(kind).items():
            if name.startswith("_") or not isinstance(raw, type) or not is_foreign(kind.__module__):
                continue
            held: Any = raw
            if has_methods(held) and not is_nested(kind, name, raw):
                yield f"{name}, the class {raw.__module__}.{raw.__qualname__}"


def _of_subclasses(real: type) -> Iterator[str]:
    """Yield the methods that subclasses override without calling the faked one."""
    members = members_of(real)
    for kind in subclasses_of(real):
        if _is_of_tests(kind) or _is_of_library(kind):
            continue
        for name, raw in vars(kind).items():
            function = raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw
            if name not in members or not isinstance(function, FunctionType):
                continue
            if {"super", real.__name__}.isdisjoint(function.__code__.co_names):
                yield f"{name} of its subclass {kind.__module__}.{kind.__qualname__}"


def _is_of_library(kind: type) -> bool:
    path = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return path is not None and callsite.is_installed(path)


def _is_of_tests(kind: type) -> bool:
    return any(part.startswith("test") or part == "conftest" for part in kind.__module__.split("."))

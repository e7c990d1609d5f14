"""Replaces the parts that are read from a faked client, in whatever way the client holds them.

Parts in the class itself are replaced there. The real constructor makes the parts of an object;
they are found in the object, and replaced when they are read. This makes reading slower, so it is
intercepted only for a class whose objects do hold parts, or accept any name.
"""

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from itkit.fakes.classes.members import is_descriptor
from itkit.fakes.swap.parts import (
    ROUTINES,
    Parts,
    add_swapped,
    defines_methods,
    has_methods,
    is_part,
    is_swapped,
    is_under_construction,
    remove_swapped,
    under_construction,
)
from itkit.fakes.swap.stored import answers_to_any_name, stored_names


class PartsWatch:
    """Finds the parts of one class, and lets readers get their fakes.

    Args:
        real: the class.
        parts: the parts of its fake.
        put: puts an attribute into the class, until it is restored.
        name: the name of the class below the backend, with a dot at its end; empty for the client
            itself.
    """

    def __init__(
        self, real: type, parts: Parts, put: Callable[[str, Any], None], name: str = ""
    ) -> None:
        self._name = name
        self._real = real
        self._parts = parts
        self._put = put
        self._is_reading = False
        self._was_stopped = False

    def start(self) -> None:
        """Replace the parts that exist, and find those that are made later.

        Between a stop and a start, objects may have been made that nobody has seen. To look for
        them would take longer than to intercept all reading in the rest of a run.
        """
        add_swapped(self._real)
        self._parts.connect()
        for name, raw in class_parts(self._real):
            wrapped = self._parts.wrap(self._name + name, raw)
            # A function in a class would get the object as an argument.
            self._put(name, staticmethod(wrapped) if isinstance(raw, ROUTINES) else wrapped)
        if issubclass(self._real, BaseException):
            return
        if isinstance(self._real.__init__, FunctionType):
            self._put("__init__", self._constructor(self._real.__init__))
        self._put("__setattr__", self._setter(self._real.__setattr__))
        if (
            self._was_stopped
            or answers_to_any_name(self._real)
            or any(map(_has_parts, _objects_of(self._real)))
        ):
            self._intercept()

    def stop(self) -> None:
        """Forget the parts that were found; the owner of ``put`` restores the class itself."""
        self._is_reading = False
        self._was_stopped = True
        remove_swapped(self._real)

    def _constructor(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def __init__(owner: Any, /, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - its name
            with under_construction(owner):
                original(owner, *args, **kwargs)
                if not self._is_reading and _has_parts(owner):
                    self._intercept()
                if type(owner) is self._real:
                    self._parts.check_names(self._name, owner)

        return __init__

    def _setter(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def __setattr__(owner: Any, name: str, value: Any) -> None:  # noqa: N807 - its name
            original(owner, name, value)
            if not (self._is_reading or name.startswith("_")) and is_part(value):
                self._intercept()

        return __setattr__

    def _intercept(self) -> None:
        """Replace the parts of objects when they are read."""
        self._is_reading = True
        real: Any = self._real
        self._put("__getattribute__", self._getter(real.__getattribute__))
        if hasattr(real, "__getattr__"):
            self._put("__getattr__", self._getter_of_missing(real.__getattr__))

    def _getter(self, original: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        wrap, above = self._parts.wrap, self._name

        @functools.wraps(original)
        def __getattribute__(owner: Any, name: str) -> Any:  # noqa: N807 - its name
            value = original(owner, name)
            if name.startswith("_") or not is_part(value) or is_under_construction(owner):
                return value
            # A value from the class is a method: a faked one, or a real one of a subclass.
            if isinstance(value, ROUTINES) and name not in original(owner, "__dict__"):
                return value
            return wrap(above + name, value)

        return __getattribute__

    def _getter_of_missing(self, original: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        wrap, above = self._parts.wrap, self._name

        @functools.wraps(original)
        def __getattr__(owner: Any, name: str) -> Any:  # noqa: N807 - its name
            value = original(owner, name)
            if name.startswith("_") or is_under_construction(owner):
                return value
            return wrap(above + name, value)

        return __getattr__


def class_parts(real: type) -> Iterator[tuple[str, Any]]:
    """Yield the parts in a class itself, such as an object or a partial, by name."""
    found: dict[str, Any] = {}
    for kind in reversed(real.__mro__):
        if kind is not object:
            found.update(vars(kind))
    for name, raw in found.items():
        if name.startswith("_") or is_descriptor(raw) or isinstance(raw, type):
            continue
        if is_part(raw) and not isinstance(raw, real) and not is_swapped(type(raw)):
            yield name, raw


def may_have_parts(real: type) -> bool:
    """Return whether objects of a class may hold parts, as far as the class shows."""
    nested = any(is_nested(real, name, raw) for name, raw in vars(real).items())
    return bool(nested or answers_to_any_name(real) or stored_names(real) or any(class_parts(real)))


def _has_parts(owner: Any) -> bool:
    """Return whether an object holds parts."""
    held = dict(getattr(owner, "__dict__", {}))
    for kind in type(owner).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            held.setdefault(name, getattr(owner, name, None))
    return any(not name.startswith("_") and is_part(value) for name, value in held.items())


def subclasses_of(real: type) -> list[type]:
    """Return all existing subclasses of a class, at any depth."""
    found: dict[type, None] = {}
    waiting = [real]
    while waiting:
        below: list[type] = type.__subclasses__(waiting.pop())
        below = [kind for kind in below if kind not in found]
        found.update(dict.fromkeys(below))
        waiting += below
    return list(found)


def is_nested(real: type, name: str, raw: Any) -> bool:
    """Return whether an attribute of a class is a class that is defined in it and has methods."""
    if name.startswith("_") or not isinstance(raw, type) or not has_methods(raw):
        return False
    return raw.__qualname__ == f"{real.__qualname__}.{name}" and defines_methods(raw)


_alive: Callable[[], set[type]] | None = None
"""Returns the classes of all objects that there are, while several backends are swapped."""


@contextmanager
def looking_once() -> Iterator[None]:
    """Search all objects only once for all swaps within a block, as each search takes long.

    Later only the objects of classes that have any are searched for. Nothing is searched where no
    swapped class has objects that may hold parts.
    """
    global _alive  # noqa: PLW0603 - as the classes that are swapped are, for all threads
    _alive = functools.cache(lambda: set(map(type, gc.get_objects())))
    try:
        yield
    finally:
        _alive = None


def _objects_of(real: type) -> Iterator[Any]:
    """Yield the existing objects of a class and of its subclasses."""
    kinds: set[type] = {real, *subclasses_of(real)}
    if _alive is not None and kinds.isdisjoint(_alive()):
        return
    for found in gc.get_referrers(*kinds):
        if type(found) in kinds:
            yield found

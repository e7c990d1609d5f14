"""Where factories spend time: on instances that a test asks for, and on those brought along."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from itkit.data.factories.factories import is_factory

_METHOD: Final = "build"


@dataclass
class Cost:
    """The cost of the instances of one factory.

    Attributes:
        asked_for: the number of instances that code has asked for.
        brought_along: the number of instances that other instances needed, or that followed them.
        seconds: the time spent on those asked for, with all that they brought along.
        own_seconds: the time spent on all of them, without what they brought along.
    """

    asked_for: int = 0
    brought_along: int = 0
    seconds: float = 0.0
    own_seconds: float = 0.0


@dataclass
class Profile:
    """The costs, by the name of the factory."""

    costs: dict[str, Cost] = field(default_factory=dict)

    def of(self, factory: Any) -> Cost:
        """Return the cost of a factory, to which the caller adds."""
        return self.costs.setdefault(f"{factory.__module__}.{factory.__name__}", Cost())


class _ProfiledThread(threading.local):
    """The builders that are at work, and the seconds taken by those that they wait for."""

    def __init__(self) -> None:
        self.builders: list[Any] = []
        self.nested: list[float] = [0.0]


_thread = _ProfiledThread()


@contextmanager
def profiled() -> Iterator[Profile]:
    """Count and time what factories create in a block, in this process.

    factory_boy has no hook for this, so the method that every creation calls is wrapped. Checked
    with factory_boy 3.3.
    """
    from factory.builder import StepBuilder

    from itkit.data.bulk.builder import Builder

    profile = Profile()
    originals = {kind: vars(kind)[_METHOD] for kind in (StepBuilder, Builder)}
    for kind, original in originals.items():
        setattr(kind, _METHOD, _timed(original, profile))
    try:
        yield profile
    finally:
        for kind, original in originals.items():
            setattr(kind, _METHOD, original)


def _timed(build: Callable[..., Any], profile: Profile) -> Callable[..., Any]:
    def timed(builder: Any, *args: Any, **kwargs: Any) -> Any:
        factory = builder.factory_meta.factory
        is_counted = builder.strategy == "create" and is_factory(factory)
        if not is_counted or (_thread.builders and _thread.builders[-1] is builder):
            return build(builder, *args, **kwargs)
        _thread.builders.append(builder)
        _thread.nested.append(0.0)
        started = time.perf_counter()
        try:
            return build(builder, *args, **kwargs)
        finally:
            seconds = time.perf_counter() - started
            nested = _thread.nested.pop()
            _thread.builders.pop()
            _thread.nested[-1] += seconds
            _add(profile.of(factory), seconds, nested, is_asked_for=not _thread.builders)

    return timed


def _add(cost: Cost, seconds: float, nested: float, *, is_asked_for: bool) -> None:
    cost.own_seconds += seconds - nested
    if is_asked_for:
        cost.asked_for += 1
        cost.seconds += seconds
    else:
        cost.brought_along += 1

"""Finds patches that a test leaves over a fake, and that would answer in all later tests.

The search costs one comparison of identities for each method at the beginning and the end of a
test. Patches that exist when a test begins belong to its class, its module or their fixtures.
"""

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from types import FunctionType
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from itkit.core.text import repr_of
from itkit.fakes import ClassSwap, FunctionSwap, Patch

_ABSENT: Any = object()


class Patches:
    """Finds the patches over the fakes of a run, and removes them.

    Args:
        swaps: the swaps of the fakes, each with the real class or function.
        names: the settings that hold the paths of backends.
    """

    def __init__(
        self, swaps: Iterable[tuple[ClassSwap | FunctionSwap, Any]], names: Iterable[str]
    ) -> None:
        self._swaps = list(swaps)
        self._names = sorted(names)
        self._attributes: list[tuple[dict[str, Any], str, Any]] = []
        self._values: dict[str, Any] = {}
        self._held: Any = None
        self._known: dict[str, Any] = {}

    def start(self) -> None:
        """Remember the state of everything while nothing is patched."""
        self._attributes = list(_attributes([real for _, real in self._swaps]))
        self._held = settings._wrapped
        self._values = {name: _value(name) for name in self._names}
        self._known = {}

    def accept(self) -> None:
        """Accept the patches that exist now, as they belong to several tests."""
        is_clear = self._is_clear()
        self._known = {} if is_clear else {patch.name: patch.found for patch in self._all()}

    def remove(self) -> list[str]:
        """Remove the patches that a test left behind, and return a line of text about each.

        Patches that existed when the test began, such as a mock of its class, are restored.
        """
        if self._is_clear():
            return []
        known = self._known
        left = [one for one in self._all() if known.get(one.name, _ABSENT) is not one.found]
        for patch in reversed(left):
            patch.put(known.get(patch.name, patch.fake))
        return [f"{patch.name} is {_shown(patch.found)}\n    write: {patch.line}" for patch in left]

    def _is_clear(self) -> bool:
        """Return whether nothing is patched, as in nearly all tests, at the lowest cost."""
        for swap, _ in self._swaps:
            if not swap.is_clear():
                return False
        for namespace, name, real in self._attributes:
            if namespace.get(name) is not real:
                return False
        if settings._wrapped is not self._held:
            return False
        return all(_value(name) is value for name, value in self._values.items())

    def _all(self) -> Iterator[Patch]:
        for swap, _ in self._swaps:
            yield from swap.patches()
        for namespace, name, real in self._attributes:
            if namespace.get(name) is not real:
                yield _patch_of_module(namespace, name, real)
        if settings._wrapped is not self._held:
            yield Patch(
                "django.conf.settings",
                settings._wrapped,
                self._held,
                "with override_settings(...): in the test, or as its decorator",
                self._disable_overrides,
            )
        for name in self._names:
            if _value(name) is not self._values[name]:
                line = f"with override_settings({name}=...): in the test, or as its decorator"
                value = self._values[name]
                yield Patch(f"settings.{name}", _value(name), value, line, partial(_set, name))

    def _disable_overrides(self, known: Any) -> None:
        """Disable the overrides that are still enabled, as ``override_settings.disable`` does.

        The objects that could disable them belong to the test, so the attribute that they would set
        is set directly. Checked with Django 5.2, 6.0 and 6.1.
        """
        overridden: set[str] = set()
        holder: Any = settings._wrapped
        while holder is not known and hasattr(holder, "default_settings"):
            overridden |= {name for name in vars(holder) if name.isupper()}
            holder = holder.default_settings
        settings._wrapped = known
        for name in sorted(overridden):
            _send_setting_changed(name)


def _set(name: str, value: Any) -> None:
    """Put a setting back."""
    if value is _ABSENT:
        delattr(settings, name)
    else:
        setattr(settings, name, value)
    _send_setting_changed(name)


def _send_setting_changed(name: str) -> None:
    """Send Django's signal for a changed setting, so that values made from it are made anew."""
    setting_changed.send_robust(
        sender=settings._wrapped.__class__,
        setting=name,
        value=getattr(settings, name, None),
        enter=False,
    )


def _value(name: str) -> Any:
    return getattr(settings, name, _ABSENT)


def _attributes(reals: list[Any]) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Yield the attributes of modules that are real backends: namespace, name, object."""
    wanted = {id(real) for real in reals}
    modules = list(sys.modules.values()) if reals else []
    namespaces = [getattr(module, "__dict__", None) for module in modules]
    for namespace in {id(found): found for found in namespaces}.values():
        if not isinstance(namespace, dict) or wanted.isdisjoint(map(id, list(namespace.values()))):
            continue
        for name, value in list(namespace.items()):
            if id(value) in wanted:
                yield namespace, name, value


def _patch_of_module(namespace: dict[str, Any], name: str, real: Any) -> Patch:
    module = namespace.get("__name__", "...")
    line = f'with patch("{module}.{name}"): in the test, or self.addCleanup(patcher.stop)'
    put = partial(namespace.__setitem__, name)
    return Patch(f"{module}.{name}", namespace.get(name), real, line, put)


def _shown(value: Any) -> str:
    if isinstance(value, FunctionType):
        return f"the function {value.__module__}.{value.__qualname__}"
    text = repr_of(value)
    return text if len(text) < 100 else f"{text[:97]}..."

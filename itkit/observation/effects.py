"""Effects at the wrong moment: crossings while a transaction is open.

The transaction can still be rolled back, but these effects cannot: the card is charged, the mail is
sent, the key is deleted, although nothing has happened in the database.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.mail.backends.locmem import EmailBackend
from django.db import DEFAULT_DB_ALIAS

from itkit import conf
from itkit.core.wrapping import wrapped
from itkit.fakes import Call
from itkit.timeline import callsite, core
from itkit.timeline.core import Effect, Timeline

_CACHES: Final = (FileBasedCache, LocMemCache)
_WRITING: Final = ("add", "clear", "delete", "incr", "set", "touch")


@contextmanager
def followed() -> Iterator[None]:
    """Record, within a block, effects that are on no timeline: mail and caches in memory.

    Neither has a signal. Checked with Django 5.2, 6.0 and 6.1.
    """
    builtins = {backend.builtin for backend in conf.get().backends.values()}
    with ExitStack() as releases:
        methods: list[tuple[Any, str, str]] = []
        if "mail" not in builtins:  # then mail is a backend, whose calls are recorded
            methods.append((EmailBackend, "send_messages", "mail"))
        methods += [(kind, name, f"cache.{name}") for kind in _CACHES for name in _WRITING]
        for owner, name, shown in methods:
            releases.enter_context(wrapped(owner, name, partial(_noting, name=shown)))
        yield


def found(timeline: Timeline) -> Iterator[tuple[str, str]]:
    """Yield the call site of each effect and a text about it, and forget the effects."""
    effects, timeline.effects = timeline.effects, []
    allowed = {
        name for name, backend in conf.get().backends.items() if backend.in_transaction == "allow"
    }
    for effect in effects:
        crossing = effect.crossing
        if isinstance(crossing, Call) and crossing.name.partition(".")[0] in allowed:
            continue
        yield f"{effect.name} at {effect.site}", _described(effect)


def _described(effect: Effect) -> str:
    block = effect.blocks[0]
    is_rolled_back = any(block.is_rolled_back for block in effect.blocks)
    ended = ", which was rolled back" if is_rolled_back else ""
    using = "" if block.alias == DEFAULT_DB_ALIAS else f", using={block.alias!r}"
    return (
        f"within the transaction that {block.what} has opened at {block.site}{ended};"
        f" write transaction.on_commit(lambda: ...{using})"
    )


def _noting(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def noting(*args: Any, **kwargs: Any) -> Any:
        if core.here.blocks:
            site = callsite.caller(sys._getframe(1))
            core.note_effect(name, site)
        return original(*args, **kwargs)

    return noting

"""Keyspace notifications: the server's own channels, which name a key or an event.

In a channel that names a key, the key has the prefix. A channel that names an event is shared by
all, and its messages name the keys: messages about keys of other generations are left out.
"""

import re
from typing import Any, Final

from itkit.exceptions import EscapeError
from itkit.redis.prefix.namespace import Namespace
from itkit.timeline import core

_KEY: Final = re.compile(r"__keyspace@[^_:]*__:")
_EVENT: Final = re.compile(r"__keyevent@[^_:]*__:")
_EITHER: Final = "__key"


def add(namespace: Namespace, name: Any) -> Any:
    """Return a channel or a pattern with the prefix where it belongs.

    Raises:
        EscapeError: the name is a pattern for notifications of both kinds at once.
    """
    text = _text(name)
    if not text.startswith(_EITHER):
        return namespace.add(name)
    if _EVENT.match(text):
        return name
    if found := _KEY.match(text):
        return name[: found.end()] + namespace.add(name[found.end() :])
    raise core.record_failure(
        EscapeError(
            f"A subscription to {text!r} was refused: itkit cannot tell whether it is to keys or to"
            " events. Subscribe to '__keyspace@*__:…' and to '__keyevent@*__:…' one by one."
        )
    )


def strip(namespace: Namespace, name: Any) -> Any:
    """Return a channel or a pattern in a frame without the prefix."""
    if found := _KEY.match(_text(name)):
        return name[: found.end()] + namespace.strip(name[found.end() :])
    return namespace.strip(name)


def is_event(channel: Any) -> bool:
    """Return whether the messages of a channel are keys."""
    return _EVENT.match(_text(channel)) is not None


def is_ours(namespace: Namespace, key: Any) -> bool:
    """Return whether the key of an event is of this generation."""
    return namespace.holds(key.encode() if isinstance(key, str) else key)


def _text(name: Any) -> str:
    if isinstance(name, bytes | bytearray | memoryview):
        return bytes(name).decode("latin-1")
    return str(name)

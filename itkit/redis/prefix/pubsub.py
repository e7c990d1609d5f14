"""Publish and subscribe: the prefix of channels, and of those of keyspace notifications.

Keyspace notifications come by channels of the server's own, which name a key or an event. In a
channel that names a key, the key has the prefix. A channel that names an event is shared by all,
and its messages name the keys: messages about keys of other generations are left out.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from itkit.exceptions import EscapeError
from itkit.redis.prefix.namespace import Namespace
from itkit.timeline import core

_KEY: Final = re.compile(r"__keyspace@[^_:]*__:")
_EVENT: Final = re.compile(r"__keyevent@[^_:]*__:")
_EITHER: Final = "__key"
_KINDS = "message subscribe unsubscribe"
_MESSAGES = frozenset(f"{kind}{name}" for kind in ("", "p", "s") for name in _KINDS.split())


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


def is_message(reply: Any) -> bool:
    """Return whether a reply is a frame of publish and subscribe, and no answer to a command."""
    if not isinstance(reply, list) or len(reply) < 3:
        return False
    kind = reply[0].decode("latin-1") if isinstance(reply[0], bytes) else reply[0]
    return kind in _MESSAGES


def message(namespace: Namespace, reply: list[Any]) -> list[Any] | None:
    """Read a frame of publish and subscribe: its kind, the channel, and the rest.

    A ``pmessage`` has the pattern before the channel. The frame is changed in place, as its type
    distinguishes it from an answer with RESP3. None is returned for a message about a key that is
    not ours: redis-py then acts as if no message had come.
    """
    names_in_it: Sequence[int] = (1, 2) if len(reply) == 4 else (1,)
    if _is_event(reply[names_in_it[-1]]) and not isinstance(reply[-1], int):
        if not _is_ours(namespace, reply[-1]):
            return None
        reply[-1] = namespace.strip(reply[-1])
    for index in names_in_it:
        reply[index] = _strip(namespace, reply[index])
    return reply


def _strip(namespace: Namespace, name: Any) -> Any:
    """Return a channel or a pattern in a frame without the prefix."""
    if found := _KEY.match(_text(name)):
        return name[: found.end()] + namespace.strip(name[found.end() :])
    return namespace.strip(name)


def _is_event(channel: Any) -> bool:
    """Return whether the messages of a channel are keys."""
    return _EVENT.match(_text(channel)) is not None


def _is_ours(namespace: Namespace, key: Any) -> bool:
    """Return whether the key of an event is of this generation."""
    return namespace.holds(key.encode() if isinstance(key, str) else key)


def _text(name: Any) -> str:
    if isinstance(name, bytes | bytearray | memoryview):
        return bytes(name).decode("latin-1")
    return str(name)

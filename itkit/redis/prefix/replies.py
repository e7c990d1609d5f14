"""Removes the prefix from the names in replies, by the shapes that the replies of commands have."""

from collections.abc import Callable, Sequence
from typing import Any

from itkit.redis.prefix import notifications
from itkit.redis.prefix.namespace import Namespace

Reader = Callable[[Namespace, Any], Any]

_KINDS = "message subscribe unsubscribe"
_MESSAGES = frozenset(f"{kind}{name}" for kind in ("", "p", "s") for name in _KINDS.split())


def name(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of RANDOMKEY: a name."""
    return namespace.strip(reply)


def all_names(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of KEYS and PUBSUB CHANNELS: names, in the protocol's kind of collection."""
    return [namespace.strip(item) for item in reply]


def names_after_cursor(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of SCAN: a cursor and names."""
    cursor, found = reply
    return [cursor, all_names(namespace, found)]


def first(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of BLPOP, LMPOP and similar commands: a name, then values."""
    return [namespace.strip(reply[0]), *reply[1:]]


def names_and_values(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of PUBSUB NUMSUB: names and values in turn, or a map of them."""
    if isinstance(reply, dict):
        return by_name(namespace, reply)
    return [namespace.strip(item) if not index % 2 else item for index, item in enumerate(reply)]


def by_name(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of XREAD: pairs of a name and its entries, or a map of them."""
    if isinstance(reply, dict):
        return {namespace.strip(key): value for key, value in reply.items()}
    return [[namespace.strip(key), *rest] for key, *rest in reply]


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
    if notifications.is_event(reply[names_in_it[-1]]) and not isinstance(reply[-1], int):
        if not notifications.is_ours(namespace, reply[-1]):
            return None
        reply[-1] = namespace.strip(reply[-1])
    for index in names_in_it:
        reply[index] = notifications.strip(namespace, reply[index])
    return reply

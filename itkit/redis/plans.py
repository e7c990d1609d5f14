"""How each command is rewritten: a plan takes the arguments and returns those to send.

Arguments come with the command's name in single words: ``XINFO``, ``STREAM``, the key.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any

from itkit.redis import keyspecs, notifications, policy, replies, scripts
from itkit.redis.commands import KEYS, REDIS_KEYS
from itkit.redis.keyspecs import word
from itkit.redis.namespace import Namespace

Arguments = Sequence[Any]


class Mark(Enum):
    """What a command does to the order of the replies on its connection."""

    BEGIN = auto()
    EXECUTE = auto()
    DISCARD = auto()
    SUBSCRIBE = auto()


Expected = Callable[[Any], Any] | Mark | None
"""How to read a command's reply: a function over it, a mark, or None for as it is."""

Rewritten = tuple[Arguments, Expected]
Plan = Callable[[Namespace, Arguments], Rewritten]

_CHANNELS = {
    "1": "PUBLISH SPUBLISH",
    "2:-1": "PUBSUB|NUMSUB PUBSUB|SHARDNUMSUB",
}
_SUBSCRIBING = "PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE"
_READERS: Mapping[replies.Reader, str] = {
    replies.first: "BLMPOP BLPOP BRPOP BZMPOP BZPOPMAX BZPOPMIN LMPOP ZMPOP",
    replies.by_name: "XREAD XREADGROUP",
    replies.names_and_values: "PUBSUB|NUMSUB PUBSUB|SHARDNUMSUB",
}
_MARKS = {Mark.BEGIN: "MULTI", Mark.EXECUTE: "EXEC", Mark.DISCARD: "DISCARD"}

# KEYS rather than SCAN: it is one call, and Redis 6 lets a script write after it.
_FORGET = (
    "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('UNLINK', key) end "
    "return redis.status_reply('OK')"
)
_ALL_AT_ONCE = (
    "local keys = {} for _, key in ipairs(redis.call('KEYS', ARGV[1])) do "
    "if not ARGV[2] or redis.call('TYPE', key).ok == ARGV[2] then keys[#keys + 1] = key end end "
    "return {'0', keys}"
)
_NO_MORE = "return {'0', {}}"
_COUNT = "return #redis.call('KEYS', ARGV[1])"
_PICK = (
    "local keys = redis.call('KEYS', ARGV[1]) "
    "return #keys > 0 and keys[1 + ARGV[2] % #keys] or false"
)


def mark(name: str) -> Mark | None:
    """Return what a command, which is sent as it is, does to the order of the replies."""
    if name in _SUBSCRIBING.split():
        return Mark.SUBSCRIBE
    return next((mark for mark, marked in _MARKS.items() if marked == name), None)


def all_plans(
    *,
    owned: bool,
    login: tuple[str, str] | None = None,
    limited: bool = False,
    allowed: Iterable[str] = (),
) -> dict[str, Plan]:
    """Return the plan of each command that may be sent, by its name or ``NAME|SUBCOMMAND``.

    Args:
        owned: whether the server is thrown away after the run, so that more is harmless.
        login: the user and the password of all connections, if they have any.
        limited: whether that login reaches the worker's keys only.
        allowed: commands that would be refused but for the settings; no other plan gives way.
    """
    passed = policy.PASSED | (policy.OWN_SERVER_ONLY if owned else frozenset())
    places = {**_by_name(KEYS), **_by_name(REDIS_KEYS), **_by_name(_CHANNELS)}
    readers = _by_name(_READERS)
    return {
        **dict.fromkeys([*allowed, *passed], as_it_is),
        **{name: partial(_marked, mark) for name, mark in _by_name(_MARKS).items()},
        **{name: names_at(place, readers.get(name)) for name, place in places.items()},
        **dict.fromkeys(_SUBSCRIBING.split(), _subscribe),
        **_SPECIAL,
        **scripts.plans(limited=limited),
        **(_logging_in(login) if login else {}),
    }


def _by_name(table: Mapping[Any, str]) -> dict[str, Any]:
    return {name: value for value, names in table.items() for name in names.split()}


def _logging_in(login: tuple[str, str]) -> dict[str, Plan]:
    return {"AUTH": partial(_authenticate, login), "HELLO": partial(_greet, login)}


def _authenticate(login: tuple[str, str], _: Namespace, args: Arguments) -> Rewritten:
    """AUTH: the application means its own server, where it may be anybody."""
    return (args[0], *login), None


def _greet(login: tuple[str, str], _: Namespace, args: Arguments) -> Rewritten:
    """HELLO: the version of the protocol first, then options, one of which is a login."""
    rewritten = list(args)
    at = 2
    while at < len(args):
        option = word(args[at])
        if option == "AUTH":
            rewritten[at + 1 : at + 3] = login
        at += 1 + _HELLO.get(option, 0)
    return rewritten, None


def as_it_is(_: Namespace, args: Arguments) -> Rewritten:
    """The plan of a command without names."""
    return args, None


def _marked(mark: Mark, _: Namespace, args: Arguments) -> Rewritten:
    return args, mark


def first_argument(namespace: Namespace, args: Arguments) -> Rewritten:
    """The plan of a command with one key, which comes first."""
    if len(args) < 2:
        return args, None
    key = args[1]
    # Nearly all commands and keys: a call less.
    key = namespace.text + key if type(key) is str else namespace.add(key)
    return (args[0], key, *args[2:]), None


def names_at(place: str, reader: replies.Reader | None = None) -> Plan:
    """Return the plan of a command whose names are where a notation says.

    Args:
        place: in the notation of ``itkit.redis.commands``.
        reader: takes the prefix off a reply that has names.
    """
    if place == "1" and reader is None:
        return first_argument
    find = keyspecs.parse(place)

    def plan(namespace: Namespace, args: Arguments) -> Rewritten:
        rewritten = list(args)
        for position in find(args):
            rewritten[position] = namespace.add(args[position])
        return rewritten, reader and partial(reader, namespace)

    return plan


def _subscribe(namespace: Namespace, args: Arguments) -> Rewritten:
    names = [notifications.add(namespace, name) for name in args[1:]]
    return (args[0], *names), Mark.SUBSCRIBE


def _names_by_pattern(at: int, namespace: Namespace, args: Arguments) -> Rewritten:
    """KEYS and PUBSUB CHANNELS: the pattern is the argument ``at``, or missing and means all."""
    pattern = args[at] if len(args) > at else "*"
    rewritten = (*args[:at], namespace.add(pattern), *args[at + 1 :])
    return rewritten, partial(replies.all_names, namespace)


def _scan(namespace: Namespace, args: Arguments) -> Rewritten:
    """SCAN: all names at once, as there would be a call for each ten keys of others otherwise."""
    options = {word(args[at]): args[at + 1] for at in range(2, len(args) - 1, 2)}
    if len(args) % 2 or not options.keys() <= _SCAN:  # for the server to refuse
        return (*args, "MATCH", namespace.add("*")), partial(replies.names_after_cursor, namespace)
    if word(args[1]) != "0":
        return ("EVAL", _NO_MORE, 0), None
    pattern = namespace.add(options.get("MATCH", "*"))
    kind = (word(options["TYPE"]).lower(),) if "TYPE" in options else ()
    return ("EVAL", _ALL_AT_ONCE, 0, pattern, *kind), partial(replies.names_after_cursor, namespace)


def _names_behind(
    words: Mapping[str, int], start: int, namespace: Namespace, args: Arguments
) -> Rewritten:
    """SORT and GEORADIUS: a key first, then options, some of which take a name or a pattern.

    ``words`` has those options with the number of their arguments: if that is one, it is a name.
    The first option is at the position ``start``.
    """
    rewritten = list(first_argument(namespace, args)[0])
    at = start
    while at + 1 < len(args):
        option = word(args[at])
        if words.get(option) == 1 and args[at + 1] not in {"#", b"#"}:
            rewritten[at + 1] = namespace.add(args[at + 1])
        at += 1 + words.get(option, 0)
    return rewritten, None


def _script(source: str, namespace: Namespace, *more: int) -> Arguments:
    return ("EVAL", source, 0, namespace.add("*"), *more)


def _forget(namespace: Namespace, _: Arguments) -> Rewritten:
    return _script(_FORGET, namespace), None


def _count(namespace: Namespace, _: Arguments) -> Rewritten:
    return _script(_COUNT, namespace), None


def _pick(namespace: Namespace, _: Arguments) -> Rewritten:
    # A script's own random numbers are the same in each call.
    number = random.randrange(2**31)  # noqa: S311 - picks a key, hides nothing
    return _script(_PICK, namespace, number), partial(replies.name, namespace)


_SCAN = {"COUNT", "MATCH", "TYPE"}
_HELLO = {"AUTH": 2, "SETNAME": 1}
_SORT = {"BY": 1, "GET": 1, "STORE": 1, "LIMIT": 2}
_GEORADIUS = {"STORE": 1, "STOREDIST": 1}
_SPECIAL: Mapping[str, Plan] = {
    "DBSIZE": _count,
    "FLUSHDB": _forget,
    "GEORADIUS": partial(_names_behind, _GEORADIUS, 6),
    "GEORADIUSBYMEMBER": partial(_names_behind, _GEORADIUS, 5),
    "KEYS": partial(_names_by_pattern, 1),
    "PUBSUB|CHANNELS": partial(_names_by_pattern, 2),
    "PUBSUB|SHARDCHANNELS": partial(_names_by_pattern, 2),
    "RANDOMKEY": _pick,
    "SCAN": _scan,
    "SORT": partial(_names_behind, _SORT, 2),
    "SORT_RO": partial(_names_behind, _SORT, 2),
}

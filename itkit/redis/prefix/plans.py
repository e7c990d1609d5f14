"""The plans by which commands are rewritten: a plan takes the arguments and returns those to send.

The arguments begin with the command's name, each word by itself: ``XINFO``, ``STREAM``, the key.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from itkit.redis import keyspecs, policy
from itkit.redis.commands import KEYS, REDIS_KEYS
from itkit.redis.keyspecs import word
from itkit.redis.prefix import pubsub, scripts
from itkit.redis.prefix.namespace import Arguments, Namespace, Plan, ReplyEffect, Rewritten

ReplyReader = Callable[[Namespace, Any], Any]
"""Removes the prefix from the names in a reply."""

_EFFECTS = {ReplyEffect.BEGIN: "MULTI", ReplyEffect.EXECUTE: "EXEC", ReplyEffect.DISCARD: "DISCARD"}

# KEYS rather than SCAN: it is one call, and Redis 6 lets a script write after it.
_FORGET = (
    "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('UNLINK', key) end "
    "return redis.status_reply('OK')"
)
_FORGET_ALL = (
    # SELECT fails for a database that the server does not have. A script's SELECT ends with it.
    "local n = 0 while not redis.pcall('SELECT', n).err do "
    "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('UNLINK', key) end "
    "n = n + 1 end return redis.status_reply('OK')"
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


def effect(name: str) -> ReplyEffect | None:
    """Return what a command that is sent unchanged does to the order of replies; None for most."""
    if name in policy.SUBSCRIBING.split():
        return ReplyEffect.SUBSCRIBE
    return next((found for found, command in _EFFECTS.items() if command == name), None)


def all_plans(
    *,
    owned: bool,
    login: tuple[str, str] | None = None,
    limited: bool = False,
    allowed: Iterable[str] = (),
) -> dict[str, Plan]:
    """Return the plan of each command that may be sent, by ``NAME`` or ``NAME|SUBCOMMAND``.

    Args:
        owned: whether the server is thrown away after the run, so that more commands are harmless.
        login: the user and the password of all connections, if they have any.
        limited: whether that login reaches the worker's keys only.
        allowed: commands that the settings allow, and that would be refused otherwise; other plans
            stay.
    """
    passed = policy.PASSED | (policy.OWN_SERVER_ONLY if owned else frozenset())
    positions = {**_by_name(KEYS), **_by_name(REDIS_KEYS), **_by_name(policy.CHANNELS)}
    readers = {name: _READERS[shape] for name, shape in _by_name(policy.REPLIES).items()}
    return {
        **dict.fromkeys([*allowed, *passed], as_it_is),
        **{name: partial(_with_effect, effect) for name, effect in _by_name(_EFFECTS).items()},
        **{name: names_at(notation, readers.get(name)) for name, notation in positions.items()},
        **dict.fromkeys(policy.SUBSCRIBING.split(), _subscribe),
        **{name: partial(_names_by_pattern, at) for name, at in policy.PATTERNS.items()},
        **{name: partial(_names_behind, options) for name, options in policy.OPTIONS.items()},
        **_KEYSPACE,
        **scripts.plans(limited=limited),
        **(_logging_in(login) if login else {}),
    }


def _by_name(table: Mapping[Any, str]) -> dict[str, Any]:
    return {name: value for value, names in table.items() for name in names.split()}


def _logging_in(login: tuple[str, str]) -> dict[str, Plan]:
    return {"AUTH": partial(_authenticate, login), "HELLO": partial(_greet, login)}


def _authenticate(login: tuple[str, str], _: Namespace, args: Arguments) -> Rewritten:
    """Rewrite AUTH: the application's login is for its own server, so the worker's is sent."""
    return (args[0], *login), None


def _greet(login: tuple[str, str], _: Namespace, args: Arguments) -> Rewritten:
    """Rewrite HELLO: the version of the protocol, then options, one of which is a login."""
    rewritten = list(args)
    at = 2
    while at < len(args):
        option = word(args[at])
        if option == "AUTH":
            rewritten[at + 1 : at + 3] = login
        at += 1 + _HELLO.get(option, 0)
    return rewritten, None


def as_it_is(_: Namespace, args: Arguments) -> Rewritten:
    """Return a command without names unchanged."""
    return args, None


def _with_effect(effect: ReplyEffect, _: Namespace, args: Arguments) -> Rewritten:
    return args, effect


def first_argument(namespace: Namespace, args: Arguments) -> Rewritten:
    """Rewrite a command whose only key is its first argument."""
    if len(args) < 2:
        return args, None
    key = args[1]
    # Written out here, as it saves a call for nearly all commands and keys.
    key = namespace.text + key if type(key) is str else namespace.add(key)
    return (args[0], key, *args[2:]), None


def names_at(notation: str, reader: ReplyReader | None = None) -> Plan:
    """Return the plan of a command whose names are at the positions of a notation.

    Args:
        notation: the positions of the names, in the notation of ``itkit.redis.commands``.
        reader: takes the prefix off a reply that has names.
    """
    if notation == "1" and reader is None:
        return first_argument
    find = keyspecs.parse(notation)

    def plan(namespace: Namespace, args: Arguments) -> Rewritten:
        rewritten = list(args)
        for position in find(args):
            rewritten[position] = namespace.add(args[position])
        return rewritten, reader and partial(reader, namespace)

    return plan


def _subscribe(namespace: Namespace, args: Arguments) -> Rewritten:
    names = [pubsub.add(namespace, name) for name in args[1:]]
    return (args[0], *names), ReplyEffect.SUBSCRIBE


def _names_by_pattern(at: int, namespace: Namespace, args: Arguments) -> Rewritten:
    """Rewrite KEYS and PUBSUB CHANNELS: the argument ``at`` is a pattern, or missing."""
    pattern = args[at] if len(args) > at else "*"
    rewritten = (*args[:at], namespace.add(pattern), *args[at + 1 :])
    return rewritten, partial(_read_all_names, namespace)


def _scan(namespace: Namespace, args: Arguments) -> Rewritten:
    """Rewrite SCAN to return all names at once, as most of its calls find others' keys only."""
    options = {word(args[at]): args[at + 1] for at in range(2, len(args) - 1, 2)}
    if len(args) % 2 or not options.keys() <= _SCAN:  # the server refuses it
        return (*args, "MATCH", namespace.add("*")), partial(_read_names_after_cursor, namespace)
    if word(args[1]) != "0":
        return ("EVAL", _NO_MORE, 0), None
    pattern = namespace.add(options.get("MATCH", "*"))
    kind = (word(options["TYPE"]).lower(),) if "TYPE" in options else ()
    return ("EVAL", _ALL_AT_ONCE, 0, pattern, *kind), partial(_read_names_after_cursor, namespace)


def _names_behind(
    options: policy.CommandOptions, namespace: Namespace, args: Arguments
) -> Rewritten:
    """Rewrite SORT and GEORADIUS: a key, then options, some of which take a name or a pattern."""
    rewritten = list(first_argument(namespace, args)[0])
    at = options.start
    while at + 1 < len(args):
        arguments = options.words.get(word(args[at]), 0)
        if arguments == 1 and args[at + 1] not in {"#", b"#"}:
            rewritten[at + 1] = namespace.add(args[at + 1])
        at += 1 + arguments
    return rewritten, None


def _script(source: str, namespace: Namespace, *more: int) -> Arguments:
    return ("EVAL", source, 0, namespace.add("*"), *more)


def _forget(namespace: Namespace, _: Arguments) -> Rewritten:
    return _script(_FORGET, namespace), None


def _forget_all(namespace: Namespace, _: Arguments) -> Rewritten:
    return _script(_FORGET_ALL, namespace), None


def _count(namespace: Namespace, _: Arguments) -> Rewritten:
    return _script(_COUNT, namespace), None


def _pick(namespace: Namespace, _: Arguments) -> Rewritten:
    # Random numbers that a script makes itself are the same in each call.
    number = random.randrange(2**31)  # noqa: S311 - picks a key, hides nothing
    return _script(_PICK, namespace, number), partial(_read_name, namespace)


def _read_name(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of RANDOMKEY: a name."""
    return namespace.strip(reply)


def _read_all_names(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of KEYS and PUBSUB CHANNELS: names, in the protocol's kind of collection."""
    return [namespace.strip(item) for item in reply]


def _read_names_after_cursor(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of SCAN: a cursor and names."""
    cursor, found = reply
    return [cursor, _read_all_names(namespace, found)]


def _read_first(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of BLPOP, LMPOP and similar commands: a name, then values."""
    return [namespace.strip(reply[0]), *reply[1:]]


def _read_names_and_values(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of PUBSUB NUMSUB: names and values in turn, or a map of them."""
    if isinstance(reply, dict):
        return _read_by_name(namespace, reply)
    return [namespace.strip(item) if not index % 2 else item for index, item in enumerate(reply)]


def _read_by_name(namespace: Namespace, reply: Any) -> Any:
    """Read the reply of XREAD: pairs of a name and its entries, or a map of them."""
    if isinstance(reply, dict):
        return {namespace.strip(key): value for key, value in reply.items()}
    return [[namespace.strip(key), *rest] for key, *rest in reply]


_SCAN = {"COUNT", "MATCH", "TYPE"}
_HELLO = {"AUTH": 2, "SETNAME": 1}
_KEYSPACE: Mapping[str, Plan] = {
    "DBSIZE": _count,
    "FLUSHALL": _forget_all,
    "FLUSHDB": _forget,
    "RANDOMKEY": _pick,
    "SCAN": _scan,
}
_READERS: Mapping[str, ReplyReader] = {
    "first": _read_first,
    "by_name": _read_by_name,
    "names_and_values": _read_names_and_values,
}
"""By the shapes of replies that ``policy.REPLIES`` names."""

"""Tables of the commands that need more than a prefix on their keys, or are refused.

These tables and those of ``itkit.redis.commands`` hold all that itkit knows about commands. Both
the client's side (``prefix/plans.py``) and the code that runs in the server
(``prefix/prologue.lua``) read them. A command that is in no table is refused as unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from itkit.redis import commands

_PASSED = """
    ACL|CAT ACL|DRYRUN ACL|GENPASS ACL|GETUSER ACL|HELP ACL|LIST ACL|USERS ACL|WHOAMI
    AUTH HELLO QUIT SELECT PING ECHO ASKING READONLY READWRITE
    CLIENT|CAPA CLIENT|GETNAME CLIENT|GETREDIR CLIENT|HELP CLIENT|ID CLIENT|INFO CLIENT|LIST
    CLIENT|MAINT_NOTIFICATIONS CLIENT|NO-EVICT CLIENT|NO-TOUCH CLIENT|SETINFO CLIENT|SETNAME
    CLIENT|TRACKINGINFO
    CLUSTER|KEYSLOT
    COMMAND COMMAND|COUNT COMMAND|DOCS COMMAND|GETKEYS COMMAND|GETKEYSANDFLAGS COMMAND|HELP
    COMMAND|INFO COMMAND|LIST
    COMMANDLOG|GET COMMANDLOG|HELP COMMANDLOG|LEN
    CONFIG|GET CONFIG|HELP
    FUNCTION|DUMP FUNCTION|HELP FUNCTION|LIST FUNCTION|STATS
    HIMPORT|DISCARD HIMPORT|DISCARDALL HIMPORT|PREPARE
    INFO LASTSAVE LOLWUT ROLE TIME WAIT WAITAOF
    LATENCY|DOCTOR LATENCY|GRAPH LATENCY|HELP LATENCY|HISTOGRAM LATENCY|HISTORY LATENCY|LATEST
    MEMORY|DOCTOR MEMORY|HELP MEMORY|MALLOC-STATS MEMORY|STATS
    MODULE|HELP MODULE|LIST
    OBJECT|HELP PUBSUB|HELP PUBSUB|NUMPAT XGROUP|HELP XINFO|HELP
    SCRIPT|EXISTS SCRIPT|HELP SCRIPT|LOAD SCRIPT|SHOW
    SLOWLOG|GET SLOWLOG|HELP SLOWLOG|LEN
    UNWATCH
"""
PASSED: Final = frozenset(_PASSED.split())

OWN_SERVER_ONLY: Final = frozenset({"FUNCTION|DELETE", "FUNCTION|LOAD"})
"""Libraries of functions belong to the whole server; on one that is thrown away that is fine."""

_REASONS: Final = {
    "it would move keys out of this test's reach": "MIGRATE MOVE SWAPDB",
    "it would change the server for everybody": """
        ACL|DELUSER ACL|LOAD ACL|LOG ACL|SAVE ACL|SETUSER
        BGREWRITEAOF BGSAVE SAVE SHUTDOWN
        COMMANDLOG|RESET CONFIG|RESETSTAT CONFIG|REWRITE CONFIG|SET DEBUG
        FAILOVER REPLCONF REPLICAOF SLAVEOF
        FUNCTION|DELETE FUNCTION|FLUSH FUNCTION|KILL FUNCTION|LOAD FUNCTION|RESTORE
        LATENCY|RESET MEMORY|PURGE MODULE|LOAD MODULE|LOADEX MODULE|UNLOAD PFSELFTEST
        SCRIPT|DEBUG SCRIPT|FLUSH SCRIPT|KILL SLOWLOG|RESET
    """,
    "it would touch the connections of others": (
        "CLIENT|IMPORT-SOURCE CLIENT|KILL CLIENT|PAUSE CLIENT|UNBLOCK CLIENT|UNPAUSE"
    ),
    "it would show the commands and keys of everybody": "MONITOR PSYNC SYNC",
    "itkit could no longer assign replies to commands": "CLIENT|REPLY",
    "redis-py would not know that its connection has another login, database and protocol": "RESET",
    "the keys that it announces may be those of others; switch client-side"
    " caching off in tests": "CLIENT|CACHING CLIENT|TRACKING",
    "Redis Cluster is not supported: use a plain redis.Redis client in tests": """
        CLUSTER CLUSTER|ADDSLOTS CLUSTER|ADDSLOTSRANGE CLUSTER|BUMPEPOCH
        CLUSTER|CANCELSLOTMIGRATIONS CLUSTER|COUNT-FAILURE-REPORTS CLUSTER|COUNTKEYSINSLOT
        CLUSTER|DELSLOTS CLUSTER|DELSLOTSRANGE CLUSTER|FAILOVER CLUSTER|FLUSHSLOT
        CLUSTER|FLUSHSLOTS CLUSTER|FORGET CLUSTER|GETKEYSINSLOT CLUSTER|GETSLOTMIGRATIONS
        CLUSTER|HELP CLUSTER|INFO CLUSTER|LINKS CLUSTER|MEET CLUSTER|MIGRATESLOTS CLUSTER|MYID
        CLUSTER|MYSHARDID CLUSTER|NODES CLUSTER|REPLICAS CLUSTER|REPLICATE CLUSTER|RESET
        CLUSTER|SAVECONFIG CLUSTER|SET-CONFIG-EPOCH CLUSTER|SETSLOT CLUSTER|SHARDS
        CLUSTER|SLAVES CLUSTER|SLOT-STATS CLUSTER|SLOTS CLUSTER|SYNCSLOTS CLUSTERSCAN
    """,
}

CHANNELS: Final = {
    "1": "PUBLISH SPUBLISH",
    "2:-1": "PUBSUB|NUMSUB PUBSUB|SHARDNUMSUB",
}
"""Positions of channels, which get the prefix too, in the notation of ``itkit.redis.commands``."""

SUBSCRIBING: Final = "PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE"

PATTERNS: Final = {"KEYS": 1, "PUBSUB|CHANNELS": 2, "PUBSUB|SHARDCHANNELS": 2}
"""Commands whose reply has all names that match a pattern, and the position of the pattern."""


class CommandOptions(NamedTuple):
    """The options of a command that may follow its first key in any order.

    Attributes:
        start: position of the first option.
        words: the number of arguments of each option that has arguments. An option with one
            argument has a name as its argument.
    """

    start: int
    words: Mapping[str, int]


_SORT = CommandOptions(2, {"BY": 1, "GET": 1, "STORE": 1, "LIMIT": 2})
_STORE: Final = {"STORE": 1, "STOREDIST": 1}

OPTIONS: Final = {
    "GEORADIUS": CommandOptions(6, _STORE),
    "GEORADIUSBYMEMBER": CommandOptions(5, _STORE),
    "SORT": _SORT,
    "SORT_RO": _SORT,
}

REPLIES: Final = {
    "first": "BLMPOP BLPOP BRPOP BZMPOP BZPOPMAX BZPOPMIN LMPOP ZMPOP",
    "by_name": "XREAD XREADGROUP",
    "names_and_values": "PUBSUB|NUMSUB PUBSUB|SHARDNUMSUB",
}
"""Commands whose replies have names in them, by the shapes that ``prefix/plans.py`` reads."""

KEYSPACE: Final = "DBSIZE FLUSHALL FLUSHDB RANDOMKEY SCAN"
"""Commands about all keys of a server; itkit limits them to the keys with the prefix."""

REFUSED_IN_SCRIPTS: Final = "FLUSHALL MIGRATE MOVE SWAPDB"
"""Commands that a script may not call unless the server itself limits the login."""

_TRANSACTIONS: Final = "DISCARD EXEC MULTI"

REFUSED: Final = {name: reason for reason, words in _REASONS.items() for name in words.split()}


_DESTRUCTIVE: Final = frozenset(
    {"FAILOVER", "MIGRATE", "MOVE", "REPLICAOF", "SHUTDOWN", "SLAVEOF", "SWAPDB"}
)
"""Commands that are sent only to servers that itkit has started, whatever the settings allow."""

_CONFUSING: Final = frozenset({"CLIENT|REPLY", "RESET"})
"""Commands that are never sent, as redis-py itself could not continue."""


def command_names() -> frozenset[str]:
    """Return the names of all commands that itkit knows, without those of subcommands."""
    tables = [*commands.KEYS.values(), *commands.REDIS_KEYS.values(), *CHANNELS.values()]
    texts = [*tables, commands.WRITES, SUBSCRIBING, KEYSPACE, _TRANSACTIONS]
    named = {name for words in texts for name in words.split()}
    known = named | PASSED | REFUSED.keys() | PATTERNS.keys() | OPTIONS.keys()
    return frozenset(name.partition("|")[0] for name in known)


def allowed(listed: Iterable[str], *, owned: bool) -> frozenset[str]:
    """Return the commands that ``ALLOW_COMMANDS`` lets through, by their names in these tables.

    Args:
        listed: the setting: commands, subcommands (``CONFIG SET``), or containers of subcommands.
        owned: whether the server is thrown away after the run.
    """
    found = {"|".join(name.upper().split()) for name in listed}
    found |= {name for name in REFUSED if name.partition("|")[0] in found}
    found.discard("FLUSHALL")  # it removes the test's own keys, so there is nothing to allow
    return frozenset(found - _CONFUSING - (frozenset() if owned else _DESTRUCTIVE))


def refusal(name: str, listed: Sequence[str] = ()) -> str:
    """Return why a command is refused, and what to do instead.

    Args:
        name: the name of the command.
        listed: the setting ``ALLOW_COMMANDS``.
    """
    shown = name.replace("|", " ")
    reason = REFUSED.get(
        name, "itkit does not know this command, so it cannot tell which of its arguments are keys"
    )
    return (
        f"{shown} was refused: {reason}. A test that needs it connects to a server of its own, "
        f'listed in ITKIT["REDIS"]["ALLOW_ADDRESSES"], or fakes the backend that sends {shown}. '
        'With ITKIT["REDIS"]["PER_WORKER_SERVER"] each worker has a server where all is allowed.'
        f"{_how_to_allow(name, shown, listed)}"
    )


def _how_to_allow(name: str, shown: str, listed: Sequence[str]) -> str:
    if name in _CONFUSING or REFUSED.get(name, "").startswith("Redis Cluster"):
        return ""
    if name in _DESTRUCTIVE:
        where = " Only on the embedded server can it be allowed:"
    else:
        where = " To let it through as it is, without a prefix:"
    names = ", ".join(f'"{item}"' for item in dict.fromkeys([*listed, shown]))
    return f'{where} ITKIT["REDIS"]["ALLOW_COMMANDS"] = [{names}]'

"""Commands without keys: which may pass, and which are refused for what reason.

Whatever is neither here nor in ``itkit.redis.commands`` nor rewritten is refused as unknown.
"""

from collections.abc import Iterable, Sequence
from typing import Final

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
    "it would remove the keys of everybody; FLUSHDB, as in cache.clear(), removes yours alone": (
        "FLUSHALL"
    ),
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
    "replies could no longer be told apart": "CLIENT|REPLY",
    "redis-py would not know that its connection has another login, database and protocol": "RESET",
    "the keys that it announces cannot be told apart from those of others; switch client-side"
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

_REWRITTEN: Final = """
    DBSIZE DISCARD EXEC FLUSHDB GEORADIUS GEORADIUSBYMEMBER KEYS MULTI PSUBSCRIBE PUBLISH PUBSUB
    PUNSUBSCRIBE RANDOMKEY SCAN SORT SORT_RO SPUBLISH SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE
    UNSUBSCRIBE
"""

REFUSED: Final = {name: reason for reason, words in _REASONS.items() for name in words.split()}


_DESTRUCTIVE: Final = frozenset(
    {"FAILOVER", "FLUSHALL", "MIGRATE", "MOVE", "REPLICAOF", "SHUTDOWN", "SLAVEOF", "SWAPDB"}
)
"""Sent to no server that itkit has not started, whatever the settings say."""

_CONFUSING: Final = frozenset({"CLIENT|REPLY", "RESET"})
"""Sent nowhere: redis-py itself could not go on."""


def command_names() -> frozenset[str]:
    """Return the names of all commands that itkit knows, without those of subcommands."""
    tables = [*commands.KEYS.values(), *commands.REDIS_KEYS.values()]
    named = {name for words in [*tables, commands.WRITES, _REWRITTEN] for name in words.split()}
    return frozenset(name.partition("|")[0] for name in named | PASSED | REFUSED.keys())


def allowed(listed: Iterable[str], *, owned: bool) -> frozenset[str]:
    """Return the commands that ``ALLOW_COMMANDS`` lets through, as they are named here.

    Args:
        listed: the setting: a command, a subcommand (``CONFIG SET``), or all of a container's.
        owned: whether the server is thrown away after the run.
    """
    found = {"|".join(name.upper().split()) for name in listed}
    found |= {name for name in REFUSED if name.partition("|")[0] in found}
    return frozenset(found - _CONFUSING - (frozenset() if owned else _DESTRUCTIVE))


def refusal(name: str, listed: Sequence[str] = ()) -> str:
    """Return why a command is refused and what to do instead.

    Args:
        name: of the command.
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

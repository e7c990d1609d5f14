"""Asks the server about commands that are not in the tables, such as those of modules."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from itkit.redis.prefix import plans
from itkit.redis.prefix.namespace import Plan
from itkit.redis.server import server as servers

Ask = Callable[[str, str], Plan | None]

_SPECS: Final = 8
_SUBCOMMANDS: Final = 9


def asking(url: str) -> Ask:
    """Return a function that asks a server, once for each command, how to rewrite it.

    The function takes the command's name and its first argument, both in capitals. It returns None
    where the server does not say which arguments are keys, or says that none is. Such a command of
    a module is not let through, as it may have names of another kind, such as an index.

    Args:
        url: the URL of the server, with a login of ours.
    """
    known: dict[tuple[str, str], Plan | None] = {}

    def ask(name: str, first: str) -> Plan | None:
        if (name, first) not in known:
            known[name, first] = _plan(_entry(url, name), f"{name}|{first}")
        return known[name, first]

    return ask


def notation_of(spec: dict[str, Any]) -> str:
    """Return a key specification of COMMAND in the notation of ``itkit.redis.commands``.

    Raises:
        ValueError: the specification cannot be written in the notation, as it is incomplete.
    """
    begin, find = spec["begin_search"], spec["find_keys"]
    if "incomplete" not in spec["flags"]:
        match begin["type"], find["type"]:
            case "index", "range":
                return _in_range(begin["spec"]["index"], **find["spec"])
            case "index", "keynum":
                return _counted(begin["spec"]["index"], **find["spec"])
            case "keyword", "range":
                return _behind_word(**begin["spec"], **find["spec"])
    raise ValueError(f"no notation for {spec}")


def _entry(url: str, name: str) -> list[Any] | None:
    """Return the server's entry about a command; None if the server does not know it."""
    # Read without redis-py's callbacks, which drop the key specifications.
    connection: Any = servers.client(url, protocol=3).connection_pool.make_connection()
    try:
        with servers.failures_explained(url):
            connection.send_command("COMMAND", "INFO", name)
            entry: list[Any] | None = connection.read_response()[0]
    finally:
        connection.disconnect()
    return entry


def _plan(entry: list[Any] | None, subcommand: str) -> Plan | None:
    if entry is None:
        return plans.as_it_is  # the server reports this mistake
    if len(entry) <= _SPECS:
        return _plan_of_redis_6(entry)
    if entry[_SUBCOMMANDS]:
        named = [found for found in entry[_SUBCOMMANDS] if found[0].upper() == subcommand]
        if not named:
            return plans.as_it_is
        entry = named[0]
    try:
        notation = " ".join(map(notation_of, entry[_SPECS]))
    except ValueError:
        return None
    return plans.names_at(notation) if notation else None


def _plan_of_redis_6(entry: Sequence[Any]) -> Plan | None:
    """Return the plan by the range of positions in an entry of Redis 6, unless keys are movable."""
    _, _, flags, first, last, step, *_ = entry
    if not first or "movablekeys" in flags:
        return None
    return plans.names_at(f"{first}:{last}:{step}")


def _in_range(index: int, *, lastkey: int, keystep: int, limit: int) -> str:
    if limit:
        raise ValueError("no notation for a part of a range")
    last = lastkey if lastkey < 0 else index + lastkey
    if last == index:
        return f"{index}"
    return f"{index}:{last}" if keystep == 1 else f"{index}:{last}:{keystep}"


def _counted(index: int, *, keynumidx: int, firstkey: int, keystep: int) -> str:
    if (keynumidx, firstkey) != (0, 1):
        raise ValueError("no notation for keys that do not follow their number")
    return f"{index}#" if keystep == 1 else f"{index}#{keystep}"


def _behind_word(*, keyword: str, startfrom: int, lastkey: int, keystep: int, limit: int) -> str:
    if (lastkey, keystep) != (-1, 1):
        raise ValueError("no notation for a part of what follows a word")
    return f"{keyword}@{startfrom}/{limit}"

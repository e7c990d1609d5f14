"""The prefix of one generation of one worker: adds it to names, and removes it from them."""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Final

from itkit.core import names

_TYPES: Final = (bytearray, memoryview)


class Namespace:
    """The keys and channels of one generation. The object is immutable and replaced atomically.

    The prefix has only lower-case letters, digits and colons. So it is the same in a glob pattern
    and in a key, and a cluster would see no hash tag in it.
    """

    __slots__ = ("_raw", "_raw_root", "generation", "root", "text")

    def __init__(self, run: str, worker: str, generation: int) -> None:
        self.generation = generation
        self.root = names.key_prefix(run, worker)
        self.text = f"{self.root}{generation}:"
        self._raw_root = self.root.encode()
        self._raw = self.text.encode()

    def add(self, name: Any) -> Any:
        """Return a key, channel or pattern with the prefix, in a form that redis-py accepts.

        An argument that redis-py does not accept is returned as it is, so that redis-py refuses it.
        """
        if isinstance(name, str):
            return self.text + name
        if isinstance(name, bytes):
            return self._raw + name
        if isinstance(name, _TYPES):
            return self._raw + bytes(name)
        if isinstance(name, int | float) and not isinstance(name, bool):
            return f"{self.text}{name!r}"
        return name

    def holds(self, name: bytes) -> bool:
        """Return whether a key is of this generation."""
        return name.startswith(self._raw)

    def strip(self, name: Any) -> Any:
        """Return a name in a reply without the prefix of any generation of this worker.

        A reply may be read when the generation of its command is over.
        """
        if isinstance(name, str) and name.startswith(self.root):
            return name[name.index(":", len(self.root)) + 1 :]
        if isinstance(name, bytes) and name.startswith(self._raw_root):
            return name[name.index(b":", len(self._raw_root)) + 1 :]
        return name


class NoNamespace(Namespace):
    """The namespace of a worker with a server of its own: names stay as they are."""

    __slots__ = ()

    def __init__(self) -> None:
        self.generation = 0
        self.root = self.text = ""
        self._raw = self._raw_root = b""

    def strip(self, name: Any) -> Any:
        """Return a name as it is."""
        return name


Arguments = Sequence[Any]


class ReplyEffect(Enum):
    """What a command does to the order of the replies on its connection."""

    BEGIN = auto()
    EXECUTE = auto()
    DISCARD = auto()
    SUBSCRIBE = auto()


Expected = Callable[[Any], Any] | ReplyEffect | None
"""How to read a command's reply: by a function, by its effect, or unchanged if it is None."""

Rewritten = tuple[Arguments, Expected]
Plan = Callable[[Namespace, Arguments], Rewritten]
"""Rewrites the arguments of one command for a namespace."""

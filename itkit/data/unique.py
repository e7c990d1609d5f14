"""Unique values: a seeded permutation of a counter, so that they look random but cannot collide."""

import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2s
from typing import Final
from weakref import WeakSet

from itkit.core import names
from itkit.exceptions import DataError

ALL_NUMBERS: Final = 2**32
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ROUNDS: Final = 4
_DIVIDED: Final = 1000  # of fewer values there are none to set apart
_FEW: Final = 2**24

Counters = defaultdict[int, Iterator[int]]


class UniqueValues:
    """Values for columns that must differ, each drawn from one of the seed's permutations.

    Two managers share no value when they count through different parts of one permutation. So all
    managers without a seed share one counter, in the part of the running test or class; a process
    that runs no tests has a seed of its own. With a seed the values repeat: they start at
    ``offset``. Code that makes several managers with one seed gives each another offset, such as
    ``worker << 24 | test << 8``.

    Where there are few values, such as in a column of three letters, parts would overlap. There, no
    manager gives a value that another one has given, as long as the rows of that one exist.

    Args:
        seed: decides the permutation; by default the seed of the run.
        offset: the position in the permutation to begin at, from 0 to 2**32 - 1; it needs a seed.
        is_apart: whether to draw from the last eighth of each range of values, which nobody else
            uses. Rows that are kept need this, as they meet values of any other seed.
    """

    def __init__(
        self,
        seed: str | None = None,
        *,
        offset: int = 0,
        is_apart: bool = False,
    ) -> None:
        self.seed = _default.seed if seed is None else seed
        self._counters = _default.counters if seed is None else _counters_from(offset)
        self._is_apart = is_apart
        self._drawn: Counter[int] = Counter()
        self._given: dict[int, set[int]] = defaultdict(set)  # where there are few
        self._lock = threading.Lock()
        with _all_managers:
            _alive.add(self)

    def number(self, below: int = ALL_NUMBERS) -> int:
        """Return a number from 0 to ``below`` - 1 that this manager has not given before.

        Where there are a thousand values or more, the last eighth is for scenarios.

        Raises:
            DataError: all values have been given.
        """
        kept_apart = below // 8 if below >= _DIVIDED else 0
        first = below - kept_apart if self._is_apart and kept_apart else 0
        size = kept_apart if first else below - kept_apart
        with self._lock:  # threads of one test may draw at the same time
            for _ in range(size - self._drawn[below]):
                self._drawn[below] += 1
                index = next(self._counters[below])
                number = first + _permuted(index % size, size, self.seed)
                if below > _FEW or self._may_give(number, below):
                    return number
        raise DataError(
            f"All {size} different values of this size have been used. "
            "Make the column longer, or create fewer rows in one test."
        )

    def release(self) -> None:
        """Let others give the values again that this manager has given, as their rows are gone."""
        with _all_managers:
            self._given.clear()

    def _may_give(self, number: int, below: int) -> bool:
        with _all_managers:  # two values may have led to the same number
            if any(number in other._given.get(below, ()) for other in _alive if other is not self):
                return False
            self._given[below].add(number)
            return True

    def hex(self) -> str:
        """Return eight hex digits."""
        return f"{self.number():08x}"

    def email(self) -> str:
        """Return an address such as ``test_5f3a9c01@example.com``."""
        return f"test_{self.hex()}@example.com"

    def text(self, max_length: int | None = None) -> str:
        """Return eight hex digits, or ``max_length`` letters and digits if that is less."""
        if max_length is None or max_length >= 8:
            return self.hex()
        number = self.number(min(len(_DIGITS) ** max_length, ALL_NUMBERS))
        return _in_digits(number, max_length)


def follow(seed: str, offset: int) -> None:
    """Let managers without a seed use the seed of the run and the offset of the running test."""
    _default.seed, _default.counters = seed, _counters_from(offset)


def _counters_from(offset: int) -> Counters:
    return defaultdict(lambda: itertools.count(offset))


@dataclass
class _Default:
    """The source of values without a seed."""

    seed: str
    counters: Counters


_default = _Default(names.new_run_id(), _counters_from(0))
_alive: "WeakSet[UniqueValues]" = WeakSet()
_all_managers = threading.Lock()


def _permuted(index: int, below: int, seed: str) -> int:
    """Return the position of ``index`` in the seed's permutation of ``range(below)``.

    A Feistel network permutes the next even power of two. A result outside of the range is permuted
    again until it is inside, so that the whole remains a permutation.
    """
    half = max(1, (below - 1).bit_length() + 1 >> 1)
    index = _feistel(index, half, seed)
    while index >= below:
        index = _feistel(index, half, seed)
    return index


def _feistel(number: int, half: int, seed: str) -> int:
    mask = (1 << half) - 1
    left, right = number >> half, number & mask
    for turn in range(_ROUNDS):
        left, right = right, left ^ (_scrambled(right, turn, seed) & mask)
    return left << half | right


def _scrambled(number: int, turn: int, seed: str) -> int:
    text = f"{seed}:{turn}:{number}".encode()
    return int.from_bytes(blake2s(text, digest_size=4).digest(), "big")


def _in_digits(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))

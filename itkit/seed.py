"""One number from which a run's random values come, so that a test can be repeated with its own.

Each test has a part of the permutation of unique values by its index among the selected tests, in
the order of their names, and its own state of the generators: so neither other tests, their order
nor the worker have a say in it.
"""

import random
import re
import sys
from collections.abc import Iterable
from hashlib import blake2s
from typing import Final, NamedTuple

from itkit import names
from itkit.exceptions import ConfigurationError

_SEED: Final = re.compile(r"(?P<text>[0-9a-zA-Z]{1,32})(?::(?P<first>\d{1,9}))?")
_ROOM_BITS: Final = 16
_TESTS: Final = 2**15  # the other half of the permutation is for what several tests share


class Seed(NamedTuple):
    """What a run's random values come from.

    Attributes:
        text: letters and digits.
        first: index of the first of the selected tests.
    """

    text: str
    first: int = 0

    @classmethod
    def parse(cls, given: str | None) -> "Seed":
        """Return the seed of an option such as ``5f3a9c01`` or ``5f3a9c01:17``; a new one of none.

        Raises:
            ConfigurationError: it is no seed.
        """
        if not given:
            return cls(names.new_run_id())
        found = _SEED.fullmatch(given)
        if found is None:
            raise ConfigurationError(
                f"--itkit-seed is {given!r}, expected letters and digits, such as 5f3a9c01, or"
                " with the index of a test, as a failure prints it: 5f3a9c01:17."
            )
        return cls(found["text"], int(found["first"] or 0))

    def __str__(self) -> str:
        return f"{self.text}:{self.first}"


def indexes(tests: Iterable[str], first: int) -> dict[str, int]:
    """Return the index of each test, by its id."""
    return {test: first + number for number, test in enumerate(sorted(set(tests)))}


def offset_of_test(index: int) -> int:
    """Return where the unique values of a test begin; it has room for 65,536."""
    return index % _TESTS << _ROOM_BITS


def offset_of_shared(name: str) -> int:
    """Return where those begin that several tests share, such as all of a class."""
    digest = blake2s(name.encode(), digest_size=2).digest()
    return _TESTS + int.from_bytes(digest, "big") % _TESTS << _ROOM_BITS


def reseed(seed: str, name: str) -> None:
    """Put the generators of random values that are in use into a state of a test's own.

    These are those of random, Faker, factory_boy and model_bakery.

    Args:
        seed: of the run.
        name: of the test.
    """
    number = int.from_bytes(blake2s(f"{seed}:{name}".encode(), digest_size=8).digest(), "big")
    random.seed(number)
    if (factory := sys.modules.get("factory.random")) is not None:
        factory.reseed_random(number)  # that of Faker's as well
    if (faker := sys.modules.get("faker.generator")) is not None:
        faker.random.seed(number)
    if (bakery := sys.modules.get("model_bakery.random_gen")) is not None:
        bakery.baker_random.seed(number)

"""The seed of a run's random values, by which a test can be repeated with the same values.

Each test has a part of the permutation of unique values, by its index among the selected tests in
the order of their names, and its own state of the generators. So its values do not depend on other
tests, on their order, or on the worker.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2s
from importlib import import_module
from typing import Any, Final, NamedTuple

from itkit.core import names
from itkit.exceptions import ConfigurationError

_SEED: Final = re.compile(r"(?P<text>[0-9a-zA-Z]{1,32})(?::(?P<indexes>\d{1,9}(?:,\d{1,9})*))?")
_ROOM_BITS: Final = 16
_TESTS: Final = 2**15
_SHARED: Final = _TESTS * 3 // 4  # for shared values; the last eighth is for scenarios
_SEQUENCES: Final = 2**14  # half as many, as sequences are signed numbers


class _Generator(NamedTuple):
    """The functions that seed a random generator, read its state, and restore it."""

    seed: Callable[[int], object]
    state: Callable[[], Any]
    restore: Callable[[Any], object]


def _methods(generator: Any) -> _Generator:
    """Return the methods of an instance of ``random.Random``, or the functions of the module."""
    return _Generator(generator.seed, generator.getstate, generator.setstate)


_GENERATORS: Final[dict[str, Callable[[Any], _Generator]]] = {
    "random": _methods,
    "factory.random": lambda module: _Generator(  # Faker's as well
        module.reseed_random, module.get_random_state, module.set_random_state
    ),
    "faker.generator": lambda module: _methods(module.random),
    "model_bakery.random_gen": lambda module: _methods(module.baker_random),
}
"""The modules that have a random generator, and the function that finds it in the module."""
_waiting: dict[str, int] = {}
"""The numbers for the generators of those modules that are not imported yet."""


class Seed(NamedTuple):
    """The seed of a run's random values.

    Attributes:
        text: letters and digits.
        indexes: the index of the first of the selected tests in the order of their names; or the
            indexes of all tests that the command names, which run in its order.
    """

    text: str
    indexes: tuple[int, ...] = (0,)

    @classmethod
    def parse(cls, given: str | None) -> "Seed":
        """Return the seed from an option such as ``5f3a9c01:17``; without an option, a new one.

        Raises:
            ConfigurationError: the text is not a seed.
        """
        if not given:
            return cls(names.new_run_id())
        found = _SEED.fullmatch(given)
        if found is None:
            raise ConfigurationError(
                f"--itkit-seed is {given!r}, expected letters and digits, such as 5f3a9c01, or"
                " with the index of a test, as a failure prints it: 5f3a9c01:17."
            )
        return cls(found["text"], tuple(map(int, (found["indexes"] or "0").split(","))))

    def __str__(self) -> str:
        return f"{self.text}:{','.join(map(str, self.indexes))}"

    @property
    def has_order(self) -> bool:
        """Whether the tests run in the order in which the command names them."""
        return len(self.indexes) > 1

    def numbered(self, tests: Iterable[str], named: Sequence[str]) -> dict[str, int]:
        """Return the index of each test, by its id.

        Args:
            tests: the ids of the selected tests.
            named: the ids of the tests that the command names.
        """
        found = dict(zip(named, self.indexes, strict=False)) if self.has_order else {}
        first = max(self.indexes) + 1 if self.has_order else self.indexes[0]
        rest = sorted(set(tests).difference(found))
        return found | {test: first + number for number, test in enumerate(rest)}


def in_order(tests: Iterable[Any], named: Sequence[str], id_of: Callable[[Any], str]) -> list[Any]:
    """Return tests in the order in which a command names them; all others come last.

    Args:
        tests: the tests that are to run.
        named: the ids of those that the command names.
        id_of: returns the id of a test.
    """
    positions = {test: position for position, test in enumerate(named)}
    return sorted(tests, key=lambda test: positions.get(id_of(test), len(positions)))


def offset_of_test(index: int) -> int:
    """Return the position at which the 65,536 unique values of a test begin."""
    return index % _TESTS << _ROOM_BITS


def offset_of_shared(name: str) -> int:
    """Return the position of unique values that several tests share, such as those of a class."""
    return _TESTS + _part(name, _SHARED) << _ROOM_BITS


def offset_of_kept(name: str) -> int:
    """Return the position of a scenario's unique values, among those that are set apart."""
    return _part(name, _TESTS // 4) << _ROOM_BITS


def sequence_of_test(index: int) -> int:
    """Return the number at which factories' sequences begin in a test with its own sequences."""
    return index % _SEQUENCES << _ROOM_BITS


def sequence_of_shared(name: str) -> int:
    """Return the number at which they begin in shared set-up, and for scenarios."""
    return _SEQUENCES + _part(name, _SEQUENCES) << _ROOM_BITS


def start_sequences(number: int) -> None:
    """Let the sequences of all factories continue from a number.

    Sequences that a factory's own ``_setup_next_sequence()`` reads from the database stay.
    """
    for meta in _counting():
        meta.reset_sequence(number)


@contextmanager
def apart(seed: str, name: str) -> Iterator[None]:
    """Give a block its own random values and sequences, without a change of others' values."""
    imported = [name for name in _GENERATORS if name in sys.modules]
    generators = [_GENERATORS[name](import_module(name)) for name in imported]
    states = [(generator, generator.state()) for generator in generators]
    waiting = dict(_waiting)
    sequences = {meta: meta._counter.seq for meta in _counting() if meta._counter is not None}
    reseed(seed, name)
    start_sequences(sequence_of_shared(name))
    try:
        yield
    finally:
        for generator, state in states:
            generator.restore(state)
        _waiting.update(waiting)
        for meta in _counting():
            if meta._counter is not None:
                meta._counter.reset(sequences.get(meta, 0))


def _part(name: str, count: int) -> int:
    """Return the number of the part for a name, among a number of parts."""
    digest = blake2s(name.encode(), digest_size=2).digest()
    return int.from_bytes(digest, "big") % count


def _counting() -> Iterator[Any]:
    """Yield the options of each factory that has a sequence of its own."""
    base = sys.modules.get("factory.base")
    if base is None:
        return
    waiting = base.BaseFactory.__subclasses__()
    while waiting:
        factory = waiting.pop()
        waiting += factory.__subclasses__()
        meta = factory._meta
        setup = factory._setup_next_sequence.__func__
        if (
            meta.counter_reference is meta
            and setup is base.BaseFactory._setup_next_sequence.__func__
        ):
            yield meta


def reseed(seed: str, name: str) -> None:
    """Set the generators of random values that are in use to the state for a test.

    These are those of random, Faker, factory_boy and model_bakery.

    Args:
        seed: the seed of the run.
        name: the name of the test.
    """
    number = int.from_bytes(blake2s(f"{seed}:{name}".encode(), digest_size=8).digest(), "big")
    _waiting.update(dict.fromkeys(_GENERATORS, number))
    reseed_imported()


def reseed_imported() -> None:
    """Set the generators of libraries that were imported since ``reseed()`` to the same state.

    The first test that creates data imports most of these libraries.
    """
    for name in list(_waiting):
        if name in sys.modules:
            module = import_module(name)  # waits for another thread that is just importing it
            number = _waiting.pop(name, None)  # None where another thread has been here meanwhile
            if number is not None:
                _GENERATORS[name](module).seed(number)

"""Django's own test cases, which tell of no event that itkit could listen to."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.test import TestCase, TransactionTestCase

from itkit.wrapping import wrapped


@contextmanager
def followed(begins: Callable[[Iterable[str]], None]) -> Iterator[None]:
    """Hear, within a block, when a class of tests that commit begins.

    pytest-django makes such a class for each test function that commits.

    Args:
        begins: gets the aliases of the databases that the tests use.
    """

    def hearing(set_up: Callable[[Any], None]) -> Callable[[Any], None]:
        def begin_and_set_up(cls: Any) -> None:
            if not issubclass(cls, TestCase):
                begins(cls._validate_databases())  # first: Django loads the fixtures of the class
            set_up(cls)

        return begin_and_set_up

    with wrapped(TransactionTestCase, "setUpClass", hearing):
        yield

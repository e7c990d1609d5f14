"""Django's own test cases, which tell of no event that itkit could listen to."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.test import TestCase, TransactionTestCase


@contextmanager
def followed(begins: Callable[[Iterable[str]], None]) -> Iterator[None]:
    """Hear, within a block, when a class of tests that commit begins.

    pytest-django makes such a class for each test function that commits.

    Args:
        begins: gets the aliases of the databases that the tests use.
    """
    original = vars(TransactionTestCase)["setUpClass"]

    def set_up(cls: Any) -> None:
        if not issubclass(cls, TestCase):
            begins(cls._validate_databases())  # first: Django loads the fixtures of the class
        original.__func__(cls)

    ours, owner = classmethod(set_up), TransactionTestCase
    setattr(owner, "setUpClass", ours)  # noqa: B010 - mypy knows it as a method
    try:
        yield
    finally:
        if vars(owner)["setUpClass"] is ours:
            setattr(owner, "setUpClass", original)  # noqa: B010 - the same

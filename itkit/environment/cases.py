"""Django's own test cases, which have no event that itkit could listen to."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from django.apps import apps
from django.core.management import get_commands
from django.core.management.color import no_style
from django.core.signals import setting_changed
from django.db import connections
from django.test import TestCase, TransactionTestCase

from itkit.core.wrapping import wrapped


@contextmanager
def followed(
    begins: Callable[[Iterable[str]], None],
    ends: Callable[[Iterable[str]], None],
    closes: Callable[[], None],
) -> Iterator[None]:
    """Call functions, within a block, when a class of tests that commit begins, and after each.

    pytest-django makes such a class for each test function that commits. Django has no hook for it.
    Checked with Django 5.2, 6.0 and 6.1.

    Args:
        begins: gets the aliases of the databases that the tests use.
        ends: gets the same when Django has set the class up, with the fixtures of its first test.
        closes: is called after each of its tests, before Django closes all connections.
    """

    def closing(should_reload: Callable[[Any], bool]) -> Callable[[Any], bool]:
        def _should_reload_connections(case: Any) -> bool:
            found = should_reload(case)
            if found:
                closes()
            return found

        return _should_reload_connections

    def hearing(set_up: Callable[[Any], None]) -> Callable[[Any], None]:
        def begin_and_set_up(cls: Any) -> None:
            if issubclass(cls, TestCase):
                set_up(cls)
                return
            aliases = cls._validate_databases()
            begins(aliases)  # before Django loads the fixtures of the first test
            set_up(cls)
            ends(aliases)

        return begin_and_set_up

    with (
        wrapped(TransactionTestCase, "setUpClass", hearing),
        wrapped(TransactionTestCase, "_reset_sequences", _behind_rows),
        wrapped(TransactionTestCase, "_should_reload_connections", closing),
    ):
        yield


def _behind_rows(reset: Callable[..., None]) -> Callable[..., None]:
    """Let ``reset_sequences`` begin after the keys of the rows that a flush would have removed."""

    def reset_behind_rows(alias: str) -> None:
        reset(alias)
        connection = connections[alias]
        tables = set(connection.introspection.table_names())
        models = [found for found in apps.get_models() if found._meta.db_table in tables]
        statements = connection.ops.sequence_reset_sql(no_style(), models)
        if statements:
            with connection.cursor() as cursor:
                cursor.execute("".join(statements))

    return reset_behind_rows


@contextmanager
def flush_kept() -> Iterator[None]:
    """Keep our ``flush`` for test cases whose ``available_apps`` leave itkit out, in a block."""
    import_module("django.test.signals")  # its receivers have to be connected before ours
    if get_commands().get("flush") != "itkit":
        yield
        return
    setting_changed.connect(_put_flush_back)
    try:
        yield
    finally:
        setting_changed.disconnect(_put_flush_back)


def _put_flush_back(*, setting: str, **_: object) -> None:
    """Put our ``flush`` back among Django's commands after a change of INSTALLED_APPS.

    Django has just forgotten all commands, in a receiver that was connected before this one, and
    finds those of installed apps only. Checked with Django 5.2, 6.0 and 6.1.
    """
    if setting == "INSTALLED_APPS":
        get_commands()["flush"] = "itkit"

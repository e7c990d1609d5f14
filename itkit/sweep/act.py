"""What the acts of all sweeps have in common: no open transaction, and threads of their own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from django.db import connections

from itkit import environment
from itkit.exceptions import FaultError

_IN_TRANSACTION: Final = (
    "A fault cannot be injected within a transaction that the test has opened, here on the"
    " connection {!r}: a crash, or a lost connection, would end it. Use a test that commits, an"
    " itkit.test.IntegrationTestCase or a pytest function with the marker integration, and no"
    " atomic() around the block."
)


def variation() -> object:
    """Return the object that the test holds in the running variation; None where none runs."""
    found = environment.current()
    return found.variation if found is not None else None


def check_transactions() -> None:
    """Make sure that the test has no transaction open.

    Raises:
        FaultError: it has one.
    """
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            raise FaultError(_IN_TRANSACTION.format(connection.alias))


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function that reads the databases; in a thread where a coroutine asks for it."""
    return in_thread(function, *args) if is_in_loop() else function(*args)


def in_thread(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function in a thread, whose connections to the databases are closed afterwards."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_closing, function, args, kwargs).result()


def is_in_loop() -> bool:
    """Return whether a coroutine asks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _closing(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    finally:
        connections.close_all()

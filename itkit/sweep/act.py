"""What the acts of all sweeps have in common: no open transaction, and threads of their own."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from django.db import connections

from itkit import environment
from itkit.backends.registry import calls_of
from itkit.exceptions import FaultError
from itkit.observation.allowed import unknown_name

_IN_TRANSACTION: Final = (
    "{} within a transaction that the test has opened, here on the connection {!r}: {}. Use a test"
    " that commits, an itkit.test.IntegrationTestCase or a pytest function with the marker"
    " integration, and no atomic() around the block."
)
_UNSEEN: Final = "nothing that is done in it would be committed"


def variation() -> object:
    """Return the object that the test holds in the running variation; None where none runs."""
    found = environment.current()
    return found.variation if found is not None else None


def check_transactions(refused: str, *, because: str = _UNSEEN) -> None:
    """Make sure that the test has no transaction open.

    Args:
        refused: the beginning of the message, which says what cannot be done.
        because: the reason.

    Raises:
        FaultError: it has one.
    """
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            raise FaultError(_IN_TRANSACTION.format(refused, connection.alias, because))


def check_names(argument: str, patterns: Iterable[str]) -> None:
    """Make sure that what a test allows has names that something has.

    Raises:
        FaultError: a name, or a pattern, is that of a model or a call, and there is none.
    """
    found = environment.current()
    calls = calls_of(found.backends) if found is not None else {}
    wrong = unknown_name(argument, patterns, calls)
    if wrong:
        raise FaultError(wrong)


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

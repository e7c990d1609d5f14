"""Records the open transactions and where they were opened, and finds those that a test leaves.

Django has no signal for the beginning or the end of a transaction, so ``Atomic`` and
``set_autocommit`` are wrapped during a run. ``sql`` reports a BEGIN that is sent as a statement.
The blocks that a ``TestCase`` puts around its tests do not count.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from itkit.core import sqltext
from itkit.core.sqltext import TransactionStep
from itkit.core.wrapping import wrapped
from itkit.exceptions import OpenTransactionError
from itkit.timeline import callsite, core
from itkit.timeline.callsite import CallSite

_USUAL: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")  # which end no transaction
_IN_TRANSACTION: Final = (2, 3)
"""The states of libpq for a session in a transaction, or in a failed one."""
_BLOCKS: Final = "_itkit_blocks"
_LEFT_OPEN: Final = (
    "The test has left a transaction open on its connection {!r}, which itkit has rolled back.\n"
    "{}\n"
    "  End it in the test: with transaction.atomic(): ..., or commit() or rollback(), and"
    " set_autocommit(True) after set_autocommit(False)."
)


class Block:
    """One open transaction or savepoint of a connection.

    Args:
        connection: Django's connection.
        what: the code that has opened it, such as ``atomic()``.
        frame: the frame of the caller.

    Attributes:
        alias: the alias of the database.
        is_open: whether it has not ended.
        is_rolled_back: whether it has ended by a rollback.
    """

    __slots__ = ("_line", "_namespace", "alias", "is_open", "is_rolled_back", "what")

    def __init__(self, connection: BaseDatabaseWrapper, what: str, frame: FrameType) -> None:
        opener = callsite.caller(frame)
        self._namespace: dict[str, Any] = opener.f_globals
        self._line = callsite.spot(opener)
        self.alias = connection.alias
        self.what = what
        self.is_open = True
        self.is_rolled_back = False

    @property
    def site(self) -> CallSite:
        """The line of the source that opened it."""
        return callsite.site(self._namespace, self._line)

    def __str__(self) -> str:
        return f"  opened by {self.what} at {self.site}"


@contextmanager
def followed() -> Iterator[None]:
    """Record the transactions that are opened within a block.

    Django has no signal for the begin or the end of a transaction. Checked with Django 5.2, 6.0 and
    6.1.
    """
    from django.test import TestCase  # not imported for commands that only need the environment

    with ExitStack() as releases:
        for owner, name, decorated in (
            (transaction.Atomic, "__enter__", _entering),
            (transaction.Atomic, "__exit__", _leaving),
            (BaseDatabaseWrapper, "set_autocommit", _setting),
            (TestCase, "_rollback_atomics", _ending_test),
        ):
            releases.enter_context(wrapped(owner, name, decorated))
        yield


def blocks_of(connection: BaseDatabaseWrapper) -> list[Block]:
    """Return the open blocks of a connection, the innermost last."""
    blocks: list[Block] | None = vars(connection).get(_BLOCKS)
    if blocks is None:
        blocks = vars(connection)[_BLOCKS] = []
    return blocks


def note_statement(connection: BaseDatabaseWrapper, sql: str) -> None:
    """Note that a statement was sent, which may begin or end a transaction by itself."""
    if connection.in_atomic_block or not connection.autocommit or sql.startswith(_USUAL):
        return
    step = sqltext.transaction_step(sql)
    if step is TransactionStep.BEGIN:
        _open(Block(connection, "BEGIN", sys._getframe(1)), blocks_of(connection))
    elif step is not None and (blocks := blocks_of(connection)):
        _close(blocks.pop(), is_rolled_back=step is TransactionStep.ROLLBACK)


def check_left_open(test: str) -> None:
    """Record a failure for transactions that a test has left open on this thread's connections.

    Args:
        test: the id of the test, which may have ended by now.
    """
    for connection in connections.all(initialized_only=True):
        blocks, vars(connection)[_BLOCKS] = blocks_of(connection), []
        if _is_left_open(connection):
            _keep_failure(connection.alias, blocks, test)
            connection.needs_rollback = False  # in the new connection
        for block in blocks:
            _close(block, is_rolled_back=True)


def forget(connection: BaseDatabaseWrapper) -> None:
    """Forget the open blocks of a connection that was closed."""
    blocks, vars(connection)[_BLOCKS] = blocks_of(connection), []
    for block in blocks:
        _close(block, is_rolled_back=True)


def _is_left_open(connection: Any) -> bool:
    """Return whether a connection is in a transaction, or begins one with its next statement."""
    if connection.connection is None or not connection.settings_dict.get("AUTOCOMMIT", True):
        return False
    info = getattr(connection.connection, "info", None)
    is_in_one = getattr(info, "transaction_status", 0) in _IN_TRANSACTION
    is_in_one = is_in_one or getattr(connection.connection, "in_transaction", False)  # for SQLite
    return bool(connection.in_atomic_block or not connection.autocommit or is_in_one)


def _keep_failure(alias: str, blocks: list[Block], test: str) -> None:
    opened = "\n".join(map(str, blocks)) or "  opened by no code that itkit has seen"
    core.record_failure_of(test, OpenTransactionError(_LEFT_OPEN.format(alias, opened)))


def _open(block: Block, blocks: list[Block]) -> None:
    blocks.append(block)
    core.here.blocks.append(block)


def _close(block: Block, *, is_rolled_back: bool) -> None:
    block.is_rolled_back = is_rolled_back
    block.is_open = False
    with suppress(ValueError):  # if another thread closes the connection
        core.here.blocks.remove(block)


def _entering(enter: Callable[..., Any]) -> Callable[..., Any]:
    def enter_block(atomic: Any) -> Any:
        if atomic._from_testcase:
            return enter(atomic)
        connection = connections[atomic.using or DEFAULT_DB_ALIAS]
        before, frame = len(blocks_of(connection)), sys._getframe(1)
        entered = enter(atomic)
        # Noted only now, as connecting, which may happen before, closes all blocks, and SQLite
        # sends BEGIN.
        blocks = blocks_of(connection)
        while len(blocks) > before:
            _close(blocks.pop(), is_rolled_back=False)
        _open(Block(connection, "atomic()", frame), blocks)
        return entered

    return enter_block


def _leaving(leave: Callable[..., Any]) -> Callable[..., Any]:
    def leave_block(atomic: Any, kind: Any, error: Any, traceback: Any) -> Any:
        if atomic._from_testcase:
            return leave(atomic, kind, error, traceback)
        connection = connections[atomic.using or DEFAULT_DB_ALIAS]
        blocks = blocks_of(connection)
        block = blocks.pop() if blocks else None
        fails = kind is not None or connection.needs_rollback or connection.closed_in_transaction
        if block is not None:  # before the hooks of on_commit, which run within
            _close(block, is_rolled_back=bool(fails))
        try:
            return leave(atomic, kind, error, traceback)
        except DatabaseError:
            if block is not None:
                block.is_rolled_back = True
            raise

    return leave_block


def _setting(set_autocommit: Callable[..., Any]) -> Callable[..., Any]:
    def set_and_note(
        connection: Any,
        autocommit: bool,  # noqa: FBT001 - as Django calls it
        force_begin_transaction_with_broken_autocommit: bool = False,  # noqa: FBT001, FBT002 - same
    ) -> None:
        blocks = blocks_of(connection)
        while autocommit and blocks:  # before the hooks of on_commit, which run within
            _close(blocks.pop(), is_rolled_back=False)
        frame = sys._getframe(1)
        set_autocommit(connection, autocommit, force_begin_transaction_with_broken_autocommit)
        # Noted only now, as connecting sets it too. An atomic() forces it, and is noted there.
        is_own = not force_begin_transaction_with_broken_autocommit
        if not autocommit and is_own and connection.settings_dict.get("AUTOCOMMIT", True):
            _open(Block(connection, "set_autocommit(False)", frame), blocks)

    return set_and_note


def _ending_test(roll_back: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper that reports blocks left within those of a ``TestCase``, and ends them."""

    def _rollback_atomics(cls: Any, atomics: Any) -> Any:
        for alias in cls._databases_names():
            connection: Any = connections[alias]
            if not connection.atomic_blocks or connection.atomic_blocks[-1]._from_testcase:
                continue
            _keep_failure(alias, blocks_of(connection).copy(), core.last_test())
            while connection.atomic_blocks and not connection.atomic_blocks[-1]._from_testcase:
                connection.needs_rollback = True
                connection.atomic_blocks[-1].__exit__(None, None, None)
        return roll_back(cls, atomics)

    return _rollback_atomics

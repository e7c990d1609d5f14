"""SQL on the timeline: each statement of Django's connections, COMMIT, ROLLBACK and on_commit."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from time import perf_counter
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.utils import DEFAULT_DB_ALIAS

from itkit.core import sqltext
from itkit.core.wrapping import wrapped
from itkit.timeline import callsite, core, transactions
from itkit.timeline.core import Crossing

_SAVEPOINTS: Final = ("SAVEPOINT", "RELEASE")
_USUAL: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "SET CONSTRAINTS", *_SAVEPOINTS)
_SETTING: Final = re.compile(
    r"\s*(set\s[^=]*\.|do\b|call\b|load\b)|.*\bset_config\s*\((?!\s*'TimeZone')",
    re.IGNORECASE | re.DOTALL,
)
SETS_NAMES: Final = "_itkit_sets_names"
"""The mark of a connection whose session may have a setting with a name of the project's own."""


rewriters: Final[list[Callable[[BaseDatabaseWrapper, str], str]]] = []
"""Called before each statement that is none of the usual ones; each returns what is sent."""


class Statement(Crossing):
    """One statement that was sent to a database.

    Attributes:
        sql: the text as it was sent, with placeholders.
        params: the values of the placeholders as they were passed.
        alias: the alias of the database.
    """

    __slots__ = ("alias", "params", "sql")

    def __init__(self, frame: callsite.Where, sql: str, params: Any, alias: str) -> None:
        super().__init__(frame)
        self.sql = sql
        self.params = params
        self.alias = alias

    @property
    def kind(self) -> str:
        """``sql``."""
        return "sql"

    @property
    def name(self) -> str:
        """Its first word and its first table, such as ``INSERT shop_order``."""
        return named(self.sql, self.alias)

    @property
    def details(self) -> Mapping[str, Any]:
        """The statement and its parameters."""
        return {"SQL": self.sql, "parameters": self.params}

    @property
    def is_noted(self) -> bool:
        """Whether it is shown: savepoints without a rollback are not."""
        return not self.sql.startswith(_SAVEPOINTS)


class Ending(Crossing):
    """The end of a transaction, or a hook that ran after it.

    Attributes:
        what: ``COMMIT``, ``ROLLBACK`` or ``on_commit`` with the name of the function.
        alias: the alias of the database.
    """

    __slots__ = ("alias", "what")

    def __init__(self, frame: callsite.Where, what: str, alias: str) -> None:
        super().__init__(frame)
        self.what = what
        self.alias = alias

    @property
    def kind(self) -> str:
        """``hook`` for a hook of on_commit, else ``transaction``."""
        return "hook" if self.what.startswith("on_commit") else "transaction"

    @property
    def name(self) -> str:
        """The kind of ending, and the database unless it is the default one."""
        return with_alias(self.what, self.alias)


@contextmanager
def recorded() -> Iterator[None]:
    """Record the statements of Django's connections while a test runs, within a block.

    Methods of classes are replaced, as each thread and each event loop has connection objects of
    its own. ``execute_wrappers`` are not used, as they belong to the project, which may compare or
    clear them. Checked with Django 5.2, 6.0 and 6.1.
    """
    with ExitStack() as releases:
        releases.enter_context(wrapped(CursorWrapper, "_execute_with_wrappers", _recording))
        for method, what in (("_commit", "COMMIT"), ("_rollback", "ROLLBACK")):
            releases.enter_context(wrapped(BaseDatabaseWrapper, method, _ending(what)))
        releases.enter_context(transactions.followed())
        releases.enter_context(wrapped(BaseDatabaseWrapper, "run_and_clear_commit_hooks", _hooking))
        yield


def _recording(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that records a statement, and sends it by ``execute_wrappers``."""

    @wraps(execute)
    def record(
        self: Any,
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - as Django calls it
        executor: Callable[..., Any],
    ) -> Any:
        timeline = core.own_timeline()
        if not timeline.test:
            if type(sql) is str and not sql.startswith(_USUAL):
                sql = _rewritten(self.db, sql)
            return execute(self, sql, params, many, executor)
        # Django makes equal texts again for each query, and a test may send very many.
        text = sys.intern(sql) if type(sql) is str else text_of(sql, self.db)
        statement = Statement(_caller(), text, params, self.db.alias)
        timeline.record(statement)
        if timeline.has_ended and sqltext.read(text).writes:
            statement.error = core.late(
                f"{statement.name} was sent", statement.strand, statement.site
            )
            raise statement.error
        transactions.note_statement(self.db, text)
        if "set_config" in text or "SET_CONFIG" in text or not text.startswith(_USUAL):
            _note_setting(self.db, text)
            if type(sql) is str:
                sql = _rewritten(self.db, sql)
        try:
            return execute(self, sql, params, many, executor)
        except BaseException as error:
            statement.error = error
            raise
        finally:
            statement.duration = perf_counter() - statement.at

    return record


def _rewritten(connection: BaseDatabaseWrapper, statement: str) -> str:
    for rewrite in rewriters:
        statement = rewrite(connection, statement)
    return statement


def _note_setting(connection: Any, text: str) -> None:
    if _SETTING.match(text):
        vars(connection)[SETS_NAMES] = True


def text_of(sql: Any, connection: BaseDatabaseWrapper) -> str:
    """Return the text of a statement, which may be bytes of psycopg2 or a composed object."""
    if isinstance(sql, str):
        return sql
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    compose = getattr(sql, "as_string", None)
    return str(compose(connection.connection) if compose is not None else sql)


def _ending(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorated(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def end(self: BaseDatabaseWrapper) -> Any:
            if self.connection is not None:
                _note(what, self.alias)
            return method(self)

        return end

    return decorated


def _hooking(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that notes each hook when it runs.

    Hooks are not wrapped earlier, so that code that captures hooks (``captureOnCommitCallbacks``)
    gets the registered functions.
    """

    @wraps(method)
    def run_and_clear_commit_hooks(self: Any) -> Any:
        self.run_on_commit = [
            (sids, _noting(hook, self.alias), *rest) for sids, hook, *rest in self.run_on_commit
        ]
        return method(self)

    return run_and_clear_commit_hooks


def _noting(hook: Callable[[], object], alias: str) -> Callable[[], object]:
    @wraps(hook)
    def noted() -> object:
        _note(f"on_commit {_name_of(hook)}", alias)
        return hook()

    return noted


def _name_of(hook: Any) -> str:
    while isinstance(hook, partial):
        hook = hook.func
    return str(getattr(hook, "__qualname__", type(hook).__qualname__))


def _note(what: str, alias: str) -> None:
    timeline = core.own_timeline()
    if timeline.test:
        ending = Ending(_caller(), what, alias)
        ending.duration = 0.0
        timeline.record(ending)


def _caller() -> callsite.Where:
    return callsite.caller(sys._getframe(2))


def named(sql: str, alias: str) -> str:
    """Return the name of a statement: its first word and its first table."""
    return with_alias(_short(sql), alias)


def _short(sql: str) -> str:
    found = sqltext.read(sql)
    if found.verb == "ROLLBACK" and len(sql.split()) > 1:
        return "ROLLBACK TO SAVEPOINT"
    return found.summary


def with_alias(name: str, alias: str) -> str:
    """Return a name with its database, unless it is the default one."""
    return name if alias == DEFAULT_DB_ALIAS else f"{name} ({alias})"

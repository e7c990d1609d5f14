"""What a test has done at the boundaries: outcomes of calls, tables, hooks, tasks, mails, keys."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from django.apps import apps

from itkit.backends.faults import RaisableError, is_timeout, words_of
from itkit.backends.registry import Backend, Registry
from itkit.core import sqltext
from itkit.exceptions import ItkitError
from itkit.fakes import Call
from itkit.fakes.answers import is_lost
from itkit.report import coverage
from itkit.report.coverage import LOST, TIMEOUT, VALUE, Coverage
from itkit.report.handlers import handlers_of
from itkit.report.mailed import Mailed
from itkit.timeline import callsite
from itkit.timeline.core import Crossing, Timeline

_VARYING: Final = re.compile(r"(?=[0-9A-Za-z-]*\d)[0-9A-Za-z-]{16,}|\d+")
_VERSION: Final = re.compile(r"[^:]*:\d+:")  # the prefix that Django's caches add to a key
_WITHOUT_KEYS: Final = frozenset({"EVAL", "EVALSHA", "FCALL", "FUNCTION", "PUBLISH"})
_LOCKING: Final = re.compile(r"\bFOR\s+(NO\s+KEY\s+UPDATE|UPDATE|KEY\s+SHARE|SHARE)\b|^\s*LOCK\b")
_LOST_IN_SWEEP: Final = re.compile(r"FAULT (?P<method>[\w.]+)#\d+:lost_reply")


class Collector:
    """Collects what the tests of one process see.

    Args:
        registry: the registry of the backends.
        directory: the directory of the run, in which each process writes a file of its own.
    """

    def __init__(self, registry: Registry, directory: Path) -> None:
        self._directory = directory
        self._found = Coverage()
        self._names = {backend.name for backend in registry.faked()}
        self._tasks: set[str] = set()
        self._written = -1  # the changes of what was seen that are in the file
        self._mailed = Mailed()
        for backend in registry.faked():
            if backend.is_task_runner:
                self._tasks.add(backend.name)
            for method, errors in _promises(backend):
                for outcome in _declared(errors):
                    self._found.declare(method, outcome)
        for table in _own_tables():
            for what in ("read", "written"):
                self._found.note("tables", f"{table} {what}")

    def followed(self) -> AbstractContextManager[None]:
        """Note within a block what is on no timeline: of which templates mails are made."""
        return self._mailed.followed()

    def write(self, worker: str) -> None:
        """Write what was seen until now, if that has changed.

        Args:
            worker: id of this process as a worker of the run.
        """
        if self._found.changes != self._written:
            self._written = self._found.changes
            coverage.write_part(self._directory, f"{worker}-{os.getpid()}", self._found)

    def add(self, timeline: Timeline) -> None:
        """Add what a test has seen, by its timeline and its mails."""
        test = timeline.test
        for template in self._mailed.take():
            self._found.note("mail_templates", template, test)
        faults = (_LOST_IN_SWEEP.fullmatch(one.name) for one in timeline if one.kind == "fault")
        lost = {fault["method"] for fault in faults if fault is not None}
        for crossing in timeline:
            if isinstance(crossing, Call):
                self._add_call(crossing, test, has_lost=crossing.name in lost)
            elif crossing.kind == "sql":
                self._add_statement(str(crossing.details["SQL"]), test)
            elif crossing.kind == "hook":
                self._found.note("hooks", crossing.name.removeprefix("on_commit "), test)
            elif crossing.kind == "redis":
                self._add_command(crossing, test)

    def _add_call(self, call: Call, test: str, *, has_lost: bool) -> None:
        error = call.error
        backend = call.name.partition(".")[0]
        if call.duration is None or backend not in self._names:
            return
        if backend in self._tasks:
            first = next(iter(call.arguments.values()), "")
            self._found.note("tasks", str(first), test)
        if error is None:
            self._found.see(call.name, VALUE, test)
        elif isinstance(error, Exception) and not isinstance(error, ItkitError):
            handlers = handlers_of(error)
            declared = self._found.outcomes.get(call.name, {})
            self._found.see(call.name, _kind_of(error, declared), test, handlers)
            if has_lost or is_lost(error):
                self._found.see(call.name, LOST, test, handlers)

    def _add_command(self, command: Crossing, test: str) -> None:
        verb, _, key = command.name.partition(" ")
        # While a test observes, what only reads and what a new connection sends are here as well.
        if key and command.is_noted and verb.upper() not in _WITHOUT_KEYS:
            self._found.note("keys", _pattern(key), test)

    def _add_statement(self, sql: str, test: str) -> None:
        found = sqltext.read(sql)
        if found.verb not in ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "LOCK"):
            return
        is_locking = _LOCKING.search(sql) is not None
        for table in found.tables:
            if table.startswith("pg_"):
                continue
            is_written = table == found.target
            self._found.note("tables", f"{table} {'written' if is_written else 'read'}", test)
            if is_locking:
                self._found.note("tables", f"{table} locked", test)


def _promises(backend: Backend) -> Iterator[tuple[str, list[RaisableError]]]:
    """Yield the methods of a backend, each with the errors that it declares.

    These are the errors of the backend that the source of the method mentions, and their
    subclasses; if it mentions none, all errors of the backend.
    """
    for method in backend.fake.methods.values():
        if method.member.name.startswith("_"):
            continue
        words = words_of(method.member.function)
        mentioned = tuple(one.kind for one in backend.raised if one.name in words)
        own = [one for one in backend.raised if issubclass(one.kind, mentioned)]
        yield method.name, own or [*backend.raised]


def _declared(errors: Iterable[RaisableError]) -> list[str]:
    kinds = [error.kind for error in errors]
    named = [kind.__name__ for kind in kinds if not is_timeout(kind)]
    return [VALUE, *named, TIMEOUT, LOST]


def _kind_of(error: Exception, declared: Iterable[str]) -> str:
    """Return the outcome for an error: the nearest of its classes that is declared."""
    if is_timeout(type(error)):
        return TIMEOUT
    names = [kind.__name__ for kind in type(error).__mro__]
    return next((name for name in names if name in declared), names[0])


def _own_tables() -> Iterator[str]:
    """Yield the tables of the models that are written in the project."""
    for model in apps.get_models(include_auto_created=True):
        options: Any = model._meta
        module = sys.modules.get(options.app_config.name) if options.app_config else None
        if options.managed and callsite.is_own_file(getattr(module, "__file__", None)):
            yield options.db_table


def _pattern(key: str) -> str:
    """Return a key with ``*`` instead of its numbers and identifiers."""
    version = _VERSION.match(key)
    start = version.end() if version is not None else 0
    return key[:start] + _VARYING.sub("*", key[start:])

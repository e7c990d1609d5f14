"""Marked values that turn up where they must not be: those of a bystander, and secrets.

Nothing here costs anything while a test has no marks: all hooks are for the time from its first
mark to its last.
"""

import gzip
import logging
import sys
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import reduce
from itertools import islice
from operator import or_
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple

from django.core.mail.backends.locmem import EmailBackend
from django.db import DatabaseError, connections, models
from django.db.models import F, Q
from django.db.models.functions import Cast

from itkit import conf, redis
from itkit.core.wrapping import wrapped
from itkit.data.factories import lookup
from itkit.data.marks import STEM, MarkedValue
from itkit.exceptions import DataError, LeakedMarkError
from itkit.fakes import Call
from itkit.observation.allowed import unknown_name
from itkit.timeline import callsite, core
from itkit.timeline.callsite import CallSite
from itkit.timeline.sql import Statement

_DEPTH: Final = 5
_MOST_PARTS: Final = 10_000
_PLAIN: Final = (str, bytes, int, float, Decimal)
_CLOSED: Final = (type(None), type, ModuleType, FunctionType, MethodType)
_NOT_INTO: Final = frozenset({"_state", "connection"})
"""Attributes of models and mails that refer to many other objects."""
_AROUND: Final = 30
_MAIL: Final = "mail"
_SQL_LOGGER: Final = "django.db.backends"
"""Logs all statements with their parameters, for debugging."""
_TOOLS: Final = ("_pytest", "unittest", "pytest")
"""Packages whose handlers keep the records of a test, and belong to no project."""
_TEXTUAL: Final = (models.CharField, models.TextField, models.JSONField, models.FileField)
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({})))
"""The attributes of each record of logging; all others are of who logs."""
_FOUND: Final = "The {} has turned up in {}{}:\n  {}\n{}"
_OF_BYSTANDER: Final = "  The values of a bystander stay in its own row."
_OF_SECRET: Final = "  Where it may be, allow it: data.secret(allowed=[{!r}])."  # noqa: S105

_carried: ContextVar[str] = ContextVar("itkit_carried", default="")
"""The address of the request that a test client is sending, which may come back in the response."""


class _Sighting(NamedTuple):
    """Where a mark was seen.

    Attributes:
        names: the names by which the test may allow it.
        shown: what a message calls it.
        site: the line that it came from; None where that is not known.
        carried: the texts that the request of a test client has sent, which may come back.
    """

    names: tuple[str, ...]
    shown: str
    site: CallSite | None = None
    carried: str = ""


class _Cell(NamedTuple):
    """A column of a row that contains a mark."""

    model: type[models.Model]
    key: object
    column: str
    text: str

    @property
    def row(self) -> object:
        """The row."""
        return self.model, self.key


class Canaries:
    """Finds where the marks of a test turn up.

    Args:
        contents: returns the names and values of the keys that the test has in Redis.
        calls: returns the names of the calls that each backend can have.
    """

    def __init__(
        self,
        contents: Callable[[], Iterable[tuple[str, str]]],
        calls: Callable[[], Mapping[str, Collection[str]]],
    ) -> None:
        self._contents = contents
        self._calls = calls
        self._marks: list[MarkedValue] = []
        self._hooks = ExitStack()
        self._own: set[tuple[str, object]] = set()
        self._told: set[tuple[str, object]] = set()
        self._timeline = core.current()

    def add(self, marks: Sequence[MarkedValue]) -> None:
        """Look for marks from now on.

        Marks may stay where they are at this moment: in their own row, and in the rows and keys
        that were made together with it.

        Raises:
            DataError: a mark is allowed under a name that nothing has.
        """
        for mark in marks:
            allowed = mark.allowed or ()
            if wrong := unknown_name("allowed", allowed, self._calls(), has_columns=True):
                raise DataError(wrong)
        if not self._marks:
            self._listen()
        self._marks += marks
        own = [mark.text for mark in marks if mark.allowed is None]
        if own:
            texts = [(cell.text, cell.row) for cell in self._cells()]
            texts += [(key + value, key) for key, value in self._contents()]
            self._own |= {(text, key) for text in own for whole, key in texts if text in whole}

    def forget(self, marks: Collection[MarkedValue]) -> None:
        """Stop looking for these marks."""
        self._marks = [mark for mark in self._marks if mark not in marks]
        if not self._marks:
            self._hooks.close()
            self._own.clear()

    def look(self) -> None:
        """Look for marks in the calls, the columns and the keys of the running test."""
        timeline = core.current()
        if not self._marks or not timeline.test:
            return
        crossings = list(timeline)
        mails = _mail_backends()
        for call in crossings:
            if isinstance(call, Call):
                is_mail = call.name.partition(".")[0] in mails
                names = (_MAIL, call.name) if is_mail else (call.name,)
                sighting = _Sighting(
                    names, "a mail" if is_mail else f"a call of {call.name}", call.site
                )
                self._judge(sighting, _texts((call.args, call.kwargs)), [id(call)])
        for cell in self._cells():
            label = f"{cell.model._meta.label}.{cell.column}"
            site = _site_of(cell, self._marks, crossings)
            sighting = _Sighting((label,), f"the column {label} of the row {cell.key}", site)
            self._judge(sighting, [cell.text], [cell.row])
        for key, value in self._contents():
            self._judge(_Sighting((key,), f"the key {key} in Redis"), [key, value], [key])

    # The hooks. Each runs in the thread of the code that calls the method.

    def _listen(self) -> None:
        """Listen to responses, mails, logs and commands of Redis until all marks are forgotten.

        Neither a test client nor Django's mail in memory has a hook, and a record of logging is
        complete only when it is handed to the handlers. Checked with Django 5.2 and 6.1, and with
        Python 3.11 and 3.13.
        """
        from django.test.client import AsyncClient, Client

        with ExitStack() as hooks:
            hooks.enter_context(wrapped(Client, "request", self._requesting))
            hooks.enter_context(wrapped(AsyncClient, "request", self._requesting_async))
            if not _mail_backends():  # there it is a call
                hooks.enter_context(wrapped(EmailBackend, "send_messages", self._sending))
            hooks.enter_context(wrapped(logging.Logger, "callHandlers", self._logging))
            hooks.enter_context(redis.listening(self._hear))
            self._hooks = hooks.pop_all()

    def _requesting(self, request: Callable[..., Any]) -> Callable[..., Any]:
        def request_and_look(client: Any, **given: Any) -> Any:
            token = _carried.set(_brought(given))
            try:
                response = request(client, **given)
                self._read(response, callsite.caller(sys._getframe(1)))
            finally:
                _carried.reset(token)
            return response

        return request_and_look

    def _requesting_async(self, request: Callable[..., Any]) -> Callable[..., Any]:
        async def request_and_look(client: Any, **given: Any) -> Any:
            token = _carried.set(_brought(given))
            try:
                response = await request(client, **given)
                self._read(response, callsite.caller(sys._getframe(1)))
            finally:
                _carried.reset(token)
            return response

        return request_and_look

    def _read(self, response: Any, caller: callsite.Where) -> None:
        request = getattr(response, "wsgi_request", None) or response.asgi_request
        name = f"{request.method} {request.path}"
        site = callsite.site(caller.f_globals, caller.f_lineno)
        sighting = _Sighting(
            (name,), f"the response to {name}", site, _carried.get() + _body(request)
        )
        self._judge(sighting, [str(response.headers), response.cookies.output()])
        if not response.streaming:
            self._judge(sighting, [_content(response)])
        elif response.is_async:
            response.streaming_content = self._streamed_async(response.streaming_content, sighting)
        else:
            response.streaming_content = self._streamed(response.streaming_content, sighting)

    def _streamed(self, chunks: Iterable[bytes], sighting: _Sighting) -> Iterator[bytes]:
        tail = b""
        for chunk in chunks:
            tail = self._read_chunk(tail, chunk, sighting)
            yield chunk

    async def _streamed_async(
        self, chunks: AsyncIterator[bytes], sighting: _Sighting
    ) -> AsyncIterator[bytes]:
        tail = b""
        async for chunk in chunks:
            tail = self._read_chunk(tail, chunk, sighting)
            yield chunk

    def _read_chunk(self, tail: bytes, chunk: bytes, sighting: _Sighting) -> bytes:
        """Look at a chunk together with the end of the chunk before it; return its own end."""
        read = tail + chunk
        self._judge(sighting, [read.decode(errors="replace")])
        return read[-max((len(mark.text) for mark in self._marks), default=1) :]

    def _sending(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def send_messages(backend: Any, messages: Iterable[Any]) -> Any:
            listed = list(messages)
            caller = callsite.caller(sys._getframe(1))
            sighting = _Sighting(
                (_MAIL,), "a mail", callsite.site(caller.f_globals, caller.f_lineno)
            )
            for message in listed:
                self._judge(sighting, _texts(message), [id(message)])
            return send(backend, listed)

        return send_messages

    def _logging(self, call_handlers: Callable[..., Any]) -> Callable[..., Any]:
        def look_and_call_handlers(logger: logging.Logger, record: logging.LogRecord) -> Any:
            if not record.name.startswith(_SQL_LOGGER):
                marks = [mark for mark in self._marks if not _is_hidden(mark, logger, record)]
                caller = callsite.caller(sys._getframe(1))
                site = callsite.site(caller.f_globals, caller.f_lineno)
                name = f"log {record.name}"
                sighting = _Sighting((name,), f"a record of {name}", site, _carried.get())
                self._judge(sighting, _texts_of(record), among=marks)
            return call_handlers(logger, record)

        return look_and_call_handlers

    def _hear(self, words: Sequence[object]) -> None:
        texts = list(_texts(words))
        if any(mark.text in text for mark in self._marks for text in texts):
            keys = redis.command_keys(words) or []
            name = redis.command_name(words)
            caller = callsite.caller(sys._getframe(1))
            site = callsite.site(caller.f_globals, caller.f_lineno)
            self._judge(_Sighting((*keys, name), f"{name} in Redis", site), texts, keys)

    def _judge(
        self,
        sighting: _Sighting,
        texts: Iterable[str],
        keys: Sequence[object] = (),
        among: Sequence[MarkedValue] | None = None,
    ) -> None:
        """Fail the test for each mark in texts that may not be where they were seen.

        Args:
            sighting: where the texts were seen.
            texts: what is there.
            keys: identify the sighting, which is reported once; by default its names and line.
            among: the marks that are looked for; by default all.
        """
        timeline = core.own_timeline()
        if not timeline.test or timeline.has_ended:
            return
        if timeline is not self._timeline:  # reports about another test do not count here
            self._timeline, self._told = timeline, set()
        lowered = [text.lower() for text in texts]
        known = keys or [(sighting.names, sighting.site)]
        for mark in self._marks if among is None else among:
            text = next((text for text in lowered if mark.text in text), None)
            if text is None or self._is_known(mark, known):
                continue
            if _may_be(mark, sighting):
                continue
            self._told |= {(mark.text, key) for key in known}
            core.record_failure(_found(mark, sighting, text))

    def _is_known(self, mark: MarkedValue, keys: Iterable[object]) -> bool:
        return any((mark.text, key) in self._own | self._told for key in keys)

    def _cells(self) -> list[_Cell]:
        """Return the columns of all tables that contain a mark."""
        with core.between_tests():
            return [
                cell
                for alias in connections
                for model in _readable(alias)
                for cell in _marked(model, alias)
            ]


def _mail_backends() -> set[str]:
    return {name for name, one in conf.get().backends.items() if one.builtin == _MAIL}


def _may_be(mark: MarkedValue, sighting: _Sighting) -> bool:
    if mark.allowed is None:  # what the test itself has sent may come back
        return mark.text in sighting.carried
    return any(fnmatchcase(name, pattern) for name in sighting.names for pattern in mark.allowed)


def _found(mark: MarkedValue, sighting: _Sighting, text: str) -> LeakedMarkError:
    at = text.index(mark.text)
    start, end = max(0, at - _AROUND), at + len(mark.text) + _AROUND
    excerpt = f"{'…' * (start > 0)}{' '.join(text[start:end].split())}{'…' * (end < len(text))}"
    where = f" at {sighting.site}" if sighting.site is not None else ""
    remedy = _OF_BYSTANDER if mark.allowed is None else _OF_SECRET.format(sighting.names[0])
    error = LeakedMarkError(_FOUND.format(mark, sighting.shown, where, excerpt, remedy))
    error.remedy = remedy
    return error


def _site_of(
    cell: _Cell, marks: Iterable[MarkedValue], crossings: Sequence[core.Crossing]
) -> CallSite | None:
    """Return the line of the last statement that wrote a mark of a cell to its table."""
    wanted = [mark.text for mark in marks if mark.text in cell.text]
    table = cell.model._meta.db_table
    for crossing in reversed(crossings):
        if isinstance(crossing, Statement) and table in crossing.sql:
            sent = [text.lower() for text in _texts(crossing.params)]
            if any(mark in text for mark in wanted for text in sent):
                return crossing.site
    return None


def _readable(alias: str) -> list[type[models.Model]]:
    """Return the models with a table in a database; none if the test may not read it now."""
    from django.test.testcases import (  # type: ignore[attr-defined]  # not in the stubs
        DatabaseOperationForbidden,
    )

    connection = connections[alias]
    if connection.needs_rollback:  # its changes will be rolled back
        return []
    with suppress(DatabaseOperationForbidden, DatabaseError), connection.cursor() as cursor:
        existing = set(connection.introspection.table_names(cursor))
        found = lookup.tables(alias, with_links=True)
        return [model for model in found if model._meta.db_table in existing]
    return []


def _marked(model: type[models.Model], alias: str) -> Iterator[_Cell]:
    """Yield the columns of a table that contain a mark."""
    names = [field.name for field in model._meta.local_concrete_fields if _has_text(field)]
    if not names:
        return
    texts = {f"itkit_{name}": Cast(F(name), models.TextField()) for name in names}
    has_mark = reduce(or_, (Q(**{f"{name}__icontains": STEM}) for name in texts))
    rows = lookup.all_rows(model, alias).annotate(**texts).filter(has_mark).order_by()
    for key, *values in rows.values_list("pk", *texts):
        for name, value in zip(names, values, strict=True):
            if value and STEM in value.lower():
                yield _Cell(model, key, name, value.lower())


def _has_text(field: Any) -> bool:
    is_of_postgres = type(field).__module__.startswith("django.contrib.postgres.")
    return isinstance(field, _TEXTUAL) or is_of_postgres


def _brought(request: Mapping[str, Any]) -> str:
    """Return the address of a request in the arguments of a test client."""
    names = ("PATH_INFO", "QUERY_STRING", "path", "query_string")
    return " ".join(_text(request.get(name, "")) for name in names).lower()


def _body(request: Any) -> str:
    """Return the body of a request, and its form."""
    found = ""
    with suppress(Exception):  # the body was read already, or refused because of its size
        found += f"{request.POST.dict()}"
        found += _text(request.body)
    return found.lower()


def _content(response: Any) -> str:
    content: bytes = response.content
    if response.headers.get("Content-Encoding") == "gzip":
        with suppress(OSError, EOFError):
            content = gzip.decompress(content)
    return content.decode(errors="replace")


def _texts_of(record: logging.LogRecord) -> Iterator[str]:
    """Yield the texts of a record of logging: its message, its error, and its extra attributes."""
    with suppress(Exception):  # the arguments do not fit the message, which logging reports
        yield record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        yield str(record.exc_info[1])
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    yield from _texts(extra, into_objects=False)


def _is_hidden(mark: MarkedValue, logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Return whether no handler of the project, by its filters and format, shows a mark."""
    handlers = [
        one for one in _handlers(logger) if type(one).__module__.split(".")[0] not in _TOOLS
    ]
    return bool(handlers) and not any(_shows(mark, handler, record) for handler in handlers)


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    found: logging.Logger | None = logger
    while found is not None:
        yield from found.handlers
        found = found.parent if found.propagate else None


def _shows(mark: MarkedValue, handler: logging.Handler, record: logging.LogRecord) -> bool:
    copied = logging.makeLogRecord(vars(record))
    try:
        kept: Any = handler.filter(copied)
        if not kept:
            return False
        return mark.text in handler.format(copied if kept is True else kept).lower()
    except Exception:  # noqa: BLE001 - a filter or format of the project's
        return True


def _texts(value: Any, *, into_objects: bool = True) -> Iterator[str]:
    """Yield the texts within a value, down to a certain depth and number.

    Args:
        value: the value.
        into_objects: whether to look at the attributes of objects as well.
    """
    found = _parts(value, _DEPTH, set(), into_objects=into_objects)
    return islice(found, _MOST_PARTS)


def _parts(value: Any, depth: int, seen: set[int], *, into_objects: bool) -> Iterator[str]:
    if isinstance(value, _PLAIN):
        yield _text(value)
        return
    if depth == 0 or isinstance(value, _CLOSED) or id(value) in seen:
        return
    seen.add(id(value))
    inner: Iterable[Any] = ()
    if isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = value
    elif into_objects:
        own = getattr(value, "__dict__", {})
        inner = [part for name, part in own.items() if name not in _NOT_INTO]
    for part in inner:
        yield from _parts(part, depth - 1, seen, into_objects=into_objects)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

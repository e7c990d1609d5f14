"""What a page shows of a test that has failed, as plain values."""

import linecache
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

from django.core import mail

from itkit.core.text import repr_of
from itkit.report.redaction import Redactor
from itkit.timeline import callsite
from itkit.timeline.callsite import CallSite
from itkit.timeline.core import Crossing, Timeline

_MOST_EVENTS: Final = 1_500
_MOST_CHARACTERS: Final = 700_000  # of all events together; each is in the page about once
_MOST_MAILS: Final = 50
_MOST_TABLES: Final = 40
_LONGEST_VALUE: Final = 300  # characters of a column, or of a value of Redis
_MOST_FRAMES: Final = 40
_LINES_AROUND: Final = 4
_REPEATED: Final = 3  # times, from which on a statement is listed as repeated
_LONGEST: Final = 20_000  # characters of a statement, a mail or an error


@dataclass(frozen=True, kw_only=True)
class Event:
    """One crossing.

    Attributes:
        number: the number of the crossing, from 1, in the order in which crossings began.
        kind: ``sql``, ``transaction``, ``hook``, ``redis`` or ``backend``.
        title: one line.
        details: what else is known: pairs of a name and a text.
        site: the line of source; empty where that was not recorded.
        lane: the name of the thread.
        start: milliseconds since the first crossing.
        duration: milliseconds; None where that was not recorded.
        error: the error that it ended with; empty where it ended without one.
    """

    number: int
    kind: str
    title: str
    details: Sequence[tuple[str, str]]
    site: str
    lane: str
    start: float
    duration: float | None
    error: str

    @property
    def length(self) -> int:
        """The number of characters that are shown."""
        return len(self.title) + len(self.error) + sum(len(text) for _, text in self.details)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame of the traceback.

    Attributes:
        where: file, line and function.
        line: the number of the line, from 1.
        source: lines around it: pairs of a number and a text.
        is_own: whether it is in the user's own code, which is neither itkit's nor installed.
        is_open: whether the page shows its source at once.
    """

    where: str
    line: int
    source: Sequence[tuple[int, str]]
    is_own: bool
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Statements that one line of source has sent several times.

    Attributes:
        times: how often.
        sql: the statement, with placeholders.
        site: the line.
    """

    times: int
    sql: str
    site: str


@dataclass(frozen=True, kw_only=True)
class SentMail:
    """A mail as a reader sees it."""

    subject: str
    sender: str
    to: str
    body: str


@dataclass(frozen=True, kw_only=True)
class ChangedTable:
    """Rows of a table that the test has added, changed or removed.

    Attributes:
        table: its name.
        rows: for each what has become of it, and its columns: pairs of a name and a text.
        has_more: whether there are more.
    """

    table: str
    rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    has_more: bool


@dataclass(frozen=True, kw_only=True)
class State:
    """What the servers have at a moment, as sessions see it that are none of the test's.

    Attributes:
        tables: for each its name, its rows before and now, None where there is none, and whether
            there are more.
        keys: of Redis: pairs of a line about one, and its value.
        is_rolled_back: whether a transaction of the test is open, whose rows nobody else sees.
    """

    tables: Sequence[
        tuple[str, Sequence[tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]], bool]
    ] = ()
    keys: Sequence[tuple[str, object]] = ()
    is_rolled_back: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The variations of a swept test, and what has become of each.

    Attributes:
        what: one line that says how many were tried, and how many have failed.
        heads: the heads of the columns.
        rows: for each what was varied, its line of source, and for each column ``passed``,
            ``failed``, ``not tried``, or nothing where there is no such variation.
        omitted: how many rows there are beside these.
        left_out: the variations that were not tried at all.
    """

    what: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[str]]]
    omitted: int = 0
    left_out: str = ""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """All that a page shows.

    Attributes:
        test: id of the test.
        worker: id of the worker that ran it.
        error: the type and the text of the error; empty where the test has passed.
        repeat: the command that repeats the test.
        frames: the frames of the traceback, the outermost first.
        events: the crossings, in the order in which they began.
        omitted: how many crossings came before those.
        repeated: statements that came several times from one line, most often first.
        mails: the mails that were sent.
        tables: the rows that were added, changed or removed.
        keys: of Redis: pairs of a line about one, and its value.
        is_rolled_back: whether a transaction was open, whose rows are not among these.
        sections: further texts, such as captured output: pairs of a heading and a text.
        columns: for a race the names of its acts, and then for each of its crossings, in their
            order, a cell for each act; at the end how each act has ended.
        grid: for a swept test, its variations; None where they were not all run.
        seconds: the time from the first crossing to the end of the last.
    """

    test: str
    worker: str
    error: str
    repeat: str
    frames: Sequence[Frame]
    events: Sequence[Event]
    omitted: int
    repeated: Sequence[Repeated]
    mails: Sequence[SentMail]
    tables: Sequence[ChangedTable] = ()
    keys: Sequence[tuple[str, str]] = ()
    is_rolled_back: bool = False
    sections: Sequence[tuple[str, str]] = field(default=())
    columns: Sequence[Sequence[str]] = ()
    grid: Grid | None = None
    seconds: float

    @property
    def length(self) -> int:
        """The number of crossings of the test, of which a page shows the last."""
        return len(self.events) + self.omitted


def trace_of(
    timeline: Timeline,
    error: BaseException | None,
    redact: Redactor,
    *,
    test: str,
    worker: str,
    repeat: str,
    sections: Sequence[tuple[str, str]] = (),
    state: State | None = None,
    columns: Sequence[Sequence[str]] = (),
) -> Trace:
    """Return what is shown of a test.

    Args:
        timeline: the timeline of the test.
        error: the error with which the test has failed; None where it has passed.
        redact: hides what is secret.
        test: its id.
        worker: id of the worker that ran it.
        repeat: the command that repeats it.
        sections: further texts: pairs of a heading and a text.
        state: the rows and keys at the failure; None where nobody has read them.
        columns: for a race, its crossings in columns, one for each act.
    """
    found = state or State()
    crossings = [crossing for crossing in timeline if crossing.is_noted]
    first = crossings[0].at if crossings else 0.0
    ends = [crossing.at + (crossing.duration or 0.0) for crossing in crossings]
    events = _newest(crossings, first, redact)
    return Trace(
        test=test,
        worker=worker,
        error=redact.text(_shown(error)[:_LONGEST]) if error is not None else "",
        repeat=repeat,
        frames=list(_frames(error.__traceback__, redact)) if error is not None else [],
        events=events,
        omitted=len(crossings) - len(events),
        repeated=_repeated(crossings, redact),
        mails=list(_mails(redact)),
        tables=[_table_rows(*table, redact) for table in found.tables[:_MOST_TABLES]],
        keys=[
            (redact.text(about), redact.value(about, value)[:_LONGEST_VALUE])
            for about, value in found.keys
        ],
        is_rolled_back=found.is_rolled_back,
        sections=[(heading, redact.text(text[-_LONGEST:])) for heading, text in sections if text],
        columns=[[redact.text(cell) for cell in cells] for cells in columns],
        seconds=max(ends, default=first) - first,
    )


def _shown(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def _table_rows(
    table: str,
    rows: Sequence[tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]],
    has_more: bool,  # noqa: FBT001 - as the state has it
    redact: Redactor,
) -> ChangedTable:
    return ChangedTable(
        table=table, rows=[_row(before, now, redact) for before, now in rows], has_more=has_more
    )


def _row(
    before: Mapping[str, Any] | None, now: Mapping[str, Any] | None, redact: Redactor
) -> tuple[str, Sequence[tuple[str, str]]]:
    def shown(name: str, value: object) -> str:
        return redact.value(name, value)[:_LONGEST_VALUE]

    if before is None or now is None:
        row = before or now or {}
        what = "added" if before is None else "removed"
        return what, [(name, shown(name, value)) for name, value in row.items()]
    return "changed", [
        (name, shown(name, value))
        if before.get(name) == value
        else (name, f"{shown(name, before.get(name))} → {shown(name, value)}")
        for name, value in now.items()
    ]


def _newest(crossings: Sequence[Crossing], first: float, redact: Redactor) -> list[Event]:
    """Return the newest crossings, as many as a page has room for."""
    events: list[Event] = []
    room = _MOST_CHARACTERS
    for number in range(len(crossings), max(0, len(crossings) - _MOST_EVENTS), -1):
        event = _event(crossings[number - 1], number, first, redact)
        room -= event.length
        if room < 0:
            break
        events.append(event)
    return events[::-1]


def _event(crossing: Crossing, number: int, first: float, redact: Redactor) -> Event:
    duration = crossing.duration
    return Event(
        number=number,
        kind=crossing.kind,
        title=redact.text(crossing.name[:_LONGEST]),
        details=[(name, text[:_LONGEST]) for name, text in _details(crossing, redact)],
        site=str(crossing.site or ""),
        lane=crossing.thread,
        start=(crossing.at - first) * 1000,
        duration=None if duration is None else duration * 1000,
        error=redact.text(repr_of(crossing.error)[:_LONGEST]) if crossing.error is not None else "",
    )


def _details(crossing: Crossing, redact: Redactor) -> Iterator[tuple[str, str]]:
    for name, value in crossing.details.items():
        if name == "SQL":
            yield name, redact.text(str(value))
        elif name == "parameters":
            shown = redact.parameters(str(crossing.details["SQL"]), value)
            if shown:
                yield name, "\n".join(shown)
        else:
            yield name, redact.value(name, value)


def _repeated(crossings: Sequence[Crossing], redact: Redactor) -> list[Repeated]:
    counts = Counter(
        (str(crossing.details["SQL"]), crossing.site)
        for crossing in crossings
        if crossing.kind == "sql"
    )
    return [
        Repeated(times=times, sql=redact.text(sql[:_LONGEST]), site=str(site or ""))
        for (sql, site), times in counts.most_common(20)
        if times >= _REPEATED
    ]


def _frames(trace: TracebackType | None, redact: Redactor) -> Iterator[Frame]:
    # extract_tb() would ask the file system of each file whether it has changed.
    calls = [
        (CallSite(frame.f_code.co_filename, line or 1, frame.f_code.co_name), frame.f_globals)
        for frame, line in traceback.walk_tb(trace)
    ][-_MOST_FRAMES:]
    own = [site for site, _ in calls if callsite.is_own_file(site.path)]
    last = own[-1] if own else calls[-1][0] if calls else None
    for site, namespace in calls:
        lines = linecache.getlines(site.path, namespace)
        first, end = site.line - _LINES_AROUND, site.line + _LINES_AROUND + 1
        around = range(max(1, first), min(len(lines) + 1, end))
        yield Frame(
            where=str(site),
            line=site.line,
            source=[(at, redact.text(lines[at - 1].rstrip("\n"))) for at in around],
            is_own=site in own,
            is_open=site is last,
        )


def _mails(redact: Redactor) -> Iterator[SentMail]:
    for message in getattr(mail, "outbox", [])[:_MOST_MAILS]:
        yield SentMail(
            subject=redact.text(str(message.subject)),
            sender=str(message.from_email),
            to=", ".join(map(str, message.recipients())),
            body=redact.text(str(message.body)[:_LONGEST]),
        )

"""The HTML of a report: pages that load nothing, and work without a script as well."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from django.template import Context, Engine
from django.utils.safestring import SafeString, mark_safe

from itkit.report.trace import Event, Frame, Repeated, Trace

_TEMPLATES: Final = Path(__file__).parent / "templates"
_NARROWEST: Final = 0.15  # per cent of a lane: what takes no time is to be seen as well
_LONGEST_TITLE: Final = 200  # characters
_LONGEST_REPEATED: Final = 400  # characters of a statement in the list of repeated ones

# What a page has many of is not in a template, which would take five to ten times as long. Each
# value that is put in here is a number or is escaped.
_BAR: Final = (
    '<a href="#c{number}" class="{kind}{failed}" style="left:{left:.3f}%;width:{width:.3f}%"'
    ' title="#{number} {title}" aria-hidden="true" tabindex="-1"></a>'
)
_EVENT: Final = """\
<details class="event {kind}" id="c{number}" data-kind="{kind}">
<summary><span class="number">#{number}</span><span class="kind">{kind}</span>\
<span class="title mono">{title}{failed}</span><span class="time">{start:.1f} ms</span></summary>
<div class="inside">
{error}{details}<p class="soft">{site}thread {lane}{took}</p>
</div>
</details>
"""
_FRAME: Final = """\
<details class="frame"{is_open}>
<summary class="mono">{where}</summary>
<pre tabindex="0">{source}</pre>
</details>
"""
_SOURCE: Final = '<span class="source{here}">{number}  {text}</span>'
_REPEATED: Final = """\
<tr><td>{times}</td><td class="mono">{sql}</td><td class="mono">{site}</td></tr>
"""
_ROW: Final = '<tr><td>{what}</td><td class="mono">{columns}</td></tr>\n'
_COLUMN: Final = '<span class="soft">{name}</span> {value}'
_KEY: Final = '<tr><td class="mono">{about}</td><td class="mono">{value}</td></tr>\n'
_ENTRY: Final = """\
<tr>
<td><a href="{file}">{test}</a></td>
<td class="mono">{error}</td>
<td>{crossings}</td>
<td>{seconds}</td>
<td>{worker}</td>
</tr>
"""


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """The line of the index about one page.

    Attributes:
        file: the name of the page's file.
        test: id of the test.
        worker: id of the worker that ran it.
        error: the first line of the error; empty where the test has passed.
        crossings: the number of its crossings.
        seconds: how long they took.
    """

    file: str
    test: str
    worker: str
    error: str
    crossings: int
    seconds: float


def trace_page(trace: Trace) -> str:
    """Return the page of a test that has failed."""
    return _rendered(
        "trace.html",
        {
            "trace": trace,
            "heading": _breakable(trace.test),
            "command": _joined(
                f'<span class="word">{escape(word)}</span> ' for word in trace.repeat.split(" ")
            ),
            "lanes": _lanes(trace.events),
            "events": _joined(map(_event, trace.events)),
            "frames": [
                {"are_own": are_own, "count": len(group), "html": _joined(map(_frame, group))}
                for are_own, group in _grouped(trace.frames)
            ],
            "repeated": _joined(map(_repeated, trace.repeated)),
            "tables": [
                {
                    "name": table.table,
                    "rows": _joined(_row(what, columns) for what, columns in table.rows),
                    "has_more": table.has_more,
                }
                for table in trace.tables
            ],
            "keys": _joined(
                _KEY.format(about=escape(about), value=escape(value)) for about, value in trace.keys
            ),
        },
    )


def index_page(entries: Sequence[IndexEntry]) -> str:
    """Return the page that lists the others."""
    failed = [entry for entry in entries if entry.error]
    passed = [entry for entry in entries if not entry.error]
    rows = _joined(map(_entry, [*failed, *passed]))
    return _rendered(
        "index.html", {"rows": rows, "failed": len(failed), "has_passed": bool(passed)}
    )


def coverage_page(values: dict[str, Any]) -> str:
    """Return the page of the boundary coverage.

    Args:
        values: the values that its template shows.
    """
    return _rendered("coverage.html", values)


def _rendered(template: str, values: dict[str, Any]) -> str:
    return str(_engine().get_template(template).render(Context(values)))


@cache
def _engine() -> Engine:
    # Not the project's: it may have none, or one that marks what is invalid.
    return Engine(dirs=[str(_TEMPLATES)], autoescape=True)


def _lanes(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Return, for each thread, its name and its events as bars on the axis of time."""
    if not events:
        return []
    first = min(event.start for event in events)
    last = max(event.start + (event.duration or 0.0) for event in events)
    span = max(last - first, 0.001)
    lanes: dict[str, list[str]] = {}
    for event in events:
        left = (event.start - first) / span * 100
        width = max((event.duration or 0.0) / span * 100, _NARROWEST)
        bar = _BAR.format(
            number=event.number,
            kind=escape(event.kind),
            failed=" failed" if event.error else "",
            left=left,
            width=width,
            title=escape(event.title[:80]),
        )
        lanes.setdefault(event.lane, []).append(bar)
    return [{"name": name, "bars": _joined(bars)} for name, bars in lanes.items()]


def _event(event: Event) -> str:
    title = event.title
    if len(title) > _LONGEST_TITLE:
        title = f"{title[: _LONGEST_TITLE - 1]}…"
    details = "".join(
        f'<div class="soft">{escape(name)}</div><pre>{escape(text)}</pre>\n'
        for name, text in event.details
    )
    return _EVENT.format(
        number=event.number,
        kind=escape(event.kind),
        title=escape(title),
        failed=' <b class="bad">failed</b>' if event.error else "",
        start=event.start,
        error=f'<pre class="bad">{escape(event.error)}</pre>\n' if event.error else "",
        details=details,
        site=f'<span class="mono">{escape(event.site)}</span> · ' if event.site else "",
        lane=escape(event.lane),
        took="" if event.duration is None else f" · took {event.duration:.2f} ms",
    )


def _grouped(frames: Sequence[Frame]) -> Iterator[tuple[bool, Sequence[Frame]]]:
    """Yield the frames that follow each other, and whether they are the project's own."""
    for are_own, group in groupby(frames, key=attrgetter("is_own")):
        yield are_own, list(group)


def _frame(frame: Frame) -> str:
    lines = [
        _SOURCE.format(
            here=" here" if number == frame.line else "", number=number, text=escape(text)
        )
        for number, text in frame.source
    ]
    return _FRAME.format(
        is_open=" open" if frame.is_open else "", where=escape(frame.where), source="".join(lines)
    )


def _repeated(repeated: Repeated) -> str:
    sql = repeated.sql
    if len(sql) > _LONGEST_REPEATED:
        sql = f"{sql[: _LONGEST_REPEATED - 1]}…"
    return _REPEATED.format(times=repeated.times, sql=escape(sql), site=escape(repeated.site))


def _row(what: str, columns: Sequence[tuple[str, str]]) -> str:
    shown = [_COLUMN.format(name=escape(name), value=escape(value)) for name, value in columns]
    return _ROW.format(what=escape(what), columns=", ".join(shown))


@cache  # each failure writes the index anew, with the entries of all failures before it
def _entry(entry: IndexEntry) -> str:
    return _ENTRY.format(
        file=escape(quote(entry.file)),
        test=_breakable(entry.test),
        error=escape(entry.error) if entry.error else '<span class="soft">passed</span>',
        crossings=entry.crossings,
        seconds=entry.seconds,
        worker=escape(entry.worker),
    )


def _breakable(name: str) -> SafeString:
    """Return the HTML of a dotted name, which a browser may break between its words only."""
    return mark_safe(re.sub(r"([._])(?=[^\W_])", r"\1<wbr>", escape(name)))  # noqa: S308 - it is escaped


def _joined(parts: Iterable[str]) -> SafeString:
    """Return HTML of parts, in each of which all values are escaped."""
    return mark_safe("".join(parts))  # noqa: S308 - the callers escape all values

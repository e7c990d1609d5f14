"""The HTML of a report: pages that load nothing, and work without a script as well."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.template import Context, Engine
from django.utils.html import format_html
from django.utils.safestring import mark_safe

from itkit.report.trace import Event, Trace

_TEMPLATES: Final = Path(__file__).parent / "templates"
_NARROWEST: Final = 0.15  # per cent of a lane: what takes no time is to be seen as well
# Not in the template, which would take five times as long: a page has many of them.
_BAR: Final = (
    '<a href="#c{number}" class="{kind}{failed}" style="left:{left}%;width:{width}%"'
    ' title="#{number} {title}" aria-hidden="true" tabindex="-1"></a>'
)


def trace_page(trace: Trace) -> str:
    """Return the page of a test that has failed."""
    return _rendered("trace.html", {"trace": trace, "lanes": _lanes(trace.events)})


def index_page(entries: Sequence[dict[str, Any]]) -> str:
    """Return the page that lists the others.

    Args:
        entries: for each page its ``file``, ``test``, ``worker``, ``error``, and the numbers of its
            ``crossings`` and ``seconds``.
    """
    failed = [entry for entry in entries if entry["error"]]
    passed = [entry for entry in entries if not entry["error"]]
    return _rendered("index.html", {"entries": [*failed, *passed], "failed": len(failed)})


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
        bar = format_html(
            _BAR,
            number=event.number,
            kind=event.kind,
            failed=" failed" if event.error else "",
            left=f"{left:.3f}",
            width=f"{width:.3f}",
            title=event.title[:80],
        )
        lanes.setdefault(event.lane, []).append(bar)
    return [{"name": name, "bars": mark_safe("".join(bars))} for name, bars in lanes.items()]  # noqa: S308 - each bar is escaped

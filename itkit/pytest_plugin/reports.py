"""What the reports of pytest say of a failure, for a sweep's findings and for GitHub."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def summary_of(report: pytest.TestReport) -> tuple[str, str]:
    """Return one line with the error and the project's last line, and the whole text."""
    text = report.longreprtext
    sections = [content for title, content in report.sections if title == "itkit"]
    line = line_of(report)
    if line is None:
        summary = (text.strip().splitlines() or [""])[0]
    else:
        message = report.longrepr.reprcrash.message  # type: ignore[union-attr]  # it has one
        summary = f"{message.splitlines()[0]} at {os.path.relpath(line.path)}:{line.lineno}"
    return summary, "\n".join([text, *sections])


def line_of(report: pytest.TestReport | pytest.CollectReport) -> Any:
    """Return the project's last line in a traceback, with ``path`` and ``lineno``, if it has one.

    Where no line is the project's, it is that of the error.
    """
    from itkit.timeline import callsite

    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return None
    trace: Any = getattr(report.longrepr, "reprtraceback", None)
    lines = [found for entry in trace.reprentries if (found := entry.reprfileloc) is not None]
    own = [line for line in lines if callsite.is_own_file(os.path.abspath(line.path))]  # noqa: PTH100 - no Path
    return own[-1] if own else crash


def github_annotations(config: pytest.Config, terminalreporter: Any) -> Iterator[str]:
    """Yield each failure as GitHub shows it, at the last line of the project's, or at its test."""
    from itkit.report import annotation, redactor
    from itkit.timeline import callsite

    redact = redactor()
    stats = terminalreporter.stats
    for report in [*stats.get("failed", ()), *stats.get("error", ())]:
        line = line_of(report)
        message = report.longreprtext if line is None else report.longrepr.reprcrash.message
        sections = [content for title, content in report.sections if title == "itkit"]
        path, number = _test_of(config, report)
        if line is not None and callsite.is_own_file(os.path.abspath(line.path)):  # noqa: PTH100 - as above
            path, number = os.path.relpath(line.path), line.lineno
        yield annotation(report.nodeid, redact.text("\n".join([message, *sections])), path, number)


def _test_of(config: pytest.Config, report: Any) -> tuple[str, int]:
    """Return the path and the line of the test that a report is about; no path if it has none."""
    path, line, _ = getattr(report, "location", None) or ("", None, "")
    file = config.rootpath / path
    return (str(file), (line or 0) + 1) if file.is_file() else ("", 0)


def with_failure(
    reports: list[pytest.TestReport], text: str, seconds: float = 0.0
) -> list[pytest.TestReport]:
    """Return the reports of a test, in which it has failed if there is a text.

    The time of the variations is a part of that of the call, which ``--durations`` shows.
    """
    if len(reports) > 1:
        reports[1].duration += seconds
    if text and len(reports) > 1:
        reports[1].outcome = "failed"
        reports[1].longrepr = text
    return reports

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
    line = _line_of(report)
    summary = (_message_of(report).strip().splitlines() or [""])[0]
    if line is not None:
        summary += f" at {os.path.relpath(line.path)}:{line.lineno}"
    return summary, "\n".join([text, *sections])


def _message_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the message of a failure; without the ``Failed`` of ``pytest.fail()``, as printed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return report.longreprtext if crash is None else str(crash.message).removeprefix("Failed: ")


def _line_of(report: pytest.TestReport | pytest.CollectReport) -> Any:
    """Return the project's last line in a traceback, with ``path`` and ``lineno``, or None."""
    from itkit.timeline import callsite

    if getattr(report.longrepr, "reprcrash", None) is None:
        return None
    trace: Any = getattr(report.longrepr, "reprtraceback", None)
    lines = [found for entry in trace.reprentries if (found := entry.reprfileloc) is not None]
    own = [line for line in lines if callsite.is_own_file(os.path.abspath(line.path))]  # noqa: PTH100 - no Path
    return own[-1] if own else None


def github_annotations(config: pytest.Config, terminalreporter: Any) -> Iterator[str]:
    """Yield each failure as GitHub shows it, at the last line of the project's, or at its test."""
    from itkit.report import annotation, redactor

    redact = redactor()
    stats = terminalreporter.stats
    for report in [*stats.get("failed", ()), *stats.get("error", ())]:
        line = _line_of(report)
        sections = [content for title, content in report.sections if title == "itkit"]
        path, number = _test_of(config, report)
        if line is not None:
            path, number = os.path.relpath(line.path), line.lineno
        message = "\n".join([_message_of(report), *sections])
        yield annotation(report.nodeid, redact.text(message), path, number)


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

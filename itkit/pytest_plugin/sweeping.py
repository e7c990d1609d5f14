"""Tests that are run once for each of their variations, and reported once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from _pytest import runner

from itkit.pytest_plugin.reports import summary_of, with_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from itkit.sweep.choosing import AnyChoice
    from itkit.sweep.variations import Sweep


class Sweeping:
    """The variations of one test of pytest.

    Args:
        item: the test.
        nextitem: the test after it; what the two do not share is torn down between them.
        sweep: the variations of the test.
    """

    def __init__(self, item: pytest.Item, nextitem: pytest.Item | None, sweep: Sweep) -> None:
        self._item = item
        self._nextitem = nextitem
        self._sweep = sweep

    def run(self) -> list[pytest.TestReport]:
        """Run them all, and return the reports of the one test."""
        try:
            return self._run()
        finally:
            self._sweep.close()

    def _run(self) -> list[pytest.TestReport]:
        from itkit.exceptions import FaultError

        text, has_more = "", False
        with self._sweep.varied() as first:
            phases = self._phases()
            reports = [next(phases)]
            reports += [report for report in (next(phases, None),) if report is not None]
            if len(reports) > 1 and reports[-1].passed and not hasattr(reports[-1], "wasxfail"):
                try:
                    has_more = self._sweep.begin(first)
                except FaultError as error:
                    text = str(error)
            reports += self._tear_down(is_last=not has_more)
        if not has_more:
            return with_failure(reports, text)
        seconds = 0.0
        for variation in self._sweep.variations():
            # The last has to tear down what several tests share.
            with self._sweep.varied(variation.spec) as varying:
                varied = self._run_once(is_last=variation.is_last)
            seconds += sum(report.duration for report in varied)
            if variation.is_shown:
                return varied if reports[-1].passed else reports
            if failed := [report for report in varied if report.failed]:
                self._sweep.find(variation.spec, varying, *summary_of(failed[0]))
        if not variation.is_last:  # it was not known that there would be no other
            reports += self._tear_down_shared()
        return with_failure(reports, self._sweep.report(), seconds)

    def _tear_down_shared(self) -> Iterator[pytest.TestReport]:
        """Tear down what several tests share, and no more; yield the report where that fails."""
        item = self._item
        state: Any = item.session._setupstate
        call: Any = pytest.CallInfo.from_call(
            partial(state.teardown_exact, self._following), when="teardown"
        )
        report = item.ihook.pytest_runtest_makereport(item=item, call=call)
        if report.failed:
            yield report

    @property
    def _following(self) -> pytest.Item | None:
        session = self._item.session
        return None if session.shouldfail or session.shouldstop else self._nextitem

    def _run_once(self, *, is_last: bool) -> list[pytest.TestReport]:
        return [*self._phases(), *self._tear_down(is_last=is_last)]

    def _phases(self) -> Iterator[pytest.TestReport]:
        item: Any = self._item
        if (
            hasattr(item, "_request") and not item._request
        ):  # as pytest does when it runs a test again
            item._initrequest()
        report = runner.call_and_report(item, "setup", log=False)
        yield report
        if report.passed:
            yield runner.call_and_report(item, "call", log=False)

    def _tear_down(self, *, is_last: bool) -> Iterator[pytest.TestReport]:
        """Tear the test down, and forget its fixtures, as pytest has no hook to run a test again.

        Checked with pytest 9.2.
        """
        item: Any = self._item
        # The fixtures that several tests share stay for the next variation of the same test.
        following = self._following if is_last else item.parent
        yield runner.call_and_report(item, "teardown", log=False, nextitem=following)
        if hasattr(item, "_request"):
            item._request = False
            item.funcargs = None


def swept(item: pytest.Item) -> AnyChoice | None:
    """Return what a test is swept with; None for a test that is not swept."""
    from itkit.sweep.choosing import Choice, RaceChoice, RepeatChoice, choice_of

    choice = choice_of(getattr(item, "obj", None))
    if choice is not None:
        return choice
    kinds: dict[str, Callable[[], AnyChoice]] = {
        "fault": Choice,
        "race": RaceChoice,
        "repeat": RepeatChoice,
    }
    return next((kind() for name, kind in kinds.items() if _asks_for(name, item)), None)


def _asks_for(name: str, item: pytest.Item) -> bool:
    """Return whether a test asks for a fixture of this plugin, not for one of the project."""
    info: Any = getattr(item, "_fixtureinfo", None)
    if info is None or name not in getattr(item, "fixturenames", ()):
        return False
    definitions = info.name2fixturedefs.get(name, ())
    return bool(definitions) and definitions[-1].func.__module__.startswith(f"{__package__}.")

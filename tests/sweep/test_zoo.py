"""Of workflows with a mistake and without it, a sweep finds each mistake, and nothing else."""

import re
import shlex

import pytest

from tests.support import sweep_zoo
from tests.support.doors import SERIAL, enter
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

FOUND = {
    "Async": "ledger.enter#1:lost_reply",
    "Counter": "INCRBY#1:lost_reply",
    "Declined": "payments.charge#1:lost_reply",
    "DoubleCharge": "payments.charge#1:crash_after",
    "EarlyCache": "COMMIT#1:OperationalError",
    "EarlyMail": "INSERT shop_event#1:OperationalError",
    "EarlyTask": "COMMIT#1:OperationalError",
    "HalfDone": "INSERT shop_order#1:crash_after",
    "HalfMailed": "email.send#1:lost_reply",
    "HeldLock": "SET#1:crash_after",
    "InAThread": "payments.charge#1:crash_after",
    "LostEvent": "COMMIT#1:crash_after",
    "StuckClaim": "payments.charge#1:crash_after",
    "SwallowedInTransaction": "INSERT shop_event#1:DeadlockDetected",
    "TwiceRun": "tasks.apply_async#1:run_twice",
}
"""Of each workflow with a mistake, a fault that shows it."""


@pytest.mark.parametrize("door", SERIAL)
def test_each_mistake_is_found_and_nothing_else(door: str, project: Project) -> None:
    sweep_zoo.write(project)
    result = enter(door, project)
    assert result.counts == {"failed": len(FOUND), "passed": len(FOUND)}, result.output
    reports = dict(reports_of(result.output))
    assert sorted(reports) == sorted(FOUND), result.output
    for name, fault in FOUND.items():
        assert f"'{fault}'" in reports[name], reports[name]
    check_repeated(reports["StuckClaim"], project)


def check_repeated(report: str, project: Project) -> None:
    """Make sure that the command of a finding runs one variation, in which the same is wrong."""
    command = re.search(r"to repeat it: (?:python\S* )?(.* --itkit-fault .*)", report)
    assert command is not None, report
    program, *arguments = shlex.split(command[1])
    run = project.pytest if program == "pytest" else project.manage
    repeated = run(*arguments)
    assert repeated.counts == {"failed": 1}, repeated.output
    assert "AssertionError: False != True" in repeated.output
    assert "does not survive" not in repeated.output
    assert f"FAULT {arguments[-1]}" in repeated.output


def reports_of(output: str) -> list[tuple[str, str]]:
    """Return the name of each workflow with a mistake whose test has failed, and its report.

    Neither runner prints a heading that the other does, but both name the class and the method.
    """
    heading = re.compile(
        r"^(?:FAIL: test_(\w+) \(shop\S*Broken|_+ Broken.test_(\w+) _+$)", re.MULTILINE
    )
    starts = [*heading.finditer(output)]
    ends = [start.start() for start in starts[1:]] + [len(output)]
    return [
        (start[1] or start[2], output[start.end() : end])
        for start, end in zip(starts, ends, strict=True)
    ]

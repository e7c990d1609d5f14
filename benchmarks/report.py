"""What the report and the boundary coverage cost: where each test passes, and where each fails.

The peer is the same command without the option. What is measured is the process from its start to
its end, set-up and imports included, without the servers: by instructions where valgrind is
installed, as in ``benchmarks.verdicts``. Instructions do not depend on what else the machine does,
so all cores count at once. Of the example its scenarios are measured, as races and sweeps wait for
each other, and differ more from run to run than by an option.

The pages of 100 failures are set against their bound: the CPU time that they add, each time the
least of several rounds.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.projects import Project, workshop
from benchmarks.rows import Row
from benchmarks.verdicts import COUNTS_INSTRUCTIONS, TARGET, costs

OPTIONS = ("--itkit-report", "--itkit-coverage")
SCENARIOS = "example_project.shop.tests.test_scenarios"
ROUNDS = 3
SECONDS = 2.0


def measure() -> list[Row]:
    """Measure 1,000 trivial tests of two kinds, the example's scenarios, and 100 failures."""
    with workshop() as shop:
        failing = shop.plain("failing")
        names = [
            "1,000 trivial TestCase tests",
            "1,000 trivial IntegrationTestCase tests",
            "the example's scenarios",
        ]
        projects = [shop.plain("trivial"), shop.plain("integration"), shop.example()]
        labels = ["trivial_tests", "integration_tests", SCENARIOS]
        with ThreadPoolExecutor(len(projects) if COUNTS_INSTRUCTIONS else 1) as pool:
            found = list(pool.map(_rows, names, projects, labels))
        return [*(row for rows in found for row in rows), _failures(failing)]


def _rows(name: str, project: Project, label: str) -> list[Row]:
    cost = partial(project.cost_of_tests, label)
    unit, (peer, *all_ours) = costs(cost, *(partial(cost, option) for option in OPTIONS))
    return [
        Row(name=f"{name}, {option}", ours=ours, peer=peer, unit=unit, bound="max", target=TARGET)
        for option, ours in zip(OPTIONS, all_ours, strict=True)
    ]


def _failures(project: Project) -> Row:
    cost = partial(project.cost_of_tests, "failing_tests", by_instructions=False, status=1)
    taken = [(cost(), cost("--itkit-report")) for _ in range(ROUNDS)]
    without, with_pages = map(min, zip(*taken, strict=True))
    return Row(
        name="the pages of 100 failures of 60 crossings each",
        ours=with_pages - without,
        peer=SECONDS,
        unit="s",
        bound="max",
        target=1,
    )

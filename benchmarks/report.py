"""What the report and the boundary coverage cost: where each test passes, and where each fails.

The peer is the same command without the option. What is measured is the process from its start to
its end, set-up and imports included, without the servers: by instructions where valgrind is
installed, as in ``benchmarks.verdicts``. The pages of 100 failures are set against their bound: the
CPU time that they add, each time the least of several rounds.
"""

from functools import partial

from benchmarks.projects import Project, workshop
from benchmarks.rows import Row
from benchmarks.verdicts import compared

REPORT, COVERAGE = "--itkit-report", "--itkit-coverage"
ROUNDS = 5
SECONDS = 2.0


def measure() -> list[Row]:
    """Measure 1,000 trivial tests of two kinds, the example, and 100 failures."""
    with workshop() as shop:
        plain, example = shop.plain(), shop.example()
        passing = [
            _row(f"{name}, {option}", project, label, option)
            for option in (REPORT, COVERAGE)
            for name, project, label in (
                ("1,000 trivial TestCase tests", plain, "trivial_tests"),
                ("1,000 trivial IntegrationTestCase tests", plain, "integration_tests"),
                ("the example", example, "example_project"),
            )
        ]
        return [*passing, _failures(plain)]


def _row(name: str, project: Project, label: str, option: str) -> Row:
    cost = partial(project.cost_of_tests, label)
    return compared(name, cost, partial(cost, option))


def _failures(project: Project) -> Row:
    cost = partial(project.cost_of_tests, "failing_tests", by_instructions=False, status=1)
    taken = [(cost(), cost(REPORT)) for _ in range(ROUNDS)]
    without, with_pages = map(min, zip(*taken, strict=True))
    return Row(
        name="the pages of 100 failures of 60 crossings each",
        ours=with_pages - without,
        peer=SECONDS,
        unit="s",
        bound="max",
        target=1,
    )

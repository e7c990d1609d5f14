"""What the verdicts and effects of a test cost: all that fails it although nothing was raised.

The peer is the same command of the same project, in which nothing follows threads, transactions and
effects, and nothing asks at the end of a test what was kept: see ``benchmarks.unjudged``. It is
what a process costs from its start to its end, set-up and imports included, without the servers.

Where valgrind is installed, the instructions of one process each are counted, which differ by less
than 0.2 % from one to the next, whatever else the machine does. Elsewhere it is the least CPU time
of several rounds.
"""

import shutil
from collections.abc import Callable
from functools import partial

from benchmarks.projects import Project, workshop
from benchmarks.rows import Row

COUNTS_INSTRUCTIONS = shutil.which("valgrind") is not None
ROUNDS = 9
TARGET = 1.03


def measure() -> list[Row]:
    """Measure 1,000 trivial tests of two kinds, and the example."""
    with workshop() as shop:
        plain, example = shop.plain(), shop.example()
        return [
            _row("1,000 trivial TestCase tests", plain, "trivial_tests"),
            _row("1,000 trivial IntegrationTestCase tests", plain, "integration_tests"),
            _row("the example", example, "example_project"),
        ]


def _row(name: str, project: Project, label: str) -> Row:
    cost = partial(project.cost_of_tests, label)
    unit, (peer, ours) = costs(partial(cost, choice="without"), partial(cost, choice="with"))
    return Row(name=name, ours=ours, peer=peer, unit=unit, bound="max", target=TARGET)


def costs(*processes: Callable[..., float]) -> tuple[str, list[float]]:
    """Return the unit, and what processes have cost in it, which run one after another.

    Args:
        *processes: for each ``Project.cost_of_tests``, but for whether instructions are counted.
    """
    for cost in processes:  # what is kept is there afterwards, and all is compiled
        cost(by_instructions=False)
    rounds = 1 if COUNTS_INSTRUCTIONS else ROUNDS
    taken = [
        [cost(by_instructions=COUNTS_INSTRUCTIONS) for cost in processes] for _ in range(rounds)
    ]
    return "G" if COUNTS_INSTRUCTIONS else "s", [min(of_one) for of_one in zip(*taken, strict=True)]

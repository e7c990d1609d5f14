"""Of workflows with a mistake and without it, races find each mistake, and nothing else."""

import re
import shlex

import pytest

from tests.postgres.test_drivers import hide
from tests.support import race_zoo
from tests.support.doors import SERIAL, enter
from tests.support.projects import Project, Result
from tests.sweep.test_sweep import POOL, PSYCOPG2
from tests.sweep.test_zoo import reports_of

pytestmark = pytest.mark.usefixtures("shared_servers")

FOUND = {
    "CacheAdd": "no order of the acts leaves what these have left",
    "Constraint": "no order of the acts leaves what these have left",
    "Deadlock": "a deadlock: the acts wait for each other, ",
    "DoubleSpend": "extra: shop.Sale(product=shop.Product(name='lamp', stock=1), buyer=",
    "Expression": "extra: shop.Product(name='lamp', stock=4)",
    "GetOrCreate": "extra: shop.Tag(name='new')",
    "HalfRead": "act 1 has returned [5, 10]",
    "LastPiece": "extra: shop.Sale(product=shop.Product(name='lamp', stock=1), buyer=",
    "LostUpdate": "extra: shop.Product(name='lamp', stock=4)",
    "NoWait": "extra: shop.Product(name='lamp', stock=4)",
    "OrderFirst": "extra: shop.Product(name='lamp', stock=-1)",
    "RedisLock": "extra: sold(b'1')",
    "Serializable": "has met a serialization failure, and has not begun again",
    "SkipLocked": "no order of the acts leaves what these have left",
    "Watch": "extra: sold(b'1')",
    "WriteSkew": "extra: shop.Doctor(name=",
}
"""A part of the message about each workflow with a mistake, by its name."""


QUICK = ("Deadlock", "HalfRead", "LostUpdate", "Watch")
"""Those of each kind: what other connections can change is the same for all of a kind."""


@pytest.mark.parametrize("settings", [POOL, PSYCOPG2])
@pytest.mark.slow
def test_some_mistakes_are_found_and_nothing_else(settings: str, project: Project) -> None:
    race_zoo.write(project)
    project.settings(settings)
    if settings == PSYCOPG2:
        hide(project, psycopg="there is no psycopg here")
    chosen = [option for name in QUICK for option in ("-k", name)]
    check(project.test("--integration", *chosen), project, {name: FOUND[name] for name in QUICK})


@pytest.mark.parametrize(("door", "seed"), [(SERIAL[1], "2"), (SERIAL[0], "3")])
@pytest.mark.slow
def test_each_mistake_is_found_and_nothing_else(door: str, seed: str, project: Project) -> None:
    race_zoo.write(project)
    check(enter(door, project, f"--itkit-seed={seed}"), project, FOUND)


def check(result: Result, project: Project, found: dict[str, str]) -> None:
    assert result.counts == {"failed": len(found), "passed": len(found)}, result.output
    reports = dict(reports_of(result.output))
    assert sorted(reports) == sorted(found), result.output
    for name, told in found.items():
        assert told in reports[name], reports[name]
    check_repeated(reports["LostUpdate"], project)


def check_repeated(report: str, project: Project) -> None:
    """Make sure that the command of a finding runs one schedule, in which the same is wrong."""
    command = re.search(r"to repeat it: (?:python\S* )?(.* --itkit-schedule .*)", report)
    assert command is not None, report
    program, *arguments = shlex.split(command[1])
    run = project.pytest if program == "pytest" else project.manage
    repeated = run(*arguments)
    assert repeated.counts == {"failed": 1}, repeated.output
    assert FOUND["LostUpdate"] in repeated.output
    assert "does not hold" not in repeated.output
    heads = r'who was let on when:\n +0 self\.act\("ann"\) +1 self\.act\("bob"\)$'
    assert re.search(heads, repeated.output, re.MULTILINE), repeated.output

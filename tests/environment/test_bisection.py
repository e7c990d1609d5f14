"""``--itkit-bisect`` finds which tests have to run before one that passes alone."""

import os
import re
import shlex
import stat
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from itkit import conf
from itkit.environment.bisection import bisection, orders
from itkit.environment.bisection.orders import Order
from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.projects import Project, Result

pytestmark = pytest.mark.usefixtures("shared_servers")

STATE = """
    left = set()
"""
TWENTY = """
    from django.test import TestCase
    from itkit.test import IntegrationTestCase
    from shop import state


    class A(TestCase):
        def test_harmless(self):
            pass

        for number in range(5):
            vars()[f"test_{number}"] = test_harmless

        def test_2(self):
            state.left.add("one")

        test_4 = lambda self: state.left.add("two")


    class B(IntegrationTestCase):
        for number in range(12):
            vars()[f"test_{number:02}"] = lambda self: None
"""
VICTIM = """
    from itkit.test import IntegrationTestCase
    from shop import state


    class Victim(IntegrationTestCase):
        def test_a(self):
            pass

        def test_suffers(self):
            self.assertFalse({} <= state.left, state.left)
"""


def write_suite(project: Project, needed: str) -> None:
    project.write("shop/state.py", STATE)
    write_tests(project, TWENTY)
    project.write("shop/tests/test_victim.py", VICTIM.format(needed))


def bisect(project: Project, result: Result) -> Result:
    """Run what a failure prints, with --itkit-bisect."""
    return run_printed(project, result, "--itkit-bisect")


def run_printed(project: Project, result: Result, *more: str) -> Result:
    printed = re.search(
        r"^ *(?:E +)?to repeat it: (?:python\S* )?(manage\.py|pytest) (.*)",
        result.output,
        re.MULTILINE,
    )
    assert printed, result.output
    command = ["manage.py"] if printed[1] == "manage.py" else ["-m", "pytest", "-rs"]
    return project.run(*command, *shlex.split(printed[2]), *more)


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_one_test_of_another_class_and_module(door: str, project: Project) -> None:
    write_suite(project, '{"one"}')
    whole = enter(door, project)
    assert whole.counts == {"passed": 19, "failed": 1}, whole.output
    assert "if it passes alone: the same with --itkit-bisect, which finds what" in whole.output
    assert run_printed(project, whole).counts == {"passed": 1}

    found = bisect(project, whole)
    assert found.code == 1, found.output
    told = found.output.partition("ran before it in its process:\n")[2].splitlines()
    assert re.search(r"A(\.|::)test_2$", told[0]), found.output
    assert "to repeat it" in told[1], found.output
    assert run_printed(project, found).counts == {"passed": 1, "failed": 1}


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_two_that_are_needed_together(door: str, project: Project) -> None:
    write_suite(project, '{"one", "two"}')
    whole = enter(door, project)
    assert whole.counts == {"passed": 19, "failed": 1}, whole.output
    found = bisect(project, whole)
    told = found.output.partition("ran before it in its process:\n")[2].splitlines()
    assert [line[-6:] for line in told[:2]] == ["test_2", "test_4"], found.output
    again = run_printed(project, found)
    assert again.counts == {"passed": 2, "failed": 1}
    index = r"--itkit-seed=[0-9a-f]{8}:(\d+,\d+,\d+)"
    ours = re.search(index, found.output)
    assert ours, found.output
    assert f":{ours[1].split(',')[-1]}\n" in re.sub(r"[ ]", "", whole.output), (
        "the values are those"
    )


def test_what_is_printed_is_for_the_directory_of_the_command(project: Project) -> None:
    write_suite(project, '{"one"}')
    whole = project.pytest("--integration", f"--rootdir={project.path.parent}", "-c", "pytest.ini")
    assert whole.counts == {"passed": 19, "failed": 1}, whole.output
    assert "to repeat it: pytest 'shop/tests/test_victim.py::Victim::test_suffers'" in whole.output


ONCE = """
    from pathlib import Path

    from itkit.test import IntegrationTestCase


    class Flaky(IntegrationTestCase):
        def test_a(self):
            pass

        def test_once(self):
            file = Path("was_here")
            if not file.exists():
                file.touch()
                self.fail("for no reason")
"""


@pytest.mark.parametrize("door", SERIAL)
def test_one_that_has_failed_for_no_reason(door: str, project: Project) -> None:
    write_tests(project, ONCE)
    whole = enter(door, project)
    assert whole.counts == {"passed": 1, "failed": 1}, whole.output
    found = bisect(project, whole)
    assert found.code == 0, found.output
    assert "passes alone, and after the 1 test that ran before it" in found.output
    assert "It may depend on chance" in found.output


BESIDE = """
    import time
    from pathlib import Path

    from itkit.test import IntegrationTestCase
    from shop import state


    class Polluter:
        def test_pollutes(self):
            Path(type(self).__name__).touch()
            while len([*Path().glob("Beside*")]) < 2 and not Path("met").exists():
                time.sleep(0.05)  # for the other worker
            Path("met").touch()
            state.left.add("one")

        def test_x(self):
            pass

        test_y = test_x  # pytest-xdist begins with the classes that have most tests


    class BesideA(Polluter, IntegrationTestCase):
        pass


    class BesideB(Polluter, IntegrationTestCase):
        pass
"""


@pytest.mark.parametrize("door", [door for door in DOORS if "two" in door])
@pytest.mark.slow
def test_in_a_worker_what_ran_there_is_looked_at(door: str, project: Project) -> None:
    project.write("shop/state.py", STATE)
    write_tests(project, BESIDE)
    project.write("shop/tests/test_victim.py", VICTIM.format('{"one"}'))
    more = ["--dist", "loadscope"] if "xdist" in door else []
    whole = enter(door, project, *more)
    assert whole.counts == {"passed": 7, "failed": 1}, whole.output
    found = bisect(project, whole)
    told = found.output.partition("ran before it in its process:\n")[2].splitlines()
    assert re.search(r"Beside[AB](\.|::)test_pollutes$", told[0]), found.output
    assert "to repeat it" in told[1], found.output
    assert run_printed(project, found).counts == {"passed": 1, "failed": 1}


@pytest.mark.parametrize("door", SERIAL)
def test_what_cannot_be_bisected_is_told(door: str, project: Project) -> None:
    write_suite(project, '{"one"}')
    is_django = door == "django"
    test = "shop.tests.test_victim.Victim.test_suffers"
    path = "shop/tests/test_victim.py::Victim::test_suffers"
    labels = {"several": ["shop", "shop.tests"] if is_django else ["shop", "shop/tests"]}
    labels["one"] = [test if is_django else path]
    options = ["--itkit-bisect"]
    run = project.test if is_django else project.pytest
    several = run(*labels["several"], "--integration", *options)
    plain = run(*labels["one"], *options)
    no_seed = run(*labels["one"], "--integration", *options)
    unknown = run(*labels["one"], "--integration", "--itkit-seed=abc", *options)
    assert all(result.code for result in (several, plain, no_seed, unknown))
    assert "--itkit-bisect is for" in several.output
    assert "--itkit-bisect is for" in plain.output
    assert "needs the --itkit-seed of the run" in no_seed.output
    assert "Run all tests here as they ran there, with --itkit-seed=abc" in unknown.output


RUNNER = """
    import json
    import sys

    needed = set({needed!r})
    file = sys.argv[-1].removeprefix("--itkit-trial=")
    tests = json.load(open(file))["tests"] or [one for one in sys.argv[1:] if one[0] != "-"]
    fails = tests[-1] == "target" and needed <= set(tests) and tests == sorted(tests)
    json.dump({{"begun": tests, "failed": ["target"] * fails}}, open(file, "w"))
"""


@pytest.fixture
def in_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ITKIT_CACHE_DIR", str(tmp_path / "cache"))
    conf.get.cache_clear()
    yield tmp_path / "cache" / "itkit-entry-orders"
    conf.get.cache_clear()


@pytest.mark.parametrize("places", [(0,), (299,), (3, 4), (0, 150, 299), ()])
def test_the_smallest_set_is_found_in_few_trials(
    places: tuple[int, ...], tmp_path: Path, in_own_cache: Path
) -> None:
    order = Order("s", "5f3a9c01", "w0")
    tests = [f"p{number:03}" for number in range(300)]
    for number, test in enumerate([*tests, "target"]):
        order.begin(test, number)
    assert order.keep() == 300
    needed = [tests[place] for place in places]
    script = tmp_path / "runner.py"
    script.write_text(textwrap.dedent(RUNNER.format(needed=needed)))
    # Without the installed packages a Python starts in a third of the time.
    command = bisection.Command([sys.executable, "-I", "-S", str(script)], ["run"], [], str)
    said: list[str] = []
    assert bisection.run(command, "target", "s:300", said.append) == 1
    told = " ".join([*needed, "target"])
    indexes = ",".join(map(str, [*places, 300]))
    assert said[-1] == f"to repeat it: run {told} --itkit-seed=s:{indexes}"
    assert len(said) <= 8 + 20 * len(places)
    assert stat.S_IMODE(next(in_own_cache.glob("*/w0")).stat().st_mode) == 0o600


def test_the_orders_of_the_last_runs_are_kept(in_own_cache: Path) -> None:
    for number in range(12):
        order = Order("s", f"run{number}", "w0")
        for test in ("a", f"b{number}"):
            order.begin(test, 0)
            order.keep()
        os.utime(next(in_own_cache.glob(f"*run{number}")), (number, number))
    found = sorted(path.name.rpartition("-")[2] for path in in_own_cache.iterdir())
    assert found == sorted(f"run{number}" for number in range(4, 12))
    assert [begun.test for begun in orders.up_to("b11", "s")] == ["a", "b11"]
    assert orders.up_to("b2", "s") == []
    assert orders.up_to("b11", "t") == []

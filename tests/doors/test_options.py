"""Options that change nothing, and those that contradict each other."""

import sys
from pathlib import Path

import pytest

from tests.support.projects import Project

TESTS = """
    from itkit.test import IntegrationTestCase


    class Tests(IntegrationTestCase):
        def test_one(self):
            pass
"""


@pytest.fixture
def small(project: Project) -> Project:
    project.write("shop/tests/__init__.py", "")
    project.write("shop/tests/test_shop.py", TESTS)
    return project


def test_options_that_change_nothing_without_integration(small: Project) -> None:
    for run in (small.test, small.pytest):
        one = run("--itkit-report-format=github")
        told = (
            "--itkit-report-format changes nothing without --integration: add it, or leave it out."
        )
        assert told in one.output, one.output
        assert one.code != 0, one.output
        two = run("--itkit-seed", "1", "--itkit-fault", "COMMIT:error")
        told = "--itkit-fault and --itkit-seed change nothing without --integration: add it, or leave them out."
        assert told in two.output, two.output
    shortened = small.test("--itkit-sta=paid")
    assert "--itkit-state changes nothing without" in shortened.output, shortened.output
    plain = small.pytest(PYTEST_ADDOPTS="--itkit-seed=1")
    assert plain.counts == {"skipped": 1}, plain.output
    ini = small.path / "pytest.ini"
    ini.write_text(ini.read_text().replace("addopts =", "addopts = --itkit-seed=1"))
    plain = small.pytest()
    assert plain.counts == {"skipped": 1}, plain.output


@pytest.mark.slow
def test_one_variation_and_no_sweep(small: Project) -> None:
    arguments = ("--integration", "--itkit-fault", "COMMIT:error")
    begin = "--itkit-fault is one variation of a sweep, and --itkit-sweep is off: "
    for run in (small.test, small.pytest):
        typed = run(*arguments, "--itkit-sweep=off")
        assert f"{begin}leave out --itkit-sweep=off." in typed.output, typed.output
        both = run(*arguments, "--itkit-state=paid")
        told = "--itkit-fault and --itkit-state are variations of different sweeps: leave all but one of them out."
        assert told in both.output, both.output
    variable = small.pytest(*arguments, PYTEST_ADDOPTS="--itkit-sweep=off")
    told = "the environment variable PYTEST_ADDOPTS says so; --itkit-sweep=quick overrides it."
    assert begin + told in variable.output, variable.output
    ini = small.path / "pytest.ini"
    ini.write_text(ini.read_text().replace("addopts =", "addopts = --itkit-sweep=off"))
    file = small.pytest(*arguments)
    told = "addopts in pytest.ini says so; --itkit-sweep=quick overrides it."
    assert begin + told in file.output, file.output


@pytest.mark.usefixtures("shared_servers")
def test_a_command_that_can_be_typed(small: Project) -> None:
    small.write("shop/tests/test_shop.py", TESTS.replace("pass", "self.fail()"))
    result = small.test("--integration")
    name = Path(sys.executable).name
    told = f"to repeat it: {name} manage.py test shop.tests.test_shop.Tests.test_one --integration "
    assert told in result.output, result.output

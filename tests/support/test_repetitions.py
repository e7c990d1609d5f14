"""Of tests that differ in door and isolation only, one runs by default."""

import re
from pathlib import Path

from tests.support.projects import Project

CONFTEST = """
    import sys

    import pytest

    sys.path.insert(0, {root!r})
    from tests.support.doors import mark_repetitions


    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(items):
        mark_repetitions(items)
"""
TESTS = """
    import pytest

    doors = pytest.mark.parametrize("door", ["one", "two", "three"])


    @doors
    @pytest.mark.parametrize("isolation", ["schema", "database"])
    def test_alone(door, isolation):
        pass


    @doors
    @pytest.mark.parametrize("what", [["a"], ["b"], pytest.param(["c"], marks=pytest.mark.slow)])
    @pytest.mark.parametrize("how", ["x", "y"], ids=lambda how: "-")
    def test_with_others(door, what, how):
        pass


    @pytest.mark.parametrize("what", ["a", "b"])
    def test_without(what):
        pass
"""


def test_other_parameters_all_run_by_one_door_each(project: Project) -> None:
    project.write("conftest.py", CONFTEST.format(root=str(Path(__file__).parents[2])))
    project.write("test_it.py", TESTS)
    collected = project.pytest("--collect-only", "-q", "-m", "not slow", "-o", "markers=slow")
    names = re.findall(r"::(test_\w+)", collected.output)
    numbers = {name: names.count(name) for name in names}
    assert numbers == {"test_alone": 1, "test_with_others": 4, "test_without": 2}, collected.output

"""Which repetitions of a test by other doors and isolations run by default, and which ones at all."""

from itertools import product
from pathlib import Path

import pytest

from tests.support.doors import DOORS, SERIAL, opposite
from tests.support.projects import Project

ISOLATIONS = ("schema", "database")
CONFTEST = f"""
    import sys

    sys.path.append({str(Path(__file__).parents[2])!r})

    from tests.support.doors import mark_repetitions


    def pytest_collection_modifyitems(items):
        mark_repetitions(items)
"""
TESTS = """
    import pytest

    doors = pytest.mark.parametrize("door", ["django", "pytest"])
    numbers = pytest.mark.parametrize(("number", "text"), [(1, "a"), (2, "a"), (3, "b")])


    @doors
    def test_doors(door):
        pass


    @doors
    @pytest.mark.parametrize("isolation", ["schema", "database"])
    def test_doors_and_isolations(door, isolation):
        pass


    @doors
    @numbers
    def test_with_numbers(door, number, text):
        pass


    @numbers
    @doors
    def test_with_numbers_outside(door, number, text):
        pass


    @pytest.mark.parametrize(("door", "number"), [("django", 1), ("pytest", 2)])
    def test_one_door_for_each_number(door, number):
        pass


    @pytest.mark.parametrize("door", ["django", pytest.param("pytest", marks=pytest.mark.slow)])
    def test_that_says_itself_what_is_slow(door):
        pass


    @numbers
    def test_without_a_door(number, text):
        pass
"""


def test_one_combination_of_door_and_isolation_is_run_for_each_of_other_parameters(
    project: Project,
) -> None:
    project.write("conftest.py", CONFTEST)
    project.write("test_repeated.py", TESTS)
    result = project.pytest("--collect-only", "-q", "-m", "not slow", "-o", "markers=slow: is slow")
    found = [line.partition("::")[2] for line in result.output.splitlines() if "::" in line]

    def parameters_of(test: str) -> list[str]:
        return [
            parameters.rstrip("]")
            for name, _, parameters in (one.partition("[") for one in found)
            if name == test
        ]

    assert len(parameters_of("test_doors")) == 1, result.output
    assert len(parameters_of("test_doors_and_isolations")) == 1, result.output
    for test in ("test_with_numbers", "test_with_numbers_outside"):
        doors_left_out = [
            one.replace("django", "").replace("pytest", "").strip("-")
            for one in parameters_of(test)
        ]
        assert sorted(doors_left_out) == ["1-a", "2-a", "3-b"], result.output
    assert len(parameters_of("test_one_door_for_each_number")) == 2, result.output
    assert parameters_of("test_that_says_itself_what_is_slow") == ["django"], result.output
    assert len(parameters_of("test_without_a_door")) == 3, result.output


@pytest.mark.parametrize("chosen", range(10))
def test_the_other_combination_shares_nothing_with_the_one_that_runs_by_default(
    chosen: int,
) -> None:
    combinations = [*product(DOORS, ISOLATIONS)]
    (door, isolation), (other_door, other_isolation) = (
        combinations[position] for position in (chosen, opposite(combinations, chosen, 7))
    )
    assert door.partition(",")[0] != other_door.partition(",")[0]
    assert ("," in door) != ("," in other_door)
    assert isolation != other_isolation


@pytest.mark.parametrize("number", range(2))
def test_of_two_values_none_is_left_out(number: int) -> None:
    assert opposite([(door, "") for door in SERIAL], number, number) == 1 - number
    assert opposite([("", isolation) for isolation in ISOLATIONS], number, number) == 1 - number
    assert opposite([("pytest", "schema")], 0, number) == 0


def test_both_ways_to_start_workers_have_their_share() -> None:
    doors = [(door, "") for door in DOORS]
    chosen = doors.index(("pytest", ""))
    others = {doors[opposite(doors, chosen, number)][0] for number in range(10)}
    assert others == {"django, two forked workers", "django, two spawned workers"}

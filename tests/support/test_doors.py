"""Which repetitions of a test by other doors and isolations run by default, and which ones at all."""

from itertools import combinations, product
from pathlib import Path

import pytest

from tests.support.doors import DOORS, SERIAL, remaining
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


def kinds(door: str, isolation: str) -> tuple[str, bool, str]:
    return door.partition(",")[0], "," in door, isolation


@pytest.mark.parametrize("number", range(10))
def test_each_runner_workers_and_isolation_meet_each_other(number: int) -> None:
    all_of_them = [*product(DOORS, ISOLATIONS)]
    kept = remaining(all_of_them, number, number)
    assert number in kept
    assert len(kept) == 4
    rows = [kinds(*all_of_them[position]) for position in kept]
    for one, other in combinations(range(3), 2):
        assert len({(row[one], row[other]) for row in rows}) == 4


@pytest.mark.parametrize("number", range(5))
def test_each_runner_is_met_with_workers_or_without(number: int) -> None:
    doors = [*DOORS]
    kept = remaining([(door, "") for door in doors], number, number)
    assert number in kept
    rows = [kinds(doors[position], "") for position in kept]
    assert len(rows) == 2
    assert {row[0] for row in rows} == {"django", "pytest"}
    assert {row[1] for row in rows} == {False, True}


@pytest.mark.parametrize("number", range(2))
def test_no_value_of_a_single_parameter_is_left_out(number: int) -> None:
    assert remaining([(door, "") for door in SERIAL], number, number) == {0, 1}
    assert remaining([("", isolation) for isolation in ISOLATIONS], number, number) == {0, 1}
    assert remaining([("pytest", "schema")], 0, number) == {0}


def test_where_no_half_has_all_values_nothing_but_a_way_to_start_is_left_out() -> None:
    doors = ["django", "django, two forked workers", "pytest", "django, two spawned workers"]
    assert remaining([(door, "") for door in doors], 0, 0) in ({0, 1, 2}, {0, 2, 3})


def test_starts_of_workers_have_their_share() -> None:
    alone = [("django, two spawned workers", ""), ("django, two forked workers", "")]
    assert {min(remaining([*alone, ("pytest", "")], 2, number)) for number in (0, 10)} == {0, 1}

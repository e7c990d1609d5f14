"""What is left out of the repetitions of a test, and that nothing is covered by it alone."""

from itertools import combinations, product

import pytest

from tests.support.doors import DOORS, SERIAL, remaining

ISOLATIONS = ("schema", "database")


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

"""What is measured is a real project, and the rows are what the README and CI read."""

import json
from pathlib import Path

import pytest

from benchmarks import sweep
from benchmarks.projects import Servers, Workshop, medians, workshop
from benchmarks.rows import Row, linear


@pytest.mark.slow
def test_a_generated_project_migrates_and_passes_its_tests() -> None:
    with workshop() as shop:
        project = shop.generated(12)
        project.check_migrations()
        assert project.seconds_of_trivial_tests(integration=True) > 0  # all 1,000 have passed
        peer = project.django("set-up")
        # The driver checks that seeded rows come back.
        ours = project.itkit("reset", "--rounds", "2")
    assert ours["objects"] == peer["objects"] > 12 * 10


@pytest.mark.slow
def test_sweeps_are_counted_and_their_test_runs_without_one() -> None:
    with workshop() as shop:
        project = shop.example()
        project.write_plain_tests(sweep.PAYMENT, 3)
        plain = project.sweep("plain_tests")
        swept = project.sweep(sweep.PAYMENT)
        races = project.sweep(sweep.TWO_PAYMENTS)
    assert plain["tried"] == 0 < plain["seconds"]
    assert swept["tried"] > 10
    assert 0 < races["tried"] < races["total"]


def test_a_project_of_one_size_is_always_the_same(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Workshop(tmp_path / name, Servers("postgresql:///", "redis://")).generated(3)
        paths = (tmp_path / name).rglob("*.py")
        files.append({path.relative_to(tmp_path / name): path.read_text() for path in paths})
    assert files[0] == files[1]


def test_a_project_of_the_measured_size_has_more_than_300_migrations(tmp_path: Path) -> None:
    Workshop(tmp_path, Servers("postgresql:///", "redis://")).generated(80)
    assert len(list(tmp_path.rglob("migrations/[0-9]*.py"))) > 300


def test_rows_are_what_the_issue_says() -> None:
    faster = Row(name="clone", ours=0.1, peer=4.0, unit="s", bound="min", target=50)
    slower = Row(name="reset", ours=2.0, peer=1.0, unit="ms", bound="max", target=2)
    assert json.loads(json.dumps([row.as_dict() for row in (faster, slower)])) == [
        {"name": "clone", "ours": 0.1, "peer": 4.0, "unit": "s", "ratio": 40.0, "bound": "min",
         "target": 50, "met": False},
        {"name": "reset", "ours": 2.0, "peer": 1.0, "unit": "ms", "ratio": 2.0, "bound": "max",
         "target": 2, "met": True},
    ]  # fmt: skip


def test_growth_is_set_against_the_growth_in_objects() -> None:
    small, large = {"set_up": 1.0, "objects": 100}, {"set_up": 2.4, "objects": 200}
    assert linear("growth", "set_up", small, large).ratio == pytest.approx(1.2)


def test_measures_are_taken_in_turns() -> None:
    taken: list[str] = []

    def measure(name: str, *values: float) -> dict[str, float]:
        taken.append(name)
        return {"s": values[taken.count(name) - 1]}

    found = medians(3, lambda: measure("a", 9, 1, 2), lambda: measure("b", 5, 6, 7))
    assert found == [{"s": 2}, {"s": 6}]
    assert taken == ["a", "b"] * 3

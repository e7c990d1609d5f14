"""``itkit.benchmark()`` and ``benchmark_integration_performance()``: figures by nearest rank."""

from itertools import count

import pytest

from itkit import Benchmark, benchmark, benchmark_integration_performance
from itkit.exceptions import BenchmarkError
from itkit.test import IntegrationTestCase


@pytest.mark.parametrize(
    ("number", "rank"), [(1, 1), (2, 2), (19, 19), (20, 19), (21, 20), (50, 48), (100, 95)]
)
def test_p95_is_the_element_within_which_95_of_100_end(number: int, rank: int) -> None:
    times = [float(time) for time in range(number, 0, -1)]

    assert Benchmark(times).p95 == rank


def test_the_figures_of_known_times() -> None:
    timed = Benchmark([0.004, 0.001, 0.002, 0.003])

    assert (timed.rounds, timed.avg, timed.min, timed.max) == (4, 0.0025, 0.001, 0.004)
    assert (timed.percentile(1), timed.percentile(50), timed.percentile(100)) == (
        0.001,
        0.002,
        0.004,
    )
    assert str(timed) == "4 rounds: avg 2.500 ms, min 1.000 ms, max 4.000 ms, p95 4.000 ms"


def test_the_rounds_come_after_the_warm_up_and_each_is_timed() -> None:
    calls = count()

    timed = benchmark(lambda: next(calls), rounds=7, warmup=3)

    assert (timed.rounds, next(calls)) == (7, 10)
    assert 0 < timed.min <= timed.avg <= timed.p95 <= timed.max


def test_by_default_there_are_fifty_rounds_after_five() -> None:
    calls = count()

    assert IntegrationTestCase().benchmark(lambda: next(calls)).rounds == 50
    assert next(calls) == 55


def test_the_reference_page_s_names() -> None:
    found = benchmark_integration_performance(lambda: None, "creation", rounds=2)

    assert list(found) == [
        "avg_creation_time",
        "min_creation_time",
        "max_creation_time",
        "p95_creation_time",
    ]


def test_an_error_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        benchmark(lambda: 1 / 0)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"warmup": -1}])
def test_numbers_that_say_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BenchmarkError, match="rounds begin at 1, and warmup at 0"):
        benchmark(lambda: None, **wrong)


def test_a_percentile_that_is_none_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="from 1 to 100"):
        Benchmark([1.0]).percentile(0)

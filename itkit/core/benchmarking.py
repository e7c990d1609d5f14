"""Measures how long something takes: without the warm-up, with percentiles by nearest rank."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from itkit.exceptions import BenchmarkError


@dataclass(frozen=True)
class Benchmark:
    """The times of a benchmark's rounds, in seconds.

    Attributes:
        times: the time of each round, in the order in which the rounds ran.
    """

    times: Sequence[float]

    @property
    def rounds(self) -> int:
        """The number of rounds."""
        return len(self.times)

    @property
    def avg(self) -> float:
        """The mean."""
        return sum(self.times) / len(self.times)

    @property
    def min(self) -> float:
        """The shortest."""
        return min(self.times)

    @property
    def max(self) -> float:
        """The longest."""
        return max(self.times)

    @property
    def p95(self) -> float:
        """The time within which 95 of 100 rounds end, as ``percentile(95)``."""
        return self.percentile(95)

    def percentile(self, percent: int) -> float:
        """Return the shortest time within which a percentage of the rounds end (nearest rank).

        Args:
            percent: the percentage, from 1 to 100.

        Raises:
            BenchmarkError: the percentage is not from 1 to 100.
        """
        if not 1 <= percent <= 100:
            raise BenchmarkError(f"percentile({percent}): give a whole number from 1 to 100.")
        rank = -(-percent * len(self.times) // 100)  # rounded up, without rounding errors of floats
        return sorted(self.times)[rank - 1]

    def __str__(self) -> str:
        named = {"avg": self.avg, "min": self.min, "max": self.max, "p95": self.p95}
        shown = ", ".join(f"{name} {time * 1000:.3f} ms" for name, time in named.items())
        return f"{self.rounds} rounds: {shown}"


def benchmark(action: Callable[[], object], *, rounds: int = 50, warmup: int = 5) -> Benchmark:
    """Return how long a function takes, which is called repeatedly in this thread.

    Args:
        action: a function without arguments; its errors are passed on.
        rounds: the number of times that it is timed.
        warmup: the number of untimed calls before, for connections, caches and compilation.

    Raises:
        BenchmarkError: ``rounds`` is below 1, or ``warmup`` is negative.
    """
    if rounds < 1 or warmup < 0:
        raise BenchmarkError(
            f"benchmark(rounds={rounds}, warmup={warmup}): rounds begin at 1, and warmup at 0."
        )
    for _ in range(warmup):
        action()
    times = []
    for _ in range(rounds):
        start = perf_counter()
        action()
        times.append(perf_counter() - start)
    return Benchmark(times)


def benchmark_integration_performance(
    action: Callable[[], object], operation: str, *, rounds: int = 50, warmup: int = 5
) -> dict[str, float]:
    """Return the seconds that an operation takes, under names for a dashboard.

    Args:
        action: the operation, without arguments.
        operation: the name of the operation: ``"creation"`` gives ``avg_creation_time``,
            ``min_creation_time``, ``max_creation_time`` and ``p95_creation_time``.
        rounds: the number of times that it is timed.
        warmup: the number of untimed calls before.

    Raises:
        BenchmarkError: ``rounds`` is below 1, or ``warmup`` is negative.
    """
    timed = benchmark(action, rounds=rounds, warmup=warmup)
    return {
        f"avg_{operation}_time": timed.avg,
        f"min_{operation}_time": timed.min,
        f"max_{operation}_time": timed.max,
        f"p95_{operation}_time": timed.p95,
    }

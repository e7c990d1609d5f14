"""What a sweep costs: its variations, whole sweeps of the example shop, and what reduction saves.

The peer of a variation is the same test of the same project, run once, by the plain loop of
Django's runner in itkit's environment: set-up, act, checks, reset. Each figure is Django's own
count of the seconds of its tests, which has neither the start of the process nor the claim of its
schema in it; the first test of a process, which is slower, is in both. The bounds of whole sweeps
are those for 40 faults and for 100 schedules before reduction, and are scaled by what there is.

What the gate costs while no sweep runs is not measured here: ``benchmarks.fakes`` and
``benchmarks.redis`` measure a statement, a call and a command as they are then.
"""

from functools import partial

from benchmarks.projects import Measured, medians, workshop
from benchmarks.rows import Row

ROUNDS = 3
PLAIN_TESTS = 40
FAULTS, SECONDS_OF_FAULTS = 40, 1.5
SCHEDULES, SECONDS_OF_SCHEDULES = 100, 3.0
PAYMENT = (
    "example_project.shop.tests.test_sweeps.PaymentFaultTests.test_whoever_is_charged_has_paid"
)
TWO_PAYMENTS = "example_project.shop.tests.test_races.CheckoutRaceTests.test_an_order_is_paid_once"


def measure() -> list[Row]:
    """Measure the faults of the shop's payment, in both modes, and the schedules of two."""
    with workshop() as shop:
        project = shop.example()
        project.write_plain_tests(PAYMENT, PLAIN_TESTS)
        plain, quick, full, races = medians(
            ROUNDS,
            partial(project.sweep, "plain_tests"),
            partial(project.sweep, PAYMENT),
            partial(project.sweep, PAYMENT, "--itkit-sweep=full"),
            partial(project.sweep, TWO_PAYMENTS),
        )
    return [
        _variation("a variation of the payment, against the test once", quick, plain),
        _variation("the same with --itkit-sweep=full", full, plain),
        _whole("faults of the payment, whole", quick, quick["tried"], FAULTS, SECONDS_OF_FAULTS),
        _whole("the same with --itkit-sweep=full", full, full["tried"], FAULTS, SECONDS_OF_FAULTS),
        _whole("schedules of two payments, before reduction", races, races["total"],
               SCHEDULES, SECONDS_OF_SCHEDULES),
        Row(name="schedules of them tried, against those before reduction", ours=races["tried"],
            peer=races["total"], unit="", bound="max", target=0.334),
    ]  # fmt: skip


def _variation(name: str, swept: Measured, plain: Measured) -> Row:
    runs = swept["tried"] + 1  # the first, without a fault
    return Row(name=name, ours=swept["seconds"] / runs * 1000,
               peer=plain["seconds"] / PLAIN_TESTS * 1000, unit="ms",
               bound="max", target=1.5)  # fmt: skip


def _whole(name: str, swept: Measured, number: float, bound_of: int, seconds: float) -> Row:
    return Row(name=f"{number:.0f} {name}", ours=swept["seconds"], peer=seconds * number / bound_of,
               unit="s", bound="max", target=1)  # fmt: skip

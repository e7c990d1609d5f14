"""What ends a test, against what ends Django's tests.

Two peers, both of the same project without itkit, on the same server:

- flush: what Django's TransactionTestCase does after each test. It empties all tables and sends
  ``post_migrate``. It does not bring the rows back that migrations have seeded; ours does, and the
  driver checks it.
- rollback: a test of Django's TestCase, run by unittest within its class, but for its body.

Ours is the same method of TransactionTestCase within itkit's environment, after a test that has
committed rows to three tables, one of them seeded, or nothing. The trivial tests are 1,000 empty
methods of a TestCase, run by ``manage.py test``, by unittest's count of the seconds.
"""

from benchmarks.projects import MORE_TABLES, TABLES, Measured, Project, medians, workshop
from benchmarks.rows import Bound, Row, linear

ROUNDS = 3  # processes; each takes the median of many resets
FLUSHES, RESETS = "10", "100"
TRIVIAL_ROUNDS = 5


def measure() -> list[Row]:
    """Measure both projects, then what more tables cost."""
    with workshop() as shop:
        wagtail, generated = shop.wagtail(), shop.generated(TABLES)
        large = shop.generated(MORE_TABLES)
        rows = [*_rows(wagtail), *_rows(generated), *_growth(generated, large)]
        return [*rows, *_alterations(wagtail), *_alterations(generated)]


def _rows(project: Project) -> list[Row]:
    django, ours = medians(ROUNDS, lambda: _django(project), lambda: _ours(project))
    without, with_itkit = medians(
        TRIVIAL_ROUNDS,
        lambda: {"s": project.seconds_of_trivial_tests(integration=False)},
        lambda: {"s": project.seconds_of_trivial_tests(integration=True)},
    )

    def row(name: str, measure: str, peer: str, bound: Bound, target: float) -> Row:
        return Row(name=f"{project.name}: {name}", ours=ours[measure], peer=django[peer],
                   unit="ms", bound=bound, target=target)  # fmt: skip

    return [
        row("reset of 3 tables, against flush", "written", "written", "min", 60),
        row("reset of 3 tables, against rollback", "written", "rollback_written", "max", 4),
        row("nothing to reset, against rollback", "clean", "rollback", "max", 2),
        Row(name=f"{project.name}: 1,000 trivial TestCase tests", ours=with_itkit["s"],
            peer=without["s"], unit="s", bound="max", target=1.05),
    ]  # fmt: skip


def _alterations(project: Project) -> list[Row]:
    """Measure what the structure of the database costs; last, as it makes other resets slower."""
    arguments = ("alterations", "--keepdb", "--rounds", FLUSHES)
    django, ours = project.django(*arguments), project.itkit(*arguments)
    return [
        Row(name=f"{project.name}: a test has {what}, against flush", ours=ours[measure],
            peer=django[measure], unit="ms", bound="min", target=1)
        for what, measure in (("created a table", "created"), ("added a column", "altered"))
    ]  # fmt: skip


def _growth(small: Project, large: Project) -> list[Row]:
    """Compare resets among many tables to those among some."""
    times = medians(ROUNDS, lambda: _ours(small), lambda: _ours(large))
    return [
        linear(f"reset of 3, {MORE_TABLES} tables against {TABLES}", "written", *times),
        linear(f"nothing to reset, {MORE_TABLES} tables against {TABLES}", "clean", *times),
    ]


def _django(project: Project) -> Measured:
    return project.django("reset", "--keepdb", "--rounds", FLUSHES)


def _ours(project: Project) -> Measured:
    return project.itkit("reset", "--rounds", RESETS)

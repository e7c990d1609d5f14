"""What passes before the first test, against Django's own set-up of test databases.

The peer is ``DiscoverRunner.setup_databases`` of the same project without itkit, on the same
server: it creates a database and migrates it or, with ``--keepdb``, finds nothing to migrate. Ours
is the very same call within itkit's environment, in four situations:

- first run ever: there is no template. The start of the environment is counted as well.
- clone: the template is there, but no kept schema, as the runs before have ended like killed ones.
- claim: the run before has kept its schema.
- embedded: itkit starts Postgres and Valkey itself, from a cache that an earlier run has filled.
  All of it is counted, from the start of the environment on.

Each time is of a process of its own, without ``django.setup()``; the rows hold medians, peer and
ours measured in turns. The measures of memory are set against the budgets of issue 3.
"""

from itertools import count

from benchmarks.projects import MORE_TABLES, TABLES, Measured, Project, medians, workshop
from benchmarks.rows import Row, linear

SET_UPS = 3  # these take seconds
ROUNDS = 5
GROWTH_BUDGET, IDLE_BUDGET = 30.0, 60.0  # MB


def measure() -> list[Row]:
    """Measure both projects, then what more tables cost, then the memory of many tests."""
    with workshop() as shop:
        wagtail, generated = shop.wagtail(), shop.generated(TABLES)
        rows = _rows(wagtail, clone_target=40) + _rows(generated, clone_target=30)
        rows += _growth(generated, shop.generated(MORE_TABLES))
        grown = wagtail.growth_in_committed_tests()
    name = "wagtail: growth of the process in 2,000 committed tests"
    return [*rows, _within_budget(name, grown, GROWTH_BUDGET)]


def _rows(project: Project, *, clone_target: float) -> list[Row]:
    names = count()
    set_up, first = medians(
        SET_UPS,
        lambda: project.django("set-up"),
        lambda: project.itkit("set-up", "--abandon", database=f"first{next(names)}"),
    )
    project.django("set-up", "--keepdb")
    _migrate_template(project)
    keepdb, clone = medians(ROUNDS, lambda: _keepdb(project), lambda: _clone(project))
    kept = _keep(project)
    _, claim = medians(ROUNDS, lambda: _keepdb(project), lambda: _claim(project, kept))
    project.embedded("set-up")
    (embedded,) = medians(ROUNDS, lambda: project.embedded("idle-memory"))

    def faster(name: str, ours: float, peer: Measured, target: float) -> Row:
        return Row(name=f"{project.name}: {name}", ours=ours, peer=peer["set_up"], unit="s",
                   bound="min", target=target)  # fmt: skip

    return [
        faster("clone of a warm template, against set-up", clone["set_up"], set_up, clone_target),
        faster("claim of a kept schema, against set-up", claim["set_up"], set_up, 150),
        faster("claim of a kept schema, against --keepdb", claim["set_up"], keepdb, 6),
        faster("claim, environment included, against --keepdb", claim["whole"], keepdb, 1),
        faster("first run ever, against set-up", first["whole"], set_up, 0.9),
        faster("embedded and warm, all included, against set-up", embedded["whole"], set_up, 25),
        _within_budget(
            f"{project.name}: embedded Postgres, idle", embedded["megabytes"], IDLE_BUDGET
        ),
    ]


def _growth(small: Project, large: Project) -> list[Row]:
    """Compare the cost of many tables to that of some, whose template is there."""
    _migrate_template(large)
    clones = medians(ROUNDS, lambda: _clone(small), lambda: _clone(large))
    kept = _keep(small), _keep(large)
    claims = medians(ROUNDS, lambda: _claim(small, kept[0]), lambda: _claim(large, kept[1]))
    return [
        linear(f"clone, {MORE_TABLES} tables against {TABLES}", "set_up", *clones),
        linear(f"claim, {MORE_TABLES} tables against {TABLES}", "set_up", *claims),
    ]


def _migrate_template(project: Project) -> None:
    project.itkit("set-up", "--abandon")


def _keep(project: Project) -> float:
    """Leave a kept schema; return its oid."""
    return project.itkit("set-up")["schema"]


def _clone(project: Project) -> Measured:
    """Set up in a clone, and end without having kept it."""
    return project.itkit("set-up", "--abandon")


def _claim(project: Project, kept: float) -> Measured:
    """Set up in the schema that the run before has kept, and keep it again."""
    claimed = project.itkit("set-up")
    if claimed["schema"] != kept:
        raise RuntimeError(f"{project.name}: the kept schema was not claimed")
    return claimed


def _keepdb(project: Project) -> Measured:
    return project.django("set-up", "--keepdb")


def _within_budget(name: str, megabytes: float, budget: float) -> Row:
    return Row(name=name, ours=megabytes, peer=budget, unit="MB", bound="max", target=1.0)

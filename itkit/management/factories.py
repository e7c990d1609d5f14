"""Checks factories in a database of their own, and plants scenarios, outside of tests."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.conf import settings
from django.core.management import call_command
from django.db import connections, transaction
from django.test.runner import DiscoverRunner
from rich.table import Column, Table

from itkit import environment
from itkit.core import names, seed, urls
from itkit.data import progress
from itkit.data.factories import factories
from itkit.data.lint import Verdict, verdicts
from itkit.data.manager import TestDataManager
from itkit.data.profile import Profile, profiled
from itkit.data.scenarios import scenarios
from itkit.exceptions import DataError

_SHOWN: Final = 30


@contextmanager
def migrated_databases() -> Iterator[None]:
    """Connect Django to migrated databases of a run's own, within a block.

    Raises:
        ItkitError: the databases cannot be made; the message says why.
    """
    environment.start().leaving.status = 0  # no tests were found, so none can be missing
    try:
        runner: Any = DiscoverRunner(verbosity=0, interactive=False)
        runner.setup_test_environment()
        old = runner.setup_databases(aliases=set(connections), serialized_aliases=set())
        try:
            yield
        finally:
            runner.teardown_databases(old)
            runner.teardown_test_environment()
    finally:
        environment.stop()


def lint() -> list[Verdict]:
    """Try all factories in a test database, which is removed afterwards."""
    with migrated_databases():
        return list(verdicts())


def lint_table(found: list[Verdict]) -> Table:
    """Return the table of the verdicts."""
    table = Table("factory", "state", *_numbers("rows", "queries", "ms"), "problems")
    for verdict in found:
        table.add_row(
            verdict.factory,
            verdict.state,
            str(verdict.rows),
            str(verdict.queries),
            f"{verdict.milliseconds:.1f}",
            "\n".join(verdict.problems) or "none",
        )
    return table


def profile(labels: list[str]) -> tuple[Profile, int]:
    """Run tests with --integration; return the costs of their factories and the exit code."""
    with profiled() as costs:
        try:
            call_command("test", *labels, integration=True, verbosity=0)
        except SystemExit as ended:
            return costs, int(ended.code or 0)
    return costs, 0


def profile_table(found: Profile) -> Table:
    """Return the table of the costs, the most expensive factory first."""
    table = Table("factory", *_numbers("asked for", "brought along", "s", "own s", "own ms each"))
    costs = sorted(found.costs.items(), key=lambda item: item[1].own_seconds, reverse=True)
    for name, cost in costs[:_SHOWN]:
        count = cost.asked_for + cost.brought_along
        table.add_row(
            name,
            str(cost.asked_for),
            str(cost.brought_along),
            f"{cost.seconds:.2f}",
            f"{cost.own_seconds:.2f}",
            f"{cost.own_seconds / count * 1000:.2f}",
        )
    return table


def plant(name: str, using: str, *, scale: int, seed_text: str | None, force: bool) -> Counter[str]:
    """Make a scenario's rows, which stay in a database; return their number for each model.

    Args:
        name: the name of the scenario.
        using: alias of ``DATABASES``.
        scale: how many times to make them.
        seed_text: the seed of random and unique values; by default a new one.
        force: whether to make them even if the database may be production.

    Raises:
        DataError: the scenario does not exist, the scale is not a number of rows, or the database
            may be production.
    """
    if scale < 1:
        raise DataError(f"--scale is {scale}, expected 1 or more.")
    played = scenarios.find(name)
    if using not in connections:
        raise DataError(
            f"--database is {using!r}, which is none of DATABASES: {list(connections)}."
        )
    if not force:
        _refuse_production(using)
    factories.modules()  # the sequences of factories that are loaded later would begin at 0 again
    seed_text = seed_text or names.new_run_id()
    data = TestDataManager(seed=seed_text, using=using)
    with seed.apart(seed_text, seed_text), transaction.atomic(using=using):
        for _ in progress.counted(f"Playing {name}", scale):
            with data.capture():
                played(data)
    return data.counts()


def _numbers(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]


def _refuse_production(using: str) -> None:
    connection = connections[using]
    host = str(connection.settings_dict.get("HOST") or "")
    reasons = []
    if not settings.DEBUG:
        reasons.append("DEBUG is False")
    if connection.vendor != "sqlite" and not urls.is_local_host(host):
        reasons.append(f"DATABASES[{using!r}] is on {host}")
    if reasons:
        raise DataError(
            f"This may be production: {' and '.join(reasons)}. The rows would stay. If they are "
            "to, add --force."
        )

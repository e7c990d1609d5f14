"""What one process of a measured project does: ``python -m benchmarks.driver STEP [OPTION ...]``.

It is run in the project's directory with its settings, and the last line that it prints is JSON.
The peer and we run the same calls of Django's; ``--integration`` starts itkit's environment before
them, and nothing else. ``django.setup()`` is not in any of the times.
"""

import argparse
import itertools
import json
import os
import statistics
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import django
import psutil

SETTLING_SECONDS = 1.0
ROLLBACKS = 300


def main() -> None:
    """Run one step and print what it has measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--integration", action="store_true", help="in itkit's environment")
    parser.add_argument("--keepdb", action="store_true", help="as manage.py test has it")
    parser.add_argument("--abandon", action="store_true", help="end as if killed: keep nothing")
    parser.add_argument("--rounds", type=int, default=10, help="of the measures of a reset")
    options = parser.parse_args()
    django.setup()
    with _databases(options) as set_up:
        print(json.dumps(set_up | STEPS[options.step](options)), flush=True)
        if options.abandon:
            os._exit(0)


@contextmanager
def _databases(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Set up and tear down as ``manage.py test`` does, and say how long the set-up took."""
    from django.test.runner import DiscoverRunner

    runner = DiscoverRunner(verbosity=0, interactive=False, keepdb=options.keepdb)
    runner.setup_test_environment()
    with _environment(options) as start:
        started = time.perf_counter()
        # As for a suite in which no test asks for serialised rows: fair to Django.
        old_config = runner.setup_databases(aliases={"default"}, serialized_aliases=set())
        set_up = time.perf_counter() - started
        yield {"start": start, "set_up": set_up, "whole": start + set_up}
        runner.teardown_databases(old_config)


@contextmanager
def _environment(options: argparse.Namespace) -> Iterator[float]:
    if not options.integration:
        yield 0.0
        return
    from itkit import environment

    started = time.perf_counter()
    environment.start()
    seconds = time.perf_counter() - started
    try:
        yield seconds
    finally:
        environment.stop()


def _objects(_: argparse.Namespace) -> dict[str, Any]:
    """Count the relations that were set up, and say which schema they are in.

    The oid stays when a schema is renamed, which tells a claimed schema from a new one.
    """
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), current_schema()::regnamespace::oid::int FROM pg_class"
            " WHERE relnamespace = current_schema()::regnamespace"
        )
        objects, schema = cursor.fetchone()
        return {"objects": objects, "schema": schema}


def _idle_memory(_: argparse.Namespace) -> dict[str, Any]:
    """Measure the embedded Postgres while nobody uses it, in MB of its proportional set size."""
    from django.db import connections

    connections.close_all()
    time.sleep(SETTLING_SECONDS)
    processes = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.name().startswith("postgres")
    ]
    assert processes
    return {"megabytes": sum(process.memory_full_info().pss for process in processes) / 1e6}


_TABLE = "CREATE TABLE made_{} (n int)"


def _reset(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what ends a test of each kind, in milliseconds.

    ``written`` and ``clean`` are what Django's TransactionTestCase does after a test, by its own
    method; ``rollback`` and ``rollback_written`` are a TestCase but for its body.
    """
    from writes import SEEDED, write

    seeded = SEEDED.objects.count()
    written = [_seconds_of_teardown(write) for _ in range(options.rounds)]
    clean = [_seconds_of_teardown(lambda: None) for _ in range(options.rounds)]
    if options.integration:
        left = SEEDED.objects.count()
        assert left == seeded > 0, f"{left} rows after the reset, {seeded} before"
    seconds = {
        "written": statistics.median(written),
        "clean": statistics.median(clean),
        "rollback": _seconds_of_rollback(lambda: None),
        "rollback_written": _seconds_of_rollback(write),
    }
    return {name: each * 1000 for name, each in seconds.items()} | _objects(options)


def _alterations(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what ends a test that has altered the structure, in milliseconds.

    It is a step of its own: a fresh clone leaves thousands of dead rows in the catalogue, which
    make all later resets slower until the server removes them.
    """
    from writes import SEEDED

    numbers = itertools.count(time.time_ns())  # a kept database has the tables of earlier rounds
    created, altered = (
        [_seconds_of_teardown(partial(_alter, ddl, numbers)) for _ in range(options.rounds)]
        for ddl in (_TABLE, f"ALTER TABLE {SEEDED._meta.db_table} ADD COLUMN added_{{}} int")
    )
    seconds = {"created": statistics.median(created), "altered": statistics.median(altered)}
    return {name: each * 1000 for name, each in seconds.items()}


def _alter(statement: str, numbers: Iterator[int]) -> None:
    """Execute DDL, of which Django's own database keeps what it has made."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement.format(next(numbers)))


def _seconds_of_teardown(body: Callable[[], None]) -> float:
    from django.test import TransactionTestCase

    class Committed(TransactionTestCase):
        def test(self) -> None: ...

    test = Committed("test")
    body()
    started = time.perf_counter()
    test._fixture_teardown()
    return time.perf_counter() - started


def _seconds_of_rollback(body: Callable[[], None]) -> float:
    from django.test import TestCase

    seconds: list[float] = []

    class RolledBack(TestCase):
        def __call__(self, result: unittest.TestResult | None = None) -> None:
            # Django begins and rolls back around run(), so a result's clock would miss both.
            started = time.perf_counter()
            super().__call__(result)
            seconds.append(time.perf_counter() - started - self.seconds_of_body)

        def test(self) -> None:
            started = time.perf_counter()
            body()
            self.seconds_of_body = time.perf_counter() - started

    result = unittest.TestResult()
    unittest.TestSuite(RolledBack("test") for _ in range(ROLLBACKS)).run(result)
    assert result.wasSuccessful(), result.errors + result.failures
    return statistics.median(seconds)


STEPS = {
    "set-up": _objects,
    "idle-memory": _idle_memory,
    "reset": _reset,
    "alterations": _alterations,
}

if __name__ == "__main__":
    main()

"""The doors into a project's tests, and the scenarios that each of them must pass."""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from operator import ne
from typing import Any

import pytest

from tests.support.projects import Project, Result

TESTS = """
    import threading

    from django.core.cache import cache, caches
    from django.db import connection, transaction
    from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase, tag
    from django_redis import get_redis_connection

    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop import gateways
    from shop.models import Currency, Customer


    class Rows(IntegrationTestCase):
        def test_a_row_is_committed_for_other_threads(self):
            self.data.create(Customer, email="a@example.com")
            seen = []

            def look():
                seen.append(Customer.objects.count())
                connection.close()

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            self.assertEqual(seen, [1])

        def test_b_rows_of_another_test_are_gone(self):
            self.assertFalse(Customer.objects.exists())
            self.data.create(Customer, email="a@example.com")

        def test_c_rows_of_migrations_are_there(self):
            self.assertEqual([currency.code for currency in Currency.objects.all()], ["EUR"])

        def test_on_commit_hooks_run(self):
            ran = []
            with transaction.atomic():
                transaction.on_commit(lambda: ran.append(1))
            self.assertEqual(ran, [1])

        def test_the_schema_is_ours_and_public_is_not_on_the_path(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_schema(), current_setting('search_path')")
                schema, path = cursor.fetchone()
            self.assertRegex(schema, r"^itkit_[0-9a-f]{8}_g?w[0-9]+$")
            self.assertNotIn("public", path)


    class Keys(IntegrationTestCase):
        def test_a_keys_are_prefixed_and_seen_by_all_clients(self):
            cache.set("k", "v")
            caches["plain"].set("k", "w")
            self.assertEqual((cache.get("k"), caches["plain"].get("k")), ("v", "w"))
            self.assertEqual(get_redis_connection().keys("*"), [b":1:k"])

        def test_b_keys_of_another_test_are_gone(self):
            self.assertIsNone(cache.get("k"))
            cache.set("k", "v")
            cache.clear()
            self.assertIsNone(cache.get("k"))


    class Fakes(IntegrationTestCase):
        def test_a_a_fake_answers_and_records(self):
            self.backends.payments.charge.returns("txn")
            self.assertEqual(gateways.Stripe().charge(5, token="t"), "txn")
            self.backends.payments.charge.assert_called_once_with(amount=5, token="t")
            gateways.send_sms("1", "hello")

        def test_b_calls_of_another_test_are_gone(self):
            self.assertEqual(self.backends.payments.call_count("charge"), 0)


    class Plain(TestCase):
        def test_a_rollback_case_runs_in_the_schema(self):
            Customer.objects.create(email="b@example.com")
            self.assertEqual(Customer.objects.count(), 1)


    class RolledBack(IntegrationMixin, TestCase):
        def test_a_row_is_not_committed(self):
            self.data.create(Customer, email="d@example.com")
            self.backends.payments.charge.returns("txn")
            self.assertTrue(connection.in_atomic_block)


    class Live(LiveServerTestCase):
        databases = "__all__"

        @tag("integration")
        def test_a_live_server_sees_the_rows(self):
            from urllib.request import urlopen

            Customer.objects.create(email="c@example.com")
            with urlopen(self.live_server_url + "/count/") as answer:
                self.assertEqual(answer.read(), b"1")


    class Nothing(SimpleTestCase):
        def test_needs_no_database(self):
            self.assertEqual(1 + 1, 2)
"""

DOORS = {
    "django": lambda project, *args, **env: project.test("--integration", *args, **env),
    "django, two forked workers": lambda project, *args, **env: project.test(
        "--integration", "--parallel", "2", *args, START_METHOD="fork", **env
    ),
    "django, two spawned workers": lambda project, *args, **env: project.test(
        "--integration", "--parallel", "2", *args, START_METHOD="spawn", **env
    ),
    "pytest": lambda project, *args, **env: project.pytest("--integration", *args, **env),
    "pytest, two xdist workers": lambda project, *args, **env: project.pytest(
        "--integration", "-n", "2", *args, **env
    ),
}
SERIAL = ["django", "pytest"]

ABOUT_DOORS = (
    "tests/doors/",
    "tests/environment/test_child.py::test_a_process_is_in_the_schema_and_under_the_prefix_of_its_test",
)
"""Tests of the doors themselves, of which each combination is another test."""


def slow(*values: object) -> Any:
    """Return a parameter with which a test is a repetition, and slow."""
    return pytest.param(*values, marks=pytest.mark.slow)


def mark_repetitions(items: list[pytest.Item]) -> None:
    """Mark tests as slow that repeat another one by another door, or in the other isolation.

    One combination of door and isolation runs by default. The name of the test and its other
    parameters decide which one, so that each combination has its share of the tests.

    Of the others, ``-m slow`` runs the one that `opposite` names, and ``-m ""`` all of them.
    """
    repetitions: dict[str, list[pytest.Function]] = defaultdict(list)
    known: dict[str, list[object]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            parameters = dict(item.callspec.params)
            combination = [
                parameters.pop(name) for name in ("door", "isolation") if name in parameters
            ]
            if combination:
                name = item.nodeid.partition("[")[0]
                others = [
                    (parameter, _number(value, known[f"{name} {parameter}"]))
                    for parameter, value in sorted(parameters.items())
                ]
                repetitions[f"{name} {others}"].append(item)
    left_out: set[pytest.Item] = set()
    for name, repeated in repetitions.items():
        number = zlib.crc32(name.encode())
        chosen = number % len(repeated)
        if not any(item.get_closest_marker("slow") for item in repeated):
            for item in repeated[:chosen] + repeated[chosen + 1 :]:
                item.add_marker(pytest.mark.slow)
        if not name.startswith(ABOUT_DOORS):
            kept = {chosen, opposite([*map(_combination, repeated)], chosen, number)}
            left_out |= {item for position, item in enumerate(repeated) if position not in kept}
    if left_out and items[0].config.option.markexpr:
        items[0].config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def _combination(item: pytest.Function) -> tuple[str, str]:
    given = item.callspec.params
    return str(given.get("door", "")), str(given.get("isolation", ""))


def opposite(combinations: Sequence[tuple[str, str]], chosen: int, number: int) -> int:
    """Return the combination that has least in common with the one that runs by default.

    A combination has a runner, workers or none, and an isolation. Where all of them can differ, both
    combinations together meet each runner, both kinds of processes and each isolation.

    Args:
        combinations: door and isolation of each repetition of one test.
        chosen: the position of the one that runs by default.
        number: of the test, so that equal candidates have their share of the tests.
    """
    values = [_values(*combination) for combination in combinations]

    def differences(position: int) -> tuple[int, int]:
        differing = sum(map(ne, values[position], values[chosen]))
        return differing, (position + number) % len(values)

    return max(range(len(values)), key=differences)


def _values(door: str, isolation: str) -> tuple[str, bool, str]:
    runner, _, workers = door.partition(",")
    return runner, bool(workers), isolation


def _number(value: object, known: list[object]) -> int:
    """Return which of a parameter's values one is; the indices of pytest are those of the tests."""
    for number, other in enumerate(known):
        if other is value:
            return number
    known.append(value)
    return len(known) - 1


def enter(door: str, project: Project, *args: str, **env: str) -> Result:
    return DOORS[door](project, *args, **env)


def write_tests(project: Project, text: str) -> None:
    project.write("shop/tests/__init__.py", "")
    project.write("shop/tests/test_shop.py", text)

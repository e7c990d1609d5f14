"""Budgets: no more statements, commands and calls than the committed file keeps."""

import json
import re

import pytest

from itkit import budget
from itkit.exceptions import BudgetError, ItkitError
from itkit.observation import budgets
from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

TESTS = """
    import asyncio
    import os
    import threading

    from django.contrib.auth.models import User
    from django.contrib.contenttypes.models import ContentType
    from django.core.cache import cache
    from django.db import connection, transaction
    from django.test import TestCase
    from django_redis import get_redis_connection

    from itkit import budget
    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop import gateways
    from shop.models import Customer

    MORE = int(os.environ.get("MORE", "0"))


    def look(times):
        for _ in range(times):
            Customer.objects.count()


    class Warm(IntegrationMixin, TestCase):
        def test_a_content_type_is_remembered(self):
            ContentType.objects.get_for_model(Customer)

        def test_b_of_a_budget_it_is_asked_for(self):
            with self.budget("content types"):
                ContentType.objects.get_for_model(Customer)
                ContentType.objects.get_for_model(Customer)


    class Budgets(IntegrationTestCase):
        def test_all_kinds(self):
            look(2)  # before the block
            self.backends.payments.charge.returns("txn_1")
            with self.budget("all kinds"):
                with transaction.atomic():
                    Customer.objects.create(email="a@example.com")
                look(2 + MORE)
                cache.set("k", 1)
                cache.get("k")
                gateways.Stripe().charge(5, token="t")

        def test_threads_count(self):
            def work():
                look(1)
                connection.close()

            with self.budget("threads"):
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()

        @budget
        def test_decorated(self):
            look(1)

        def test_decorated_coroutine(self):
            @budget("coroutine")
            async def work():
                return await Customer.objects.acount()

            self.assertEqual(asyncio.run(work()), 0)

        def test_script_1(self):
            self.run_script()

        def test_script_2(self):
            self.run_script()

        def run_script(self):
            text = f"return redis.call('GET', KEYS[1]) -- {os.getpid()}, so not loaded yet"
            script = get_redis_connection().register_script(text)
            with self.budget("script"):
                script(keys=["k"])
                script(keys=["k"])

        def test_one_of_two(self):
            with self.budget("two"):
                look(1)

        def test_two_of_two(self):
            with self.budget("two"):
                look(2)

        def test_an_error_is_not_hidden(self):
            with self.assertRaises(ZeroDivisionError), self.budget("never kept"):
                1 / 0
"""
KEPT = {
    "all kinds": {
        "calls": {"payments.charge": 1},
        "commands": {"GET": 1, "SET": 1},
        "queries": {"INSERT shop_customer": 1, "SELECT shop_customer": 2},
    },
    "content types": {"queries": {"SELECT django_content_type": 1}},
    "coroutine": {"queries": {"SELECT shop_customer": 1}},
    "script": {"commands": {"EVALSHA": 2}},
    "shop.tests.test_shop.Budgets.test_decorated": {"queries": {"SELECT shop_customer": 1}},
    "threads": {"queries": {"SELECT shop_customer": 1}},
    "two": {"queries": {"SELECT shop_customer": 2}},
}
UPDATE = "--itkit-budgets=update"


@pytest.fixture
def budgeted(project: Project) -> Project:
    write_tests(project, TESTS)
    return project


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize(
    "door",
    DOORS,
)
@pytest.mark.slow
def test_the_file_is_the_same_by_each_door_and_its_figures_hold(
    door: str, budgeted: Project
) -> None:
    file = budgeted.path / "budgets.json"
    file.write_text('{"of another branch": {"calls": {"x": 1}}, "two": {"queries": {"x": 7}}}')

    assert enter(door, budgeted, UPDATE).code == 0
    written = file.read_text()
    assert json.loads(written) == {**KEPT, "of another branch": {"calls": {"x": 1}}}
    assert written == json.dumps(json.loads(written), indent=2, sort_keys=True) + "\n"

    held = enter(door, budgeted)
    assert held.code == 0, held.output
    assert "budget 'two': SELECT shop_customer: 1, kept are 2; --itkit-budgets=update lowers" in (
        held.output
    )
    assert file.read_text() == written
    assert [path.name for path in budgeted.path.glob("*budgets*")] == ["budgets.json"]


@pytest.mark.usefixtures("shared_servers")
def test_more_fails_with_the_difference_and_its_lines(budgeted: Project) -> None:
    without = budgeted.test("--integration", "shop.tests.test_shop.Budgets.test_all_kinds")
    assert without.code == 1
    assert "budgets.json has no budget 'all kinds'." in without.output
    assert "INSERT shop_customer: 1" in without.output

    (budgeted.path / "budgets.json").write_text(json.dumps(KEPT))
    more = budgeted.test("--integration", MORE="2")
    assert more.code == 1
    assert "The budget 'all kinds' in budgets.json is exceeded:" in more.output
    assert "SELECT shop_customer: 4, kept are 2" in more.output
    assert re.search(r"  4 x at shop/tests/test_shop.py:\d+ in look", more.output)
    assert "FAILED (failures=1)" in more.output

    budgeted.settings('ITKIT["REPORT"] = {"BUDGETS": "kept/other.json"}')
    (budgeted.path / "kept").mkdir()
    (budgeted.path / "kept/other.json").write_text("<<<<<<< HEAD")
    broken = budgeted.test("--integration", "shop.tests.test_shop.Budgets.test_all_kinds")
    assert "kept/other.json cannot be read" in broken.output


def test_without_a_run_there_is_nothing_to_count() -> None:
    with pytest.raises(ItkitError, match="runs with --integration"), budget("x"):
        pass


def test_a_file_that_is_no_table_of_figures_is_named(tmp_path) -> None:
    for text in ("[]", '{"a": 1}', '{"a": {"queries": {"x": "many"}}}'):
        (tmp_path / "budgets.json").write_text(text)
        with pytest.raises(BudgetError, match="cannot be read"):
            budgets._read(tmp_path / "budgets.json")

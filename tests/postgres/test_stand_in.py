"""A project on SQLite runs its tests on Postgres, by one setting."""

import sqlite3

import pytest

from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    import subprocess
    import sys

    from django.db import connection, connections, transaction
    from django.test import TestCase

    from itkit.test import IntegrationTestCase
    from shop.models import Currency, Customer


    class Rows(IntegrationTestCase):
        databases = "__all__"

        def test_a_postgres_answers(self):
            self.assertEqual(connection.vendor, "postgresql")
            self.assertEqual(connections["other"].vendor, "postgresql")
            self.data.create(Customer)
            with transaction.atomic():
                self.assertEqual(Customer.objects.select_for_update().count(), 1)
            self.assertEqual(Currency.objects.get().code, "EUR")
            Currency.objects.using("other").create(code="USD")
            self.assertEqual(Currency.objects.count(), 1)
            self.assertIn("itkit_", connection.settings_dict["OPTIONS"]["options"])

        def test_b_a_process_joins(self):
            Customer.objects.create(email="a@example.com")
            code = "from shop.models import Customer; print('sees', Customer.objects.count())"
            done = subprocess.run(
                [sys.executable, "manage.py", "shell", "-c", code], capture_output=True, text=True
            )
            self.assertIn("sees 1", done.stdout + done.stderr)


    class RolledBack(TestCase):
        def test_rolled_back(self):
            Customer.objects.create(email="b@example.com")
            self.assertEqual((Customer.objects.count(), connection.vendor), (1, "postgresql"))
"""
SETTINGS = """
    from pathlib import Path

    SQLITE = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 3}}
    DATABASES = {
        "default": SQLITE | {"NAME": Path(__file__).with_name("db.sqlite3"), "TEST": {"NAME": "t.sqlite3"}},
        "other": SQLITE | {"NAME": ":memory:"},
    }
"""


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.slow
def test_the_tests_of_a_project_on_sqlite_run_on_postgres(door: str, project: Project) -> None:
    project.settings(SETTINGS)
    write_tests(project, TESTS)
    database = project.path / "db.sqlite3"
    with sqlite3.connect(database) as mine:
        mine.execute("CREATE TABLE mine (n int)")
    before = database.read_bytes()
    result = enter(door, project, ITKIT_POSTGRES_REPLACE_SQLITE="1")
    assert result.counts == {"passed": 3}, result.output
    assert "left to Django" not in result.output
    assert database.read_bytes() == before
    assert not (project.path / "t.sqlite3").exists()


def test_without_it_the_start_line_says_how(project: Project) -> None:
    project.settings(SETTINGS)
    write_tests(project, "")
    result = project.test("--integration")
    assert (
        "database 'default' is sqlite: left to Django"
        ' (ITKIT = {"POSTGRES": {"REPLACE_SQLITE": True}} runs its tests on Postgres)'
    ) in result.output


def test_the_process_has_sqlite_again_after_the_run(project: Project) -> None:
    project.settings(f'{SETTINGS}    ITKIT["POSTGRES"] = {{"REPLACE_SQLITE": True}}')
    project.write(
        "check.py",
        """
        import os
        import django

        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        django.setup()
        from django.db import connection
        from itkit import environment

        environment.start()
        print("during", connection.vendor)
        environment.stop()
        environment.reopen()
        print("after", connection.vendor, connection.settings_dict["NAME"].name)
        """,
    )
    result = project.run("check.py")
    assert "during postgresql\nafter sqlite db.sqlite3" in result.output, result.output

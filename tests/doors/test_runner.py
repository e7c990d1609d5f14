"""Django's door alone: its options, the project's own runner, several databases."""

import textwrap

import pytest

from tests.support.doors import TESTS, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")


def test_djangos_own_options_keep_working(project: Project) -> None:
    write_tests(project, TESTS)
    for options, passed in (
        (["--tag", "integration", "--shuffle", "1", "--buffer", "--debug-sql", "--timing"], 11),
        (["--exclude-tag", "integration", "--keepdb", "--reverse", "--noinput", "-v", "2"], 2),
        (
            [
                *("-k", "on_commit", "-k", "keys", "--failfast", "--debug-mode", "--pdb"),
                *("--no-faulthandler", "shop.tests.test_shop.Fakes", "shop.tests.test_shop.Keys"),
            ],
            2,
        ),
    ):
        result = project.test("--integration", *options)
        assert result.counts == {"passed": passed}, f"{options}\n{result.output}"


def test_a_project_runner_keeps_its_own_options(project: Project) -> None:
    write_tests(project, TESTS)
    project.write(
        "runners.py",
        """
        from django.test.runner import DiscoverRunner

        class Loud(DiscoverRunner):
            def __init__(self, *args, shout=False, **kwargs):
                super().__init__(*args, **kwargs)
                self.shout = shout

            @classmethod
            def add_arguments(cls, parser):
                super().add_arguments(parser)
                parser.add_argument("--shout", action="store_true")

            def run_tests(self, *args, **kwargs):
                print("LOUD" if self.shout else "quiet")
                return super().run_tests(*args, **kwargs)
        """,
    )
    some = ("shop.tests.test_shop.Fakes", "shop.tests.test_shop.Plain")
    result = project.test("--integration", "--testrunner", "runners.Loud", "--shout", *some)
    assert "LOUD" in result.output
    assert result.counts == {"passed": 3}, result.output
    project.settings('TEST_RUNNER = "runners.Loud"')
    result = project.test("--integration", "--shout", "--parallel", "2", *some)
    assert "LOUD" in result.output
    assert result.counts == {"passed": 3}, result.output
    project.settings('TEST_RUNNER = "itkit.runner.IntegrationRunner"')
    assert project.test("--integration", *some).counts == {"passed": 3}
    assert "--integration" in project.manage("help", "test").output


def test_another_apps_test_command_is_reported(project: Project) -> None:
    project.write("other/__init__.py", "")
    project.write("other/management/__init__.py", "")
    project.write("other/management/commands/__init__.py", "")
    project.write(
        "other/management/commands/test.py",
        "from django.core.management.commands.test import Command",
    )
    project.settings('INSTALLED_APPS = ["other", *INSTALLED_APPS]')
    result = project.manage("check")
    assert "itkit.W001" in result.output
    project.settings('TEST_RUNNER = "itkit.runner.IntegrationRunner"')
    assert "itkit.W001" not in project.manage("check").output


@pytest.mark.parametrize("door", ["django", "django, two forked workers"])
def test_other_databases_are_left_to_django_and_the_start_line_says_so(
    door: str, project: Project
) -> None:
    write_tests(
        project,
        textwrap.dedent("""
        from django.db import connections
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        class Both(IntegrationTestCase):
            def test_each_alias_is_a_database_of_its_own(self):
                Customer.objects.create(email="a@example.com")
                Customer.objects.using("second").create(email="b@example.com")
                for alias in ("default", "second", "lite"):
                    self.assertEqual(
                        Customer.objects.using(alias).count(), 0 if alias == "lite" else 1
                    )
                self.assertEqual(connections["replica"].settings_dict["OPTIONS"]["options"],
                                 connections["default"].settings_dict["OPTIONS"]["options"])

        class BothOfAnotherWorker(Both):
            pass
        """),
    )
    project.settings("""
        DATABASES["second"] = {**DATABASES["default"], "HOST": "127.0.0.2"}
        DATABASES["replica"] = {**DATABASES["default"], "TEST": {"MIRROR": "default"}}
        DATABASES["lite"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    """)
    result = enter(door, project)
    assert result.counts == {"passed": 2}, result.output
    assert "database 'lite' is sqlite: left to Django" in result.output


def test_a_process_that_a_test_forks_may_leave_by_any_door(project: Project) -> None:
    write_tests(
        project,
        """
        import os
        import sys
        from django.core.cache import cache
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        class Forks(IntegrationTestCase):
            def test_a(self):
                cache.set("k", "v")
                if os.fork() == 0:
                    sys.exit(0)  # unittest takes it for an error and goes on: to the end of the run
                os.wait()
                Customer.objects.create(email="a@example.com")
                self.assertEqual(cache.get("k"), "v")

            def test_b(self):
                self.assertFalse(Customer.objects.exists())
        """,
    )
    result = project.test("--integration")
    assert result.code == 0, result.output
    assert result.output.count("Ran 2 tests") == 2  # the child's and the parent's
    assert project.leftovers() == []


def test_a_run_inside_of_a_run_is_refused_in_the_same_process(project: Project) -> None:
    write_tests(
        project,
        """
        import os
        from django.core.management import call_command
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        class Nested(IntegrationTestCase):
            def test_a(self):
                before = os.environ["ITKIT_PAYLOAD"]
                with self.assertRaisesRegex(SystemExit, "is in the run .* already"):
                    call_command("test", "no.such.test", integration=True)
                self.assertEqual(os.environ["ITKIT_PAYLOAD"], before)
                Customer.objects.create(email="a@example.com")
        """,
    )
    result = project.test("--integration")
    assert result.counts == {"passed": 1}, result.output

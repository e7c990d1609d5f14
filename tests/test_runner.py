"""Django's door alone: its options, the project's own runner, several databases."""

import textwrap

from tests.doors import TESTS, write_tests
from tests.projects import Project


def test_djangos_own_options_keep_working(project: Project) -> None:
    write_tests(project, TESTS)
    for options, passed in (
        (["--tag", "integration"], 11),
        (["--exclude-tag", "integration"], 2),
        (["-k", "on_commit"], 1),
        (["shop.tests.test_shop.Keys"], 2),
        (["--shuffle", "1", "--buffer", "--debug-sql", "--failfast", "--timing"], 13),
        (["--keepdb", "--reverse", "--noinput", "-v", "2"], 13),
        (["--debug-mode", "--pdb", "--no-faulthandler", "shop.tests.test_shop.Rows"], 5),
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
    result = project.test("--integration", "--testrunner", "runners.Loud", "--shout")
    assert "LOUD" in result.output
    assert result.counts == {"passed": 13}, result.output
    project.settings('TEST_RUNNER = "runners.Loud"')
    result = project.test("--integration", "--shout", "--parallel", "2")
    assert "LOUD" in result.output
    assert result.counts == {"passed": 13}, result.output
    project.settings('TEST_RUNNER = "itkit.runner.IntegrationRunner"')
    assert project.test("--integration").counts == {"passed": 13}
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


def test_other_databases_are_left_to_django_and_the_start_line_says_so(project: Project) -> None:
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
        """),
    )
    project.settings("""
        DATABASES["second"] = {**DATABASES["default"], "HOST": "127.0.0.2"}
        DATABASES["replica"] = {**DATABASES["default"], "TEST": {"MIRROR": "default"}}
        DATABASES["lite"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    """)
    for options in ([], ["--parallel", "2"]):
        result = project.test("--integration", *options)
        assert result.counts == {"passed": 1}, result.output
        assert "database 'lite' is sqlite: left to Django" in result.output

"""``dbshell`` from a test reaches the place of its worker."""

import pytest

from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("beside_a_developer")

TESTS = """
from django.core.management import call_command
from django.db import connection

from itkit.test import IntegrationTestCase
from shop.models import Customer


class ShellTests(IntegrationTestCase):
    def test_shell(self):
        Customer.objects.create(email="ada@example.org")
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_database() || '.' || current_schema()")
            print("\\ntest in", cursor.fetchone()[0], flush=True)
        call_command(
            "dbshell", "--", "-tAc",
            "SELECT 'psql in ' || current_database() || '.' || current_schema(),"
            " (SELECT email FROM shop_customer)",
        )
"""


def shown(output: str, who: str) -> str:
    return next(line for line in output.splitlines() if line.startswith(f"{who} in "))


def test_psql_runs_in_the_schema_of_the_test(project: Project) -> None:
    project.write("shop/tests.py", TESTS)
    result = project.test("--integration")
    assert result.counts == {"passed": 1}, result.output
    place = shown(result.output, "test").removeprefix("test in ")
    assert ".itkit_" in place
    assert shown(result.output, "psql") == f"psql in {place}|ada@example.org"


def test_psql_runs_in_the_database_of_the_test(project: Project) -> None:
    """Here there are no startup options, unless the project has some of its own."""
    project.settings(
        """
        ITKIT |= {"POSTGRES": {"ISOLATION": "database"}}
        DATABASES["default"]["OPTIONS"] = {"options": "-c search_path=public,pg_catalog"}
        """
    )
    project.write("shop/tests.py", TESTS)
    result = project.test("--integration")
    assert result.counts == {"passed": 1}, result.output
    place = shown(result.output, "test").removeprefix("test in ")
    assert place.startswith("itkit_")
    assert shown(result.output, "psql") == f"psql in {place}|ada@example.org"


def test_the_shell_is_djangos_again_after_the_run(project: Project, postgres_url: str) -> None:
    project.write(
        "check.py",
        """
        import os
        import django

        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        django.setup()
        from django.db import connections
        from itkit.postgres import Routing, schema_creation

        before = connections["default"].client
        routing = Routing(
            {"default": os.environ["POSTGRES"]}, run="0123abcd", worker="w0", owned=True, migrate=True
        )
        routing.install(schema_creation)
        routed = connections["default"].client
        _, env = routed.settings_to_cmd_args_env(connections["default"].settings_dict, [])
        assert "itkit_0123abcd_w0" in env["PGOPTIONS"], env
        assert isinstance(routed, type(before)) and routed is not before
        routing.uninstall()
        assert connections["default"].client is before
        _, env = before.settings_to_cmd_args_env(connections["default"].settings_dict, [])
        assert not env, env
        """,
    )
    result = project.run("check.py", POSTGRES=postgres_url)
    assert result.code == 0, result.output

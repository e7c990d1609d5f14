"""What a project and every pytest of the machine pay for itkit being installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project

HEAVY = ["django.test", "psycopg", "redis", "factory", "model_bakery", "django.db.models"]


@pytest.mark.parametrize(
    "module", ["itkit", "itkit.pytest_plugin", "itkit.apps", "itkit.exceptions"]
)
def test_an_import_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


def test_a_management_command_loads_no_test_framework(tmp_path) -> None:
    code = """
import sys, django
from django.conf import settings
settings.configure(INSTALLED_APPS=["itkit"])
django.setup()
from django.core.checks import run_checks
run_checks()
print(*[name for name in ("django.test", "psycopg", "redis", "pytest") if name in sys.modules])
"""
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert loaded.stdout.split() == []


@pytest.mark.parametrize(
    "module", ["itkit.test", "itkit.runner", "itkit.management.commands.flush"]
)
def test_a_run_without_integration_pays_for_no_server(module: str) -> None:
    code = f"""
import sys, django
from django.conf import settings
settings.configure(INSTALLED_APPS=["itkit"])
django.setup()
import {module}
print(*[name for name in ("psycopg", "redis", "factory", "itkit.services") if name in sys.modules])
"""
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


def test_pytest_does_not_rewrite_the_asserts_of_itkit(tmp_path: Path) -> None:
    # What pytest does with the modules of an installed distribution that has a plugin.
    (tmp_path / "marks.py").write_text("import pytest; pytest.register_assert_rewrite('itkit')")
    (tmp_path / "test_loaders.py").write_text("""
import sys
import itkit.core.urls

def test_loaders(capsys):
    with capsys.disabled():
        print("loaders:", *(type(sys.modules[name].__loader__).__name__ for name in
            ("itkit.core.urls", __name__)))
""")
    arguments = ["-m", "pytest", "-p", "marks", "-p", "no:cacheprovider", "-p", "no:django"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("PYTEST_PLUGINS", None)
    ran = subprocess.run(
        [sys.executable, *arguments, "--rootdir", tmp_path, tmp_path],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert "loaders: SourceFileLoader AssertionRewritingHook" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_a_run_imports_no_library_that_it_does_not_need(project: Project, door: str) -> None:
    project.warm = None  # it has imported all of them
    del project.env["ITKIT_REDIS_URL"]
    project.settings("del CACHES")
    write_tests(
        project,
        """
        import sys

        from itkit import EscapeError
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        class Shop(IntegrationTestCase):
            def test_a_neither_factory_boy_nor_redis_py(self):
                self.data.create(Customer)
                found = {"factory", "redis"} & sys.modules.keys()
                self.assertEqual(found, set())

            def test_b_redis_py_is_refused_whenever_it_comes(self):
                import redis
                with self.assertRaisesRegex(EscapeError, "no setting names a Redis"):
                    redis.Redis().set("k", "v")
        """,
    )
    result = enter(door, project)
    assert result.counts == {"passed": 2}, result.output

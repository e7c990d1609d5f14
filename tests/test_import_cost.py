"""What a project and every pytest of the machine pay for itkit being installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project

HEAVY = ["django.test", "psycopg", "redis", "factory", "model_bakery", "django.db.models"]


SET_UP = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["itkit"])
django.setup()
"""


def loaded(heavy: list[str], *steps: str, cwd: Path | None = None) -> dict[str, list[str]]:
    """Return, for each line of a Python's code, what of heavy modules is loaded after it."""
    found = f"[name for name in {heavy} if name in sys.modules]"
    code = ["import json, sys", "after = {}"]
    for step in steps:
        code += [step, f"after[{step!r}] = {found}"]
    code.append("print(json.dumps(after))")
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        capture_output=True, text=True, check=True, cwd=cwd,
    )  # fmt: skip
    return json.loads(ran.stdout)


def test_an_import_loads_nothing_heavy() -> None:
    modules = ["itkit", "itkit.pytest_plugin", "itkit.apps", "itkit.exceptions"]
    steps = [f"import {module}" for module in modules]
    assert loaded(HEAVY, *steps) == {step: [] for step in steps}


def test_a_management_command_loads_no_test_framework(tmp_path: Path) -> None:
    frameworks = ["django.test", "psycopg", "redis", "pytest"]
    checks = "from django.core.checks import run_checks; run_checks()"
    assert loaded(frameworks, SET_UP, checks, cwd=tmp_path) == {SET_UP: [], checks: []}


def test_a_run_without_integration_pays_for_no_server() -> None:
    parts = ["psycopg", "redis", "factory", "itkit.services"]
    modules = ["itkit.management.commands.flush", "itkit.runner", "itkit.test"]
    steps = [SET_UP, *(f"import {module}" for module in modules)]
    assert loaded(parts, *steps) == {step: [] for step in steps}


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
    without = ("cacheprovider", "django", "anyio", "faker", "hypothesispytest", "respx", "xdist")
    arguments = ["-m", "pytest", "-p", "marks", *(f"-pno:{name}" for name in without)]
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

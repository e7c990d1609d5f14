"""``manage.py itkit shell`` and ``dbshell`` join a test that stands still in another terminal."""

import re
import shutil

import pytest

from tests.support.doors import write_tests
from tests.support.projects import Project, wait_until

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    import pdb
    import time
    from pathlib import Path

    from django.core.cache import cache

    from itkit.test import IntegrationTestCase
    from shop.models import Customer


    class Stands(IntegrationTestCase):
        def test_stands(self):
            Customer.objects.create(email="here@example.com")
            cache.set("mine", "v")
            pdb.Pdb(readrc=False)  # as --pdb makes one
            Path("stands").touch()
            while not Path("go").exists():
                time.sleep(0.05)
            self.assertEqual(Customer.objects.count(), 2)
            self.assertEqual(self.backends.sms.call_count, 1)
"""
LOOK = """
from django.core.cache import cache
from shop import gateways
from shop.models import Customer
print("sees", [found.email for found in Customer.objects.all()], cache.get("mine"))
Customer.objects.create(email="theirs@example.com")
gateways.send_sms("1", "faked")
"""


@pytest.mark.parametrize("door", ["django", "pytest"])
def test_another_terminal_joins_the_test(door: str, project: Project) -> None:
    write_tests(project, TESTS)
    command = ["manage.py", "test"] if door == "django" else ["-m", "pytest", "shop"]
    started = project.start(*command, "--integration")
    try:
        assert wait_until((project.path / "stands").exists)
        shell = project.manage("itkit", "shell", "-c", LOOK)
        psql = ["-tAc", "SELECT 'psql sees ' || count(*) FROM shop_customer"]
        dbshell = project.manage("itkit", "dbshell", "--", *psql)
        wrong = project.manage("itkit", "shell", "--worker", "gw7", "-c", LOOK)
    finally:
        (project.path / "go").touch()
        result = project.finish(started)
    assert result.counts == {"passed": 1}, f"{result.output}\n{shell.output}"
    assert "sees ['here@example.com'] v" in shell.output
    if shutil.which("psql"):
        assert "psql sees 2" in dbshell.output
    assert wrong.code == 1
    assert re.search(
        r"No worker 'gw7' runs tests of this project; there is:\n  --worker w0: process \d+$",
        wrong.output,
    ), wrong.output
    over = project.manage("itkit", "shell", "-c", LOOK)
    assert "No run of this project's tests is under way" in over.output
    assert over.code == 1


def test_no_one_is_joined_by_another_project(project: Project) -> None:
    write_tests(project, TESTS)
    started = project.start("manage.py", "test", "--integration")
    try:
        assert wait_until((project.path / "stands").exists)
        project.write("elsewhere/settings.py", (project.path / "settings.py").read_text())
        other = project.manage(
            "itkit", "shell", "-c", LOOK, DJANGO_SETTINGS_MODULE="elsewhere.settings"
        )
    finally:
        (project.path / "go").touch()
        project.finish(started)
    assert "No run of this project's tests is under way" in other.output


def test_two_runs_are_told_apart_by_their_processes(project: Project) -> None:
    write_tests(project, TESTS)
    stands = project.path / "stands"
    runs = []
    try:
        for _ in range(2):
            runs.append(project.start("manage.py", "test", "--integration"))
            assert wait_until(stands.exists)
            stands.unlink()
        several = project.manage("itkit", "shell", "-c", LOOK)
        chosen = re.findall(r"^  --worker (\d+): w0$", several.output, re.MULTILINE)
        shell = project.manage("itkit", "shell", "--worker", chosen[0], "-c", LOOK)
    finally:
        (project.path / "go").touch()
        for started in runs:
            project.finish(started)
    assert "There are several:\n  --worker " in several.output, several.output
    assert len(set(chosen)) == 2
    assert "sees ['here@example.com'] v" in shell.output, shell.output

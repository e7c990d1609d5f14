"""What a run tells before its first test: what it runs on, how far migrating is, why that failed."""

import contextlib
import os
import pty
import re
import time

import pytest

from itkit.postgres.migrations import progress, watch
from itkit.postgres.migrations.watch import MigrationNames
from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.projects import Project

ONE = """
    from django.test import TestCase

    class One(TestCase):
        def test_1(self):
            pass

        def test_2(self):
            pass
"""
MIGRATION = """
    import time

    from django.db import migrations

    def work(apps, schema_editor):
        {work}

    class Migration(migrations.Migration):
        dependencies = [("shop", "{after}")]
        operations = [migrations.RunSQL("SELECT 1"), migrations.RunPython(work)]
"""


def migration(work: str, after: str = "0001_initial") -> str:
    return MIGRATION.format(work=work, after=after)


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.slow
def test_a_run_tells_where_the_tests_are_and_how_long_migrating_takes(
    isolation: str, project: Project
) -> None:
    write_tests(project, ONE)
    project.write("shop/migrations/0002_slow.py", migration("time.sleep(2.3)"))
    project.write("shop/migrations/0003_fast.py", migration("pass", after="0002_slow"))
    env = {"ITKIT_POSTGRES_ISOLATION": isolation}
    where = {
        "schema": r"schema (itkit_\w+_w0|for each worker) in the database itkit_tests_shop_\w+",
        "database": r"database (itkit_\w+_w0|for each worker)",
    }[isolation]
    first = project.test("--integration", **env)
    assert first.counts == {"passed": 2}, first.output
    assert re.search(
        rf"{where}, .* · servers ready in \d+ ms, the migrations of default are to run",
        first.output,
    )
    assert "Creating test database" not in first.output
    assert first.output.count("itkit: migrating alias 'default', as no earlier run has") == 1
    told = re.findall(r"itkit: migrating alias 'default': (.*)", first.output)
    # The line names the migration that runs when two seconds are over. On a busy machine that
    # may be one before the slow migration.
    assert len(told) == 1, first.output
    assert re.fullmatch(r"the migration (shop|auth|contenttypes)\.\w+, \d s so far", told[0]), told
    assert re.search(r"itkit: migrated default in \d+\.\d s", first.output)
    second = project.pytest("--integration", "-q", **env)
    assert second.counts == {"passed": 2}, second.output
    lines = [line for line in second.output.splitlines() if "itkit: " in line]
    assert len(lines) == 1, second.output
    assert re.fullmatch(
        rf"itkit: Postgres [\d.]+ \(\S+\), Valkey [\d.]+ \(\S+\), {where}", lines[0]
    )
    third = project.test("--integration", **env)
    assert re.search(rf"{where}, .* · ready in \d+ ms", third.output), third.output
    assert "migrat" not in third.output


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", DOORS)
def test_a_migration_that_fails_is_told_once_with_its_name(door: str, project: Project) -> None:
    write_tests(project, ONE)
    project.write("shop/prices.py", "def price():\n    return 1 / 0\n")
    failing = migration("from shop import prices; prices.price()")
    project.write("shop/migrations/0002_failing.py", failing)
    result = enter(door, project)
    assert result.code != 0
    assert "Traceback" not in result.output
    lines = (
        "The migration shop.0002_failing has failed, and nothing of the migrations was kept:",
        "  ZeroDivisionError: division by zero",
        "  in the operation: Raw Python operation",
        "  in shop/migrations/0002_failing.py:7 in work",
        "  in shop/prices.py:2 in price",
    )
    workers = 2 if "xdist" in door else 1
    for line in lines:
        assert 1 <= result.output.count(line) <= workers, result.output
    project.write(
        "shop/migrations/0002_failing.py",
        migration("pass").replace("SELECT 1", "SELECT nothing FROM shop_customer"),
    )
    result = project.test("--integration")
    assert '  django.db.utils.ProgrammingError: column "nothing" does not exist' in result.output
    assert "  in the operation: Raw SQL operation" in result.output


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", DOORS)
def test_migrations_in_a_circle_are_told_once(door: str, project: Project) -> None:
    write_tests(project, ONE)
    project.write("shop/migrations/0002_a.py", migration("pass", after="0003_b"))
    project.write("shop/migrations/0003_b.py", migration("pass", after="0002_a"))
    result = enter(door, project)
    assert result.code != 0
    assert "Traceback" not in result.output
    assert "INTERNALERROR" not in result.output
    assert result.output.count("The migrations depend on each other in a circle: ") == 1
    assert "shop.0002_a" in result.output


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "from shop.models import Gone",
            (
                "The migrations cannot be loaded: ImportError: cannot import name 'Gone' from"
                " 'shop.models' ({path}/shop/models.py)\n  in shop/migrations/0002_broken.py:1"
            ),
        ),
        (
            "from shop import prices",
            (
                "The migrations cannot be loaded: ZeroDivisionError: division by zero\n"
                "  in shop/migrations/0002_broken.py:1\n  in shop/prices.py:5\n"
                "  in shop/prices.py:2 in price"
            ),
        ),
        (
            "def work(:",
            (
                "The migrations cannot be loaded: SyntaxError: invalid syntax (0002_broken.py, line 1)"
                "\n  in shop/migrations/0002_broken.py:1"
            ),
        ),
    ],
    ids=["a model that is gone", "an error in another module", "syntax"],
)
def test_a_migration_that_cannot_be_imported_is_told_once_with_its_line(
    source: str, told: str, project: Project
) -> None:
    write_tests(project, ONE)
    project.write("shop/prices.py", "def price():\n    return 1 / 0\n\n\nprice()\n")
    project.write("shop/migrations/0002_broken.py", f"{source}\n")
    for door in DOORS:
        result = enter(door, project)
        assert result.code != 0
        assert "Traceback" not in result.output
        assert "INTERNALERROR" not in result.output
        assert result.output.count(told.format(path=project.path)) == 1, result.output


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
def test_a_migration_that_ends_the_process_is_named(door: str, project: Project) -> None:
    write_tests(project, ONE)
    leaving = migration("raise SystemExit('set RATES first')")
    project.write("shop/migrations/0002_leaving.py", leaving)
    result = enter(door, project)
    assert result.code != 0
    assert "The migration shop.0002_leaving has failed, and nothing of" in result.output
    assert "  SystemExit: set RATES first\n" in result.output
    assert "  in shop/migrations/0002_leaving.py:7 in work" in result.output


def test_a_terminal_sees_one_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_POLL_SECONDS", 0.01)
    control, end = pty.openpty()
    names = MigrationNames()
    names.running = "the migration shop.0001_initial"
    text = b""
    with progress.shown("default", names, end):
        while text.count(b"shop.0001_initial, 0 s so far") < 2:
            text += os.read(control, 4096)
        names.running = "the migration shop.0002_next"
        while b"shop.0002_next" not in text:
            text += os.read(control, 4096)
    os.set_blocking(control, False)
    with contextlib.suppress(BlockingIOError):
        text += os.read(control, 4096)
    os.close(end)
    os.close(control)
    assert text.endswith(b"\r\x1b[K")
    assert b"\n" not in text


def test_the_line_of_what_comes_after_the_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAIT_SECONDS", 0.01)
    names = MigrationNames()
    names.running = watch.AFTER
    reader, writer = os.pipe()
    with progress.shown("default", names, writer):
        text = os.read(reader, 4096)
    os.close(writer)
    os.close(reader)
    assert re.fullmatch(
        rb"\nitkit: migrating alias 'default': what comes after the migrations \(such as a receiver"
        rb" of post_migrate\), \d+ s so far\n",
        text,
    )


def test_what_is_quick_tells_nothing() -> None:
    reader, writer = os.pipe()
    with progress.shown("default", MigrationNames(), writer):
        time.sleep(0.01)
    os.close(writer)
    assert os.read(reader, 100) == b""
    os.close(reader)

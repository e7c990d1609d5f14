"""The embedded server's cluster, saved before the first test: the next run need not migrate."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres.test_template import MIGRATION, TESTS, has_migrated
from tests.support.projects import Project, Result

TABLES = """
    from shop.models import Customer


    def test_has_tables(db):
        assert Customer.objects.count() == 0
"""


@pytest.fixture
def shop(project: Project, cache_dir: Path) -> Iterator[Project]:
    # All tests share the cache, so this project needs a fingerprint of its own.
    project.write("shop/migrations/0002_tell.py", f"{MIGRATION}\n    # {project.path}")
    project.write("shop/tests.py", TESTS)
    project.write("shop/test_tables.py", TABLES)
    before = saved(cache_dir)
    yield project
    for path in saved(cache_dir) - before:
        shutil.rmtree(path)


def saved(cache: Path) -> set[Path]:
    return set(cache.glob("itkit-entry-state-*/"))


def passed(project: Project, *arguments: str, **env: str) -> Result:
    result = project.test("--integration", *arguments, **env)
    assert result.code == 0, result.output
    assert project.leftovers() == []
    return result


@pytest.mark.parametrize("isolation", ["schema", "database"])
def test_the_second_run_does_not_migrate(isolation: str, shop: Project, cache_dir: Path) -> None:
    env = {"ITKIT_POSTGRES_ISOLATION": isolation}
    before = saved(cache_dir)
    assert has_migrated(passed(shop, **env))
    (state,) = saved(cache_dir) - before
    assert state.stat().st_mode & 0o077 == 0
    for arguments in [(), ("--parallel", "2")]:
        assert not has_migrated(passed(shop, *arguments, **env))
    again = shop.pytest("--integration", "-s", "-n", "2", "shop/tests.py", **env)
    assert again.code == 0, again.output
    assert not has_migrated(again)
    assert saved(cache_dir) - before == {state}


def test_the_second_run_without_migrations_makes_no_tables(shop: Project) -> None:
    # pytest-django changes MIGRATION_MODULES between the start of the server and that of the tests.
    first, second = (
        shop.pytest("--integration", "--nomigrations", "-v", "-s", "shop/test_tables.py")
        for _ in range(2)
    )
    for run in (first, second):
        assert run.code == 0, run.output
    made = "itkit: migrating alias 'default'"
    assert made in first.output
    assert made not in second.output


@pytest.mark.slow
def test_another_branch_has_a_state_of_its_own(shop: Project, cache_dir: Path) -> None:
    before = saved(cache_dir)
    assert has_migrated(passed(shop))
    branch = shop.path / "shop/migrations/0002_tell.py"
    text = branch.read_text()
    branch.write_text(f"{text}\n# another branch")
    assert has_migrated(passed(shop))
    branch.write_text(text)
    assert not has_migrated(passed(shop))
    assert len(saved(cache_dir) - before) == 2


@pytest.mark.slow
def test_rebuild_replaces_what_was_saved(shop: Project, cache_dir: Path) -> None:
    before = saved(cache_dir)
    passed(shop)
    assert has_migrated(passed(shop, "--rebuild"))
    assert not has_migrated(passed(shop))
    assert len(saved(cache_dir) - before) == 1


@pytest.mark.slow
def test_nothing_is_saved_where_nothing_is_to_be_kept(shop: Project, cache_dir: Path) -> None:
    before = saved(cache_dir)
    for _ in range(2):
        assert has_migrated(passed(shop, ITKIT_POSTGRES_KEEP="0"))
    assert saved(cache_dir) == before


@pytest.mark.slow
def test_a_saved_cluster_that_is_damaged_is_made_anew(shop: Project, cache_dir: Path) -> None:
    before = saved(cache_dir)
    passed(shop)
    (state,) = saved(cache_dir) - before
    (state / "global" / "pg_control").write_bytes(b"nonsense")
    shop.test("--integration")
    assert has_migrated(passed(shop))
    assert not has_migrated(passed(shop))


def test_a_run_that_fails_has_saved_its_state_all_the_same(shop: Project) -> None:
    shop.write("shop/tests.py", f"{TESTS}            self.fail()\n")
    assert shop.test("--integration").code != 0
    shop.write("shop/tests.py", TESTS)
    assert not has_migrated(passed(shop))


LEAVES = """
    from django.db import connection
    from django.test import TransactionTestCase


    def value(query):
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0]


    class Leaves(TransactionTestCase):
        def test_what_no_schema_isolates(self):
            print("in", connection.settings_dict["NAME"])
            self.assertIsNone(value("SELECT to_regclass('public.left_behind')"))
            self.assertIsNone(value("SELECT to_regrole('left_behind')"))
            self.assertEqual(value("SELECT count(*) FROM pg_largeobject_metadata"), 0)
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE public.left_behind (n int)")
                cursor.execute("CREATE ROLE left_behind")
                cursor.execute("SELECT lo_create(0)")
                cursor.execute("ALTER SYSTEM SET deadlock_timeout = '5s'")
"""


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.slow
def test_nothing_of_the_tests_is_saved(isolation: str, shop: Project) -> None:
    shop.write("shop/tests.py", LEAVES)
    env = {"ITKIT_POSTGRES_ISOLATION": isolation, "ITKIT_POSTGRES_ROLE": "project"}
    for arguments in (["-n", "2"], []):
        result = shop.pytest("--integration", "-s", *arguments, "shop/tests.py", **env)
        assert result.counts == {"passed": 1}, result.output
    assert not has_migrated(result)
    assert passed(shop, **env).counts == {"passed": 1}


def test_unlogged_tables_are_not_saved_without_their_rows(shop: Project, cache_dir: Path) -> None:
    shop.write(
        "shop/migrations/0003_unlogged.py",
        """
        from django.db import migrations

        class Migration(migrations.Migration):
            dependencies = [("shop", "0002_tell")]
            operations = [migrations.RunSQL(
                "CREATE UNLOGGED TABLE draft (n int); INSERT INTO draft VALUES (7)"
            )]
        """,
    )
    shop.write(
        "shop/tests.py",
        """
        from django.db import connection
        from django.test import TestCase

        class Unlogged(TestCase):
            def test_rows(self):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT n FROM draft")
                    self.assertEqual(cursor.fetchall(), [(7,)])
        """,
    )
    before = saved(cache_dir)
    for _ in range(2):
        assert "is not saved, so each run migrates: it has unlogged tables" in passed(shop).output
    assert saved(cache_dir) == before

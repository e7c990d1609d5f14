"""A migration that writes outside of the tests' schema stops the run, and nothing of it stays."""

import pytest

from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project
from tests.support.sentinel import Sentinel

MIGRATION = """
from django.db import migrations, models

def run(statements):
    return migrations.RunSQL(statements)

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    atomic = {atomic}
    operations = [{operation}]
"""
BASELINE = '''
run("""
    {before}
    DROP TABLE IF EXISTS public.shop_customer CASCADE;
    CREATE TABLE public.shop_order (id bigint PRIMARY KEY, name text);
    {after}
""")
'''
DUMPED = {
    "before": "SELECT pg_catalog.set_config('search_path', '', false);",
    "after": "SET search_path TO public;",
}
IN_PYTHON = """
migrations.RunPython(lambda apps, editor: editor.execute({!r}))
"""
CREATED = "the table public.shop_order was created"
HOSTILE = {
    "a baseline": (True, BASELINE.format(before="", after=""), CREATED),
    "a baseline by pg_dump": (True, BASELINE.format(**DUMPED), CREATED),
    "a baseline by pg_dump, not atomic": (False, BASELINE.format(**DUMPED), CREATED),
    "a path alone": (
        True,
        'run("SET search_path TO public")',
        "the search_path was left as 'public', and was 'itkit_",
    ),
    "a schema": (
        True,
        IN_PYTHON.format("CREATE SCHEMA warehouse"),
        "the schema warehouse was created",
    ),
    "a function, not atomic": (
        False,
        IN_PYTHON.format("CREATE FUNCTION public.one() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        "the function public.one was created",
    ),
}
IN_THE_PROJECTS = {
    "a baseline that begins anew": (
        True,
        BASELINE.format(**DUMPED),
        "the table public.shop_customer was dropped",
    ),
    "rows": (
        True,
        'run("UPDATE public.shop_customer SET email = upper(email)")',
        "rows of public.shop_customer: 2 updated",
    ),
    "rows, not atomic": (
        False,
        IN_PYTHON.format("DELETE FROM reporting.fact"),
        "rows of reporting.fact: 1 deleted",
    ),
    "a schema that is made anew": (
        False,
        'run(["DROP SCHEMA IF EXISTS reporting CASCADE", "CREATE SCHEMA reporting"])',
        "the schema reporting was dropped",
    ),
    "an extension": (
        True,
        'run("SELECT 1; DROP EXTENSION IF EXISTS hstore CASCADE")',
        "the extension hstore was dropped",
    ),
    "an index": (
        False,
        'run("CREATE INDEX mine ON public.shop_customer (email)")',
        "the index public.mine was created",
    ),
    "a table that is emptied": (
        True,
        IN_PYTHON.format("TRUNCATE public.shop_currency"),
        "the table public.shop_currency was altered",
    ),
}
HARMLESS = """
    from django.db import connection
    from django.test import TestCase

    from shop.models import Customer


    class Tests(TestCase):
        def test_rows(self):
            self.assertEqual(sorted(Customer.objects.values_list("email", flat=True)), ["seeded"])
"""
REMEDY = "ITKIT_POSTGRES_ISOLATION=database"


def stopped(project: Project, door: str, found: str, **env: str) -> None:
    result = enter(door, project, **env)
    assert result.code != 0
    assert "migration shop.0002_hostile has written outside of the tests' schema" in result.output
    assert found in result.output
    assert REMEDY in result.output
    assert "Traceback" not in result.output


def hostile(project: Project, atomic: bool, operation: str) -> None:
    project.write(
        "shop/migrations/0002_hostile.py",
        MIGRATION.format(atomic=atomic, operation=operation.strip()),
    )
    write_tests(project, HARMLESS)


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_on_the_embedded_server(project: Project, cache_dir, door: str) -> None:
    before = set(cache_dir.glob("itkit-entry-state-*/"))
    for atomic, operation, found in list(HOSTILE.values())[SERIAL.index(door) :: len(SERIAL)]:
        hostile(project, atomic, operation)
        stopped(project, door, found)
    assert set(cache_dir.glob("itkit-entry-state-*/")) == before


@pytest.mark.parametrize("role", ["boss", "builder"])
@pytest.mark.slow
def test_in_a_database_of_itkits_own(project: Project, sentinel: Sentinel, role: str) -> None:
    atomic, operation, found = HOSTILE["a baseline by pg_dump, not atomic"]
    hostile(project, atomic, operation)
    sentinel.point(project, role)
    before = sentinel.digest()
    stopped(project, "django", found)
    stopped(project, "pytest, two xdist workers", found)
    assert sentinel.digest() == before
    assert sentinel.ours() == []


def test_in_the_projects_own_database(project: Project, sentinel: Sentinel) -> None:
    sentinel.point(project, "poor")
    with sentinel.connect() as connection:
        connection.execute("GRANT CREATE ON SCHEMA public TO poor")
    with sentinel.connect(role="poor") as connection:
        connection.execute("CREATE EXTENSION hstore WITH SCHEMA public")
        connection.execute("CREATE TABLE public.product (tags public.hstore)")
        connection.execute("INSERT INTO public.product VALUES ('a=>b')")
    before = sentinel.digest()
    for what, (atomic, operation, found) in IN_THE_PROJECTS.items():
        hostile(project, atomic, operation)
        door = "pytest" if len(what) % 2 else "django"
        stopped(project, door, found, ITKIT_POSTGRES_IN_PROJECT_DATABASE="1")
        assert sentinel.digest() == before, what
        assert sentinel.ours() == [], what
    hostile(project, True, 'run("DROP EXTENSION IF EXISTS hstore CASCADE")')
    result = project.test("--integration", ITKIT_POSTGRES_IN_PROJECT_DATABASE="1")
    assert "the migrations of default are to run" in result.output
    assert sentinel.digest() == before  # nothing of the tests depends on it, so it stays


def test_what_comes_after_the_migrations(project: Project, sentinel: Sentinel) -> None:
    write_tests(project, HARMLESS)
    project.write(
        "shop/apps.py",
        """
        from django.apps import AppConfig
        from django.db import connection
        from django.db.models.signals import post_migrate

        def fill(**kwargs):
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO reporting.fact (number) VALUES ('from a receiver')")

        class ShopConfig(AppConfig):
            name = "shop"

            def ready(self):
                post_migrate.connect(fill, sender=self)
        """,
    )
    sentinel.point(project, "poor")
    before = sentinel.digest()
    result = project.test("--integration", ITKIT_POSTGRES_IN_PROJECT_DATABASE="1")
    assert (
        "What comes after the migrations (such as a receiver of post_migrate) has" in result.output
    )
    assert "rows of reporting.fact: 1 inserted" in result.output
    after = sentinel.digest()
    assert {name for name in before if after[name] != before[name]} <= {
        "reporting.fact_id_seq"  # no rollback takes the number of a sequence back
    }
    assert sentinel.ours() == []


def test_what_migrations_may_do(project: Project, sentinel: Sentinel) -> None:
    """Not in one transaction, with statements that refuse one, a path of their own, and an index."""
    operation = """
        run([
            "INSERT INTO shop_customer (email) VALUES ('seeded')",
            "CREATE INDEX CONCURRENTLY mine ON shop_customer (email)",
            "VACUUM shop_customer",
            "SET statement_timeout = 0",
            "DO $$ BEGIN PERFORM 1; END $$",
        ]),
        migrations.RunPython(lambda apps, editor: [
            list(apps.get_model("shop.Customer").objects.iterator(chunk_size=1)),
            apps.get_model("shop.Customer").objects.update(email="seeded"),
        ]),
        run("BEGIN; SET LOCAL search_path TO pg_catalog; COMMIT"),
    """
    hostile(project, False, operation)
    sentinel.point(project, "builder")
    before = sentinel.digest()
    for door in ("django", "pytest"):
        result = enter(door, project)
        assert result.counts == {"passed": 1}, result.output
    assert sentinel.digest() == before


def test_a_database_for_each_worker_takes_all_of_it(project: Project, sentinel: Sentinel) -> None:
    atomic, operation, _ = HOSTILE["a baseline by pg_dump, not atomic"]
    operation = operation.replace("DROP TABLE IF EXISTS public.shop_customer CASCADE;", "")
    hostile(project, atomic, operation)
    write_tests(project, HARMLESS.replace('["seeded"]', "[]"))
    sentinel.point(project, "builder")
    before = sentinel.digest()
    for door in ("django", "pytest"):
        result = enter(door, project, ITKIT_POSTGRES_ISOLATION="database")
        assert result.counts == {"passed": 1}, result.output
    assert sentinel.digest() == before

"""``manage.py itkit doctor``: what a schema does not isolate, by file and line, and nothing else."""

import re

import pytest

from itkit.postgres.escapes import escapes, is_sql
from tests.projects import Project, Result

pytestmark = pytest.mark.usefixtures("shared_servers")

MIGRATION = '''
"""Docs say SELECT * FROM public.docstring."""
from django.contrib.postgres.operations import CreateExtension, TrigramExtension
from django.db import migrations

BACK = "DROP TABLE public.only_back"
SQL = """
CREATE TABLE fine (id int);  -- as public.fine
/* once: CREATE SCHEMA old; */
INSERT INTO public.thing VALUES ('https://public.example.org/public.html');
"""

def fill(apps, schema_editor):
    schema_editor.execute("SELECT pg_advisory_xact_lock(%s)" % 7)

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        TrigramExtension(),
        CreateExtension("postgres_fdw"),
        migrations.RunSQL(SQL, BACK),
        migrations.RunSQL(
            ["CREATE ROLE reader", ("SELECT set_config('search_path', %s, false)", ["x"])],
            reverse_sql="DROP TABLE public.reverse",
        ),
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL(
                "CREATE TABLE nested (id int);"
                'ALTER TABLE "public"."nested" ADD x int'
            )],
            [],
        ),
        migrations.RunPython(fill),
    ]
'''

CODE = '''
"""A module: SELECT * FROM public.docstring, LISTEN to it."""
# cursor.execute("SELECT * FROM public.comment")
from django.db import connection

PAGE = "public.html"
URL = "https://public.example.org/select?from=public.page"
PROSE = "Select a file from public.things, or insert into public.things what you like"
LABEL = "notify owner"


def work(table):
    """Selects: SELECT pg_advisory_lock(1)."""
    with connection.cursor() as cursor:
        cursor.execute("LISTEN jobs")
        cursor.execute(f"SELECT * FROM public.{table}")
        cursor.execute(f"CREATE EXTENSION {table}")
        cursor.execute("select lo_create(0)")
        cursor.execute(
            "SELECT a, b "
            "FROM t JOIN public.u USING (id)"
        )
        cursor.execute("SELECT 'public.html', \\"t\\".public FROM t -- public.t")
'''

FUNCTION = """
-- NOTIFY nobody;
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql SET search_path = shop AS $$
BEGIN
    NOTIFY shop_changes;
    RETURN NULL;
END $$;
CREATE SCHEMA other;
CREATE PUBLICATION all_of_it FOR ALL TABLES;
CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION tell();
ALTER SYSTEM SET work_mem = '64MB';
"""


def found(result: Result) -> set[tuple[str, int, str]]:
    lines = re.findall(r"^([^\s:]+):(\d+): ([^:]+): ", result.output, re.MULTILINE)
    return {(path, int(line), what) for path, line, what in lines}


def line_of(text: str, part: str) -> int:
    """Files are written without the indentation, but with the first, empty line."""
    return next(n for n, line in enumerate(text.splitlines(), start=1) if part in line)


def test_a_project_that_a_schema_isolates_is_told_so(project: Project) -> None:
    result = project.manage("itkit", "doctor")
    assert result.code == 0, result.output
    assert result.output == "Nothing found that would not be isolated."


def test_everything_is_found_where_it_is_and_nothing_else(project: Project) -> None:
    migration, code, function = "shop/migrations/0002_more.py", "shop/work.py", "shop/sql/tell.sql"
    project.write(migration, MIGRATION)
    project.write(code, CODE)
    project.write(function, FUNCTION)
    project.write("shop/.venv/pyvenv.cfg", "")
    project.write("shop/.venv/lib.py", 'SQL = "SELECT * FROM public.installed"')
    project.write("shop/template.py", '{{ broken }} "SELECT * FROM public.template"')
    result = project.manage("itkit", "doctor")
    assert result.code == 1, result.output
    assert found(result) == {
        (migration, line_of(MIGRATION, "INSERT INTO public.thing"), "public"),
        (migration, line_of(MIGRATION, "xact_lock"), "an advisory lock"),
        (migration, line_of(MIGRATION, "postgres_fdw"), "the extension postgres_fdw"),
        (migration, line_of(MIGRATION, "CREATE ROLE"), "a role"),
        (migration, line_of(MIGRATION, "set_config"), "a search_path of its own"),
        (migration, line_of(MIGRATION, '"public"."nested"'), "public"),
        (code, line_of(CODE, "LISTEN jobs"), "LISTEN or NOTIFY"),
        (code, line_of(CODE, "public.{table}"), "public"),
        (code, line_of(CODE, "lo_create"), "a large object"),
        (code, line_of(CODE, "JOIN public.u"), "public"),
        (function, line_of(FUNCTION, "SET search_path"), "a search_path of its own"),
        (function, line_of(FUNCTION, "NOTIFY shop"), "LISTEN or NOTIFY"),
        (function, line_of(FUNCTION, "CREATE SCHEMA"), "CREATE SCHEMA"),
        (function, line_of(FUNCTION, "PUBLICATION"), "CREATE PUBLICATION"),
        (function, line_of(FUNCTION, "EVENT TRIGGER"), "CREATE EVENT TRIGGER"),
        (function, line_of(FUNCTION, "ALTER SYSTEM"), "ALTER SYSTEM"),
    }
    assert 'ITKIT = {"POSTGRES": {"ISOLATION": "database"}}' in result.output
    assert "ITKIT_POSTGRES_ISOLATION=database" in result.output


def test_with_a_database_for_each_worker_only_the_servers_own_is_left(project: Project) -> None:
    project.write("shop/work.py", 'SQL = "SELECT * FROM public.thing"')
    alone = project.manage("itkit", "doctor", ITKIT_POSTGRES_ISOLATION="database")
    assert alone.code == 0, alone.output
    assert found(alone) == set()
    assert "a database of its own already" in alone.output
    project.write("shop/roles.sql", "CREATE ROLE reader;")
    result = project.manage("itkit", "doctor", ITKIT_POSTGRES_ISOLATION="database")
    assert result.code == 1, result.output
    assert found(result) == {("shop/roles.sql", 1, "a role")}
    assert '"ISOLATION"' not in result.output


def test_a_migration_of_a_package_is_searched_and_its_code_is_not(project: Project) -> None:
    package = "lib/site-packages/other"
    project.settings(
        'import sys; sys.path.append("lib/site-packages"); INSTALLED_APPS += ["other"]'
    )
    project.write(f"{package}/__init__.py", "")
    project.write(f"{package}/work.py", 'SQL = "SELECT * FROM public.thing"')
    project.write(f"{package}/migrations/__init__.py", "")
    project.write(
        f"{package}/migrations/0001_initial.py",
        """
        from pathlib import Path
        from django.db import migrations

        class Migration(migrations.Migration):
            operations = [migrations.RunSQL(Path(__file__).with_name("up.sql").read_text())]
        """,
    )
    project.write(f"{package}/migrations/up.sql", "CREATE SCHEMA other;")
    result = project.manage("itkit", "doctor")
    assert result.code == 1, result.output
    assert found(result) == {(f"{package}/migrations/0001_initial.py", 6, "CREATE SCHEMA")}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT nextval('public.thing_id_seq')",
        "SELECT 'public.thing'::regclass",
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'",
        "DO $$ BEGIN EXECUTE 'DELETE FROM public.thing'; END $$",
        "ALTER TABLE thing SET SCHEMA public",
        "select * from PUBLIC.thing",
        "SELECT 1; -- it's\nSELECT * FROM public.thing",
        """SELECT "it's", a FROM public.thing WHERE b = 'c'""",
        "SELECT E'it\\'s' FROM public.thing",
    ],
)
def test_public_is_found_in_every_way_of_naming_it(statement: str) -> None:
    assert is_sql(statement, likely=True)
    assert [match.escape.what for match in escapes(statement)] == ["public"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'see public.html' FROM page",
        "SELECT /* public.thing */ 1 -- public.thing",
        "SELECT shop_public.id, republic.x FROM shop_public, republic",
        "GRANT SELECT ON thing TO PUBLIC",
        "SELECT listen, notify FROM settings",
        "SELECT 'how to CREATE SCHEMA, or use pg_notify()'",
        "SHOW search_path",
        "CREATE USER MAPPING FOR me SERVER there",
        'CREATE EXTENSION IF NOT EXISTS "uuid-ossp"',
        "SELECT hello_create(1), lo_count(2)",
        "CREATE EXTENSION IF NOT EXISTS %s",
    ],
)
def test_what_is_isolated_is_not_found(statement: str) -> None:
    assert list(escapes(statement)) == []

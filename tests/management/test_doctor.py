"""``manage.py itkit doctor``: what a schema does not isolate, by file and line, and nothing else."""

import re

import pytest

from itkit.postgres.migrations.escapes import escapes, is_sql
from tests.support.projects import Project, Result

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
    assert result.output == "Nothing was found that is not isolated."


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


SPELLINGS = """
    import subprocess

    import psycopg
    from django.conf import settings
    from django.db import connection, models
    from django.db.models import F, Func, Value
    from psycopg import connect as dial
    from psycopg_pool import AsyncNullConnectionPool
    from subprocess import run
    from shop.names import ARCHIVE

    S = "public"
    OWN = "shop_app"


    class Lock(Func):
        function = "pg_advisory_xact_lock"


    class Lower(Func):
        function = "LOWER"


    class Total(Func):
        function = "public.total"


    class Shared(Func):
        template = "pg_advisory_lock_shared(%(expressions)s)"


    class Cast(Func):
        template = "(%(expressions)s)::text"


    class Named(psycopg.Connection):
        pass


    def work(cursor, own, table):
        cursor.execute(f"DELETE FROM {S}.app_a")
        cursor.execute("DELETE FROM %s.app_b" % S)
        cursor.execute("DELETE FROM {}.app_c".format(S))
        cursor.execute("DELETE FROM {schema}.app_d".format(schema=ARCHIVE))
        cursor.execute("DELETE FROM " + settings.SHARED + ".app_e")
        cursor.execute(f"DELETE FROM {OWN}.app_f")
        cursor.execute("DELETE FROM %s.app_g WHERE n = %s" % (own, S))
        Func(Value(1), function="pg_notify")
        Func(Value(1), function="COALESCE")
        psycopg.connect("dbname=x")
        dial("dbname=y")
        own.connect("dbname=z")
        own.retried(psycopg.connect, "dbname=r")
        AsyncNullConnectionPool("dbname=n")
        run(["psql", "-c", "SELECT 1"])
        subprocess.check_output("/usr/bin/pg_dump shop", shell=True)
        run(["psqlite"])
        own.run("psql")
"""
FACTS = """
    from django.db import models


    class Fact(models.Model):
        class Meta:
            db_table = 'reporting"."fact'
            managed = False


    class Computed(models.Model):
        class Meta:
            db_table = '"{}" . "computed"'.format("reporting")
            managed = False


    class Plain(models.Model):
        class Meta:
            db_table = "plain.fact"
            managed = False
"""
FACTS_MIGRATION = """
    from django.db import migrations, models

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [
            migrations.CreateModel(
                "Order",
                [("id", models.BigAutoField(primary_key=True))],
                options={"db_table": '"public"."app_order"'},
            ),
            migrations.CreateModel("Other", [("id", models.BigAutoField(primary_key=True))]),
            migrations.AlterModelTable("Other", 'reporting"."other'),
        ]
"""


def test_other_spellings_are_found_as_well(project: Project) -> None:
    project.settings('SHARED = "public"')
    project.write("shop/names.py", 'ARCHIVE = "public"')
    project.write(
        "shop/models.py",
        (project.path / "shop/models.py").read_text() + "\n\nfrom shop import names\n",
    )
    project.write("shop/facts.py", FACTS)
    project.write(
        "shop/apps.py",
        """
        from django.apps import AppConfig

        class ShopConfig(AppConfig):
            name = "shop"

            def ready(self):
                import shop.facts
    """,
    )
    project.write("jobs/work.py", SPELLINGS)  # it is in no app
    project.write("shop/migrations/0002_tables.py", FACTS_MIGRATION)
    result = project.manage("itkit", "doctor", "--no-database")
    assert result.code == 1, result.output
    code, migration = "jobs/work.py", "shop/migrations/0002_tables.py"
    schema = "a db_table with a schema"
    assert found(result) == {
        (code, line_of(SPELLINGS, "pg_advisory"), "an advisory lock"),
        *((code, line_of(SPELLINGS, f"app_{name}"), "public") for name in "abcde"),
        (code, line_of(SPELLINGS, "pg_notify"), "LISTEN or NOTIFY"),
        (code, line_of(SPELLINGS, "psycopg.connect("), "to be looked at"),
        (code, line_of(SPELLINGS, 'dial("dbname'), "to be looked at"),
        (code, line_of(SPELLINGS, "own.retried("), "to be looked at"),
        (code, line_of(SPELLINGS, 'AsyncNullConnectionPool("'), "to be looked at"),
        (code, line_of(SPELLINGS, 'run(["psql",'), "to be looked at"),
        (code, line_of(SPELLINGS, "pg_dump"), "to be looked at"),
        (code, line_of(SPELLINGS, "class Named"), "to be looked at"),
        (code, line_of(SPELLINGS, "public.total"), "public"),
        (code, line_of(SPELLINGS, "pg_advisory_lock_shared"), "an advisory lock"),
        ("shop/facts.py", line_of(FACTS, "reporting"), schema),
        ("shop/facts.py", line_of(FACTS, "class Computed"), schema),
        (migration, line_of(FACTS_MIGRATION, "app_order"), schema),
        (migration, line_of(FACTS_MIGRATION, "reporting"), schema),
    }, result.output
    assert "13 not isolated by a schema for each worker" in result.output


MADE = """
    from django.db import migrations

    NAME = "report" + "ing"

    def make(apps, schema_editor):
        for text in (
            "CREATE SCHEMA {0}; CREATE TABLE {0}.fact (id int); CREATE VIEW {0}.facts AS SELECT 1 AS n",
            "CREATE FUNCTION total() RETURNS int LANGUAGE sql SET {1} = {0} AS 'SELECT 1'",
            "CREATE FUNCTION tell() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_{2}('a', 'b'); END $$",
            "CREATE {3} all_of_it FOR ALL TABLES",
            "CREATE {4} IF NOT EXISTS {5}",
            "SELECT lo_{6}(0)",
            "CREATE FUNCTION fine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ):
            schema_editor.execute(text.format(
                NAME, "search" + "_path", "no" + "tify", "PUBLIC" + "ATION", "EXT" + "ENSION",
                "page" + "inspect", "cre" + "ate",
            ), params=None)

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [migrations.RunPython(make)]
"""


@pytest.mark.slow
def test_the_migrated_database_is_asked_what_the_text_does_not_show(project: Project) -> None:
    project.write("shop/migrations/0002_made.py", MADE)
    text = project.manage("itkit", "doctor", "--no-database")
    assert "Nothing found" not in text.output  # CREATE SCHEMA is to be seen
    shown = project.manage("itkit", "doctor")
    assert shown.code == 1, shown.output
    lines = [
        line for line in shown.output.splitlines() if line.startswith("database of 'default': ")
    ]
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == [
        "the extension pageinspect",
        "the function tell() has LISTEN or NOTIFY",
        "the function total() has a search_path of its own",
        next(line for line in shown.output.split(": ") if line.startswith("the large object")),
        "the publication all_of_it",
        "the table reporting.fact",
        "the table reporting.facts",
    ], shown.output
    broken = MADE.replace("schema_editor.execute(", "schema_editor.broken(")
    project.write("shop/migrations/0002_made.py", broken)
    result = project.manage("itkit", "doctor")
    assert "No migrated database was looked at, as there is none: The migration" in result.output
    assert found(result) == found(text)


MADE_IN_TEXT = """
    from django.db import migrations

    STATEMENTS = (
        "CREATE@SCHEMA {0}", "CREATE@SCHEMA empty", "CREATE TABLE {0}.own (id serial, mood text)",
        "CREATE SEQUENCE {0}.invoice", "CREATE TYPE {0}.mood AS ENUM ('a')",
        "CREATE DOMAIN {0}.code AS text", "CREATE TYPE {0}.pair AS (a int, b int)",
        "CREATE FUNCTION {0}.plain() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE COLLATION {0}.same FROM \\"C\\"",
        "CREATE FUNCTION atomic() RETURNS void LANGUAGE sql BEGIN ATOMIC SELECT pg@advisory@lock(1); END",
        "CREATE VIEW locked AS SELECT pg@try@advisory@lock(1) AS l",
        "CREATE TABLE blobs (o oid DEFAULT lo@create(0), n int CHECK (lo@get(n::oid) IS NULL))",
        "CREATE RULE telling AS ON DELETE TO blobs DO ALSO NO@TIFY gone",
        "ALTER TABLE blobs ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY seen ON blobs USING (pg@try@advisory@lock(2))",
        "CREATE TRIGGER touched BEFORE UPDATE ON blobs FOR EACH ROW WHEN (pg@try@advisory@lock(3))"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE FUNCTION fixed() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION fixed() SET search@path FROM CURRENT",
        "CREATE FUNCTION safe() RETURNS int LANGUAGE sql SET search_path = '', pg_temp AS 'SELECT 1'",
        "CREATE FOREIGN DATA WRAPPER far", "CREATE@SERVER there FOREIGN DATA WRAPPER far",
        "CREATE FOREIGN TABLE of_others (n int) SERVER there",
    )

    def make(apps, schema_editor):
        for text in STATEMENTS:
            text = text.replace("NO@TIFY", "NOTIFY").replace("@S", " S").replace("@", "_")
            schema_editor.execute(text.format("reporting"), params=None)

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [migrations.RunPython(make)]
"""


@pytest.mark.slow
def test_all_kinds_of_objects_of_the_migrated_database_are_asked(project: Project) -> None:
    project.write("shop/migrations/0002_made.py", MADE_IN_TEXT)
    text = project.manage("itkit", "doctor", "--no-database")
    assert found(text) == set(), text.output
    shown = project.manage("itkit", "doctor")
    lines = [
        line.removeprefix("database of 'default': ").partition(": ")[0]
        for line in shown.output.splitlines()
        if line.startswith("database of 'default': ")
    ]
    lock, blob = "has an advisory lock", "has a large object"
    assert lines == [
        "the collation reporting.same",
        f"the constraint blobs_n_check of blobs {blob}",
        f"the default of blobs.o {blob}",
        "the foreign server there",
        "the foreign table of_others",
        f"the function atomic() {lock}",
        "the function fixed() has a search_path of its own",
        "the function reporting.plain",
        f"the policy seen of blobs {lock}",
        "the rule telling of blobs has LISTEN or NOTIFY",
        "the schema empty",
        "the sequence reporting.invoice",
        "the table reporting.own",
        f"the trigger touched of blobs {lock}",
        "the type reporting.code",
        "the type reporting.mood",
        "the type reporting.pair",
        f"the view locked {lock}",
    ], shown.output


def test_what_only_may_be_wrong_is_a_hint(project: Project) -> None:
    project.write("shop/jobs.py", "import psycopg\n\nCONNECTION = psycopg.connect")
    assert found(project.manage("itkit", "doctor", "--no-database")) == set()
    project.write("shop/jobs.py", "import psycopg\n\ndef job():\n    psycopg.connect('')")
    result = project.manage("itkit", "doctor", "--no-database")
    assert result.code == 0, result.output
    assert found(result) == {("shop/jobs.py", 4, "to be looked at")}
    assert "Nothing was found that is not isolated." in result.output

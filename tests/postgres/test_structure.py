"""What a test has changed in the structure of its database is taken back, and told with its name."""

import pytest

from itkit.postgres.reset.structure import Structure
from itkit.postgres.server import sql
from itkit.postgres.server.server import connect
from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

MIGRATION = '''
    from django.db import migrations

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [migrations.RunSQL("""
            CREATE TABLE event (id bigserial, at date NOT NULL) PARTITION BY RANGE (at);
            CREATE TYPE mood AS ENUM ('good');
            CREATE TABLE felt (id int PRIMARY KEY, how mood NOT NULL DEFAULT 'good', note varchar(5));
            INSERT INTO felt VALUES (1, 'good', 'seed');
            CREATE FUNCTION two() RETURNS int LANGUAGE sql AS 'SELECT 2';
            CREATE VIEW feelings AS SELECT id FROM felt;
        """)]
'''
TESTS = """
    import subprocess
    import sys
    import threading

    from django.db import connection
    from django.test import TransactionTestCase

    from itkit.test import IntegrationTestCase
    from shop.models import Customer

    CHANGES = {
        "partition": "CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "table": "CREATE TABLE made (id serial PRIMARY KEY, felt int REFERENCES felt); INSERT INTO made DEFAULT VALUES",
        "column": "ALTER TABLE felt ADD COLUMN more int",
        "no_column": "ALTER TABLE felt DROP COLUMN note",
        "longer": "ALTER TABLE felt ALTER COLUMN note TYPE varchar(9)",
        "nullable": "ALTER TABLE felt ALTER COLUMN how DROP NOT NULL; INSERT INTO felt VALUES (2, NULL, 'x')",
        "index": "CREATE INDEX felt_note ON felt (note)",
        "constraint": "ALTER TABLE felt ADD CONSTRAINT short CHECK (length(note) < 5)",
        "trigger": "CREATE FUNCTION nay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            " CREATE TRIGGER nay BEFORE INSERT ON shop_customer FOR EACH ROW EXECUTE FUNCTION nay()",
        "type": "CREATE TYPE other AS ENUM ('x'); CREATE DOMAIN small AS int CHECK (VALUE < 3)",
        "value": "ALTER TYPE mood ADD VALUE 'bad'",
        "function": "CREATE OR REPLACE FUNCTION two() RETURNS int LANGUAGE sql AS 'SELECT 3'",
        "view": "CREATE OR REPLACE VIEW feelings AS SELECT id, note FROM felt",
        "dropped": "DROP TABLE felt CASCADE",
        "renamed": "ALTER TABLE felt RENAME TO fallen",
        "policy": "ALTER TABLE felt ENABLE ROW LEVEL SECURITY; ALTER TABLE felt FORCE ROW LEVEL SECURITY",
        "sequence": "ALTER SEQUENCE event_id_seq INCREMENT BY 5",
        "aggregate": "CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')",
    }


    def run(statement):
        with connection.cursor() as cursor:
            cursor.execute(statement)


    def rows(query):
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()


    class Ddl:
        def check(self):
            self.assertEqual(rows("SELECT id, how::text, note FROM felt"), [(1, "good", "seed")])
            self.assertEqual(rows("SELECT two(), count(*) FROM feelings"), [(2, 1)])
            self.assertEqual(Customer.objects.create(email="a@example.com").pk, 1)

        def test_zz_all_is_as_it_was(self):
            self.check()


    def twice(name, statement):
        def test(self):
            self.check()
            run(statement)

        return {f"test_{name}_1": test, f"test_{name}_2": test}


    for name, statement in CHANGES.items():
        for made, function in twice(name, statement).items():
            setattr(Ddl, made, function)


    class OfDjango(Ddl, TransactionTestCase):
        pass


    class OfOthers(IntegrationTestCase):
        def test_a_thread(self):
            def alter():
                run("CREATE TABLE made (id int); ALTER TABLE felt ADD COLUMN more int")
                connection.close()

            thread = threading.Thread(target=alter)
            thread.start()
            thread.join()

        def test_b_process(self):
            code = (
                "from django.db import connection as c;"
                "c.cursor().execute('CREATE TABLE made (id int); ALTER TABLE felt ADD COLUMN more int')"
            )
            subprocess.run([sys.executable, "manage.py", "shell", "-v0", "-c", code], check=True)

        def test_c_nothing_of_it_is_there(self):
            run("CREATE TABLE made (id int); ALTER TABLE felt ADD COLUMN more int")


    class OfAClass(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            run("CREATE TABLE of_class (id serial, n int); INSERT INTO of_class (n) VALUES (7)")

        @classmethod
        def tearDownClass(cls):
            run("DROP TABLE of_class")
            super().tearDownClass()

        def check(self):
            self.assertEqual(rows("SELECT id, n FROM of_class"), [(1, 7)])
            run("INSERT INTO of_class (n) VALUES (8); CREATE TABLE made (id int)")
            self.assertEqual(rows("SELECT id, n FROM of_class"), [(1, 7), (2, 8)])

        def test_1(self):
            self.check()

        def test_2(self):
            self.check()
"""


@pytest.mark.parametrize(
    ("door", "isolation"),
    [
        *((door, "schema") for door in DOORS),
        ("django", "database"),
        ("pytest, two xdist workers", "database"),
    ],
)
@pytest.mark.slow
def test_each_test_finds_the_structure_of_the_migrations(
    door: str, isolation: str, project: Project, kept_url: str, redis_url: str
) -> None:
    project.env |= {"ITKIT_POSTGRES_URL": kept_url, "ITKIT_REDIS_URL": redis_url}
    project.write("shop/migrations/0002_more.py", MIGRATION)
    write_tests(project, TESTS)
    env = {"ITKIT_POSTGRES_ISOLATION": isolation}
    result = enter(door, project, **env)
    assert result.counts == {"passed": 42}, result.output
    told = result.output.partition("changes that tests made to the structure of the database")[2]
    assert "table event_1: was created, and has been dropped" in told.replace('"', ""), (
        result.output
    )
    assert "a column was added, altered or dropped: the worker has a fresh clone, in " in told
    # What is kept for the next run is as it was.
    if door == "django":
        again = enter(door, project, "--reverse", **env)
        assert again.counts == {"passed": 42}, again.output


NO_CHANGES = {
    "rows": "INSERT INTO fruit (name) VALUES ('b'); DELETE FROM fruit",
    "truncate": "TRUNCATE fruit RESTART IDENTITY CASCADE",
    "refresh": "REFRESH MATERIALIZED VIEW names",
    "refresh concurrently": "REFRESH MATERIALIZED VIEW CONCURRENTLY names",
    "emptied view": "REFRESH MATERIALIZED VIEW names WITH NO DATA",
    "vacuum": "VACUUM (FULL, FREEZE) fruit",
    "analyze": "ANALYZE",
    "reindex": "REINDEX TABLE fruit",
    "cluster": "CLUSTER fruit USING fruit_pkey",
    "silenced": "ALTER TABLE fruit DISABLE TRIGGER ALL; ALTER TABLE fruit ENABLE TRIGGER ALL",
    "setval": "SELECT setval('fruit_id_seq', 77)",
    "restart": "ALTER SEQUENCE fruit_id_seq RESTART WITH 5",
    "made and dropped": "CREATE TABLE y (f int REFERENCES fruit, t text); DROP TABLE y",
    "temporary": "CREATE TEMPORARY TABLE temporary (n int); CREATE INDEX ON temporary (n)",
}


def test_what_no_structure_changes(postgres_url: str) -> None:
    with connect(postgres_url, application="test", search_path="structure,pg_catalog") as own:
        own.execute(
            "DROP SCHEMA IF EXISTS structure CASCADE; CREATE SCHEMA structure;"
            " CREATE TABLE fruit (id serial PRIMARY KEY, name text);"
            " CREATE TABLE basket (id int, fruit int REFERENCES fruit DEFERRABLE INITIALLY DEFERRED);"
            " CREATE MATERIALIZED VIEW names AS SELECT id, name FROM fruit;"
            " CREATE UNIQUE INDEX ON names (id)"
        )
        structure = Structure.of(own, sql.SQL("(nspname = {})").format("structure"))
        for name, statements in NO_CHANGES.items():
            own.execute(statements)
            assert structure.changes(own) == [], name
            assert structure.drop_added(own) == [], name
        own.execute("DROP SCHEMA structure CASCADE")

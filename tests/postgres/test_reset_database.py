"""With a database for each worker, all of its schemas are reset, and those of tests are dropped."""

import pytest

from tests.support.doors import enter, write_tests
from tests.support.projects import Project
from tests.support.sentinel import Sentinel

DATABASE = {"ITKIT_POSTGRES_ISOLATION": "database"}
MIGRATION = """
    from django.db import migrations, models

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [
            migrations.RunSQL(["CREATE SCHEMA reporting", 'CREATE SCHEMA "Odd name"', "CREATE SCHEMA empty"]),
            migrations.CreateModel("Fact", [
                ("id", models.BigAutoField(primary_key=True)),
                ("number", models.CharField(max_length=20)),
                ("customer", models.ForeignKey("shop.Customer", models.CASCADE, null=True)),
            ], options={"db_table": '"reporting"."fact"'}),
            migrations.RunSQL('''
                INSERT INTO reporting.fact (number) VALUES ('seeded');
                CREATE TABLE "Odd name".t (n int); INSERT INTO "Odd name".t VALUES (1), (2);
                CREATE SEQUENCE reporting.invoice_no START 100; SELECT nextval('reporting.invoice_no');
                CREATE MATERIALIZED VIEW "Odd name".facts AS SELECT number FROM reporting.fact;
                CREATE MATERIALIZED VIEW public.of_facts AS SELECT count(*) AS n FROM "Odd name".facts;
            '''),
        ]
"""
MODELS = """

        class Fact(models.Model):
            number = models.CharField(max_length=20)
            customer = models.ForeignKey(Customer, models.CASCADE, null=True)

            class Meta:
                db_table = '"reporting"."fact"'
"""
TESTS = """
    from django.db import connection
    from django.test import TestCase, TransactionTestCase

    from shop.models import Customer, Fact


    def run(statement):
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None


    class Rows(TransactionTestCase):
        def setUp(self):
            self.assertEqual([fact.number for fact in Fact.objects.all()], ["seeded"])
            self.assertEqual(Customer.objects.count(), 0)
            self.assertEqual(run('SELECT n FROM "Odd name".t ORDER BY n'), [(1,), (2,)])
            self.assertEqual(run("SELECT nextval('reporting.invoice_no')"), [(101,)])
            self.assertEqual(run("SELECT n FROM public.of_facts"), [(1,)])
            self.assertEqual(
                run(
                    "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|itkit_seeds)'"
                    " ORDER BY nspname"
                ),
                [("Odd name",), ("empty",), ("information_schema",), ("public",), ("reporting",)],
            )

        def test_a_rows_that_refer_to_each_other(self):
            customer = Customer.objects.create(email="a@example.com")
            self.assertEqual(customer.pk, 1)
            self.assertEqual(Fact.objects.create(number="1", customer=customer).pk, 2)

        def test_b_seeded_rows(self):
            Fact.objects.update(number="changed", customer=Customer.objects.create(email="b@e.com"))
            run('DELETE FROM "Odd name".t WHERE n = 1')
            run('REFRESH MATERIALIZED VIEW "Odd name".facts')

        def test_c_all_rows(self):
            Fact.objects.all().delete()
            run('TRUNCATE "Odd name".t')
            run('REFRESH MATERIALIZED VIEW "Odd name".facts')
            run("REFRESH MATERIALIZED VIEW public.of_facts")

        def test_d_schemas(self):
            run("CREATE SCHEMA customer_1 CREATE TABLE t (n int)")
            run("CREATE SCHEMA customer_2")
            run("INSERT INTO customer_1.t VALUES (1)")

        def test_e_schemas_again(self):
            self.test_d_schemas()

        def test_f_nothing(self):
            pass


    class RolledBack(TestCase):
        def test_schema(self):
            run("CREATE SCHEMA customer_1")
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.write("shop/migrations/0002_fact.py", MIGRATION)
    models = (project.path / "shop/models.py").read_text()
    project.write("shop/models.py", models + MODELS.replace("\n        ", "\n"))
    write_tests(project, TESTS)
    return project


@pytest.mark.parametrize("role", ["boss", "builder"])
def test_all_schemas_are_reset(shop: Project, sentinel: Sentinel, role: str) -> None:
    """With and without foreign keys in the way, and in the run that finds what was kept."""
    sentinel.point(shop, role)
    before = sentinel.digest()
    for door in ("django", "pytest"):
        result = enter(door, shop, **DATABASE)
        assert result.counts == {"passed": 7}, result.output
    assert sentinel.digest() == before


@pytest.mark.slow
def test_all_schemas_are_reset_on_the_embedded_server(shop: Project) -> None:
    for door in ("django, two spawned workers", "pytest"):
        result = enter(door, shop, **DATABASE)
        assert result.counts == {"passed": 7}, result.output


def test_what_the_last_test_has_left_is_not_kept(shop: Project, sentinel: Sentinel) -> None:
    """A worker's database is kept clean, or dropped, as is one whose views were refreshed."""
    sentinel.point(shop, "builder")
    for _ in range(2):
        result = shop.test("--integration", "shop.tests.test_shop.Rows.test_d_schemas", **DATABASE)
        assert result.counts == {"passed": 1}, result.output
    left = [name for name in sentinel.ours() if name.startswith("itkit_")]
    assert any(name.endswith("_template") for name in left)
    for name in left:
        with sentinel.connect(name) as connection:
            query = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^customer'"
            assert connection.execute(query).fetchall() == []
            rows = connection.execute("SELECT number FROM reporting.fact").fetchall()
            assert rows == [("seeded",)]

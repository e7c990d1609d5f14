"""The corners of Django's database settings, of Postgres and of its roles, in whole projects."""

import pytest

from tests.support.doors import enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

PARALLEL = [
    "django, two forked workers",
    "django, two spawned workers",
    "pytest, two xdist workers",
]

ALIASES = """
    def postgres(name, **more):
        return {**DATABASES["default"], "NAME": name, **more}

    DATABASES |= {
        "replica": postgres("shop", TEST={"MIRROR": "default"}),
        "again": postgres("shop", OPTIONS={"options": "-c work_mem=77MB"}),
        "again_replica": postgres("anything", TEST={"MIRROR": "again"}),
        "stock": postgres("stock", TEST={"DEPENDENCIES": ["audit"]}),
        "audit": postgres("audit", TEST={"DEPENDENCIES": []}),
        "unmigrated": postgres("unmigrated", TEST={"MIGRATE": False}),
        "files": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    }
    DATABASE_ROUTERS = ["routers.Router"]
    INSTALLED_APPS.append("stock")
"""

ROUTERS = """
    class Router:
        def db_for_read(self, model, **hints):
            return "stock" if model._meta.app_label == "stock" else None

        db_for_write = db_for_read

        def allow_migrate(self, db, app_label, **hints):
            if db in ("default", "unmigrated", "files"):
                return app_label != "stock"
            return db == "stock" and app_label == "stock"
"""

STOCK = {
    "routers.py": ROUTERS,
    "stock/__init__.py": "",
    "stock/models.py": """
        from django.db import models

        class Item(models.Model):
            name = models.CharField(max_length=9)
    """,
    "stock/migrations/__init__.py": "",
    "stock/migrations/0001_initial.py": """
        from django.db import migrations, models

        def seed(apps, schema_editor):
            if schema_editor.connection.alias == "stock":
                apps.get_model("stock", "Item").objects.create(name="seeded")

        class Migration(migrations.Migration):
            initial = True
            operations = [
                migrations.CreateModel("Item", [
                    ("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=9)),
                ]),
                migrations.RunPython(seed),
            ]
    """,
}

ALIASES_TESTS = """
    from django.db import connections
    from django.test import TestCase, TransactionTestCase

    from itkit.test import IntegrationTestCase
    from shop.models import Currency, Customer
    from stock.models import Item


    def tables(alias):
        return sorted(connections[alias].introspection.table_names())


    class Steps:
        databases = "__all__"
        sees_commits = True

        def setUp(self):
            self.assertEqual([item.name for item in Item.objects.all()], ["seeded"])
            self.assertEqual([c.code for c in Currency.objects.using("replica")], ["EUR"])
            self.assertFalse(Customer.objects.using("again").exists())
            self.assertFalse(Customer.objects.using("unmigrated").exists())
            self.assertFalse(Customer.objects.using("files").exists())

        def test_a_each_alias_has_its_own_tables(self):
            self.assertEqual(tables("stock"), ["django_migrations", "stock_item"])
            self.assertEqual(tables("audit"), ["django_migrations"])
            self.assertNotIn("stock_item", tables("default"))
            self.assertIn("shop_customer", tables("files"))
            for same in ("replica", "again", "again_replica"):
                self.assertEqual(tables(same), tables("default"))

        def test_b_rows_are_seen_where_they_should_be(self):
            Item.objects.all().delete()
            Item.objects.create(name="made")
            for alias in ("default", "unmigrated", "files"):
                Customer.objects.using(alias).create(email=f"{alias}@example.com")
            for alias in ("default", "unmigrated", "files"):
                found = [customer.email for customer in Customer.objects.using(alias)]
                self.assertEqual(found, [f"{alias}@example.com"])
            for alias in ("replica", "again", "again_replica"):
                seen = Customer.objects.using(alias).filter(email="default@example.com")
                # As Django documents it: each alias has a connection, a TestCase a transaction.
                self.assertEqual(seen.exists(), self.sees_commits)

        def test_c_a_second_name_of_a_database_may_write_too(self):
            Customer.objects.using("again").create(email="again@example.com")
            self.assertEqual(Customer.objects.using("default").count(), self.sees_commits)

        def test_d_an_alias_keeps_its_own_options(self):
            with connections["again"].cursor() as cursor:
                cursor.execute("SHOW work_mem")
                self.assertEqual(cursor.fetchone()[0], "77MB")

        def test_e_an_unmigrated_alias_has_the_tables_of_models_alone(self):
            self.assertIn("shop_customer", tables("unmigrated"))
            self.assertFalse(Currency.objects.using("unmigrated").exists())

        test_f = test_b_rows_are_seen_where_they_should_be


    class Committed(Steps, IntegrationTestCase):
        pass


    class Plain(Steps, TransactionTestCase):
        pass


    class RolledBack(Steps, TestCase):
        sees_commits = False
"""


@pytest.mark.parametrize("door", PARALLEL)
@pytest.mark.slow
def test_several_aliases_mirrors_dependencies_and_routers(door: str, project: Project) -> None:
    project.settings(ALIASES)
    for name, text in STOCK.items():
        project.write(name, text)
    write_tests(project, ALIASES_TESTS)
    result = enter(door, project)
    assert result.counts == {"passed": 18}, result.output
    assert project.leftovers() == []


CONNECTIONS = """
    def shop(**more):
        return {**DATABASES["default"], **more}

    DATABASES |= {
        "kept": shop(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True),
        "bound": shop(OPTIONS={"server_side_binding": True}),
        "cursorless": shop(DISABLE_SERVER_SIDE_CURSORS=True),
        "strict": shop(OPTIONS={"isolation_level": 4}),
        "assumed": shop(OPTIONS={"assume_role": "shop_app"}),
        "pooled": shop(OPTIONS={"pool": {"min_size": 1, "max_size": 4, "timeout": 10}}),
    }
    DATABASES["default"]["OPTIONS"] = {"pool": True}
"""

CONNECTIONS_TESTS = """
    import asyncio
    import threading
    import warnings

    from django.db import connection, connections, transaction
    from django.test import AsyncClient, TestCase, override_settings

    from itkit.test import IntegrationTestCase
    from shop.models import Currency, Customer

    ALIASES = ["default", "kept", "bound", "cursorless", "strict", "assumed", "pooled"]


    def show(alias, query):
        with connections[alias].cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0]


    class Connections(IntegrationTestCase):
        def setUp(self):
            self.assertFalse(Customer.objects.exists())

        def test_each_kind_of_connection_reads_writes_and_iterates(self):
            for number, alias in enumerate(ALIASES, start=1):
                Customer.objects.using(alias).create(email=f"{alias}@example.com")
                emails = [row.email for row in Customer.objects.using(alias).iterator(chunk_size=2)]
                self.assertEqual(len(emails), number)
                self.assertNotIn("public", show(alias, "SHOW search_path"))
            self.assertEqual(len({show(alias, "SELECT current_schema()") for alias in ALIASES}), 1)
            with transaction.atomic(using="strict"):
                self.assertEqual(show("strict", "SHOW transaction_isolation"), "serializable")

        test_again = test_each_kind_of_connection_reads_writes_and_iterates

        def test_a_server_side_cursor_in_a_transaction(self):
            Customer.objects.bulk_create(Customer(email=f"{n}@example.com") for n in range(5))
            for alias in ALIASES:
                with transaction.atomic(using=alias):
                    rows = Customer.objects.using(alias).iterator(chunk_size=2)
                    next(rows)
                    self.assertEqual(len(list(rows)), 4)

        def test_an_iterator_left_half_read(self):
            Customer.objects.bulk_create(Customer(email=f"{n}@example.com") for n in range(5))
            for alias in ALIASES:
                next(Customer.objects.using(alias).iterator(chunk_size=2))

        def test_threads_that_close_all_their_connections(self):
            def work(number):
                for alias in ALIASES:
                    Customer.objects.using(alias).create(email=f"{alias}{number}@example.com")
                connections.close_all()

            threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(Customer.objects.count(), 4 * len(ALIASES))

        def test_connections_that_a_test_closes_come_back(self):
            connections.close_all()
            for alias in ALIASES:
                self.assertEqual(Currency.objects.using(alias).get().code, "EUR")
            Customer.objects.create(email="a@example.com")
            connections.close_all()

        @override_settings(LANGUAGE_CODE="de", TIME_ZONE="Europe/Berlin", DEBUG=True)
        def test_settings_that_have_nothing_to_do_with_it(self):
            Customer.objects.create(email="a@example.com")
            self.assertEqual(show("default", "SHOW timezone"), "UTC")

        async def test_async_orm(self):
            made = await Customer.objects.acreate(email="a@example.com")
            self.assertEqual(await Customer.objects.aget(email="a@example.com"), made)
            await asyncio.gather(*[Customer.objects.acreate(email=f"{n}@e.com") for n in range(5)])
            self.assertEqual([c.email async for c in Customer.objects.filter(email="0@e.com")], ["0@e.com"])

        async def test_async_views(self):
            await Customer.objects.acreate(email="a@example.com")
            for path in ("/count/", "/acount/"):
                answer = await AsyncClient().get(path)
                self.assertEqual(answer.content, b"1")


    class RolledBack(TestCase):
        databases = "__all__"

        def test_each_kind_of_connection_reads_and_writes(self):
            for alias in ALIASES:
                self.assertEqual(Currency.objects.using(alias).get().code, "EUR")
                self.assertFalse(Customer.objects.using(alias).exists())
            Customer.objects.create(email="a@example.com")
            self.assertEqual(len(list(Customer.objects.iterator())), 1)

        test_again = test_each_kind_of_connection_reads_and_writes

        async def test_async_orm(self):
            await Customer.objects.acreate(email="a@example.com")
            self.assertEqual(await Customer.objects.acount(), 1)
"""

ASYNC_URLS = """
    from django.http import HttpResponse
    from django.urls import path

    from shop.models import Customer

    async def acount(request):
        return HttpResponse(str(await Customer.objects.acount()))

    urlpatterns = [
        path("count/", lambda request: HttpResponse(str(Customer.objects.count()))),
        path("acount/", acount),
    ]
"""


@pytest.mark.parametrize("door", PARALLEL)
@pytest.mark.slow
def test_every_kind_of_connection(door: str, project: Project) -> None:
    project.settings(CONNECTIONS)
    project.write("urls.py", ASYNC_URLS)
    write_tests(project, CONNECTIONS_TESTS)
    result = enter(door, project)
    assert result.counts == {"passed": 12}, result.output
    assert project.leftovers() == []

"""Django's and psycopg's less usual ways, and servers that lack something, in whole projects."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from itkit.exceptions import IsolationError
from itkit.postgres import probe
from tests.support.doors import SERIAL, enter, slow
from tests.support.pooler import behind, pooler, socket_of
from tests.support.projects import Project, Result, wait_until

pytestmark = pytest.mark.usefixtures("shared_servers", "beside_a_developer")

ONE = """
    from itkit.test import IntegrationTestCase
    from shop.models import Customer

    class One(IntegrationTestCase):
        def test_one(self):
            Customer.objects.create(email="a@example.com")
"""


def refused(result: Result) -> str:
    """Return the message of a run that was refused before any test, as a user should see it."""
    assert result.code != 0
    assert "Traceback" not in result.output, result.output
    assert "passed" not in result.output
    _, found, message = result.output.rpartition("itkit: ")
    assert found, result.output
    return message


@pytest.mark.parametrize("answer", ["ignores", "refuses"])
def test_a_pooler_that_does_not_pass_options_on_is_refused(
    answer: str, project: Project, postgres_url: str
) -> None:
    project.write("test_one.py", ONE)
    with pooler(socket_of(postgres_url), answer) as port:
        url = behind(port)
        with pytest.raises(IsolationError, match="pooler"):
            probe(url, 5)
        for door in SERIAL:
            message = refused(enter(door, project, ITKIT_POSTGRES_URL=url))
            assert (
                'let ITKIT_POSTGRES_URL (ITKIT["POSTGRES"]["URL"]) name the server itself'
                in message
            )


def test_a_pooler_that_passes_all_on_is_no_obstacle(project: Project, postgres_url: str) -> None:
    project.write("test_one.py", ONE)
    with pooler(socket_of(postgres_url), "passes") as port:
        result = project.test("--integration", ITKIT_POSTGRES_URL=behind(port))
    assert result.counts == {"passed": 1}, result.output


PARALLEL = ["django", "django, two forked workers", "pytest", "pytest, two xdist workers"]
WHERE = [
    ("schema", PARALLEL[0]),
    ("schema", PARALLEL[3]),
    ("schema", PARALLEL[1]),
    ("schema", PARALLEL[2]),
    *(("database", door) for door in SERIAL),
]
"""Each isolation with some of the doors."""


ICU = {
    "a collation of ICU is created": """
        CreateCollation("german", provider="icu", locale="de-DE"),
    """,
    "one that is there is used": """
        migrations.AddField("Customer", "name", models.TextField(default="", db_collation="de-x-icu")),
    """,
}


@pytest.mark.parametrize(
    ("operation", "door"),
    [*zip(ICU, PARALLEL[::3], strict=True), *map(slow, ICU, PARALLEL[1:3])],
)
def test_a_migration_that_needs_icu_is_told_who_has_it(
    operation: str, door: str, project: Project
) -> None:
    project.write("test_one.py", ONE)
    project.go_on_after_warnings()
    project.write(
        "shop/migrations/0002_icu.py",
        f"""
        from django.contrib.postgres.operations import CreateCollation
        from django.db import migrations, models

        class Migration(migrations.Migration):
            dependencies = [("shop", "0001_initial")]
            operations = [{ICU[operation].strip()}]
        """,
    )
    message = refused(enter(door, project))
    assert "ITKIT_SOURCE=system" in message
    assert "ITKIT_POSTGRES_URL=postgresql://" in message


ALIASES = """
    DATABASES["default"]["TEST"] = {"DEPENDENCIES": ["late"]}
    DATABASES |= {
        "audit": DATABASES["default"] | {"NAME": "audit", "TEST": {"DEPENDENCIES": []}},
        "twin": DATABASES["default"] | {"TEST": {"DEPENDENCIES": ["late"]}},
        "replica": DATABASES["default"] | {"NAME": "elsewhere", "TEST": {"MIRROR": "default"}},
        "bare": DATABASES["default"] | {"NAME": "bare", "TEST": {"MIGRATE": False, "DEPENDENCIES": []}},
        "late": DATABASES["default"] | {"NAME": "late", "TEST": {"DEPENDENCIES": ["audit"]}},
        "lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE / "lite.sqlite3"},
    }
    INSTALLED_APPS.append("audit")
    DATABASE_ROUTERS = ["audit.router.Router"]
"""

AUDIT = {
    "audit/__init__.py": "",
    "audit/models.py": """
        from django.db import models

        class Entry(models.Model):
            text = models.TextField()
    """,
    "audit/migrations/__init__.py": "",
    "audit/migrations/0001_initial.py": """
        from django.db import migrations, models

        class Migration(migrations.Migration):
            initial = True
            operations = [
                migrations.CreateModel("Entry", [
                    ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                    ("text", models.TextField()),
                ]),
            ]
    """,
    "audit/router.py": """
        class Router:
            def db_for_read(self, model, **hints):
                return "audit" if model._meta.app_label == "audit" else None

            db_for_write = db_for_read

            def allow_migrate(self, db, app_label, **hints):
                return (app_label == "audit") == (db == "audit") if app_label in {"audit", "shop"} else None
    """,
    "test_aliases.py": """
        from unittest import skipUnless
        import os
        from django.db import connections
        from django.test import TestCase
        from itkit.test import IntegrationTestCase
        from audit.models import Entry
        from shop.models import Currency, Customer

        class Mixin:
            databases = "__all__"

            def codes(self, alias):
                return list(Currency.objects.using(alias).values_list("code", flat=True))

            def tables(self, alias):
                return {name for name in connections[alias].introspection.table_names() if name.startswith(("audit", "shop"))}

        class Committed(Mixin, IntegrationTestCase):
            def test_a_each_alias_has_what_its_router_and_migrations_say(self):
                shop = {"shop_customer", "shop_currency"}
                self.assertEqual({alias: self.tables(alias) for alias in connections}, {
                    "default": shop, "twin": shop, "replica": shop, "bare": shop, "late": shop, "lite": shop,
                    "audit": {"audit_entry"},
                })
                for alias in ("default", "twin", "replica", "late", "lite"):
                    self.assertEqual(self.codes(alias), ["EUR"], alias)
                self.assertEqual(self.codes("bare"), [])

            def test_b_aliases_of_one_database_share_rows_and_others_do_not(self):
                Customer.objects.create(email="a@example.com")
                for alias in ("default", "twin", "replica"):
                    self.assertEqual(Customer.objects.using(alias).count(), 1, alias)
                for alias in ("bare", "late", "lite"):
                    self.assertEqual(Customer.objects.using(alias).count(), 0, alias)
                    Customer.objects.using(alias).create(email="a@example.com")
                Entry.objects.create(text="x")
                Currency.objects.using("late").all().delete()
                Currency.objects.using("twin").all().delete()

            def test_c_all_of_it_is_reset(self):
                for alias in ("default", "twin", "replica", "bare", "late", "lite"):
                    self.assertEqual(Customer.objects.using(alias).count(), 0, alias)
                self.assertEqual(self.codes("late") + self.codes("default"), ["EUR", "EUR"])
                self.assertEqual(Entry.objects.count(), 0)

        class RolledBack(Mixin, TestCase):
            def test_rows_are_rolled_back(self):
                self.assertEqual(Customer.objects.using("late").count(), 0)
                Customer.objects.create(email="a@example.com")
                Customer.objects.using("late").create(email="a@example.com")

            test_twice = test_rows_are_rolled_back
    """,
}


def with_aliases(project: Project) -> None:
    project.settings("from pathlib import Path\nBASE = Path(__file__).parent\n")
    project.settings(ALIASES)
    for name, text in AUDIT.items():
        project.write(name, text)


@pytest.mark.parametrize(("isolation", "door"), WHERE)
@pytest.mark.slow
def test_several_aliases_mirrors_dependencies_and_routers(
    isolation: str, door: str, project: Project
) -> None:
    with_aliases(project)
    result = enter(door, project, ITKIT_POSTGRES_ISOLATION=isolation)
    assert result.counts == {"passed": 5}, result.output


WAYS_SETTINGS = """
    DATABASES["default"] |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
    DATABASES["default"]["OPTIONS"] = {
        "server_side_binding": True, "isolation_level": IsolationLevel.REPEATABLE_READ,
    }
    DATABASES["pooled"] = DATABASES["default"] | {"CONN_MAX_AGE": 0, "NAME": "pooled", "OPTIONS": {"pool": True}}
"""
WAYS = """
    import asyncio
    import threading

    from django.db import connection, connections, transaction
    from django.test import TestCase
    from itkit.test import IntegrationTestCase
    from shop.models import Currency, Customer

    def in_thread(function):
        found = []

        def run():
            try:
                found.append(function())
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return found[0]

    class Ways:
        databases = "__all__"

        def test_server_side_cursors_and_binding(self):
            for alias in ("default", "pooled"):
                Customer.objects.using(alias).bulk_create(Customer(email=f"{n}@example.com") for n in range(50))
                with transaction.atomic(alias):
                    rows = Customer.objects.using(alias).order_by("id").iterator(chunk_size=7)
                    self.assertEqual(len(list(rows)), 50)

        async def test_async(self):
            for alias in ("default", "pooled"):
                objects = Customer.objects.using(alias)
                made = await objects.acreate(email="a@example.com")
                self.assertEqual(await objects.aget(email="a@example.com"), made)
                self.assertEqual([row async for row in objects.all()], [made])

        def test_nothing_of_another_test_is_there(self):
            for alias in ("default", "pooled"):
                self.assertEqual(Customer.objects.using(alias).count(), 0)
                self.assertEqual(Currency.objects.using(alias).get().code, "EUR")
                Customer.objects.using(alias).create(email="a@example.com")

    class Committed(Ways, IntegrationTestCase):
        def test_threads_and_close_all(self):
            for alias in ("default", "pooled"):
                Customer.objects.using(alias).create(email="a@example.com")
                counts = [in_thread(Customer.objects.using(alias).count) for _ in range(6)]
                self.assertEqual(counts, [1] * 6)
            connections.close_all()
            self.assertEqual(Customer.objects.count(), 1)

        async def test_async_tasks_at_once(self):
            for alias in ("default", "pooled"):
                creating = [Customer.objects.using(alias).acreate(email=f"{n}@example.com") for n in range(5)]
                await asyncio.gather(*creating)
                self.assertEqual(await Customer.objects.using(alias).acount(), 5)

        def test_options_reach_the_server(self):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SHOW transaction_isolation")
                self.assertEqual(cursor.fetchone()[0], "repeatable read")
            self.assertIsNotNone(connections["pooled"].pool)

    class RolledBack(Ways, TestCase):
        pass
"""


@pytest.mark.parametrize(("isolation", "door"), WHERE)
def test_pools_cursors_binding_async_and_threads(
    isolation: str, door: str, project: Project
) -> None:
    project.settings("from psycopg import IsolationLevel\n")
    project.settings(WAYS_SETTINGS)
    project.write("test_ways.py", WAYS)
    result = enter(door, project, ITKIT_POSTGRES_ISOLATION=isolation)
    assert result.counts == {"passed": 9}, result.output


COMMANDS = """
    import io

    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor
    from django.db.migrations.recorder import MigrationRecorder
    from django.test import TestCase, TransactionTestCase
    from itkit.test import IntegrationTestCase
    from shop.models import Currency, Customer

    def output(*command):
        out = io.StringIO()
        call_command(*command, stdout=out)
        return out.getvalue()

    class Commands(IntegrationTestCase):
        def test_inspectdb_shows_the_projects_own_tables(self):
            models = [line for line in output("inspectdb").splitlines() if line.startswith("class ")]
            self.assertEqual(sorted(models), sorted(
                f"class {name}(models.Model):" for name in (
                    "AuthGroup", "AuthGroupPermissions", "AuthPermission", "AuthUser", "AuthUserGroups",
                    "AuthUserUserPermissions", "DjangoContentType", "DjangoMigrations", "ShopCurrency",
                    "ShopCustomer",
                )
            ))

        def test_sqlsequencereset_runs(self):
            Customer.objects.create(pk=41, email="a@example.com")
            with connection.cursor() as cursor:
                cursor.execute(output("sqlsequencereset", "shop", "--no-color"))
            self.assertEqual(Customer.objects.create(email="b@example.com").pk, 42)

    class Migrating(TransactionTestCase):
        def test_a_migrate_to_zero_and_forwards(self):
            MigrationExecutor(connection).migrate([("shop", None)])
            MigrationExecutor(connection).migrate([("shop", "0001_initial")])
            Currency.objects.create(code="USD")
            Customer.objects.create(email="a@example.com")

        def test_b_rows_are_as_before(self):
            self.assertEqual([currency.code for currency in Currency.objects.all()], ["EUR"])
            MigrationExecutor(connection).migrate([("shop", None)])
            MigrationExecutor(connection).migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())

    class After:
        def test_rows_tables_and_sequences_are_as_before(self):
            self.assertEqual([currency.code for currency in Currency.objects.all()], ["EUR"])
            self.assertEqual(Customer.objects.count(), 0)
            Customer.objects.create(email="a@example.com")
            applied = MigrationRecorder(connection).applied_migrations()
            self.assertIn(("shop", "0001_initial"), applied)
            self.assertEqual(MigrationExecutor(connection).migration_plan([("shop", "0001_initial")]), [])

    class ZAfter(After, TransactionTestCase):
        pass

    class BAfter(After, TestCase):
        pass
"""


@pytest.mark.parametrize("isolation", ["schema", "database"])
def test_commands_and_migrations_inside_of_tests(isolation: str, project: Project) -> None:
    project.write("test_commands.py", COMMANDS)
    for door in SERIAL:
        result = enter(door, project, ITKIT_POSTGRES_ISOLATION=isolation)
        assert result.counts == {"passed": 6}, result.output


SEVERAL = """
    from django.test import TestCase, TransactionTestCase
    from itkit.test import IntegrationTestCase
    from shop.models import Currency, Customer

    class Rows:
        def test_a_only_the_rows_of_migrations_are_there(self):
            self.assertEqual([currency.code for currency in Currency.objects.all()], ["EUR"])
            self.assertFalse(Customer.objects.exists())
            Customer.objects.create(email="a@example.com")
            Currency.objects.all().delete()

        test_b_still = test_a_only_the_rows_of_migrations_are_there

    class Integration(Rows, IntegrationTestCase):
        pass

    class Committed(Rows, TransactionTestCase):
        pass

    class RolledBack(Rows, TestCase):
        pass
"""
OPTIONS = {
    "django, keepdb and debug-sql": ("test", "--keepdb", "--debug-sql"),
    "django, keepdb and fork": ("test", "--keepdb", "--parallel", "2"),
    "django, forkserver": ("test", "--parallel", "2"),
    "django, spawn": ("test", "--keepdb", "--parallel", "2"),
    "pytest, reuse-db": ("--reuse-db",),
    "pytest, reuse-db and create-db": ("--reuse-db", "--create-db"),
    "pytest, xdist": ("-n", "2", "--reuse-db"),
}
METHODS = ("fork", "forkserver", "spawn")


def left_on(url: str) -> list[str]:
    """Return what is left of itkit's on a server, schemas of the maintenance database included."""
    query = (
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'itkit%' UNION ALL"
        " SELECT datname FROM pg_database WHERE datname LIKE 'itkit%' OR datname LIKE 'test_%'"
        " UNION ALL SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'itkit%'"
    )
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute(query).fetchall()]


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.parametrize("options", OPTIONS)
def test_options_of_the_runners(
    options: str, isolation: str, project: Project, postgres_url: str
) -> None:
    project.write("test_several.py", SEVERAL)
    method = next((method for method in METHODS if method in options), "")
    env = {
        "ITKIT_POSTGRES_URL": postgres_url,
        "ITKIT_POSTGRES_ISOLATION": isolation,
        "START_METHOD": method,
    }
    enter_by = project.manage if options.startswith("django") else project.pytest
    result = enter_by(*OPTIONS[options], "--integration", **env)
    assert result.counts == {"passed": 6}, result.output
    assert left_on(postgres_url) == []


@pytest.mark.slow
def test_without_migrations_tables_are_made_of_the_models(project: Project) -> None:
    project.write(
        "test_bare.py",
        """
        from itkit.test import IntegrationTestCase
        from shop.models import Currency, Customer

        class Bare(IntegrationTestCase):
            def test_a_there_are_tables_but_no_rows(self):
                self.assertFalse(Currency.objects.exists())
                self.assertFalse(Customer.objects.exists())
                Customer.objects.create(email="a@example.com")

            test_b_still = test_a_there_are_tables_but_no_rows
        """,
    )
    for arguments in [("--nomigrations",), ("--nomigrations", "-n", "2")]:
        result = project.pytest("--integration", *arguments)
        assert result.counts == {"passed": 2}, result.output
    project.write("test_bare.py", SEVERAL)  # what was made without is not taken for migrated
    result = project.pytest("--integration")
    assert result.counts == {"passed": 6}, result.output


@pytest.fixture
def admin(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def least_role(postgres_url: str, admin: psycopg.Connection) -> Iterator[str]:
    """URL of a role without any right of its own, to a database that nobody may use by default."""
    admin.execute("CREATE ROLE least LOGIN")
    admin.execute("CREATE DATABASE shop_least")
    admin.execute("REVOKE ALL ON DATABASE shop_least FROM PUBLIC")
    admin.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
    yield postgres_url.replace("//postgres@/postgres", "//least@/shop_least")
    admin.execute("GRANT CONNECT ON DATABASE postgres, template1 TO PUBLIC")
    admin.execute("DROP DATABASE shop_least WITH (FORCE)")
    admin.execute("DROP ROLE least")


@pytest.mark.slow
def test_connect_and_create_on_one_database_are_enough(
    project: Project, least_role: str, admin: psycopg.Connection, postgres_url: str
) -> None:
    project.write("test_several.py", SEVERAL)
    for missing, granted in [("CONNECT", "CONNECT"), ("CREATE", "CREATE")]:
        for door in SERIAL:
            message = refused(enter(door, project, ITKIT_POSTGRES_URL=least_role))
            assert f'GRANT {missing} ON DATABASE "shop_least" TO "least"' in message
        admin.execute(f"GRANT {granted} ON DATABASE shop_least TO least")
    for door in PARALLEL[1], PARALLEL[3]:
        result = enter(door, project, ITKIT_POSTGRES_URL=least_role)
        assert result.counts == {"passed": 6}, result.output
    assert left_on(postgres_url.replace("/postgres?", "/shop_least?")) == []


@pytest.fixture
def two_entrances(postgres_url: str, admin: psycopg.Connection) -> Iterator[list[str]]:
    """URLs of a role that may create databases, to two databases; it may not enter ``postgres``."""
    admin.execute("CREATE ROLE twin LOGIN CREATEDB CREATEROLE")
    admin.execute("CREATE DATABASE shop_one")
    admin.execute("CREATE DATABASE shop_two")
    admin.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
    yield [
        postgres_url.replace("//postgres@/postgres", f"//twin@/{home}")
        for home in ("shop_one", "shop_two")
    ]
    admin.execute("GRANT CONNECT ON DATABASE postgres, template1 TO PUBLIC")
    admin.execute("DROP DATABASE shop_one WITH (FORCE)")
    admin.execute("DROP DATABASE shop_two WITH (FORCE)")
    admin.execute("DROP OWNED BY twin")
    admin.execute("DROP ROLE twin")


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["schema", "database"])
def test_runs_at_once_by_different_maintenance_databases(
    isolation: str, project: Project, two_entrances: list[str], admin: psycopg.Connection
) -> None:
    project.write("test_several.py", SEVERAL)
    project.write(
        "test_waits.py",
        """
        import os
        import time
        from pathlib import Path

        from django.test import TestCase

        class Waits(TestCase):
            def test_another_run_begins_and_ends(self):
                if "WAITS" in os.environ:
                    Path("here").touch()
                    while not Path("gone").exists():
                        time.sleep(0.01)
        """,
    )

    def start(url: str, **env: str) -> Any:
        places = {"ITKIT_POSTGRES_URL": url, "ITKIT_POSTGRES_ISOLATION": isolation}
        return project.start("manage.py", "test", "--integration", **places, **env)

    shared = "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles ORDER BY 1"
    before = admin.execute(shared).fetchall()
    one, two = two_entrances
    for _ in range(3):
        for result in map(project.finish, [start(one), start(two)]):
            assert result.counts == {"passed": 7}, result.output
        assert admin.execute(shared).fetchall() == before
    waiting = start(one, WAITS="1")
    assert wait_until((project.path / "here").exists)
    try:
        result = project.finish(start(two))
    finally:
        (project.path / "gone").touch()
    assert result.counts == {"passed": 7}, result.output
    result = project.finish(waiting)
    assert result.counts == {"passed": 7}, result.output
    assert admin.execute(shared).fetchall() == before

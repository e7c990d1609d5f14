"""A test finds the same sequences and caches whatever has run before it."""

import pytest

from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

SEQUENCES = """
    from django.db import connection
    from django.test import TestCase, TransactionTestCase

    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.models import Currency, Customer


    def next_value(sequence):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT nextval('{sequence}')")
            return cursor.fetchone()[0]


    class RolledBack(IntegrationMixin, TestCase):
        @classmethod
        def setUpTestData(cls):
            Customer.objects.create(email="all@example.com")

        def test_takes_numbers(self):
            for number in range(3):
                Customer.objects.create(email=f"{number}@example.com")
            Currency.objects.create(code="CHF")
            next_value("invoice_no")

        def test_takes_numbers_of_a_batch(self):
            self.data.create_batch(Customer, 4)


    class Committed(IntegrationTestCase):
        def check(self):
            self.assertEqual(Customer.objects.create(email="a@example.com").pk, 1)
            self.assertEqual(Currency.objects.create(code="USD").pk, 2)
            self.assertEqual(next_value("invoice_no"), 100)

        def test_1(self):
            self.check()

        def test_2(self):
            self.check()


    class Loaded(TransactionTestCase):
        fixtures = ["customers"]

        def test_1(self):
            self.assertEqual([found.pk for found in Customer.objects.all()], [1])

        def test_2(self):
            self.assertEqual([found.pk for found in Customer.objects.all()], [1])


    class Reset(TransactionTestCase):
        reset_sequences = True

        def test_1(self):
            self.assertEqual(Customer.objects.create(email="a@example.com").pk, 1)
"""
INVOICES = """
    from django.db import migrations

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [migrations.RunSQL("CREATE SEQUENCE invoice_no START 100")]
"""
FUNCTIONS = """
    import pytest
    from shop.models import Customer


    @pytest.mark.django_db
    def test_a_takes_numbers():
        Customer.objects.create(email="a@example.com")


    @pytest.mark.integration
    def test_b_finds_them_all():
        assert Customer.objects.create(email="a@example.com").pk == 1


    @pytest.mark.django_db
    def test_c_takes_numbers():
        Customer.objects.create(email="a@example.com")


    def test_d_finds_them_all(transactional_db):
        assert Customer.objects.create(email="a@example.com").pk == 1
"""
FIXTURE = '[{"model": "shop.customer", "fields": {"email": "loaded@example.com"}}]'


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.parametrize("door", DOORS)
def test_sequences(door: str, isolation: str, project: Project) -> None:
    project.write("shop/migrations/0002_invoices.py", INVOICES)
    project.write("shop/fixtures/customers.json", FIXTURE)
    write_tests(project, SEQUENCES)
    if "pytest" in door and isolation == "schema":
        project.write("shop/tests/test_functions.py", FUNCTIONS)
    env = {"ITKIT_POSTGRES_ISOLATION": isolation}
    result = enter(door, project, **env)
    expected = 11 if "pytest" in door and isolation == "schema" else 7
    assert result.counts == {"passed": expected}, result.output
    if door == "django":
        result = enter(door, project, "--reverse", **env)
        assert result.counts == {"passed": 7}, result.output


CACHES = """
    from django.contrib.auth.models import User
    from django.contrib.contenttypes.models import ContentType
    from django.contrib.sites.models import Site
    from django.core.cache import cache, caches
    from django.core.cache.backends.locmem import LocMemCache
    from django.test import TransactionTestCase, override_settings

    from itkit.test import IntegrationTestCase
    from shop import rates
    from shop.models import Currency, Customer


    class Rows(TransactionTestCase):
        def check(self):
            site = Site.objects.get_current()
            self.assertEqual(site.domain, "example.com")
            self.assertEqual(rates.code(), "EUR")
            kind = ContentType.objects.get_for_model(Customer)
            self.assertTrue(ContentType.objects.filter(pk=kind.pk).exists())
            self.assertEqual(Currency.objects.create(code="USD").pk, 3)
            site.domain = "a.test"
            site.save()
            self.assertEqual(Site.objects.get_current().domain, "a.test")
            Currency.objects.filter(code="EUR").update(code="CHF")
            rates.code.cache_clear()
            self.assertEqual(rates.code(), "CHF")
            ContentType.objects.all().delete()
            ContentType.objects.clear_cache()
            ContentType.objects.get_for_model(Customer)

        def test_1(self):
            self.check()

        def test_2(self):
            self.check()


    class Committed(IntegrationTestCase):
        check = Rows.check
        test_1 = Rows.test_1
        test_2 = Rows.test_2


    class Memory(IntegrationTestCase):
        lasting = []

        def check(self):
            self.assertIsNone(caches["memory"].get("left"))
            caches["memory"].set("left", 1)
            self.assertIsNone(caches["default"].get("left"))
            caches["default"].set("left", 1)
            self.lasting.append(caches["lasting"].get("left", 0))
            caches["lasting"].set("left", 1)
            self.assertEqual(caches["counting"].keys_set, [])
            caches["counting"].set("left", 1)
            by_hand = LocMemCache("by hand", {})
            self.assertIsNone(by_hand.get("left"))
            by_hand.set("left", 1)
            kind = "django.core.cache.backends.locmem.LocMemCache"
            with override_settings(CACHES={"default": {"BACKEND": kind, "LOCATION": "of a test"}}):
                self.assertIsNone(cache.get("left"))
                cache.set("left", 1)

        def test_1(self):
            self.check()

        def test_2(self):
            self.check()

        @classmethod
        def tearDownClass(cls):
            assert cls.lasting in ([0], [0, 1]), cls.lasting  # two workers of xdist share them
            super().tearDownClass()


    @override_settings(CACHES={
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "of a class"}
    })
    class OfAClass(IntegrationTestCase):
        @classmethod
        def setUpTestData(cls):
            cache.set("given", 1)

        def check(self):
            self.assertEqual(cache.get("given"), 1)
            cache.delete("given")
            self.assertIsNone(cache.get("left"))
            cache.set("left", 1)

        def test_1(self):
            self.check()

        def test_2(self):
            self.check()
"""
RATES = """
    import functools

    from django.db import connection
    from django.db.models.signals import post_migrate


    @functools.cache
    def code():
        from shop.models import Currency

        return Currency.objects.order_by("pk")[0].code


    def seed(using, **kwargs):
        from shop.models import Currency

        Currency.objects.using(using).get_or_create(code="EUR")
        code.cache_clear()


    def careless(using, **kwargs):
        from shop.models import Currency

        # It takes a number each time.
        Currency.objects.using(using).bulk_create([Currency(code="GBP")], ignore_conflicts=True)


    def connect(sender):
        post_migrate.connect(seed, sender=sender)
        post_migrate.connect(careless, sender=sender)
"""
APPS = """
    from django.apps import AppConfig

    class ShopConfig(AppConfig):
        name = "shop"

        def ready(self):
            from shop import rates
            rates.connect(self)
"""


COUNTING = """
    from django.core.cache.backends.locmem import LocMemCache


    class Counting(LocMemCache):
        keys_set = []

        def set(self, key, *args, **kwargs):
            self.keys_set.append(key)
            super().set(key, *args, **kwargs)

        def clear(self):
            super().clear()
            self.keys_set.clear()
"""


@pytest.mark.parametrize("door", DOORS)
def test_what_the_process_remembers(door: str, project: Project) -> None:
    project.write("shop/apps.py", APPS)
    project.write("shop/counting.py", COUNTING)
    project.write("shop/rates.py", RATES)
    write_tests(project, CACHES)
    project.settings("""
        INSTALLED_APPS += ["django.contrib.sites"]
        SITE_ID = 1
        MEMORY = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
        CACHES["memory"] = MEMORY
        CACHES["lasting"] = MEMORY | {"LOCATION": "lasting"}
        CACHES["counting"] = {"BACKEND": "shop.counting.Counting", "LOCATION": "counting"}
        ITKIT["REDIS"] = {"SHARED_ALIASES": ["lasting"]}
    """)
    result = enter(door, project)
    assert result.counts == {"passed": 8}, result.output
    assert "not isolated" not in result.output
    if door == "django":
        result = enter(door, project, "--reverse", "shop.tests.test_shop.Rows")
        assert result.counts == {"passed": 2}, result.output

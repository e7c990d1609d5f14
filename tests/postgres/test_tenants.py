"""django-tenants, for real: a schema for each tenant, in a database for each worker."""

import pytest

from tests.support.doors import enter, write_tests
from tests.support.projects import Project
from tests.support.sentinel import Sentinel

SETTINGS = """
    DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"
    DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
    SHARED_APPS = [
        "django_tenants", "customers", "django.contrib.contenttypes", "django.contrib.auth", "itkit",
    ]
    TENANT_APPS = ["shop"]
    INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
    TENANT_MODEL = "customers.Client"
    TENANT_DOMAIN_MODEL = "customers.Domain"
"""
MODELS = """
    from django.db import models
    from django_tenants.models import DomainMixin, TenantMixin

    class Client(TenantMixin):
        name = models.CharField(max_length=100)
        auto_drop_schema = True

    class Domain(DomainMixin):
        pass
"""
MIGRATION = """
    import django_tenants.postgresql_backend.base
    from django.db import migrations, models

    KEY = ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID"))

    class Migration(migrations.Migration):
        initial = True
        dependencies = []
        operations = [
            migrations.CreateModel("Client", [
                KEY,
                ("schema_name", models.CharField(
                    db_index=True, max_length=63, unique=True,
                    validators=[django_tenants.postgresql_backend.base._check_schema_name],
                )),
                ("name", models.CharField(max_length=100)),
            ], options={"abstract": False}),
            migrations.CreateModel("Domain", [
                KEY,
                ("domain", models.CharField(db_index=True, max_length=253, unique=True)),
                ("is_primary", models.BooleanField(db_index=True, default=True)),
                ("tenant", models.ForeignKey(
                    on_delete=models.CASCADE, related_name="domains", to="customers.client",
                )),
            ], options={"abstract": False}),
        ]
"""
TESTS = """
    from django.core.management import call_command
    from django.db import connection
    from django.test import TransactionTestCase
    from django_tenants.test.cases import FastTenantTestCase, TenantTestCase
    from django_tenants.utils import tenant_context

    from customers.models import Client
    from shop.models import Currency, Customer


    class Fast(FastTenantTestCase):
        def test_a(self):
            Customer.objects.create(email="a@example.com")
            self.assertEqual(Customer.objects.count(), 1)

        def test_b(self):
            self.assertEqual(Customer.objects.count(), 0)
            self.assertEqual(Currency.objects.get().code, "EUR")


    class FastAgain(Fast):
        pass


    class Whole(TenantTestCase):
        def test_a(self):
            self.assertEqual(self.tenant.pk, Client.objects.get(schema_name="test").pk)
            Customer.objects.create(email="a@example.com")
            self.assertEqual(Customer.objects.count(), 1)


    class MadeByTests(TransactionTestCase):
        def setUp(self):
            connection.set_schema_to_public()

        def make(self):
            self.assertEqual(list(Client.objects.all()), [])
            client = Client.objects.create(schema_name="made", name="made")
            self.assertEqual(client.pk, 1)
            with tenant_context(client):
                self.assertEqual(Customer.objects.create(email="a@example.com").pk, 1)
                self.assertEqual(Customer.objects.count(), 1)
            return client

        def test_0_the_tenant_of_the_fast_ones_is_there_as_in_django(self):
            Client.objects.filter(schema_name="fast_test").update(name="changed")

        def test_a(self):
            self.make()

        def test_b(self):
            self.make()

        def test_c_all_are_migrated(self):
            client = self.make()
            call_command("migrate_schemas", verbosity=0)
            with tenant_context(client):
                self.assertEqual(Customer.objects.count(), 1)

        def test_d_all_are_deleted(self):
            self.make()
            for client in Client.objects.all():
                client.delete(force_drop=True)

        def test_e_nothing_is_left(self):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|itkit_seeds)'"
                    " ORDER BY nspname"
                )
                names = [name for (name,) in cursor.fetchall()]
            self.assertEqual(names, ["information_schema", "public"])
"""


@pytest.fixture
def tenants(project: Project) -> Project:
    project.settings(SETTINGS)
    project.write("customers/__init__.py", "")
    project.write("customers/models.py", MODELS)
    project.write("customers/migrations/__init__.py", "")
    project.write("customers/migrations/0001_initial.py", MIGRATION)
    write_tests(project, TESTS)
    return project


@pytest.mark.parametrize("role", ["boss", "builder"])
@pytest.mark.slow
def test_tenants_come_and_go(tenants: Project, sentinel: Sentinel, role: str) -> None:
    sentinel.point(tenants, role)
    before = sentinel.digest()
    for door in ("django", "pytest"):
        result = enter(door, tenants, ITKIT_POSTGRES_ISOLATION="database")
        assert result.counts == {"passed": 11}, result.output
    assert sentinel.digest() == before


@pytest.mark.slow
def test_tenants_come_and_go_on_the_embedded_server(tenants: Project) -> None:
    # The tenant of a FastTenantTestCase stays until a test that commits, so a class is not torn.
    for door, *arguments in (("pytest, two xdist workers", "--dist=loadscope"), ("django",)):
        result = enter(door, tenants, *arguments, ITKIT_POSTGRES_ISOLATION="database")
        assert result.counts == {"passed": 11}, result.output


def test_a_schema_for_each_worker_is_no_place_for_tenants(
    tenants: Project, sentinel: Sentinel
) -> None:
    sentinel.point(tenants, "poor")
    before = sentinel.digest()
    result = tenants.test("--integration", ITKIT_POSTGRES_IN_PROJECT_DATABASE="1")
    assert result.code != 0
    assert "has written outside of the tests' schema" in result.output
    assert "ITKIT_POSTGRES_ISOLATION=database" in result.output
    assert sentinel.digest() == before

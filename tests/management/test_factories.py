"""``manage.py itkit factories`` and ``seed``: factories and scenarios outside of tests."""

import re

import pytest

from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

MODELS = """
    from django.core.validators import MinValueValidator
    from django.db import models

    class Customer(models.Model):
        email = models.EmailField(unique=True)

    class Currency(models.Model):
        code = models.CharField(max_length=3, unique=True)

    class Order(models.Model):
        customer = models.ForeignKey(Customer, models.CASCADE)
        total = models.IntegerField(validators=[MinValueValidator(1)])
        position = models.IntegerField(default=0)
"""
FACTORIES = """
    import factory
    from factory.django import DjangoModelFactory
    from shop import models

    class CustomerFactory(DjangoModelFactory):
        class Meta:
            model = models.Customer

        class Params:
            famous = factory.Trait(email="ada@example.com")
            broken = factory.Trait(email=factory.LazyAttribute(lambda made: made.nothing))

        email = factory.Sequence("{}@example.com".format)

    class OrderFactory(DjangoModelFactory):
        class Meta:
            model = models.Order
            skip_postgeneration_save = True

        class Params:
            free = factory.Trait(total=0)

        customer = factory.SubFactory(CustomerFactory)
        total = 5

        @factory.post_generation
        def position(self, create, given):
            self.position = models.Order.objects.count()
            self.save()
"""
SCENARIOS = """
    from itkit import scenario

    @scenario
    def crowd(data):
        data.create_batch("shop.Order", 10)
        data.create("shop.Currency")

    @scenario
    def broken(data):
        data.create("shop.Order")
        raise RuntimeError("no crowd today")
"""


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """The migrations that Django writes for the models, by the names of their files."""
    return {}


@pytest.fixture
def shop(project: Project, written: dict[str, str]) -> Project:
    migrations = project.path / "shop/migrations"
    (migrations / "0001_initial.py").unlink()
    project.write("shop/models.py", MODELS)
    project.write("shop/factories.py", FACTORIES)
    project.write("shop/scenarios.py", SCENARIOS)
    if not written:
        assert project.manage("makemigrations", "shop").code == 0
        written.update({path.name: path.read_text() for path in migrations.glob("0*.py")})
    for name, text in written.items():
        project.write(f"shop/migrations/{name}", text)
    return project


def test_lint_tells_what_is_wrong_with_each_factory_and_trait(shop: Project):
    result = shop.manage("itkit", "factories", "lint")
    assert result.code == 1
    assert "CommandError: 4 of 5 have problems." in result.output
    lines = {
        (name, state): rest
        for name, state, rest in re.findall(
            r"shop\.factories\.(\w+)\s+│\s+(\w*)\s+│(.*)", result.output
        )
    }
    assert re.match(r"\s+1 │\s+1 │\s+[\d.]+ │ none", lines["CustomerFactory", ""])
    assert (
        "a second one cannot be created beside the first: Integ"
        in lines["CustomerFactory", "famous"]
    )
    assert (
        "cannot be created: AttributeError: The parameter 'not"
        in lines["CustomerFactory", "broken"]
    )
    assert "full_clean(): total: Ensure this value is" in lines["OrderFactory", "free"]
    assert re.match(r"\s+2 │\s+4 │", lines["OrderFactory", ""])
    # Its hook counts the rows, of which there are all in bulk.
    assert "in bulk another shop.Order.position" in lines["OrderFactory", ""]
    assert not shop.leftovers()


def test_lint_is_content_with_good_factories(shop: Project):
    good = FACTORIES[: FACTORIES.index("        class Params")]
    shop.write(
        "shop/factories.py", good + '\n        email = factory.Sequence("{}@e.com".format)\n'
    )
    result = shop.manage("itkit", "factories", "lint")
    assert result.code == 0, result.output


def test_profile_tells_what_factories_bring_along(shop: Project):
    shop.write("shop/tests/__init__.py", "")
    shop.write(
        "shop/tests/test_shop.py",
        """
        from django.test import TestCase
        from itkit.test import IntegrationMixin
        from shop.factories import CustomerFactory, OrderFactory

        class Tests(IntegrationMixin, TestCase):
            def test_a(self):
                CustomerFactory()
                OrderFactory.create_batch(3)
                self.data.create_batch("shop.Order", 4)
                CustomerFactory.build()

            def test_b(self):
                self.fail()
        """,
    )
    result = shop.manage("itkit", "factories", "profile", "shop.tests.test_shop.Tests.test_a")
    assert result.code == 0, result.output
    assert re.search(r"CustomerFactory │\s+1 │\s+7 │", result.output), result.output
    assert re.search(r"OrderFactory\s+│\s+7 │\s+0 │", result.output)
    failed = shop.manage("itkit", "factories", "profile")
    assert failed.code == 1
    assert "CustomerFactory" in failed.output


SQLITE = """
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
    DEBUG = True
"""


def test_seed_plants_a_scenario_as_often_as_it_is_told(shop: Project):
    shop.settings(SQLITE)
    assert shop.manage("migrate").code == 0
    for _ in range(2):
        result = shop.manage("itkit", "seed", "crowd", "--scale", "3")
        assert result.code == 0, result.output
        assert [line.split() for line in result.output.splitlines()[-3:]] == [
            ["3", "shop.Currency"],
            ["30", "shop.Customer"],
            ["30", "shop.Order"],
        ]
    count = "from shop.models import *; print(Order.objects.count(), Currency.objects.count())"
    assert "60 6" in shop.manage("shell", "-c", count).output


def test_seed_refuses_what_may_be_production(shop: Project):
    shop.settings(SQLITE + "    DEBUG = False\n")
    shop.manage("migrate")
    result = shop.manage("itkit", "seed", "crowd")
    assert "CommandError: This may be production: DEBUG is False." in result.output
    assert shop.manage("itkit", "seed", "crowd", "--force").code == 0
    shop.settings(
        """
        DEBUG = True
        DATABASES["far"] = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "db.example.com"}
        """
    )
    result = shop.manage("itkit", "seed", "crowd", "--database", "far")
    assert "DATABASES['far'] is on db.example.com" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["crowds"],
            "There is no scenario 'crowds' in any scenarios.py. Did you mean 'shop.crowd'",
        ),
        (["crowd", "--scale", "0"], "--scale is 0, expected 1 or more"),
        (["crowd", "--database", "other"], "--database is 'other', which is none of DATABASES"),
    ],
)
def test_seed_tells_what_it_cannot_do(shop: Project, arguments, told):
    shop.settings(SQLITE)
    result = shop.manage("itkit", "seed", *arguments)
    assert result.code == 1
    assert told in result.output


def test_seed_leaves_nothing_of_what_fails(shop: Project):
    shop.settings(SQLITE)
    shop.manage("migrate")
    result = shop.manage("itkit", "seed", "broken", "--scale", "2")
    assert "no crowd today" in result.output
    count = "from shop.models import *; print(Order.objects.count(), 'orders')"
    assert "0 orders" in shop.manage("shell", "-c", count).output

"""Factories that know nothing of itkit.

They are not in ``factories.py``, where they would be found: so model_bakery makes what is asked for
by its model, and a factory what is asked for by that.
"""

from decimal import Decimal

import factory
from factory.django import DjangoModelFactory

from benchmarks.datashop import models


class CustomerFactory(DjangoModelFactory):
    """With a name of Faker's, which costs more than the row."""

    class Meta:
        model = models.Customer

    email = factory.Sequence("customer{}@example.com".format)
    name = factory.Faker("name")


class ProductFactory(DjangoModelFactory):
    """Shared by the lines."""

    class Meta:
        model = models.Product

    sku = factory.Sequence("sku-{}".format)
    price = Decimal("12.50")


class LineFactory(DjangoModelFactory):
    """A line of an order that is given."""

    class Meta:
        model = models.Line

    order = None
    product = factory.Iterator(models.Product.objects.all())
    price = factory.SelfAttribute("product.price")


class OrderFactory(DjangoModelFactory):
    """With its customer and two lines."""

    class Meta:
        model = models.Order
        skip_postgeneration_save = True

    customer = factory.SubFactory(CustomerFactory)
    lines = factory.RelatedFactoryList(LineFactory, factory_related_name="order", size=2)

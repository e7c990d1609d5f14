"""Factories of the models that need more than random values; model_bakery makes the others."""

from decimal import Decimal

import factory
from django.contrib.auth.hashers import make_password
from factory.django import DjangoModelFactory

from example_project.shop import models


class UserFactory(DjangoModelFactory):
    class Meta:
        model = models.User

    email = factory.Sequence("customer{}@example.com".format)
    password = factory.LazyFunction(lambda: make_password(None))


class ProductFactory(DjangoModelFactory):
    class Meta:
        model = models.Product

    sku = factory.Sequence("sku-{}".format)
    name = factory.Sequence("Teapot no. {}".format)
    price = Decimal("25.00")
    stock = 10


class OrderFactory(DjangoModelFactory):
    class Meta:
        model = models.Order

    user = factory.SubFactory(UserFactory)
    total = Decimal("25.00")


class OrderLineFactory(DjangoModelFactory):
    class Meta:
        model = models.OrderLine

    order = factory.SubFactory(OrderFactory)
    product = factory.SubFactory(ProductFactory)
    quantity = 1
    price = factory.SelfAttribute("product.price")

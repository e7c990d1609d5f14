# ruff: noqa: PT009 - Django's own style of test
"""Tests that know nothing of itkit: they run with ``--integration`` and without it."""

from decimal import Decimal

from django.db import IntegrityError
from django.test import SimpleTestCase, TestCase

from example_project.shop.factories import OrderLineFactory, ProductFactory, UserFactory
from example_project.shop.models import OrderLine, ShippingMethod, User
from example_project.shop.services.pricing import PriceCalculator


class PriceTests(SimpleTestCase):
    def price(self, *lines):
        return PriceCalculator().calculate_total(
            OrderLine(price=Decimal(price), quantity=quantity) for price, quantity in lines
        )

    def test_total_includes_tax(self):
        price = self.price(("25.00", 2), ("10.00", 1))

        self.assertEqual(price.total, Decimal("60.00"))
        self.assertEqual(price.tax_amount, Decimal("10.00"))
        self.assertEqual(price.discount_amount, 0)

    def test_discount_for_large_orders(self):
        price = self.price(("100.00", 5))

        self.assertEqual(price.discount_amount, Decimal("25.00"))
        self.assertEqual(price.total, Decimal("475.00"))


class ModelTests(TestCase):
    def test_email_is_stored_in_lower_case(self):
        user = User.objects.create_user("John@Example.com", "secret")

        self.assertEqual(User.objects.get(email="john@example.com"), user)

    def test_more_reserved_than_in_stock_is_refused(self):
        with self.assertRaisesMessage(IntegrityError, "product_reserved_within_stock"):
            ProductFactory(stock=1, reserved=2)

    def test_line_costs_what_its_product_does(self):
        self.assertEqual(OrderLineFactory(product__price=Decimal("9.90")).price, Decimal("9.90"))

    def test_migration_brings_shipping_methods(self):
        codes = ShippingMethod.objects.values_list("code", flat=True)

        self.assertCountEqual(codes, ["standard", "express"])

    def test_rows_of_one_test_are_not_seen_by_another(self):
        UserFactory()

        self.assertEqual(User.objects.count(), 1)

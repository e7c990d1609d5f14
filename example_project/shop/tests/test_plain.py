# ruff: noqa: PT009 - Django's own style of test
"""Tests that know nothing of itkit: they run with ``--integration`` and without it."""

from decimal import Decimal
from functools import partial

from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import SimpleTestCase, TestCase

from example_project.shop.factories import (
    OrderFactory,
    OrderLineFactory,
    ProductFactory,
    UserFactory,
)
from example_project.shop.models import Cart, CartItem, OrderLine, Payment, ShippingMethod, User
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
        user = User.objects.create_user("John+Tea@Example.com", "secret")

        self.assertEqual(User.objects.get(email="john+tea@example.com"), user)

    def test_more_reserved_than_in_stock_is_refused(self):
        with self.assertRaisesMessage(IntegrityError, "product_reserved_within_stock"):
            ProductFactory(stock=1, reserved=2)

    def test_the_database_refuses(self):
        order, cart = OrderFactory(), Cart.objects.create(user=UserFactory())
        pay = partial(Payment.objects.create, order=order, amount=1, success=True)
        add = partial(CartItem.objects.create, cart=cart, product=ProductFactory())
        pay(), pay(success=False), pay(success=False), add(quantity=1)
        for name, create in (
            ("user_email", lambda: UserFactory(email=order.user.email)),
            ("product_price_not_negative", lambda: ProductFactory(price=-1)),
            ("order_total_not_negative", lambda: OrderFactory(total=-1)),
            ("order_line_not_empty", lambda: OrderLineFactory(quantity=0)),
            ("cart_item_not_empty", lambda: add(product=ProductFactory(), quantity=0)),
            ("cart_item_once_per_product", lambda: add(quantity=1)),
            ("payment_succeeds_once", pay),
        ):
            with (
                self.subTest(name=name),
                self.assertRaisesMessage(IntegrityError, name),
                transaction.atomic(),
            ):
                create()

    def test_models_and_migrations_agree(self):
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)

    def test_line_costs_what_its_product_does(self):
        self.assertEqual(OrderLineFactory(product__price=Decimal("9.90")).price, Decimal("9.90"))

    def test_migration_brings_shipping_methods(self):
        prices = dict(ShippingMethod.objects.values_list("code", "price"))

        self.assertEqual(prices, {"standard": Decimal("4.90"), "express": Decimal("12.90")})

    def test_rows_of_one_test_are_not_seen_by_another(self):
        UserFactory()

        self.assertEqual(User.objects.count(), 1)

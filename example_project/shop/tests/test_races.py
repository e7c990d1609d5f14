# ruff: noqa: PT009 - Django's own style of test
"""What holds whoever comes first; ``with_pytest`` has the same as functions."""

from functools import partial

from example_project.shop.models import Order, Payment, Product
from example_project.shop.services import carts, inventory, orders
from itkit import sweep
from itkit.test import IntegrationTestCase


class CheckoutRaceTests(IntegrationTestCase):
    @sweep.races
    def test_the_last_piece_is_sold_once(self, race):
        product = self.data.create("shop.Product", stock=1)
        items = [self.data.create("shop.CartItem", product=product, quantity=1) for _ in range(2)]
        ann, bob = (item.cart for item in items)

        race(
            partial(carts.checkout_cart, ann.id, "tok_ann"),
            partial(carts.checkout_cart, bob.id, "tok_bob"),
        )

        self.assertLessEqual(Product.objects.get(pk=product.pk).reserved, 1)

    @sweep.races
    def test_an_order_is_paid_once(self, race):
        self.backends.payments.charge_card.returns("txn_1")
        order = self.data.create("shop.Order")

        race(partial(orders.process_payment, order.id, "tok_visa"), times=2)

        self.assertEqual(Payment.objects.filter(order=order, success=True).count(), 1)

    @sweep.races
    def test_a_parcel_arrives_once(self, race):
        order = self.data.create("shop.Order", status=Order.Status.SHIPPED)

        race(partial(orders.mark_order_delivered, order.id), times=2)

    @sweep.races
    def test_orders_of_the_same_products_do_not_wait_for_each_other(self, race):
        cup, pot = self.data.create_batch("shop.Product", 2, stock=2)
        one, two = self.data.create_batch("shop.Order", 2)
        for order, product in ((one, cup), (one, pot), (two, pot), (two, cup)):
            self.data.create("shop.OrderLine", order=order, product=product)

        race(partial(inventory.reserve_items, one.id), partial(inventory.reserve_items, two.id))

        self.assertEqual(race.errors, [None, None])

    @sweep.races
    def test_adding_at_once_adds_up(self, race):
        product = self.data.create("shop.Product")
        cart = carts.create_cart(self.data.create("shop.User").id)

        race(partial(carts.add_to_cart, cart.id, product.id), times=2)

        self.assertEqual([item.quantity for item in cart.items.all()], [2])

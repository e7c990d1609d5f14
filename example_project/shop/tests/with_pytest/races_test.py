"""The races of ``test_races`` as pytest functions: the fixture ``race`` makes them swept."""

from functools import partial

import pytest

from example_project.shop.models import Order, Payment, Product
from example_project.shop.services import carts, inventory, orders

pytestmark = pytest.mark.integration


def test_the_last_piece_is_sold_once(race, data):
    product = data.create("shop.Product", stock=1)
    items = [data.create("shop.CartItem", product=product, quantity=1) for _ in range(2)]
    ann, bob = (item.cart for item in items)

    race(
        partial(carts.checkout_cart, ann.id, "tok_ann"),
        partial(carts.checkout_cart, bob.id, "tok_bob"),
    )

    assert Product.objects.get(pk=product.pk).reserved <= 1


def test_an_order_is_paid_once(race, data, backends):
    backends.payments.charge_card.returns("txn_1")
    order = data.create("shop.Order")

    race(partial(orders.process_payment, order.id, "tok_visa"), times=2)

    assert Payment.objects.filter(order=order, success=True).count() == 1


def test_a_parcel_arrives_once(race, data):
    order = data.create("shop.Order", status=Order.Status.SHIPPED)

    race(partial(orders.mark_order_delivered, order.id), times=2)


def test_orders_of_the_same_products_do_not_wait_for_each_other(race, data):
    cup, pot = data.create_batch("shop.Product", 2, stock=2)
    one, two = data.create_batch("shop.Order", 2)
    for order, product in ((one, cup), (one, pot), (two, pot), (two, cup)):
        data.create("shop.OrderLine", order=order, product=product)

    race(partial(inventory.reserve_items, one.id), partial(inventory.reserve_items, two.id))

    assert race.errors == [None, None]


def test_adding_at_once_adds_up(race, data):
    product = data.create("shop.Product")
    cart = carts.create_cart(data.create("shop.User").id)

    race(partial(carts.add_to_cart, cart.id, product.id), times=2)

    assert [item.quantity for item in cart.items.all()] == [2]

"""The races of ``test_races`` as pytest functions: the fixture ``race`` makes them swept."""

from functools import partial

import pytest

from example_project.shop.models import Payment, Product
from example_project.shop.services import carts, orders

pytestmark = pytest.mark.integration


def test_the_last_piece_is_sold_once(race, data):
    product = data.create("shop.Product", stock=1)
    baskets = [carts.create_cart(data.create("shop.User").id) for _ in range(2)]
    for cart in baskets:
        carts.add_to_cart(cart.id, product.id)

    race(*(partial(carts.checkout_cart, cart.id, "tok_visa") for cart in baskets))

    assert Product.objects.get(pk=product.pk).reserved <= 1


def test_an_order_is_paid_once(race, data, backends):
    backends.payments.charge_card.returns("txn_1")
    order = data.create("shop.Order")

    race(partial(orders.process_payment, order.id, "tok_visa"), times=2)

    assert Payment.objects.filter(order=order, success=True).count() == 1

"""The sweeps of ``test_sweeps`` as functions: the fixtures ``fault`` and ``repeat`` sweep them.

A test whose sweep needs arguments, such as the states of a field, has the decorator as well.
"""

import pytest

from example_project.shop.exceptions import OrderProcessingError
from example_project.shop.models import Notification, Order, Payment
from example_project.shop.services import carts, inventory, orders, shipping
from itkit import sweep

pytestmark = pytest.mark.integration


def test_whoever_is_charged_has_paid(fault, data, backends):
    backends.payments.charge_card.returns("txn_1")
    order = data.create("shop.Order")

    with fault.injected():
        orders.process_payment(order.id, "tok_visa")
    fault.retry(orders.process_payment, order.id, "tok_visa")

    charges = fault.done(backends.payments.charge_card)
    keys = {call["arguments"]["idempotency_key"] for call in charges}
    assert len(keys) == Payment.objects.filter(order=order, success=True).count()
    is_paid = orders.get_order(order.id).status == Order.Status.PAID
    assert is_paid == (len(keys) == 1)


def test_a_parcel_that_has_arrived_is_told_of_at_most_once(fault, data, backends):
    order = data.create("shop.Order", status=Order.Status.SHIPPED)
    data.create("shop.Shipment", order=order)

    with fault.injected():
        orders.mark_order_delivered(order.id)
    fault.retry(orders.mark_order_delivered, order.id)

    order = orders.get_order(order.id)
    assert order.status == Order.Status.DELIVERED
    assert order.shipment.delivered_at is not None
    assert len(fault.done(backends.email.send_delivery_notification)) <= 1
    assert Notification.objects.count() <= 1


@sweep.faults(at=["INSERT *", "COMMIT"])
def test_a_cart_becomes_an_order_or_stays_a_cart(fault, data):
    item = data.create("shop.CartItem", quantity=2)

    with fault.injected():
        carts.checkout_cart(item.cart_id, "tok_visa")

    fault.assert_atomic()


@sweep.faults(at=["INSERT *", "COMMIT", "shipping.*"])
def test_a_parcel_leaves_once(fault, data, backends):
    backends.shipping.create_shipment.returns("ship_7")
    order = data.create("shop.OrderLine", order__status=Order.Status.PAID).order

    with fault.injected():
        shipping.create_shipment(order.id)
    fault.retry(shipping.create_shipment, order.id)

    assert orders.get_order(order.id).status == Order.Status.SHIPPED
    assert order.shipment.tracking_number == "ship_7"
    stock = inventory.get_stock(order.lines.get().product_id)
    assert (stock.on_hand, stock.reserved) == (9, 0)
    assert len(fault.done(backends.email.send_shipping_notification)) <= 1


def test_a_cart_is_checked_out_once(repeat, data):
    item = data.create("shop.CartItem", quantity=2)

    repeat(carts.checkout_cart, item.cart_id, "tok_visa")

    repeat.assert_idempotent()


def test_a_parcel_is_announced_once(repeat, data, backends):
    backends.shipping.create_shipment.returns("ship_7")
    order = data.create("shop.OrderLine", order__status=Order.Status.PAID).order

    repeat(shipping.create_shipment, order.id)

    repeat.assert_idempotent()


def test_an_order_is_paid_once(repeat, data, backends):
    backends.payments.charge_card.returns("txn_1")
    order = data.create("shop.Order")

    repeat(orders.process_payment, order.id, "tok_visa")

    repeat.assert_idempotent()


def test_items_are_reserved_once(repeat, data):
    order = data.create("shop.OrderLine", quantity=2).order

    repeat(inventory.reserve_items, order.id)

    repeat.assert_idempotent()


@sweep.states(
    Order, "status", allowed=["pending", "paying", "payment_failed"], refusal=OrderProcessingError
)
def test_what_is_paid_is_not_paid_again(state, data, backends):
    backends.payments.charge_card.returns("txn_1")
    order = data.create("shop.Order", status=state.value)

    with state.act():
        orders.process_payment(order.id, "tok_visa")

    assert (backends.payments.charge_card.call_count == 1) == state.is_allowed

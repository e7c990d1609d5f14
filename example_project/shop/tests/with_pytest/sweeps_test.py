"""The sweeps of ``test_sweeps`` as pytest functions: the fixture ``fault`` makes them swept."""

import pytest

from example_project.shop.models import Notification, Order, Payment
from example_project.shop.services import orders

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

    with fault.injected():
        orders.mark_order_delivered(order.id)
    fault.retry(orders.mark_order_delivered, order.id)

    assert orders.get_order(order.id).status == Order.Status.DELIVERED
    assert len(fault.done(backends.email.send_delivery_notification)) <= 1
    assert Notification.objects.count() <= 1

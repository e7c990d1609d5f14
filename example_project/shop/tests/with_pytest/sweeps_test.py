"""The sweeps of ``test_sweeps`` as pytest functions: the fixture ``fault`` makes them swept.

The states of a field are said by the decorator here as well.
"""

import pytest

from example_project.shop.exceptions import OrderProcessingError
from example_project.shop.models import Notification, Order, Payment
from example_project.shop.services import orders
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

    with fault.injected():
        orders.mark_order_delivered(order.id)
    fault.retry(orders.mark_order_delivered, order.id)

    assert orders.get_order(order.id).status == Order.Status.DELIVERED
    assert len(fault.done(backends.email.send_delivery_notification)) <= 1
    assert Notification.objects.count() <= 1


@sweep.states(
    Order, "status", allowed=["pending", "paying", "payment_failed"], refusal=OrderProcessingError
)
def test_what_is_paid_is_not_paid_again(state, data, backends):
    backends.payments.charge_card.returns("txn_1")
    order = data.create("shop.Order", status=state.value)

    with state.act():
        orders.process_payment(order.id, "tok_visa")

    assert (backends.payments.charge_card.call_count == 1) == state.is_allowed

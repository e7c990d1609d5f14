# ruff: noqa: PT009 - Django's own style of test
"""What holds whatever fails; ``with_pytest`` has the same as functions."""

from example_project.shop.exceptions import OrderProcessingError
from example_project.shop.models import Notification, Order, Payment
from example_project.shop.services import orders
from itkit import sweep
from itkit.test import IntegrationTestCase


class PaymentFaultTests(IntegrationTestCase):
    @sweep.faults
    def test_whoever_is_charged_has_paid(self, fault):
        self.backends.payments.charge_card.returns("txn_1")
        order = self.data.create("shop.Order")

        with fault.injected():
            orders.process_payment(order.id, "tok_visa")
        fault.retry(orders.process_payment, order.id, "tok_visa")

        charges = fault.done(self.backends.payments.charge_card)
        keys = {call["arguments"]["idempotency_key"] for call in charges}
        self.assertEqual(len(keys), Payment.objects.filter(order=order, success=True).count())
        is_paid = orders.get_order(order.id).status == Order.Status.PAID
        self.assertEqual(is_paid, len(keys) == 1)

    @sweep.faults
    def test_a_parcel_that_has_arrived_is_told_of_at_most_once(self, fault):
        order = self.data.create("shop.Order", status=Order.Status.SHIPPED)

        with fault.injected():
            orders.mark_order_delivered(order.id)
        fault.retry(orders.mark_order_delivered, order.id)

        self.assertEqual(orders.get_order(order.id).status, Order.Status.DELIVERED)
        self.assertLessEqual(len(fault.done(self.backends.email.send_delivery_notification)), 1)
        self.assertLessEqual(Notification.objects.count(), 1)


class PaymentStateTests(IntegrationTestCase):
    @sweep.states(
        Order,
        "status",
        allowed=["pending", "paying", "payment_failed"],
        refusal=OrderProcessingError,
    )
    def test_what_is_paid_is_not_paid_again(self, state):
        self.backends.payments.charge_card.returns("txn_1")
        order = self.data.create("shop.Order", status=state.value)

        with state.act():
            orders.process_payment(order.id, "tok_visa")

        is_charged = self.backends.payments.charge_card.call_count == 1
        self.assertEqual(is_charged, state.is_allowed)

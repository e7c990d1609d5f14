# ruff: noqa: PT009 - Django's own style of test
"""What holds whatever fails; ``with_pytest`` has the same as functions."""

from example_project.shop.exceptions import OrderProcessingError
from example_project.shop.models import Notification, Order, Payment
from example_project.shop.services import carts, inventory, orders, shipping
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
        self.data.create("shop.Shipment", order=order)

        with fault.injected():
            orders.mark_order_delivered(order.id)
        fault.retry(orders.mark_order_delivered, order.id)

        order = orders.get_order(order.id)
        self.assertEqual(order.status, Order.Status.DELIVERED)
        self.assertIsNotNone(order.shipment.delivered_at)
        self.assertLessEqual(len(fault.done(self.backends.email.send_delivery_notification)), 1)
        self.assertLessEqual(Notification.objects.count(), 1)


class CheckoutFaultTests(IntegrationTestCase):
    @sweep.faults(at=["INSERT *", "COMMIT"])
    def test_a_cart_becomes_an_order_or_stays_a_cart(self, fault):
        item = self.data.create("shop.CartItem", quantity=2)

        with fault.injected():
            carts.checkout_cart(item.cart_id, "tok_visa")

        fault.assert_atomic()

    @sweep.faults(at=["INSERT *", "COMMIT", "shipping.*"])
    def test_a_parcel_leaves_once(self, fault):
        self.backends.shipping.create_shipment.returns("ship_7")
        order = self.data.create("shop.OrderLine", order__status=Order.Status.PAID).order

        with fault.injected():
            shipping.create_shipment(order.id)
        fault.retry(shipping.create_shipment, order.id)

        self.assertEqual(orders.get_order(order.id).status, Order.Status.SHIPPED)
        self.assertEqual(order.shipment.tracking_number, "ship_7")
        stock = inventory.get_stock(order.lines.get().product_id)
        self.assertEqual((stock.on_hand, stock.reserved), (9, 0))
        self.assertLessEqual(len(fault.done(self.backends.email.send_shipping_notification)), 1)


class SecondClickTests(IntegrationTestCase):
    @sweep.repeats
    def test_a_cart_is_checked_out_once(self, repeat):
        item = self.data.create("shop.CartItem", quantity=2)

        repeat(carts.checkout_cart, item.cart_id, "tok_visa")

        repeat.assert_idempotent()

    @sweep.repeats
    def test_a_parcel_is_announced_once(self, repeat):
        self.backends.shipping.create_shipment.returns("ship_7")
        order = self.data.create("shop.OrderLine", order__status=Order.Status.PAID).order

        repeat(shipping.create_shipment, order.id)

        repeat.assert_idempotent()

    @sweep.repeats
    def test_an_order_is_paid_once(self, repeat):
        self.backends.payments.charge_card.returns("txn_1")
        order = self.data.create("shop.Order")

        repeat(orders.process_payment, order.id, "tok_visa")

        repeat.assert_idempotent()

    @sweep.repeats
    def test_items_are_reserved_once(self, repeat):
        order = self.data.create("shop.OrderLine", quantity=2).order

        repeat(inventory.reserve_items, order.id)

        repeat.assert_idempotent()


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

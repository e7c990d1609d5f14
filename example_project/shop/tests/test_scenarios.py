# ruff: noqa: PT009 - Django's own style of test
"""What an integration test is for, as test cases; ``with_pytest`` has the same as functions."""

import time
from contextlib import suppress
from decimal import Decimal
from typing import Protocol

from django.core.cache import cache
from django.db import transaction

from example_project.shop.exceptions import OrderProcessingError
from example_project.shop.gateways.email import EmailGateway
from example_project.shop.gateways.exceptions import CardDeclinedError, ShippingError, SMTPError
from example_project.shop.gateways.payment import PaymentGateway
from example_project.shop.models import Notification, Order, OrderLine, User
from example_project.shop.services import carts, inventory, notifications, orders, shipping, users
from example_project.shop.services.pricing import DiscountPolicy, PriceCalculator, TaxCalculator
from example_project.shop.tests.cases import ShopTestCase
from itkit import (
    TestContainer,
    benchmark_integration_performance,
    measure_integration_coverage,
    observe,
)


class SimulatedError(Exception):
    """Stops a transaction half-way."""


class IUserService(Protocol):
    """What the shop's module ``users`` is to others."""

    def create_user(self, email: str, password: str | None = None) -> User: ...
    def get_user(self, user_id: int) -> users.Profile | None: ...
    def delete_user(self, user_id: int) -> None: ...


class ServiceTests(ShopTestCase):
    def test_user_registration_integration(self):
        user = users.register_user(email="john@example.com", password="secure_password123")

        self.assertIsNotNone(user.id)
        self.assertEqual(user.email, "john@example.com")
        self.assertTrue(user.is_active)
        self.assertIsNotNone(user.created_at)
        self.assertEqual(self.backends.email.call_count("send_welcome_email"), 1)
        self.assertTrue(
            self.backends.email.was_called_with("send_welcome_email", "john@example.com")
        )
        self.assertNotIn("secure_password123", user.password)
        self.assertTrue(user.check_password("secure_password123"))

    def test_order_processing_integration(self):
        self.backends.payments.configure_return("charge_card", "txn_12345")
        teapot, cup = self.data.create_batch("shop.Product", 2)
        user = users.create_user("john@example.com", "password")

        order = orders.create_order(
            user_id=user.id,
            items=[
                {"product_id": teapot.id, "quantity": 2, "price": 25.00},
                {"product_id": cup.id, "quantity": 1, "price": 15.00},
            ],
        )

        self.assertEqual(order.user_id, user.id)
        self.assertEqual(order.total, Decimal("65.00"))
        self.assertEqual(order.status, "pending")

        payment = orders.process_payment(order.id, "tok_visa")

        self.assertTrue(payment.success)
        self.assertEqual(payment.transaction_id, "txn_12345")
        self.backends.payments.charge_card.assert_called_once_with(
            amount=6500, token="tok_visa", idempotency_key=f"order-{order.id}-0"
        )
        self.assertEqual(orders.get_order(order.id).status, "paid")

    def test_user_order_integration(self):
        one, two = self.data.create_batch("shop.Product", 2)
        user = users.register_user("john@example.com", "password")

        order1 = orders.create_order(user.id, [{"product_id": one.id, "quantity": 1}])
        order2 = orders.create_order(user.id, [{"product_id": two.id, "quantity": 2}])
        orders.send_order_notifications(order1.id)

        user_orders = orders.get_user_orders(user.id)
        self.assertEqual([order.id for order in user_orders], [order1.id, order2.id])
        self.assertEqual(self.backends.email.call_count("send_order_confirmation"), 1)
        calls = self.backends.email.get_calls("send_order_confirmation")
        self.assertEqual(calls[0]["args"][0], user.email)

    def test_cache_database_integration(self):
        user = users.create_user("john@example.com", "password")

        with observe() as first:
            self.assertEqual(users.get_user(user.id).email, "john@example.com")
        with observe() as second:
            self.assertEqual(users.get_user(user.id).email, "john@example.com")

        first.assert_queries(1, "shop_user")
        first.assert_cache_miss(f"user:{user.id}")
        second.assert_queries(0)
        second.assert_cache_hit(f"user:{user.id}")
        self.assertEqual(cache.get(f"user:{user.id}")["email"], "john@example.com")

    def test_real_service_integration(self):
        product = self.data.create("shop.Product")
        user = users.create_user("john@example.com", "password")

        order = orders.create_order(user.id, [{"product_id": product.id, "quantity": 1}])

        self.assertEqual(order.user_id, user.id)
        self.assertEqual(Order.objects.get(user__email="john@example.com"), order)


class WorkflowTests(ShopTestCase):
    def test_complete_user_journey(self):
        self.backends.payments.configure_return("charge_card", "txn_success")
        self.backends.shipping.configure_return("create_shipment", "ship_123")
        self.data.create_batch("shop.Product", 3, stock=5)
        neighbour = self.data.bystander("shop.User", phone="+49305678")
        self.data.bystander("shop.Order", user=neighbour)

        user = users.register_user("john@example.com", "password")
        self.assertTrue(user.is_active)

        products = inventory.get_available_products()
        cart = carts.create_cart(user.id)
        carts.add_to_cart(cart.id, products[0].id, 2)
        order = carts.checkout_cart(cart.id, "tok_visa")
        self.assertEqual(order.status, "pending")
        self.assertGreater(order.total, 0)

        self.assertTrue(orders.process_payment(order.id).success)
        self.assertEqual(orders.get_order(order.id).status, "paid")

        inventory.reserve_items(order.id)
        for line in order.lines.all():
            self.assertEqual(inventory.get_stock(line.product_id).reserved, line.quantity)

        shipment = shipping.create_shipment(order.id)
        self.assertEqual(shipment.tracking_number, "ship_123")
        self.assertEqual(orders.get_order(order.id).status, "shipped")
        self.assertEqual(inventory.get_stock(products[0].id).on_hand, 3)

        orders.mark_order_delivered(order.id)
        self.assertEqual(orders.get_order(order.id).status, "delivered")
        for mail in (
            "send_welcome_email",
            "send_order_confirmation",
            "send_shipping_notification",
            "send_delivery_notification",
        ):
            self.assertEqual(self.backends.email.call_count(mail), 1, mail)
        said = user.notifications.order_by("pk").values_list("message", flat=True)
        steps = (f"order {order.id} {step}" for step in ("confirmed", "shipped", "delivered"))
        self.assertEqual(list(said), ["welcome", *steps])

    def test_transaction_consistency(self):
        item = {"product_id": self.data.create("shop.Product").id, "quantity": 1}
        for fails in (False, True):
            with self.subTest(fails=fails):
                with suppress(SimulatedError), transaction.atomic():
                    user = users.create_user(self.data.unique.email(), "password")
                    order = orders.create_order(user.id, [item])
                    if fails:
                        raise SimulatedError

                self.assertEqual(users.get_user(user.id) is not None, not fails)
                self.assertEqual(orders.get_order(order.id) is not None, not fails)

    def test_operation_performance(self):
        with self.assertNumQueries(100):
            created = [
                users.create_user(f"user{number}@example.com", "password") for number in range(100)
            ]
        ids = [user.id for user in created]

        with self.assertNumQueries(1):
            retrieved = users.get_users_bulk(ids)
        with self.assertNumQueries(0):
            users.get_users_bulk(ids)

        self.assertEqual(retrieved.keys(), set(ids))


class ExternalServiceTests(ShopTestCase):
    def test_with_external_api_mocking(self):
        self.backends.payments.configure_return("charge_card", "txn_1")
        self.backends.payments.configure_delay("charge_card", 0.1)
        order = self.data.create("shop.Order")

        start = time.perf_counter()
        payment = orders.process_payment(order.id, "tok_visa")
        duration = time.perf_counter() - start

        self.assertTrue(payment.success)
        self.assertGreaterEqual(duration, 0.1)
        self.assertLess(duration, 5.0)

    def test_external_service_failure_handling(self):
        self.backends.email.configure_exception("send_email", SMTPError("Service unavailable"))
        user = self.data.create("shop.User", phone="+49301234")

        result = notifications.send_notification(user.id, "Half price today")

        self.assertTrue(result.partial_success)
        self.assertIn("email_failed", result.errors)
        self.backends.sms.send_sms.assert_called_once_with(to="+49301234", text="Half price today")

    def test_integration_failure_handling(self):
        self.backends.payments.configure_exception(
            "charge_card", CardDeclinedError("Card declined")
        )
        order = self.data.create("shop.Order")

        with self.assertRaisesMessage(OrderProcessingError, "Card declined"):
            orders.process_payment(order.id, "tok_visa")

        self.assertEqual(orders.get_order(order.id).status, "payment_failed")
        self.assertEqual(self.backends.email.call_count("send_order_confirmation"), 0)

    def test_a_carrier_that_refuses_can_be_asked_again(self):
        self.backends.shipping.create_shipment.raises(ShippingError("no van"), times=1)
        self.backends.shipping.create_shipment.returns("ship_123")
        order = self.data.create("shop.Order", status="paid")

        with self.assertRaisesMessage(ShippingError, "no van"):
            shipping.create_shipment(order.id)
        self.assertEqual(orders.get_order(order.id).status, "paid")

        self.assertEqual(shipping.create_shipment(order.id).tracking_number, "ship_123")
        self.assertEqual(orders.get_order(order.id).status, "shipped")

    def test_partial_failure_handling(self):
        self.backends.email.send_email.raises(SMTPError("Temporary failure"), times=1)
        readers = self.data.create_batch("shop.User", 3)

        result = notifications.send_multiple_notifications(
            (reader.id, "Half price today") for reader in readers
        )

        self.assertEqual((result.total, result.successful, result.failed), (3, 2, 1))
        self.assertEqual(Notification.objects.exclude(error="").count(), 1)

    def test_mixed_dependencies(self):
        container = TestContainer()
        container.bind(DiscountPolicy, DiscountPolicy())
        container.bind(TaxCalculator, TaxCalculator())
        container.bind_mock(EmailGateway)
        container.bind_mock(PaymentGateway)
        payments = container.get_mock(PaymentGateway)
        payments.configure_return("charge_card", "txn_1")

        calculator = PriceCalculator(container.get(DiscountPolicy), container.get(TaxCalculator))
        price = calculator.calculate_total([OrderLine(price=Decimal(100), quantity=6)])
        transaction_id = container.get(PaymentGateway).charge_card(int(price.total * 100), "tok")

        self.assertEqual(transaction_id, "txn_1")
        self.assertTrue(payments.was_called_with("charge_card", 57000, "tok"))
        self.assertEqual(container.get_mock(EmailGateway).call_count("send_email"), 0)


class TestDataTests(ShopTestCase):
    def test_with_isolation(self):
        email = self.data.unique.email()
        user = users.create_user(email, "password")

        self.assertEqual(users.get_user(user.id).email, email)

        users.delete_user(user.id)
        self.assertIsNone(users.get_user(user.id))

    def test_with_unique_data(self):
        emails = {users.create_user(self.data.unique.email()).email for _ in range(50)}

        self.assertEqual(len(emails), 50)

    def test_data_manager_by_the_pages_names(self):
        user = self.data.create_test_user()
        order = self.data.create_test_order(user.id)

        self.assertEqual(User.objects.get(pk=user.id).email, user.email)
        self.assertEqual(orders.get_user_orders(user.id), [order])


class MetricsTests(ShopTestCase):
    def test_measure_integration_coverage(self):
        with TestContainer() as container:
            container.bind(IUserService, users)
            container.track(IUserService)
            container.track(DiscountPolicy)
            user_service = container.get(IUserService)

            user = user_service.create_user("john@example.com", "password")
            user_service.get_user(user.id)
            container.get(PriceCalculator).calculate_total([OrderLine(price=1, quantity=6)])

            coverage = measure_integration_coverage(
                container, [(IUserService, "user_operations"), (DiscountPolicy, "discounts")]
            )

        self.assertEqual(coverage["user_operations"]["methods_called"], ["create_user", "get_user"])
        self.assertEqual(coverage["user_operations"]["methods_missed"], ["delete_user"])
        [covered] = coverage["discounts"]["branches_covered"]
        [missed] = coverage["discounts"]["branches_missed"]
        self.assertIn("in DiscountPolicy.discount: if subtotal >= self.threshold: false", covered)
        self.assertIn("in DiscountPolicy.discount: if subtotal >= self.threshold: true", missed)

    def test_benchmark_integration_performance(self):
        def create_user():
            users.create_user(self.data.unique.email(), "pass")

        figures = benchmark_integration_performance(create_user, "creation", rounds=20)
        timed = self.benchmark(create_user, rounds=20, warmup=0)

        self.assertEqual(User.objects.count(), 45)  # five of which were not timed
        self.assertGreaterEqual(figures["max_creation_time"], figures["p95_creation_time"])
        self.assertGreaterEqual(figures["p95_creation_time"], figures["min_creation_time"])
        self.assertGreaterEqual(timed.max, timed.avg)

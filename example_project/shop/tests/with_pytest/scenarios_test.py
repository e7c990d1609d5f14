"""The scenarios of ``test_scenarios`` as pytest functions: fixtures stand in for self."""

import time
from contextlib import suppress
from decimal import Decimal
from typing import Protocol

import pytest
from django.core.cache import cache
from django.db import transaction

from example_project.shop.exceptions import OrderProcessingError
from example_project.shop.gateways.email import EmailGateway
from example_project.shop.gateways.exceptions import CardDeclinedError, ShippingError, SMTPError
from example_project.shop.gateways.payment import PaymentGateway
from example_project.shop.models import Notification, Order, OrderLine, User
from example_project.shop.services import carts, inventory, notifications, orders, shipping, users
from example_project.shop.services.pricing import DiscountPolicy, PriceCalculator, TaxCalculator
from itkit import (
    TestContainer,
    benchmark,
    benchmark_integration_performance,
    measure_integration_coverage,
    observe,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("keys_apart")]


class SimulatedError(Exception):
    """Stops a transaction half-way."""


class IUserService(Protocol):
    """What the shop's module ``users`` is to others."""

    def create_user(self, email: str, password: str | None = None) -> User: ...
    def get_user(self, user_id: int) -> users.Profile | None: ...
    def delete_user(self, user_id: int) -> None: ...


def test_user_registration_integration(backends):
    user = users.register_user(email="john@example.com", password="secure_password123")

    assert user.id is not None
    assert user.email == "john@example.com"
    assert user.is_active is True
    assert user.created_at is not None
    assert backends.email.call_count("send_welcome_email") == 1
    assert backends.email.was_called_with("send_welcome_email", "john@example.com")
    assert "secure_password123" not in user.password
    assert user.check_password("secure_password123")


def test_order_processing_integration(data, backends):
    backends.payments.configure_return("charge_card", "txn_12345")
    teapot, cup = data.create_batch("shop.Product", 2)
    user = users.create_user("john@example.com", "password")

    order = orders.create_order(
        user_id=user.id,
        items=[
            {"product_id": teapot.id, "quantity": 2, "price": 25.00},
            {"product_id": cup.id, "quantity": 1, "price": 15.00},
        ],
    )

    assert order.user_id == user.id
    assert order.total == 65.00
    assert order.status == "pending"

    payment = orders.process_payment(order.id, "tok_visa")

    assert payment.success is True
    assert payment.transaction_id == "txn_12345"
    backends.payments.charge_card.assert_called_once_with(
        amount=6500, token="tok_visa", idempotency_key=f"order-{order.id}-0"
    )
    assert orders.get_order(order.id).status == "paid"


def test_user_order_integration(data, backends):
    one, two = data.create_batch("shop.Product", 2)
    user = users.register_user("john@example.com", "password")

    order1 = orders.create_order(user.id, [{"product_id": one.id, "quantity": 1}])
    order2 = orders.create_order(user.id, [{"product_id": two.id, "quantity": 2}])
    orders.send_order_notifications(order1.id)

    assert [order.id for order in orders.get_user_orders(user.id)] == [order1.id, order2.id]
    assert backends.email.call_count("send_order_confirmation") == 1
    assert backends.email.get_calls("send_order_confirmation")[0]["args"][0] == user.email


def test_cache_database_integration():
    user = users.create_user("john@example.com", "password")

    with observe() as first:
        assert users.get_user(user.id).email == "john@example.com"
    with observe() as second:
        assert users.get_user(user.id).email == "john@example.com"

    first.assert_queries(1, "shop_user")
    first.assert_cache_miss(f"user:{user.id}")
    second.assert_queries(0)
    second.assert_cache_hit(f"user:{user.id}")
    assert cache.get(f"user:{user.id}")["email"] == "john@example.com"


def test_real_service_integration(data):
    product = data.create("shop.Product")
    user = users.create_user("john@example.com", "password")

    order = orders.create_order(user.id, [{"product_id": product.id, "quantity": 1}])

    assert order.user_id == user.id
    assert Order.objects.get(user__email="john@example.com") == order


def test_complete_user_journey(data, backends):
    backends.payments.configure_return("charge_card", "txn_success")
    backends.shipping.configure_return("create_shipment", "ship_123")
    data.create_batch("shop.Product", 3, stock=5)
    neighbour = data.bystander("shop.User", phone="+49305678")
    data.bystander("shop.Order", user=neighbour)

    user = users.register_user("john@example.com", "password")
    assert user.is_active is True

    products = inventory.get_available_products()
    cart = carts.create_cart(user.id)
    carts.add_to_cart(cart.id, products[0].id, 2)
    order = carts.checkout_cart(cart.id, "tok_visa")
    assert order.status == "pending"
    assert order.total > 0

    assert orders.process_payment(order.id).success is True
    assert orders.get_order(order.id).status == "paid"

    inventory.reserve_items(order.id)
    for line in order.lines.all():
        assert inventory.get_stock(line.product_id).reserved == line.quantity

    assert shipping.create_shipment(order.id).tracking_number == "ship_123"
    assert orders.get_order(order.id).status == "shipped"
    assert inventory.get_stock(products[0].id).on_hand == 3

    orders.mark_order_delivered(order.id)
    assert orders.get_order(order.id).status == "delivered"
    assert backends.email.call_count("send_welcome_email") == 1
    assert backends.email.call_count("send_order_confirmation") == 1
    assert backends.email.call_count("send_shipping_notification") == 1
    assert backends.email.call_count("send_delivery_notification") == 1
    said = user.notifications.order_by("pk").values_list("message", flat=True)
    steps = (f"order {order.id} {step}" for step in ("confirmed", "shipped", "delivered"))
    assert list(said) == ["welcome", *steps]


@pytest.mark.parametrize("fails", [False, True])
def test_transaction_consistency(data, fails):
    product = data.create("shop.Product")

    with suppress(SimulatedError), transaction.atomic():
        user = users.create_user("john@example.com", "password")
        order = orders.create_order(user.id, [{"product_id": product.id, "quantity": 1}])
        if fails:
            raise SimulatedError

    assert (users.get_user(user.id) is None) == fails
    assert (orders.get_order(order.id) is None) == fails


def test_operation_performance(django_assert_num_queries):
    with django_assert_num_queries(100):
        created = [
            users.create_user(f"user{number}@example.com", "password") for number in range(100)
        ]
    ids = [user.id for user in created]

    with django_assert_num_queries(1):
        retrieved = users.get_users_bulk(ids)
    with django_assert_num_queries(0):
        users.get_users_bulk(ids)

    assert retrieved.keys() == set(ids)


def test_with_external_api_mocking(data, backends):
    backends.payments.configure_return("charge_card", "txn_1")
    backends.payments.configure_delay("charge_card", 0.1)
    order = data.create("shop.Order")

    start = time.perf_counter()
    payment = orders.process_payment(order.id, "tok_visa")
    duration = time.perf_counter() - start

    assert payment.success is True
    assert 0.1 <= duration < 5.0


def test_external_service_failure_handling(data, backends):
    backends.email.configure_exception("send_email", SMTPError("Service unavailable"))
    user = data.create("shop.User", phone="+49301234")

    result = notifications.send_notification(user.id, "Half price today")

    assert result.partial_success is True
    assert "email_failed" in result.errors
    backends.sms.send_sms.assert_called_once_with(to="+49301234", text="Half price today")


def test_integration_failure_handling(data, backends):
    backends.payments.configure_exception("charge_card", CardDeclinedError("Card declined"))
    order = data.create("shop.Order")

    with pytest.raises(OrderProcessingError, match="Card declined"):
        orders.process_payment(order.id, "tok_visa")

    assert orders.get_order(order.id).status == "payment_failed"
    assert backends.email.call_count("send_order_confirmation") == 0


def test_a_carrier_that_refuses_can_be_asked_again(data, backends):
    backends.shipping.create_shipment.raises(ShippingError("no van"), times=1)
    backends.shipping.create_shipment.returns("ship_123")
    order = data.create("shop.Order", status="paid")

    with pytest.raises(ShippingError, match="no van"):
        shipping.create_shipment(order.id)
    assert orders.get_order(order.id).status == "paid"

    assert shipping.create_shipment(order.id).tracking_number == "ship_123"
    assert orders.get_order(order.id).status == "shipped"


def test_partial_failure_handling(data, backends):
    backends.email.send_email.raises(SMTPError("Temporary failure"), times=1)
    readers = data.create_batch("shop.User", 3)

    result = notifications.send_multiple_notifications(
        (reader.id, "Half price today") for reader in readers
    )

    assert (result.total, result.successful, result.failed) == (3, 2, 1)
    assert Notification.objects.exclude(error="").count() == 1


def test_mixed_dependencies():
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

    assert transaction_id == "txn_1"
    assert payments.was_called_with("charge_card", 57000, "tok")
    assert container.get_mock(EmailGateway).call_count("send_email") == 0


def test_with_isolation(data):
    email = data.unique.email()
    user = users.create_user(email, "password")

    assert users.get_user(user.id).email == email

    users.delete_user(user.id)
    assert users.get_user(user.id) is None


def test_with_unique_data(data):
    emails = {users.create_user(data.unique.email()).email for _ in range(50)}

    assert len(emails) == 50


def test_data_manager_by_the_pages_names(test_data_manager):
    user = test_data_manager.create_test_user()
    order = test_data_manager.create_test_order(user.id)

    assert orders.get_user_orders(user.id) == [order]


def test_measure_integration_coverage():
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

    assert coverage["user_operations"]["methods_called"] == ["create_user", "get_user"]
    assert coverage["user_operations"]["methods_missed"] == ["delete_user"]
    [covered] = coverage["discounts"]["branches_covered"]
    [missed] = coverage["discounts"]["branches_missed"]
    assert "in DiscountPolicy.discount: if subtotal >= self.threshold: false" in covered
    assert "in DiscountPolicy.discount: if subtotal >= self.threshold: true" in missed


def test_benchmark_integration_performance(data):
    def create_user():
        users.create_user(data.unique.email(), "pass")

    figures = benchmark_integration_performance(create_user, "creation", rounds=20)
    timed = benchmark(create_user, rounds=20, warmup=0)

    assert User.objects.count() == 45  # five of which were not timed
    assert figures["max_creation_time"] >= figures["p95_creation_time"]
    assert figures["p95_creation_time"] >= figures["min_creation_time"]
    assert timed.max >= timed.avg

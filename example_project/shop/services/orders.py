"""Orders: from what was bought to what has arrived."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import partial
from typing import NotRequired, TypedDict

from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from example_project.shop import gateways
from example_project.shop.exceptions import OrderProcessingError, ProductNotFoundError
from example_project.shop.gateways.exceptions import CardDeclinedError, PaymentError
from example_project.shop.models import Order, OrderLine, Payment, Product, Shipment
from example_project.shop.services import notifications
from example_project.shop.services.pricing import PriceCalculator

Status = Order.Status
_OPEN = (Status.PENDING, Status.PAYMENT_FAILED, Status.PAYING)  # paying: a claim to go on with
_LOCK = "hashtextextended(%s, 'shop_order'::regclass::oid::bigint)"
"""The number of an order's lock. The table's own number is in it, as another schema of the same
database may have an order with the same id."""


class Item(TypedDict):
    """What is ordered; the price per piece is the product's own unless it is given."""

    product_id: int
    quantity: int
    price: NotRequired[Decimal | float]


@transaction.atomic
def create_order(user_id: int, items: Sequence[Item]) -> Order:
    """Create an order that waits for its payment.

    Raises:
        ProductNotFoundError: an item names a product that does not exist.
    """
    lines = _priced_lines(items)
    order = Order.objects.create(
        user_id=user_id, total=PriceCalculator().calculate_total(lines).total
    )
    for line in lines:
        line.order = order
    OrderLine.objects.bulk_create(lines)
    return order


def get_order(order_id: int) -> Order | None:
    """Return an order with its lines, or None."""
    return Order.objects.prefetch_related("lines").filter(pk=order_id).first()


def get_user_orders(user_id: int) -> list[Order]:
    """Return a user's orders, oldest first."""
    return list(Order.objects.filter(user_id=user_id).order_by("pk"))


def process_payment(order_id: int, token: str = "") -> Payment:
    """Charge the card of the token, or the one given at checkout, for a whole order.

    The order is claimed before and settled after the charge, each in its own transaction, so
    that no row stays locked while the payment service thinks. A declined card keeps the order
    and its reserved items for another attempt. Where anything else fails, or this process dies, the
    same call goes on where it was left: it charges with the same key, so that the card is
    charged once.

    Raises:
        OrderProcessingError: the payment failed, or the order is not open for payment.
    """
    with _one_at_a_time(order_id):
        order = _claim_for_payment(order_id)
        try:
            transaction_id = gateways.payments().charge_card(
                amount=order.total_in_cents,
                token=token or order.card_token,
                idempotency_key=_key_of_attempt(order),
            )
        except CardDeclinedError as error:
            _settle(order, Status.PAYMENT_FAILED, success=False, error=str(error))
            raise OrderProcessingError(f"Order {order_id} could not be paid: {error}") from error
        except PaymentError as error:  # the card may have been charged: the claim stays
            raise OrderProcessingError(f"Order {order_id} may be paid: {error}") from error
        return _settle(order, Status.PAID, success=True, transaction_id=transaction_id)


def send_order_notifications(order_id: int) -> None:
    """Confirm an order to its user."""
    order = Order.objects.select_related("user").get(pk=order_id)
    notifications.send_order_confirmation(order)


@transaction.atomic
def mark_order_delivered(order_id: int) -> None:
    """Note that a shipped order has arrived, and tell its user.

    Raises:
        OrderProcessingError: the order is not on its way.
    """
    order = advance(order_id, Status.DELIVERED, only_from=[Status.SHIPPED])
    Shipment.objects.filter(order=order).update(delivered_at=timezone.now())
    transaction.on_commit(partial(notifications.send_delivery_notification, order))


def advance(order_id: int, status: Status, *, only_from: Sequence[Status]) -> Order:
    """Move an order to its next status; of two callers at once, one succeeds.

    Raises:
        OrderProcessingError: the order is missing, or in another status.
    """
    moved = Order.objects.filter(pk=order_id, status__in=only_from).update(status=status)
    if not moved:
        raise OrderProcessingError(f"Order {order_id} cannot become {status} now.")
    return Order.objects.select_related("user").get(pk=order_id)


def _priced_lines(items: Sequence[Item]) -> list[OrderLine]:
    products = Product.objects.in_bulk([item["product_id"] for item in items])
    return [_priced_line(item, products) for item in items]


def _priced_line(item: Item, products: dict[int, Product]) -> OrderLine:
    product = products.get(item["product_id"])
    if product is None:
        raise ProductNotFoundError(f"There is no product {item['product_id']}.")
    price = Decimal(str(item.get("price", product.price)))
    return OrderLine(product=product, quantity=item["quantity"], price=price)


@contextmanager
def _one_at_a_time(order_id: int) -> Iterator[None]:
    """Refuse a second payment of an order while one is under way.

    The lock belongs to the connection, so it ends with the process, however that ends.

    Raises:
        OrderProcessingError: another payment of the order is under way.
    """
    name = [f"payment of order {order_id}"]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_try_advisory_lock({_LOCK})", name)
        if cursor.fetchone() != (True,):
            raise OrderProcessingError(f"Order {order_id} is being paid.")
    try:
        yield
    finally:
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_unlock({_LOCK})", name)


def _key_of_attempt(order: Order) -> str:
    """Return the same key for an attempt that goes on, and another after a declined card."""
    return f"order-{order.pk}-{order.payments.count()}"


# Durable, because the claim has to be committed before money moves.
@transaction.atomic(durable=True)
def _claim_for_payment(order_id: int) -> Order:
    return advance(order_id, Status.PAYING, only_from=_OPEN)


@transaction.atomic
def _settle(
    order: Order, status: Status, *, success: bool, transaction_id: str = "", error: str = ""
) -> Payment:
    advance(order.pk, status, only_from=[Status.PAYING])
    if success:
        transaction.on_commit(partial(send_order_notifications, order.pk))
    return Payment.objects.create(
        order=order,
        amount=order.total,
        success=success,
        transaction_id=transaction_id,
        error=error,
    )

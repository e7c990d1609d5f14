"""Shipping: hand a paid order to the carrier."""

from functools import partial

from django.db import transaction

from example_project.shop import gateways
from example_project.shop.exceptions import OrderProcessingError
from example_project.shop.models import Order, Shipment, ShippingMethod
from example_project.shop.services import inventory, notifications, orders

Status = Order.Status


def create_shipment(order_id: int, method: str = "standard") -> Shipment:
    """Announce the parcel of a paid order to the carrier, take it out of stock, tell the user.

    Raises:
        OrderProcessingError: the order is not paid.
        OutOfStockError: its items were never reserved and are short by now.
        ShippingError: the carrier refused; the order stays paid and can be tried again.
    """
    shipping_method = ShippingMethod.objects.get(code=method)
    order = Order.objects.get(pk=order_id)
    if order.status != Status.PAID:
        raise OrderProcessingError(f"Order {order_id} is {order.status}, not paid.")
    inventory.reserve_items(order_id)
    tracking_number = gateways.shipping().create_shipment(str(order_id), shipping_method.code)
    return _record(order, shipping_method, tracking_number)


@transaction.atomic
def _record(order: Order, method: ShippingMethod, tracking_number: str) -> Shipment:
    order = orders.advance(order.pk, Status.SHIPPED, only_from=[Status.PAID])
    inventory.release_to_carrier(order.pk)
    shipment = Shipment.objects.create(order=order, method=method, tracking_number=tracking_number)
    transaction.on_commit(partial(notifications.send_shipping_notification, shipment))
    return shipment

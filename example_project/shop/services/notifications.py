"""Messages to users. A channel that fails is recorded, and never stops the others."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from example_project.shop import gateways
from example_project.shop.gateways.exceptions import GatewayError
from example_project.shop.gateways.sms import SMSGateway
from example_project.shop.models import Notification, Order, Shipment, User

Channel = Notification.Channel
Send = Callable[[], object]


@dataclass
class Result:
    """What became of one notification: the channels that took it, and ``<channel>_failed``."""

    sent: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether every channel took it."""
        return not self.errors

    @property
    def partial_success(self) -> bool:
        """Whether some channels took it and some did not."""
        return bool(self.sent and self.errors)


@dataclass(frozen=True)
class BatchResult:
    """What became of several notifications; one counts as failed when any channel did."""

    results: list[Result]

    @property
    def total(self) -> int:
        """How many there were."""
        return len(self.results)

    @property
    def successful(self) -> int:
        """How many reached every channel."""
        return sum(result.success for result in self.results)

    @property
    def failed(self) -> int:
        """How many did not."""
        return self.total - self.successful

    @property
    def errors(self) -> list[str]:
        """All errors, in order."""
        return [error for result in self.results for error in result.errors]


def send_welcome(user: User) -> None:
    """Greet a new user by mail."""
    send = partial(gateways.email().send_welcome_email, user.email)
    _deliver(user, Channel.EMAIL, "welcome", send)


def send_order_confirmation(order: Order) -> None:
    """Confirm by mail that an order is paid."""
    send = partial(gateways.email().send_order_confirmation, order.user.email, order.pk)
    _deliver(order.user, Channel.EMAIL, f"order {order.pk} confirmed", send)


def send_shipping_notification(shipment: Shipment) -> None:
    """Tell by mail that a parcel is on its way."""
    user = shipment.order.user
    send = partial(
        gateways.email().send_shipping_notification, user.email, shipment.tracking_number
    )
    _deliver(user, Channel.EMAIL, f"order {shipment.order_id} shipped", send)


def send_delivery_notification(order: Order) -> None:
    """Tell by mail that an order has arrived."""
    send = partial(gateways.email().send_delivery_notification, order.user.email, order.pk)
    _deliver(order.user, Channel.EMAIL, f"order {order.pk} delivered", send)


def send_notification(user_id: int, message: str) -> Result:
    """Send a message by mail, and by SMS to those who gave a phone number."""
    user = User.objects.get(pk=user_id)
    result = Result()
    for channel, send in _channels(user, message).items():
        if _deliver(user, channel, message, send):
            result.sent.append(channel.value)
        else:
            result.errors.append(f"{channel.value}_failed")
    return result


def send_multiple_notifications(messages: Iterable[tuple[int, str]]) -> BatchResult:
    """Send pairs of user id and message, each whatever becomes of the others."""
    return BatchResult([send_notification(user_id, message) for user_id, message in messages])


def _channels(user: User, message: str) -> dict[Channel, Send]:
    email = partial(gateways.email().send_email, user.email, "News", message)
    channels: dict[Channel, Send] = {Channel.EMAIL: email}
    if user.phone:
        channels[Channel.SMS] = partial(SMSGateway().send_sms, user.phone, message)
    return channels


def _deliver(user: User, channel: Channel, message: str, send: Send) -> bool:
    error = ""
    try:
        send()
    except GatewayError as failure:
        error = str(failure)
    Notification.objects.create(user=user, channel=channel, message=message, error=error)
    return not error

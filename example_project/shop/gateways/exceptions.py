"""Errors of the world outside.

GatewayError
    PaymentError
        CardDeclinedError
    SMTPError
    SMSError
    ShippingError
"""


class GatewayError(Exception):
    """An outside service failed, or refused; ``status`` is its HTTP status where it sent one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class PaymentError(GatewayError):
    """A payment failed; whether money has moved is known only of a declined card."""


class CardDeclinedError(PaymentError):
    """The card's bank refused, and no money moved."""


class SMTPError(GatewayError):
    """The mail server did not take a message."""


class SMSError(GatewayError):
    """The SMS service did not take a message."""


class ShippingError(GatewayError):
    """The carrier did not take a parcel."""

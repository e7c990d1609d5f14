"""The world outside the shop. Each gateway is named by a setting and built for each use."""

from django.conf import settings
from django.utils.module_loading import import_string

from example_project.shop.gateways.email import EmailGateway
from example_project.shop.gateways.payment import PaymentGateway
from example_project.shop.gateways.shipping import ShippingProvider


def payments() -> PaymentGateway:
    """Return the gateway that ``PAYMENT_GATEWAY`` names."""
    gateway: PaymentGateway = import_string(settings.PAYMENT_GATEWAY)()
    return gateway


def email() -> EmailGateway:
    """Return the gateway that ``EMAIL_GATEWAY`` names."""
    gateway: EmailGateway = import_string(settings.EMAIL_GATEWAY)()
    return gateway


def shipping() -> ShippingProvider:
    """Return the provider that ``SHIPPING_PROVIDER`` names."""
    provider: ShippingProvider = import_string(settings.SHIPPING_PROVIDER)()
    return provider

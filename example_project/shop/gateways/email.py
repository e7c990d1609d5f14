"""Mail, by SMTP."""

import smtplib
from email.message import EmailMessage

from django.conf import settings

from example_project.shop.gateways.exceptions import SMTPError


class EmailGateway:
    """Sends the shop's mails."""

    def send_welcome_email(self, to: str) -> None:
        """Greet a new customer."""
        self.send_email(to, "Welcome", "Your account is ready.")

    def send_order_confirmation(self, to: str, order_id: int) -> None:
        """Confirm that an order is paid."""
        self.send_email(to, f"Order {order_id}", "Thank you. We are packing your order.")

    def send_shipping_notification(self, to: str, tracking_number: str) -> None:
        """Tell that a parcel is on its way."""
        self.send_email(to, "Your parcel is on its way", f"Tracking number: {tracking_number}")

    def send_delivery_notification(self, to: str, order_id: int) -> None:
        """Tell that an order has arrived."""
        self.send_email(to, f"Order {order_id} has arrived", "We hope that you like it.")

    def send_email(self, to: str, subject: str, body: str) -> None:
        """Send a mail.

        Raises:
            SMTPError: the mail server did not take it.
        """
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = settings.SHOP_EMAIL, to, subject
        message.set_content(body)
        try:
            with smtplib.SMTP(settings.SMTP_HOST, settings.SMTP_PORT, timeout=10) as server:
                server.send_message(message)
        except OSError as error:  # smtplib's own errors are OSErrors too
            raise SMTPError(f"Mail to {to}: {error}") from error

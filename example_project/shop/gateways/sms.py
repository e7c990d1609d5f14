"""Text messages, by a service that speaks HTTP."""

from django.conf import settings

from example_project.shop.gateways.exceptions import SMSError
from example_project.shop.gateways.http import JSONClient


class SMSGateway:
    """Sends text messages."""

    def send_sms(self, to: str, text: str) -> str:
        """Send a text to a phone number and return the message's id.

        Raises:
            SMSError: the service did not take it.
        """
        client = JSONClient(settings.SMS_URL, settings.SMS_KEY, SMSError)
        return str(client.post("messages", {"to": to, "text": text})["id"])

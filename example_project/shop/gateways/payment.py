"""Cards, by a payment service that speaks HTTP."""

from http import HTTPStatus

from django.conf import settings

from example_project.shop.gateways.exceptions import CardDeclinedError, PaymentError
from example_project.shop.gateways.http import JSONClient


class PaymentGateway:
    """Charges cards."""

    def charge_card(self, amount: int, token: str, idempotency_key: str = "") -> str:
        """Charge an amount in cents and return the id of the transaction.

        Args:
            amount: in cents.
            token: of the card.
            idempotency_key: calls with the same key charge once, and get the same answer.

        Raises:
            CardDeclinedError: the card's bank refused.
            PaymentError: nobody knows whether the card was charged; call again with the same key.
        """
        client = JSONClient(settings.PAYMENT_URL, settings.PAYMENT_KEY, PaymentError)
        try:
            charge = client.post(
                "charges", {"amount": amount, "source": token}, once=idempotency_key
            )
        except PaymentError as error:
            if error.status == HTTPStatus.PAYMENT_REQUIRED:
                raise CardDeclinedError(str(error), status=error.status) from error
            raise
        return str(charge["id"])

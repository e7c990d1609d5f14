"""Parcels, by a carrier that speaks HTTP."""

from django.conf import settings

from example_project.shop.gateways.exceptions import ShippingError
from example_project.shop.gateways.http import JSONClient


class ShippingProvider:
    """Hands parcels to a carrier."""

    def create_shipment(self, reference: str, method: str) -> str:
        """Announce a parcel and return its tracking number.

        Raises:
            ShippingError: the carrier did not take it.
        """
        client = JSONClient(settings.SHIPPING_URL, settings.SHIPPING_KEY, ShippingError)
        parcel = client.post("shipments", {"reference": reference, "method": method})
        return str(parcel["tracking_number"])

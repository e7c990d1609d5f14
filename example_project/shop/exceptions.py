"""Errors of the shop itself; those of the outside world are in ``gateways.exceptions``."""


class ShopError(Exception):
    """Base of all errors of the shop."""


class ProductNotFoundError(ShopError):
    """An order names a product that the shop does not have."""


class OutOfStockError(ShopError):
    """Less is available than was ordered."""


class OrderProcessingError(ShopError):
    """An order cannot take its next step."""

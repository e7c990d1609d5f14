"""Stock: what can be bought, and what is reserved for orders."""

from collections import Counter
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F, QuerySet
from django_redis import get_redis_connection

from example_project.shop.exceptions import OutOfStockError
from example_project.shop.models import OrderLine, Product

_POPULAR = "popular-products"


@dataclass(frozen=True)
class Stock:
    """The pieces of one product."""

    product_id: int
    on_hand: int
    reserved: int

    @property
    def available(self) -> int:
        """How many can still be sold."""
        return self.on_hand - self.reserved


def get_stock(product_id: int) -> Stock:
    """Return the stock of a product."""
    product = Product.objects.get(pk=product_id)
    return Stock(product.pk, product.stock, product.reserved)


def get_available_products(search: str = "") -> list[Product]:
    """Return what can be bought; ``search`` finds names that are spelled alike."""
    products = Product.objects.filter(stock__gt=F("reserved")).order_by("pk")
    if search:
        products = products.filter(name__trigram_word_similar=search)
    return list(products)


@transaction.atomic
def reserve_items(order_id: int) -> None:
    """Reserve what an order needs; a line that is reserved already is left alone.

    Raises:
        OutOfStockError: any product is short; then nothing is reserved.
    """
    lines = _lines_to_reserve(order_id)
    wanted = _quantities(lines)
    for product in _locked_products(wanted):
        if product.stock - product.reserved < wanted[product.pk]:
            raise OutOfStockError(f"{wanted[product.pk]} x {product} ordered, too few left.")
        product.reserved += wanted[product.pk]
        product.save(update_fields=["reserved"])
    lines.update(is_reserved=True)


@transaction.atomic
def release_to_carrier(order_id: int) -> None:
    """Take an order's reserved items out of the stock, as they leave the house."""
    shipped = _quantities(OrderLine.objects.filter(order_id=order_id, is_reserved=True))
    for product in _locked_products(shipped):
        product.stock -= shipped[product.pk]
        product.reserved -= shipped[product.pk]
        product.save(update_fields=["stock", "reserved"])


def count_interest(product_id: int) -> None:
    """Count that somebody put a product into a cart."""
    get_redis_connection().zincrby(_POPULAR, 1, product_id)


def get_popular_products(limit: int = 10) -> list[Product]:
    """Return the products that most carts hold, most popular first."""
    ids = [int(member) for member in get_redis_connection().zrevrange(_POPULAR, 0, limit - 1)]
    products = Product.objects.in_bulk(ids)
    return [products[product_id] for product_id in ids if product_id in products]


def _lines_to_reserve(order_id: int) -> QuerySet[OrderLine]:
    return OrderLine.objects.filter(order_id=order_id, is_reserved=False)


def _quantities(lines: QuerySet[OrderLine]) -> Counter[int]:
    quantities: Counter[int] = Counter()
    for line in lines:
        quantities[line.product_id] += line.quantity
    return quantities


def _locked_products(quantities: Counter[int]) -> QuerySet[Product]:
    # All lock in the same order, so that two orders never wait for each other.
    return Product.objects.select_for_update().filter(pk__in=quantities).order_by("pk")

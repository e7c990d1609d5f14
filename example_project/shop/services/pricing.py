"""Prices: discount, and the value-added tax that they include."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

from django.conf import settings

from example_project.shop.models import OrderLine

CENT = Decimal("0.01")


@dataclass(frozen=True)
class Price:
    """What an order costs; ``tax_amount`` is part of ``total``."""

    total: Decimal
    discount_amount: Decimal
    tax_amount: Decimal


class DiscountPolicy:
    """Five percent off from 500 on."""

    threshold = Decimal(500)
    rate = Decimal("0.05")

    def discount(self, subtotal: Decimal) -> Decimal:
        """Return the amount off a subtotal."""
        return _rounded(subtotal * self.rate) if subtotal >= self.threshold else Decimal(0)


class TaxCalculator:
    """Value-added tax at the rate of ``VAT_RATE``."""

    def included_in(self, amount: Decimal) -> Decimal:
        """Return the tax in an amount that includes it."""
        rate = settings.VAT_RATE
        return _rounded(amount * rate / (1 + rate))


@dataclass(frozen=True)
class PriceCalculator:
    """Adds up lines, takes the discount off and finds the tax."""

    discounts: DiscountPolicy = field(default_factory=DiscountPolicy)
    tax: TaxCalculator = field(default_factory=TaxCalculator)

    def calculate_total(self, lines: Iterable[OrderLine]) -> Price:
        """Return what some lines cost together."""
        subtotal = sum((line.price * line.quantity for line in lines), Decimal(0))
        discount = self.discounts.discount(subtotal)
        total = subtotal - discount
        return Price(total, discount, self.tax.included_in(total))


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)

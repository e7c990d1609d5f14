"""A world that is made once."""

from typing import Any

from benchmarks.datashop.made_by import OrderFactory
from itkit import scenario


@scenario
def crowd(data: Any) -> None:
    """Make the orders that the other measures make."""
    data.create_batch(OrderFactory, 1_000)

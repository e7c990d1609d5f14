"""A world that is made once."""

from typing import Any

from itkit import scenario


@scenario
def crowd(data: Any) -> None:
    """Make the orders that the other measures make."""
    data.create_batch("datashop.Order", 1_000)

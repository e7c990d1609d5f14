"""A shop, and factories as its users would write them."""

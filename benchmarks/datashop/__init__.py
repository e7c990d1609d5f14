"""A shop with factories, as its users would write them."""

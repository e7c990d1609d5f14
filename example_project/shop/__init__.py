"""The shop: customers, products, carts, orders, payments, shipments and notifications."""

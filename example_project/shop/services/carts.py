"""Carts: collect products, then check out."""

from django.db import transaction

from example_project.shop.models import Cart, CartItem, Order
from example_project.shop.services import inventory, orders


def create_cart(user_id: int) -> Cart:
    """Create an empty cart."""
    return Cart.objects.create(user_id=user_id)


@transaction.atomic
def add_to_cart(cart_id: int, product_id: int, quantity: int = 1) -> CartItem:
    """Add some pieces of a product to those that the cart holds."""
    Cart.objects.select_for_update().get(pk=cart_id)
    item = CartItem.objects.filter(cart_id=cart_id, product_id=product_id).first()
    item = item or CartItem(cart_id=cart_id, product_id=product_id, quantity=0)
    item.quantity += quantity
    item.save()
    transaction.on_commit(lambda: inventory.count_interest(product_id))
    return item


@transaction.atomic
def checkout_cart(cart_id: int, token: str) -> Order:
    """Turn a cart into a pending order with reserved items, to be paid with the card of a token.

    Raises:
        OutOfStockError: any product is short; then there is no order.
        IntegrityError: the cart was checked out before.
    """
    cart = Cart.objects.prefetch_related("items").get(pk=cart_id)
    order = orders.create_order(
        cart.user_id,
        [{"product_id": item.product_id, "quantity": item.quantity} for item in cart.items.all()],
    )
    order.cart, order.card_token = cart, token
    order.save(update_fields=["cart", "card_token"])
    inventory.reserve_items(order.pk)
    return order

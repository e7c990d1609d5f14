"""The shop as JSON."""

import json

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from example_project.shop.exceptions import OrderProcessingError, OutOfStockError
from example_project.shop.models import Cart, Order
from example_project.shop.services import carts, inventory, orders


@require_GET
def product_list(request: HttpRequest) -> JsonResponse:
    """List what can be bought; ``?q=`` searches."""
    products = inventory.get_available_products(request.GET.get("q", ""))
    fields = [{"id": item.pk, "name": item.name, "price": str(item.price)} for item in products]
    return JsonResponse({"products": fields})


@login_required
@require_POST
def checkout(request: HttpRequest) -> JsonResponse:
    """Check out and pay a cart: ``{"cart_id": 1, "token": "tok_visa"}``."""
    body = json.loads(request.body)
    cart = get_object_or_404(Cart, pk=body["cart_id"], user_id=request.user.pk)
    try:
        order = carts.checkout_cart(cart.pk, body["token"])
        orders.process_payment(order.pk)
    except OutOfStockError as error:
        return JsonResponse({"error": str(error)}, status=409)
    except OrderProcessingError as error:
        return JsonResponse({"error": str(error)}, status=402)
    order.refresh_from_db()
    return JsonResponse(_as_json(order), status=201)


@login_required
@require_GET
def order_detail(request: HttpRequest, order_id: int) -> JsonResponse:
    """Show one of the user's own orders."""
    order = get_object_or_404(Order, pk=order_id, user_id=request.user.pk)
    return JsonResponse(_as_json(order))


def _as_json(order: Order) -> dict[str, object]:
    return {"id": order.pk, "status": order.status, "total": str(order.total)}

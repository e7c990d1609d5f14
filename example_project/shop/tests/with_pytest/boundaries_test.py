"""The fixtures of pytest-django with real commits, threads, Redis, a server and asyncio."""

import json
from urllib.request import Request, urlopen

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.cache import cache
from django.db import transaction

from example_project.shop.models import Product, ShippingMethod, User
from example_project.shop.services import carts, users
from example_project.shop.tests.neighbour import neighbours_key
from example_project.shop.tests.threads import in_threads
from itkit import budget


@pytest.mark.integration
def test_mail_waits_for_the_commit(backends, timeline):
    with transaction.atomic():
        users.register_user("john@example.com", "password")
        assert backends.email.call_count("send_welcome_email") == 0

    assert backends.email.call_count("send_welcome_email") == 1
    timeline.assert_order("INSERT shop_user", "COMMIT", "email.send_welcome_email")


@pytest.mark.integration
def test_rows_are_seen_across_threads(data):
    data.create("shop.User", email="here@example.com")
    in_threads(users.create_user, "there@example.com")

    assert in_threads(lambda _: User.objects.count(), None) == [2]
    assert User.objects.filter(email="there@example.com").exists()


@pytest.mark.integration
@pytest.mark.parametrize("time", ["first", "second"])
def test_migrated_rows_are_there(time):
    assert ShippingMethod.objects.count() == 2, time
    ShippingMethod.objects.all().delete()


@pytest.mark.integration
def test_clear_leaves_the_keys_of_others():
    with neighbours_key("theirs") as read:
        cache.set("ours", 1)
        cache.clear()

        assert cache.get("ours") is None
        assert read() == "theirs"


@pytest.mark.integration
def test_checkout(keys_apart, data, backends, client):
    backends.payments.charge_card.returns("txn_1")
    user, (cup, pot) = data.create("shop.User"), data.create_batch("shop.Product", 2)
    cart = carts.create_cart(user.id)
    carts.add_to_cart(cart.id, cup.id)
    carts.add_to_cart(cart.id, pot.id)
    client.force_login(user)

    with budget("checkout"):
        response = client.post(
            "/checkout/",
            {"cart_id": cart.id, "token": "tok_visa"},
            content_type="application/json",
        )

    assert response.status_code == 201
    assert response.json()["status"] == "paid"
    backends.payments.charge_card.assert_called_once_with(
        amount=5000, token="tok_visa", idempotency_key=f"order-{response.json()['id']}-0"
    )


@pytest.mark.integration
def test_live_server_sees_committed_rows_and_sessions(data, client, live_server):
    order = data.create("shop.Order")
    client.force_login(order.user)
    cookie = f"{settings.SESSION_COOKIE_NAME}={client.session.session_key}"

    request = Request(f"{live_server.url}/orders/{order.id}/", headers={"Cookie": cookie})
    with urlopen(request, timeout=10) as response:
        body = json.load(response)

    assert body == {"id": order.id, "status": "pending", "total": "25.00"}


@pytest.mark.integration
def test_async_orm():
    @async_to_sync
    async def count_after_create():
        await Product.objects.acreate(sku="tea", name="Tea", price=5, stock=1)
        return await Product.objects.acount()

    assert count_after_create() == 1


@pytest.mark.django_db
def test_without_itkit():
    users.create_user("john@example.com")

    assert User.objects.count() == 1

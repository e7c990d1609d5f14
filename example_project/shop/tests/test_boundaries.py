# ruff: noqa: PT009, PT027 - Django's own style of test
"""What is real in an integration test: commits, threads, Redis, a server, asyncio."""

import json
from urllib.request import Request, urlopen

from django.conf import settings
from django.core.cache import cache
from django.db import ProgrammingError, connection, transaction

from example_project.shop.exceptions import OrderProcessingError, OutOfStockError
from example_project.shop.models import Order, Product, ShippingMethod, User
from example_project.shop.services import carts, inventory, orders, users
from example_project.shop.tests.cases import ShopTestCase
from example_project.shop.tests.neighbour import neighbours_key
from example_project.shop.tests.threads import in_threads
from itkit.test import IntegrationLiveServerTestCase, IntegrationTestCase


class PostgresTests(IntegrationTestCase):
    def test_mail_waits_for_the_commit(self):
        with transaction.atomic():
            users.register_user("john@example.com", "password")
            self.assertEqual(self.backends.email.call_count("send_welcome_email"), 0)

        self.assertEqual(self.backends.email.call_count("send_welcome_email"), 1)
        self.timeline.assert_order("INSERT shop_user", "COMMIT", "email.send_welcome_email")

    def test_rows_are_seen_across_threads(self):
        self.data.create("shop.User", email="here@example.com")
        in_threads(users.create_user, "there@example.com")

        self.assertEqual(in_threads(lambda _: User.objects.count(), None), [2])
        self.assertTrue(User.objects.filter(email="there@example.com").exists())

    def test_two_buyers_cannot_have_the_last_piece(self):
        product = self.data.create("shop.Product", stock=1)
        buyers = self.data.create_batch("shop.User", 2)
        item = {"product_id": product.id, "quantity": 1}
        rivals = [orders.create_order(buyer.id, [item]).id for buyer in buyers]

        outcomes = in_threads(self.reserve, *rivals)

        self.assertCountEqual(outcomes, ["reserved", "sold out"])
        self.assertEqual(inventory.get_stock(product.id).available, 0)

    def test_double_click_charges_once(self):
        self.backends.payments.charge_card.returns("txn_1")
        self.backends.payments.configure_delay("charge_card", 0.1)
        order = self.data.create("shop.Order")

        outcomes = in_threads(self.pay, order.id, order.id)

        self.assertCountEqual(outcomes, ["paid", "refused"])
        self.backends.payments.charge_card.assert_called_once_with(
            amount=2500, token="tok_visa", idempotency_key=f"order-{order.id}-0"
        )

    def test_migrated_rows_are_there(self):
        self.use_up_shipping_methods()

    def test_migrated_rows_are_there_again(self):
        self.use_up_shipping_methods()

    def test_search_uses_an_extension(self):
        self.data.create("shop.Product", name="Porcelain teapot")
        self.data.create("shop.Product", name="Cast-iron pan")

        (found,) = inventory.get_available_products(search="porcelan")

        self.assertEqual(found.name, "Porcelain teapot")

    def test_public_is_out_of_reach(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_schema()")
            (schema,) = cursor.fetchone()
            with self.assertRaises(ProgrammingError):
                cursor.execute("DELETE FROM public.shop_user")

        self.assertTrue(schema.startswith("itkit_"), schema)

    async def test_async_orm(self):
        product = await Product.objects.acreate(sku="tea", name="Tea", price=5, stock=1)

        self.assertEqual(await Product.objects.filter(pk=product.pk).acount(), 1)

    def use_up_shipping_methods(self):
        self.assertEqual(ShippingMethod.objects.count(), 2)
        ShippingMethod.objects.all().delete()

    def reserve(self, order_id):
        try:
            inventory.reserve_items(order_id)
        except OutOfStockError:
            return "sold out"
        return "reserved"

    def pay(self, order_id):
        try:
            orders.process_payment(order_id, "tok_visa")
        except OrderProcessingError:
            return "refused"
        return "paid"


class RedisTests(IntegrationTestCase):
    def test_clear_leaves_the_keys_of_others(self):
        with neighbours_key("theirs") as read:
            cache.set("ours", 1)
            cache.clear()

            self.assertIsNone(cache.get("ours"))
            self.assertEqual(read(), "theirs")

    def test_raw_client(self):
        user = self.data.create("shop.User")
        cup, pot = self.data.create_batch("shop.Product", 2)
        cart = carts.create_cart(user.id)

        for product in (cup, pot, pot):
            carts.add_to_cart(cart.id, product.id)

        self.assertEqual(inventory.get_popular_products(), [pot, cup])

    def test_cache_begins_empty(self):
        self.assertEqual(cache.keys("*"), [])
        self.assertEqual(inventory.get_popular_products(), [])


class ClientTests(ShopTestCase):
    def test_checkout(self):
        self.backends.payments.charge_card.returns("txn_1")
        user, (cup, pot) = self.data.create("shop.User"), self.data.create_batch("shop.Product", 2)
        cart = carts.create_cart(user.id)
        carts.add_to_cart(cart.id, cup.id)
        carts.add_to_cart(cart.id, pot.id)
        self.client.force_login(user)

        with self.budget("checkout"):
            response = self.post("/checkout/", cart_id=cart.id, token="tok_visa")

        self.assertEqual(response.status_code, 201)
        self.assertEqual(response.json()["status"], "paid")
        order_id = response.json()["id"]
        self.backends.payments.charge_card.assert_called_once_with(
            amount=5000, token="tok_visa", idempotency_key=f"order-{order_id}-0"
        )
        self.backends.email.send_order_confirmation.assert_called_once_with(user.email, order_id)

    def test_checkout_of_sold_out_product_leaves_no_order(self):
        user, product = self.data.create("shop.User"), self.data.create("shop.Product", stock=1)
        cart = carts.create_cart(user.id)
        carts.add_to_cart(cart.id, product.id, 2)
        self.client.force_login(user)

        response = self.post("/checkout/", cart_id=cart.id, token="tok_visa")

        self.assertEqual(response.status_code, 409)
        self.assertFalse(Order.objects.exists())
        self.assertEqual(self.backends.payments.call_count("charge_card"), 0)

    def post(self, url, **body):
        return self.client.post(url, body, content_type="application/json")


class LiveServerTests(IntegrationLiveServerTestCase):
    def test_server_sees_committed_rows_and_sessions(self):
        order = self.data.create("shop.Order")
        self.client.force_login(order.user)
        cookie = f"{settings.SESSION_COOKIE_NAME}={self.client.session.session_key}"

        request = Request(f"{self.live_server_url}/orders/{order.id}/", headers={"Cookie": cookie})
        with urlopen(request, timeout=10) as response:
            body = json.load(response)

        self.assertEqual(body, {"id": order.id, "status": "pending", "total": "25.00"})

# ruff: noqa: PT009, PT027 - Django's own style of test
"""The rules of the shop, each with the value that it promises; ``with_pytest`` has the same."""

import socket
from decimal import Decimal
from threading import Timer

from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from example_project.shop.exceptions import (
    OrderProcessingError,
    OutOfStockError,
    ProductNotFoundError,
)
from example_project.shop.gateways.exceptions import (
    CardDeclinedError,
    PaymentError,
    ShippingError,
    SMSError,
    SMTPError,
)
from example_project.shop.gateways.http import JSONClient
from example_project.shop.models import (
    Notification,
    Order,
    OrderLine,
    Payment,
    Product,
    Shipment,
    ShippingMethod,
    User,
)
from example_project.shop.services import carts, inventory, notifications, orders, shipping, users
from example_project.shop.services.pricing import PriceCalculator
from example_project.shop.tests.cases import ShopTestCase
from example_project.shop.tests.servers import HTTPService, RawService, serving
from example_project.shop.tests.threads import in_threads

Status = Order.Status


class PriceRules(ShopTestCase):
    def test_discount_tax_and_cents(self):
        for price, quantity, total, discount, tax in (
            ("25.00", 1, "25.00", "0", "4.17"),
            ("499.99", 1, "499.99", "0", "83.33"),
            ("500.00", 1, "475.00", "25.00", "79.17"),
            ("0.10", 5000, "475.00", "25.00", "79.17"),
            ("500.10", 1, "475.09", "25.01", "79.18"),  # half a cent is rounded up
        ):
            with self.subTest(price=price, quantity=quantity):
                line = OrderLine(price=Decimal(price), quantity=quantity)
                found = PriceCalculator().calculate_total([line])
                self.assertEqual(found.total, Decimal(total))
                self.assertEqual(found.discount_amount, Decimal(discount))
                self.assertEqual(found.tax_amount, Decimal(tax))

    def test_the_discount_is_on_all_lines_together(self):
        lines = [OrderLine(price=Decimal("250.00"), quantity=1) for _ in range(2)]

        self.assertEqual(PriceCalculator().calculate_total(lines).total, Decimal("475.00"))

    def test_cents_are_whole(self):
        for total, cents in (("19.99", 1999), ("8.20", 820), ("1.15", 115), ("1000.00", 100000)):
            self.assertEqual(Order(total=Decimal(total)).total_in_cents, cents)

    def test_an_order_keeps_the_price_of_its_day(self):
        product = self.data.create("shop.Product", price=Decimal("19.99"))
        order = orders.create_order(
            self.data.create("shop.User").id, [{"product_id": product.id, "quantity": 3}]
        )
        Product.objects.update(price=1)

        (line,) = orders.get_order(order.id).lines.all()
        self.assertEqual((line.price, line.quantity), (Decimal("19.99"), 3))
        self.assertEqual(orders.get_order(order.id).total, Decimal("59.97"))
        self.assertFalse(line.is_reserved)

    def test_a_price_may_be_agreed(self):
        product, user = self.data.create("shop.Product"), self.data.create("shop.User")
        for agreed, total in ((19.99, "39.98"), (0, "0.00"), (Decimal("0.10"), "0.20")):
            item = {"product_id": product.id, "quantity": 2, "price": agreed}
            self.assertEqual(orders.create_order(user.id, [item]).total, Decimal(total))

    def test_an_order_of_nothing_that_exists(self):
        product, user = self.data.create("shop.Product"), self.data.create("shop.User")
        items = [{"product_id": number, "quantity": 1} for number in (product.id, product.id + 1)]

        with self.assertRaises(ProductNotFoundError):
            orders.create_order(user.id, items)

        self.assertFalse(Order.objects.exists())

    def test_an_order_of_no_pieces(self):
        product, user = self.data.create("shop.Product"), self.data.create("shop.User")

        with self.assertRaises(IntegrityError):
            orders.create_order(user.id, [{"product_id": product.id, "quantity": 0}])

        self.assertFalse(Order.objects.exists())

    def test_the_orders_of_a_user(self):
        order, other = self.data.create_batch("shop.Order", 2)
        later = self.data.create("shop.Order", user=order.user)

        self.assertEqual(orders.get_user_orders(order.user_id), [order, later])
        self.assertEqual(orders.get_user_orders(other.user_id), [other])


class CartRules(ShopTestCase):
    def test_adding_twice_adds_up(self):
        cart, product = self.cart(), self.data.create("shop.Product")

        carts.add_to_cart(cart.id, product.id, 2)
        carts.add_to_cart(cart.id, product.id)

        self.assertEqual([item.quantity for item in cart.items.all()], [3])

    def test_adding_at_once_adds_up(self):
        cart, product = self.cart(), self.data.create("shop.Product")

        in_threads(lambda _: carts.add_to_cart(cart.id, product.id), *range(4))

        self.assertEqual([item.quantity for item in cart.items.all()], [4])

    def test_a_cart_has_its_own_pieces_only(self):
        product = self.data.create("shop.Product")
        theirs, mine = self.cart(), self.cart()
        later = carts.create_cart(mine.user_id)
        for quantity, cart in enumerate((theirs, later, mine), 1):
            carts.add_to_cart(cart.id, product.id, quantity)

        order = carts.checkout_cart(mine.id, "tok_visa")

        self.assertEqual(order.user, mine.user)
        self.assertEqual([line.quantity for line in order.lines.all()], [3])
        for quantity, cart in enumerate((theirs, later, mine), 1):
            self.assertEqual([item.quantity for item in cart.items.all()], [quantity])

    def test_a_cart_is_checked_out_once(self):
        cart, product = self.cart(), self.data.create("shop.Product")
        carts.add_to_cart(cart.id, product.id, 2)
        order = carts.checkout_cart(cart.id, "tok_visa")

        with self.assertRaises(IntegrityError):
            carts.checkout_cart(cart.id, "tok_visa")

        self.assertEqual((order.cart, order.card_token), (cart, "tok_visa"))
        self.assertEqual(Order.objects.get(), order)
        self.assertEqual(inventory.get_stock(product.id).reserved, 2)

    def test_interest_counts_once_it_is_committed(self):
        cart, cup, pot = self.cart(), *self.data.create_batch("shop.Product", 2)
        with transaction.atomic():
            carts.add_to_cart(cart.id, cup.id)
            transaction.set_rollback(True)
        carts.add_to_cart(cart.id, pot.id)

        self.assertEqual(inventory.get_popular_products(), [pot])

    def test_popular_products(self):
        cart, products = self.cart(), self.data.create_batch("shop.Product", 3)
        for product, times in zip(products, (1, 3, 2), strict=True):
            for _ in range(times):
                carts.add_to_cart(cart.id, product.id)
        Product.objects.get(pk=products[1].pk).cartitem_set.all().delete()
        Product.objects.filter(pk=products[1].pk).delete()

        with self.assertNumQueries(1):
            self.assertEqual(inventory.get_popular_products(), [products[2], products[0]])
        self.assertEqual(inventory.get_popular_products(limit=2), [products[2]])

    def cart(self):
        return carts.create_cart(self.data.create("shop.User").id)


class StockRules(ShopTestCase):
    def test_the_last_piece_can_be_reserved_and_no_more(self):
        product = self.data.create("shop.Product", stock=5, reserved=2)
        self.assertEqual(inventory.get_stock(product.id).available, 3)

        with self.assertRaises(OutOfStockError):
            inventory.reserve_items(self.order((product, 4)).id)
        inventory.reserve_items(self.order((product, 3)).id)

        self.assertEqual(inventory.get_stock(product.id).available, 0)
        self.assertEqual(inventory.get_available_products(), [])

    def test_all_lines_are_reserved_or_none(self):
        cup, pot = self.data.create_batch("shop.Product", 2, stock=3)
        order = self.order((cup, 3), (pot, 4))

        with self.assertRaises(OutOfStockError):
            inventory.reserve_items(order.id)

        self.assertEqual(sum(Product.objects.values_list("reserved", flat=True)), 0)
        self.assertFalse(order.lines.filter(is_reserved=True).exists())

    def test_two_lines_of_a_product_count_together(self):
        product = self.data.create("shop.Product", stock=3)

        with self.assertRaises(OutOfStockError):
            inventory.reserve_items(self.order((product, 2), (product, 2)).id)

    def test_reserving_twice_reserves_once(self):
        product = self.data.create("shop.Product", stock=5)
        order = self.order((product, 2))

        inventory.reserve_items(order.id)
        inventory.reserve_items(order.id)

        self.assertEqual(inventory.get_stock(product.id).reserved, 2)

    def test_only_reserved_pieces_leave_the_house(self):
        product = self.data.create("shop.Product", stock=9)
        order, other = self.order((product, 2)), self.order((product, 3))
        inventory.reserve_items(order.id)
        inventory.reserve_items(other.id)

        inventory.release_to_carrier(order.id)
        inventory.release_to_carrier(self.order((product, 1)).id)

        self.assertEqual(inventory.get_stock(product.id), inventory.Stock(product.id, 7, 3))

    def order(self, *items):
        order = self.data.create("shop.Order")
        for product, quantity in items:
            self.data.create("shop.OrderLine", order=order, product=product, quantity=quantity)
        return order


class StatusRules(ShopTestCase):
    """Each step from each status: allowed as promised, and else refused without any effect."""

    def test_paying(self):
        allowed = {Status.PENDING, Status.PAYMENT_FAILED, Status.PAYING}
        self.backends.payments.charge_card.returns("txn_1")
        for status in Status:
            with self.subTest(status=status):
                order = self.data.create("shop.Order", status=status)
                is_done = self.step(order, lambda order: orders.process_payment(order.id, "tok"))
                self.assertEqual(is_done, status in allowed)
                self.assertEqual(order.status, Status.PAID if is_done else status)
                self.assertEqual(order.payments.count(), int(is_done))
        self.assertEqual(self.backends.payments.call_count("charge_card"), len(allowed))
        self.assertEqual(self.backends.email.call_count("send_order_confirmation"), len(allowed))

    def test_shipping(self):
        self.backends.shipping.create_shipment.returns("ship_7")
        for status in Status:
            with self.subTest(status=status):
                order = self.data.create("shop.Order", status=status)
                is_done = self.step(order, lambda order: shipping.create_shipment(order.id))
                self.assertEqual(is_done, status == Status.PAID)
                self.assertEqual(order.status, Status.SHIPPED if is_done else status)
                self.assertEqual(Shipment.objects.filter(order=order).count(), int(is_done))
        self.assertEqual(self.backends.shipping.call_count("create_shipment"), 1)
        self.assertEqual(self.backends.email.call_count("send_shipping_notification"), 1)

    def test_arriving(self):
        for status in Status:
            with self.subTest(status=status):
                order = self.data.create("shop.Order", status=status)
                is_done = self.step(order, lambda order: orders.mark_order_delivered(order.id))
                self.assertEqual(is_done, status == Status.SHIPPED)
                self.assertEqual(order.status, Status.DELIVERED if is_done else status)
        self.assertEqual(self.backends.email.call_count("send_delivery_notification"), 1)

    def step(self, order, do):
        """Return whether a step could be done, which moves no other order; read the order again."""
        for status in Status:
            self.data.create("shop.Order", status=status)
        others = Order.objects.exclude(pk=order.pk).order_by("pk").values_list("pk", "status")
        before = list(others)
        try:
            do(order)
        except OrderProcessingError:
            return False
        finally:
            order.refresh_from_db()
            self.assertEqual(list(others.all()), before)
        return True


class PaymentRules(ShopTestCase):
    def test_the_card_of_the_checkout_is_charged_unless_another_is_given(self):
        self.backends.payments.charge_card.returns("txn_1")
        for given, charged in (("", "tok_cart"), ("tok_other", "tok_other")):
            order = self.data.create("shop.Order", card_token="tok_cart", total=Decimal("19.99"))
            payment = orders.process_payment(order.id, given)

            self.assertEqual((payment.amount, payment.order), (Decimal("19.99"), order))
            self.backends.payments.charge_card.assert_called_with(
                amount=1999, token=charged, idempotency_key=f"order-{order.id}-0"
            )

    def test_a_declined_card_leaves_another_attempt(self):
        product = self.data.create("shop.Product", stock=3)
        order = self.data.create("shop.OrderLine", product=product).order
        inventory.reserve_items(order.id)
        charge = self.backends.payments.charge_card
        charge.returns("txn_2")
        charge.raises(CardDeclinedError("no money"), times=1)

        with self.assertRaises(OrderProcessingError):
            orders.process_payment(order.id, "tok_poor")
        failed = order.payments.get()
        self.assertEqual(
            (failed.success, failed.error, failed.transaction_id), (False, "no money", "")
        )
        self.assertEqual(inventory.get_stock(product.id).reserved, 1)
        in_threads(lambda token: orders.process_payment(order.id, token), "tok_rich")

        keys = [call["arguments"]["idempotency_key"] for call in charge.calls]
        self.assertEqual(keys, [f"order-{order.id}-0", f"order-{order.id}-1"])
        self.assertEqual(Payment.objects.get(success=True).transaction_id, "txn_2")
        self.backends.email.send_order_confirmation.assert_called_once_with(
            order.user.email, order.id
        )

    def test_an_unknown_outcome_is_asked_for_again_with_the_same_key(self):
        charge = self.backends.payments.charge_card
        charge.returns("txn_1")
        charge.raises(PaymentError("no answer"), times=1)
        order = self.data.create("shop.Order")

        with self.assertRaises(OrderProcessingError):
            orders.process_payment(order.id, "tok_visa")
        self.assertEqual(orders.get_order(order.id).status, Status.PAYING)
        self.assertFalse(order.payments.exists())
        orders.process_payment(order.id, "tok_visa")

        self.assertEqual(len({call["arguments"]["idempotency_key"] for call in charge.calls}), 1)

    def test_orders_are_paid_beside_each_other(self):
        self.backends.payments.charge_card.returns("txn_1")
        self.backends.payments.configure_delay("charge_card", 0.1)
        rivals = [order.id for order in self.data.create_batch("shop.Order", 2)]

        payments = in_threads(lambda order_id: orders.process_payment(order_id, "tok"), *rivals)

        self.assertEqual([payment.order_id for payment in payments], rivals)

    def test_money_moves_between_two_transactions(self):
        self.backends.payments.charge_card.returns("txn_1")
        order = self.data.create("shop.Order")

        orders.process_payment(order.id, "tok_visa")

        self.timeline.assert_order(
            "UPDATE shop_order", "COMMIT", "payments.charge_card", "INSERT shop_payment", "COMMIT",
            "email.send_order_confirmation",
        )  # fmt: skip


class ShippingRules(ShopTestCase):
    def test_a_parcel(self):
        self.backends.shipping.create_shipment.returns("ship_7")
        product = self.data.create("shop.Product", stock=3)
        order = self.data.create("shop.OrderLine", product=product, order__status=Status.PAID).order
        other = self.data.create("shop.Shipment")

        shipment = shipping.create_shipment(order.id, "express")

        self.backends.shipping.create_shipment.assert_called_once_with(str(order.id), "express")
        self.backends.email.send_shipping_notification.assert_called_once_with(
            order.user.email, "ship_7"
        )
        self.assertEqual((shipment.tracking_number, shipment.method.code), ("ship_7", "express"))
        self.assertEqual(inventory.get_stock(product.id), inventory.Stock(product.id, 2, 0))
        self.assertIsNone(shipment.delivered_at)
        self.timeline.assert_order(
            "INSERT shop_shipment", "COMMIT", "email.send_shipping_notification"
        )

        orders.mark_order_delivered(order.id)

        shipment.refresh_from_db()
        other.refresh_from_db()
        self.assertGreater(shipment.delivered_at, shipment.created_at)
        self.assertIsNone(other.delivered_at)
        self.backends.email.send_delivery_notification.assert_called_once_with(
            order.user.email, order.id
        )
        said = order.user.notifications.order_by("pk").values_list("channel", "message", "error")
        self.assertEqual(
            list(said),
            [
                ("email", f"order {order.id} shipped", ""),
                ("email", f"order {order.id} delivered", ""),
            ],
        )

    def test_a_tracking_number_that_is_taken(self):
        self.backends.shipping.create_shipment.returns("ship_7")
        self.data.create("shop.Shipment", tracking_number="ship_7")
        product = self.data.create("shop.Product", stock=3)
        order = self.data.create("shop.OrderLine", product=product, order__status=Status.PAID).order

        with self.assertRaises(IntegrityError):
            shipping.create_shipment(order.id)

        self.assertEqual(orders.get_order(order.id).status, Status.PAID)
        self.assertEqual(inventory.get_stock(product.id), inventory.Stock(product.id, 3, 1))

    def test_a_parcel_that_the_carrier_refuses(self):
        self.backends.shipping.create_shipment.raises(ShippingError("too heavy"))
        product = self.data.create("shop.Product", stock=3)
        order = self.data.create("shop.OrderLine", product=product, order__status=Status.PAID).order

        with self.assertRaises(ShippingError):
            shipping.create_shipment(order.id)

        self.backends.shipping.create_shipment.assert_called_once_with(str(order.id), "standard")
        self.assertEqual(orders.get_order(order.id).status, Status.PAID)
        self.assertEqual(inventory.get_stock(product.id), inventory.Stock(product.id, 3, 1))
        self.assertEqual(self.backends.email.call_count("send_shipping_notification"), 0)

    def test_a_parcel_that_cannot_be_packed_is_not_announced(self):
        product = self.data.create("shop.Product", stock=1)
        order = self.data.create("shop.Order", status=Status.PAID)
        self.data.create("shop.OrderLine", order=order, product=product, quantity=2)

        for method, error in (("standard", OutOfStockError), ("owl", ShippingMethod.DoesNotExist)):
            with self.subTest(method=method), self.assertRaises(error):
                shipping.create_shipment(order.id, method)

        self.assertEqual(self.backends.shipping.call_count("create_shipment"), 0)
        self.assertEqual(orders.get_order(order.id).status, Status.PAID)
        self.assertEqual(inventory.get_stock(product.id).reserved, 0)


class BookRules(ShopTestCase):
    def test_what_was_sold_cannot_be_deleted(self):
        line = self.data.create("shop.OrderLine", order__status=Status.PAID)
        payment = self.data.create("shop.Payment", order=line.order, success=True)
        self.data.create("shop.Shipment", order=line.order)

        with self.assertRaises(ProtectedError):
            users.delete_user(line.order.user_id)
        for sold in (line.order, line.product, line.order.shipment.method):
            with self.subTest(sold=sold), self.assertRaises(ProtectedError):
                sold.delete()

        self.assertEqual(orders.get_order(line.order_id).lines.get(), line)
        self.assertEqual(orders.get_order(line.order_id).payments.get(), payment)

    def test_an_order_outlives_its_cart(self):
        cart = self.data.create("shop.Cart")
        order = self.data.create("shop.Order", user=cart.user, cart=cart)

        cart.delete()

        self.assertIsNone(orders.get_order(order.id).cart)


class MessageRules(ShopTestCase):
    def test_whoever_has_no_phone_gets_no_text(self):
        user = self.data.create("shop.User", phone="")

        result = notifications.send_notification(user.id, "Half price today")

        self.assertEqual((result.sent, result.errors, result.success), (["email"], [], True))
        self.assertFalse(result.partial_success)
        self.assertEqual(self.backends.sms.call_count("send_sms"), 0)
        self.backends.email.send_email.assert_called_once_with(
            user.email, "News", "Half price today"
        )

    def test_each_channel_that_fails_is_recorded(self):
        user = self.data.create("shop.User", phone="+49301234")
        self.backends.email.send_email.raises(SMTPError("full"))
        self.backends.sms.send_sms.raises(SMSError("unknown"))

        batch = notifications.send_multiple_notifications([(user.id, "Hello")])

        self.assertEqual(batch.errors, ["email_failed", "sms_failed"])
        self.assertEqual((batch.total, batch.failed), (1, 1))
        self.assertFalse(batch.results[0].partial_success)
        found = Notification.objects.order_by("pk").values_list("channel", "error", "message")
        self.assertEqual(list(found), [("email", "full", "Hello"), ("sms", "unknown", "Hello")])

    def test_a_message_has_arrived_where_all_channels_have_taken_it(self):
        self.backends.email.send_email.raises(SMTPError("full"), times=1)
        one, two = self.data.create_batch("shop.User", 2, phone="+49301234")

        messages = [(one.id, "Hello"), (two.id, "Hello"), (two.id, "Bye")]
        batch = notifications.send_multiple_notifications(messages)

        both = ["email", "sms"]
        self.assertEqual([result.sent for result in batch.results], [["sms"], both, both])
        self.assertEqual((batch.successful, batch.failed), (2, 1))

    def test_a_welcome_that_cannot_be_sent_leaves_the_user(self):
        self.backends.email.send_welcome_email.raises(SMTPError("full"))

        user = users.register_user("john@example.com", "password")

        said = user.notifications.get()
        self.assertEqual((said.message, said.error), ("welcome", "full"))


class UserRules(ShopTestCase):
    def test_a_profile_has_what_others_need_and_no_more(self):
        user = users.create_user("John@Example.com", "correct horse")
        fields = {"id": user.id, "email": "john@example.com", "is_active": True}

        profile = users.get_user(user.id)

        self.assertEqual(vars(profile), fields)
        self.assertEqual(cache.get(f"user:{user.id}"), fields)
        self.assertIsNone(users.get_user(user.id + 1))

    def test_a_profile_is_no_older_than_the_cache_allows(self):
        locked = self.data.create("shop.User", is_active=False)
        self.assertIsNone(users.get_user(locked.id + 1))
        new = self.data.create("shop.User")

        self.assertFalse(users.get_user(locked.id).is_active)
        self.assertEqual(users.get_user(new.id).email, new.email)
        self.assertLessEqual(cache.ttl(f"user:{new.id}"), 300)

    def test_some_profiles_come_of_the_cache(self):
        one, two = self.data.create_batch("shop.User", 2)
        users.get_user(one.id)
        User.objects.filter(pk=one.id).update(email="other@example.com")

        found = users.get_users_bulk([one.id, two.id])

        self.assertEqual([found[user.id].email for user in (one, two)], [one.email, two.email])

    def test_a_deleted_user_leaves_the_cache_once_that_is_committed(self):
        user, other = self.data.create_batch("shop.User", 2)
        users.get_users_bulk([user.id, other.id])
        with transaction.atomic():
            users.delete_user(user.id)
            transaction.set_rollback(True)
        self.assertIsNotNone(cache.get(f"user:{user.id}"))

        with transaction.atomic():
            users.delete_user(user.id)
            self.assertIsNotNone(cache.get(f"user:{user.id}"))

        self.assertEqual(cache.keys("user:*"), [f"user:{other.id}"])
        self.assertEqual(User.objects.get(), other)

    def test_a_password_is_nowhere_else(self):
        password = self.data.secret()

        user = users.register_user("john@example.com", password)

        self.assertTrue(self.client.login(email=user.email, password=password))
        self.assertEqual(users.get_user(user.id).email, user.email)


class ViewRules(ShopTestCase):
    def test_products(self):
        self.data.create("shop.Product", name="Sold green tea", stock=1, reserved=1)
        tea = self.data.create("shop.Product", name="Green tea", price=Decimal("9.90"))
        pan = self.data.create("shop.Product", name="A pan", price=Decimal("19.00"))
        rows = [
            {"id": tea.id, "name": "Green tea", "price": "9.90"},
            {"id": pan.id, "name": "A pan", "price": "19.00"},
        ]

        for query, found in (("", rows), ("?q=gren", rows[:1]), ("?q=owl", [])):
            with self.assertNumQueries(1):
                listed = self.client.get(f"/products/{query}").json()["products"]
            self.assertEqual(listed, found)
        self.assertEqual(self.client.post("/products/").status_code, 405)

    def test_strangers_see_and_buy_nothing(self):
        order = self.data.create("shop.Order")
        cart = self.filled_cart(order.user)

        self.assertEqual(self.client.get(f"/orders/{order.id}/").status_code, 302)
        self.assertEqual(self.checkout(cart).status_code, 302)
        self.client.force_login(self.data.create("shop.User"))
        self.assertEqual(self.client.get(f"/orders/{order.id}/").status_code, 404)
        self.assertEqual(self.checkout(cart).status_code, 404)
        self.client.force_login(order.user)
        self.assertEqual(self.client.get("/checkout/").status_code, 405)
        self.client.handler.enforce_csrf_checks = True
        self.assertEqual(self.checkout(cart).status_code, 403)

        self.assertEqual(list(orders.get_user_orders(order.user_id)), [order])
        self.assertEqual(self.backends.payments.call_count("charge_card"), 0)

    def test_a_purchase_gives_nothing_away(self):
        self.backends.payments.charge_card.returns("txn_1")
        neighbour = self.data.bystander("shop.User")
        self.data.bystander("shop.Order", user=neighbour)
        token = self.data.secret(allowed=["payments.*", "shop.Order.card_token"])
        user = self.data.create("shop.User")
        self.client.force_login(user)

        response = self.checkout(self.filled_cart(user), token)

        self.assertEqual(response.status_code, 201)
        self.client.get(f"/orders/{response.json()['id']}/")

    def test_a_card_that_cannot_be_charged(self):
        token = self.data.secret(allowed=["payments.*", "shop.Order.card_token"])
        for error, status in ((CardDeclinedError, "payment_failed"), (PaymentError, "paying")):
            self.backends.payments.charge_card.raises(error("no money"), times=1)
            user = self.data.create("shop.User")
            self.client.force_login(user)

            response = self.checkout(self.filled_cart(user), token)

            self.assertEqual(response.status_code, 402)
            self.assertIn("no money", response.json()["error"])
            (order,) = orders.get_user_orders(user.id)
            self.assertEqual(order.status, status)

    def filled_cart(self, user):
        cart = carts.create_cart(user.id)
        carts.add_to_cart(cart.id, self.data.create("shop.Product").id)
        return cart

    def checkout(self, cart, token="tok_visa"):
        body = {"cart_id": cart.id, "token": token}
        return self.client.post("/checkout/", body, content_type="application/json")


class SilenceRules(ShopTestCase):
    def test_a_service_that_hangs_up(self):
        for answer in (b"", b"what?", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n{}"):
            with (
                self.subTest(answer=answer),
                serving(RawService(answer)) as service,
                self.assertRaises(PaymentError),
            ):
                JSONClient(service.url, "key", PaymentError).post("charges", {})

    def test_a_service_that_accepts_and_says_nothing(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            hang_up = Timer(5, silent.close)  # for a client that waits for ever
            hang_up.start()
            self.addCleanup(hang_up.cancel)
            client = JSONClient(url, "key", PaymentError, timeout=0.1)
            with self.assertRaisesMessage(PaymentError, "timed out"):
                client.post("charges", {})

    def test_a_service_that_answers_something_else(self):
        with serving(HTTPService(200, {})) as service:
            service.text = "<html>"
            with self.assertRaisesMessage(PaymentError, "charges: Expecting value"):
                JSONClient(service.url, "key", PaymentError).post("charges", {})

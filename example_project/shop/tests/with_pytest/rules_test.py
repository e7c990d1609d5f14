"""The rules of ``test_rules`` as pytest functions."""

import socket
from decimal import Decimal
from threading import Timer

import pytest
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
from example_project.shop.tests.servers import HTTPService, RawService, serving
from example_project.shop.tests.threads import in_threads

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("keys_apart")]

Status = Order.Status


@pytest.mark.parametrize(
    ("price", "quantity", "total", "discount", "tax"),
    [
        ("25.00", 1, "25.00", "0", "4.17"),
        ("499.99", 1, "499.99", "0", "83.33"),
        ("500.00", 1, "475.00", "25.00", "79.17"),
        ("0.10", 5000, "475.00", "25.00", "79.17"),
        ("500.10", 1, "475.09", "25.01", "79.18"),  # half a cent is rounded up
    ],
)
def test_discount_tax_and_cents(price, quantity, total, discount, tax):
    found = PriceCalculator().calculate_total([OrderLine(price=Decimal(price), quantity=quantity)])

    assert found.total == Decimal(total)
    assert found.discount_amount == Decimal(discount)
    assert found.tax_amount == Decimal(tax)


def test_the_discount_is_on_all_lines_together():
    lines = [OrderLine(price=Decimal("250.00"), quantity=1) for _ in range(2)]

    assert PriceCalculator().calculate_total(lines).total == Decimal("475.00")


def test_cents_are_whole():
    for total, cents in (("19.99", 1999), ("8.20", 820), ("1.15", 115), ("1000.00", 100000)):
        assert Order(total=Decimal(total)).total_in_cents == cents


def test_an_order_keeps_the_price_of_its_day(data):
    product = data.create("shop.Product", price=Decimal("19.99"))
    order = orders.create_order(
        data.create("shop.User").id, [{"product_id": product.id, "quantity": 3}]
    )
    Product.objects.update(price=1)

    (line,) = orders.get_order(order.id).lines.all()
    assert (line.price, line.quantity) == (Decimal("19.99"), 3)
    assert orders.get_order(order.id).total == Decimal("59.97")
    assert not line.is_reserved


def test_a_price_may_be_agreed(data):
    product, user = data.create("shop.Product"), data.create("shop.User")
    for agreed, total in ((19.99, "39.98"), (0, "0.00"), (Decimal("0.10"), "0.20")):
        item = {"product_id": product.id, "quantity": 2, "price": agreed}
        assert orders.create_order(user.id, [item]).total == Decimal(total)


def test_an_order_of_nothing_that_exists(data):
    product, user = data.create("shop.Product"), data.create("shop.User")
    items = [{"product_id": number, "quantity": 1} for number in (product.id, product.id + 1)]

    with pytest.raises(ProductNotFoundError):
        orders.create_order(user.id, items)

    assert not Order.objects.exists()


def test_an_order_of_no_pieces(data):
    product, user = data.create("shop.Product"), data.create("shop.User")

    with pytest.raises(IntegrityError):
        orders.create_order(user.id, [{"product_id": product.id, "quantity": 0}])

    assert not Order.objects.exists()


def test_the_orders_of_a_user(data):
    order, other = data.create_batch("shop.Order", 2)
    later = data.create("shop.Order", user=order.user)

    assert orders.get_user_orders(order.user_id) == [order, later]
    assert orders.get_user_orders(other.user_id) == [other]


def test_adding_twice_adds_up(data):
    cart, product = cart_of(data), data.create("shop.Product")

    carts.add_to_cart(cart.id, product.id, 2)
    carts.add_to_cart(cart.id, product.id)

    assert [item.quantity for item in cart.items.all()] == [3]


def test_adding_at_once_adds_up(data):
    cart, product = cart_of(data), data.create("shop.Product")

    in_threads(lambda _: carts.add_to_cart(cart.id, product.id), *range(4))

    assert [item.quantity for item in cart.items.all()] == [4]


def test_a_cart_has_its_own_pieces_only(data):
    product = data.create("shop.Product")
    theirs, mine = cart_of(data), cart_of(data)
    later = carts.create_cart(mine.user_id)
    for quantity, cart in enumerate((theirs, later, mine), 1):
        carts.add_to_cart(cart.id, product.id, quantity)

    order = carts.checkout_cart(mine.id, "tok_visa")

    assert order.user == mine.user
    assert [line.quantity for line in order.lines.all()] == [3]
    for quantity, cart in enumerate((theirs, later, mine), 1):
        assert [item.quantity for item in cart.items.all()] == [quantity]


def test_a_cart_is_checked_out_once(data):
    cart, product = cart_of(data), data.create("shop.Product")
    carts.add_to_cart(cart.id, product.id, 2)
    order = carts.checkout_cart(cart.id, "tok_visa")

    with pytest.raises(IntegrityError):
        carts.checkout_cart(cart.id, "tok_visa")

    assert (order.cart, order.card_token) == (cart, "tok_visa")
    assert Order.objects.get() == order
    assert inventory.get_stock(product.id).reserved == 2


def test_interest_counts_once_it_is_committed(data):
    cart, cup, pot = cart_of(data), *data.create_batch("shop.Product", 2)
    with transaction.atomic():
        carts.add_to_cart(cart.id, cup.id)
        transaction.set_rollback(True)
    carts.add_to_cart(cart.id, pot.id)

    assert inventory.get_popular_products() == [pot]


def test_popular_products(data, django_assert_num_queries):
    cart, products = cart_of(data), data.create_batch("shop.Product", 3)
    for product, times in zip(products, (1, 3, 2), strict=True):
        for _ in range(times):
            carts.add_to_cart(cart.id, product.id)
    Product.objects.get(pk=products[1].pk).cartitem_set.all().delete()
    Product.objects.filter(pk=products[1].pk).delete()

    with django_assert_num_queries(1):
        assert inventory.get_popular_products() == [products[2], products[0]]
    assert inventory.get_popular_products(limit=2) == [products[2]]


def cart_of(data):
    return carts.create_cart(data.create("shop.User").id)


def test_the_last_piece_can_be_reserved_and_no_more(data):
    product = data.create("shop.Product", stock=5, reserved=2)
    assert inventory.get_stock(product.id).available == 3

    with pytest.raises(OutOfStockError):
        inventory.reserve_items(order_of(data, (product, 4)).id)
    inventory.reserve_items(order_of(data, (product, 3)).id)

    assert inventory.get_stock(product.id).available == 0
    assert inventory.get_available_products() == []


def test_all_lines_are_reserved_or_none(data):
    cup, pot = data.create_batch("shop.Product", 2, stock=3)
    order = order_of(data, (cup, 3), (pot, 4))

    with pytest.raises(OutOfStockError):
        inventory.reserve_items(order.id)

    assert sum(Product.objects.values_list("reserved", flat=True)) == 0
    assert not order.lines.filter(is_reserved=True).exists()


def test_two_lines_of_a_product_count_together(data):
    product = data.create("shop.Product", stock=3)

    with pytest.raises(OutOfStockError):
        inventory.reserve_items(order_of(data, (product, 2), (product, 2)).id)


def test_reserving_twice_reserves_once(data):
    product = data.create("shop.Product", stock=5)
    order = order_of(data, (product, 2))

    inventory.reserve_items(order.id)
    inventory.reserve_items(order.id)

    assert inventory.get_stock(product.id).reserved == 2


def test_only_reserved_pieces_leave_the_house(data):
    product = data.create("shop.Product", stock=9)
    order, other = order_of(data, (product, 2)), order_of(data, (product, 3))
    inventory.reserve_items(order.id)
    inventory.reserve_items(other.id)

    inventory.release_to_carrier(order.id)
    inventory.release_to_carrier(order_of(data, (product, 1)).id)

    assert inventory.get_stock(product.id) == inventory.Stock(product.id, 7, 3)


def order_of(data, *items):
    order = data.create("shop.Order")
    for product, quantity in items:
        data.create("shop.OrderLine", order=order, product=product, quantity=quantity)
    return order


@pytest.mark.parametrize("status", Status)
def test_paying(status, data, backends):
    backends.payments.charge_card.does(lambda **_: "txn_1")
    order = first_of_each(data, status)

    is_done = step(order, lambda order: orders.process_payment(order.id, "tok"))

    assert is_done == (status in {Status.PENDING, Status.PAYMENT_FAILED, Status.PAYING})
    assert order.status == (Status.PAID if is_done else status)
    assert order.payments.count() == is_done
    assert backends.payments.call_count("charge_card") == is_done
    assert backends.email.call_count("send_order_confirmation") == is_done


@pytest.mark.parametrize("status", Status)
def test_shipping(status, data, backends):
    backends.shipping.create_shipment.does(lambda reference, method: "ship_7")
    order = first_of_each(data, status)

    is_done = step(order, lambda order: shipping.create_shipment(order.id))

    assert is_done == (status == Status.PAID)
    assert order.status == (Status.SHIPPED if is_done else status)
    assert Shipment.objects.count() == is_done
    assert backends.shipping.call_count("create_shipment") == is_done
    assert backends.email.call_count("send_shipping_notification") == is_done


@pytest.mark.parametrize("status", Status)
def test_arriving(status, data, backends):
    order = first_of_each(data, status)

    is_done = step(order, lambda order: orders.mark_order_delivered(order.id))

    assert is_done == (status == Status.SHIPPED)
    assert order.status == (Status.DELIVERED if is_done else status)
    assert backends.email.call_count("send_delivery_notification") == is_done


def first_of_each(data, status):
    """Return an order beside which there is one of each status."""
    order, *_ = (data.create("shop.Order", status=each) for each in (status, *Status))
    return order


def step(order, do):
    """Return whether a step could be done, which moves no other order; read the order again."""
    others = Order.objects.exclude(pk=order.pk).order_by("pk").values_list("pk", "status")
    before = list(others)
    try:
        do(order)
    except OrderProcessingError:
        return False
    finally:
        order.refresh_from_db()
        assert list(others.all()) == before
    return True


def test_the_card_of_the_checkout_is_charged_unless_another_is_given(data, backends):
    backends.payments.charge_card.returns("txn_1")
    for given, charged in (("", "tok_cart"), ("tok_other", "tok_other")):
        order = data.create("shop.Order", card_token="tok_cart", total=Decimal("19.99"))
        payment = orders.process_payment(order.id, given)

        assert (payment.amount, payment.order) == (Decimal("19.99"), order)
        backends.payments.charge_card.assert_called_with(
            amount=1999, token=charged, idempotency_key=f"order-{order.id}-0"
        )


def test_a_declined_card_leaves_another_attempt(data, backends):
    product = data.create("shop.Product", stock=3)
    order = data.create("shop.OrderLine", product=product).order
    inventory.reserve_items(order.id)
    charge = backends.payments.charge_card
    charge.returns("txn_2")
    charge.raises(CardDeclinedError("no money"), times=1)

    with pytest.raises(OrderProcessingError):
        orders.process_payment(order.id, "tok_poor")
    failed = order.payments.get()
    assert (failed.success, failed.error, failed.transaction_id) == (False, "no money", "")
    assert inventory.get_stock(product.id).reserved == 1
    in_threads(lambda token: orders.process_payment(order.id, token), "tok_rich")

    keys = [call["arguments"]["idempotency_key"] for call in charge.calls]
    assert keys == [f"order-{order.id}-0", f"order-{order.id}-1"]
    assert Payment.objects.get(success=True).transaction_id == "txn_2"
    backends.email.send_order_confirmation.assert_called_once_with(order.user.email, order.id)


def test_an_unknown_outcome_is_asked_for_again_with_the_same_key(data, backends):
    charge = backends.payments.charge_card
    charge.returns("txn_1")
    charge.raises(PaymentError("no answer"), times=1)
    order = data.create("shop.Order")

    with pytest.raises(OrderProcessingError):
        orders.process_payment(order.id, "tok_visa")
    assert orders.get_order(order.id).status == Status.PAYING
    assert not order.payments.exists()
    orders.process_payment(order.id, "tok_visa")

    assert len({call["arguments"]["idempotency_key"] for call in charge.calls}) == 1


def test_orders_are_paid_beside_each_other(data, backends):
    backends.payments.charge_card.returns("txn_1")
    backends.payments.configure_delay("charge_card", 0.1)
    rivals = [order.id for order in data.create_batch("shop.Order", 2)]

    payments = in_threads(lambda order_id: orders.process_payment(order_id, "tok"), *rivals)

    assert [payment.order_id for payment in payments] == rivals


def test_money_moves_between_two_transactions(data, backends, timeline):
    backends.payments.charge_card.returns("txn_1")
    order = data.create("shop.Order")

    orders.process_payment(order.id, "tok_visa")

    timeline.assert_order(
        "UPDATE shop_order", "COMMIT", "payments.charge_card", "INSERT shop_payment", "COMMIT",
        "email.send_order_confirmation",
    )  # fmt: skip


def test_a_parcel(data, backends, timeline):
    backends.shipping.create_shipment.returns("ship_7")
    product = data.create("shop.Product", stock=3)
    order = data.create("shop.OrderLine", product=product, order__status=Status.PAID).order
    other = data.create("shop.Shipment")

    shipment = shipping.create_shipment(order.id, "express")

    backends.shipping.create_shipment.assert_called_once_with(str(order.id), "express")
    backends.email.send_shipping_notification.assert_called_once_with(order.user.email, "ship_7")
    assert (shipment.tracking_number, shipment.method.code) == ("ship_7", "express")
    assert inventory.get_stock(product.id) == inventory.Stock(product.id, 2, 0)
    assert shipment.delivered_at is None
    timeline.assert_order("INSERT shop_shipment", "COMMIT", "email.send_shipping_notification")

    orders.mark_order_delivered(order.id)

    shipment.refresh_from_db()
    other.refresh_from_db()
    assert shipment.delivered_at > shipment.created_at
    assert other.delivered_at is None
    backends.email.send_delivery_notification.assert_called_once_with(order.user.email, order.id)
    said = order.user.notifications.order_by("pk").values_list("channel", "message", "error")
    assert list(said) == [
        ("email", f"order {order.id} shipped", ""),
        ("email", f"order {order.id} delivered", ""),
    ]


def test_a_tracking_number_that_is_taken(data, backends):
    backends.shipping.create_shipment.returns("ship_7")
    data.create("shop.Shipment", tracking_number="ship_7")
    product = data.create("shop.Product", stock=3)
    order = data.create("shop.OrderLine", product=product, order__status=Status.PAID).order

    with pytest.raises(IntegrityError):
        shipping.create_shipment(order.id)

    assert orders.get_order(order.id).status == Status.PAID
    assert inventory.get_stock(product.id) == inventory.Stock(product.id, 3, 1)


def test_a_parcel_that_the_carrier_refuses(data, backends):
    backends.shipping.create_shipment.raises(ShippingError("too heavy"))
    product = data.create("shop.Product", stock=3)
    order = data.create("shop.OrderLine", product=product, order__status=Status.PAID).order

    with pytest.raises(ShippingError):
        shipping.create_shipment(order.id)

    backends.shipping.create_shipment.assert_called_once_with(str(order.id), "standard")
    assert orders.get_order(order.id).status == Status.PAID
    assert inventory.get_stock(product.id) == inventory.Stock(product.id, 3, 1)
    assert backends.email.call_count("send_shipping_notification") == 0


@pytest.mark.parametrize(
    ("method", "error"), [("standard", OutOfStockError), ("owl", ShippingMethod.DoesNotExist)]
)
def test_a_parcel_that_cannot_be_packed_is_not_announced(method, error, data, backends):
    product = data.create("shop.Product", stock=1)
    order = data.create("shop.Order", status=Status.PAID)
    data.create("shop.OrderLine", order=order, product=product, quantity=2)

    with pytest.raises(error):
        shipping.create_shipment(order.id, method)

    assert backends.shipping.call_count("create_shipment") == 0
    assert orders.get_order(order.id).status == Status.PAID
    assert inventory.get_stock(product.id).reserved == 0


def test_what_was_sold_cannot_be_deleted(data):
    line = data.create("shop.OrderLine", order__status=Status.PAID)
    payment = data.create("shop.Payment", order=line.order, success=True)
    data.create("shop.Shipment", order=line.order)

    with pytest.raises(ProtectedError):
        users.delete_user(line.order.user_id)
    for sold in (line.order, line.product, line.order.shipment.method):
        with pytest.raises(ProtectedError):
            sold.delete()

    assert orders.get_order(line.order_id).lines.get() == line
    assert orders.get_order(line.order_id).payments.get() == payment


def test_an_order_outlives_its_cart(data):
    cart = data.create("shop.Cart")
    order = data.create("shop.Order", user=cart.user, cart=cart)

    cart.delete()

    assert orders.get_order(order.id).cart is None


def test_whoever_has_no_phone_gets_no_text(data, backends):
    user = data.create("shop.User", phone="")

    result = notifications.send_notification(user.id, "Half price today")

    assert (result.sent, result.errors, result.success) == (["email"], [], True)
    assert not result.partial_success
    assert backends.sms.call_count("send_sms") == 0
    backends.email.send_email.assert_called_once_with(user.email, "News", "Half price today")


def test_each_channel_that_fails_is_recorded(data, backends):
    user = data.create("shop.User", phone="+49301234")
    backends.email.send_email.raises(SMTPError("full"))
    backends.sms.send_sms.raises(SMSError("unknown"))

    batch = notifications.send_multiple_notifications([(user.id, "Hello")])

    assert batch.errors == ["email_failed", "sms_failed"]
    assert (batch.total, batch.failed) == (1, 1)
    assert not batch.results[0].partial_success
    found = Notification.objects.order_by("pk").values_list("channel", "error", "message")
    assert list(found) == [("email", "full", "Hello"), ("sms", "unknown", "Hello")]


def test_a_message_has_arrived_where_all_channels_have_taken_it(data, backends):
    backends.email.send_email.raises(SMTPError("full"), times=1)
    one, two = data.create_batch("shop.User", 2, phone="+49301234")

    messages = [(one.id, "Hello"), (two.id, "Hello"), (two.id, "Bye")]
    batch = notifications.send_multiple_notifications(messages)

    both = ["email", "sms"]
    assert [result.sent for result in batch.results] == [["sms"], both, both]
    assert (batch.successful, batch.failed) == (2, 1)


def test_a_welcome_that_cannot_be_sent_leaves_the_user(backends):
    backends.email.send_welcome_email.raises(SMTPError("full"))

    user = users.register_user("john@example.com", "password")

    said = user.notifications.get()
    assert (said.message, said.error) == ("welcome", "full")


def test_a_profile_has_what_others_need_and_no_more():
    user = users.create_user("John@Example.com", "correct horse")
    fields = {"id": user.id, "email": "john@example.com", "is_active": True}

    profile = users.get_user(user.id)

    assert vars(profile) == fields
    assert cache.get(f"user:{user.id}") == fields
    assert users.get_user(user.id + 1) is None


def test_a_profile_is_no_older_than_the_cache_allows(data):
    locked = data.create("shop.User", is_active=False)
    assert users.get_user(locked.id + 1) is None
    new = data.create("shop.User")

    assert not users.get_user(locked.id).is_active
    assert users.get_user(new.id).email == new.email
    assert cache.ttl(f"user:{new.id}") <= 300


def test_some_profiles_come_of_the_cache(data):
    one, two = data.create_batch("shop.User", 2)
    users.get_user(one.id)
    User.objects.filter(pk=one.id).update(email="other@example.com")

    found = users.get_users_bulk([one.id, two.id])

    assert [found[user.id].email for user in (one, two)] == [one.email, two.email]


def test_a_deleted_user_leaves_the_cache_once_that_is_committed(data):
    user, other = data.create_batch("shop.User", 2)
    users.get_users_bulk([user.id, other.id])
    with transaction.atomic():
        users.delete_user(user.id)
        transaction.set_rollback(True)
    assert cache.get(f"user:{user.id}") is not None

    with transaction.atomic():
        users.delete_user(user.id)
        assert cache.get(f"user:{user.id}") is not None

    assert cache.keys("user:*") == [f"user:{other.id}"]
    assert User.objects.get() == other


def test_a_password_is_nowhere_else(data, client):
    password = data.secret()

    user = users.register_user("john@example.com", password)

    assert client.login(email=user.email, password=password)
    assert users.get_user(user.id).email == user.email


def test_products(data, client, django_assert_num_queries):
    data.create("shop.Product", name="Sold green tea", stock=1, reserved=1)
    tea = data.create("shop.Product", name="Green tea", price=Decimal("9.90"))
    pan = data.create("shop.Product", name="A pan", price=Decimal("19.00"))
    rows = [
        {"id": tea.id, "name": "Green tea", "price": "9.90"},
        {"id": pan.id, "name": "A pan", "price": "19.00"},
    ]

    for query, found in (("", rows), ("?q=gren", rows[:1]), ("?q=owl", [])):
        with django_assert_num_queries(1):
            listed = client.get(f"/products/{query}").json()["products"]
        assert listed == found
    assert client.post("/products/").status_code == 405


def test_strangers_see_and_buy_nothing(data, backends, client):
    order = data.create("shop.Order")
    cart = filled_cart(data, order.user)

    assert client.get(f"/orders/{order.id}/").status_code == 302
    assert checkout(client, cart).status_code == 302
    client.force_login(data.create("shop.User"))
    assert client.get(f"/orders/{order.id}/").status_code == 404
    assert checkout(client, cart).status_code == 404
    client.force_login(order.user)
    assert client.get("/checkout/").status_code == 405
    client.handler.enforce_csrf_checks = True
    assert checkout(client, cart).status_code == 403

    assert list(orders.get_user_orders(order.user_id)) == [order]
    assert backends.payments.call_count("charge_card") == 0


def test_a_purchase_gives_nothing_away(data, backends, client):
    backends.payments.charge_card.returns("txn_1")
    neighbour = data.bystander("shop.User")
    data.bystander("shop.Order", user=neighbour)
    token = data.secret(allowed=["payments.*", "shop.Order.card_token"])
    user = data.create("shop.User")
    client.force_login(user)

    response = checkout(client, filled_cart(data, user), token)

    assert response.status_code == 201
    client.get(f"/orders/{response.json()['id']}/")


@pytest.mark.parametrize(
    ("error", "status"), [(CardDeclinedError, "payment_failed"), (PaymentError, "paying")]
)
def test_a_card_that_cannot_be_charged(error, status, data, backends, client):
    token = data.secret(allowed=["payments.*", "shop.Order.card_token"])
    backends.payments.charge_card.raises(error("no money"))
    user = data.create("shop.User")
    client.force_login(user)

    response = checkout(client, filled_cart(data, user), token)

    assert response.status_code == 402
    assert "no money" in response.json()["error"]
    (order,) = orders.get_user_orders(user.id)
    assert order.status == status


def filled_cart(data, user):
    cart = carts.create_cart(user.id)
    carts.add_to_cart(cart.id, data.create("shop.Product").id)
    return cart


def checkout(client, cart, token="tok_visa"):
    body = {"cart_id": cart.id, "token": token}
    return client.post("/checkout/", body, content_type="application/json")


@pytest.mark.parametrize(
    "answer", [b"", b"what?", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n{}"]
)
def test_a_service_that_hangs_up(answer):
    with serving(RawService(answer)) as service, pytest.raises(PaymentError):
        JSONClient(service.url, "key", PaymentError).post("charges", {})


def test_a_service_that_accepts_and_says_nothing(request):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        hang_up = Timer(5, silent.close)  # for a client that waits for ever
        hang_up.start()
        request.addfinalizer(hang_up.cancel)
        client = JSONClient(url, "key", PaymentError, timeout=0.1)
        with pytest.raises(PaymentError, match="timed out"):
            client.post("charges", {})


def test_a_service_that_answers_something_else():
    with serving(HTTPService(200, {})) as service:
        service.text = "<html>"
        with pytest.raises(PaymentError, match="charges: Expecting value"):
            JSONClient(service.url, "key", PaymentError).post("charges", {})

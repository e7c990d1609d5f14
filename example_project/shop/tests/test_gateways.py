# ruff: noqa: PT009, PT027 - Django's own style of test
"""The gateways speak real HTTP and SMTP. Neither a database nor ``--integration`` is needed."""

from email import message_from_string
from functools import partial

from django.conf import settings
from django.test import SimpleTestCase

from example_project.shop import gateways
from example_project.shop.gateways.exceptions import (
    CardDeclinedError,
    PaymentError,
    ShippingError,
    SMSError,
    SMTPError,
)
from example_project.shop.gateways.sms import SMSGateway
from example_project.shop.tests.servers import HTTPService, MailServer, RawService, serving
from itkit.backends import registry


class GatewayTestCase(SimpleTestCase):
    """Puts the real gateways back where itkit has swapped them for fakes."""

    def setUp(self):
        backends = registry.current()
        if backends is not None:
            self.enterContext(backends.restored())


class HTTPGatewayTests(GatewayTestCase):
    def serve(self, answer, *, status=200):
        """Start a service for this test and point every HTTP gateway at it."""
        service = self.enterContext(serving(HTTPService(status, answer)))
        for name in ("PAYMENT", "SMS", "SHIPPING"):
            there = {f"{name}_URL": f"{service.url}/{name.lower()}", f"{name}_KEY": f"{name} key"}
            self.enterContext(self.settings(**there))
        return service

    def test_charge_is_posted_with_key(self):
        service = self.serve({"id": "txn_1"})

        self.assertEqual(gateways.payments().charge_card(6500, "tok_visa", "order-7-0"), "txn_1")

        path, headers, body = service.requests[0]
        self.assertEqual(path, "/v1/payment/charges")
        self.assertEqual(headers["Authorization"], "Bearer PAYMENT key")
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertEqual(headers["Idempotency-Key"], "order-7-0")
        self.assertEqual(body, {"amount": 6500, "source": "tok_visa"})

    def test_declined_card(self):
        self.serve({"error": "insufficient funds"}, status=402)

        with self.assertRaisesMessage(CardDeclinedError, "insufficient funds"):
            gateways.payments().charge_card(6500, "tok_visa")

    def test_payment_service_is_broken(self):
        self.serve({"error": "try later"}, status=503)

        with self.assertRaises(PaymentError) as caught:
            gateways.payments().charge_card(6500, "tok_visa")

        self.assertNotIsInstance(caught.exception, CardDeclinedError)
        self.assertEqual(caught.exception.status, 503)

    def test_shipment_gives_tracking_number(self):
        service = self.serve({"tracking_number": "ship_123"})

        self.assertEqual(gateways.shipping().create_shipment("7", "express"), "ship_123")

        path, headers, body = service.requests[0]
        self.assertEqual(path, "/v1/shipping/shipments")
        self.assertEqual(headers["Authorization"], "Bearer SHIPPING key")
        self.assertEqual(body, {"reference": "7", "method": "express"})

    def test_nobody_answers(self):
        service = HTTPService(200, {})
        service.server_close()

        with (
            self.settings(SHIPPING_URL=service.url),
            self.assertRaisesMessage(ShippingError, "refused"),
        ):
            gateways.shipping().create_shipment("7", "standard")

    def test_text_message(self):
        service = self.serve({"id": "sms_1"})

        self.assertEqual(SMSGateway().send_sms("+49301234", "Hello"), "sms_1")

        path, headers, body = service.requests[0]
        self.assertEqual(path, "/v1/sms/messages")
        self.assertEqual(headers["Authorization"], "Bearer SMS key")
        self.assertEqual(body, {"to": "+49301234", "text": "Hello"})

    def test_text_message_refused(self):
        self.serve({"error": "unknown number"}, status=400)

        with self.assertRaisesMessage(SMSError, "unknown number"):
            SMSGateway().send_sms("0", "Hello")


class EmailGatewayTests(GatewayTestCase):
    def setUp(self):
        super().setUp()
        self.server = self.enterContext(serving(MailServer()))
        self.enterContext(self.settings(SMTP_HOST="127.0.0.1", SMTP_PORT=self.server.port))

    def test_mails_are_delivered(self):
        email, to = gateways.email(), "john@example.com"
        for send, subject, text in (
            (partial(email.send_welcome_email, to), "Welcome", "Your account is ready"),
            (partial(email.send_order_confirmation, to, 7), "Order 7", "We are packing"),
            (partial(email.send_shipping_notification, to, "ship_1"), "on its way", "ship_1"),
            (partial(email.send_delivery_notification, to, 7), "Order 7 has arrived", "like it"),
            (partial(email.send_email, to, "News", "Half price"), "News", "Half price"),
        ):
            with self.subTest(subject=subject):
                send()

                mail = message_from_string(self.server.mails.pop())
                self.assertEqual((mail["From"], mail["To"]), (settings.SHOP_EMAIL, to))
                self.assertTrue(mail["Subject"].endswith(subject), mail["Subject"])
                self.assertIn(text, mail.get_payload())
        self.assertEqual(self.server.mails, [])

    def test_refused_recipient(self):
        with self.assertRaisesMessage(SMTPError, "mailbox full"):
            gateways.email().send_welcome_email("john@full.example")

        self.assertEqual(self.server.mails, [])


class PatienceTests(GatewayTestCase):
    def test_no_gateway_waits_for_ever(self):
        for error, call in (
            (PaymentError, lambda: gateways.payments().charge_card(6500, "tok_visa")),
            (ShippingError, lambda: gateways.shipping().create_shipment("7", "standard")),
            (SMSError, lambda: SMSGateway().send_sms("+49301234", "Hello")),
            (SMTPError, lambda: gateways.email().send_welcome_email("john@example.com")),
        ):
            with self.subTest(error=error.__name__), serving(RawService()) as service:
                there = dict.fromkeys(("PAYMENT_URL", "SHIPPING_URL", "SMS_URL"), service.url)
                with self.settings(**there, SMTP_HOST="127.0.0.1", SMTP_PORT=service.port):
                    self.assertRaises(error, call)
                self.assertLessEqual(service.patience, 10)

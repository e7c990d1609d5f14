# ruff: noqa: PT009, PT027 - Django's own style of test
"""The gateways speak real HTTP and SMTP. Neither a database nor ``--integration`` is needed."""

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
from example_project.shop.tests.servers import HTTPService, MailServer, serving
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
        urls = dict.fromkeys(["PAYMENT_URL", "SMS_URL", "SHIPPING_URL"], service.url)
        self.enterContext(self.settings(**urls, PAYMENT_KEY="sk_test"))
        return service

    def test_charge_is_posted_with_key(self):
        service = self.serve({"id": "txn_1"})

        self.assertEqual(gateways.payments().charge_card(6500, "tok_visa", "order-7-0"), "txn_1")

        path, headers, body = service.requests[0]
        self.assertEqual(path, "/v1/charges")
        self.assertEqual(headers["Authorization"], "Bearer sk_test")
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

        path, _, body = service.requests[0]
        self.assertEqual(path, "/v1/shipments")
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
        self.assertEqual(service.requests[0][2], {"to": "+49301234", "text": "Hello"})

    def test_text_message_refused(self):
        self.serve({"error": "unknown number"}, status=400)

        with self.assertRaisesMessage(SMSError, "unknown number"):
            SMSGateway().send_sms("0", "Hello")


class EmailGatewayTests(GatewayTestCase):
    def setUp(self):
        super().setUp()
        self.server = self.enterContext(serving(MailServer()))
        self.enterContext(self.settings(SMTP_HOST="127.0.0.1", SMTP_PORT=self.server.port))

    def test_mail_is_delivered(self):
        gateways.email().send_shipping_notification("john@example.com", "ship_123")

        (mail,) = self.server.mails
        self.assertIn("To: john@example.com", mail)
        self.assertIn(f"From: {settings.SHOP_EMAIL}", mail)
        self.assertIn("Tracking number: ship_123", mail)

    def test_refused_recipient(self):
        with self.assertRaisesMessage(SMTPError, "mailbox full"):
            gateways.email().send_welcome_email("john@full.example")

        self.assertEqual(self.server.mails, [])

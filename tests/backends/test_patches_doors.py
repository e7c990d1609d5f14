"""What a test leaves over a fake fails it under both doors, and the next test finds the fake."""

import re

import pytest

from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

APP = """
    from functools import cached_property

    from shop import gateways


    class Charges:
        def create(self, amount):
            raise RuntimeError("the real API was called")


    class Client:
        def __init__(self):
            self.charges = Charges()

        @cached_property
        def refunds(self):
            return Charges()

        def ping(self):
            raise RuntimeError("the real API was called")


    client = Client()


    def checkout():
        try:
            return gateways.Stripe().charge(1, token="t")
        except Exception:
            return None
"""

# Tests are run in the order of their names: each odd one leaves something, and the one after it
# finds the fake as it should be.
TESTS = """
    from unittest import mock

    from django.conf import settings
    from django.test import override_settings

    from itkit.exceptions import UnexpectedCallError
    from itkit.test import IntegrationTestCase
    from shop import app, gateways
    from shop.gateways import Stripe


    class Case(IntegrationTestCase):
        def check(self):
            self.assertEqual(settings.PAYMENT_GATEWAY, "shop.gateways.Stripe")
            self.assertIs(gateways.Stripe, Stripe)
            self.backends.payments.charge.returns("fake")
            self.assertEqual(gateways.Stripe().charge(1, token="t"), "fake")
            self.backends.sms.returns("sent")
            gateways.send_sms("1", "text")
            self.backends.client.ping.returns("pong")
            self.backends.client.refunds.create.returns("re_1")
            self.assertEqual((app.Client().ping(), app.Client().refunds.create(1)), ("pong", "re_1"))
            self.assertEqual(self.backends.payments.charge.call_count, 1)
            self.assertEqual(self.backends.sms.call_count, 1)


    class Leaving(Case):
        def leave(self):
            mock.patch.object(Stripe, "charge", return_value="mock").start()

        def test_a(self):
            self.leave()

        def test_b(self):
            self.check()


    class LeavingSetattr(Leaving):
        def leave(self):
            Stripe.charge = lambda self, amount, token: "lambda"


    class LeavingDelattr(Leaving):
        def leave(self):
            del Stripe.charge


    class LeavingClass(Leaving):
        def leave(self):
            mock.patch("shop.gateways.Stripe").start()


    class LeavingFunction(Leaving):
        def leave(self):
            gateways.send_sms = mock.Mock()


    class LeavingCode(Leaving):
        def leave(self):
            gateways.send_sms.__code__ = (lambda number, text: "code").__code__


    class LeavingOverride(Leaving):
        def leave(self):
            override_settings(PAYMENT_GATEWAY="shop.gateways.Other").enable()


    class LeavingSetting(Leaving):
        def leave(self):
            settings.PAYMENT_GATEWAY = "shop.gateways.Other"


    class LeavingProperty(Leaving):
        def leave(self):
            app.Client.refunds = mock.PropertyMock()


    class LeavingAndFailing(Leaving):
        def leave(self):
            super().leave()
            self.fail("as it is")


    class LeavingAndSwallowed(Leaving):
        def leave(self):
            self.backends.payments.strict()
            app.checkout()
            Stripe.charge = None


    class LeavingInSetUp(Leaving):
        def setUp(self):
            super().setUp()
            if self._testMethodName == "test_a":
                mock.patch.object(Stripe, "charge").start()

        def leave(self):
            pass


    class Tidy(Case):
        def setUp(self):
            super().setUp()
            patcher = mock.patch.object(Stripe, "refund", create=True)
            patcher.start()
            self.addCleanup(patcher.stop)

        @mock.patch.object(Stripe, "charge", return_value="mock")
        def test_a_decorator(self, charge):
            self.assertEqual(Stripe().charge(1, token="t"), "mock")

        @override_settings(PAYMENT_GATEWAY="shop.gateways.Other")
        def test_b_settings(self):
            with mock.patch("shop.gateways.Stripe"), mock.patch("shop.gateways.send_sms"):
                self.assertIsNot(gateways.Stripe, Stripe)

        def test_c_all_is_back(self):
            self.check()

        def test_d_restored(self):
            with self.backends.restored(), mock.patch.object(Stripe, "charge"):
                Stripe().charge(1, token="t")


    @override_settings(PAYMENT_GATEWAY="shop.gateways.Other")
    class OfTheClass(Case):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cls.enterClassContext(mock.patch.object(Stripe, "charge", return_value="class"))

        def test_a(self):
            self.assertEqual(Stripe().charge(1, token="t"), "class")

        def test_b(self):
            self.assertEqual(Stripe().charge(1, token="t"), "class")
            self.assertEqual(settings.PAYMENT_GATEWAY, "shop.gateways.Other")


    class Then(Case):
        def test_all_is_back(self):
            self.check()
"""

PYTEST_TESTS = """
    import pytest
    from unittest import mock

    from django.conf import settings
    from shop.gateways import Stripe

    pytestmark = pytest.mark.integration


    @pytest.fixture(scope="module")
    def of_the_module():
        with mock.patch.object(Stripe, "charge", return_value="module"):
            yield


    def test_a_fixture_of_the_module(of_the_module, backends):
        assert Stripe().charge(1, token="t") == "module"


    def test_b_the_same(of_the_module, monkeypatch):
        monkeypatch.setattr(Stripe, "charge", lambda self: "monkey")
        assert Stripe().charge() == "monkey"


    def test_c_settings(of_the_module, settings):
        settings.PAYMENT_GATEWAY = "shop.gateways.Other"


    def test_d_monkeypatch_that_is_not_undone(of_the_module):
        pytest.MonkeyPatch().setattr(Stripe, "charge", lambda self: "left")


    def test_e_is_that_of_the_module(of_the_module):
        assert Stripe().charge(1, token="t") == "module"
"""

LEFT = [
    r"shop\.gateways\.Stripe\.charge is <MagicMock name='charge' id='\d+'>",
    r'write: with patch\.object\(Stripe, "charge"\): in the test, or self\.addCleanup',
    r"shop\.gateways\.Stripe\.charge is the function shop\.tests\.test_shop\.LeavingSetattr",
    r"shop\.gateways\.Stripe\.charge is None",
    r"shop\.gateways\.Stripe is <MagicMock name='Stripe'",
    r"shop\.gateways\.send_sms is <Mock id=",
    r"shop\.gateways\.send_sms\.__code__ is <code object",
    r"django\.conf\.settings is <UserSettingsHolder>",
    r"settings\.PAYMENT_GATEWAY is 'shop\.gateways\.Other'",
    r"shop\.app\.Client\.refunds is <PropertyMock",
    r"The application has swallowed an error that fails this test",
]


COUNTS = {
    # A test that fails and leaves something as well has two failures.
    "django": {"passed": 17, "failed": 14},
    "pytest": {"passed": 29, "failed": 2, "error": 12},
}


@pytest.mark.parametrize("door", SERIAL)
def test_what_is_left_over_a_fake_fails_its_test_and_no_other(door, project: Project):
    project.write("shop/app.py", APP)
    project.settings('ITKIT["BACKENDS"]["client"] = {"TARGET": "shop.app.Client"}')
    write_tests(project, TESTS)
    result = enter(door, project)

    assert result.counts == COUNTS[door], result.output
    for pattern in LEFT:
        assert re.search(pattern, result.output), (pattern, result.output)


def test_fixtures_and_monkeypatches_of_pytest(project: Project):
    project.write("shop/tests/__init__.py", "")
    project.write("shop/tests/test_fixtures.py", PYTEST_TESTS)
    result = enter("pytest", project)

    assert result.counts == {"passed": 5, "error": 1}, result.output
    assert "ERROR at teardown of test_d_monkeypatch" in result.output

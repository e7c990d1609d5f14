"""Fakes that stand alone, made for an interface: ABC, Protocol or plain class."""

import asyncio
import smtplib
import time
from contextlib import suppress

import pytest

from itkit.exceptions import ConfigurationError, UnknownMethodError, UnprogrammedReturnError
from itkit.fakes import RecordingFake, handle_of
from tests.support.fakes_app import (
    AsyncGateway,
    IEmailService,
    IPaymentGateway,
    ShippingProvider,
    Sms,
    StripeGateway,
)


class MockPaymentGateway(RecordingFake[IPaymentGateway]):
    pass


class MockEmailService(RecordingFake[IEmailService]):
    pass


class MockShipping(RecordingFake[ShippingProvider]):
    pass


class MockSms(RecordingFake[Sms]):
    pass


class MockAsync(RecordingFake[AsyncGateway]):
    pass


def test_it_is_object_and_control_in_one():
    payments = MockPaymentGateway()
    payments.configure_return("charge_card", "txn_12345")

    assert payments.charge_card(5000, token="tok_visa") == "txn_12345"

    assert payments.call_count("charge_card") == 1
    assert payments.was_called_with("charge_card", 5000, "tok_visa")
    assert payments.get_calls("charge_card")[0]["args"][0] == 5000


def test_it_passes_isinstance_of_its_interface():
    assert isinstance(MockPaymentGateway(), IPaymentGateway)
    assert isinstance(MockShipping(), ShippingProvider)
    assert isinstance(MockSms(), MockSms)
    assert isinstance(MockAsync(), AsyncGateway)


def test_a_delay_is_as_configured():
    payments = MockPaymentGateway()
    payments.configure_delay("charge_card", 0.1)
    payments.configure_return("charge_card", "txn_1")
    start = time.perf_counter()

    assert payments.charge_card(1, "tok") == "txn_1"

    assert time.perf_counter() - start >= 0.1


def test_an_exception_is_raised_and_the_call_recorded():
    email = MockEmailService()
    email.configure_exception("send_email", smtplib.SMTPException("Service unavailable"))

    with pytest.raises(smtplib.SMTPException, match="Service unavailable"):
        email.send_email("ada@example.com")

    assert email.call_count("send_email") == 1


def test_of_many_calls_one_may_fail():
    email = MockEmailService()
    email.configure_exception("send_email", smtplib.SMTPException("Temporary failure"), times=1)
    email.configure_return("send_email", True)
    sent = 0

    for number in range(5):
        with suppress(smtplib.SMTPException):
            sent += email.send_email(f"user{number}@example.com")

    assert sent == 4
    assert email.call_count("send_email") == 5


def test_an_unprogrammed_call_may_be_ignored_and_names_the_line_when_used():
    email = MockEmailService()
    email.send_welcome_email("john@example.com")
    assert email.was_called_with("send_welcome_email", "john@example.com")

    with pytest.raises(UnprogrammedReturnError) as caught:
        bool(email.send_welcome_email("ada@example.com"))

    assert str(caught.value).startswith("The return value of MockEmailService.send_welcome_email")
    assert str(caught.value).endswith('mock.configure_return("send_welcome_email", ...)')


def test_wrong_arguments_and_unknown_methods_are_errors():
    payments = MockPaymentGateway()

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'token'"):
        payments.charge_card(5000)
    with pytest.raises(UnknownMethodError, match="Did you mean 'charge_card'"):
        payments.configure_return("charge_cart", "txn")


def test_two_of_a_kind_share_nothing():
    first, second = MockPaymentGateway(), MockPaymentGateway()
    first.configure_return("charge_card", "first")
    second.configure_return("charge_card", "second")

    assert (first.charge_card(1, "t"), second.charge_card(1, "t")) == ("first", "second")
    assert first.call_count("charge_card") == 1


def test_the_handle_has_the_rest():
    payments = MockPaymentGateway()
    handle_of(payments).charge_card.returns_each("a", "b")

    assert [payments.charge_card(1, "t"), payments.charge_card(2, "t")] == ["a", "b"]
    handle_of(payments).charge_card.assert_called(times=2)
    with pytest.raises(TypeError, match="is not a mock"):
        handle_of(object())


def test_a_protocol_has_its_async_methods_and_declared_attributes():
    shipping = MockShipping()
    shipping.configure_return("track", "delivered")
    shipping.configure_return("carrier", "dhl")

    assert asyncio.run(shipping.track("1Z")) == "delivered"
    assert shipping.carrier == "dhl"


def test_an_abstract_property_explains_itself_until_it_is_programmed():
    payments = MockPaymentGateway()
    with pytest.raises(UnprogrammedReturnError, match=r"MockPaymentGateway\.currency"):
        str(payments.currency)

    payments.configure_return("currency", "eur")
    assert payments.currency == "eur"


def test_a_method_that_returns_none_returns_none():
    assert MockSms().send("+43", "text") is None


def test_static_and_class_methods_of_a_class_are_recorded_for_the_object():
    class MockEmail(RecordingFake[IEmailService]):
        pass

    class WithStatic:
        @staticmethod
        def version(short: bool = False) -> str: ...

        @classmethod
        def from_env(cls, name: str) -> str: ...

    mock = RecordingFake[WithStatic]()
    mock.configure_return("version", "v1")
    mock.configure_return("from_env", "made")

    assert mock.version(True) == "v1"
    assert mock.from_env(name="KEY") == "made"
    assert mock.was_called_with("version", short=True)


def test_it_may_be_extended_by_hand():
    class Stateful(RecordingFake[IPaymentGateway]):
        def __init__(self, currency: str) -> None:
            self._currency = currency

        @property
        def currency(self) -> str:
            return self._currency

    assert Stateful("usd").currency == "usd"
    assert Stateful("usd").call_count("charge_card") == 0


def test_without_an_interface_it_cannot_be_made():
    class Nothing(RecordingFake):
        pass

    with pytest.raises(TypeError, match=r"Write: class Nothing\(RecordingFake\[IPaymentGateway\]"):
        Nothing()


def test_an_interface_with_the_name_of_a_control_is_refused_with_the_way_out():
    with pytest.raises(ConfigurationError, match=r"bind_mock\(StripeGateway\)"):
        RecordingFake[StripeGateway]

"""The reference page's container: real objects, classes and recording fakes."""

from dataclasses import dataclass

import pytest

import itkit.backends.container
from itkit.backends.container import TestContainer
from itkit.backends.registry import Registry
from itkit.exceptions import BindingError
from itkit.fakes import RecordingFake
from itkit.timeline import core
from tests.support.fakes_app import (
    IEmailService,
    IPaymentGateway,
    ShippingProvider,
    StripeGateway,
    geocode,
)


class Orders:
    def __init__(self, payments: IPaymentGateway, email: "IEmailService") -> None:
        self.payments = payments
        self.email = email

    def process_payment(self, order_id: int, token: str) -> bool:
        paid = self.payments.charge_card(order_id, token) == "txn_12345"
        self.email.send_email("john@example.com", subject="paid")
        return paid


class MockPaymentGateway(RecordingFake[IPaymentGateway]):
    pass


@pytest.fixture
def container():
    with TestContainer() as container:
        container.bind_mock(IPaymentGateway)
        container.bind_mock(IEmailService)
        yield container


def test_the_page_s_order_processing(container):
    orders = container.get(Orders)
    payment_mock = container.get_mock(IPaymentGateway)
    payment_mock.configure_return("charge_card", "txn_12345")

    assert orders.process_payment(65, "tok_visa") is True
    assert payment_mock.call_count("charge_card") == 1
    email_mock = container.get_mock(IEmailService)
    assert email_mock.was_called_with("send_email", "john@example.com", "paid")
    assert email_mock.get_calls("send_email")[0]["args"][0] == "john@example.com"


def test_an_object_is_bound_as_it_is(container):
    orders = Orders(None, None)
    container.bind(Orders, orders)

    assert container.get(Orders) is orders


def test_a_class_is_made_once_per_container_and_not_before_it_is_asked_for(container):
    made = []

    class Service:
        def __init__(self) -> None:
            made.append(self)

    container.bind(Service, Service)
    assert made == []

    assert container.get(Service) is container.get(Service)
    assert len(made) == 1
    assert TestContainer().get(Service) is not container.get(Service)


def test_an_interface_bound_to_a_class_is_that_class_made(container):
    class Sender(IEmailService):
        def send_email(self, to, subject="", body=""): ...
        def send_welcome_email(self, email): ...

    container.bind(IEmailService, Sender)

    assert isinstance(container.get(IEmailService), Sender)
    assert container.get(IEmailService) is container.get(Sender)


def test_an_interface_bound_to_a_class_that_is_bound_itself_follows(container):
    mock = MockPaymentGateway()
    container.bind(MockPaymentGateway, mock)
    container.bind(IPaymentGateway, MockPaymentGateway)

    assert container.get(IPaymentGateway) is mock


def test_constructors_get_what_is_bound_by_annotation(container):
    orders = container.get(Orders)

    assert orders.payments is container.get(IPaymentGateway)
    assert orders.email is container.get(IEmailService)


@dataclass
class Notifications:
    email: IEmailService
    shipping: ShippingProvider | None = None
    retries: int = 3


@dataclass
class Shop:
    orders: Orders
    notifications: Notifications


def test_dependencies_of_dependencies_are_made_and_defaults_kept(container):
    shop = container.get(Shop)

    assert shop.orders is container.get(Orders)
    assert shop.notifications.email is container.get(IEmailService)
    assert (shop.notifications.shipping, shop.notifications.retries) == (None, 3)


def test_an_optional_dependency_is_given_when_it_is_bound(container):
    container.bind_mock(ShippingProvider)

    assert container.get(Notifications).shipping is container.get(ShippingProvider)


def test_a_new_binding_reaches_what_was_made_before(container):
    container.get(Orders)
    payment_mock = MockPaymentGateway()
    payment_mock.configure_return("charge_card", "txn_12345")

    container.bind(IPaymentGateway, payment_mock)

    assert container.get(Orders).process_payment(1, "tok") is True
    assert container.get_mock(IPaymentGateway).call_count("charge_card") == 1


def test_a_mock_is_a_plain_object_and_its_handle_is_apart(container):
    mock = container.get(IPaymentGateway)

    assert isinstance(mock, IPaymentGateway)
    assert not hasattr(mock, "configure_return")
    assert hasattr(container.get_mock(IPaymentGateway), "configure_return")


@pytest.mark.parametrize("thing", ["x.Y", len, geocode, 5])
def test_what_is_no_class_cannot_be_mocked(container, thing):
    with pytest.raises(BindingError) as caught:
        container.bind_mock(thing)

    assert str(caught.value) == (
        f"bind_mock() takes an ABC, a Protocol or any class, not {thing!r}."
    )


@pytest.mark.parametrize("thing", ["x.Y", 5])
def test_what_is_no_class_and_not_bound_cannot_be_had(container, thing):
    with pytest.raises(BindingError, match=f"Nothing is bound to {thing!r}"):
        container.get(thing)
    with pytest.raises(BindingError, match=r"is not bound\. Mocks: IEmailService"):
        container.get_mock(thing)


def test_a_name_may_stand_for_an_object(container):
    container.bind("tax rate", 20)

    assert container.get("tax rate") == 20
    with pytest.raises(BindingError, match="Did you mean \"'tax rate'\""):
        container.get("tax")


def test_a_mock_of_a_class_with_names_of_controls_is_no_trouble(container):
    container.bind_mock(StripeGateway)
    container.get_mock(StripeGateway)["get_calls"].returns(["call"])

    assert container.get(StripeGateway).get_calls("monday") == ["call"]


def test_an_unprogrammed_mock_names_the_line(container):
    with pytest.raises(AssertionError) as caught:
        bool(container.get(IPaymentGateway).charge_card(1, "t"))

    assert str(caught.value).endswith(
        "add to the test: container.get_mock(IPaymentGateway).charge_card.returns(...)"
    )


def test_asking_for_the_mock_of_something_real_lists_the_mocks(container):
    container.bind(Orders, Orders)

    with pytest.raises(BindingError) as caught:
        container.get_mock(Orders)

    assert str(caught.value) == (
        f"Orders is bound to {Orders!r}, which is real. Mocks: IEmailService, IPaymentGateway."
    )


def test_asking_for_the_mock_of_something_unbound_lists_the_mocks(container):
    with pytest.raises(BindingError, match=r"ShippingProvider is not bound\. Mocks: IEmailService"):
        container.get_mock(ShippingProvider)
    with pytest.raises(BindingError, match=r"sms is not bound"):
        container.get_mock("sms")


def test_a_backend_of_the_registry_has_the_same_fake_here(container):
    registry = Registry({"payments": StripeGateway, "geo": geocode})
    core.new_timeline()
    registry.swap()
    try:
        assert container.get_mock(StripeGateway) is registry.payments
        assert container.get_mock("payments") is registry.payments
        container.get_mock("payments").configure_return("charge", "txn_1")
        assert container.get(StripeGateway).charge(1, "t") == "txn_1"
        with pytest.raises(BindingError, match="The backend 'geo' is a function"):
            container.get_mock("geo")
    finally:
        registry.restore()


def test_an_interface_that_nothing_is_bound_to_offers_the_nearest(container):
    class IPaymentGatewai(IPaymentGateway):
        pass

    with pytest.raises(BindingError) as caught:
        container.get(IPaymentGatewai)

    assert str(caught.value) == (
        "Nothing is bound to IPaymentGatewai. Did you mean 'IPaymentGateway'?\n"
        "  Add: container.bind(IPaymentGatewai, ...) or container.bind_mock(IPaymentGatewai)"
    )


class NeedsShipping:
    def __init__(self, shipping: ShippingProvider) -> None:
        pass


class NeedsName:
    def __init__(self, name: str) -> None:
        pass


class NeedsAnything:
    def __init__(self, thing) -> None:
        pass


class Hen:
    def __init__(self, egg: "Egg") -> None:
        pass


class Egg:
    def __init__(self, hen: Hen) -> None:
        pass


def test_a_missing_dependency_names_who_needs_it(container):
    with pytest.raises(BindingError, match=r"bound to ShippingProvider \(for NeedsShipping\)"):
        container.get(NeedsShipping)


@pytest.mark.parametrize(("kind", "argument"), [(NeedsName, "name"), (NeedsAnything, "thing")])
def test_an_argument_that_no_interface_stands_for_is_named(container, kind, argument):
    with pytest.raises(BindingError, match=f"{kind.__name__} needs an argument '{argument}'"):
        container.get(kind)


def test_constructors_that_need_each_other_are_told(container):
    with pytest.raises(BindingError, match="Constructors need each other: Hen -> Egg -> Hen"):
        container.get(Hen)


class DatabaseModule:
    def configure(self, container):
        container.bind(Orders, Orders)
        container.bind(IPaymentGateway, MockPaymentGateway())


@pytest.mark.parametrize("module", [DatabaseModule, DatabaseModule()], ids=["class", "instance"])
def test_a_module_is_installed(container, module):
    container.install(module)

    assert isinstance(container.get(Orders).payments, MockPaymentGateway)


def test_a_mapping_is_installed(container):
    payments = MockPaymentGateway()

    container.install({IPaymentGateway: payments})

    assert container.get(IPaymentGateway) is payments


def _closing(name, log, error=None):
    class Closing:
        def close(self):
            log.append(name)
            if error:
                raise error

    Closing.__name__ = name
    return Closing


def test_what_the_container_made_is_closed_in_reverse_once(container):
    log = []
    for name in ("first", "second"):
        container.get(_closing(name, log))

    container.close()
    container.close()

    assert log == ["second", "first"]


def test_one_that_fails_to_close_does_not_keep_the_others_open():
    log = []
    container = TestContainer()
    container.get(_closing("first", log))
    container.get(_closing("second", log, OSError("stuck")))

    with pytest.raises(OSError, match="stuck"):
        container.close()

    assert log == ["second", "first"]


def test_objects_that_were_bound_are_left_to_who_made_them():
    log = []
    kind = _closing("bound", log)
    with TestContainer() as container:
        container.bind(kind, kind())
        container.get(kind)

    assert log == []


def test_pytest_does_not_take_it_for_a_test():
    assert itkit.backends.container.TestContainer.__test__ is False

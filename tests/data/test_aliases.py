"""``create_<alias>()``: the reference page's names, for any model."""

import traceback
from decimal import Decimal

import pytest
from django.contrib.auth.models import User

from itkit.data import mistakes
from itkit.exceptions import DataError, UnknownAliasError
from tests.support.shopdata.models import Customer, Order, Product

pytestmark = pytest.mark.django_db

ALIASES = {
    "purchase": {
        "MODEL": "shopdata.Order",
        "ARGS": ["customer_id"],
        "ITEMS": ["order", "shopdata.OrderLine"],
        "DEFAULTS": {"status": "open"},
    }
}


@pytest.fixture
def aliases(settings):
    def configure(entries):
        settings.ITKIT = {"DATA": {"ALIASES": entries}}

    return configure


def test_a_user_has_an_address_of_its_own_and_can_log_in(data):
    first, second = data.create_test_user(), data.create_test_user()

    assert first.email.startswith("test_")
    assert first.email != second.email
    assert User.objects.get(pk=first.pk).check_password("test_password")
    assert first.username != second.username


def test_a_user_takes_its_address_by_place_or_name_and_its_password(data):
    assert data.create_test_user("a@example.com").email == "a@example.com"
    user = data.create_user(email="b@example.com", password="secret", is_staff=True)

    assert user.is_staff
    assert user.email == "b@example.com"
    assert user.check_password("secret")


def test_a_factory_of_users_keeps_hashing_and_gets_an_address_that_is_unique(data):
    first, second = data.create_account(), data.create_account(password="secret")

    assert first.email != second.email
    assert first.check_password("test_password")
    assert second.check_password("secret")
    assert data.create("shopdata.Account").check_password("the factory's")


def test_an_order_is_created_for_its_owner_with_one_line(data):
    customer = data.create(Customer)

    order = data.create_test_order(customer.pk)

    line = order.lines.get()
    assert order.customer == customer
    assert (line.quantity, line.price) == (1, Decimal("10.00"))
    assert line.product_id is not None


@pytest.mark.parametrize("owner", ["user_id", "customer_id", "customer"])
def test_the_owner_of_an_order_goes_by_the_pages_name_and_by_the_models(data, owner):
    customer = data.create(Customer)
    value = customer if owner == "customer" else customer.pk

    assert data.create_order(**{owner: value}, items=[]).customer == customer
    assert data.create_order(customer, []).customer == customer


def test_each_item_becomes_a_row_that_is_tracked(data):
    first, second = data.create_batch(Product, 2)

    order = data.create_test_order(
        items=[
            {"product_id": first.pk, "quantity": 2, "price": 25.00},
            {"product_id": second.pk, "quantity": 1, "price": 15.00},
        ]
    )

    assert sum(line.quantity * line.price for line in order.lines.all()) == 65
    assert Product.objects.count() == 2
    assert not data.cleanup().beyond


def test_an_order_can_have_no_items(data):
    assert not data.create("order", items=[]).lines.exists()


def test_a_factory_that_makes_the_items_gets_none_by_default(data, aliases):
    aliases({"purchase": {"MODEL": "shopdata.Order", "ITEMS": ["payment_set"]}})

    assert data.create("purchase", "paid").payment_set.get().amount == 65
    assert data.create("purchase", "paid", items=[{"amount": 5}]).payment_set.count() == 2


def test_created_rows_are_listed_by_alias(data):
    user = data.create_test_user()
    orders = [data.create_test_order(), data.create_order()]

    assert data.created_users == [user]
    assert data.created_orders == orders


def test_an_alias_of_the_settings_has_its_own_model_arguments_items_and_defaults(data, aliases):
    aliases(ALIASES)
    customer = data.create(Customer)

    purchase = data.create_test_purchase(customer.pk, [{"quantity": 3}])

    assert isinstance(purchase, Order)
    assert purchase.status == "open"
    assert purchase.customer == customer
    assert purchase.lines.get().quantity == 3
    assert data.created_purchases == [purchase]


def test_an_alias_can_be_built_without_saving(data, aliases):
    aliases(ALIASES)

    assert data.build("purchase").status == "open"
    assert data.build("user").check_password("test_password")
    assert not User.objects.exists()


def test_an_unknown_alias_is_no_attribute_and_the_nearest_is_named(data):
    assert not hasattr(data, "create_ordr")
    assert not hasattr(data, "ordr")
    with pytest.raises(DataError, match=r"alias 'ordr'. Did you mean 'order'"):
        data.create_ordr()


def test_a_name_of_several_models_asks_which_one(data):
    with pytest.raises(DataError, match=r"any of auth.Group, shopdata.Group"):
        data.create_group()


def test_too_many_positional_values_are_refused(data):
    with pytest.raises(DataError, match=r"^create_order\(\) takes 2 positional values"):
        data.create_order(1, [], "paid")
    with pytest.raises(DataError, match=r"^create_test_order\(\) takes 2 positional values"):
        data.create_test_order(1, [], "paid")


def test_an_unknown_alias_is_suggested_once_whatever_the_python(data):
    with pytest.raises(UnknownAliasError) as caught:
        data.create_bundl  # noqa: B018 - to Python it is near to create_batch as well

    assert "".join(traceback.format_exception_only(caught.value)).count("Did you mean") == 1


def test_items_go_by_the_name_of_their_relation_too(data, aliases):
    by_convention = data.create_test_order(lines=[{"quantity": 2}, {"quantity": 3}])
    by_label = data.create("order", lines=[])
    aliases(ALIASES)
    by_key = data.create_purchase(lines=[{"quantity": 4}])

    assert [line.quantity for line in by_convention.lines.order_by("pk")] == [2, 3]
    assert not by_label.lines.exists()
    assert by_key.lines.get().quantity == 4
    assert data.create_order(items=None, lines=[{"quantity": 5}]).lines.get().quantity == 5
    assert data.create_order(lines=None).lines.count() == 1


def test_items_by_both_names_are_refused(data):
    with pytest.raises(DataError) as caught:
        data.create_test_order(items=[{}], lines=[{}])

    assert str(caught.value) == (
        "items and lines are the same rows of shopdata.Order. Pass them by one of these names."
    )


def test_a_relation_that_the_factory_declares_is_left_to_it(data, aliases):
    aliases({"coupon": {"ITEMS": ["redemption_set"]}})

    assert data.create_coupon(redemption_set=2).redemption_set.count() == 2


def test_items_for_a_model_without_a_usual_relation_ask_for_the_setting(data):
    with pytest.raises(DataError, match=r'"customer".*"ITEMS".*available: order_set'):
        data.create_customer(items=[{}])

    assert data.create_customer(items=None).pk


@pytest.mark.parametrize(
    ("entry", "number", "message"),
    [
        ({"MODEL": "shopdata.Ordr"}, 8, "\"MODEL\"] is 'shopdata.Ordr', which is no installed"),
        ({}, 8, "alias 'thing'"),
        ({"MODEL": "shopdata.Order", "ARGS": ["user_id"]}, 9, "no field 'user_id'"),
        ({"MODEL": "shopdata.Order", "ITEMS": ["linse"]}, 9, "Did you mean 'lines'"),
        ({"MODEL": "shopdata.Order", "ITEMS": ["ordr", "shopdata.OrderLine"]}, 9, "'order'"),
        ({"MODEL": "shopdata.Order", "ITEMS": ["order", "shopdata.Line"]}, 9, "shopdata.Line"),
    ],
)
def test_a_mistake_in_the_settings_is_found_by_the_checks(aliases, entry, number, message):
    aliases({"thing": entry})

    (mistake,) = mistakes()

    assert mistake.number == number
    assert message in mistake.message
    assert 'ITKIT["DATA"]["ALIASES"]["thing"]' in mistake.message


def test_the_hint_on_a_model_that_does_not_exist_names_the_nearest(aliases):
    aliases({"thing": {"MODEL": "shopdata.Ordr"}})

    (mistake,) = mistakes()

    assert mistake.hint == "Did you mean 'shopdata.Order'?"


@pytest.mark.parametrize("name", ["thing", "group"])
def test_the_hint_on_an_alias_without_a_model_asks_for_it(aliases, name):
    aliases({name: {}})

    (mistake,) = mistakes()

    assert mistake.hint == f'Name the model in ITKIT["DATA"]["ALIASES"]["{name}"]["MODEL"].'


def test_settings_without_mistakes_pass_the_checks(aliases):
    aliases(ALIASES)

    assert mistakes() == []

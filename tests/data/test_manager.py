"""TestDataManager: creates by factories or model_bakery, tracks, and removes."""

import asyncio
import traceback

import factory
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models.signals import post_save

from itkit.data import TestDataManager
from itkit.exceptions import DataError
from tests.support.shopdata import factories
from tests.support.shopdata.models import (
    Bundle,
    Category,
    Customer,
    Device,
    Order,
    OrderLine,
    Payment,
    Product,
    Shelf,
    Tag,
    Team,
)

pytestmark = pytest.mark.django_db


def test_a_model_with_a_factory_is_created_by_it(data):
    order = data.create(Order)

    assert order.pk
    assert order.customer.name == "Ada"


def test_a_model_without_a_factory_is_filled_in_and_saved(data):
    product = data.create(Product, price="9.99")

    assert Product.objects.get().sku == product.sku
    assert product.price == "9.99"


@pytest.mark.parametrize("what", ["shopdata.Order", "order", Order, factories.OrderFactory])
def test_models_go_by_class_label_alias_and_factory(data, what):
    assert isinstance(data.create(what, status="new"), Order)
    assert Order.objects.get().status == "new"


def test_a_state_switches_the_trait_of_a_factory_on(data):
    order = data.create(Order, "paid")

    assert order.status == "paid"
    assert Payment.objects.get().order == order


def test_a_method_that_is_misspelt_is_told_with_the_nearest_one(data):
    with pytest.raises(AttributeError) as caught:
        data.bild(Order)
    told = "TestDataManager has no attribute 'bild'. Did you mean 'build'?"
    assert "".join(traceback.format_exception_only(caught.value)).strip() == (
        f"AttributeError: {told}"
    )
    assert not hasattr(data, "__fspath__")


def test_an_unknown_state_is_refused_with_the_nearest_one(data):
    with pytest.raises(DataError, match=r"OrderFactory has no trait 'payed'. Did you mean 'paid'"):
        data.create(Order, "payed")


def test_a_state_without_a_factory_says_where_to_write_one(data):
    with pytest.raises(DataError, match=r"ShelfFactory in tests.support.shopdata/factories.py"):
        data.create(Shelf, "sold_out")


def test_an_unknown_label_is_refused_with_the_nearest_one(data):
    with pytest.raises(DataError, match=r"'shopdata.Ordr'. Did you mean 'shopdata.Order'"):
        data.create("shopdata.Ordr")


def test_what_is_neither_model_nor_name_is_refused(data):
    with pytest.raises(DataError, match="42 is nothing that can be created"):
        data.create(42)


def test_several_factories_need_a_default_and_the_error_lists_them(data):
    with pytest.raises(DataError, match=r"has 2 factories: .*LaptopFactory, .*PhoneFactory"):
        data.create(Device)

    assert data.create(factories.PhoneFactory).name == "phone"


def test_the_factory_named_after_its_model_wins(data):
    assert data.create(Customer).name == "Ada"
    assert data.create(factories.VipCustomerFactory).name == "Grace"


def test_short_unique_columns_of_models_without_factory_do_not_collide(data):
    products = data.create_batch(Product, 1_000)  # of random values, some would be equal

    assert len({product.sku for product in products}) == 1_000
    assert len({product.shelf for product in products}) == 1_000
    assert len({product.supplier_email for product in products}) == 1_000


def test_columns_that_are_unique_together_do_not_collide(data):
    shelves = data.create_batch(Shelf, 36, category=data.create(Category))

    assert len({shelf.letter for shelf in shelves}) == 36


def test_rows_that_model_bakery_needs_come_from_their_own_factories(data):
    line = data.create(OrderLine, order__status="paid", order__customer__name="Bob")

    assert line.order.customer.name == "Bob"
    assert line.order.status == "paid"
    assert line.order.customer.email.startswith("customer")


def test_a_row_given_by_id_spares_the_factory_its_own(data):
    customer = data.create(Customer)
    order = data.create(Order, customer_id=customer.pk)

    assert order.customer == customer
    assert Customer.objects.count() == 1


def test_an_id_of_no_row_is_refused(data):
    with pytest.raises(DataError, match=r"customer_id=404: there is no such shopdata.Customer"):
        data.create(Order, customer_id=404)


def test_rows_that_need_each_other_are_refused_with_their_path(data):
    with pytest.raises(DataError, match=r"shopdata.Team → shopdata.Member → shopdata.Team"):
        data.create(Team)


def test_rows_of_one_model_can_be_nested_as_far_as_the_test_spells_out(data):
    leaf = data.create(Category, parent__parent__parent=None)

    assert leaf.parent.parent.parent is None
    assert Category.objects.count() == 3


def test_a_factory_that_makes_no_rows_is_refused(data):
    with pytest.raises(DataError, match="nothing that can be created"):
        data.create(factory.DictFactory)


def test_build_saves_nothing(data):
    order = data.build(Order)
    line = data.build(OrderLine)

    assert order.pk is line.pk is line.order.pk is None
    assert not Customer.objects.exists()


@pytest.mark.parametrize("size", ["3", -1, 1.5, None])
def test_a_size_that_is_no_number_of_rows_is_refused(data, size):
    with pytest.raises(DataError) as caught:
        data.create_batch(Tag, size)

    assert str(caught.value) == f"size is {size!r}, expected a whole number of 0 or more."


def test_an_empty_batch_is_none(data):
    assert data.create_batch(Tag, 0) == []


def test_a_row_is_recorded_by_every_manager_at_work():
    outer, inner = TestDataManager(), TestDataManager()

    def create_tag(sender, created, **_):
        if sender is Customer:
            inner.create(Tag)

    post_save.connect(create_tag)
    try:
        outer.create(Customer)
    finally:
        post_save.disconnect(create_tag)

    assert dict(inner.cleanup().removed) == {"shopdata.Tag": 1}
    assert dict(outer.cleanup().removed) == {"shopdata.Customer": 1}


def test_what_the_tested_code_creates_is_captured_in_order_and_removed():
    def place_order():
        customer = Customer.objects.create(name="Ada", email="ada@example.com")
        return Order.objects.create(customer=customer)

    with TestDataManager() as data:
        with data.capture() as made:
            order = place_order()
            order.save()  # again, which creates nothing
        Customer.objects.create(name="Bob", email="bob@example.com")
        assert made == [order.customer, order]
        assert data.created_orders == [order]

    assert [customer.name for customer in Customer.objects.all()] == ["Bob"]
    assert not Order.objects.exists()


def test_captures_may_be_nested_and_end_when_their_block_fails():
    def fail_within(data):
        with data.capture():
            raise ZeroDivisionError

    with TestDataManager() as data:
        with data.capture() as outer:
            with data.capture() as inner:
                customer = Customer.objects.create(name="Ada", email="ada@example.com")
            with pytest.raises(ZeroDivisionError):
                fail_within(data)
            other = Customer.objects.create(name="Bob", email="bob@example.com")
        assert (inner, outer) == ([customer], [customer, other])


def test_rows_made_outside_of_a_manager_are_not_taken_for_its_own():
    data = TestDataManager()
    with pytest.raises(DataError):
        data.create(Order, "payed")
    Customer.objects.create(email="stranger@example.com")

    assert str(data.cleanup()) == "nothing to remove"


def test_cleanup_removes_what_factories_created_on_the_way():
    data = TestDataManager()
    data.create(Order, "paid")

    report = data.cleanup()

    assert not Customer.objects.exists()
    assert not Order.objects.exists()
    assert dict(report.removed) == {
        "shopdata.Order": 1,
        "shopdata.Customer": 1,
        "shopdata.Payment": 1,
    }
    assert str(report).startswith("removed 1 shopdata.")


def test_cleanup_removes_what_model_bakery_created_on_the_way():
    data = TestDataManager()
    data.create(OrderLine)

    data.cleanup()

    assert not any(model.objects.exists() for model in (OrderLine, Order, Product, Customer))


def test_cleanup_keeps_rows_of_others():
    stranger = Customer.objects.create(email="stranger@example.com")
    data = TestDataManager()
    data.create(Customer)

    data.cleanup()

    assert list(Customer.objects.all()) == [stranger]


def test_a_row_that_a_factory_only_found_is_not_removed():
    found = Tag.objects.create(name="new")
    data = TestDataManager()
    data.create(Tag)

    data.cleanup()

    assert list(Tag.objects.all()) == [found]


def test_a_row_that_is_only_saved_again_meanwhile_is_not_removed():
    stranger = Customer.objects.create(email="stranger@example.com")
    data = TestDataManager()

    def save_again(sender, **_):
        if sender is Order:
            stranger.save()

    post_save.connect(save_again)
    try:
        data.create(Order)
    finally:
        post_save.disconnect(save_again)
    data.cleanup()

    assert list(Customer.objects.all()) == [stranger]


def test_rows_of_other_code_that_reference_ours_are_removed_and_reported():
    data = TestDataManager()
    order = data.create(Order)
    Payment.objects.create(order=order, amount=1)

    report = data.cleanup()

    assert not Payment.objects.exists()
    assert dict(report.beyond) == {"shopdata.Payment": 1}


def test_rows_that_the_test_deleted_itself_are_no_error():
    data = TestDataManager()
    order = data.create(Order)
    order.delete()

    report = data.cleanup()

    assert dict(report.removed) == {"shopdata.Customer": 1}


def test_a_second_cleanup_finds_nothing():
    data = TestDataManager()
    data.create(Order)
    data.cleanup()

    assert str(data.cleanup()) == "nothing to remove"
    assert data.created_orders == []


def test_rows_and_callbacks_are_undone_in_reverse():
    data = TestDataManager()
    counts = []
    data.on_cleanup(lambda: counts.append(("first", Order.objects.count())))
    data.create(Order)
    data.on_cleanup(counts.append, "last")

    data.cleanup()

    assert counts == ["last", ("first", 0)]


def test_a_failing_callback_stops_nothing_and_is_raised_at_the_end():
    data = TestDataManager()
    data.create(Order)
    data.on_cleanup(int, "one")
    data.on_cleanup(int, "two")

    with pytest.raises(ExceptionGroup) as caught:
        data.cleanup()

    assert [type(error) for error in caught.value.exceptions] == [ValueError, ValueError]
    assert not Order.objects.exists()


def test_a_failing_cleanup_does_not_hide_the_failure_of_the_test():
    with pytest.raises(KeyError) as caught, TestDataManager() as data:  # noqa: PT012 - the failure
        data.on_cleanup(int, "one")
        raise KeyError("the test's own")

    assert "Not all test data could be removed" in caught.value.__notes__[0]


def test_tracked_rows_of_other_code_are_removed():
    data = TestDataManager()
    customers = [Customer.objects.create(email=f"{name}@example.com") for name in "abc"]

    assert data.track(customers[0]) is customers[0]
    data.track(Customer.objects.exclude(pk=customers[0].pk))
    data.cleanup()

    assert not Customer.objects.exists()


def test_more_rows_than_one_statement_takes_are_removed():
    data = TestDataManager()
    Tag.objects.bulk_create(Tag(name=str(number)) for number in range(2_500))
    data.track(Tag.objects.all())

    assert data.cleanup().removed == {"shopdata.Tag": 2_500}
    assert not Tag.objects.exists()


def test_what_is_not_saved_cannot_be_tracked(data):
    with pytest.raises(DataError, match="save it first"):
        data.track(Customer())
    with pytest.raises(DataError, match="not 'customer'"):
        data.track(["customer"])


def test_inherited_tables_and_many_to_many_rows_are_removed():
    data = TestDataManager()
    bundle = data.create(Bundle)
    bundle.tags.add(data.create(Tag))

    report = data.cleanup()

    assert not Product.objects.exists()
    assert not Product.tags.through.objects.exists()
    assert dict(report.removed) == {"shopdata.Bundle": 1, "shopdata.Tag": 1}
    assert not report.beyond


def test_in_a_transaction_that_is_broken_the_rows_are_left_to_its_rollback():
    data = TestDataManager()
    with pytest.raises(IntegrityError), transaction.atomic():  # noqa: PT012 - inside of it
        data.create(Customer, email="a@example.com")
        try:
            Customer.objects.create(email="a@example.com")
        finally:
            report = data.cleanup()

    assert dict(report.forgotten) == {"shopdata.Customer": 1}


@pytest.mark.django_db(transaction=True)
def test_cleanup_can_be_awaited():
    data = TestDataManager()
    data.create_test_user()

    async def clean():
        return await data.cleanup()

    assert asyncio.run(clean()).removed["auth.User"] == 1
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_asyncio_code_has_twins():
    async def use():
        async with TestDataManager() as data:
            order = await data.acreate(Order, "paid", customer__name="Eve")
            customers = await data.acreate_batch(Customer, 2)
            assert (order.status, order.customer.name, len(customers)) == ("paid", "Eve", 2)
            assert data.created_orders == [order]
            report = await data.acleanup()
            assert report.removed["shopdata.Order"] == 1
            await data.acreate(Customer)

    async_to_sync(use)()
    assert not Order.objects.exists()
    assert not Customer.objects.exists()


def test_an_async_block_that_fails_cleans_up_and_keeps_its_failure():
    async def fail():
        async with TestDataManager() as data:
            await data.acreate(Customer)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async_to_sync(fail)()
    assert not Customer.objects.exists()


def test_cleanup_removes_rows_that_were_committed():
    with TestDataManager() as data:
        data.create(OrderLine)

    assert not Order.objects.exists()
    assert not Product.objects.exists()

"""Which columns of a bystander are marked, and how."""

import re
from decimal import Decimal

import pytest

from itkit.data import TestDataManager, UniqueValues, marks
from itkit.exceptions import DataError
from itkit.timeline.callsite import CallSite
from tests.support.kinds.models import City, Computed, Country, Remark
from tests.support.shopdata.models import Bundle, Customer, Order, OrderLine, Product

SITE = CallSite("test.py", 1, "test")


def marked(model, **given):
    return marks.values_of(model, given, UniqueValues("marks"))


def test_texts_and_numbers_are_marked_in_the_form_of_their_column():
    customer = marked(Customer)
    assert re.fullmatch(r"canary[0-9a-f]{8}@example\.com", customer["email"])
    assert re.fullmatch(r"canary[0-9a-f]{8}", customer["name"])
    product = marked(Product)
    assert list(product) == ["slug", "supplier_email", "price"]  # sku has no room
    assert product["price"] == round(product["price"], 2) >= Decimal("100000.00")
    assert marked(Customer) == customer  # as the seed has it
    assert list(marked(Customer, name="Ann")) == ["email"]
    assert list(marked(Bundle)) == list(product)  # of an inherited table
    assert list(marked(OrderLine)) == ["price"]


def test_a_mark_is_looked_for_without_what_all_values_have_in_common():
    values = marked(Customer) | {"price": Decimal("839146.27")}
    found = [mark.text for mark in marks.of_row(Customer, values, SITE)]
    assert found == [values["email"].partition("@")[0], values["name"], "839146.27"]


def test_what_the_code_may_depend_on_is_not_marked():
    assert list(marked(Remark)) == ["text"]  # not the key that a generic key refers to
    assert list(marked(Computed)) == ["name"]
    for model in (Order, City, Country):  # a status, a foreign key, what one refers to
        with pytest.raises(DataError, match="has no column left for a mark"):
            marked(model)


def test_marks_belong_to_a_test():
    data = TestDataManager(seed="marks")
    for make in (data.secret, lambda: data.bystander(Customer)):
        with pytest.raises(DataError, match=r"is for the data of a test: self\.data, cls\.data"):
            make()

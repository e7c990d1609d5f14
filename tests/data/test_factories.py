"""What makes a model: recipes of model_bakery, and instances that are recycled."""

import pytest
from model_bakery.recipe import Recipe

from itkit.data import TestDataManager
from itkit.exceptions import DataError
from tests.support.kinds import baker_recipes
from tests.support.kinds.factories import AuthorFactory, EditingFactory, PostFactory
from tests.support.kinds.models import Author, Echo, Heard, Post
from tests.support.shopdata.models import Customer, Order, OrderLine, Payment, Product

pytestmark = pytest.mark.django_db


@pytest.fixture
def data():
    with TestDataManager() as data:
        yield data
    assert not any(model._base_manager.exists() for model in (Echo, Heard, Product, Author, Order))


def test_a_recipe_that_is_called_as_its_model_makes_it(data):
    assert data.create(Echo).heard.name == "by recipe"
    assert data.create_batch("kinds.Echo", 2)[1].heard.name == "by recipe"
    assert "one by one: a recipe saves what it needs on its own" in str(data.explain())


def test_a_recipe_is_a_state_of_its_model(data):
    products = [data.create(Product, "numbered") for _ in range(2)]
    assert [int(product.price) for product in products] == [11, 12]
    assert products[0].sku != products[1].sku
    assert data.build(Product, "numbered").price == 13
    assert data.create(Echo, "loud_echo").heard.name == "LOUD"


def test_a_recipe_can_be_passed(data):
    assert data.create(baker_recipes.echo, heard__name="given").heard.name == "given"
    assert data.create(Recipe(Product, price=5), slug="mine").slug == "mine"
    assert data.build(Recipe(Product, price=5)).pk is None


def test_unique_fields_of_recipes_cannot_collide(data):
    shelves = {data.create(Product, "numbered").shelf for _ in range(300)}
    assert len(shelves) == 300


def test_an_unknown_recipe_is_refused_with_the_nearest_one(data):
    with pytest.raises(
        DataError,
        match=r"no recipe 'numberd' of shopdata.Product in any baker_recipes.py. Did you mean 'n",
    ):
        data.create(Product, "numberd")


def test_two_recipes_cannot_be_followed_at_once(data):
    with pytest.raises(DataError, match="'numbered', 'cheap' are recipes: only one"):
        data.create(Product, "numbered", "cheap")


def test_recycled_instances_take_the_place_of_new_ones(data):
    customer = data.create(Customer)
    with data.recycle(customer):
        orders = [data.create(Order), data.create(Order, "paid"), *data.create_batch(Order, 3)]
        line = data.create(OrderLine)
    assert {order.customer for order in (*orders, line.order)} == {customer}
    assert Payment.objects.get().order == orders[1]
    assert data.create(Order).customer != customer


def test_recycled_instances_take_turns(data):
    customers = data.create_batch(Customer, 2)
    with data.recycle(*customers):
        orders = data.create_batch(Order, 4)
    assert [order.customer for order in orders] == customers * 2


def test_an_inner_block_comes_first(data):
    outer, inner, other = data.create_batch(Customer, 3)
    product = data.create(Product)
    with data.recycle(outer, product):
        with data.recycle(inner):
            line = data.create(OrderLine)
        after = data.create(OrderLine)
    assert (line.order.customer, line.product) == (inner, product)
    assert (after.order.customer, after.product) == (outer, product)
    assert other.order_set.count() == 0


def test_what_follows_an_instance_is_made_as_ever(data):
    post = data.create(PostFactory)
    with data.recycle(post):
        edited = data.create(PostFactory, "edited")
        editing = data.create(EditingFactory)
    assert edited != post
    assert edited.editing_set.count() == 1
    assert editing.post == post
    assert Post.objects.count() == 2


def test_an_instance_that_is_given_comes_before_a_recycled_one(data):
    mine, other = data.create_batch(Customer, 2)
    with data.recycle(other):
        assert data.create(Order, customer=mine).customer == mine
        assert data.create(Order, customer_id=mine.pk).customer == mine


@pytest.mark.parametrize("what", [Order, OrderLine])
def test_values_for_what_is_recycled_are_refused(data, what):
    name = "customer__name" if what is Order else "order__status"
    recycled = data.create(Customer if what is Order else Order)
    with data.recycle(recycled), pytest.raises(DataError, match=f"^{name} is a value of a new"):
        data.create(what, **{name: "x"})


def test_only_instances_are_recycled(data):
    with (
        pytest.raises(DataError, match=r"recycle.. takes instances of models"),
        data.recycle(Order),
    ):
        pass


def test_a_subclass_stands_in_for_its_parent(data):
    author = data.create(AuthorFactory)
    with data.recycle(author):
        assert data.create_batch(PostFactory, 2)[1].author is author

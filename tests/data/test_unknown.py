"""Values under names that nothing can take are refused; all names that something takes are not."""

from typing import Any

import factory
import pytest
from django.db import models
from django.db.models.signals import pre_init
from django.test.utils import isolate_apps
from factory.django import DjangoModelFactory
from model_bakery.recipe import Recipe, foreign_key

from itkit.exceptions import DataError
from tests.support.kinds.factories import EditingFactory, LoginFactory, PostFactory
from tests.support.kinds.models import Author, Counted, Label, Node, Post, Remark
from tests.support.shopdata.factories import CustomerFactory, OrderFactory
from tests.support.shopdata.models import (
    Category,
    Coupon,
    Customer,
    Order,
    OrderLine,
    Payment,
    Product,
    Shelf,
    Tag,
)

pytestmark = pytest.mark.django_db


class BareLineFactory(DjangoModelFactory):
    class Meta:
        model = OrderLine


@pytest.fixture
def named():
    """A proxy of Customer with properties, one of which can be set."""
    with isolate_apps("tests.support.shopdata"):

        class Named(Customer):
            class Meta:
                proxy = True
                app_label = "shopdata"

            @property
            def nickname(self) -> str:
                return self.name

            @nickname.setter
            def nickname(self, value: str) -> None:
                self.name = value

            @property
            def length(self) -> int:
                return len(self.name)

        yield Named


def one_of(base: Any, *, model: Any = None, meta: Any = None, **body: Any) -> Any:
    """Return a factory with other declarations, methods and options."""
    options = {} if model is None else {"model": model}
    return type(base)("Other", (base,), {**body, "Meta": type("Meta", (), options | (meta or {}))})


# What is wrong.


@pytest.mark.parametrize(
    ("what", "values", "message"),
    [
        (
            "shopdata.Order",
            {"statsu": "new"},
            (
                r"^statsu: neither OrderFactory nor shopdata.Order has a field 'statsu'. "
                r"Did you mean 'status'\?$"
            ),
        ),
        (
            "order",
            {"pai": True},
            r"^pai: neither .* Did you mean 'paid'\?$",
        ),
        (
            Order,
            {"customer__nmae": "Ada"},
            (
                r"^customer__nmae: neither CustomerFactory nor shopdata.Customer has a field 'nmae'. "
                r"Did you mean 'name'\?$"
            ),
        ),
        (
            Order,
            {"paid": True, "payment__amuont": 3},
            r"^payment__amuont: neither PaymentFactory .* Did you mean 'amount'\?$",
        ),
        (
            Payment,
            {"order__customer__nmae": "Ada"},
            r"^order__customer__nmae: neither CustomerFactory ",
        ),
        (
            Order,
            {"custmer__name": "Ada"},
            r"^custmer__name: neither OrderFactory .* 'custmer'. Did you mean 'customer'\?$",
        ),
        (
            CustomerFactory,
            {"name__first": "Ada"},
            (
                r"^name__first has no effect: name of CustomerFactory is a plain value, not a "
                r"SubFactory. Pass name=…, or leave it out.$"
            ),
        ),
        (
            BareLineFactory,
            {"order__status": "new"},
            (
                r"^order__status: BareLineFactory does not declare 'order', so nothing is made for "
                r"it. Pass order=…, or declare it as a SubFactory.$"
            ),
        ),
        (
            Order,
            {"_fill_optional": True},
            (
                r"^_fill_optional: '_fill_optional' is an option of model_bakery, and OrderFactory is "
                r"one of factory_boy. Leave it out.$"
            ),
        ),
        (
            Product,
            {"skuu": "a"},
            r"^skuu: shopdata.Product has no field 'skuu'. Did you mean 'sku'\?$",
        ),
        (Product, {"_fil_optional": True}, r"^_fil_optional: .* Did you mean '_fill_optional'\?$"),
        (Product, {"tgas__name": "new"}, r"^tgas__name: shopdata.Product .* 'tags'\?$"),
        (Product, {"tags__nmae": "new"}, r"^tags__nmae: shopdata.Tag has .* 'name'\?$"),
        (Product, {"orderline": None}, r"^orderline: shopdata.Product .* 'orderline_set'\?$"),
        (OrderLine, {"order__statsu": "new"}, r"^order__statsu: neither OrderFactory nor "),
        (Shelf, {"category__parnet": None}, r"^category__parnet: shopdata.Category has .*parent"),
        (
            Product,
            {"skuu": "a", "pirce": 3},
            r"^skuu: .*\npirce: shopdata.Product has no field 'pirce'. Did you mean 'price'\?$",
        ),
    ],
)
def test_a_name_that_nothing_takes_is_refused_with_the_nearest(data, what, values, message):
    for make in (data.create, data.build, lambda *args, **kw: data.create_batch(*args, 2, **kw)):
        with pytest.raises(DataError, match=message) as caught:
            make(what, **values)

        frames = [str(entry.path) for entry in caught.traceback]
        assert not any("factory/" in path or "model_bakery" in path for path in frames)
    assert not data.counts()


def test_a_wrong_name_of_a_child_row_and_of_a_recipe_is_refused(data):
    with pytest.raises(DataError, match=r"^quantiti: shopdata.OrderLine has .* 'quantity'\?$"):
        data.create_test_order(lines=[{"quantiti": 3}])
    with pytest.raises(DataError, match=r"^colour: shopdata.Tag has no field 'colour'. Available"):
        data.create(Recipe(Tag, name="new"), colour="red")


def test_a_property_that_cannot_be_set_is_refused(data, named):
    with pytest.raises(DataError, match=r"^length: 'length' is a property of shopdata.Named that"):
        data.create(named, length=3)


# What is legal: values arrive where they belong.


def test_fields_by_name_attname_and_key(data):
    customer = data.create(Customer)

    assert data.create(Order, customer=customer, pk=70_001).pk == 70_001
    assert data.create(Order, customer_id=customer.pk, id=70_002).customer == customer
    assert data.build(Order, pk=3, customer=None).pk == 3
    assert data.create(Product, pk=70_003).pk == 70_003
    category = data.create(Category)
    assert data.create(Shelf, category_id=category.pk).category == category


def test_traits_and_parameters_of_factories(data):
    quick = one_of(
        OrderFactory,
        status=factory.LazyAttribute(lambda made: "quick" if made.is_quick else "slow"),
        Params=type("Params", (), {"is_quick": False}),
    )

    assert data.create(Order, paid=True).status == "paid"
    assert data.create(quick, is_quick=True).status == "quick"


def test_values_for_sub_factories_and_related_factories(data):
    order = data.create(Order, "paid", customer__name="Grace", payment__amount=7)

    assert (order.customer.name, Payment.objects.get().amount) == ("Grace", 7)
    assert data.create(Node, below=True, parent__depth=4).depth == 5
    assert data.create(EditingFactory, post__author__name="Eve").author.name == "Eve"
    data.create(Order, "paid", payment=None)
    assert Payment.objects.count() == 1


def test_post_generation_hooks_take_values_of_any_name(data):
    seen = {}

    def hook(made: Any, create: bool, given: Any, **more: Any) -> None:
        seen.update(given=given, **more)

    hooked = one_of(
        CustomerFactory,
        greeting=factory.PostGeneration(hook),
        meta={"skip_postgeneration_save": True},
    )

    data.create(hooked, greeting="hello", greeting__loud=True)
    data.create("coupon", redemption_set=2)

    assert seen == {"given": "hello", "loud": True}
    assert Coupon.objects.get().redemption_set.count() == 2


def test_declarations_that_are_no_fields_and_values_that_are_declarations(data):
    hidden = one_of(
        CustomerFactory,
        first="Ada",
        name=factory.LazyAttribute(lambda made: made.first.upper()),
        meta={"exclude": ("first", "second")},
    )

    assert data.create(hidden, first="Eve", second="unused").name == "EVE"
    assert data.create(Customer, name=factory.LazyAttribute(lambda made: made.email)).name
    order = data.create(Order, late=factory.RelatedFactory("tests.support.shopdata.factories.PaymentFactory", "order"))  # fmt: skip
    assert order.payment_set.count() == 1
    assert data.create(Customer, nothing=factory.declarations.SKIP)
    spoken = one_of(CustomerFactory, name=factory.Faker("name"))
    assert data.create(spoken, name__locale="de_DE")
    hashing = one_of(LoginFactory, meta={"skip_postgeneration_save": True})
    assert data.create(hashing, password__salt="b", password="a").password == "hash of a"


def test_options_that_rename_and_order_the_arguments(data):
    renamed = one_of(CustomerFactory, meta={"rename": {"called": "name"}}, name=factory.declarations.SKIP)  # fmt: skip
    placed = one_of(CustomerFactory, meta={"inline_args": ("number", "email", "name")}, number=None)

    assert data.create(renamed, called="Eve").name == "Eve"
    assert data.build(placed, number=4, name="Eve").pk == 4


@pytest.mark.parametrize("method", ["_adjust_kwargs", "_create", "_build", "create"])
def test_factories_that_handle_the_values_themselves(data, method):
    def handled(cls: Any, *args: Any, shouted: str = "", **values: Any) -> Any:
        if shouted:
            values["name"] = shouted.upper()
        return getattr(super(loud, cls), method)(*args, **values)

    loud = one_of(CustomerFactory, **{method: classmethod(handled)})
    make = data.build if method == "_build" else data.create

    assert make(loud, shouted="ada").name == "ADA"


def test_models_and_managers_that_handle_the_values_themselves(data):
    with isolate_apps("tests.support.shopdata"):

        class Wordy(Customer):
            class Meta:
                proxy = True
                app_label = "shopdata"

            def __init__(self, *args: Any, words: tuple[str, ...] = (), **values: Any) -> None:
                super().__init__(*args, **values | ({"name": " ".join(words)} if words else {}))

        class Copying(models.Manager):
            def create(self, *, like: Customer | None = None, **values: Any) -> Any:
                return super().create(**({"name": like.name} if like else {}) | values)

        class Copied(Customer):
            objects = Copying()

            class Meta:
                proxy = True
                app_label = "shopdata"

    unnamed = one_of(CustomerFactory, name=factory.declarations.SKIP)

    assert data.create(Wordy, words=("Ada", "Byron")).name == "Ada Byron"
    assert data.create(one_of(unnamed, model=Wordy), words=("a", "b")).name == "a b"
    eve = data.create(Customer, name="Eve")
    assert data.create(one_of(unnamed, model=Copied), like=eve).name == "Eve"
    assert data.create(Counted).number == 1


def test_properties_that_can_be_set(data, named):
    unnamed = one_of(CustomerFactory, model=named, name=factory.declarations.SKIP)

    assert data.create(named, nickname="Eve").name == "Eve"
    assert data.create(unnamed, nickname="Ada").name == "Ada"


def test_generic_keys_many_to_many_and_reverse_relations(data):
    author, tag = data.create(Author), data.create(Tag)

    assert data.create(Remark, about=author, text="x").about == author
    assert data.create(Recipe(Remark, text="r"), about=author).about == author
    assert list(data.create(Product, tags=[tag]).tags.all()) == [tag]
    assert data.create(Product, tags__name="made").tags.first().name == "made"
    line = data.create(OrderLine)
    assert data.create(Product, orderline_set=[line]).orderline_set.get() == line
    assert data.create(Product, orderline_set__quantity=2).orderline_set.get().quantity == 2


def test_options_of_model_bakery(data):
    assert len(data.create(Category, _quantity=2)) == 2
    assert data.create(Product, make_m2m=True).tags.exists()
    assert data.create(Category, _fill_optional=["parent"]).parent
    assert data.create(Product, _refresh_after_create=True, price="9.99").price
    assert data.build(Shelf, _save_related=True).category
    assert data.create(Shelf, category__parent=None, category___fill_optional=False).category


def test_names_of_recipes_and_of_what_they_need(data):
    recipe = Recipe(Shelf, letter="r", category=foreign_key(Recipe(Category)))

    assert data.create(recipe, letter="s").letter == "s"
    assert data.create(recipe, category__parent=None).category.parent is None


def test_values_of_rows_that_model_bakery_makes_by_a_factory(data):
    line = data.create(OrderLine, order__customer__name="Eve", order__paid=True, product__sku="x")

    assert (line.order.customer.name, line.order.status) == ("Eve", "paid")
    assert line.product.sku == "x"
    assert data.create(PostFactory, priced=True, author__name="Ada").author.name == "Ada"
    assert (Label.objects.count(), Post.objects.count()) == (1, 1)


def test_a_receiver_that_takes_a_value_may_come_later(data):
    with pytest.raises(DataError, match="'nmae'"):
        data.create(Shelf, nmae="red")

    def take(kwargs, **_):
        kwargs.pop("nmae", None)

    pre_init.connect(take, sender=Shelf)
    try:
        assert data.create(Shelf, nmae="red").pk is not None
    finally:
        pre_init.disconnect(take, sender=Shelf)
    with pytest.raises((DataError, TypeError), match="nmae"):
        data.create(Shelf, nmae="red")

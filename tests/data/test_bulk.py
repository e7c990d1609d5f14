"""Batches that are written by table hold the rows that saving one by one would make."""

import datetime
import shutil
import uuid

import factory
import pytest
from django.apps import apps
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import IntegrityError, connections, models, transaction
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext, override_settings
from factory.django import DjangoModelFactory

from itkit.data import TestDataManager
from itkit.data.create import maker
from itkit.exceptions import DataError
from tests.conftest import ALIAS
from tests.support.kinds import factories
from tests.support.kinds.models import (
    Author,
    Chapter,
    Computed,
    Counted,
    Echo,
    Editing,
    Heard,
    Label,
    Place,
    Post,
    Remark,
    Serial,
    Slugged,
)
from tests.support.shopdata.models import Customer, Order, OrderLine, Product

KINDS = apps.get_app_config("kinds")
FACTORIES = [
    item
    for item in vars(factories).values()
    if isinstance(item, type) and issubclass(item, DjangoModelFactory) and not item._meta.abstract
]


@pytest.fixture
def data(database):
    empty()
    with TestDataManager(using=ALIAS) as data:
        yield data
    assert not any(model._base_manager.using(ALIAS).exists() for model in KINDS.get_models())


@pytest.fixture
def heard(database):
    def hear(sender, instance, **_):
        instance.heard = "before"

    def echo(sender, instance, created, **_):
        if created:
            Echo.objects.using(ALIAS).create(heard=instance)

    pre_save.connect(hear, sender=Heard)
    post_save.connect(echo, sender=Heard)
    yield
    pre_save.disconnect(hear, sender=Heard)
    post_save.disconnect(echo, sender=Heard)


@pytest.fixture(autouse=True)
def media(tmp_path, monkeypatch):
    with override_settings(MEDIA_ROOT=tmp_path / "media"):
        monkeypatch.setattr(Serial, "using", ALIAS)
        yield


def empty():
    """Remove all rows, and let every counter begin anew."""
    tables = [model._meta.db_table for model in KINDS.get_models(include_auto_created=True)]
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")
    for item in FACTORIES:
        if item._meta.counter_reference is item._meta:
            item.reset_sequence(0)
    factories.TaggedFactory._meta.declarations["name"].reset()
    shutil.rmtree(settings.MEDIA_ROOT, ignore_errors=True)


def contents():
    found = {}
    for model in KINDS.get_models(include_auto_created=True):
        rows = model._base_manager.using(ALIAS).values(
            *(field.attname for field in model._meta.local_concrete_fields)
        )
        found[model._meta.label] = sorted(repr(comparable(row)) for row in rows)
    return found


def comparable(values):
    """What differs from run to run is told by its kind."""
    return {
        name: type(value) if isinstance(value, uuid.UUID | datetime.datetime) else plain(value)
        for name, value in values.items()
        if not name.startswith("_")
    }


def plain(value):
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, str) and value.startswith("md5$"):
        return "hash"
    return str(value) if isinstance(value, models.fields.files.FieldFile) else value


def state(instance):
    return comparable(vars(instance)) | {
        "adding": instance._state.adding,
        "db": instance._state.db,
    }


@pytest.mark.parametrize(
    ("made_by", "states"),
    [
        *((item, ()) for item in FACTORIES),
        *(
            (item, (name,))
            for item in FACTORIES
            for name, trait in item._meta.parameters.items()
            if isinstance(trait, factory.Trait)
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value.__name__,
)
@pytest.mark.filterwarnings("ignore:.*_after_postgeneration:DeprecationWarning")
def test_a_batch_equals_what_is_saved_one_by_one(data, heard, made_by, states):
    classic = data.create_batch(made_by, 7, *states, bulk="never")
    expected, instances = contents(), [state(instance) for instance in classic]

    for bulk in ("auto", "copy"):
        data.cleanup()
        empty()
        batch = data.create_batch(made_by, 7, *states, bulk=bulk)
        assert contents() == expected, bulk
        assert [state(instance) for instance in batch] == instances, bulk
        assert sum(data.explain().rows.values()) >= 7, bulk


@pytest.mark.parametrize(
    "model",
    [item for item in KINDS.get_models() if item is not Echo],
    ids=lambda model: model.__name__,
)
@pytest.mark.filterwarnings("ignore:.*_after_postgeneration:DeprecationWarning")
def test_a_batch_can_be_made_of_every_model(data, heard, model):
    for bulk in ("never", "auto", "copy"):
        batch = data.create_batch(model, 3, bulk=bulk)
        assert len({instance.pk for instance in batch}) == (2 if model.__name__ == "Tagged" else 3)
        assert all(not instance._state.adding for instance in batch)
        data.cleanup()


def test_a_graph_takes_as_many_statements_for_many_as_for_few(data):
    def statements(size):
        with CaptureQueriesContext(connections[ALIAS]) as queries:
            data.create_batch(Editing, size, post__labels=None)
        return len([query for query in queries if "author" in query["sql"]])

    assert statements(40) <= statements(4) + 2  # more keys are taken at once


def test_explain_tells_each_way_and_why(data, heard):
    data.create_batch(Slugged, 2)
    assert str(data.explain()) == (
        "      2 kinds.Slugged of SluggedFactory one by one: Slugged has a save() of its own"
    )
    data.create_batch(Heard, 1)
    assert "Heard of HeardFactory one by one: heard.<locals>.hear() listens to pre_save" in str(
        data.explain()
    )
    data.create_batch(Computed, 2, bulk="copy")
    assert str(data.explain()) == (
        "      2 kinds.Computed of ComputedFactory by INSERT: shouted is filled by the database"
    )
    data.create_batch(Post, 60)
    assert str(data.explain()).splitlines() == [
        "     60 kinds.Author of AuthorFactory by COPY",
        "     60 kinds.Post of PostFactory by COPY",
        "     60 calls of PostFactory.labels, after its rows have been written",
    ]


@pytest.mark.parametrize(
    ("made_by", "values", "reason"),
    [
        (factories.CountedFactory, {}, "Counting has a create() of its own"),
        (factories.TicketFactory, {}, "Serial of serial fills itself in as the row is saved"),
        (factories.TaggedFactory, {}, "TaggedFactory has django_get_or_create"),
        (factories.ChapterFactory, {}, "order_with_respect_to counts the rows before"),
        (
            factories.AttachmentFactory,
            {"file": ContentFile(b"x", name="x.txt")},
            "file has a file, which save() stores",
        ),
    ],
)
def test_what_save_would_do_is_an_obstacle(data, made_by, values, reason):
    data.create_batch(made_by, 1, **values)

    (way,) = [
        way
        for way in data.explain().rows
        if way.model == made_by._meta.get_model_class()._meta.label
    ]
    assert (way.how, way.reason) == ("one by one", reason)


def test_a_factory_with_a_creation_of_its_own_is_called(data):
    class Loud(factories.AuthorFactory):
        @classmethod
        def _create(cls, model_class, *args, **kwargs):
            kwargs["name"] = kwargs["name"].upper()
            return super()._create(model_class, *args, **kwargs)

    class Wrapped(factories.AuthorFactory):
        @classmethod
        def create(cls, **kwargs):
            return super().create(**(kwargs | {"name": "wrapped"}))

    assert data.create_batch(Loud, 2)[1].name.startswith("AUTHOR")
    assert "Loud has a _create() of its own" in str(data.explain())
    assert data.create_batch(Wrapped, 2)[1].name == "wrapped"
    assert "Wrapped has a create() of its own" in str(data.explain())


def test_muted_signals_stay_muted(data, heard):
    @factory.django.mute_signals(pre_save, post_save)
    class Quiet(factories.HeardFactory):
        pass

    data.track(data.create_batch(Quiet, 3))

    assert not Echo.objects.using(ALIAS).exists()


def test_who_asks_the_database_is_answered_as_ever(data):
    """A declaration, a hook and raw SQL see the rows that have been made before them."""
    seen = []

    class Asking(factories.AuthorFactory):
        @factory.lazy_attribute
        def name(self):
            count = Author.objects.using(ALIAS).count()
            with connections[ALIAS].cursor() as cursor:
                cursor.execute("SELECT count(*) FROM kinds_author")
                seen.append(cursor.fetchone()[0])
            return f"after {count}"

    batch = data.create_batch(Asking, 3)

    assert [author.name for author in batch] == ["after 0", "after 1", "after 2"]
    assert seen == [0, 1, 2]


def test_rows_that_somebody_rolls_back_with_his_own_are_written_again(data):
    def give_up():
        with transaction.atomic(using=ALIAS):
            count = Author.objects.using(ALIAS).count()
            transaction.set_rollback(True, using=ALIAS)
        return count

    class Asking(factories.PostFactory):
        title = factory.LazyAttribute(lambda made: [give_up(), give_up(), made.author.pk][0])

    for bulk in ("never", "auto"):
        posts = data.create_batch(Asking, 4, bulk=bulk)
        assert [post.title for post in posts] == [1, 2, 3, 4]
        assert Author.objects.using(ALIAS).filter(posts__in=posts).count() == 4
        data.cleanup()


def test_a_hook_sees_what_its_parents_declare(data):
    class Named(factories.PostFactory):
        class Params:
            wants_label = factory.SelfAttribute("..wants_label")

        named = factory.Maybe(
            "wants_label",
            factory.PostGeneration(lambda post, create, given: setattr(post, "named", True)),
        )

    class Edited(factories.EditingFactory):
        class Params:
            wants_label = True

        post = factory.SubFactory(Named)

    assert [item.post.named for item in data.create_batch(Edited, 3)] == [True] * 3


def test_an_object_that_was_saved_after_it_was_given_is_referred_to(data):
    author = Author(name="late")

    class Saving(factories.PostFactory):
        title = factory.LazyAttribute(lambda made: made.author.save(using=ALIAS) or "x")

    for bulk in ("never", "copy"):
        posts = data.create_batch(Saving, 2, author=author, bulk=bulk)
        assert {post.author_id for post in posts} == {author.pk}
    with pytest.raises(ValueError, match="unsaved related object 'author'"):
        data.create_batch(Post, 60, author=Author(name="never"), title="x")


def test_keys_do_not_collide_with_those_that_rows_get_meanwhile(data):
    class Mixed(factories.AuthorFactory):
        @factory.lazy_attribute
        def name(self):
            return f"with {data.track(Place.objects.using(ALIAS).create(name='x')).pk}"

    data.create_batch(factories.CafeFactory, 5)
    data.create_batch(Mixed, 20)
    data.create_batch(factories.CafeFactory, 5)
    assert Place.objects.using(ALIAS).count() == 30


def test_values_that_are_given_hold_for_all(data):
    author = data.create(Author)
    posts = data.create_batch(Post, 3, "priced", author=author, title="given")
    others = data.create_batch(Post, 3, author__name="Ada")

    assert {post.author for post in posts} == {author}
    assert {(post.title, str(post.price)) for post in posts} == {("given", "9.90")}
    assert [post.author.name for post in others] == ["Ada"] * 3
    assert len({post.author_id for post in others}) == 3


def test_what_is_not_unique_names_the_factory_and_the_row(data):
    with pytest.raises(IntegrityError) as caught:
        data.create_batch(factories.LoginFactory, 60, email=factory.Iterator(["a@b.c", "b@b.c"]))

    (note,) = caught.value.__notes__
    assert "the row of LoginFactory, number 3 of 60 of kinds.Login" in note
    assert not data.created_logins


@pytest.mark.parametrize("size", [3, 100])
def test_what_fails_leaves_nothing(data, size):
    def fail(made):
        if made.name.endswith("2"):
            raise RuntimeError("the factory's own")
        return "x"

    class Failing(factories.PostFactory):
        title = factory.LazyAttribute(lambda made: fail(made.author))

    with pytest.raises(RuntimeError, match="the factory's own"):
        data.create_batch(Failing, size)
    assert not Author.objects.using(ALIAS).exists()
    assert len(data.create_batch(Author, 2)) == 2


def test_a_batch_inside_of_a_transaction_is_taken_back_with_it(data):
    with transaction.atomic(using=ALIAS):
        data.create_batch(Author, 60)
        transaction.set_rollback(True, using=ALIAS)
    assert not Author.objects.using(ALIAS).exists()
    data.cleanup()


def test_rows_are_tracked_with_those_that_factories_make(data):
    data.create_batch(Post, 60)
    assert len(data.created_posts) == len(data.created_authors) == 60

    report = data.cleanup()

    assert report.removed == {"kinds.Post": 60, "kinds.Author": 60, "kinds.Label": 60}
    assert not Label.objects.using(ALIAS).exists()


def test_what_is_captured_comes_from_batches_too(data):
    with data.capture() as made:
        TestDataManager(using=ALIAS).create_batch(Author, 3)
    assert [type(instance) for instance in made] == [Author] * 3


def test_items_of_an_alias_are_planned_too(data):
    product = data.create(Product)
    orders = data.create_batch("order", 60, items=[{"product": product, "price": 1}] * 2)

    assert OrderLine.objects.using(ALIAS).filter(order__in=orders).count() == 120
    assert str(data.explain()).splitlines() == [
        "     60 shopdata.Customer of CustomerFactory by COPY",
        "     60 shopdata.Order of OrderFactory by COPY",
        "    120 shopdata.OrderLine of model_bakery by COPY",
    ]


def test_default_items_are_one_each(data):
    orders = data.create_batch("order", 5)
    assert OrderLine.objects.using(ALIAS).filter(order__in=orders).count() == 5


def test_models_without_factories_differ_where_they_must(data):
    products = data.create_batch(Product, 300)
    for name in ("sku", "slug", "shelf"):
        assert len({getattr(product, name) for product in products}) == 300
    assert "300 shopdata.Product of model_bakery by COPY" in str(data.explain())


def test_values_that_are_no_columns_are_left_to_model_bakery(data):
    tags = data.create_batch("shopdata.Tag", 2, name=factory.Iterator(["a", "b"]))
    products = data.create_batch(Product, 2, tags=tags)
    assert [product.tags.count() for product in products] == [2, 2]
    assert "one by one: tags is no column of it" in str(data.explain())
    assert maker._obstacle_of_values(Remark, ("about",)) == "about is no column of it"


def test_a_database_without_sequences_says_so(db):
    with TestDataManager() as data:
        data.create_batch(Order, 2)
        assert "shopdata.Order of OrderFactory one by one: SQLite has no keys" in str(
            data.explain()
        )
        assert len(data.created_customers) == Customer.objects.count() == 2


@pytest.mark.parametrize("bulk", ["always", None, True])
def test_another_way_is_refused(data, bulk):
    with pytest.raises(DataError, match=r"expected one of 'auto', 'copy', 'never'"):
        data.create_batch(Author, 2, bulk=bulk)


def test_chapters_count_on(data):
    post = data.create(Post)
    chapters = data.create_batch(Chapter, 3, post=post)
    assert [chapter._order for chapter in chapters] == [0, 1, 2]
    assert Counted.objects.using(ALIAS).count() == 0

import datetime
from decimal import Decimal

import factory
from factory.django import DjangoModelFactory, Password

from tests.support.kinds import models


class AuthorFactory(DjangoModelFactory):
    class Meta:
        model = models.Author

    name = factory.Sequence("author {}".format)


class LabelFactory(DjangoModelFactory):
    class Meta:
        model = models.Label

    text = "label"


class PostFactory(DjangoModelFactory):
    class Meta:
        model = models.Post
        skip_postgeneration_save = True

    class Params:
        priced = factory.Trait(
            price=Decimal("9.90"), lasts=datetime.timedelta(days=1, seconds=3), address="10.0.0.1"
        )
        edited = factory.Trait(
            editing=factory.RelatedFactory(
                "tests.support.kinds.factories.EditingFactory", factory_related_name="post"
            )
        )

    author = factory.SubFactory(AuthorFactory)
    title = factory.LazyAttribute(lambda made: f"by {made.author.name} ({made.author.pk - 1})")
    extra = factory.Dict({"a": [1, None], "tab": "\t\\N", "n": factory.Sequence(int)})
    day = datetime.date(2026, 2, 3)

    @factory.post_generation
    def labels(self, create, given):
        if create:
            label = models.Label.objects.using(self._state.db).create(text=f"of {self.pk}")
            self.labels.add(label)


class EditingFactory(DjangoModelFactory):
    class Meta:
        model = models.Editing

    post = factory.SubFactory(PostFactory)
    author = factory.SelfAttribute("post.author")
    role = "editor"


class ComputedFactory(DjangoModelFactory):
    class Meta:
        model = models.Computed

    name = factory.Sequence("name {}".format)


class PlaceFactory(DjangoModelFactory):
    class Meta:
        model = models.Place

    name = "place"


class CafeFactory(PlaceFactory):
    class Meta:
        model = models.Cafe

    seats = factory.Sequence(int)


class BistroFactory(CafeFactory):
    class Meta:
        model = models.Bistro

    owner = factory.SubFactory(AuthorFactory)


class KioskFactory(CafeFactory):
    class Meta:
        model = models.Kiosk


class NodeFactory(DjangoModelFactory):
    class Meta:
        model = models.Node

    class Params:
        below = factory.Trait(
            parent=factory.SubFactory("tests.support.kinds.factories.NodeFactory")
        )

    depth = factory.LazyAttribute(lambda made: made.parent.depth + 1 if made.parent else 0)
    parent = None


class RemarkFactory(DjangoModelFactory):
    class Meta:
        model = models.Remark

    about = factory.SubFactory(PostFactory)
    text = factory.LazyAttribute(lambda made: f"{made.about.title}!")


class ProfileFactory(DjangoModelFactory):
    class Meta:
        model = models.Profile

    author = factory.SubFactory(AuthorFactory)
    motto = "on"


class CountryFactory(DjangoModelFactory):
    class Meta:
        model = models.Country

    code = factory.Sequence("c{}".format)


class CityFactory(DjangoModelFactory):
    class Meta:
        model = models.City

    country = factory.SubFactory(CountryFactory)


class SluggedFactory(DjangoModelFactory):
    class Meta:
        model = models.Slugged

    title = "The Same Title"


class HeardFactory(DjangoModelFactory):
    class Meta:
        model = models.Heard

    name = "heard"


class CountedFactory(DjangoModelFactory):
    class Meta:
        model = models.Counted


class TicketFactory(DjangoModelFactory):
    class Meta:
        model = models.Ticket


class LoginFactory(DjangoModelFactory):
    class Meta:
        model = models.Login

    class Params:
        secret = factory.Trait(
            set_password=factory.PostGenerationMethodCall("set_password", "secret"),
        )

    email = factory.Sequence("login{}@example.com".format)
    password = Password("pw", transform="hash of {}".format)


class AttachmentFactory(DjangoModelFactory):
    class Meta:
        model = models.Attachment

    class Params:
        filled = factory.Trait(
            file=factory.django.FileField(
                data=b"x", filename=factory.Sequence("attachment{}.txt".format)
            )
        )


class ChapterFactory(DjangoModelFactory):
    class Meta:
        model = models.Chapter

    post = factory.SubFactory(PostFactory)


class TaggedFactory(DjangoModelFactory):
    class Meta:
        model = models.Tagged
        django_get_or_create = ("name",)

    name = factory.Iterator(["red", "green"])


class WorkerFactory(DjangoModelFactory):
    class Meta:
        model = models.Worker

    class Params:
        led = factory.Trait(
            boss=factory.SubFactory(
                "tests.support.kinds.factories.WorkerFactory", firm=factory.SelfAttribute("..firm")
            )
        )

    firm = factory.SubFactory("tests.support.kinds.factories.FirmFactory", workers=None, head=False)


class FirmFactory(DjangoModelFactory):
    class Meta:
        model = models.Firm

    name = factory.Sequence("firm {}".format)
    workers = factory.RelatedFactoryList(
        WorkerFactory, factory_related_name="firm", size=lambda: 2, led=True
    )

    @factory.post_generation
    def head(self, create, given):
        if create and given is not False:
            self.head = self.workers.order_by("pk").first()
            self.save()

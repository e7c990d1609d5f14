"""A batch of every kind of field holds the rows that saving one by one would make."""

import pytest

from tests.support.doors import write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

MODELS = '''
    import uuid

    from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
    from django.contrib.contenttypes.models import ContentType
    from django.contrib.postgres import fields as pg
    from django.contrib.postgres.search import SearchVectorField
    from django.db import models
    from django.db.models.functions import Coalesce, Length, Now


    class Size(models.TextChoices):
        SMALL = "s"
        LARGE = "l"


    class Plain(models.Model):
        big = models.BigIntegerField()
        binary = models.BinaryField()
        boolean = models.BooleanField()
        char = models.CharField(max_length=30)
        date = models.DateField()
        moment = models.DateTimeField()
        decimal = models.DecimalField(max_digits=8, decimal_places=3)
        duration = models.DurationField()
        email = models.EmailField()
        file = models.FileField()
        path = models.FilePathField()
        real = models.FloatField()
        address = models.GenericIPAddressField()
        unpacked = models.GenericIPAddressField(protocol="IPv6")
        integer = models.IntegerField()
        json = models.JSONField(null=True)
        positive = models.PositiveIntegerField()
        positive_big = models.PositiveBigIntegerField()
        positive_small = models.PositiveSmallIntegerField()
        slug = models.SlugField()
        small = models.SmallIntegerField()
        text = models.TextField()
        time = models.TimeField()
        url = models.URLField()
        uuid = models.UUIDField()
        size = models.CharField(max_length=1, choices=Size)
        nothing = models.CharField(max_length=3, null=True)


    class Postgres(models.Model):
        numbers = pg.ArrayField(models.IntegerField(null=True))
        matrix = pg.ArrayField(pg.ArrayField(models.CharField(max_length=9)))
        decimals = pg.ArrayField(models.DecimalField(max_digits=5, decimal_places=2))
        documents = pg.ArrayField(models.JSONField(), default=list)
        days = pg.ArrayField(models.DateField(), null=True)
        store = pg.HStoreField()
        stores = pg.ArrayField(pg.HStoreField(), default=list)
        ints = pg.IntegerRangeField()
        bigs = pg.BigIntegerRangeField()
        decs = pg.DecimalRangeField()
        dates = pg.DateRangeField()
        moments = pg.DateTimeRangeField()
        nothing = pg.DateRangeField(null=True)
        search = SearchVectorField(null=True)


    class Made(models.Model):
        """What the database makes of a row."""

        name = models.CharField(max_length=20)
        length = models.GeneratedField(
            expression=Length("name"), output_field=models.IntegerField(), db_persist=True
        )
        level = models.IntegerField(db_default=7)
        made_at = models.DateTimeField(db_default=Now())
        changed_at = models.DateTimeField(auto_now=True)
        added_on = models.DateField(auto_now_add=True)


    class MadeKey(models.Model):
        id = models.IntegerField(primary_key=True, db_default=Length(models.Value("seven..")))
        name = models.CharField(max_length=20)


    class Small(models.Model):
        id = models.SmallAutoField(primary_key=True)
        name = models.CharField(max_length=20)


    class Note(models.Model):
        kind = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False)
        number = models.BigIntegerField()
        about = GenericForeignKey("kind", "number")
        text = models.TextField()


    class UuidNote(models.Model):
        kind = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False, null=True)
        number = models.CharField(max_length=40, null=True)
        about = GenericForeignKey("kind", "number")


    class Thing(models.Model):
        id = models.UUIDField(primary_key=True, default=uuid.uuid4)
        notes = GenericRelation(UuidNote, "number", "kind")


    class Tenant(models.Model):
        name = models.CharField(max_length=20)


    class User(models.Model):
        pk = models.CompositePrimaryKey("tenant_id", "id")
        tenant = models.ForeignKey(Tenant, models.CASCADE)
        id = models.SmallIntegerField()
        email = models.EmailField()


    class Comment(models.Model):
        tenant = models.ForeignKey(Tenant, models.CASCADE)
        user_id = models.SmallIntegerField()
        user = models.ForeignObject(
            User, models.CASCADE, from_fields=("tenant_id", "user_id"), to_fields=("tenant_id", "id")
        )
        text = models.TextField()


    class Group(models.Model):
        tenants = models.ManyToManyField(
            Tenant, through="Membership", through_fields=("group", "tenant")
        )
        things = models.ManyToManyField(Thing)


    class Membership(models.Model):
        group = models.ForeignKey(Group, models.CASCADE)
        tenant = models.ForeignKey(Tenant, models.CASCADE)
        inviter = models.ForeignKey(Tenant, models.CASCADE, related_name="invited", null=True)
        role = models.CharField(max_length=9)


    class PlainProxy(Tenant):
        class Meta:
            proxy = True


    class ProxyOfProxy(PlainProxy):
        class Meta:
            proxy = True


    class OfTenant(Tenant):
        plan = models.CharField(max_length=9)


    class ProxyOfChild(OfTenant):
        class Meta:
            proxy = True


    class OfThing(Thing):
        name = models.CharField(max_length=9)


    class OfOfThing(OfThing):
        size = models.IntegerField()


    class Worker(models.Model):
        worker_id = models.AutoField(primary_key=True)
        trade = models.CharField(max_length=9)


    class Owner(Tenant, Worker):
        share = models.IntegerField()


    class Heir(Owner):
        age = models.IntegerField()


    class Stamped(models.Model):
        pk = models.CompositePrimaryKey("number", "made_at")
        number = models.SmallIntegerField(unique=True)
        made_at = models.DateTimeField(auto_now_add=True)
        text = models.CharField(max_length=9)


    class Old(models.Model):
        name = models.CharField(max_length=9)

        def save(self, force_insert=False):
            self.name = self.name.upper()
            super().save(force_insert=force_insert)


    class Target(models.Model):
        name = models.CharField(max_length=9)


    class Unbound(models.Model):
        target = models.ForeignObject(
            Target, models.CASCADE, from_fields=("no_such_id",), to_fields=("id",), null=True
        )


    class Linked(models.Model):
        tenant = models.OneToOneField(Tenant, models.CASCADE, parent_link=True)


    class Number(str):
        __hash__ = None


    class NumberField(models.CharField):
        def from_db_value(self, value, expression, connection):
            return value and Number(value)

        def to_python(self, value):
            return value and Number(value)

        def get_db_prep_value(self, value, connection, prepared=False):
            return value and str(value)


    class Numbered(models.Model):
        number = NumberField(max_length=20, primary_key=True)
        document = type("Document", (models.JSONField,), {})()
        words = type("Words", (pg.ArrayField,), {})(models.CharField(max_length=9))
        path = models.FilePathField()
        level = type("Level", (models.IntegerField,), {})()


    class Moment(models.Model):
        moment = models.DateTimeField(primary_key=True)
        day = models.DateField(unique=True)
        time = models.TimeField(unique=True)
        duration = models.DurationField(unique=True)
        price = models.DecimalField(unique=True, max_digits=9, decimal_places=2)
        real = models.FloatField(unique=True)
        file = models.FileField(unique=True)
        address = models.GenericIPAddressField(unique=True)
        address_6 = models.GenericIPAddressField(unique=True, protocol="IPv6")
        binary = models.BinaryField(unique=True)
'''
TESTS = r"""
    import datetime
    import decimal
    import uuid

    from django.apps import apps
    from django.contrib.contenttypes.models import ContentType
    from django.db import connection, models
    from django.db.backends.postgresql.psycopg_any import DateRange, NumericRange
    from django.db.models.functions import Lower, Now
    from django.contrib.postgres.search import SearchVector
    from django.utils.safestring import mark_safe
    from django.utils.translation import gettext_lazy

    from itkit.test import IntegrationTestCase
    from kinds.models import *

    UTC = datetime.timezone.utc
    MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    ODD = "tab\t \\N \\. quote' \"x\" {a,b} é \n line"
    PLAIN = dict(
        big=2**62, binary=b"\x00\\x01\xff", boolean=True, char="a", date=MOMENT.date(),
        moment=MOMENT, decimal=decimal.Decimal("-1.250"), duration=datetime.timedelta(-1, 2, 3),
        email="a@example.com", file="a/b.txt", path="/tmp/x", real=0.1, address="10.0.0.1",
        unpacked="::ffff:a00:1", integer=-5, json={"a": [1, None, "\u00e9", ODD]}, positive=1,
        positive_big=2**40, positive_small=2, slug="a-b", small=-3, text=ODD,
        time=datetime.time(1, 2, 3, 4), url="https://example.com/", uuid=uuid.UUID(int=7),
        size=Size.LARGE, nothing=None,
    )
    OTHERWISE = [
        dict(big="17", binary=bytearray(b"x"), boolean="1", char=mark_safe("<b>")),
        dict(binary=memoryview(b"y"), boolean=0, char=gettext_lazy("Yes"), date="2026-02-03"),
        dict(moment="2026-02-03T04:05:06+02:00", decimal="3.5", duration=datetime.timedelta.max / 999),
        dict(moment=datetime.datetime.min.replace(year=2, tzinfo=UTC), decimal=2, real=decimal.Decimal("2.5")),
        dict(real=float("inf"), decimal=decimal.Decimal("0E-3"), date=datetime.date.max),
        dict(real=float("nan"), integer=True, address="::1", unpacked="1.2.3.4"),
        dict(json=None, integer=3.0, small="4", uuid="00000000-0000-0000-0000-00000000000a"),
        dict(json=models.Value(None, models.JSONField()), uuid=uuid.UUID(int=9).hex, time="05:06"),
        dict(json="a text", text="", char=" ", size="s", nothing=""),
        dict(json=[], text=Lower(models.Value("LOUD")), moment=Now()),
        dict(json=False, char=5, slug=Size.SMALL, url=gettext_lazy("No")),
    ]
    POSTGRES = dict(
        numbers=[1, None, -3], matrix=[["a", ODD], ["", "NULL"]], store={"a": "b", ODD: None},
        decimals=[decimal.Decimal("1.50")], ints=NumericRange(1, 5), bigs=NumericRange(None, 2**40),
        decs=NumericRange(decimal.Decimal("1.5"), None, "()"), dates=DateRange(MOMENT.date(), None),
        moments=(MOMENT, MOMENT + datetime.timedelta(1)), documents=[{"a": 1}, [2], ODD],
        days=[MOMENT.date()], stores=[{"a": "1"}, {}],
    )
    OTHER_POSTGRES = [
        dict(numbers=[], matrix=[], store={}, decimals=[], ints=NumericRange(empty=True)),
        dict(numbers=["5", 6], store={"n": 5}, ints=(2, 3), bigs=[None, None], nothing=(None, None)),
        dict(matrix=(("a",), ("b",)), decimals=["2.50", 3], dates=("2026-01-01", "2026-02-01")),
        dict(days=["2026-01-01"], decs=NumericRange(1, 2, "[]"), documents=[None, "x"]),
        dict(search=SearchVector(models.Value("a fat cat"))),
    ]


    class Fields(IntegrationTestCase):
        def check(self, model, *ways, count=4, **values):
            found, told = {}, []
            for bulk in ("never", "auto", "copy"):
                made = self.data.create_batch(model, count, bulk=bulk, **values)
                told.append(str(self.data.explain()))
                rows = [self.row(model, item) for item in self.ordered(model)]
                found[bulk] = (rows, [self.attributes(item) for item in made])
                model._base_manager.all().delete()
            for way, text in zip(ways, told[1:], strict=False):
                self.assertIn(way, text)
            for bulk in ("auto", "copy"):
                self.assertEqual(found[bulk], found["never"], f"{bulk} of {model.__name__}: {values}")
            return found["never"]

        def ordered(self, model):
            fields = [field for field in model._meta.concrete_fields]
            return model._base_manager.order_by("pk").values(*(field.attname for field in fields))

        def row(self, model, values):
            key = {field.name for field in model._meta.pk_fields}
            return {name: self.shown(value) for name, value in values.items() if name not in key}

        def attributes(self, instance):
            key = {field.attname for field in instance._meta.pk_fields}
            return {
                name: (type(value).__name__, self.shown(value))
                for name, value in vars(instance).items()
                if not name.startswith("_") and name not in key
            }

        def shown(self, value):
            if isinstance(value, datetime.datetime) and value.year > 2025 and value != MOMENT:
                return "a moment" if abs(datetime.datetime.now(UTC) - value).days < 1 else repr(value)
            return repr(bytes(value) if isinstance(value, memoryview) else value)

        def test_plain(self):
            rows, _ = self.check(Plain, "by INSERT", "by COPY", **PLAIN)
            self.assertEqual(len(rows), 4)
            self.assertEqual(rows[0]["text"], repr(ODD))

        def test_values_of_other_types(self):
            for change in OTHERWISE:
                with self.subTest(str(change)):
                    self.check(Plain, "by INSERT", **PLAIN | change)

        def test_postgres(self):
            rows, _ = self.check(Postgres, "by INSERT", "by INSERT", **POSTGRES)
            self.assertEqual(rows[0]["store"], repr({"a": "b", ODD: None}))
            for change in OTHER_POSTGRES:
                with self.subTest(str(change)):
                    self.check(Postgres, "by INSERT", **POSTGRES | change)

        def test_what_the_database_makes(self):
            rows, instances = self.check(Made, "by INSERT", "by INSERT", name="four")
            self.assertEqual(rows[0]["length"], "4")
            self.check(Made, name="four", level=9, made_at=MOMENT)
            self.check(MadeKey, count=1, name="a")
            self.check(Small, "by INSERT", "by COPY", name="a")

        def test_generic_keys(self):
            tenant, thing = self.data.create(Tenant, name="t"), self.data.create(Thing)
            for about in (tenant, thing):
                with self.subTest(type(about).__name__):
                    rows, _ = self.check(UuidNote, about=about)
                    self.assertEqual(rows[0]["number"], repr(str(about.pk)))
            rows, _ = self.check(Note, about=tenant, text="x")
            self.assertEqual(rows[0]["number"], repr(tenant.pk))
            self.check(Note, kind=ContentType.objects.get_for_model(Tenant), number=5, text="x")
            self.check(UuidNote, about=None)
            self.data.create_batch(UuidNote, 3, about=thing)
            self.assertEqual(thing.notes.count(), 3)

        def test_composite_keys(self):
            tenant = self.data.create(Tenant, name="t")
            self.check(User, "by INSERT", "by COPY", count=1, tenant=tenant, id=3, email="a@example.com")
            self.check(User, count=1, pk=(tenant.pk, 4), email="a@example.com")
            user = self.data.create(User, tenant=tenant, id=5, email="b@example.com")
            rows, _ = self.check(Comment, "by INSERT", "by COPY", user=user, text="x")
            self.assertEqual((rows[0]["tenant_id"], rows[0]["user_id"]), (repr(tenant.pk), "5"))

        def test_composite_keys_that_nobody_gives(self):
            for bulk in ("never", "auto", "copy"):
                for comment in self.data.create_batch(Comment, 2, bulk=bulk):
                    self.assertEqual(comment.user.pk, (comment.tenant_id, comment.user_id))
                    self.assertEqual(User.objects.get(pk=comment.user.pk).tenant, comment.tenant)
            user = self.data.create(User)
            known = self.data.create(Comment, tenant=user.tenant, user_id=user.id)
            self.assertEqual((known.user, User.objects.count()), (user, 7))
            made = self.data.create(Comment, user__email="a@example.com", tenant=user.tenant)
            self.assertEqual((made.user.email, made.user.tenant), ("a@example.com", user.tenant))
            self.assertEqual(len(self.data.create_batch(Target, 3)), 3)  # Django cannot delete them
            for bulk in ("never", "auto", "copy"):
                self.assertEqual(len(self.data.create_batch(Stamped, 3, bulk=bulk, text="x")), 3)
            self.assertEqual(Stamped.objects.filter(made_at__isnull=False, text="x").count(), 9)

        def test_proxies(self):
            for model in (PlainProxy, ProxyOfProxy):
                rows, _ = self.check(model, "by INSERT", "by COPY", name="x")
                self.assertEqual(rows[0]["name"], "'x'")
            for bulk in ("never", "auto", "copy"):
                made = self.data.create_batch(ProxyOfChild, 3, bulk=bulk, name="x", plan=bulk)
                found = OfTenant.objects.filter(name="x", plan=bulk)
                self.assertCountEqual([item.pk for item in made], [item.pk for item in found])

        def test_inheritance(self):
            for bulk in ("never", "auto", "copy"):
                for item in self.data.create_batch(OfOfThing, 3, bulk=bulk, name="x"):
                    again = OfOfThing.objects.get(size=item.size, pk=item.id)
                    self.assertEqual((again.ofthing_ptr_id, item.ofthing_ptr_id), (item.id, item.id))
                heir = self.data.create_batch(Heir, 2, bulk=bulk, name="n", trade="t", share=1)[1]
                again = Heir.objects.get(pk=heir.pk)
                self.assertEqual((again.name, again.trade, again.owner_ptr.share), ("n", "t", 1))
                tenant = self.data.create(Tenant, name="t")
                child, = self.data.create_batch(OfTenant, 1, bulk=bulk, tenant_ptr=tenant, plan="p")
                self.assertEqual((child.pk, tenant.oftenant.plan), (tenant.pk, "p"))
                self.assertEqual(len({x.tenant.pk for x in self.data.create_batch(Linked, 2, bulk=bulk)}), 2)

        def test_a_save_of_old(self):
            rows, _ = self.check(Old, name="x")
            self.assertEqual(rows[0]["name"], "'X'")

        def test_what_model_bakery_does_not_know(self):
            for bulk in ("never", "auto", "copy"):
                made = self.data.create_batch(Numbered, 3, bulk=bulk)
                self.assertEqual(len({str(item.number) for item in made}), 3)
                self.assertEqual(made[0].words, [])
            self.assertEqual(Numbered.objects.exclude(path="").count(), 9)

        def test_what_differs(self):
            for bulk in ("never", "auto", "copy"):
                self.data.create_batch(Moment, 20, bulk=bulk)
            self.assertEqual(Moment.objects.count(), 60)

        def test_many_to_many(self):
            tenants, things = self.data.create_batch(Tenant, 2), self.data.create_batch(Thing, 2)
            for bulk in ("never", "auto", "copy"):
                groups = self.data.create_batch(Group, 3, things=things, bulk=bulk)
                self.assertEqual([group.things.count() for group in groups], [2, 2, 2])
                self.check(Membership, "by INSERT", "by COPY", group=groups[0], tenant=tenants[0], inviter=tenants[1], role="x")
"""


@pytest.mark.slow
def test_all_kinds_of_fields(project: Project) -> None:
    project.write("kinds/__init__.py", "")
    project.write("kinds/models.py", MODELS)
    project.settings("""
        INSTALLED_APPS += ["django.contrib.postgres", "kinds"]
        ITKIT["POSTGRES"] = {"EXTENSIONS": ["hstore"]}
    """)
    write_tests(project, TESTS)
    result = project.test("--integration")
    assert result.counts == {"passed": 13}, result.output

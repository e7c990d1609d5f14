import uuid

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.functions import Now, Upper
from django.utils.text import slugify


class Author(models.Model):
    name = models.CharField(max_length=50)
    joined_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(auto_now=True)


class Label(models.Model):
    """Goes by a key of its own."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    text = models.CharField(max_length=20)


class Post(models.Model):
    """Many to many, JSON, a value of the database and one that it computes."""

    author = models.ForeignKey(Author, models.CASCADE, related_name="posts")
    title = models.CharField(max_length=50)
    extra = models.JSONField(default=dict)
    body = models.BinaryField(default=b"\x00\\raw")
    price = models.DecimalField(max_digits=6, decimal_places=2, null=True)
    lasts = models.DurationField(null=True)
    day = models.DateField(null=True)
    address = models.GenericIPAddressField(null=True)
    score = models.FloatField(default=0.1)
    labels = models.ManyToManyField(Label)
    editors = models.ManyToManyField(Author, through="Editing", related_name="edited")


class Editing(models.Model):
    post = models.ForeignKey(Post, models.CASCADE)
    author = models.ForeignKey(Author, models.CASCADE)
    role = models.CharField(max_length=10)


class Computed(models.Model):
    name = models.CharField(max_length=20)
    shouted = models.GeneratedField(
        expression=Upper("name"), output_field=models.CharField(max_length=20), db_persist=True
    )
    made_at = models.DateTimeField(db_default=Now())
    level = models.IntegerField(db_default=7)


class Place(models.Model):
    name = models.CharField(max_length=20)


class Cafe(Place):
    """Inherits a table."""

    seats = models.IntegerField()


class Bistro(Cafe):
    """Inherits two, one above the other."""

    owner = models.ForeignKey(Author, models.PROTECT)


class Kiosk(Cafe):
    """Another class for the same table."""

    class Meta:
        proxy = True


class Node(models.Model):
    parent = models.ForeignKey("self", models.CASCADE, null=True)
    depth = models.IntegerField(default=0)


class Remark(models.Model):
    """About a row of any model."""

    # Without a constraint: the tables of apps without migrations are made before all others.
    kind = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False)
    key = models.CharField(max_length=40)
    about = GenericForeignKey("kind", "key")
    text = models.CharField(max_length=50)


class Profile(models.Model):
    """Has its author's key."""

    author = models.OneToOneField(Author, models.CASCADE, primary_key=True)
    motto = models.CharField(max_length=50)


class Country(models.Model):
    code = models.CharField(max_length=8, unique=True)


class City(models.Model):
    """References a column that is no key."""

    country = models.ForeignKey(Country, models.CASCADE, to_field="code")


class Slugged(models.Model):
    """Fills itself in as it is saved, by what is there before."""

    title = models.CharField(max_length=50)
    slug = models.CharField(max_length=60)

    def save(self, *args, **kwargs):
        if not self.pk:
            taken = Slugged.objects.using(kwargs.get("using")).filter(title=self.title).count()
            self.slug = f"{slugify(self.title)}-{taken}"
        super().save(*args, **kwargs)


class Heard(models.Model):
    """Receivers listen to its signals."""

    name = models.CharField(max_length=20)
    heard = models.CharField(max_length=20, default="")


class Echo(models.Model):
    """What a receiver makes of a Heard."""

    heard = models.OneToOneField(Heard, models.CASCADE)


class Counting(models.Manager):
    def create(self, **values):
        return super().create(number=self.count() + 1, **values)


class Counted(models.Model):
    """Its manager creates in a way of its own."""

    number = models.IntegerField(default=0)

    objects = Counting()


class Serial(models.CharField):
    """Gets its value when the row is written, by those that are there."""

    using = "default"

    def pre_save(self, instance, add):
        if add:
            rows = type(instance)._base_manager.using(self.using)
            setattr(instance, self.attname, f"no. {rows.count() + 1}")
        return super().pre_save(instance, add)


class Ticket(models.Model):
    serial = Serial(max_length=20, unique=True, default="")


class Login(AbstractBaseUser):
    email = models.EmailField(unique=True)

    USERNAME_FIELD = "email"


class Attachment(models.Model):
    file = models.FileField(upload_to="attachments", blank=True)


class Chapter(models.Model):
    post = models.ForeignKey(Post, models.CASCADE)

    class Meta:
        order_with_respect_to = "post"


class Tagged(models.Model):
    """Made by a factory that takes what there is."""

    name = models.CharField(max_length=20, unique=True)


class Firm(models.Model):
    """One half of a circle."""

    name = models.CharField(max_length=20)
    head = models.ForeignKey("Worker", models.SET_NULL, null=True, related_name="heads")


class Worker(models.Model):
    firm = models.ForeignKey(Firm, models.CASCADE, related_name="workers")
    boss = models.ForeignKey("self", models.PROTECT, null=True)

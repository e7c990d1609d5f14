from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models


class Customer(models.Model):
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=100)


class Tag(models.Model):
    name = models.CharField(max_length=30)


class Product(models.Model):
    """No factory: unique columns of every kind, one of them very short."""

    sku = models.CharField(max_length=3, unique=True)
    slug = models.SlugField(unique=True)
    shelf = models.PositiveSmallIntegerField(unique=True)
    supplier_email = models.EmailField()
    price = models.DecimalField(max_digits=8, decimal_places=2)
    tags = models.ManyToManyField(Tag)


class Bundle(Product):
    """Inherits a table."""

    discount = models.IntegerField(default=10)


class Order(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE)
    status = models.CharField(max_length=20, default="pending")


class OrderLine(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.PositiveIntegerField(default=1)
    price = models.DecimalField(max_digits=8, decimal_places=2)


class Payment(models.Model):
    order = models.ForeignKey(Order, models.PROTECT)
    amount = models.DecimalField(max_digits=8, decimal_places=2)


class AuditEntry(models.Model):
    order = models.ForeignKey(Order, models.SET_NULL, null=True)


class VisibleNotes(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(is_deleted=False)


class Note(models.Model):
    """Soft deletion: neither its manager nor delete() lets a row go."""

    order = models.ForeignKey(Order, models.CASCADE)
    is_deleted = models.BooleanField(default=False)

    objects = VisibleNotes()

    class Meta:
        base_manager_name = "objects"

    def delete(self, *args, **kwargs):
        self.is_deleted = True
        self.save()


class Team(models.Model):
    """One half of a cycle that cannot be null."""

    lead = models.ForeignKey("Member", models.PROTECT, related_name="leads")


class Member(models.Model):
    team = models.ForeignKey(Team, models.PROTECT)


class Category(models.Model):
    parent = models.ForeignKey("self", models.PROTECT, null=True)


class Shelf(models.Model):
    """Unique together with what references it."""

    category = models.ForeignKey(Category, models.CASCADE)
    letter = models.CharField(max_length=1)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["category", "letter"], name="one_shelf_per_letter"),
        )


class Coupon(models.Model):
    """Referenced by its code, not by its key."""

    code = models.CharField(max_length=20, unique=True)


class Redemption(models.Model):
    coupon = models.ForeignKey(Coupon, models.PROTECT, to_field="code")


class Account(AbstractBaseUser):
    """Logs in, and has a factory."""

    email = models.EmailField(unique=True)

    USERNAME_FIELD = "email"


class Group(models.Model):
    """Called like a model of django.contrib.auth."""


class Device(models.Model):
    """Several factories, none of them the default."""

    name = models.CharField(max_length=30)

"""What the shop remembers."""

from decimal import Decimal
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q


class UserManager(BaseUserManager["User"]):
    """Creates users by e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Create a user; without a password the user cannot log in."""
        user = self.model(email=email.lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user


class User(AbstractBaseUser):
    """A customer, who logs in with an e-mail address in lower case."""

    email = models.EmailField(unique=True)
    phone = models.CharField(max_length=20, blank=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"

    def __str__(self) -> str:
        return self.email


class Product(models.Model):
    """Something for sale: ``stock`` pieces in the house, of which ``reserved`` are sold."""

    sku = models.SlugField(unique=True)
    name = models.CharField(max_length=200)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    stock = models.PositiveIntegerField(default=0)
    reserved = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(stock__gte=F("reserved")), name="product_reserved_within_stock"
            ),
            models.CheckConstraint(condition=Q(price__gte=0), name="product_price_not_negative"),
        ]
        indexes = [
            GinIndex(fields=["name"], opclasses=["gin_trgm_ops"], name="product_name_trigram")
        ]

    def __str__(self) -> str:
        return self.name


class Cart(models.Model):
    """What a user intends to buy."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="carts")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"Cart {self.pk}"


class CartItem(models.Model):
    """A product in a cart."""

    cart = models.ForeignKey(Cart, models.CASCADE, related_name="items")
    product = models.ForeignKey(Product, models.CASCADE)
    quantity = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cart", "product"], name="cart_item_once_per_product"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="cart_item_not_empty"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product}"


class Order(models.Model):
    """What a user bought, and how far it has come."""

    class Status(models.TextChoices):
        """The steps of an order, in their order."""

        PENDING = "pending"
        PAYING = "paying"
        PAYMENT_FAILED = "payment_failed"
        PAID = "paid"
        SHIPPED = "shipped"
        DELIVERED = "delivered"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="orders")
    # One order per cart: the database refuses a second checkout.
    cart = models.OneToOneField(Cart, models.SET_NULL, null=True, blank=True)
    status = models.CharField(max_length=20, choices=Status, default=Status.PENDING)
    total = models.DecimalField(max_digits=10, decimal_places=2, default=Decimal(0))
    card_token = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(total__gte=0), name="order_total_not_negative"),
        ]

    def __str__(self) -> str:
        return f"Order {self.pk}"

    @property
    def total_in_cents(self) -> int:
        """The total as payment services take it."""
        return int(self.total * 100)


class OrderLine(models.Model):
    """A product in an order, at the price of that day."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.PositiveIntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2)
    is_reserved = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gt=0), name="order_line_not_empty"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product}"


class Payment(models.Model):
    """One attempt to pay an order."""

    order = models.ForeignKey(Order, models.PROTECT, related_name="payments")
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    success = models.BooleanField()
    transaction_id = models.CharField(max_length=100, blank=True)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["order"], condition=Q(success=True), name="payment_succeeds_once"
            ),
        ]

    def __str__(self) -> str:
        return self.transaction_id or self.error


class ShippingMethod(models.Model):
    """A way to send a parcel; the shop's own come with a migration."""

    code = models.SlugField(unique=True)
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=10, decimal_places=2)

    def __str__(self) -> str:
        return self.name


class Shipment(models.Model):
    """The parcel of an order."""

    order = models.OneToOneField(Order, models.PROTECT)
    method = models.ForeignKey(ShippingMethod, models.PROTECT)
    tracking_number = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.tracking_number


class Notification(models.Model):
    """A message to a user over one channel; ``error`` is empty when it was sent."""

    class Channel(models.TextChoices):
        """How a message travels."""

        EMAIL = "email"
        SMS = "sms"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notifications")
    channel = models.CharField(max_length=10, choices=Channel)
    message = models.TextField()
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.message

"""The same shop, for rows that model_bakery fills in."""

from django.db import models


class Customer(models.Model):
    """Who orders."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=100)


class Product(models.Model):
    """What is ordered."""

    sku = models.CharField(max_length=20, unique=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)


class Order(models.Model):
    """What a customer orders at once."""

    customer = models.ForeignKey(Customer, models.CASCADE)
    status = models.CharField(max_length=20, default="pending")
    created_at = models.DateTimeField(auto_now_add=True)


class Line(models.Model):
    """One product of an order."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.PositiveIntegerField(default=1)
    price = models.DecimalField(max_digits=8, decimal_places=2)

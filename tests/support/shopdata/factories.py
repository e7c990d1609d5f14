import factory
from factory.django import DjangoModelFactory, Password

from tests.support.shopdata import models


class CustomerFactory(DjangoModelFactory):
    class Meta:
        model = models.Customer

    email = factory.Sequence(lambda n: f"customer{n}@example.com")
    name = "Ada"


class VipCustomerFactory(CustomerFactory):
    name = "Grace"


class PaymentFactory(DjangoModelFactory):
    class Meta:
        model = models.Payment

    order = factory.SubFactory("tests.support.shopdata.factories.OrderFactory")
    amount = 65


class OrderFactory(DjangoModelFactory):
    class Meta:
        model = "shopdata.Order"
        skip_postgeneration_save = True

    class Params:
        paid = factory.Trait(
            status="paid",
            payment=factory.RelatedFactory(PaymentFactory, factory_related_name="order"),
        )

    customer = factory.SubFactory(CustomerFactory)


class TagFactory(DjangoModelFactory):
    class Meta:
        model = models.Tag
        django_get_or_create = ("name",)

    name = "new"


class CouponFactory(DjangoModelFactory):
    class Meta:
        model = models.Coupon
        skip_postgeneration_save = True

    code = factory.Sequence(lambda n: f"coupon{n}")

    @factory.post_generation
    def redemption_set(self, _create, count):
        for _ in range(count or 0):
            models.Redemption(coupon=self).save(using=self._state.db)


class AccountFactory(DjangoModelFactory):
    class Meta:
        model = models.Account

    email = "always@example.com"
    password = Password("the factory's")


class PhoneFactory(DjangoModelFactory):
    class Meta:
        model = models.Device

    name = "phone"


class LaptopFactory(DjangoModelFactory):
    class Meta:
        model = models.Device

    name = "laptop"

from django.apps import AppConfig


class ShopDataConfig(AppConfig):
    name = "tests.support.shopdata"
    default_auto_field = "django.db.models.BigAutoField"

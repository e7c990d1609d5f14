"""The shop's application."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Registers the shop under the label ``shop``."""

    name = "example_project.shop"

"""The test case of the shop."""

from example_project.shop.tests.keys import keep_keys_apart
from itkit.test import IntegrationTestCase


class ShopTestCase(IntegrationTestCase):
    """Has keys that no two tables have in common, so that the key of the wrong row is noticed."""

    def setUp(self):
        super().setUp()
        keep_keys_apart()

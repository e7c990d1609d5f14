"""What the functions of the example have in common."""

import pytest

from example_project.shop.tests.keys import keep_keys_apart


@pytest.fixture
def keys_apart(data):
    """Let the keys of each table begin elsewhere, so that the key of the wrong row is noticed."""
    keep_keys_apart()

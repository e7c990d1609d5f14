"""A mistake of a test's author in the set-up is an error, and in the test a failure."""

import re

import pytest

from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    from django.test import TestCase
    from itkit.test import IntegrationMixin, IntegrationTestCase


    class Committed(IntegrationTestCase):
        def setUp(self):
            self.data.create("shop.Custmer")

        def test_set_up(self):
            pass


    class Subclass(Committed):
        def setUp(self):
            super().setUp()

        async def test_set_up(self):
            pass



    class RolledBack(IntegrationMixin, TestCase):
        def setUp(self):
            self.backends.paymnts

        def test_set_up(self):
            pass


    class ForAll(IntegrationTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            cls.data.create("shop.Custmer")

        def test_set_up(self):
            pass


    class InTest(IntegrationTestCase):
        def test_fails(self):
            self.data.create("shop.Custmer")
"""
ASYNCHRONOUS = """
    from unittest import IsolatedAsyncioTestCase

    from itkit import TestDataManager


    class Asynchronous(IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            TestDataManager().create("shop.Custmer")

        async def test_set_up(self):
            pass
"""
FIXTURES = """
    import pytest


    @pytest.fixture
    def customer(data):
        return data.create("shop.Custmer")


    @pytest.mark.integration
    def test_set_up(customer):
        pass


    @pytest.mark.integration
    def test_fails(data):
        data.create("shop.Custmer")
"""


@pytest.mark.parametrize("door", DOORS)
def test_set_up_is_in_error_and_a_test_fails(door: str, project: Project) -> None:
    write_tests(project, TESTS)
    is_sent = door.startswith("django, two")  # which Django cannot do with an asynchronous one
    if not is_sent:
        project.write("shop/tests/test_asynchronous.py", ASYNCHRONOUS)
    if "django" not in door:
        project.write("shop/tests/test_fixtures.py", FIXTURES)
    result = enter(door, project)
    if "django" in door:
        errors = 5 - is_sent
        assert f"FAILED (failures=1, errors={errors})" in result.output, result.output
        found = re.findall(r"^ERROR: .*(?:test_set_up|setUpClass)", result.output, re.MULTILINE)
        assert len(found) == errors
        assert re.findall(r"^FAIL: (\w+)", result.output, re.MULTILINE) == ["test_fails"]
    else:
        assert result.counts == {"failed": 2, "error": 6}, result.output
        assert "ERROR at setup of Committed.test_set_up" in result.output
    assert "Did you mean" in result.output

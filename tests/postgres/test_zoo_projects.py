"""A project whose migrations make one of every kind of object is cloned, kept, reset and claimed."""

import textwrap

import pytest

from tests.support.doors import slow
from tests.support.projects import Project
from tests.support.zoo import zoo

TESTS = """
    from django.db import connection
    from django.test import TransactionTestCase

    from itkit.test import IntegrationTestCase
    from shop.models import Customer


    def tables():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
            )
            return cursor.fetchone()[0]


    class First(IntegrationTestCase):
        def test_1(self):
            self.assertGreater(tables(), 150)
            Customer.objects.create(email="a@example.com")

        def test_2(self):
            self.test_1()


    class Second(First):
        pass
"""


@pytest.mark.parametrize(
    ("source", "isolation"),
    [
        ("embedded", "schema"),
        ("embedded", "database"),
        ("system", "schema"),
        slow("system", "database"),
    ],
)
@pytest.mark.slow
def test_the_whole_zoo(
    source: str, isolation: str, project: Project, request: pytest.FixtureRequest
) -> None:
    if source == "system":
        request.getfixturevalue("system_url")  # which skips where there is none
    version = 18 if source == "embedded" else 15
    # A cluster with unlogged tables is not saved, as the run says.
    script = zoo(version).replace("CREATE UNLOGGED", "CREATE")
    project.env |= {"ITKIT_SOURCE": source, "ITKIT_POSTGRES_ISOLATION": isolation}
    project.write(
        "shop/migrations/0002_zoo.py",
        f"""
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunSQL({script!r})]
""",
    )
    project.write("shop/tests/__init__.py", "")
    project.write("shop/tests/test_shop.py", textwrap.dedent(TESTS))
    for _ in range(2):
        result = project.test("--integration", "--parallel", "2")
        assert result.counts == {"passed": 4}, result.output
        assert "migrates anew" not in result.output
        assert "is not saved" not in result.output
        assert "the structure of the database" not in result.output
    assert "Creating test database" not in result.output  # the second run has claimed what was kept

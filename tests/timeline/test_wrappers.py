"""What Django's connections have of ours holds in each thread, beside a loop, and for new ones.

A connection is another object in each thread, and in a thread in which a loop runs.
"""

import psycopg
import pytest

from tests.support.doors import write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

TESTS = """
    import asyncio
    import threading

    from django.db import connection, connections
    from itkit.test import IntegrationTestCase
    from shop.models import Customer

    HERE = [connections["default"]]


    class Wrappers(IntegrationTestCase):
        def insert(self, connection):
            try:
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO shop_customer (email) VALUES (%s)", [str(id(connection))])
            finally:
                connection.close()

        def assert_recorded(self):
            self.timeline.assert_order("INSERT shop_customer")
            self.assertEqual(Customer.objects.count(), 1)

        def test_created_by_hand(self):
            made = connections.create_connection("default")
            self.assertEqual(type(made.creation).__name__, "SchemaCreation")
            self.assertEqual(type(made.client).__name__, "PlaceClient")
            self.insert(made)
            self.assert_recorded()

        def test_copied(self):
            made = connection.copy()
            self.assertNotEqual(type(made.creation).__name__, "SchemaCreation")
            self.insert(made)
            self.assert_recorded()

        def test_with_an_alias_of_its_own(self):
            made = connection.copy("of no settings")
            self.insert(made)
            self.timeline.assert_order("INSERT shop_customer")
            self.assertEqual(Customer.objects.count(), 1)

        def test_in_a_thread(self):
            made = []

            def work():
                made.append(type(connections["default"].creation).__name__)
                self.insert(connections["default"])

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            self.assertEqual(made, ["SchemaCreation"])
            self.assert_recorded()

        def test_whoever_clears_the_wrappers(self):
            connection.execute_wrappers.clear()
            Customer.objects.create(email="a@example.com")
            self.assert_recorded()

        def test_the_wrappers_are_the_projects(self):
            Customer.objects.count()
            self.assertEqual(connection.execute_wrappers, [])

        def test_beside_a_loop(self):
            # As browsers leave it in the thread of the tests; the project allows it.
            asyncio._set_running_loop(loop := asyncio.new_event_loop())
            try:
                self.assertIsNot(connections["default"], HERE[0])
                self.assertEqual(type(connections["default"].creation).__name__, "SchemaCreation")
                self.insert(connections["default"])
            finally:
                asyncio._set_running_loop(None)
                loop.close()
            self.assert_recorded()
"""

LOOP = """
    import asyncio

    import pytest

    @pytest.fixture(scope="session", autouse=True)
    def loop():
        asyncio._set_running_loop(made := asyncio.new_event_loop())
        yield
        asyncio._set_running_loop(None)
        made.close()
"""

IN_LOOP = """
    import pytest
    from shop.models import Currency, Customer

    @pytest.mark.django_db(transaction=True)
    def test_a():
        assert not Customer.objects.exists()
        Customer.objects.create(email="a@example.com")

    @pytest.mark.integration
    def test_b(data, timeline):
        assert not Customer.objects.exists()
        data.create("shop.Customer", email="b@example.com")
        assert Currency.objects.get().code == "EUR"
        timeline.assert_order("INSERT shop_customer")

    @pytest.mark.django_db
    def test_c():
        assert not Customer.objects.exists()
"""


@pytest.mark.parametrize("isolation", ["schema", "database"])
def test_connections_of_all_kinds(isolation: str, project: Project) -> None:
    write_tests(project, TESTS)
    env = {"ITKIT_POSTGRES_ISOLATION": isolation, "DJANGO_ALLOW_ASYNC_UNSAFE": "true"}
    result = project.test("--integration", **env)
    assert result.counts == {"passed": 7}, result.output


@pytest.mark.parametrize("isolation", ["schema", "database"])
def test_a_loop_that_runs_before_the_database_is_made(
    isolation: str, project: Project, postgres_url: str
) -> None:
    def databases() -> set[str]:
        with psycopg.connect(postgres_url) as connection:
            found = connection.execute("SELECT datname FROM pg_database").fetchall()
        return {name for (name,) in found if not name.startswith("itkit_")}

    before = databases()
    write_tests(project, IN_LOOP)
    project.write("conftest.py", LOOP)
    env = {"ITKIT_POSTGRES_ISOLATION": isolation, "DJANGO_ALLOW_ASYNC_UNSAFE": "true"}
    result = project.pytest("--integration", **env)
    assert result.counts == {"passed": 3}, result.output
    assert databases() == before

"""What a small run costs before and after its tests: sessions on the server, and modules."""

import re
from contextlib import closing
from dataclasses import replace

import pytest

from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.postgres.reset import contents, initial_rows
from itkit.postgres.server.driver import Connection, connect
from itkit.postgres.server.server import value
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project, wait_until

TESTS = """
    from django.db import connection
    from django.test import TestCase

    from itkit.test import IntegrationTestCase
    from shop.models import Currency, Customer

    OF_RESETS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'itkit reset'"


    def resets():
        with connection.cursor() as cursor:
            cursor.execute(OF_RESETS)
            return cursor.fetchone()[0]


    class ARolledBack(TestCase):
        def test_a(self):
            Customer.objects.create(email="a@example.com")
            self.assertEqual(resets(), 1)

        def test_b(self):
            self.assertFalse(Customer.objects.exists())
            self.assertEqual(resets(), 1)


    class BCommitted(IntegrationTestCase):
        def test_a(self):
            self.data.create(Customer)
            Currency.objects.all().delete()
            self.assertEqual(resets(), 2)
"""
SESSIONS = "SELECT sum(sessions) FROM pg_stat_database"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
SERVER = 4  # is there one, the database of the tests, its keeper, may a role log in
WORKER = 4  # Django's, two of the reset, Django's of the second class; the keeper does the rest
END = 1  # who else uses the server


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
def test_a_run_opens_few_sessions(project: Project, kept_url: str, door: str) -> None:
    write_tests(project, TESTS)
    result = enter(door, project)
    assert result.counts == {"passed": 3}, result.output
    with closing(connect(kept_url)) as own:
        assert wait_until(lambda: value(own, OTHERS) == 1)
        before = value(own, SESSIONS)
        result = enter(door, project)
        assert result.counts == {"passed": 3}, result.output
        assert wait_until(lambda: value(own, OTHERS) == 1)
        assert value(own, SESSIONS) - before <= SERVER + WORKER + END


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.parametrize("door", SERIAL)
def test_a_schema_is_given_back_although_the_keeper_has_died(
    project: Project, kept_url: str, door: str
) -> None:
    write_tests(
        project,
        """
        from django.db import connection
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        class Shop(IntegrationTestCase):
            def test_the_session_of_the_run_is_ended(self):
                Customer.objects.create(email="a@example.com")
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT pg_terminate_backend(pid, 9000) FROM pg_stat_activity"
                        " WHERE application_name LIKE 'itkit keeper %'"
                    )
        """,
    )
    result = enter(door, project, ITKIT_POSTGRES_ROLE="project")
    assert "could not be dropped" in result.output, result.output
    found = re.search(r"schema (itkit_\w+) in the database (\w+)", result.output)
    assert found is not None
    with closing(connect(str(replace(parse(kept_url, POSTGRES_SCHEMES), name=found[2])))) as own:
        assert value(own, "SELECT to_regnamespace(%s)", [found[1]]) is None


class Counted(Connection):
    """A session that counts its statements."""

    statements = 0

    def execute(self, *args, **kwargs):
        self.statements += 1
        return super().execute(*args, **kwargs)


def test_many_tables_take_no_more_round_trips(postgres_url: str) -> None:
    with closing(Counted(connect(postgres_url).raw)) as own:
        found = []
        for number in (2, 40):
            own.execute("CREATE SCHEMA start_place; CREATE SCHEMA start_seeds")
            for table in range(number):
                own.execute(f"CREATE TABLE start_place.t{table} (id serial)")
                own.execute(
                    f"INSERT INTO start_place.t{table} SELECT FROM generate_series(0, {table})"
                )
            own.execute("CREATE MATERIALIZED VIEW start_place.v AS SELECT * FROM start_place.t1")
            initial_rows.keep(own, "start_place", "start_seeds")
            own.statements = 0
            items = contents.read(own, {"start_place": "start_seeds"}, is_replica=True)
            found.append(own.statements)
            counts = {item.name.as_string(): getattr(item, "initial_count", item) for item in items}
            assert counts['"start_place"."t1"'] == counts['"start_place"."v"'] == 2
            assert counts['"start_place"."t1_id_seq"'].value == 2
            assert len(items) == 2 * number + 1
            own.execute("DROP SCHEMA start_place, start_seeds CASCADE")
        assert found[0] == found[1]

"""Where schemas of tests are in the project's own database, what lies outside of them is watched."""

import re

import pytest

from tests.support.doors import enter, write_tests
from tests.support.projects import Project
from tests.support.sentinel import Sentinel

TESTS = """
    import threading

    import psycopg
    from django.conf import settings
    from django.db import connection
    from django.test import TestCase, TransactionTestCase

    from shop.models import Customer


    def run(statement):
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


    def wait_for_the_end_of(pid):
        # A session hands on what it has counted when it ends.
        while run(f"SELECT true FROM pg_stat_activity WHERE pid = {pid}"):
            pass


    def by_a_client_of_its_own(statement):
        database = settings.DATABASES["default"]
        with psycopg.connect(
            host=database["HOST"], port=database["PORT"], user=database["USER"],
            dbname=database["NAME"], autocommit=True,
        ) as own:
            own.execute(statement)
            pid = own.info.backend_pid
        wait_for_the_end_of(pid)


    class Escapes(TransactionTestCase):
        def test_a_keeps_to_its_own(self):
            Customer.objects.create(email="a@example.com")

        def test_b_deletes_rows(self):
            run("DELETE FROM public.shop_customer WHERE email = 'mine@example.com'")

        def test_c_keeps_to_its_own(self):
            Customer.objects.create(email="a@example.com")
            self.assertEqual(Customer.objects.count(), 1)

        def test_d_sets_a_path(self):
            run("SET search_path TO public")
            Customer.objects.update(email="changed@example.com")

        def test_e_empties_a_table(self):
            run("TRUNCATE public.shop_currency")

        def test_f_has_a_client_of_its_own(self):
            by_a_client_of_its_own("INSERT INTO reporting.fact (number) VALUES ('from a test')")

        def test_g_alters_a_table(self):
            run("ALTER TABLE reporting.fact ADD COLUMN note text")

        def test_h_writes_in_a_thread(self):
            pids = []

            def write():
                pids.extend(pid for (pid,) in run("SELECT pg_backend_pid()"))
                run("UPDATE public.shop_currency SET code = 'XXX'")
                run("INSERT INTO public.shop_currency (code) VALUES ('YYY')")
                connection.close()

            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
            wait_for_the_end_of(pids[0])

        def test_i_makes_a_schema(self):
            run("CREATE SCHEMA warehouse")

        def test_j_unlinks_a_large_object(self):
            run("SELECT lo_create(77)")
            run("SELECT lo_put(77, 0, 'from a test')")

        def test_k_reads_only(self):
            run("SELECT * FROM public.shop_customer")
            run("CREATE TEMP TABLE t AS SELECT 1 AS n")
            Customer.objects.create(email="a@example.com")


    class RolledBack(TestCase):
        def test_l_is_rolled_back(self):
            Customer.objects.create(email="a@example.com")
            self.assertEqual(Customer.objects.count(), 1)
"""
FOUND = {
    "test_b_deletes_rows": "rows of public.shop_customer: 1 deleted",
    "test_d_sets_a_path": "rows of public.shop_customer: 1 updated",
    "test_e_empties_a_table": "the table public.shop_currency was altered",
    "test_f_has_a_client_of_its_own": "rows of reporting.fact: 1 inserted",
    "test_g_alters_a_table": "the table reporting.fact was altered",
    "test_h_writes_in_a_thread": "rows of public.shop_currency: 1 inserted",
    "test_i_makes_a_schema": "the schema warehouse was created",
    "test_j_unlinks_a_large_object": "rows of pg_catalog.pg_largeobject: 1 inserted",
}
IN_PROJECT = {"ITKIT_POSTGRES_IN_PROJECT_DATABASE": "1"}
ROLLED_BACK = """
    import psycopg
    from django.conf import settings
    from django.test import TestCase


    class RolledBack(TestCase):
        def test_a(self):
            database = settings.DATABASES["default"]
            with psycopg.connect(
                host=database["HOST"], port=database["PORT"], user=database["USER"],
                dbname=database["NAME"], autocommit=True,
            ) as own:
                own.execute("DELETE FROM reporting.fact")
"""


@pytest.mark.parametrize("door", ["django", "pytest"])
def test_each_test_that_writes_outside_fails(
    project: Project, sentinel: Sentinel, door: str
) -> None:
    sentinel.point(project, "poor")
    write_tests(project, TESTS)
    result = enter(door, project, **IN_PROJECT)
    shown = r"^(?:ERROR|FAIL): (test_\w+) " if door == "django" else r"^_+ Escapes\.(test_\w+) _+$"
    failed = set(re.findall(shown, result.output, re.MULTILINE))
    assert failed == set(FOUND), result.output
    for found in FOUND.values():
        assert found in result.output
    assert "itkit: The run has written outside of the tests' schema" in result.output


@pytest.mark.parametrize("door", ["django", "pytest", "pytest, two xdist workers"])
def test_a_run_fails_where_no_test_can_be_named(
    project: Project, sentinel: Sentinel, door: str
) -> None:
    sentinel.point(project, "poor")
    write_tests(project, ROLLED_BACK)
    result = enter(door, project, **IN_PROJECT)
    assert result.code == 1
    assert "itkit: The run has written outside of the tests' schema, in the database 'dev'" in (
        result.output
    )
    assert "rows of reporting.fact: 1 deleted" in result.output


LEAVES = """
    from django.db import connection
    from django.test import TransactionTestCase

    from shop.models import Customer


    class Leaves(TransactionTestCase):
        def test_schemas(self):
            Customer.objects.create(email="a@example.com")
            with connection.cursor() as cursor:
                cursor.execute("CREATE SCHEMA customer_1 CREATE TABLE t (n int)")
                cursor.execute("CREATE TABLE public.left_behind (n int)")
"""


@pytest.mark.parametrize("door", ["django", "pytest"])
def test_what_tests_leave_in_a_database_of_itkits_own_does_not_reach_the_next_run(
    project: Project, sentinel: Sentinel, door: str
) -> None:
    sentinel.point(project, "builder")
    write_tests(project, LEAVES)
    before = sentinel.digest()
    for _ in range(2):
        result = enter(door, project)
        assert result.counts == {"passed": 1} or "1 passed" in result.output, result.output
        assert result.code == 0
        assert "itkit: Tests have written outside of their schemas" in result.output
        assert "the schema customer_1 was created" in result.output
        assert "the table public.left_behind was created" in result.output
        assert "ITKIT_POSTGRES_ISOLATION=database" in result.output
    assert sentinel.ours() == []
    assert sentinel.digest() == before

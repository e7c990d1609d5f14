"""What other sessions commit in a test that is rolled back meets no later test, and is named."""

import re
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.doors import DOORS, SERIAL, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

WRITERS = """
    import asyncio
    import subprocess
    import sys
    import threading
    from concurrent.futures import ThreadPoolExecutor

    import psycopg
    from django.db import connection, transaction
    from django.test import TestCase

    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.models import Currency, Customer

    pool = ThreadPoolExecutor(1)


    def in_thread(function):
        def close_after():
            try:
                function()
            finally:
                connection.close()

        thread = threading.Thread(target=close_after, name="writer")
        thread.start()
        thread.join()


    def create(email):
        Customer.objects.create(email=email)  # here


    def run(statements):
        with connection.cursor() as cursor:
            cursor.execute(statements)


    def by_itself(email):
        parameters = connection.get_connection_params()
        with psycopg.connect(
            **{k: v for k, v in parameters.items() if k in {"host", "port", "user", "password", "dbname", "options"}}
        ) as own:
            own.execute("INSERT INTO shop_customer (email) VALUES (%s)", [email])


    def by_process(email):
        code = f"from shop.models import Customer; Customer.objects.create(email={email!r})"
        subprocess.run([sys.executable, "manage.py", "shell", "-v0", "-c", code], check=True)


    class Nothing(IntegrationMixin, TestCase):
        def check(self):
            self.assertEqual(Customer.objects.count(), 0)
            self.assertEqual([found.code for found in Currency.objects.all()], ["EUR"])


    class Writes(Nothing):
        def test_a_thread(self):
            in_thread(lambda: create("a@example.com"))

        def test_b_finds_nothing(self):
            self.check()

        def test_c_asynchronous(self):
            asyncio.run(Customer.objects.acreate(email="c@example.com"))

        def test_d_finds_nothing(self):
            self.check()

        def test_e_client(self):
            by_itself("e@example.com")

        def test_f_finds_nothing(self):
            self.check()

        def test_g_process(self):
            by_process("g@example.com")

        def test_h_finds_nothing(self):
            self.check()

        def test_i_seeds(self):
            in_thread(lambda: Currency.objects.update(code="USD"))

        def test_j_finds_seeds(self):
            self.check()

        def test_k_more_seeds(self):
            in_thread(lambda: Currency.objects.create(code="USD"))

        def test_l_finds_seeds(self):
            self.check()

        def test_m_no_seeds(self):
            in_thread(lambda: Currency.objects.all().delete())

        def test_n_finds_seeds(self):
            self.check()

        def test_o_pool(self):
            pool.submit(create, "o@example.com").result()

        def test_p_pool_that_has_its_session(self):
            self.check()
            pool.submit(create, "p@example.com").result()

        def test_q_finds_nothing(self):
            self.check()

        def test_r_only_reads(self):
            in_thread(lambda: Customer.objects.count())

        def test_s_data_in_a_thread(self):
            in_thread(lambda: self.data.create(Customer, email="s@example.com"))

        def test_t_finds_nothing(self):
            self.check()

        def test_u_data_in_asyncio(self):
            asyncio.run(self.data.acreate(Customer, email="u@example.com"))

        def test_v_finds_nothing(self):
            self.check()


    class OfAClass(IntegrationMixin, TestCase):
        @classmethod
        def setUpTestData(cls):
            cls.customer = Customer.objects.create(email="class@example.com")

        def check(self):
            self.assertEqual([c.pk for c in Customer.objects.all()], [self.customer.pk])

        def test_a_thread(self):
            in_thread(lambda: create("a@example.com"))
            self.check_numbers()

        def check_numbers(self):
            self.assertGreater(Customer.objects.create(email="b@example.com").pk, self.customer.pk)

        def test_b_finds_its_row_only(self):
            self.check()
            self.check_numbers()


    class Locking(IntegrationMixin, TestCase):
        @classmethod
        def setUpTestData(cls):
            in_thread(lambda: Currency.objects.update(code="CHF"))
            with connection.cursor() as cursor:
                cursor.execute("SELECT FROM shop_currency FOR UPDATE")

        def test_a_thread(self):
            in_thread(lambda: create("a@example.com"))

        def test_b_nothing(self):
            pass


    class Altering(IntegrationMixin, TestCase):
        @classmethod
        def setUpTestData(cls):
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE shop_currency ADD COLUMN name text")
            in_thread(lambda: create("class@example.com"))

        def test_a_thread(self):
            in_thread(lambda: create("a@example.com"))

        def test_b_nothing(self):
            pass


    class Structure(IntegrationMixin, TestCase):
        def check(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT to_regclass('made'), to_regtype('mood')")
                self.assertEqual(cursor.fetchone(), (None, None))

        def test_a_made(self):
            in_thread(lambda: run("CREATE TABLE made (id int); CREATE TYPE mood AS ENUM ('ok')"))

        def test_b_finds_nothing(self):
            self.check()

        def test_c_altered(self):
            in_thread(lambda: run("ALTER TABLE shop_currency ADD COLUMN more int"))

        def test_d_altered_still(self):
            in_thread(lambda: create("d@example.com"))

        def test_e_finds_nothing(self):
            self.assertFalse(Customer.objects.exists())
            self.check()


    class Dropping(IntegrationMixin, TestCase):
        def test_a_dropped(self):
            in_thread(lambda: run("DROP TABLE shop_customer CASCADE"))


    class Then(IntegrationTestCase):
        def check(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT attname FROM pg_attribute WHERE attrelid = 'shop_currency'::regclass AND attnum > 2")
                self.assertEqual(cursor.fetchall(), [])
            self.assertEqual([found.code for found in Currency.objects.all()], ["EUR"])
            self.assertEqual(Customer.objects.create(email="a@example.com").pk, 1)

        def test_1(self):
            self.check()

        def test_2(self):
            self.check()
"""
GUILTY = {
    "Writes.test_a_thread": "shop_customer",
    "Writes.test_c_asynchronous": "shop_customer",
    "Writes.test_e_client": "shop_customer",
    "Writes.test_g_process": "shop_customer",
    "Writes.test_i_seeds": "shop_currency",
    "Writes.test_k_more_seeds": "shop_currency",
    "Writes.test_m_no_seeds": "shop_currency",
    "Writes.test_o_pool": "shop_customer",
    "Writes.test_p_pool_that_has_its_session": "shop_customer",
    "OfAClass.test_a_thread": "shop_customer",
    "Locking.test_a_thread": "shop_customer",
    "Structure.test_a_made": "made",
    "Structure.test_c_altered": "the structure of the database (taken back after its class)",
    "Structure.test_d_altered_still": "shop_customer",
    "Dropping.test_a_dropped": "the structure of the database (taken back after its class)",
}


def named(output: str) -> dict[str, str]:
    """Return the tests that warnings name, each with the tables that it has written to."""
    found = {}
    for line in output.splitlines():
        before, committed, after = line.partition(" has committed changes to ")
        if committed:
            test = before.rpartition(" ")[2].rpartition("test_shop")[2].removeprefix(".py")
            name = test.strip(".:").replace("::", ".")
            found[name] = after.partition(",")[0]
    return found


@pytest.mark.parametrize("door", DOORS)
def test_what_is_committed_beside_a_rolled_back_test_is_taken_back(
    door: str, project: Project
) -> None:
    write_tests(project, WRITERS)
    options = ["-W", "default"] if "pytest" in door else []
    result = enter(door, project, *options)
    assert result.counts == {"passed": 36}, result.output
    assert named(result.output) == GUILTY, result.output
    places = re.findall(r"(\S*):\d+: RuntimeWarning: .* has committed changes", result.output)
    assert {Path(place).name for place in places} == {"test_shop.py"}, result.output
    assert (
        "  opened by the thread 'writer' at shop/tests/test_shop.py:31 in create" in result.output
    )
    assert "  not opened by Django: one of a client of its own, or" in result.output
    if door == "django":
        reverse = enter(door, project, "--reverse")
        assert reverse.counts == {"passed": 36}, reverse.output
        assert named(reverse.output) == GUILTY, reverse.output


FUNCTIONS = """
    import asyncio

    import pytest
    from shop.models import Customer


    @pytest.mark.django_db
    def test_a():
        asyncio.run(Customer.objects.acreate(email="a@example.com"))


    @pytest.mark.django_db
    def test_b():
        assert Customer.objects.count() == 0


    def test_c(data):
        asyncio.run(data.acreate("shop.Customer", email="c@example.com"))


    def test_d(db):
        assert Customer.objects.count() == 0


    @pytest.fixture
    def customer(django_db_setup, django_db_blocker):
        with django_db_blocker.unblock():
            return Customer.objects.create(email="f@example.com")


    def test_e(customer):
        pass


    def test_f(db):
        assert Customer.objects.count() == 0
"""


def test_functions_of_pytest(project: Project) -> None:
    project.write("shop/tests/test_functions.py", FUNCTIONS)
    result = project.pytest("--integration", "-W", "default")
    assert result.counts["passed"] == 6, result.output
    for name in "ae":
        assert (
            f"test_functions.py::test_{name} has committed changes to shop_customer"
            in result.output
        )
        lines = dedent(FUNCTIONS).splitlines()
        first = next(n for n, line in enumerate(lines, 1) if f"def test_{name}(" in line)
        places = {first, first - 1}  # the line of its decorator, if it has one
        found = re.search(rf"functions\.py:(\d+): RuntimeWarning: .*{name} has", result.output)
        assert found is not None, result.output
        assert int(found[1]) in places, result.output
    assert "test_c has committed" not in result.output
    # With warnings as errors, the guilty test fails, and no other.
    result = project.pytest("--integration")
    assert result.counts == {"passed": 6, "error": 2}, result.output


TWO = """
    import threading

    from django.db import connections
    from django.test import TestCase

    from itkit import environment
    from shop.models import Customer

    COUNT = (
        "SELECT coalesce(sum(generic_plans + custom_plans), 0)::int FROM pg_prepared_statements"
        " WHERE name = 'itkit_snapshot'"
    )


    def looks():
        resets = environment.current()._routing._resets.values()
        return [one._open().detector.execute(COUNT).fetchone()[0] for one in resets]


    def write():
        Customer.objects.using("second").create(email="a@example.com")
        connections["second"].close()


    class Two(TestCase):
        databases = {"default", "second"}

        def test_a_thread(self):
            thread = threading.Thread(target=write, name="writer")
            thread.start()
            thread.join()

        def test_b_finds_nothing(self):
            self.assertEqual(Customer.objects.using("second").count(), 0)

        # After a commit, which may be one of the server's own, a reset looks once more if it has not
        # read the tables yet; it has read them after the thread.
        def test_c_counts(self):
            type(self).before = looks()

        def test_d_has_had_one_look_for_both(self):
            now = looks()
            self.assertEqual(len(now), 2)
            self.assertEqual(sum(now) - sum(self.before), 1)
"""


@pytest.mark.parametrize("door", SERIAL)
def test_one_look_is_enough_for_two_databases(door: str, project: Project) -> None:
    project.settings('DATABASES["second"] = {**DATABASES["default"], "NAME": "second"}')
    write_tests(project, TWO)
    options = ["-W", "default"] if "pytest" in door else []
    result = enter(door, project, *options)
    assert result.counts == {"passed": 4}, result.output
    assert named(result.output) == {"Two.test_a_thread": "shop_customer"}, result.output

"""Rows that nobody has told the manager of are found, told and removed."""

import threading

import pytest
from django.core.management import call_command
from django.db import connections, transaction

from itkit.core import names
from itkit.data import TestDataManager
from itkit.exceptions import DataError, LeakedRowsError
from tests.conftest import ALIAS
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.kinds.models import Author, Bistro, Label, Post
from tests.support.projects import Project
from tests.support.shopdata.models import Customer, Order

pytestmark = pytest.mark.usefixtures("shared_servers")

OURS = "ours"  # an alias whose tables are in a schema of itkit


@pytest.fixture(scope="module")
def our_schema(database, django_db_blocker):
    schema = names.schema(names.new_run_id(), "w1")
    settings = connections.settings[ALIAS]
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {schema}")
    connections.settings[OURS] = settings | {"OPTIONS": {"options": f"-c search_path={schema}"}}
    call_command("migrate", database=OURS, run_syncdb=True, verbosity=0)
    yield
    connections[OURS].close()
    del connections[OURS]
    del connections.settings[OURS]


@pytest.fixture(params=["fail", "exact"])
def mode(request, our_schema):
    return request.param


@pytest.fixture
def data(mode):
    data = TestDataManager(using=OURS, leaks=mode)
    yield data
    data.cleanup()
    assert not rows(Customer).exists()
    assert not triggers()


def rows(model):
    return model._base_manager.using(OURS)


def triggers():
    with connections[OURS].cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'itkit%'"
            " UNION ALL SELECT relname FROM pg_class WHERE relname LIKE 'itkit_ledger'"
            " UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'itkit_note'"
        )
        return cursor.fetchall()


def leaks_of(data):
    with pytest.raises(LeakedRowsError) as caught:
        data.cleanup()
    return str(caught.value)


def place_order(customer):
    return rows(Order).create(customer=customer)


def test_what_is_known_is_no_leak(data):
    data.create(Order, "paid")
    data.create_batch(Post, 60)
    data.create(Bistro)
    data.track(rows(Customer).create(email="tracked@example.com"))
    with data.capture():
        rows(Customer).create(email="captured@example.com")

    assert not data.cleanup().leaked


def test_a_leak_is_told_with_the_line_that_saved_it_and_what_it_refers_to(data):
    customer = data.create(Customer)
    order = place_order(customer)

    told = leaks_of(data)

    assert told.startswith("1 row that the test has made and the data manager does not know:\n")
    assert f"  shopdata.Order {order.pk}, saved at tests/data/test_leaks.py:" in told
    assert (
        f"in place_order, references shopdata.Customer {customer.pk} of tests/data/test_leaks"
        in told
    )
    assert not rows(Order).exists()


def test_many_leaks_are_cut_short(data):
    rows(Customer).bulk_create(Customer(email=f"{n}@example.com") for n in range(30))
    told = leaks_of(data)
    assert told.startswith("30 rows that")
    assert "  and 10 more\n" in told


def test_keys_of_every_kind_are_known(data):
    label = rows(Label).create(text="x")
    assert f"kinds.Label {label.pk}" in leaks_of(data)


def test_rows_that_were_there_and_rows_that_are_gone_are_no_leaks(our_schema, mode):
    before = rows(Customer).create(email="before@example.com")
    data = TestDataManager(using=OURS, leaks=mode)
    rows(Customer).create(email="gone@example.com").delete()
    rows(Customer).update(name="changed")

    data.cleanup()

    assert rows(Customer).get() == before
    before.delete()


def test_raw_sql_copy_threads_and_rollbacks_are_seen_as_they_are(data):
    def in_thread():
        with connections[OURS].cursor() as cursor:
            cursor.execute(
                "INSERT INTO kinds_author (name, joined_at, seen_at) VALUES ('t', now(), now())"
            )
        connections[OURS].close()

    statement = "COPY shopdata_customer (email, name) FROM STDIN"
    with connections[OURS].cursor() as cursor, cursor.copy(statement) as copy:
        copy.write_row(("a@example.com", "copied"))
        copy.write_row(("b@example.com", "copied"))
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    with transaction.atomic(using=OURS):
        rows(Author).create(name="rolled back")
        transaction.set_rollback(True, using=OURS)

    told = leaks_of(data)

    assert told.startswith("3 rows that")
    assert told.count("shopdata.Customer") == 2
    assert told.count("kinds.Author") == 1


def test_the_failure_of_a_test_is_not_hidden(mode):
    def fail():
        with TestDataManager(using=OURS, leaks=mode):
            rows(Customer).create(email="left@example.com")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert "1 row that the test has made" in caught.value.__notes__[0]
    assert not rows(Customer).exists()


def test_exact_sees_keys_below_those_that_were_there(our_schema):
    before = rows(Customer).create(pk=1000, email="before@example.com")
    data = TestDataManager(using=OURS, leaks="exact")
    rows(Customer).create(pk=7, email="below@example.com")

    assert "shopdata.Customer 7," in leaks_of(data)
    before.delete()


def test_a_report_warns(our_schema):
    data = TestDataManager(using=OURS, leaks="report")
    rows(Customer).create(email="left@example.com")
    with pytest.warns(RuntimeWarning, match="1 row that the test has made"):
        report = data.cleanup()
    assert "leaked shopdata.Customer" in str(report)
    assert not rows(Customer).exists()


def test_another_mode_is_refused():
    with pytest.raises(DataError, match="leaks is 'warn', expected one of 'off', 'report', 'fail'"):
        TestDataManager(leaks="warn")


def test_exact_adds_nothing_to_a_schema_that_is_not_ours(database):
    with pytest.raises(DataError, match="is in no schema of itkit"):
        TestDataManager(using=ALIAS, leaks="exact")


@pytest.mark.django_db
def test_exact_needs_a_postgres():
    with pytest.raises(DataError, match=r"DATABASES.'default'. is in no schema of itkit"):
        TestDataManager(leaks="exact")


TESTS = """
    import subprocess
    import sys

    from django.db import connection
    from django.test import TestCase
    from itkit.test import IntegrationMixin, IntegrationTestCase
    from shop.models import Customer

    INSERT = "INSERT INTO shop_customer (email) VALUES ('raw@example.com')"
    ELSEWHERE = '''
    import django
    django.setup()
    from shop.models import Customer
    Customer.objects.bulk_create([Customer(email="elsewhere@example.com")])
    '''


    class Leaking:
        def test_a_clean(self):
            self.data.create(Customer)

        def test_b_raw(self):
            self.data
            with connection.cursor() as cursor:
                cursor.execute(INSERT)

        def test_c_clean_again(self):
            self.data.create_batch(Customer, 100)


    class RolledBack(Leaking, IntegrationMixin, TestCase):
        pass


    class Committed(Leaking, IntegrationTestCase):
        def test_d_elsewhere(self):
            self.data
            subprocess.run([sys.executable, "-c", ELSEWHERE.replace("\\n    ", "\\n")], check=True)
"""


def test_one_manager_has_the_database_note_rows(our_schema):
    first = TestDataManager(using=OURS, leaks="exact")
    with pytest.raises(DataError, match=r"Another manager with leaks=.exact. looks after"):
        TestDataManager(using=OURS, leaks="exact")
    first.cleanup()
    TestDataManager(using=OURS, leaks="exact").cleanup()


def test_a_transaction_that_is_broken_tells_of_no_leaks(mode):
    def fail():
        with transaction.atomic(using=OURS), TestDataManager(using=OURS, leaks=mode):
            rows(Customer).create(email="left@example.com")
            transaction.set_rollback(True, using=OURS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert not hasattr(caught.value, "__notes__")
    assert not triggers()


@pytest.fixture
def refusing(database):
    """A table of one database that lets no row go."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE 'refused by the trigger'; END $$"
        )
        cursor.execute("CREATE TRIGGER r BEFORE DELETE ON kinds_author EXECUTE FUNCTION refuse()")
        yield
        cursor.execute("DROP FUNCTION refuse CASCADE")
        cursor.execute("DELETE FROM kinds_author")


def test_rows_of_several_databases_go_whatever_becomes_of_one(our_schema, refusing):
    data = TestDataManager(using=OURS)
    data.create(Order)
    data.track(Customer.objects.using(ALIAS).create(email="elsewhere@example.com"))
    assert data.cleanup().removed == {"shopdata.Order": 1, "shopdata.Customer": 2}

    data.create(Author)
    data.track(Author.objects.using(ALIAS).create(name="stays"))
    with pytest.raises(ExceptionGroup) as caught:
        data.cleanup()
    assert "refused by the trigger" in str(caught.value.exceptions[0])
    assert not rows(Author).exists()
    assert Author.objects.using(ALIAS).get().name == "stays"


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.parametrize("leaks", ["fail", "exact"])
def test_a_run_tells_of_leaks(door, leaks, project: Project):
    write_tests(project, TESTS)
    result = enter(door, project, ITKIT_DATA_LEAKS=leaks)
    assert result.counts == {"passed": 4, "failed": 3}, result.output
    assert result.output.count("1 row that the test has made") >= 3
    assert "shop.Customer" in result.output


FORGOTTEN = """
    from django.db import connection
    from itkit import TestDataManager
    from itkit.test import IntegrationTestCase
    from shop.models import Customer


    class Tests(IntegrationTestCase):
        def test_a_forgets(self):
            Tests.kept = TestDataManager(leaks="exact")
            Customer.objects.create(email="a@example.com")

        def test_b_finds_nothing(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT tgname FROM pg_trigger WHERE tgname = 'itkit_note'")
                assert cursor.fetchall() == []
            Customer.objects.create(email="b@example.com")
"""


def test_a_ledger_that_nobody_closes_does_not_outlive_its_test(project: Project):
    write_tests(project, FORGOTTEN)
    for _ in range(2):
        result = project.test("--integration")
        assert result.counts == {"passed": 2}, result.output

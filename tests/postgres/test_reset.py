"""After a test that commits, a schema is what its migrations made of it."""

import re

import pytest

from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

ZOO = """
from django.db import migrations

SQL = '''
CREATE TABLE parent (id int PRIMARY KEY, up int REFERENCES parent);
CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES parent);
CREATE TABLE "Odd name; %" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "a b" text,
    twice int GENERATED ALWAYS AS (length("a b") * 2) STORED);
CREATE TABLE part (day date, n int) PARTITION BY RANGE (day);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE hen (id int PRIMARY KEY, egg int);
CREATE TABLE egg (id int PRIMARY KEY, hen int REFERENCES hen DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE aa (id int PRIMARY KEY, b int);
CREATE TABLE bb (id int PRIMARY KEY, a int REFERENCES aa ON DELETE RESTRICT);
ALTER TABLE aa ADD FOREIGN KEY (b) REFERENCES bb;
CREATE TABLE animal (name text);
CREATE TABLE dog (breed text) INHERITS (animal);
CREATE TABLE audit (id serial, what text);
CREATE TABLE document (id serial, body json, tags text[]);
CREATE TABLE empty (id serial, n int);
CREATE SEQUENCE lonely START 5;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (what) VALUES (TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER silent AFTER DELETE ON hen FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE hen DISABLE TRIGGER silent;
INSERT INTO parent VALUES (1, NULL), (2, 1);
INSERT INTO child VALUES (1, 2);
INSERT INTO "Odd name; %" ("a b") VALUES ('one'), ('three');
INSERT INTO part VALUES ('2026-05-05', 1);
INSERT INTO hen VALUES (1, 1);
INSERT INTO egg VALUES (1, 1);
INSERT INTO document (body, tags) VALUES ('{"a": 1}', '{x,y}');
INSERT INTO aa VALUES (1, NULL);
INSERT INTO bb VALUES (1, 1);
UPDATE aa SET b = 1;
INSERT INTO animal VALUES ('any');
INSERT INTO dog VALUES ('rex', 'pug');
CREATE MATERIALIZED VIEW dogs AS SELECT count(*) FROM dog;
CREATE MATERIALIZED VIEW never AS SELECT 1 WITH NO DATA;
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON child FOR EACH ROW EXECUTE FUNCTION note();
'''

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunSQL(SQL)]
"""

TESTS = """
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.core.management import call_command
from django.db import connection
from django.test import LiveServerTestCase, TransactionTestCase

from itkit.test import IntegrationTestCase
from shop.models import Currency

TABLES = ["aa", "bb", "ONLY animal", "dog", "dogs", "parent", "child", '"Odd name; %"', "part", "part_1", "hen", "egg", "audit", "document",
          "empty", "shop_currency", "shop_customer", "django_content_type", "auth_permission"]
BEFORE = {}


def state():
    with connection.cursor() as cursor:
        found = {}
        for table in TABLES:
            cursor.execute(f"SELECT t::text FROM {table} t ORDER BY 1")
            found[table] = cursor.fetchall()
        cursor.execute("SELECT sequencename, coalesce(last_value, start_value), last_value IS NULL"
                       " FROM pg_sequences WHERE schemaname = current_schema() ORDER BY 1")
        found["sequences"] = cursor.fetchall()
        cursor.execute("SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal AND"
                       " tgrelid::regclass::text IN ('hen', 'child') ORDER BY 1")
        found["triggers"] = cursor.fetchall()
    return found


def wreck():
    with connection.cursor() as cursor:
        cursor.execute('''
            DELETE FROM child; DELETE FROM parent WHERE id = 2; UPDATE parent SET up = 1;
            INSERT INTO child VALUES (7, 1);
            TRUNCATE "Odd name; %"; INSERT INTO "Odd name; %" ("a b") VALUES ('x'), ('y'), ('z');
            DELETE FROM part; INSERT INTO part VALUES ('2026-06-06', 2);
            UPDATE hen SET egg = NULL; DELETE FROM egg;
            UPDATE document SET body = '[]'; INSERT INTO empty (n) VALUES (1), (2);
            SELECT nextval('lonely'), nextval('lonely');
            UPDATE aa SET b = NULL; DELETE FROM bb; DELETE FROM animal;
            INSERT INTO dog VALUES ('fido', 'mutt'); INSERT INTO dog VALUES ('max', 'mutt');
            REFRESH MATERIALIZED VIEW dogs;
        ''')
    Currency.objects.all().delete()


class Steps:
    def step(self):
        if not BEFORE:
            BEFORE.update(state())
        self.assertEqual(state(), BEFORE)
        wreck()
        self.assertNotEqual(state(), BEFORE)


KINDS = IntegrationTestCase, TransactionTestCase, LiveServerTestCase, StaticLiveServerTestCase
for kind in KINDS:
    for number in range(2):
        name = f"{kind.__name__}{number}"
        globals()[name] = type(name, (Steps, kind), {"__module__": __name__, "test_a": Steps.step,
                                                    "test_b": Steps.step})
del kind, KINDS


class Flush(TransactionTestCase):
    def test_a_test_that_calls_flush_wants_empty_tables(self):
        self.assertTrue(Currency.objects.exists())
        call_command("flush", interactive=False, verbosity=0)
        self.assertFalse(Currency.objects.exists())


class Available(TransactionTestCase):
    available_apps = ["shop", "django.contrib.contenttypes", "django.contrib.auth"]
    test_a = test_b = Steps.step
    step = Steps.step


class Rollback(TransactionTestCase):
    serialized_rollback = True

    def test_serialized_rollback_still_works(self):
        self.assertTrue(Currency.objects.exists())
"""


@pytest.fixture
def zoo(project: Project) -> Project:
    project.write("shop/migrations/0002_zoo.py", ZOO)
    project.write("shop/tests.py", TESTS)
    return project


@pytest.mark.parametrize("arguments", [(), ("--shuffle",), ("--reverse",)])
@pytest.mark.slow
def test_every_kind_of_row_and_sequence_comes_back(zoo: Project, arguments: tuple[str]) -> None:
    result = zoo.test("--integration", *arguments)
    assert result.counts == {"passed": 20}, result.output


@pytest.mark.slow
def test_a_role_without_any_special_right_resets_as_well(zoo: Project, postgres_url: str) -> None:
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN CREATEDB")
        url = postgres_url.replace("//postgres@", "//plain@")
        result = zoo.test("--integration", ITKIT_POSTGRES_URL=url)
        connection.execute("DROP ROLE plain")
    assert result.counts == {"passed": 20}, result.output


@pytest.mark.slow
def test_pytest_keeps_the_rows_of_migrations_too(zoo: Project) -> None:
    zoo.write(
        "test_functions.py",
        """
        import pytest
        from shop.models import Currency

        @pytest.mark.parametrize("number", range(2))
        def test_transactional(transactional_db, number):
            Currency.objects.get().delete()

        @pytest.mark.django_db(transaction=True)
        def test_marked(live_server):
            Currency.objects.get().delete()
        """,
    )
    result = zoo.pytest("--integration", "test_functions.py", "shop/tests.py", "-p", "no:randomly")
    assert result.counts == {"passed": 23}, result.output


def test_a_table_that_a_test_made_or_dropped_is_no_obstacle(project: Project) -> None:
    project.write(
        "shop/tests.py",
        """
        from django.db import connection
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        class Tables(IntegrationTestCase):
            def test_a(self):
                Customer.objects.create(email="a@example.com")

            def test_b(self):
                with connection.cursor() as cursor:
                    cursor.execute("CREATE TABLE made (id int); INSERT INTO made VALUES (1)")
                    cursor.execute("DROP TABLE auth_user_groups")
                Customer.objects.create(email="a@example.com")

            def test_c(self):
                self.assertFalse(Customer.objects.exists())
        """,
    )
    result = project.test("--integration")
    assert result.counts == {"passed": 3}, result.output


def test_a_connection_left_in_a_transaction_is_ended_and_fails_the_test(
    project: Project,
) -> None:
    project.write(
        "shop/tests.py",
        """
        import threading
        from django.db import connection, transaction
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        class Left(IntegrationTestCase):
            def test_a_leaves_a_thread_in_a_transaction(self):
                def leave():
                    transaction.set_autocommit(False)
                    Customer.objects.create(email="a@example.com")
                    kept.append(connection.connection)  # else it would be closed with the thread

                thread = threading.Thread(target=leave, name="leaver")
                thread.start()
                thread.join()

            def test_b_leaves_an_atomic_block_open(self):
                Customer.objects.create(email="b@example.com")
                transaction.atomic().__enter__()
                try:
                    connection.cursor().execute("nonsense")
                except Exception:
                    pass

            def test_c_leaves_autocommit_off(self):
                self.assertFalse(Customer.objects.exists())
                transaction.set_autocommit(False)
                Customer.objects.create(email="c@example.com")

            def test_d_sees_none_of_it(self):
                self.assertFalse(connection.in_atomic_block)
                self.assertTrue(connection.get_autocommit())
                self.assertFalse(Customer.objects.exists())
                Customer.objects.create(email="d@example.com")

        kept = []
        """,
    )
    result = project.test("--integration")
    assert result.counts == {"failed": 3, "passed": 1}, result.output
    left = re.findall(r"^  (?:session \d+, )?(opened by .*)", result.output, re.MULTILINE)
    assert left == [
        (
            "opened by the thread 'leaver' at shop/tests.py:10 in leave,"
            " during shop.tests.Left.test_a_leaves_a_thread_in_a_transaction"
        ),
        "opened by atomic() at shop/tests.py:20 in test_b_leaves_an_atomic_block_open",
        "opened by set_autocommit(False) at shop/tests.py:28 in test_c_leaves_autocommit_off",
    ], result.output


PLAIN_SUITE = """
    from django.test import LiveServerTestCase, TransactionTestCase
    from django.contrib.auth.models import Permission
    from django.contrib.contenttypes.models import ContentType
    from shop.models import Currency, Customer


    class Seeds:
        def test_a_deletes(self):
            self.assertEqual(Currency.objects.get().code, "EUR")
            Currency.objects.all().delete()

        def test_b_changes(self):
            Currency.objects.filter(code="EUR").update(code="USD")
            self.assertEqual(Customer.objects.create(email="b@example.com").pk, 1)

        def test_c_adds(self):
            self.assertEqual(Currency.objects.create(code="GBP").pk, 2)
            self.assertEqual(Currency.objects.count(), 2)

        def test_d_deletes_what_django_has_made(self):
            self.assertTrue(Permission.objects.filter(codename="add_customer").exists())
            ContentType.objects.all().delete()


    class Plain(Seeds, TransactionTestCase):
        pass


    class Live(Seeds, LiveServerTestCase):
        pass
"""
REVERSED = [
    f"shop/again.py::{kind}::test_{name}"
    for name in ("d_deletes_what_django_has_made", "c_adds", "b_changes", "a_deletes")
    for kind in ("Live", "Plain")
]


@pytest.mark.parametrize("option", ["--shuffle", "--reverse"])
def test_plain_tests_that_need_rows_of_migrations_pass_in_any_order(
    project: Project, option: str
) -> None:
    project.write("shop/tests.py", PLAIN_SUITE)
    result = project.test("--integration", option)
    assert result.counts == {"passed": 8}, result.output


def test_plain_tests_that_need_rows_of_migrations_pass_forwards_and_backwards_in_pytest(
    project: Project,
) -> None:
    for name in ("tests", "again"):
        project.write(f"shop/{name}.py", PLAIN_SUITE)
    result = project.pytest("--integration", "shop/tests.py", *REVERSED)
    assert result.counts == {"passed": 16}, result.output


@pytest.mark.parametrize("runner", ["test", "pytest"])
def test_what_only_real_commits_can_do(project: Project, runner: str) -> None:
    project.write(
        "shop/tests.py",
        """
        import threading

        import psycopg
        from django.db import connection, transaction
        from django.db.utils import OperationalError
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        def in_a_thread(work):
            def run():
                try:
                    results.append(work())
                finally:
                    connection.close()

            results = []
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            return results[0]

        def raw():
            return psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor},
                                   autocommit=True)

        class Committed(IntegrationTestCase):
            def test_select_for_update_blocks_others(self):
                Customer.objects.create(email="a@example.com")

                def blocked():
                    try:
                        with transaction.atomic():
                            Customer.objects.select_for_update(nowait=True).get()
                    except OperationalError as error:
                        return type(error.__cause__)

                with transaction.atomic():
                    Customer.objects.select_for_update().get()
                    self.assertIs(in_a_thread(blocked), psycopg.errors.LockNotAvailable)

            def test_a_notification_arrives(self):
                with raw() as listener:
                    listener.execute("LISTEN news")
                    with connection.cursor() as cursor:
                        cursor.execute("NOTIFY news, 'hello'")
                    [news] = listener.notifies(timeout=10, stop_after=1)
                self.assertEqual(news.payload, "hello")

            def test_hooks_of_a_commit_see_its_rows_and_so_do_threads(self):
                seen = []
                with transaction.atomic():
                    Customer.objects.create(email="a@example.com")
                    transaction.on_commit(lambda: seen.append(in_a_thread(Customer.objects.count)))
                    self.assertEqual(in_a_thread(Customer.objects.count), 0)
                self.assertEqual(seen, [1])

            def test_discard_all_is_no_obstacle(self):
                with connection.cursor() as cursor:
                    cursor.execute("DISCARD ALL")
                Customer.objects.create(email="a@example.com")

            def test_z_nothing_is_left(self):
                self.assertEqual(Customer.objects.count(), 0)
                self.assertEqual(Customer.objects.create(email="z@example.com").pk, 1)
        """,
    )
    result = (project.test if runner == "test" else project.pytest)(
        "--integration", "shop.tests" if runner == "test" else "shop/tests.py"
    )
    assert result.counts == {"passed": 5}, result.output


def test_pytest_names_the_test_that_left_a_session_open(project: Project) -> None:
    project.go_on_after_warnings()
    project.write(
        "test_left.py",
        """
        import threading

        import psycopg
        import pytest
        from django.db import connection, transaction
        from shop.models import Customer

        kept = []

        def leave():
            transaction.set_autocommit(False)
            Customer.objects.create(email="secret@example.com")
            kept.append(connection.connection)

        @pytest.mark.django_db(transaction=True)
        def test_thread():
            thread = threading.Thread(target=leave, name="leaver")
            thread.start()
            thread.join()

        @pytest.mark.django_db(transaction=True)
        def test_raw():
            parameters = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
            left = psycopg.connect(**parameters)
            left.execute("INSERT INTO shop_customer (email) VALUES ('secret')")
            kept.append(left)

        @pytest.mark.django_db(transaction=True)
        def test_nothing_is_left():
            assert not Customer.objects.exists()
        """,
    )
    result = project.pytest("--integration", "test_left.py")
    assert result.counts == {"passed": 3, "error": 2}, result.output
    assert re.findall(r"^ +session \d+, (.*)", result.output, re.MULTILINE) == [
        "opened by the thread 'leaver' at test_left.py:12 in leave, during test_left.py::test_thread",
        "opened by no connection of Django in this process; its last query is INSERT shop_customer …",
    ], result.output
    assert "secret" not in result.output


def test_every_alias_is_reset_and_a_mirror_with_its_primary(project: Project) -> None:
    project.settings(
        """
        DATABASES["other"] = DATABASES["default"] | {"NAME": "other"}
        DATABASES["mirror"] = DATABASES["default"] | {"TEST": {"MIRROR": "default"}}
        """
    )
    project.write(
        "shop/tests.py",
        """
        from django.db import connections
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        class Aliases(IntegrationTestCase):
            def write(self):
                for alias in ("default", "other", "mirror"):
                    self.assertEqual(Customer.objects.using(alias).count(), alias == "mirror")
                    if alias != "mirror":
                        self.assertEqual(Customer.objects.using(alias).create(email="a@b.c").pk, 1)
                Customer.objects.using("mirror").update(email="mirrored@b.c")

            test_a = test_b = test_c = write
        """,
    )
    result = project.test("--integration")
    assert result.counts == {"passed": 3}, result.output

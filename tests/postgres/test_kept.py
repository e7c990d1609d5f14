"""A session goes on with the next test, which finds nothing of the one before it."""

import pytest
from django.db import connections

from itkit.postgres.server import driver
from tests.conftest import ALIAS
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

FORGETTING = """
    from django.db import connection
    from django.db.backends.signals import connection_created
    from django.db.utils import OperationalError
    from itkit.test import IntegrationTestCase
    from shop.models import Customer

    LOCK = 4711
    created, raws = [], []


    def ask(sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0] if cursor.description else None


    def note(connection, **_):
        created.append(connection.connection.info.backend_pid)


    def setUpModule():
        connection_created.connect(note)


    def tearDownModule():
        connection_created.disconnect(note)


    class Tests(IntegrationTestCase):
        def test_a_opens_a_session(self):
            connection.close()  # it may have been opened before the tests
            ask("SELECT 1")

        def test_b_leaves_much_in_its_session(self):
            ask("CREATE TEMPORARY TABLE scratch (id int)")
            ask("SET statement_timeout = '7s'")
            ask("SET search_path = pg_catalog")
            ask("SET TIME ZONE 'Asia/Tokyo'")
            ask(f"SELECT pg_advisory_lock({LOCK})")
            ask("LISTEN news")
            ask("PREPARE two AS SELECT 2")
            raws.append(connection.connection)
            connection.connection.row_factory = dict

        def test_c_finds_nothing_of_it_in_the_same_session(self):
            self.assertEqual(Customer.objects.count(), 0)
            self.assertEqual(created[-1], created[-2])
            self.assertEqual(ask("SELECT pg_backend_pid()"), created[-1])
            self.assertEqual(ask("SHOW statement_timeout"), "0")
            self.assertEqual(ask("SHOW TimeZone"), "UTC")
            self.assertNotIn("pg_catalog", ask("SHOW search_path"))
            self.assertIsNone(ask("SELECT to_regclass('scratch')"))
            for view in ("pg_listening_channels()", "pg_prepared_statements",
                         "pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"):
                self.assertEqual(ask(f"SELECT count(*) FROM {view}"), 0, view)

        def test_d_cannot_use_the_connection_of_a_test_before_it(self):
            ask("SELECT 1")
            self.assertTrue(raws[0].closed)
            with self.assertRaisesRegex(Exception, "the connection is closed"):
                raws[0].execute("SELECT 1")

        def test_e_closes_its_connection_itself(self):
            before = ask("SELECT pg_backend_pid()")
            connection.close()
            self.assertNotEqual(ask("SELECT pg_backend_pid()"), before)

        def test_f_sets_something_by_a_name_of_its_own(self):
            self.assertIsNone(ask("SELECT current_setting('shop.tenant', true)"))
            ask("SELECT set_config('shop.tenant', '5', false)")

        def test_g_finds_it_as_in_a_new_session(self):
            self.assertIsNone(ask("SELECT current_setting('shop.tenant', true)"))
            ask("SET LOCAL shop.tenant = '5'")

        def test_h_finds_it_so_too(self):
            self.assertIsNone(ask("SELECT current_setting('shop.tenant', true)"))

        def test_i_ends_its_session(self):
            with self.assertRaises(OperationalError):
                ask("SELECT pg_terminate_backend(pg_backend_pid())")

        def test_j_has_a_new_one(self):
            self.assertEqual(ask("SELECT 1"), 1)
"""


@pytest.mark.parametrize("door", SERIAL)
def test_the_next_test_finds_nothing_in_the_session(door, project: Project):
    write_tests(project, FORGETTING)
    result = enter(door, project)
    assert result.counts == {"passed": 10}, result.output


SWEPT = """
    from django.db import connection
    from itkit import sweep
    from itkit.test import IntegrationTestCase
    from shop.models import Customer

    crashed, acted = [], []


    def session():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]


    def join(email):
        acted.append(session())
        Customer.objects.create(email=email)


    class Tests(IntegrationTestCase):
        @sweep.faults(kinds=["crash"])
        def test_a_crash_leaves_its_session(self, fault):
            before, raw = session(), connection.connection
            with fault.injected():
                Customer.objects.create(email="a@example.com")
            if fault.has_failed:
                self.assertTrue(raw.closed)
                self.assertIsNot(connection.connection, raw)
                crashed.append(session() == before)

        @sweep.races
        def test_b_race(self, race):
            race(lambda: join("a@example.com"), lambda: join("a@example.com"))

        def test_c_that_few_sessions_were_enough(self):
            self.assertEqual(set(crashed), {True})
            self.assertGreater(len(acted), 4)
            self.assertEqual(len(set(acted)), 2)
"""


def test_the_variations_of_a_sweep_share_sessions(project: Project):
    write_tests(project, SWEPT)
    result = enter("django", project)
    assert result.counts == {"passed": 3}, result.output


FORKING = """
    import os
    from django.db import connection
    from itkit.test import IntegrationTestCase
    from shop.models import Customer


    class Tests(IntegrationTestCase):
        def test_a_opens_a_session(self):
            Customer.objects.create(email="a@example.com")

        def test_b_forks_before_it_uses_the_session(self):
            child = os.fork()
            if not child:
                Customer.objects.create(email="child@example.com")
                os._exit(0)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            self.assertEqual(Customer.objects.get().email, "child@example.com")

        def test_c_finds_none(self):
            self.assertEqual(Customer.objects.count(), 0)
"""


def test_a_forked_process_leaves_the_session_to_its_parent(project: Project):
    write_tests(project, FORKING)
    result = enter("pytest", project)
    assert result.counts == {"passed": 3}, result.output


@pytest.fixture
def raw(database):
    """A connection of the driver's, as Django makes it."""
    made = connections[ALIAS].copy()
    made.connect()
    yield made.connection
    made.connection.close()


def execute(raw, statement):
    cursor = raw.cursor()
    cursor.execute(statement)
    return cursor.fetchone()[0] if cursor.description else None


def test_a_session_has_the_form_that_the_new_connection_asks_for(raw):
    cursor_factory, adapters = raw.cursor_factory, raw.adapters
    session = driver.detached(raw)
    assert raw.closed
    made = driver.attached(
        session, autocommit=True, prepare_threshold=None, context=raw, cursor_factory=cursor_factory
    )
    try:
        assert made.autocommit
        assert made.prepare_threshold is None
        assert made.cursor_factory is cursor_factory
        assert made.adapters is not adapters
        assert execute(made, "SELECT 1") == 1
    finally:
        made.close()


@pytest.mark.parametrize(
    "function",
    [
        "() RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM set_config('a.b', '5', false); END$$",
        "() RETURNS void LANGUAGE plpgsql AS $$BEGIN SET LOCAL shop.tenant = '5'; END$$",
        "() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT set_config('a.b', '5', false); END",
        "() RETURNS int LANGUAGE sql SET shop.tenant = '5' AS 'SELECT 1'",
    ],
)
def test_where_a_function_may_leave_a_setting_no_session_goes_on(raw, function):
    execute(raw, f"CREATE FUNCTION leaving_settings {function}")
    try:
        assert driver.detached(raw) is None
        assert not raw.closed
    finally:
        execute(raw, "DROP FUNCTION leaving_settings")
    session = driver.detached(raw)
    assert session is not None
    session.finish()


def test_a_session_in_a_transaction_does_not_go_on(raw):
    execute(raw, "BEGIN")
    assert driver.detached(raw) is None
    execute(raw, "ROLLBACK")


def test_a_connection_that_is_closed_has_no_session(raw):
    raw.close()
    assert driver.detached(raw) is None


def test_a_session_that_the_server_has_ended_is_not_quiet(raw):
    number = raw.info.backend_pid
    session = driver.detached(raw)
    assert driver.is_quiet(session)
    execute(connections[ALIAS].connection, f"SELECT pg_terminate_backend({number}, 5000)")
    assert not driver.is_quiet(session)
    session.finish()
    assert not driver.is_quiet(session)

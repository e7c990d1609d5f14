"""Each worker logs in to Postgres by a role of its own, which may use its own schema only."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.postgres.isolation import DatabaseIsolation, SchemaIsolation
from itkit.postgres.migrations import explain, extensions
from itkit.postgres.server import locks, roles
from itkit.postgres.server.databases import Databases
from itkit.postgres.server.places import comment
from itkit.postgres.server.server import connect, value
from itkit.postgres.template.schemas import Schemas
from tests.support.doors import DOORS, enter, write_tests
from tests.support.pooler import behind, pooler, socket_of
from tests.support.projects import Project
from tests.support.sentinel import Sentinel

RUN, FINGERPRINT, SECRET = "0123abce", "00c0ffee0123", "a secret"
TEMPLATE = f"itkit_{FINGERPRINT}_template"
PLACE, KEPT = f"itkit_{RUN}_w0", f"itkit_{FINGERPRINT}_kept_01234567"

MORE = """
    from django.contrib.postgres.operations import CITextExtension
    from django.db import migrations

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [
            CITextExtension(),
            migrations.RunSQL("ALTER TABLE shop_customer ADD nick citext"),
            migrations.RunSQL("GRANT SELECT ON shop_currency TO pg_monitor"),
            migrations.RunSQL("REVOKE TRIGGER ON shop_currency FROM CURRENT_USER"),
            migrations.RunSQL("ALTER TABLE shop_currency ENABLE ROW LEVEL SECURITY"),
            migrations.RunSQL("CREATE POLICY mine ON shop_currency TO CURRENT_USER USING (true)"),
            migrations.RunSQL("CREATE VIEW codes AS SELECT code FROM shop_currency"),
            migrations.RunSQL("CREATE MATERIALIZED VIEW all_codes AS SELECT * FROM codes"),
        ]
"""
HEAD = """
    import psycopg
    from django.conf import settings
    from django.db import connection, ProgrammingError
    from django.test import TransactionTestCase
    from psycopg import errors

    from shop.models import Currency, Customer

    GONE = (errors.InvalidCatalogName, errors.InvalidSchemaName, errors.UndefinedTable)


    def run(statement):
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None


    class Refusing(TransactionTestCase):
        def refused(self, statement, what):
            with self.assertRaisesMessage(ProgrammingError, what):
                run(statement)

        def refused_unless_gone(self, statement, what):
            # Others end while this test runs, and what they have had goes with them.
            with self.assertRaises(ProgrammingError) as caught:
                run(statement)
            if not isinstance(caught.exception.__cause__, GONE):
                self.assertIn(what, str(caught.exception))
                return 1
            return 0
"""
TESTS = (
    HEAD
    + """

    def plain():
        db = settings.DATABASES["default"]
        return psycopg.connect(
            host=db["HOST"], port=db["PORT"] or None, user=db["USER"], password=db["PASSWORD"],
            dbname=db["NAME"], options="-c client_min_messages=warning", autocommit=True,
        )


    class Tests(Refusing):
        def test_the_role_has_the_name_of_the_schema(self):
            [(user, schema)] = run("SELECT current_user, current_schema()")
            self.assertEqual(user, schema)
            self.assertEqual(settings.DATABASES["default"]["USER"], user)

        def test_a_client_of_its_own_lands_in_the_schema(self):
            Customer.objects.create(email="a@example.com")
            with plain() as own:
                self.assertEqual(own.execute("SELECT count(*) FROM shop_customer").fetchone(), (1,))

        def test_other_schemas_are_refused(self):
            self.refused("CREATE TABLE public.mine (n int)", "permission denied for schema public")
            self.refused("SELECT * FROM public.shop_customer", "permission denied for schema public")
            self.refused("CREATE SCHEMA mine", "permission denied for database")
            self.refused("CREATE ROLE mine", "permission denied to create role")
            self.refused("CREATE TABLE itkit_ext.mine (n int)", "permission denied for schema itkit_ext")

        def test_the_schemas_of_others_are_refused(self):
            [(own,)] = run("SELECT current_schema()")
            others = run(
                "SELECT quote_ident(nspname) FROM pg_namespace"
                f" WHERE nspname ~ '^itkit_[0-9a-f]{{8,12}}_' AND nspname <> '{own}'"
            )
            what = "permission denied for schema"
            refused = [
                self.refused_unless_gone(f"SELECT * FROM {schema}.shop_customer", what)
                for (schema,) in others
            ]
            self.assertGreaterEqual(sum(refused), 1)  # the template stays for as long as the run

        def test_ddl_of_the_schema_is_allowed(self):
            run("ALTER TABLE shop_customer ADD COLUMN note text")
            run("TRUNCATE shop_customer CASCADE")
            run("CREATE TABLE more (n int)")
            run("DROP TABLE more")
            run("ALTER TABLE shop_customer DROP COLUMN note")

        def test_what_migrations_have_made_is_there(self):
            run("INSERT INTO shop_customer (email, nick) VALUES ('a', 'Nick')")
            self.assertEqual(run("SELECT count(*) FROM shop_customer WHERE nick = 'nick'"), [(1,)])
            self.assertEqual(run("SELECT code FROM all_codes"), [("EUR",)])
            run("REFRESH MATERIALIZED VIEW all_codes")
            self.assertEqual(
                run("SELECT has_table_privilege('pg_monitor', 'shop_currency', 'SELECT')"), [(True,)]
            )

        def test_rows_of_migrations_come_back(self):
            Currency.objects.all().delete()

        def test_rows_of_migrations_have_come_back(self):
            self.assertEqual([found.code for found in Currency.objects.all()], ["EUR"])
"""
)
DENIED = """


    class Denied(TransactionTestCase):
        def test_public(self):
            run("CREATE TABLE public.mine (n int)")
"""
IN_DATABASES = (
    HEAD
    + """

    def plain(**changed):
        db = settings.DATABASES["default"]
        single = {
            "host": db["HOST"], "port": db["PORT"] or None, "user": db["USER"],
            "password": db["PASSWORD"], "dbname": db["NAME"],
        }
        return psycopg.connect(**{**single, **changed}, autocommit=True)


    class Tests(Refusing):
        def test_the_role_has_the_name_of_the_database(self):
            [(session, user, database)] = run("SELECT session_user, current_user, current_catalog")
            self.assertEqual([session, user], [database, database])
            self.assertEqual(settings.DATABASES["default"]["USER"], user)

        def test_a_client_of_its_own_lands_in_the_database(self):
            Customer.objects.create(email="a@example.com")
            with plain() as own:
                self.assertEqual(own.execute("SELECT count(*) FROM shop_customer").fetchone(), (1,))

        def test_the_databases_of_others_are_refused(self):
            others = run(
                "SELECT datname FROM pg_database WHERE datname ~ '^itkit_[0-9a-f]{8,12}_'"
                " AND datname <> current_catalog"
            )
            refused = 0
            for (database,) in others:
                # Connecting has no class of its own for what is gone.
                what = f'denied for database|database "{database}" does not exist'
                with self.assertRaisesRegex(psycopg.OperationalError, what):
                    plain(dbname=database)
                for statement in ("DROP DATABASE {}", "ALTER DATABASE {} RENAME TO mine"):
                    refused += self.refused_unless_gone(
                        statement.format(database), "must be owner of database"
                    )
            self.assertGreaterEqual(refused, 2)  # the template stays for as long as the run

        def test_what_a_superuser_may_do_is_refused(self):
            self.refused("CREATE ROLE mine", "permission denied to create role")
            self.refused("CREATE DATABASE mine", "permission denied to create database")
            self.refused("SELECT pg_read_file('PG_VERSION')", "permission denied for function")

        def test_all_ddl_of_the_database_is_allowed(self):
            run("ALTER TABLE shop_customer ADD COLUMN note text")
            run("TRUNCATE shop_customer CASCADE")
            run("CREATE SCHEMA mine CREATE TABLE more (n int)")
            run("CREATE EXTENSION pg_trgm WITH SCHEMA mine")
            run("CREATE OR REPLACE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 43'")
            run("DROP SCHEMA mine CASCADE")
            run("ALTER TABLE shop_customer DROP COLUMN note")

        def test_what_migrations_have_made_is_there(self):
            run("INSERT INTO shop_customer (email, nick) VALUES ('a', 'Nick')")
            self.assertEqual(run("SELECT count(*) FROM shop_customer WHERE nick = 'nick'"), [(1,)])
            self.assertEqual(run("SELECT code FROM all_codes"), [("EUR",)])
            run("REFRESH MATERIALIZED VIEW all_codes")
            self.assertEqual(run("SELECT code FROM reporting.codes"), [("EUR",)])
            self.assertEqual(run("SELECT codes_of_the_owner()"), [(1,)])

        def test_rows_of_migrations_come_back(self):
            Currency.objects.all().delete()

        def test_rows_of_migrations_have_come_back(self):
            self.assertEqual([found.code for found in Currency.objects.all()], ["EUR"])
"""
)
IN_DATABASES_MORE = """
    Migration.operations += [
        migrations.RunSQL("CREATE SCHEMA reporting"),
        migrations.RunSQL("CREATE TABLE reporting.codes AS SELECT code FROM shop_currency"),
        migrations.RunSQL("CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42'"),
        migrations.RunSQL(
            "CREATE FUNCTION codes_of_the_owner() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
            " AS 'SELECT count(*) FROM reporting.codes'"
        ),
    ]
"""
DATABASE = {"ITKIT_POSTGRES_ISOLATION": "database"}
DENIED_DATABASE = """


    class Denied(TransactionTestCase):
        def test_another_database(self):
            plain(dbname="postgres")
"""
ADVICE = 'A project whose tests need more sets ITKIT = {"POSTGRES": {"ROLE": "project"}}'


@pytest.mark.parametrize("door", DOORS)
def test_the_server_keeps_a_worker_in_its_schema(door: str, project: Project) -> None:
    project.write("shop/migrations/0002_more.py", MORE)
    write_tests(project, TESTS)
    result = enter(door, project)
    assert result.counts == {"passed": 8}, result.output
    assert "migrates anew" not in result.output
    if door == "django":
        write_tests(project, TESTS + DENIED)
        result = enter(door, project)  # it claims what the first run has kept
        assert result.counts == {"passed": 8, "failed": 1}, result.output
        assert "permission denied for schema public" in result.output
        assert ADVICE in result.output


@pytest.mark.parametrize(
    ("role", "door", "runs"),
    [("boss", "pytest", 1), ("maker", "django", 2), ("maker", "pytest, two xdist workers", 1)],
)
@pytest.mark.slow
def test_roles_come_and_go_with_schemas_on_a_server_of_the_developers(
    role: str, door: str, runs: int, project: Project, sentinel: Sentinel
) -> None:
    sentinel.point(project, role)
    project.write("shop/migrations/0002_more.py", MORE)
    write_tests(project, TESTS)
    before = sentinel.digest()
    for _ in range(runs):
        result = enter(door, project)
        assert result.counts == {"passed": 8}, result.output
        assert "migrates anew" not in result.output
    assert sentinel.digest() == before
    with sentinel.connect() as connection:
        kept = connection.execute(
            "SELECT rolname, rolcanlogin, rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles"
            " WHERE rolname ~ '^itkit_'"
        ).fetchall()
    assert 1 <= len(kept) <= (2 if "xdist" in door else 1)
    for name, *rights in kept:
        assert "_kept_" in name
        assert rights == [False, False]
    project.manage("itkit", "clean")
    assert sentinel.ours() == []
    assert sentinel.digest() == before


@pytest.mark.parametrize("door", DOORS)
def test_the_server_keeps_a_worker_in_its_database(door: str, project: Project) -> None:
    project.write("shop/migrations/0002_more.py", MORE + IN_DATABASES_MORE)
    write_tests(project, IN_DATABASES)
    result = enter(door, project, **DATABASE)
    assert result.counts == {"passed": 8}, result.output
    if door == "django":
        write_tests(project, IN_DATABASES + DENIED_DATABASE)
        result = enter(door, project, **DATABASE)  # it claims what the first run has kept
        assert result.counts == {"passed": 8, "failed": 1}, result.output
        assert 'permission denied for database "postgres"' in result.output
        assert "which may use the worker's own database, and nothing else" in result.output
        assert ADVICE in result.output
        assert "ISOLATION" not in result.output


@pytest.mark.parametrize(("role", "door", "runs"), [("boss", "pytest", 1), ("maker", "django", 2)])
def test_roles_come_and_go_with_databases_on_a_server_of_the_developers(
    role: str, door: str, runs: int, project: Project, sentinel: Sentinel
) -> None:
    sentinel.point(project, role)
    project.write("shop/migrations/0002_more.py", MORE + IN_DATABASES_MORE)
    write_tests(project, IN_DATABASES)
    before = sentinel.digest()
    for _ in range(runs):
        result = enter(door, project, **DATABASE)
        assert result.counts == {"passed": 8}, result.output
    assert sentinel.digest() == before
    with sentinel.connect() as connection:
        query = (
            "SELECT rolname ~ '_template$', rolcanlogin,"
            " rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname ~ '^itkit_'"
        )
        assert connection.execute(query).fetchall() == [(True, False, False)]  # the template's
    project.manage("itkit", "clean", **DATABASE)
    assert sentinel.ours() == []
    assert sentinel.digest() == before


SAYS = """
    from django.db import connection
    from django.test import TestCase

    class Tests(TestCase):
        def test_the_role(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_user")
                print("logged in as", *cursor.fetchone())
"""
SUPERUSERS = """
    from django.db import migrations

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [migrations.RunSQL("SELECT pg_read_file('PG_VERSION')")]
"""


def test_the_role_that_may_create_none_stays_and_is_told(
    project: Project, sentinel: Sentinel
) -> None:
    sentinel.point(project, "builder")
    write_tests(project, SAYS)
    result = project.test("--integration")
    assert result.counts == {"passed": 1}, result.output
    assert "logged in as builder" in result.output
    assert "the role 'builder' may not create roles: only the search_path keeps" in result.output
    refused = project.test("--integration", ITKIT_POSTGRES_ROLE="worker")
    assert refused.code == 1
    assert 'ALTER ROLE "builder" CREATEROLE;' in refused.output
    assert "Traceback" not in refused.output
    result = project.test("--integration", **DATABASE)
    assert result.counts == {"passed": 1}, result.output
    assert "logged in as builder" in result.output
    assert "the role 'builder' may not create roles: only NAME keeps" in result.output


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.slow
def test_migrations_that_need_more_get_the_role_of_the_project(
    isolation: str, project: Project
) -> None:
    project.write("shop/migrations/0002_more.py", SUPERUSERS)
    write_tests(project, SAYS)
    for _ in range(2):
        result = project.test("--integration", ITKIT_POSTGRES_ISOLATION=isolation)
        assert result.counts == {"passed": 1}, result.output
        assert "logged in as postgres" in result.output
        assert (
            "the migration shop.0002_more needs more (permission denied for function pg_read_file)"
            in result.output
        )
    both = {"ITKIT_POSTGRES_ROLE": "worker", "ITKIT_POSTGRES_ISOLATION": isolation}
    refused = project.test("--integration", **both)
    assert refused.code == 1
    assert "the migration shop.0002_more needs more" in refused.output
    assert "ITKIT_POSTGRES_ROLE=project in the environment" in refused.output


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    with connect(postgres_url, application="test") as connection:
        yield connection
        for name in (PLACE, KEPT, TEMPLATE):
            Schemas(connection).drop(name)


def test_a_role_follows_its_schema(connection: psycopg.Connection[Any], postgres_url: str) -> None:
    places = Schemas(connection, SECRET)
    places.create(PLACE, RUN, has_role=True)
    assert [found.name for found in places.registered()] == [PLACE]
    with psycopg.connect(postgres_url, user=PLACE, autocommit=True) as own:
        for where in ("", f"IN DATABASE {own.info.dbname}"):  # as a test may do
            own.execute(f"ALTER ROLE CURRENT_USER {where} SET statement_timeout = '1ms'")
            own.execute(f"ALTER ROLE CURRENT_USER {where} SET search_path = public")
    places.rename(PLACE, KEPT, "kept")
    assert roles.registered(connection, places.role_comment) == [KEPT]
    assert not can_log_in(connection, KEPT)
    places.rename(KEPT, PLACE, "claimed")
    assert can_log_in(connection, PLACE)
    with psycopg.connect(postgres_url, user=PLACE) as own:
        assert value(own, "SELECT current_schema()") == PLACE
        assert value(own, "SHOW statement_timeout") == "0"
    places.drop(PLACE)
    assert roles.registered(connection, places.role_comment) == []


def can_log_in(connection: psycopg.Connection[Any], name: str) -> bool:
    return bool(value(connection, "SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", [name]))


def test_what_a_role_has_made_of_a_schema_is_taken_over(
    connection: psycopg.Connection[Any], postgres_url: str
) -> None:
    places = Schemas(connection, SECRET)
    places.create(TEMPLATE, RUN)
    with places.lent(TEMPLATE, PLACE) as left:
        assert [found.name for found in places.registered()] == [TEMPLATE]
        with psycopg.connect(postgres_url, user=PLACE, autocommit=True) as own:
            own.execute(f"CREATE TABLE {TEMPLATE}.t (n int)")
            own.execute(
                f"ALTER DEFAULT PRIVILEGES IN SCHEMA {TEMPLATE} GRANT SELECT ON TABLES TO PUBLIC"
            )
    assert left == ["a migration alters default privileges"]
    owners = (
        "SELECT pg_get_userbyid(relowner), pg_get_userbyid(nspowner) FROM pg_class"
        " JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s"
    )
    assert connection.execute(owners, [TEMPLATE]).fetchall() == [("postgres", "postgres")]
    assert roles.registered(connection, places.role_comment) == []


def test_the_roles_of_dead_runs_are_swept(connection: psycopg.Connection[Any]) -> None:
    query = "SELECT rolname FROM pg_roles WHERE rolname ~ '^itkit_'"
    others = set(connection.execute(query))  # of runs in other databases
    places = Schemas(connection, SECRET)
    places.create(PLACE, RUN, has_role=True)
    with connection.transaction():
        roles.create(
            connection, f"itkit_{RUN}_w1", SECRET, places.role_comment
        )  # it was killed while it migrated
        roles.create(
            connection, KEPT, SECRET, places.role_comment
        )  # somebody has dropped the schema
        connection.execute("CREATE ROLE itkit_mine")
    connection.execute("CREATE DATABASE short_lived")
    elsewhere = f"{connection.info.dsn} dbname=short_lived"
    with connect(elsewhere, application="test") as other, other.transaction():
        roles.create(other, f"itkit_{RUN}_w2", SECRET, roles.of_schemas(other))
    connection.execute("DROP DATABASE short_lived")
    assert places.drop_stale() == [PLACE]
    assert set(connection.execute(query)) - others == {("itkit_mine",)}
    connection.execute("DROP ROLE itkit_mine")


@pytest.fixture(params=["postgres_url", "system_url"])
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """The databases of somebody who may create databases and roles, and nothing else."""
    server = parse(request.getfixturevalue(request.param), POSTGRES_SCHEMES)
    with connect(str(server), application="test") as boss:
        boss.execute("CREATE ROLE test_maker LOGIN CREATEDB CREATEROLE PASSWORD 'maker'")
        own = replace(server, user="test_maker", password="maker")
        with connect(str(own), application="test") as connection:
            places = Databases(connection, own, SECRET)
            yield places
            for name in (PLACE, KEPT, TEMPLATE):
                places.drop(name)
        boss.execute("DROP ROLE test_maker")


def test_runs_at_once_drop_the_same_roles(postgres_url: str) -> None:
    of_places = [f"itkit_0123abcd_w{number}" for number in range(40)]
    lost = [f"itkit_4567cdef_w{number}" for number in range(40)]
    begin = threading.Barrier(4)

    def drop(_: int) -> None:
        with connect(postgres_url, application="test") as own:
            begin.wait()
            for name in of_places:
                roles.drop(own, name, roles.of_schemas(own))
            roles.drop_lost(own)

    with connect(postgres_url, application="test") as own:
        comment_of_lost = roles.of_schemas(own).replace(
            f"database {own.info.dbname}", "database gone"
        )
        with own.transaction():
            for name in of_places:
                roles.create(own, name, SECRET, roles.of_schemas(own))
            for name in lost:
                roles.create(own, name, SECRET, comment_of_lost)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(drop, range(4)))
        left = "SELECT count(*) FROM pg_roles WHERE rolname ~ '^itkit_(0123abcd|4567cdef)_'"
        assert value(own, left) == 0


def test_runs_at_once_shut_the_same_role(
    connection: psycopg.Connection[Any], postgres_url: str
) -> None:
    roles.create(connection, PLACE, SECRET, roles.of_schemas(connection))
    connection.execute("CREATE DATABASE elsewhere")
    try:
        with connect(f"{connection.info.dsn} dbname=elsewhere", application="test") as other:
            other.execute(f"CREATE SCHEMA owned AUTHORIZATION {PLACE}")  # so nobody can drop it
        with (
            connect(postgres_url, application="test") as own,
            ThreadPoolExecutor(1) as pool,
        ):
            with connection.transaction():
                connection.execute(f"ALTER ROLE {PLACE} NOLOGIN PASSWORD NULL")
                dropped = pool.submit(roles.drop, own, PLACE, roles.of_schemas(own))
                blocked = "SELECT pg_blocking_pids(%s) <> '{}'"
                while not value(connection, blocked, [own.info.backend_pid]):
                    assert not dropped.done()
            dropped.result()
        assert not can_log_in(connection, PLACE)
    finally:
        connection.execute("DROP DATABASE elsewhere")
        roles.drop(connection, PLACE, roles.of_schemas(connection))


def test_runs_begin_and_end_at_once_in_two_databases(postgres_url: str) -> None:
    server = parse(postgres_url, POSTGRES_SCHEMES)
    homes = ["at_once_a", "at_once_b"]
    begin = threading.Barrier(6)

    def run(number: int) -> None:
        url = str(replace(server, name=homes[number % 2]))
        begin.wait()
        for again in range(3):
            run_begins_and_ends(url, f"a70ce{number}{again:02}")

    with connect(postgres_url, application="test") as boss:
        for name in homes:
            boss.execute(f"CREATE DATABASE {name}")
        with boss.transaction():  # of dead runs
            for number in range(20):
                where = roles.of_schemas(boss).replace(
                    f"database {boss.info.dbname}", f"database {('gone', *homes)[number % 3]}"
                )
                roles.create(boss, f"itkit_dead{number:04}_w0", SECRET, where)
        try:
            with ThreadPoolExecutor(6) as pool:
                list(pool.map(run, range(6)))
            left = "SELECT array_agg(rolname) FROM pg_roles WHERE rolname ~ '^itkit_(dead|a70ce)'"
            assert value(boss, left) is None
        finally:
            for name in homes:
                boss.execute(f"DROP DATABASE {name} WITH (FORCE)")


def run_begins_and_ends(url: str, run: str) -> None:
    """Do what a run does to what all runs on a server share."""
    with connect(url, application="test") as own:
        locks.hold_run(own, run)
        assert roles.why_not(own, url, run) is None
        places = Schemas(own, SECRET)
        places.drop_stale()
        asked = [extensions.Asked("citext"), extensions.Asked("hstore", "more")]
        extensions.prepare(own, asked, may_move=True)
        roles.shut_public(own, is_on_path=False)
        place, kept = f"itkit_{run}_w0", f"itkit_{FINGERPRINT}_kept_{run}"
        places.create(place, run, has_role=True)
        for name, new in ((place, kept), (kept, place)):
            with own.transaction():
                places.rename(name, new, comment(run) if new == place else "kept")
        template = f"itkit_{run}_w1"
        places.create(template, run)
        with places.lent(template, f"itkit_{run}_w2"):
            pass
        assert sorted(places.drop_of_run(run)) == [place, template]
        with locks.setup(own):
            extensions.drop(own)


def test_a_run_does_not_sweep_the_role_by_which_another_one_tries_a_login(
    connection: psycopg.Connection[Any], postgres_url: str
) -> None:
    def begin() -> None:
        with connect(postgres_url, application="test") as own:
            Schemas(own).drop_stale()

    locks.hold_run(connection, RUN)
    with pooler(socket_of(postgres_url), "passes", before=begin) as port:
        why = roles.why_not(connection, behind(port), RUN)
    assert why is None
    assert not roles.exists(connection, PLACE, roles.of_schemas(connection))


def test_a_role_follows_its_database(databases: Databases) -> None:
    connection, dsn = databases.connection, databases.connection.info.dsn
    databases.create(TEMPLATE, RUN)
    with databases.lent(TEMPLATE, PLACE) as left:
        login = {"user": PLACE, "password": roles.password(SECRET, PLACE), "options": ""}
        with psycopg.connect(dsn, dbname=TEMPLATE, **login, autocommit=True) as own:
            own.execute("CREATE TABLE t (n int); CREATE SCHEMA more CREATE TABLE u (n int)")
            own.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
            own.execute(f'ALTER DATABASE {TEMPLATE} SET search_path = more, "Odd, name", public')
            own.execute(f"ALTER DATABASE {TEMPLATE} SET timezone = 'Asia/Tokyo'")
    assert left == ["a migration alters default privileges"]
    assert roles.registered(connection, databases.role_comment) == [TEMPLATE]
    databases.copy(TEMPLATE, PLACE, RUN, has_role=True)
    assert [found.name for found in databases.registered()] == [TEMPLATE, PLACE]
    with psycopg.connect(dsn, dbname=PLACE, **login, autocommit=True) as own:
        own.execute("INSERT INTO u VALUES (1); ALTER TABLE t ADD m int; DROP TABLE more.u")
        for where in ("", f"IN DATABASE {PLACE}"):  # as a test may do
            own.execute(f"ALTER ROLE CURRENT_USER {where} SET statement_timeout = '1ms'")
        own.execute(f"ALTER DATABASE {PLACE} SET lock_timeout = '1ms'")
        own.execute(f"ALTER DATABASE {PLACE} RESET timezone")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(dsn, dbname=TEMPLATE, **login)
    databases.rename(PLACE, KEPT, "kept")
    assert not can_log_in(connection, KEPT)
    databases.rename(KEPT, PLACE, "claimed")
    with psycopg.connect(dsn, dbname=PLACE, **login) as own:
        assert value(own, "SHOW statement_timeout") == value(own, "SHOW lock_timeout") == "0"
        assert value(own, "SHOW search_path") == 'more, "Odd, name", public'
        assert value(own, "SHOW timezone") == "Asia/Tokyo"
    databases.drop(TEMPLATE)  # which copies of it outlast
    assert roles.registered(connection, databases.role_comment) == [TEMPLATE, PLACE]
    databases.register(PLACE, comment(RUN))
    databases.drop_of_run(RUN)
    assert roles.registered(connection, databases.role_comment) == []


def test_the_roles_of_databases_of_dead_runs_are_swept(databases: Databases) -> None:
    connection = databases.connection
    databases.create(PLACE, RUN, has_role=True)
    with connection.transaction():
        for name in (f"itkit_{RUN}_w1", KEPT, TEMPLATE):  # their databases are gone
            roles.create(connection, name, SECRET, databases.role_comment)
        roles.create(connection, f"itkit_{RUN}_w2", SECRET, roles.of_schemas(connection))
    assert databases.drop_stale() == [PLACE]
    assert roles.registered(connection, databases.role_comment) == []
    assert Schemas(connection).drop_stale() == []
    assert roles.registered(connection, roles.of_schemas(connection)) == []


def test_a_denied_table_of_an_extension_is_told_with_the_isolation_that_helps() -> None:
    shown = "InsufficientPrivilege: permission denied for table spatial_ref_sys"
    in_schema = explain.denied(shown, SchemaIsolation.reach, SchemaIsolation.wider)
    in_database = explain.denied(shown, DatabaseIsolation.reach, DatabaseIsolation.wider)

    assert "; one that needs several schemas, or writes to a table that an extension has made" in (
        in_schema
    )
    assert 'sets ITKIT = {"POSTGRES": {"ISOLATION": "database"}}, as the runs share' in in_schema
    assert "ISOLATION" not in in_database

"""What itkit does inside a Postgres that is not its own."""

from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest

from itkit.exceptions import IsolationError, ServiceUnavailableError
from itkit.postgres import probe
from itkit.postgres.migrations import extensions
from itkit.postgres.server import locks, places, sql
from itkit.postgres.server.server import connect
from itkit.postgres.template.schemas import Schemas
from tests.support.projects import Project

RUN, OTHER = "0123abcd", "f123abcd"

TESTS = """
    from django.db import connection
    from itkit.test import IntegrationTestCase
    from shop.models import Customer

    class Rows(IntegrationTestCase):
        def test_a_row(self):
            Customer.objects.create(email="a@example.com")
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_database()")
                print("DATABASE", cursor.fetchone()[0])
"""


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection]:
    with connect(postgres_url, application="test") as connection:
        yield connection
        for name in names_of(connection):
            Schemas(connection).drop(name)
        connection.execute("DROP SCHEMA IF EXISTS itkit_ext CASCADE")


@pytest.fixture
def other_connection(postgres_url: str) -> Iterator[psycopg.Connection]:
    with connect(postgres_url, application="test") as connection:
        yield connection


@pytest.fixture
def poor_role(postgres_url: str, connection: psycopg.Connection) -> Iterator[str]:
    """URL of a role that may do nothing but connect, to a database that it does not own."""
    connection.execute("CREATE ROLE poor LOGIN")
    connection.execute("CREATE DATABASE shop_dev")
    yield postgres_url.replace("//postgres@/postgres", "//poor@/shop_dev")
    connection.execute("DROP DATABASE shop_dev WITH (FORCE)")
    connection.execute("DROP ROLE poor")


def names_of(connection: psycopg.Connection) -> list[str]:
    return [found.name for found in Schemas(connection).registered()]


def test_the_probe_tells_the_version(postgres_url: str) -> None:
    assert probe(postgres_url, 5).startswith("Postgres 18")
    assert probe(postgres_url.replace("/postgres?", "/no_such?"), 5).startswith("Postgres 18")


def test_a_schema_is_registered_when_it_is_created(connection: psycopg.Connection) -> None:
    Schemas(connection).create(f"itkit_{RUN}_w1", RUN)
    found = Schemas(connection).registered()
    assert list(found) == [places.Registered(f"itkit_{RUN}_w1", RUN)]


def test_a_schema_with_our_name_but_without_our_comment_is_not_ours(
    connection: psycopg.Connection,
) -> None:
    connection.execute(f"CREATE SCHEMA itkit_{RUN}_w1")
    assert names_of(connection) == []
    assert Schemas(connection).drop_of_run(RUN) == []
    assert Schemas(connection).drop_stale() == []
    connection.execute(f"DROP SCHEMA itkit_{RUN}_w1")


def test_a_schema_of_another_name_is_never_dropped(connection: psycopg.Connection) -> None:
    with pytest.raises(ValueError, match="'public' is no name of itkit's"):
        Schemas(connection).drop("public")


def test_the_schemas_of_a_living_run_are_not_stale(
    connection: psycopg.Connection, other_connection: psycopg.Connection
) -> None:
    locks.hold_run(other_connection, OTHER)
    Schemas(other_connection).create(f"itkit_{OTHER}_w0", OTHER)
    assert locks.other_runs_alive(connection)
    assert Schemas(connection).drop_stale() == []
    other_connection.close()
    while locks.other_runs_alive(connection):
        pass  # the server notices the end of a connection a moment later
    assert Schemas(connection).drop_stale() == [f"itkit_{OTHER}_w0"]


def test_dropping_a_run_ends_its_connections_only(
    postgres_url: str, connection: psycopg.Connection, other_connection: psycopg.Connection
) -> None:
    Schemas(connection).create(f"itkit_{RUN}_w0", RUN)
    idle = psycopg.connect(postgres_url, application_name=places.application_name(RUN, "w0"))
    idle.execute(f"CREATE TABLE itkit_{RUN}_w0.t ()")  # its locks would block the drop for ever
    assert Schemas(connection).drop_of_run(RUN) == [f"itkit_{RUN}_w0"]
    with pytest.raises(psycopg.OperationalError):
        idle.execute("SELECT 1")
    assert other_connection.execute("SELECT 1").fetchone() == (1,)


def asked(*names: str) -> list[extensions.Asked]:
    return [extensions.Asked(name) for name in names]


def test_extensions_go_to_a_schema_of_their_own(connection: psycopg.Connection) -> None:
    extensions.prepare(connection, asked("citext", "pg_trgm", "citext"), may_move=False)
    found = connection.execute(
        "SELECT extname, extnamespace::regnamespace::text FROM pg_extension ORDER BY 1"
    ).fetchall()
    assert ("citext", "itkit_ext") in found
    assert ("pg_trgm", "itkit_ext") in found


def test_extensions_stay_while_another_run_lives(
    connection: psycopg.Connection, other_connection: psycopg.Connection
) -> None:
    extensions.prepare(connection, asked("citext"), may_move=False)
    locks.hold_run(other_connection, OTHER)
    extensions.drop(connection)
    exists = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citext')"
    assert connection.execute(exists).fetchone() == (True,)
    other_connection.close()
    while locks.other_runs_alive(connection):
        pass  # the server notices the end of a connection a moment later
    extensions.drop(connection)
    assert connection.execute(exists).fetchone() == (False,)


def test_an_extension_in_public_is_used_only_in_a_database_of_ours(
    connection: psycopg.Connection,
) -> None:
    connection.execute("CREATE EXTENSION hstore WITH SCHEMA public")
    with pytest.raises(IsolationError, match="'hstore' sits in the schema 'public'"):
        extensions.prepare(connection, asked("hstore"), may_move=False)
    extensions.prepare(connection, asked("hstore"), may_move=True)


def test_an_extension_that_the_server_lacks_is_named(connection: psycopg.Connection) -> None:
    with pytest.raises(ServiceUnavailableError, match="'pgcrypto', which this Postgres does not"):
        extensions.prepare(connection, asked("pgcrypto"), may_move=False)


def test_extensions_are_found_in_migrations(project: Project) -> None:
    project.write(
        "shop/migrations/0002_extensions.py",
        """
        from django.contrib.postgres.operations import CITextExtension
        from django.db import migrations

        class Migration(migrations.Migration):
            dependencies = [("shop", "0001_initial")]
            operations = [
                CITextExtension(),
                migrations.SeparateDatabaseAndState(
                    database_operations=[migrations.RunSQL('CREATE EXTENSION IF NOT EXISTS "pg_trgm"')]
                ),
                migrations.RunSQL([("create extension hstore", None)]) if False else
                migrations.RunSQL(["create extension if not exists hstore"]),
            ]
        """,
    )
    project.write("shop/tests.py", TESTS)
    result = project.manage(
        "shell",
        "-c",
        "from itkit.postgres.migrations import extensions;"
        " print('FOUND', [asked.name for asked in extensions.wanted(['unaccent'], 'default')])",
    )
    assert "FOUND ['unaccent', 'citext', 'pg_trgm', 'hstore']" in result.output
    assert project.test("--integration", "--parallel", "2").counts == {"passed": 1}


def test_a_role_that_may_do_nothing_is_told_what_it_needs(project: Project, poor_role: str) -> None:
    project.write("shop/tests.py", TESTS)
    result = project.test("--integration", ITKIT_POSTGRES_URL=poor_role)
    assert result.code != 0
    assert 'GRANT CREATE ON DATABASE "shop_dev" TO "poor";' in result.output
    assert "Traceback" not in result.output


def test_a_role_without_createdb_works_in_schemas_of_the_database_that_is_given(
    project: Project, poor_role: str, connection: psycopg.Connection, postgres_url: str
) -> None:
    project.write("shop/tests.py", TESTS)
    connection.execute("GRANT CREATE ON DATABASE shop_dev TO poor")
    result = project.test("--integration", ITKIT_POSTGRES_URL=poor_role)
    assert result.counts == {"passed": 1}, result.output
    assert "DATABASE shop_dev" in result.output
    with psycopg.connect(postgres_url.replace("/postgres?", "/shop_dev?")) as inside:
        left = inside.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'itkit%'")
        assert left.fetchall() == []


def test_the_projects_own_server_is_used_when_it_answers(
    project: Project, postgres_url: str
) -> None:
    project.write("shop/tests.py", TESTS)
    socket = postgres_url.partition("host=")[2]
    project.settings(f"""
        from urllib.parse import unquote
        DATABASES["default"] |= {{"HOST": unquote({socket!r}), "PORT": "", "USER": "postgres",
                                  "OPTIONS": {{"options": "-c statement_timeout=12345"}}}}
    """)
    result = project.test("--integration", ITKIT_SOURCE="auto", ITKIT_POSTGRES_KEEP="0")
    assert result.counts == {"passed": 1}, result.output
    assert 'DATABASES["default"]' in result.output


def test_options_of_the_project_are_kept(project: Project) -> None:
    project.settings("""
        DATABASES["default"]["OPTIONS"] = {
            "options": "-c statement_timeout=12345 -c search_path=public", "service": "nonsense",
            "pool": False,
        }
        DATABASES["default"]["CONN_MAX_AGE"] = 60
    """)
    project.write(
        "shop/tests.py",
        """
        from django.db import connection
        from itkit.test import IntegrationTestCase

        class Options(IntegrationTestCase):
            def test_options(self):
                with connection.cursor() as cursor:
                    cursor.execute("SHOW statement_timeout")
                    self.assertEqual(cursor.fetchone()[0], "12345ms")
                    cursor.execute("SHOW search_path")
                    self.assertNotIn("public", cursor.fetchone()[0])
        """,
    )
    result = project.test("--integration")
    assert result.counts == {"passed": 1}, result.output


def test_async_code_sees_the_schema(project: Project) -> None:
    project.write(
        "shop/tests.py",
        """
        import asyncio
        from itkit.test import IntegrationTestCase
        from shop.models import Customer

        class Async(IntegrationTestCase):
            async def test_async_orm(self):
                await Customer.objects.acreate(email="a@example.com")
                await asyncio.gather(*[Customer.objects.acreate(email=f"{n}@e.com") for n in range(5)])
                self.assertEqual(await Customer.objects.acount(), 6)
        """,
    )
    result = project.test("--integration")
    assert result.counts == {"passed": 1}, result.output


@pytest.mark.parametrize("role", ["Shop-User", "O'Dd \"R"])
def test_a_role_may_be_called_anything(
    project: Project, connection: psycopg.Connection, postgres_url: str, role: str
) -> None:
    project.write("shop/tests.py", TESTS)
    identifier = sql.Identifier(role)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(identifier))
    url = postgres_url.replace("//postgres@", f"//{quote(role)}@")
    result = project.test("--integration", ITKIT_POSTGRES_URL=url)
    connection.execute(sql.SQL("DROP ROLE {}").format(identifier))
    assert result.counts == {"passed": 1}, result.output
    assert "does not" not in result.output


@pytest.mark.slow
def test_rows_that_a_policy_hides_from_their_owner_are_isolated_all_the_same(
    project: Project, poor_role: str, connection: psycopg.Connection
) -> None:
    connection.execute("GRANT CREATE ON DATABASE shop_dev TO poor")
    project.write(
        "shop/migrations/0002_policy.py",
        """
        from django.db import migrations

        class Migration(migrations.Migration):
            dependencies = [("shop", "0001_initial")]
            operations = [migrations.RunSQL([
                "CREATE TABLE letter (tenant text, id serial PRIMARY KEY)",
                "INSERT INTO letter VALUES ('seeded')",
                "ALTER TABLE letter ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
                "CREATE POLICY mine ON letter"
                " USING (tenant = current_setting('shop.tenant', true)) WITH CHECK (true)",
            ])]
        """,
    )
    project.write(
        "shop/tests.py",
        """
        from django.db import connection
        from itkit.test import IntegrationTestCase

        class Letters(IntegrationTestCase):
            def ids(self, tenant):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT set_config('shop.tenant', %s, false)", [tenant])
                    cursor.execute("SELECT id FROM letter ORDER BY id")
                    return [row[0] for row in cursor.fetchall()]

            def check(self):
                self.assertEqual(self.ids("a"), [])
                self.assertEqual(self.ids("seeded"), [1])
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO letter VALUES ('a'), ('b')")
                    cursor.execute("UPDATE letter SET id = 9")
                self.assertEqual(self.ids("a"), [2])
                self.assertEqual(self.ids("seeded"), [9])
                self.assertEqual(self.ids("nobody"), [])

            test_one = test_two = check
        """,
    )
    for _ in range(2):
        result = project.test(
            "--integration", ITKIT_POSTGRES_URL=poor_role, ITKIT_POSTGRES_KEEP="2"
        )
        assert result.counts == {"passed": 2}, result.output
        assert "migrates anew" not in result.output

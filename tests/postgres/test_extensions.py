"""Extensions: each in the schema where a project has it, whatever that is, and shared by no accident."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from itkit.postgres.migrations.escapes import escapes
from tests.support.doors import enter, slow, write_tests
from tests.support.projects import Project, directory

TOYS = {
    # Its control file fixes the schema.
    "zoo.control": "default_version = '1'\nrelocatable = false\nschema = zoo\n",
    "zoo--1.sql": "CREATE FUNCTION zoo_name() RETURNS text LANGUAGE sql AS $$ SELECT 'lion' $$;",
    # It cannot be moved; it has a table.
    "pen.control": "default_version = '1'\nrelocatable = false\n",
    "pen--1.sql": "CREATE FUNCTION @extschema@.pen_name() RETURNS text LANGUAGE sql AS $$ SELECT 'pig' $$;"
    " CREATE TABLE @extschema@.pen_config (n int); CREATE TYPE @extschema@.pen AS (n int);",
    # It can be moved, and has a second version.
    "pool.control": "default_version = '1'\nrelocatable = true\n",
    "pool--1.sql": "CREATE FUNCTION pool_name() RETURNS text LANGUAGE sql AS $$ SELECT 'frog' $$;",
    "pool--1--2.sql": "CREATE FUNCTION pool_size() RETURNS int LANGUAGE sql AS $$ SELECT 2 $$;",
}
MIGRATION = """
    from django.db import migrations

    def python(apps, schema_editor):
        with schema_editor.connection.cursor() as cursor:
            for name in {python}:
                cursor.execute("CREATE EXTENSION %s" % name)

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [migrations.RunSQL({sql!r}), migrations.RunPython(python)]
"""
ASKS = """
    from django.db import connection
    from django.test import TestCase

    from itkit.test import IntegrationTestCase


    def ask(sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0]


    class Asks:
        def test_all(self):
            for sql, answer in {asks!r}:
                with self.subTest(sql):
                    self.assertEqual(ask(sql), answer)


    class RolledBack(Asks, TestCase):
        pass


    class Committed(Asks, IntegrationTestCase):
        def test_again(self):
            self.test_all()
"""
ISOLATIONS = ["schema", "database"]


@pytest.fixture(scope="module")
def server(postgres_url: str) -> Iterator[str]:
    """A server that has the toys, and a template with two extensions and a function in ``public``."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        if admin.info.server_version < 180000:
            pytest.skip("only Postgres 18 finds extensions outside of its own directory")
        with directory() as place:
            files = place / "extension"
            files.mkdir()
            for name, text in TOYS.items():
                (files / name).write_text(text)
            _open_to_all(place)
            admin.execute(f"ALTER SYSTEM SET extension_control_path = '$system:{place}'")
            admin.execute("SELECT pg_reload_conf()")
            admin.execute("CREATE DATABASE farm_template")
            with psycopg.connect(postgres_url, dbname="farm_template", autocommit=True) as template:
                template.execute("SET extension_control_path = '$system:" + str(place) + "'")
                template.execute("CREATE EXTENSION pen; CREATE EXTENSION hstore")
                template.execute(
                    "CREATE FUNCTION of_template() RETURNS int LANGUAGE sql AS 'SELECT 7'"
                )
            yield postgres_url
            admin.execute("DROP DATABASE farm_template")
            admin.execute("ALTER SYSTEM RESET extension_control_path")
            admin.execute("SELECT pg_reload_conf()")


def _open_to_all(place: Path) -> None:
    for path in [place, *place.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def farm(project: Project, server: str, redis_url: str) -> Project:
    """A project on that server."""
    project.env.update(ITKIT_POSTGRES_URL=server, ITKIT_REDIS_URL=redis_url)
    return project


def prepare(
    project: Project, sql: str, asks: dict[str, object], *, python: tuple[str, ...] = ()
) -> None:
    project.write("shop/migrations/0002_extensions.py", MIGRATION.format(sql=sql, python=python))
    write_tests(project, ASKS.format(asks=list(asks.items())))


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize(
    "door", ["django", "django, two forked workers", "pytest, two xdist workers"]
)
def test_each_is_where_the_migrations_want_it(farm: Project, door: str, isolation: str) -> None:
    prepare(
        farm,
        """
        CREATE EXTENSION IF NOT EXISTS zoo;
        CREATE SCHEMA IF NOT EXISTS partman;
        CREATE EXTENSION IF NOT EXISTS pen WITH SCHEMA partman;
        CREATE EXTENSION "pool";
        CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public;
        CREATE SCHEMA hosted;
        create extension citext schema hosted cascade;
        CREATE TABLE tagged (t public.hstore, c hosted.citext, p partman.pen);
        INSERT INTO tagged VALUES ('a=>1', 'A', ROW(3));
        DROP EXTENSION IF EXISTS no_such;
        """,
        {
            "SELECT zoo.zoo_name()": "lion",
            "SELECT partman.pen_name()": "pig",
            "SELECT count(*) FROM partman.pen_config": 0,
            "SELECT pool_name()": "frog",
            "SELECT t -> 'a' FROM tagged WHERE (p).n = 3": "1",
            "SELECT ('b=>2'::hstore) -> 'b'": "2",
        },
    )
    result = enter(door, farm, ITKIT_POSTGRES_ISOLATION=isolation)
    assert result.counts == {"passed": 3}, result.output
    # In a database of its own, only a superuser may create what is not trusted.
    assert isolation == "database" or "by the project's own role" not in result.output
    assert "each worker migrates anew" not in result.output


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("door", ["django", "pytest, two xdist workers"])
def test_what_the_template_has_is_there(farm: Project, door: str, isolation: str) -> None:
    farm.settings('DATABASES["default"]["TEST"] = {"TEMPLATE": "farm_template"}')
    prepare(
        farm,
        "CREATE EXTENSION IF NOT EXISTS pen; CREATE TABLE tagged (t hstore, p pen);"
        " INSERT INTO tagged VALUES ('a=>1', ROW(3))",
        {
            "SELECT pen_name()": "pig",
            "SELECT of_template()": 7,
            "SELECT t -> 'a' FROM tagged WHERE (p).n = 3": "1",
        },
    )
    result = enter(door, farm, ITKIT_POSTGRES_ISOLATION=isolation)
    assert result.counts == {"passed": 3}, result.output


@pytest.mark.parametrize(
    ("sql", "done"),
    [
        (
            "CREATE VIEW frogs AS SELECT pool_name(); DROP EXTENSION IF EXISTS pool CASCADE",
            "dropped the extension 'pool'",
        ),
        slow(
            "DO $$ BEGIN EXECUTE concat('ALTER EXTENSION pool ', 'UPDATE TO ''2'''); END $$",
            "updated to 2 the extension 'pool'",
        ),
        slow(
            "ALTER EXTENSION pool SET SCHEMA public",
            "moved to the schema 'public' the extension 'pool'",
        ),
    ],
)
def test_what_other_runs_use_is_not_changed(farm: Project, sql: str, done: str) -> None:
    prepare(farm, f"CREATE EXTENSION IF NOT EXISTS pool; {sql}", {"SELECT 1": 1})
    result = farm.test("--integration")
    assert result.code != 0
    assert f"The migration shop.0002_extensions has {done}" in result.output
    assert "ITKIT_POSTGRES_ISOLATION=database" in result.output
    alone = farm.test("--integration", ITKIT_POSTGRES_ISOLATION="database")
    assert alone.counts == {"passed": 3}, alone.output


DROPS = """
    from django.db import migrations

    class Migration(migrations.Migration):
        dependencies = [("shop", "0002_extensions")]
        operations = [
            migrations.RunSQL({before!r}),
            migrations.RunSQL('-- not used\\nDROP EXTENSION pool; drop extension if exists "hstore", citext cascade;'),
        ]
"""
USES = (
    "CREATE TABLE t (h hstore)",
    "CREATE TABLE t (h text DEFAULT ('a=>1'::hstore)::text)",
    "CREATE TABLE t (n text CHECK (n::hstore IS NOT NULL))",
    "CREATE TABLE t (n text); CREATE POLICY p ON t USING ((n::hstore -> 'a') IS NULL)",
    "CREATE TABLE t (n text); CREATE INDEX i ON t ((n::hstore -> 'a'))",
    "CREATE VIEW v AS SELECT ('a=>1'::hstore)::text AS h",
    "CREATE FUNCTION f(hstore) RETURNS int LANGUAGE sql AS 'SELECT 1'",
)


def test_one_that_nothing_uses_any_more_may_be_dropped(farm: Project) -> None:
    prepare(
        farm,
        "CREATE EXTENSION pool; CREATE EXTENSION hstore; CREATE EXTENSION citext;"
        " CREATE TABLE tagged (n int, t hstore)",
        {"SELECT count(*) FROM tagged": 0},
    )
    farm.write(
        "shop/migrations/0003_drops.py", DROPS.format(before="ALTER TABLE tagged DROP COLUMN t")
    )
    result = farm.test("--integration", ITKIT_POSTGRES_ROLE="worker")
    assert result.counts == {"passed": 3}, result.output


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_one_that_is_used_may_not_be_dropped(farm: Project, use: str) -> None:
    created = "CREATE EXTENSION pool; CREATE EXTENSION hstore; CREATE EXTENSION citext"
    prepare(farm, f"{created}; {use}", {"SELECT 1": 1})
    farm.write("shop/migrations/0003_drops.py", DROPS.format(before="SELECT 1"))
    result = farm.test("--integration")
    assert "The migration shop.0003_drops has dropped the extension" in result.output


ODD = "how to begin: CREATE EXTENSION pool; COMMENT ON EXTENSION pool IS NULL; CREATE SCHEMA one"
HOME_OF = (
    "SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = "
)
VERSION_OF = "SELECT extversion FROM pg_extension WHERE extname = "


@pytest.mark.parametrize(
    ("sql", "asks"),
    [
        pytest.param(
            """
            CREATE SCHEMA one;
            CREATE EXTENSION pool WITH VERSION '2' SCHEMA one CASCADE;
            CREATE EXTENSION IF NOT EXISTS hstore SCHEMA one VERSION "1.7";
            CREATE TABLE tagged (t one.hstore)
            """,
            {
                "SELECT pool_size()": 2,
                f"{HOME_OF}'pool'": "one",
                f"{HOME_OF}'hstore'": "one",
                f"{VERSION_OF}'hstore'": "1.7",
            },
            id="a version",
        ),
        slow(
            "CREATE EXTENSION pool VERSION '1'; ALTER EXTENSION pool UPDATE TO '2';"
            " CREATE EXTENSION hstore VERSION '1.6'; ALTER EXTENSION hstore UPDATE;"
            " ALTER EXTENSION hstore UPDATE",
            {"SELECT pool_size()": 2, f"{VERSION_OF}'hstore'": "1.8"},
        ),
        pytest.param(
            """
            CREATE SCHEMA one; CREATE EXTENSION IF NOT EXISTS pool SCHEMA one;
            CREATE SCHEMA IF NOT EXISTS two; CREATE EXTENSION IF NOT EXISTS pool SCHEMA two
            """,
            {f"{HOME_OF}'pool'": "one", "SELECT one.pool_name()": "frog"},
            id="two schemas",
        ),
        pytest.param(
            f"""
            CREATE EXTENSION IF NOT EXISTS pool WITH SCHEMA public;
            COMMENT ON EXTENSION pool IS 'it''s a pool; of frogs';
            CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog;
            COMMENT ON EXTENSION plpgsql IS 'PL/pgSQL procedural language';
            CREATE EXTENSION citext WITH SCHEMA pg_catalog;
            DO $$ BEGIN
                CREATE SCHEMA IF NOT EXISTS one;
                EXECUTE 'CREATE SCHEMA IF NOT EXISTS one';
                IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'hstore') THEN
                    CREATE EXTENSION hstore SCHEMA one;
                END IF;
                COMMENT ON EXTENSION hstore IS NULL;
            END $$;
            CREATE TABLE notes (t text, h one.hstore);
            INSERT INTO notes VALUES ('{ODD}'), ($${ODD}$$)
            """,
            {
                "SELECT count(DISTINCT t)::int FROM notes": 1,
                "SELECT min(t) FROM notes": ODD,
                "SELECT public.pool_name()": "frog",
                f"{HOME_OF}'hstore'": "one",
                "SELECT 'A'::pg_catalog.citext = 'a'": True,
            },
            id="a dump",
        ),
    ],
)
def test_migrations_of_every_style_run_by_the_role_of_a_worker(
    farm: Project, sql: str, asks: dict[str, object]
) -> None:
    prepare(farm, sql, asks)
    result = farm.test("--integration", ITKIT_POSTGRES_ROLE="worker")
    assert result.counts == {"passed": 3}, result.output


def test_a_version_that_the_server_does_not_have_is_named(farm: Project) -> None:
    prepare(farm, "CREATE EXTENSION pool VERSION '7'", {"SELECT 1": 1})
    result = farm.test("--integration")
    assert "The tests need the version '7' of the extension 'pool'" in result.output
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_runs_that_want_other_versions_follow_each_other(farm: Project) -> None:
    installed = "SELECT count(*) FROM pg_proc WHERE proname = 'pool_size'"
    for number, version in enumerate("12"):
        prepare(farm, f"CREATE EXTENSION pool VERSION '{version}'", {installed: number})
        result = farm.test("--integration", ITKIT_POSTGRES_KEEP="1")
        assert result.counts == {"passed": 3}, result.output
    prepare(farm, "CREATE EXTENSION pool VERSION '1'; SELECT 1", {"SELECT 1": 1})
    result = farm.test("--integration", ITKIT_POSTGRES_KEEP="1")
    assert "A migration wants the version '1' of the extension 'pool'" in result.output
    assert "Traceback" not in result.output
    assert farm.manage("itkit", "clean").code == 0


@pytest.mark.parametrize("door", ["django, two forked workers", "pytest, two xdist workers"])
def test_one_that_only_python_creates_is_made_for_all(farm: Project, door: str) -> None:
    prepare(farm, "SELECT 1", {"SELECT pool_name()": "frog"}, python=("pool", '"hstore"'))
    for _ in range(2):
        result = enter(door, farm, ITKIT_POSTGRES_KEEP="2", ITKIT_POSTGRES_ROLE="worker")
        assert result.counts == {"passed": 3}, result.output
    assert farm.manage("itkit", "clean").code == 0


FIXTURE = """
    import pytest
    from django.db import connection

    @pytest.fixture(scope="session")
    def django_db_setup(django_db_setup, django_db_blocker):
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pool")
"""
RECEIVER = """
    from django.apps import AppConfig
    from django.db.backends.signals import connection_created

    def create(connection, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute('CREATE EXTENSION IF NOT EXISTS "pool"')

    class Shop(AppConfig):
        name = "shop"

        def ready(self):
            connection_created.connect(create)
"""


@pytest.mark.parametrize("role", ["auto", slow("project")])
@pytest.mark.parametrize(
    ("file", "text", "door"),
    [
        ("conftest.py", FIXTURE, "pytest, two xdist workers"),
        ("shop/apps.py", RECEIVER, "django, two forked workers"),
    ],
    ids=["fixture", "receiver"],
)
def test_one_that_the_set_up_creates_is_made_for_all(
    farm: Project, file: str, text: str, door: str, role: object
) -> None:
    prepare(farm, "SELECT 1", {"SELECT pool_name()": "frog", f"{HOME_OF}'pool'": "itkit_ext"})
    farm.write(file, text)
    result = enter(door, farm, ITKIT_POSTGRES_ROLE=str(role))
    assert result.counts == {"passed": 3}, result.output


BACK_AND_FORTH = """
    from django.core.management import call_command
    from django.db import connection, transaction
    from django.test import TestCase, TransactionTestCase


    class Asks:
        def ask(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pool_name(), to_regclass('tagged') IS NULL")
                self.assertEqual(cursor.fetchone(), ("frog", False))


    class Migrates(Asks, TransactionTestCase):
        def test_back_and_forth(self):
            call_command("migrate", "shop", "0001", verbosity=0)
            call_command("migrate", "shop", "0002", verbosity=0)
            self.ask()


    class Fixture(Asks, TestCase):
        def setUp(self):
            with connection.cursor() as cursor:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS hstore")

        def tearDown(self):
            with connection.cursor() as cursor:
                cursor.execute("DROP EXTENSION IF EXISTS hstore")

        def test_one(self):
            self.ask()

        def test_two(self):
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE words (counts hstore)")
                with self.assertRaisesMessage(Exception, "owner of extension hstore"):
                    with transaction.atomic():
                        cursor.execute("DROP EXTENSION hstore")
                cursor.execute("DROP TABLE words")
"""


@pytest.mark.parametrize(
    "door",
    ["django, two forked workers", "django, two spawned workers", "pytest, two xdist workers"],
)
def test_one_that_a_test_drops_and_nothing_uses_stays_for_the_others(
    farm: Project, door: str
) -> None:
    farm.write(
        "shop/migrations/0002_extensions.py",
        """
        from django.db import migrations

        class Migration(migrations.Migration):
            dependencies = [("shop", "0001_initial")]
            operations = [
                migrations.RunSQL("CREATE EXTENSION pool", "DROP EXTENSION pool"),
                migrations.RunSQL("CREATE TABLE tagged (name text)", "DROP TABLE tagged"),
            ]
        """,
    )
    write_tests(farm, BACK_AND_FORTH)
    result = enter(door, farm, ITKIT_POSTGRES_ROLE="worker")
    assert result.counts == {"passed": 3}, result.output


def test_one_that_a_test_may_not_create_is_named_in_the_settings(farm: Project) -> None:
    prepare(farm, "SELECT 1", {"CREATE EXTENSION pool": 1})
    result = farm.test("--integration")
    assert "permission denied to create extension" in result.output
    assert 'name it: ITKIT = {"POSTGRES": {"EXTENSIONS": ["pool"]}}' in result.output


@pytest.mark.slow
def test_one_is_created_where_the_migration_runs_only(farm: Project) -> None:
    farm.settings("""
        DATABASES["reports"] = DATABASES["default"] | {"NAME": "reports"}
        DATABASE_ROUTERS = ["shop.routers.Router"]
    """)
    farm.write(
        "shop/routers.py",
        """
        class Router:
            def allow_migrate(self, db, app_label, **hints):
                return db == "default"
        """,
    )
    prepare(farm, "CREATE EXTENSION pool", {"SELECT pool_name()": "frog"})
    write_tests(
        farm,
        """
        from django.db import connections
        from django.test import TestCase

        class Both(TestCase):
            databases = {"default", "reports"}

            def test_both(self):
                for alias, count in (("default", 1), ("reports", 0)):
                    with connections[alias].cursor() as cursor:
                        cursor.execute("SELECT count(*) FROM pg_extension WHERE extname = 'pool'")
                        self.assertEqual(cursor.fetchone(), (count,))
        """,
    )
    result = farm.test("--integration")
    assert result.counts == {"passed": 1}, result.output


def test_one_that_nobody_saw_coming_is_named(farm: Project) -> None:
    unseen = "DO $$ BEGIN EXECUTE concat('CREATE EXT', 'ENSION IF NOT EXISTS pool'); END $$"
    prepare(farm, unseen, {"SELECT pool_name()": "frog"})
    result = farm.test("--integration")
    assert (
        "has created the extension 'pool' in a way that itkit did not see before" in result.output
    )
    assert 'ITKIT = {"POSTGRES": {"EXTENSIONS": ["pool"]}}' in result.output
    farm.settings('ITKIT["POSTGRES"] = {"EXTENSIONS": ["pool"]}')
    assert farm.test("--integration").counts == {"passed": 3}


@pytest.mark.parametrize(
    "statement",
    [
        "EXECUTE format('CREATE EXTENSION IF NOT EXISTS %I', 'pool')",
        slow("EXECUTE concat('CREATE EXTENSION IF NOT EXISTS ', 'pool')"),
    ],
)
def test_a_name_that_the_server_puts_in_is_no_name(farm: Project, statement: str) -> None:
    prepare(farm, f"DO $$ BEGIN {statement}; END $$", {"SELECT pool_name()": "frog"})
    result = farm.test("--integration")
    assert "has created the extension 'pool'" in result.output, result.output


def test_what_belongs_to_the_database_is_outside(farm: Project) -> None:
    set_for_all = (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''5MB''',"
        " current_database()); END $$"
    )
    wrapper = "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER there FOREIGN DATA WRAPPER far"
    prepare(farm, f"{wrapper}; CREATE PUBLICATION news; {set_for_all}", {"SELECT 1": 1})
    result = farm.test("--integration")
    for what in (
        "the foreign-data wrapper far was created",
        "the foreign server there was created",
        "the publication news was created",
        "a setting of the database was created",
    ):
        assert what in result.output, result.output
    alone = farm.test("--integration", ITKIT_POSTGRES_ISOLATION="database")
    assert alone.counts == {"passed": 3}, alone.output


def test_doctor_names_the_tables_that_all_share(farm: Project) -> None:
    prepare(farm, "CREATE EXTENSION pen; CREATE EXTENSION pool", {"SELECT 1": 1})
    shared = (
        "database of 'default': to be looked at: the tables of the extension pen: pen_config: all"
        " workers read the same rows, and may write none"
    )
    result = farm.manage("itkit", "doctor")
    assert shared in result.output
    assert "the tables of the extension pool" not in result.output
    alone = farm.manage("itkit", "doctor", ITKIT_POSTGRES_ISOLATION="database")
    assert "to be looked at" not in alone.output


@pytest.mark.parametrize(
    "statement",
    [
        "DROP EXTENSION IF EXISTS pool",
        "ALTER EXTENSION pool SET SCHEMA x",
    ],
)
def test_doctor_knows_what_is_refused(statement: str) -> None:
    (found,) = escapes(statement)
    assert found.escape.why.startswith("the extension is that of all runs in the database")
    assert "the migration is refused" in found.escape.why.replace("such a", "the")
    assert list(escapes(f"-- {statement}")) == list(escapes("DROP TABLE extension")) == []

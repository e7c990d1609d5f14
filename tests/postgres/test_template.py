"""Migrated once: the template, what is kept of it, and when it has to be made anew."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from itkit.core import names
from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.postgres.server import locks
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import connect
from itkit.postgres.template.schema_template import SchemaTemplate, templates
from itkit.postgres.template.schemas import Schemas
from itkit.postgres.template.template import evict
from tests.support.projects import Project, Result, own_databases

pytestmark = pytest.mark.usefixtures("no_databases")

MIGRATION = """
    from django.db import migrations

    def tell(apps, schema_editor):
        print("MIGRATED")

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [migrations.RunPython(tell, migrations.RunPython.noop)]
"""

# Says where it is, and leaves rows of all kinds to whoever comes next.
TESTS = """
    from django.db import connection
    from itkit.test import IntegrationTestCase
    from shop.models import Currency, Customer


    class Rows(IntegrationTestCase):
        def test_rows(self):
            self.assertFalse(Customer.objects.exists())
            self.assertEqual([currency.code for currency in Currency.objects.all()], ["EUR"])
            self.assertEqual(Customer.objects.create(email="a@example.com").pk, 1)
            Currency.objects.update(code="USD")
            Currency.objects.create(code="GBP")
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT coalesce(to_regnamespace(nullif(current_schema(), 'public'))::oid,"
                    " (SELECT oid FROM pg_database WHERE datname = current_database()))"
                )
                print("PLACE", cursor.fetchone()[0])
"""

ISOLATIONS = pytest.mark.parametrize("isolation", ["schema", "database"])
DATABASES = "SELECT datname FROM pg_database WHERE datname ~ '^(itkit_|test_)' ORDER BY 1"


@pytest.fixture
def server(postgres_url: str) -> Iterator[dict[str, str]]:
    """The environment of a server on which much may be kept; afterwards nothing of it is."""
    yield {"ITKIT_POSTGRES_URL": postgres_url, "ITKIT_POSTGRES_KEEP": "4"}
    with connected(postgres_url) as connection:
        for (name,) in connection.execute(DATABASES).fetchall():
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def shop(project: Project) -> Project:
    project.write("shop/migrations/0002_tell.py", MIGRATION)
    project.write("shop/tests.py", TESTS)
    return project


def connected(url: str, database: str = "postgres") -> "psycopg.Connection[tuple[Any, ...]]":
    address = replace(parse(url, POSTGRES_SCHEMES), name=database)
    return psycopg.connect(str(address), autocommit=True)


def passed(project: Project, *arguments: str, **env: str) -> Result:
    result = project.test("--integration", *arguments, **env)
    assert result.code == 0, result.output
    return result


def place(result: Result) -> str:
    return re.findall(r"PLACE (\d+)", result.output)[0]


def has_migrated(result: Result) -> bool:
    return "MIGRATED" in result.output


def kept(url: str) -> list[str]:
    """Return the schemas that are kept in the database of the shop's tests."""
    with connected(url, own_databases(url)[0]) as connection:
        return [name for name in Schemas(Connection(connection)).described() if "_kept_" in name]


@ISOLATIONS
def test_the_second_run_claims_what_the_first_has_kept(
    isolation: str, shop: Project, server: dict[str, str]
) -> None:
    env = {**server, "ITKIT_POSTGRES_ISOLATION": isolation}
    first, second, third = (passed(shop, **env) for _ in range(3))
    assert has_migrated(first)
    assert not has_migrated(second)
    assert not has_migrated(third)
    assert place(first) == place(second) == place(third)


def test_both_runners_claim_the_same(shop: Project, server: dict[str, str]) -> None:
    first = passed(shop, **server)
    second = shop.pytest("--integration", "-s", "shop/tests.py", **server)
    assert second.code == 0, second.output
    assert not has_migrated(second)
    assert place(second) == place(first)


def test_nothing_of_the_tests_rows_stays_in_a_kept_schema(
    shop: Project, server: dict[str, str], postgres_url: str
) -> None:
    passed(shop, **server)
    (name,) = kept(postgres_url)
    with connected(postgres_url, own_databases(postgres_url)[0]) as connection:
        rows = {
            table: connection.execute(f"SELECT * FROM {name}.{table}").fetchall()
            for table in ("shop_customer", "shop_currency")
        }
        values = dict(
            connection.execute(
                "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = %s", [name]
            ).fetchall()
        )
    assert rows == {"shop_customer": [], "shop_currency": [(1, "EUR")]}
    assert values["shop_customer_id_seq"] is None
    assert values["shop_currency_id_seq"] == 1


@ISOLATIONS
def test_as_many_are_kept_as_the_settings_say(
    isolation: str, shop: Project, server: dict[str, str], postgres_url: str
) -> None:
    shop.write(
        "shop/tests.py",
        "\n".join(TESTS.replace("class Rows", f"class Rows{number}") for number in range(3)),
    )
    env = {**server, "ITKIT_POSTGRES_ISOLATION": isolation}
    passed(shop, "--parallel", "3", **{**env, "ITKIT_POSTGRES_KEEP": "2"})
    database = own_databases(postgres_url)[0] if isolation == "schema" else "postgres"
    query = "SELECT nspname FROM pg_namespace UNION SELECT datname FROM pg_database"
    with connected(postgres_url, database) as connection:
        found = [row[0] for row in connection.execute(query).fetchall() if "_kept_" in row[0]]
    assert len(found) == 2
    again = passed(shop, "--parallel", "3", **env)
    assert not has_migrated(again)


def test_nothing_is_kept_where_that_is_asked_for(
    shop: Project, server: dict[str, str], postgres_url: str
) -> None:
    for _ in range(2):
        assert has_migrated(passed(shop, **{**server, "ITKIT_POSTGRES_KEEP": "0"}))
        with connected(postgres_url) as connection:
            assert connection.execute(DATABASES).fetchall() == []


NEEDS_MORE = """
    from django.db import migrations

    class Migration(migrations.Migration):
        dependencies = [("shop", "0002_tell")]
        operations = [migrations.RunSQL(
            "CREATE FUNCTION pid() RETURNS int LANGUAGE internal AS 'pg_backend_pid'"
        )]
"""


def test_nor_is_a_database_whose_migrations_need_more_than_the_workers_role(
    shop: Project, server: dict[str, str], postgres_url: str
) -> None:
    shop.write("shop/migrations/0003_needs.py", NEEDS_MORE)
    env = {"ITKIT_POSTGRES_KEEP": "0", "ITKIT_POSTGRES_ISOLATION": "database"}
    passed(shop, **{**server, **env})
    with connected(postgres_url) as connection:
        assert connection.execute(DATABASES).fetchall() == []


@pytest.mark.slow
def test_rebuild_migrates_anew(shop: Project, server: dict[str, str]) -> None:
    before = passed(shop, **server)
    again = passed(shop, "--rebuild", **server)
    once_more = shop.pytest("--integration", "--rebuild", "-s", "shop/tests.py", **server)
    assert once_more.code == 0, once_more.output
    after = passed(shop, **server)
    assert [has_migrated(run) for run in (again, once_more, after)] == [True, True, False]
    assert place(after) == place(once_more)
    assert len({place(before), place(again), place(once_more)}) == 3


@pytest.mark.slow
def test_another_branch_is_never_stale_and_the_way_back_is_free(
    shop: Project, server: dict[str, str]
) -> None:
    on_main = passed(shop, **server)
    branch = "shop/migrations/0003_branch.py"
    shop.write(branch, MIGRATION.replace("0001_initial", "0002_tell").replace("MIGRATED", "BRANCH"))
    on_branch = passed(shop, **server)
    assert has_migrated(on_branch)
    assert "BRANCH" in on_branch.output
    (shop.path / branch).unlink()
    back = passed(shop, **server)
    assert not has_migrated(back)
    assert place(back) == place(on_main) != place(on_branch)


CHANGES = {
    "a kept schema's column": ("_kept_", "ALTER TABLE {}.shop_customer ADD COLUMN more int"),
    "a kept schema's default": ("_kept_", "ALTER TABLE {}.shop_currency ALTER code SET DEFAULT 1"),
    "a kept schema's option": ("_kept_", "ALTER TABLE {}.shop_customer SET (fillfactor = 50)"),
    "a kept schema's comment": ("_kept_", "COMMENT ON COLUMN {}.shop_customer.email IS 'x'"),
    "a kept schema's function": (
        "_kept_",
        "CREATE FUNCTION {}.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ),
    "the template, which a claim has no need of": (
        "_template",
        "ALTER TABLE {}.shop_customer ADD COLUMN more int",
    ),
}


@pytest.mark.slow
def test_what_somebody_has_changed_is_not_used(
    shop: Project, server: dict[str, str], postgres_url: str
) -> None:
    before = passed(shop, **server)
    for change, (part, statement) in CHANGES.items():
        with connected(postgres_url, own_databases(postgres_url)[0]) as connection:
            (name,) = (name for name in Schemas(Connection(connection)).described() if part in name)
            connection.execute(statement.format(name).encode())
        after = passed(shop, **server)
        assert not has_migrated(after), change
        assert (place(after) == place(before)) == (part == "_template"), change
        assert len(kept(postgres_url)) == 1, change
        before = after


@pytest.mark.slow
def test_a_changed_template_is_made_anew_when_it_is_needed(
    shop: Project, server: dict[str, str], postgres_url: str
) -> None:
    passed(shop, **server)
    with connected(postgres_url, own_databases(postgres_url)[0]) as connection:
        for name in Schemas(Connection(connection)).described():
            if "_kept_" in name:
                Schemas(Connection(connection)).drop(name)
            elif name.endswith("_template"):
                connection.execute(f"DROP TABLE {name}.shop_customer".encode())
    assert has_migrated(passed(shop, **server))
    assert not has_migrated(passed(shop, **server))


LEFT_BEHIND = {
    "a comment": "COMMENT ON TABLE shop_customer IS 'left behind'",
    "a column": "ALTER TABLE shop_customer ADD COLUMN left_behind int",
    "no index": "ALTER TABLE shop_customer DROP CONSTRAINT shop_customer_email_key",
    "no seeds": "ALTER TABLE shop_currency RENAME TO shop_money",
}


@ISOLATIONS
@pytest.mark.slow
def test_a_place_that_tests_have_altered_is_not_kept(
    isolation: str, shop: Project, server: dict[str, str]
) -> None:
    env = {**server, "ITKIT_POSTGRES_ISOLATION": isolation}
    text = TESTS.replace(
        "from shop.models",
        "import warnings\n    warnings.simplefilter('ignore')\n    from shop.models",
    )
    shop.write("shop/tests.py", text)
    runs = []
    for statement in LEFT_BEHIND.values():
        shop.write("shop/tests.py", f"{text}                cursor.execute({statement!r})\n")
        runs.append(shop.test("--integration", **env))
    shop.write("shop/tests.py", text)
    runs.append(passed(shop, **env))
    for what, (before, after) in zip(LEFT_BEHIND, pairwise(runs), strict=True):
        assert place(after) != place(before), what
        assert not has_migrated(after), what


# One that is done early would hand its schema to one that begins late.
MEETING = """
            import os, time
            open(str(os.getpid()), "x").close()
            for _ in range(1200):
                if len([name for name in os.listdir(".") if name.isdigit()]) < 4:
                    time.sleep(0.05)
"""


def test_of_runs_that_start_at_once_one_migrates(shop: Project, server: dict[str, str]) -> None:
    shop.write("shop/tests.py", TESTS + MEETING)
    runs = [shop.start("manage.py", "test", "--integration", **server) for _ in range(4)]
    results = [shop.finish(run) for run in runs]
    assert [result.code for result in results] == [0] * 4
    outputs = [result.output for result in results]
    assert [has_migrated(result) for result in results].count(True) == 1, outputs
    assert len({place(result) for result in results}) == 4


UNCLONABLE = """
    from django.db import migrations

    class Migration(migrations.Migration):
        dependencies = [("shop", "0002_tell")]
        operations = [migrations.RunSQL(
            "CREATE FUNCTION same(shop_currency, shop_currency) RETURNS bool LANGUAGE sql"
            " AS 'SELECT $1.code = $2.code';"
            "CREATE OPERATOR ~~~~ (LEFTARG = shop_currency, RIGHTARG = shop_currency,"
            " FUNCTION = same);"
        )]
"""


@pytest.mark.slow
def test_where_a_clone_would_lack_something_each_worker_migrates(
    shop: Project, server: dict[str, str], postgres_url: str
) -> None:
    shop.write("shop/migrations/0003_operator.py", UNCLONABLE)
    shop.write(
        "shop/tests.py",
        TESTS
        + """
    class Operator(IntegrationTestCase):
        def test_operator(self):
            with connection.cursor() as cursor:
                cursor.execute("SELECT a ~~~~ a FROM shop_currency a")
                self.assertEqual(cursor.fetchall(), [(True,)])
""",
    )
    for arguments in [(), ("--parallel", "2")]:
        result = passed(shop, *arguments, **server)
        assert "each worker migrates anew for alias 'default'" in result.output
        assert re.search(r"operator .*~~~~.*: only in the template", result.output), result.output
        assert has_migrated(result)
        assert result.counts == {"passed": 2}
    assert kept(postgres_url) == []


# From here on without a project: the template itself.


FINGERPRINT, RUN = "00c0ffee0000", "0123abcd"


@pytest.fixture
def connection(postgres_url: str, server: dict[str, str]) -> Iterator[Any]:
    with connected(postgres_url) as maintenance:
        maintenance.execute("CREATE DATABASE test_templates")
    url = str(replace(parse(postgres_url, POSTGRES_SCHEMES), name="test_templates"))
    with connect(url, application="test") as connection:
        connection.execute("CREATE SCHEMA itkit_ext")
        yield connection


def table_in(connection: Any) -> Callable[[str], None]:
    def migrate(schema: str) -> None:
        connection.execute(f"CREATE TABLE {schema}.t (id int)".encode())

    return migrate


def made(connection: Any, fingerprint: str, run: str = RUN) -> SchemaTemplate:
    template = SchemaTemplate(connection, fingerprint, run, is_private=False)
    assert template.provide(f"itkit_{run}_w0", table_in(connection)) == ()
    Schemas(Connection(connection)).drop(f"itkit_{run}_w0")
    return template


def used_days_ago(connection: Any, fingerprint: str, days: int) -> None:
    connection.execute(
        f"UPDATE {names.script_schema(fingerprint)}.clone SET used = now() - interval '{days} days'"
    )


def test_templates_that_are_old_or_too_many_are_evicted(connection: Any) -> None:
    for number in range(6):
        made(connection, f"{number:012x}")
        used_days_ago(connection, f"{number:012x}", number)
    assert evict(templates(connection)) == 4
    left = {template.fingerprint for template in templates(connection)}
    assert left == {f"{number:012x}" for number in range(4)}
    used_days_ago(connection, f"{1:012x}", 15)
    assert evict(templates(connection)) == 3
    assert all("1_" not in name for name in Schemas(Connection(connection)).described())


def test_a_template_in_use_is_not_evicted(connection: Any, postgres_url: str) -> None:
    template = made(connection, FINGERPRINT)
    template.provide(f"itkit_{RUN}_w0", table_in(connection))
    used_days_ago(connection, FINGERPRINT, 15)
    assert evict(templates(connection)) == 1
    Schemas(Connection(connection)).drop(f"itkit_{RUN}_w0")
    with (
        connect(connection.info.dsn, application="test") as other,
        locks.template(other, FINGERPRINT, shared=True),
    ):
        assert evict(templates(connection)) == 1
    assert evict(templates(connection)) == 0
    assert (
        list(Schemas(Connection(connection)).described()) == ["itkit_ext"]
        or not Schemas(Connection(connection)).described()
    )


def test_a_template_whose_making_failed_is_made_anew(connection: Any) -> None:
    template = SchemaTemplate(connection, FINGERPRINT, RUN, is_private=False)

    def fail(schema: str) -> None:
        connection.execute(f"CREATE TABLE {schema}.half (id int)".encode())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        template.provide(f"itkit_{RUN}_w0", fail)
    assert template.state() is None
    assert template.provide(f"itkit_{RUN}_w0", table_in(connection)) == ()
    tables = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
    assert connection.execute(tables, [f"itkit_{RUN}_w0"]).fetchall() == [("t",)]


def test_a_kept_schema_is_claimed_by_one_only(connection: Any) -> None:
    template = made(connection, FINGERPRINT)
    for worker in ("w1", "w2"):
        template.provide(f"itkit_{RUN}_{worker}", table_in(connection))
    for worker in ("w1", "w2"):
        assert template.keep(f"itkit_{RUN}_{worker}", limit=2)
    oids = set(_oids(connection, "%kept%"))
    barrier = threading.Barrier(4)

    def claim(number: int) -> None:
        with connect(connection.info.dsn, application="test") as own:
            mine = SchemaTemplate(own, FINGERPRINT, RUN, is_private=False)
            barrier.wait()
            mine.provide(f"itkit_{RUN}_w{number}", table_in(own))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(claim, range(4, 8)))
    found = _oids(connection, f"itkit_{RUN}_w%")
    assert len(found) == 4
    assert oids < set(found)
    assert _oids(connection, "%kept%") == []


def _oids(connection: Any, pattern: str) -> list[int]:
    query = "SELECT oid FROM pg_namespace WHERE nspname LIKE %s"
    return [row[0] for row in connection.execute(query, [pattern]).fetchall()]

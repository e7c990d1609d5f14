"""No run reaches a developer's own database unasked, whatever the tests and the role may do."""

import pytest

from tests.support.doors import enter, write_tests
from tests.support.projects import Project
from tests.support.sentinel import DATABASE, Sentinel

HOSTILE = """
    import psycopg
    from django.conf import settings
    from django.core.cache import cache
    from django.db import connection
    from django.test import TestCase, TransactionTestCase

    from shop.models import Customer


    def run(statement):
        with connection.cursor() as cursor:
            cursor.execute(statement)


    def attempt(statement):
        try:
            run(statement)
        except Exception as error:
            return str(error)


    class Hostile(TransactionTestCase):
        def test_by_the_name_of_public(self):
            attempt("DELETE FROM public.shop_customer")
            attempt("TRUNCATE public.shop_currency")

        def test_by_a_schema_of_the_developers(self):
            attempt("UPDATE reporting.fact SET number = 'from a test'")
            attempt("DROP SCHEMA reporting CASCADE")
            attempt("SELECT nextval('public.invoice_no')")
            attempt("SELECT lo_unlink(4242)")

        def test_by_a_search_path(self):
            run("SET search_path TO public")
            attempt("DELETE FROM shop_customer")

        def test_by_a_client_of_its_own(self):
            database = settings.DATABASES["default"]
            with psycopg.connect(
                host=database["HOST"], port=database["PORT"] or None, user=database["USER"],
                password=database["PASSWORD"], dbname=database["NAME"], autocommit=True,
            ) as own:
                for statement in ("DELETE FROM shop_customer", "CREATE TABLE mine (n int)"):
                    try:
                        own.execute(statement)
                    except psycopg.Error:
                        pass

        def test_rows_are_committed(self):
            Customer.objects.create(email="from-a-test@example.com")
            cache.set("k", "v")
            self.assertEqual(Customer.objects.count(), 1)


    class RolledBack(TestCase):
        def test_ddl(self):
            run("CREATE TABLE of_a_test (n int)")
"""
PASSED_OVER = 'passed over: DATABASES["default"] (127.0.0.1:{}) cannot be used: the role {!r} may not create a database'


@pytest.mark.parametrize("door", ["django", "pytest"])
@pytest.mark.parametrize("role", ["boss", "builder", "poor", "guest"])
def test_hostile_tests_reach_nothing(
    project: Project, sentinel: Sentinel, role: str, door: str
) -> None:
    sentinel.point(project, role)
    write_tests(project, HOSTILE)
    # A role that may create databases needs no word, and the word makes no difference to it.
    env = {"ITKIT_POSTGRES_IN_PROJECT_DATABASE": "true"} if role == "builder" else {}
    before = sentinel.digest()
    result = enter(door, project, "shop/tests" if door == "pytest" else "shop.tests", **env)
    assert sentinel.digest() == before
    assert result.counts == {"passed": 6}, result.output
    own = [name for name in sentinel.ours() if name.startswith("itkit_tests_")]
    expected = PASSED_OVER.format(sentinel.machine.postgres_port, role)
    if role in {"poor", "guest"}:
        assert expected in result.output
        assert own == []
    else:
        assert "passed over" not in result.output
        assert [name.rpartition("_")[0] for name in own] == ["itkit_tests_dev"]


# In the header, which the workers of pytest-xdist do not repeat, or without it in the summary.
@pytest.mark.parametrize("options", [["-n", "2"], ["-q"]], ids=" ".join)
def test_the_way_to_the_embedded_server_is_told_once(
    options: list[str], project: Project, sentinel: Sentinel
) -> None:
    sentinel.point(project, "poor")
    write_tests(project, HARMLESS)
    before = sentinel.digest()
    result = project.pytest("--integration", *options)
    assert result.code == 0, result.output
    expected = PASSED_OVER.format(sentinel.machine.postgres_port, "poor")
    assert result.output.count(expected) == 1, result.output
    assert sentinel.digest() == before


def test_who_demands_the_projects_server_is_told_what_helps(
    project: Project, sentinel: Sentinel
) -> None:
    sentinel.point(project, "poor")
    write_tests(project, HOSTILE)
    before = sentinel.digest()
    result = project.test("--integration", ITKIT_SOURCE="settings")
    assert result.code == 1
    assert "the role 'poor' may not create a database" in result.output
    for remedy in (
        'ALTER ROLE "poor" CREATEDB;',
        "ITKIT_POSTGRES_URL=postgresql://…, which names an empty database for tests",
        'ITKIT = {"POSTGRES": {"IN_PROJECT_DATABASE": True}}',
        "unset ITKIT_SOURCE",
    ):
        assert remedy in result.output
    assert "Traceback" not in result.output
    assert sentinel.digest() == before


def test_a_url_that_names_the_projects_database_is_no_word_for_it(
    project: Project, sentinel: Sentinel
) -> None:
    sentinel.point(project, "poor")
    write_tests(project, HOSTILE)
    before = sentinel.digest()
    result = project.pytest("--integration", ITKIT_POSTGRES_URL=sentinel.url("poor"))
    assert result.code != 0
    assert "The Postgres that ITKIT_POSTGRES_URL names (127.0.0.1:" in result.output
    assert 'ITKIT = {"POSTGRES": {"IN_PROJECT_DATABASE": True}}' in result.output
    assert sentinel.digest() == before


def test_databases_for_workers_go_to_the_embedded_server_too(
    project: Project, sentinel: Sentinel
) -> None:
    sentinel.point(project, "poor")
    write_tests(project, HOSTILE)
    before = sentinel.digest()
    result = project.test("--integration", "shop.tests", ITKIT_POSTGRES_ISOLATION="database")
    assert result.counts == {"passed": 6}, result.output
    assert "passed over: " in result.output
    assert "the role 'poor' may not create databases" in result.output
    assert sentinel.digest() == before


HARMLESS = """
    from django.db import connection
    from django.test import TransactionTestCase

    from shop.models import Customer


    class Tests(TransactionTestCase):
        def test_rows_are_committed(self):
            Customer.objects.create(email="from-a-test@example.com")
            self.assertEqual(Customer.objects.count(), 1)

        def test_the_database(self):
            print("in", connection.settings_dict["NAME"])
"""


def test_schemas_go_where_the_user_asks_for_it(project: Project, sentinel: Sentinel) -> None:
    sentinel.point(project, "poor")
    write_tests(project, HARMLESS)
    with sentinel.connect() as connection:
        connection.execute("CREATE DATABASE for_tests OWNER poor")
    before = sentinel.digest()

    def run_in(name: str, how: str, **env: str) -> None:
        result = project.test("--integration", **env)
        assert result.counts == {"passed": 2}, f"{how}\n{result.output}"
        assert f"in {name}" in result.output, f"{how}\n{result.output}"
        assert "passed over" not in result.output, f"{how}\n{result.output}"
        assert sentinel.digest() == before, how

    def clean(name: str, **env: str) -> None:
        cleaned = project.manage("itkit", "clean", **env)
        assert f"in {name} on 127.0.0.1" in cleaned.output, cleaned.output
        assert sentinel.ours() == []
        assert sentinel.digest() == before

    given = {"ITKIT_POSTGRES_URL": sentinel.url("poor", "for_tests"), "ITKIT_POSTGRES_KEEP": "8"}
    run_in("for_tests", "a URL", **given)
    clean("for_tests", **given)
    run_in(DATABASE, "the variable", ITKIT_POSTGRES_IN_PROJECT_DATABASE="1")
    project.settings('ITKIT["POSTGRES"] = {"IN_PROJECT_DATABASE": True}')
    run_in(DATABASE, "the setting, where an earlier run has kept what it has migrated")
    clean(DATABASE)


@pytest.mark.slow
def test_plain_runs_and_itkits_do_not_meet(project: Project, sentinel: Sentinel) -> None:
    """Django asks nothing about a test database, neither before nor after a run of itkit's."""
    sentinel.point(project, "builder")
    write_tests(project, HARMLESS)

    def databases() -> set[str]:
        with sentinel.connect() as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE datname ~ 'dev'")
            return {name for (name,) in rows.fetchall()}

    def passed(result) -> None:
        assert result.counts == {"passed": 2}, result.output

    passed(project.test("--integration"))
    [own] = databases() - {"dev"}
    plain = project.test()  # without a terminal, so that a question ends in an error
    passed(plain)
    assert "in test_dev" in plain.output
    assert databases() == {"dev", own}
    passed(project.test("--noinput", "--keepdb"))
    passed(project.pytest("--reuse-db"))
    assert databases() == {"dev", own, "test_dev"}
    kept = project.test("--integration")
    passed(kept)
    assert f"in {own}" in kept.output
    assert "Applying" not in kept.output
    passed(project.test("--noinput"))
    assert databases() == {"dev", own}


@pytest.mark.slow
def test_two_projects_with_one_name_have_a_database_each(
    project: Project, sentinel: Sentinel, tmp_path
) -> None:
    sentinel.point(project, "builder")
    write_tests(project, HARMLESS)
    other = Project(tmp_path / "other", cache=tmp_path / "cache", data_root=project.data_root)
    sentinel.point(other, "builder")
    write_tests(other, HARMLESS)
    for each in (project, other):
        assert each.test("--integration").counts == {"passed": 2}
    names = [name for name in sentinel.ours() if name.startswith("itkit_tests_dev_")]
    assert len(names) == 2
    cleaned = project.manage("itkit", "clean")
    assert all(f"database {name} on 127.0.0.1" in cleaned.output for name in names)
    assert sentinel.ours() == []


def test_a_database_that_is_not_registered_is_not_taken(
    project: Project, sentinel: Sentinel
) -> None:
    sentinel.point(project, "builder")
    write_tests(project, HARMLESS)
    assert project.test("--integration", ITKIT_POSTGRES_KEEP="8").code == 0
    [own] = [name for name in sentinel.ours() if name.startswith("itkit_tests_")]
    with sentinel.connect() as connection:
        connection.execute(f"COMMENT ON DATABASE {own} IS 'mine'")
    refused = project.test("--integration")
    assert refused.code == 1
    assert f"The database '{own}' on 127.0.0.1:" in refused.output
    assert "Traceback" not in refused.output
    with sentinel.connect() as connection:  # as if the run had been killed before it did so
        connection.execute(f"COMMENT ON DATABASE {own} IS NULL")
        connection.execute(f"ALTER DATABASE {own} OWNER TO builder")
    assert project.test("--integration").counts == {"passed": 2}
    cleaned = project.manage("itkit", "clean")
    assert f"database {own} on 127.0.0.1" in cleaned.output
    assert sentinel.ours() == []

"""``manage.py itkit clean``: what itkit keeps is shown and removed, and nothing else."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from filelock import FileLock

from itkit.core.urls import POSTGRES_SCHEMES, parse
from tests.support.projects import Project, Result, directory, own_databases, wait_until

pytestmark = pytest.mark.usefixtures("no_databases", "beside_a_developer")

TESTS = """
from itkit.test import IntegrationTestCase
from shop.models import Customer


class Tests(IntegrationTestCase):
    def test_customer(self):
        Customer.objects.create(email="ada@example.org")
"""

WAITS = """
import time
from pathlib import Path

from itkit.test import IntegrationTestCase
from shop.models import Customer


class Tests(IntegrationTestCase):
    def test_customer(self):
        Path("started").touch()
        deadline = time.monotonic() + 60
        while not Path("go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        Customer.objects.create(email="ada@example.org")
        self.assertEqual(Customer.objects.count(), 1)
"""

SCHEMAS = r"SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' ORDER BY 1"
ALL_DATABASES = "SELECT datname FROM pg_database"
DATABASES = r"SELECT datname FROM pg_database WHERE datname ~ '^(itkit_|test_)' ORDER BY 1"


@pytest.fixture
def server(postgres_url: str, redis_url: str, cache: Path) -> Iterator[dict[str, str]]:
    """The environment of servers that are the user's own; the login of one has a password."""
    given = replace(parse(postgres_url, POSTGRES_SCHEMES), password="geheim")
    yield {
        "ITKIT_POSTGRES_URL": str(given),
        "ITKIT_POSTGRES_KEEP": "2",
        "ITKIT_REDIS_URL": redis_url,
        "ITKIT_CACHE_DIR": str(cache),
    }
    with connected(postgres_url) as connection:
        for (name,) in connection.execute(DATABASES).fetchall():
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def cache() -> Iterator[Path]:
    """A cache of its own, which a server's user can reach."""
    with directory() as path:
        yield path


def connected(url: str, database: str = "postgres") -> "psycopg.Connection[tuple[str]]":
    return psycopg.connect(
        str(replace(parse(url, POSTGRES_SCHEMES), name=database)), autocommit=True
    )


def rows(url: str, query: str, database: str = "postgres") -> list[str]:
    with connected(url, database) as connection:
        return [row[0] for row in connection.execute(query).fetchall()]


def outcomes(result: Result) -> dict[str, str]:
    """Return what became of each thing, with its fingerprint left out of the name."""
    lines = re.findall(r"^(\w+ \S+) (?:in|on) .+, [\d.,]+ \w+: (.+)$", result.output, re.MULTILINE)
    return {
        re.sub(r"_[0-9a-f]{12}_(\w+?)(_[0-9a-f]{8})?$", r"_\1", what): how for what, how in lines
    }


def run(project: Project, env: dict[str, str]) -> None:
    project.write("shop/tests.py", TESTS)
    result = project.test("--integration", **env)
    assert result.counts == {"passed": 1}, result.output


def started(project: Project, **env: str) -> "subprocess.Popen[str]":
    """Start a run whose test waits for a file, and wait for it."""
    project.write("shop/tests.py", WAITS)
    process = project.start("manage.py", "test", "--integration", **env)
    has_started = (project.path / "started").exists
    assert wait_until(lambda: has_started() or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    return process


def finished(project: Project, process: "subprocess.Popen[str]") -> None:
    (project.path / "go").touch()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


@pytest.mark.slow
def test_what_two_runs_have_kept_is_shown_and_then_removed(
    project: Project, server: dict[str, str], postgres_url: str
) -> None:
    run(project, server)
    run(project, server)
    [own] = own_databases(postgres_url)
    before = rows(postgres_url, SCHEMAS, own)
    assert {"itkit_ext"} < set(before)
    shown = project.manage("itkit", "clean", "--dry-run", **server)
    assert shown.code == 0, shown.output
    expected = {
        "schema itkit_template", "schema itkit_script", "schema itkit_kept", "schema itkit_ext",
        f"database {own}",
    }  # fmt: skip
    assert expected <= set(outcomes(shown))
    assert set(outcomes(shown).values()) == {"would be removed"}
    assert rows(postgres_url, SCHEMAS, own) == before
    cleaned = project.manage("itkit", "clean", **server)
    assert cleaned.code == 0, cleaned.output
    assert outcomes(cleaned) == dict.fromkeys(outcomes(shown), "removed")
    assert rows(postgres_url, DATABASES) == []
    assert "geheim" not in shown.output + cleaned.output
    again = project.manage("itkit", "clean", **server)
    assert (again.code, again.output) == (0, "Nothing of itkit's is kept.")


def test_databases_of_workers_are_removed_too(
    project: Project, server: dict[str, str], postgres_url: str
) -> None:
    run(project, {**server, "ITKIT_POSTGRES_ISOLATION": "database"})
    assert any(name.endswith("_template") for name in rows(postgres_url, DATABASES))
    shown = project.manage("itkit", "clean", "--dry-run", **server)  # by any setting
    assert "database itkit_template" in outcomes(shown), shown.output
    assert set(outcomes(shown).values()) == {"would be removed"}
    cleaned = project.manage("itkit", "clean", **server)
    assert outcomes(cleaned) == dict.fromkeys(outcomes(shown), "removed")
    assert rows(postgres_url, DATABASES) == []


def test_what_is_not_ours_stays(
    project: Project, server: dict[str, str], postgres_url: str
) -> None:
    like_a_run, like_a_template = "itkit_0123abcd_w0", "itkit_0123456789ab_template"
    run(project, server)
    [own] = own_databases(postgres_url)
    with connected(postgres_url) as connection:
        connection.execute("CREATE DATABASE test_shop")
        connection.execute("CREATE DATABASE itkit_tests_shop_0123abcd")
    with connected(postgres_url, own) as connection:
        for name in ("other", like_a_run, like_a_template):
            connection.execute(f"CREATE SCHEMA {name} CREATE TABLE mine (id int)")
        connection.execute("CREATE TABLE public.mine (id int)")
    try:
        cleaned = project.manage("itkit", "clean", **server)
        assert cleaned.code == 0, cleaned.output
        found = outcomes(cleaned)
        assert found["schema itkit_script"] == "removed"
        assert found[f"database {own}"] == "stays, as something else is in it or uses it"
        assert f"schema {like_a_run}" not in found
        assert {"test_shop", "itkit_tests_shop_0123abcd"} < set(rows(postgres_url, ALL_DATABASES))
        left = rows(postgres_url, SCHEMAS, own)
        assert {"other", like_a_run, like_a_template, "public"} <= set(left)
        assert [name for name in left if name.endswith("_script")] == []
        tables = "SELECT schemaname || '.mine' FROM pg_tables WHERE tablename = 'mine' ORDER BY 1"
        assert rows(postgres_url, tables, own) == sorted(
            f"{name}.mine" for name in ("other", "public", like_a_run, like_a_template)
        )
    finally:
        with connected(postgres_url) as connection:
            connection.execute("DROP DATABASE test_shop")
            connection.execute("DROP DATABASE itkit_tests_shop_0123abcd")


@pytest.mark.parametrize("isolation", ["schema", "database"])
def test_a_run_that_is_alive_keeps_its_own(
    isolation: str, project: Project, server: dict[str, str], postgres_url: str
) -> None:
    run = started(project, **server, ITKIT_POSTGRES_ISOLATION=isolation)
    for arguments in (["--dry-run"], []):
        result = project.manage("itkit", "clean", *arguments, **server)
        assert result.code == 0, result.output
        workers = {what: how for what, how in outcomes(result).items() if re.search(r"_w0$", what)}
        assert len(workers) == 1, result.output
        assert set(workers.values()) == {"stays, as a run uses it"}
    finished(project, run)
    cleaned = project.manage("itkit", "clean", **server)
    assert set(outcomes(cleaned).values()) <= {"removed"}, cleaned.output
    assert rows(postgres_url, DATABASES) == []


@pytest.mark.slow
def test_a_database_that_somebody_is_in_stays(
    project: Project, server: dict[str, str], postgres_url: str
) -> None:
    run(project, server)
    [own] = own_databases(postgres_url)
    with connected(postgres_url, own):
        cleaned = project.manage("itkit", "clean", **server)
    assert cleaned.code == 0, cleaned.output
    found = outcomes(cleaned)
    assert found.pop(f"database {own}") == "stays, as something else is in it or uses it"
    assert set(found.values()) == {"removed"}


def test_the_projects_own_server_is_cleaned_if_it_answers(
    project: Project, server: dict[str, str], postgres_url: str
) -> None:
    """Of half a template as well, whose schema somebody has dropped by hand."""
    project.settings('DATABASES["default"]["PORT"] = "1"')  # where nobody answers
    run(project, server)
    [own] = own_databases(postgres_url)
    cache = {"ITKIT_CACHE_DIR": server["ITKIT_CACHE_DIR"]}
    nobody = project.manage("itkit", "clean", **cache)
    assert nobody.code == 0, nobody.output
    assert "none is looked at" in nobody.output
    with connected(postgres_url, own) as connection:
        for name in rows(postgres_url, SCHEMAS, own):
            if name.endswith("_template"):
                connection.execute(f"DROP SCHEMA {name} CASCADE")
    url = parse(postgres_url, POSTGRES_SCHEMES)
    project.settings(
        f'DATABASES["default"] |= {{"HOST": {url.host!r}, "PORT": "{url.port or ""}",'
        f' "USER": {url.user!r}}}'
    )
    cleaned = project.manage("itkit", "clean", **cache)
    assert outcomes(cleaned)[f"database {own}"] == "removed", cleaned.output
    assert outcomes(cleaned)["schema itkit_script"] == "removed", cleaned.output
    assert rows(postgres_url, DATABASES) == []


def test_a_server_that_was_given_and_is_down_keeps_no_cache(project: Project, cache: Path) -> None:
    entry = cache / "itkit-entry-old"
    entry.mkdir()
    url = "postgresql://me:geheim@127.0.0.1:1/x"
    result = project.manage("itkit", "clean", ITKIT_POSTGRES_URL=url, ITKIT_CACHE_DIR=str(cache))
    assert result.code == 1
    assert "ITKIT_POSTGRES_URL" in result.output
    assert "geheim" not in result.output
    assert not entry.exists()


@pytest.mark.slow
def test_the_cache_is_shown_and_then_removed(project: Project, cache: Path) -> None:
    env = {"ITKIT_CACHE_DIR": str(cache)}
    run(project, env)
    (cache / "notes.txt").touch()
    kept = {path.name for path in cache.glob("itkit-entry-*/")}
    assert kept
    shown = project.manage("itkit", "clean", "--dry-run", **env)
    assert outcomes(shown) == {f"cached {name}": "would be removed" for name in kept}
    assert {path.name for path in cache.glob("itkit-entry-*/")} == kept
    cleaned = project.manage("itkit", "clean", **env)
    assert outcomes(cleaned) == {f"cached {name}": "removed" for name in kept}
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []
    assert (cache / "notes.txt").exists()
    run(project, env)


def test_what_is_being_built_stays(project: Project, cache: Path) -> None:
    half = cache / "itkit-entry-cluster-18.6-0123.itkit-run.partial"
    half.mkdir()
    elsewhere = cache / "elsewhere"
    elsewhere.mkdir()
    (cache / "itkit-entry-link").symlink_to(elsewhere)
    env = {"ITKIT_CACHE_DIR": str(cache)}
    with FileLock(cache / "itkit-entry-cluster-18.6-0123.lock"):
        for arguments in (["--dry-run"], []):
            result = project.manage("itkit", "clean", *arguments, **env)
            assert outcomes(result) == {f"cached {half.name}": "stays, as a run uses it"}
    assert half.exists()
    cleaned = project.manage("itkit", "clean", **env)
    assert outcomes(cleaned) == {f"cached {half.name}": "removed"}
    assert elsewhere.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which programs run")
def test_a_program_that_runs_from_the_cache_stays(project: Project, cache: Path) -> None:
    """As root, Postgres runs from a copy in the cache and loads parts of it while it runs."""
    program = cache / "itkit-entry-binaries-0123/bin/sleep"
    program.parent.mkdir(parents=True)
    shutil.copy(shutil.which("sleep"), program)
    env = {"ITKIT_CACHE_DIR": str(cache)}
    process = subprocess.Popen([program, "60"])
    try:
        for arguments in (["--dry-run"], []):
            result = project.manage("itkit", "clean", *arguments, **env)
            assert outcomes(result) == {
                "cached itkit-entry-binaries-0123": "stays, as a run uses it"
            }
    finally:
        process.kill()
        process.wait()
    assert program.exists()
    cleaned = project.manage("itkit", "clean", **env)
    assert outcomes(cleaned) == {"cached itkit-entry-binaries-0123": "removed"}


def test_runs_in_the_maintenance_database_end_and_are_cleaned(
    project: Project, server: dict[str, str], postgres_url: str
) -> None:
    """A role that may create no database has its schemas where the lock of the set-up is held."""
    with connected(postgres_url) as connection:
        connection.execute("CREATE ROLE itkit_plain LOGIN")
        connection.execute("GRANT CREATE ON DATABASE postgres TO itkit_plain")
    try:
        plain = replace(parse(server["ITKIT_POSTGRES_URL"], POSTGRES_SCHEMES), user="itkit_plain")
        env = {**server, "ITKIT_POSTGRES_URL": str(plain)}
        project.write("shop/tests.py", TESTS)
        result = project.test("--integration", **{**env, "ITKIT_POSTGRES_KEEP": "0"})
        assert result.counts == {"passed": 1}, result.output
        assert [name for name in rows(postgres_url, SCHEMAS) if name.startswith("itkit_")] == []
        run(project, env)
        cleaned = project.manage("itkit", "clean", **env)
        assert outcomes(cleaned)["schema itkit_ext"] == "removed", cleaned.output
        assert [name for name in rows(postgres_url, SCHEMAS) if name.startswith("itkit_")] == []
    finally:
        with connected(postgres_url) as connection:
            connection.execute("DROP OWNED BY itkit_plain CASCADE")
            connection.execute("DROP ROLE itkit_plain")

"""Connections to Postgres that Django does not make land where those of Django do."""

import os
from pathlib import Path

import pytest
from django.core.cache.backends.filebased import FileBasedCache

from itkit.environment import child
from itkit.network import libpq
from tests.support.doors import DOORS, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers", "beside_a_developer")

REPORT = """
    import os
    import subprocess
    import sys

    import psycopg
    import sqlalchemy
    from django.conf import settings


    def by_psycopg():
        db = settings.DATABASES["default"]
        names = dict(dbname="NAME", host="HOST", port="PORT", user="USER", password="PASSWORD")
        with psycopg.connect(**{key: db[name] for key, name in names.items()}) as raw:
            return raw.execute("SELECT count(*) FROM shop_customer").fetchone()[0]


    def by_sqlalchemy():
        db = settings.DATABASES["default"]
        url = sqlalchemy.URL.create(
            "postgresql+psycopg", db["USER"], db["PASSWORD"] or None, database=db["NAME"],
            query={"host": db["HOST"]} | ({"port": str(db["PORT"])} if db["PORT"] else {}),
        )
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            return connection.execute(sqlalchemy.text("SELECT count(*) FROM shop_customer")).scalar()


    def by_a_process():
        db = settings.DATABASES["default"]
        code = (
            "import psycopg, sys\\n"
            "names = ['dbname', 'host', 'port', 'user']\\n"
            "given = {name: text for name, text in zip(names, sys.argv[1:]) if text}\\n"
            "print(psycopg.connect(**given).execute('SELECT count(*) FROM shop_customer').fetchone()[0])"
        )
        values = [str(db[name]) for name in ("NAME", "HOST", "PORT", "USER")]
        return int(subprocess.run([sys.executable, "-c", code, *values], stdout=-1, check=True).stdout)
"""
TESTS = """
    import os

    from django.db import connection
    from itkit.test import IntegrationTestCase
    from shop import report
    from shop.models import Customer


    class First(IntegrationTestCase):
        def test_each_client_sees_the_rows(self):
            for count in (1, 2):
                self.data.create(Customer)
                for look in (report.by_psycopg, report.by_sqlalchemy, report.by_a_process):
                    self.assertEqual(look(), count, look)

        def test_what_the_variable_had_before_is_kept(self):
            self.assertIn("-c statement_timeout=54321", os.environ["PGOPTIONS"])


    class Second(IntegrationTestCase):
        def test_those_of_another_test_are_gone(self):
            self.assertEqual(report.by_psycopg(), 0)
            with connection.cursor() as cursor:
                cursor.execute("SHOW statement_timeout")
                self.assertEqual(cursor.fetchone(), ("0",))
"""


@pytest.mark.parametrize("door", DOORS)
def test_clients_of_libpq_land_in_the_workers_schema(door: str, project: Project) -> None:
    project.write("shop/report.py", REPORT)
    write_tests(project, TESTS)
    result = enter(door, project, PGOPTIONS="-c statement_timeout=54321")
    assert result.counts == {"passed": 3}, result.output


def test_nothing_is_needed_where_each_worker_has_a_database(project: Project) -> None:
    project.write("shop/report.py", REPORT)
    write_tests(project, TESTS)
    env = {"PGOPTIONS": "-c statement_timeout=54321", "ITKIT_POSTGRES_ISOLATION": "database"}
    result = enter("django", project, **env)
    assert result.counts == {"passed": 2, "failed": 1}, (
        result.output
    )  # Django's own has the timeout


@pytest.mark.parametrize("original", ["-c jit=off", "", None])
def test_a_process_that_runs_tests_itself_has_what_was_there_before(
    monkeypatch: pytest.MonkeyPatch, original: str | None
) -> None:
    monkeypatch.setenv("ITKIT_PGOPTIONS", "")
    monkeypatch.delenv("ITKIT_PGOPTIONS")
    monkeypatch.setenv("PGOPTIONS", original or "")
    if original is None:
        monkeypatch.delenv("PGOPTIONS")
    libpq.lead_to("-c search_path=a")
    libpq.lead_to("-c search_path=b")  # as a worker does, which inherits the first
    assert os.environ["PGOPTIONS"] == f"{original or ''} -c search_path=b".strip()
    child.leave()
    child.leave()
    assert os.environ.get("PGOPTIONS") == (original or None)


FILES = """
    import threading
    from pathlib import Path

    from django.conf import settings
    from django.core.cache import cache, caches
    from django.core.cache.backends.filebased import FileBasedCache
    from django.test import SimpleTestCase

    from shop.early import early


    class First(SimpleTestCase):
        def test_a_clears(self):
            self.assertIsNone(early.get("mine"))
            caches["files"].clear()
            caches["files"].set("left", "by test a")
            early.set("early", 1)

        def test_b_finds_nothing(self):
            self.assertIsNone(caches["files"].get("left"))
            self.assertIsNone(caches["files"].get("early"))
            caches["files"].set("left", "by test b")

        def test_c_threads_and_other_objects_are_led_too(self):
            caches["files"].set("here", 1)
            found = []

            def look():
                found.append(caches["files"].get("here"))
                caches["files"].set("there", 2)

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            own = FileBasedCache(str(settings.CACHES["files"]["LOCATION"]), {})
            self.assertEqual((found, own.get("there")), ([1], 2))

        def test_d_two_directories_are_two(self):
            caches["files"].set("k", 1)
            self.assertIsNone(caches["more"].get("k"))


    class Second(SimpleTestCase):
        def test_another_class(self):
            self.assertIsNone(caches["files"].get("left"))
            cache.set("k", 1)
"""


@pytest.mark.parametrize("door", DOORS)
def test_a_cache_in_files_is_the_workers(door: str, project: Project) -> None:
    developers = project.path / "cache"
    project.write("shop/apps.py", "")
    project.write(
        "shop/early.py",
        """
        from django.core.cache import caches

        early = caches["files"]
        """,
    )
    project.write(
        "shop/caching.py",
        """
        from django.core.cache.backends.base import BaseCache

        class LocalCache(BaseCache):
            def __init__(self, location, params):
                super().__init__(params)

        def made(location, params):
            return LocalCache(location, params)
        """,
    )
    models = project.path / "shop/models.py"
    models.write_text(f"import shop.early\n{models.read_text()}")
    project.settings(f"""
        FILES = {{"BACKEND": "django.core.cache.backends.filebased.FileBasedCache"}}
        CACHES["files"] = FILES | {{"LOCATION": "{developers}"}}
        CACHES["more"] = FILES | {{"LOCATION": "{project.path / "more"}"}}
        CACHES["other"] = {{"BACKEND": "shop.caching.LocalCache"}}
        CACHES["made"] = {{"BACKEND": "shop.caching.made"}}
        DATABASES["other"] = {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    """)
    FileBasedCache(str(developers), {}).set("mine", 1)
    before = contents(developers)
    assert len(before) == 1
    write_tests(project, FILES)
    result = enter(door, project)
    assert result.counts == {"passed": 5}, result.output
    assert contents(developers) == before
    assert contents(project.path / "more") == {}
    assert project.leftovers() == []
    assert "cache 'files' in a directory of the worker" in result.output
    assert "cache 'other' is LocalCache: not isolated" in result.output
    assert "cache 'made' is made: not isolated" in result.output
    assert "database 'other' is sqlite: left to Django" in result.output


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}

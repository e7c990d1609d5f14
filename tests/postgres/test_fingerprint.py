"""What counts as another state of the migrations, and what does not."""

import re

import pytest

from itkit.postgres.server import catalog_version
from itkit.postgres.server.server import connect
from itkit.postgres.template import fingerprint
from tests.support.projects import Project

PROJECT = {
    "shop/migrations/0002_more.py": """
        from django.db import migrations
        from shop.seeding import seed

        class Migration(migrations.Migration):
            dependencies = [("shop", "0001_initial")]
            operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
    """,
    "shop/migrations/rows.sql": "SELECT 1",
    "shop/seeding.py": "def seed(apps, schema_editor): pass",
    "shop/fixtures/rows.json": "[]",
    "shop/views.py": "",
    "shop/receivers.py": "def grant(**kwargs): pass",
    "shop/apps.py": """
        from django.apps import AppConfig
        from django.db.models.signals import post_migrate

        class ShopConfig(AppConfig):
            name = "shop"

            def ready(self):
                from shop import receivers

                post_migrate.connect(receivers.grant, sender=self)
    """,
    "seeds/rates.csv": "EUR,1",
    "plain/__init__.py": "",
    "plain/models.py": """
        from django.db import models

        class Plain(models.Model):
            name = models.CharField(max_length=10)
    """,
}
SETTINGS = """
    from pathlib import Path
    BASE_DIR = Path(__file__).parent
    INSTALLED_APPS = [*INSTALLED_APPS, "plain"]
    ITKIT["POSTGRES"] = {"SEED_FILES": ["seeds"]}
"""

MODEL = "class Currency(models.Model):"
PERMISSIONS = 'permissions = [("mint", "may mint")]'
DATABASE_CACHE = "django.core.cache.backends.db.DatabaseCache"

# A text of a file, and what takes its place.
COUNTS = {
    "a migration": ("shop/migrations/0001_initial.py", "max_length=3", "max_length=4"),
    "a file beside the migrations": ("shop/migrations/rows.sql", "1", "2"),
    "a seed file": ("seeds/rates.csv", "1", "2"),
    "a receiver of post_migrate": ("shop/receivers.py", "pass", "return"),
    "a model without migrations": ("plain/models.py", "=10", "=11"),
    "permissions": ("shop/models.py", MODEL, f"{MODEL}\n    class Meta:\n        {PERMISSIONS}"),
    "the time zone": ("settings.py", "USE_TZ = True", "USE_TZ = False"),
    "the order of the apps": ("settings.py", '"shop", "itkit"', '"itkit", "shop"'),
    "another module of migrations": (
        "settings.py",
        "USE_TZ = True",
        'USE_TZ = True\nMIGRATION_MODULES = {"shop": None}',
    ),
    "a cache table": (
        "settings.py",
        "DEFAULT_AUTO_FIELD",
        f"CACHES['db'] = {{'BACKEND': {DATABASE_CACHE!r}, 'LOCATION': 'c'}}\nDEFAULT_AUTO_FIELD",
    ),
}
DOES_NOT_COUNT = {
    "a view": ("shop/views.py", "", "x = 1"),
    "a model's method": ("shop/models.py", MODEL, f"{MODEL}\n    def mint(self): ..."),
    "a module that a migration imports, which is seen": ("shop/seeding.py", "pass", "return"),
    "a fixture, which is seen when it is loaded": ("shop/fixtures/rows.json", "[]", "[1]"),
    "a test": ("shop/tests.py", "", "x = 1"),
    "a setting that migrations do not read": (
        "settings.py",
        'SECRET_KEY = "x"',
        "SECRET_KEY = 'y'",
    ),
    "the server's address": ("settings.py", '"PORT": "1"', '"PORT": "2"'),
}


@pytest.fixture
def shop(project: Project) -> Project:
    for name, text in PROJECT.items():
        project.write(name, text)
    project.write("shop/tests.py", "")
    project.settings(SETTINGS)
    return project


def state(project: Project) -> str:
    """Return what a new process finds."""
    command = "from itkit.postgres.template import fingerprint; print('STATE', fingerprint.project_state())"
    result = project.manage("shell", "-c", command)
    assert result.code == 0, result.output
    return re.findall(r"STATE (\w+)", result.output)[0]


def edit(project: Project, name: str, old: str, new: str) -> None:
    file = project.path / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1) if old else new)


def test_what_decides_the_result_counts_and_nothing_else(shop: Project) -> None:
    before = state(shop)
    assert state(shop) == before
    for what, (name, old, new) in {**COUNTS, **DOES_NOT_COUNT}.items():
        text = (shop.path / name).read_text()
        edit(shop, name, old, new)
        assert (state(shop) == before) == (what in DOES_NOT_COUNT), what
        (shop.path / name).write_text(text)
    assert state(shop) == before


def test_a_seed_file_that_does_not_exist_is_a_mistake(shop: Project) -> None:
    shop.settings('ITKIT["POSTGRES"]["SEED_FILES"] = ["seed"]')
    shop.write("shop/tests.py", "from itkit.test import IntegrationTestCase\n")
    result = shop.test("--integration")
    assert result.code != 0
    assert """ITKIT["POSTGRES"]["SEED_FILES"] names 'seed', but there is no""" in result.output
    assert "Traceback" not in result.output


def test_another_server_or_role_is_another_state(postgres_url: str) -> None:
    with connect(postgres_url, application="test") as connection:
        one = fingerprint.of_state("project", connection, salt="")
        assert fingerprint.of_state("project", connection, salt="") == one
        assert fingerprint.of_state("project", connection, salt="run") != one
        assert fingerprint.of_state("other", connection, salt="") != one
        connection.execute("CREATE ROLE somebody_else")
        connection.execute("SET ROLE somebody_else")
        assert fingerprint.of_state("project", connection, salt="") != one
        connection.execute("RESET ROLE")
        connection.execute("DROP ROLE somebody_else")
        with connect(postgres_url.replace("/postgres?", "/template1?"), application="t") as other:
            assert fingerprint.of_state("project", other, salt="") != one


ALTERATIONS = [
    "CREATE TABLE stamped.other ()",
    "ALTER TABLE stamped.t ADD COLUMN more int",
    "ALTER TABLE stamped.t ALTER id SET DEFAULT 5",
    "ALTER TABLE stamped.t ADD CHECK (id > 0)",
    "CREATE INDEX ON stamped.t (id)",
    "ALTER TABLE stamped.t ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY p ON stamped.t",
    "CREATE RULE r AS ON INSERT TO stamped.t DO INSTEAD NOTHING",
    "CREATE STATISTICS stamped.s ON id, name FROM stamped.t",
    "ALTER SEQUENCE stamped.q INCREMENT 2",
    "ALTER TYPE stamped.e ADD VALUE 'b'",
    "COMMENT ON COLUMN stamped.t.id IS 'x'",
    "COMMENT ON FUNCTION stamped.f() IS 'x'",
    "CREATE OR REPLACE FUNCTION stamped.f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "CREATE DOMAIN stamped.d AS int",
    "ALTER VIEW stamped.v RENAME TO w",
    "GRANT SELECT ON stamped.t TO PUBLIC",
    "CREATE OPERATOR stamped.~~~~ (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    'CREATE COLLATION stamped.c FROM "C"',
    "DROP VIEW stamped.w",
]
NO_ALTERATIONS = [
    "INSERT INTO stamped.t VALUES (1, 'a')",
    "DELETE FROM stamped.t",
    "ANALYZE stamped.t",
    "VACUUM stamped.t",
    "SELECT nextval('stamped.q')",
    "CREATE SCHEMA elsewhere",
    "DROP SCHEMA elsewhere",
]


def test_a_stamp_tells_of_any_alteration_and_of_nothing_else(postgres_url: str) -> None:
    with connect(postgres_url, application="test") as connection:
        connection.execute("""
            CREATE SCHEMA stamped; CREATE TABLE stamped.t (id int, name text);
            CREATE SEQUENCE stamped.q; CREATE TYPE stamped.e AS ENUM ('a');
            CREATE FUNCTION stamped.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
            CREATE VIEW stamped.v AS SELECT id FROM stamped.t;
        """)
        for statement in [*NO_ALTERATIONS, *ALTERATIONS]:
            before = catalog_version.of_schema(connection, "stamped")
            connection.execute(statement.encode())
            has_changed = catalog_version.of_schema(connection, "stamped") != before
            assert has_changed == (statement in ALTERATIONS), statement
        connection.execute("DROP SCHEMA stamped CASCADE")

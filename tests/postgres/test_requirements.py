"""A run names what a server lacks, and which migration needs it, before any migration runs."""

from pathlib import Path

import pytest

from tests.support.doors import SERIAL, enter, write_tests
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

ONE = """
    from django.test import TestCase

    class One(TestCase):
        def test_runs(self):
            pass
"""
FIRST = """
    from pathlib import Path

    from django.db import migrations

    def note(apps, schema_editor):
        Path("was_run").touch()

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [migrations.RunPython(note)]
"""
LACKING = """
    from django.contrib.postgres.constraints import ExclusionConstraint
    from django.contrib.postgres.fields import ArrayField
    from django.contrib.postgres.operations import CreateCollation, CryptoExtension
    from django.db import migrations, models
    from django.db.models.functions import Collate, Lower

    class Migration(migrations.Migration):
        dependencies = [("shop", "0002_first")]
        operations = [
            CryptoExtension(),
            CreateCollation("german", provider="icu", locale="de-DE"),
            CreateCollation("plain", locale="C"),
            migrations.SeparateDatabaseAndState([
                migrations.RunSQL(['CREATE EXTENSION IF NOT EXISTS "uuid-ossp"', ("SELECT 1", [])]),
            ]),
            migrations.RunSQL("CREATE COLLATION swiss (locale = 'de-CH', provider = 'icu')"),
            migrations.RunSQL('CREATE TABLE t (a text COLLATE "fi-x-icu", b text COLLATE "C")'),
            migrations.RunSQL('CREATE INDEX ON t (a COLLATE pg_catalog."is_IS.utf8")'),
            migrations.CreateModel("Word", [
                ("id", models.BigAutoField(primary_key=True)),
                ("text", models.TextField(db_collation="sv-x-icu")),
                ("texts", ArrayField(models.TextField(db_collation="da-x-icu"))),
                ("plain", models.TextField(db_collation="plain")),
            ]),
            migrations.AddField("Customer", "old", models.TextField(db_collation="xx_XX.utf8", default="")),
            migrations.AlterField("Currency", "code", models.CharField(max_length=4, db_collation="unicode")),
            migrations.AddIndex("Word", models.Index(Lower(Collate("text", "nl-x-icu")), name="i")),
            migrations.AddConstraint("Word", models.CheckConstraint(
                condition=models.Q(text__gt=Collate(models.F("plain"), "pl-x-icu")), name="c",
            )),
        ]
"""
ALLOWED = """
    from django.contrib.postgres.operations import CreateCollation
    from django.db import migrations, models

    class Migration(migrations.Migration):
        dependencies = [("shop", "0002_first")]
        operations = [
            migrations.RunSQL("-- CREATE EXTENSION nowhere\\nSELECT 'run CREATE EXTENSION none_at_all'"),
            migrations.RunSQL('''
                CREATE FUNCTION later() RETURNS bool LANGUAGE plpgsql AS $$
                BEGIN RETURN 'a' < 'b' COLLATE "de-x-icu"; END $$
            '''),
            migrations.RunSQL('''CREATE COLLATION "nn_NO" (locale = 'C')'''),
            CreateCollation("own", locale="C"),
            migrations.AddField("Customer", "a", models.TextField(db_collation="own", default="")),
            migrations.AddField("Customer", "b", models.TextField(db_collation="nn_NO", default="")),
            migrations.AddField("Customer", "c", models.TextField(db_collation="POSIX", default="")),
        ]
"""


def line_of(part: str) -> int:
    return next(n for n, line in enumerate(LACKING.splitlines(), start=1) if part in line)


@pytest.mark.parametrize("door", SERIAL)
def test_all_that_is_lacking_is_told_before_anything_is_migrated(
    door: str, project: Project
) -> None:
    write_tests(project, ONE)
    project.write("shop/migrations/0002_first.py", FIRST)
    project.write("shop/migrations/0003_lacking.py", LACKING)
    result = enter(door, project)
    assert result.code != 0
    expected = {
        "CryptoExtension()": "creates the extension 'pgcrypto'",
        '"german"': "creates the collation 'german' of ICU",
        "uuid-ossp": "creates the extension 'uuid-ossp'",
        "swiss": "creates the collation 'swiss' of ICU",
        "fi-x-icu": "uses the collation 'fi-x-icu'",
        "is_IS": "uses the collation 'is_IS.utf8'",
        "sv-x-icu": "uses the collation 'sv-x-icu'",
        "da-x-icu": "uses the collation 'da-x-icu'",
        "xx_XX": "uses the collation 'xx_XX.utf8'",
        '"unicode"': "uses the collation 'unicode'",
        "nl-x-icu": "uses the collation 'nl-x-icu'",
        "pl-x-icu": "uses the collation 'pl-x-icu'",
    }
    place = "shop.0003_lacking (shop/migrations/0003_lacking.py:{})"
    lines = [f"{place.format(line_of(part))} {text}" for part, text in expected.items()]
    found = [line.strip() for line in result.output.splitlines() if "0003_lacking (" in line]
    assert found == lines, result.output
    assert "ITKIT_SOURCE=system" in result.output
    assert "Traceback" not in result.output
    assert not Path(project.path, "was_run").exists()


@pytest.mark.parametrize("isolation", ["schema", "database"])
def test_what_migrations_make_or_leave_for_later_is_not_lacking(
    isolation: str, project: Project
) -> None:
    write_tests(project, ONE)
    project.write("shop/migrations/0002_first.py", FIRST)
    project.write("shop/migrations/0003_allowed.py", ALLOWED)
    result = project.test("--integration", ITKIT_POSTGRES_ISOLATION=isolation)
    assert result.counts == {"passed": 1}, result.output
    assert Path(project.path, "was_run").exists()


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        (
            'migrations.RunPython(lambda _, editor: editor.execute("CREATE EXTENSION pgcrypto"))',
            'extension "pgcrypto" is not available',
        ),
        (
            'CreateCollation("german", locale="xx_XX.utf8")',
            'could not create locale "xx_XX.utf8"',
        ),
        ('migrations.RunSQL("CREATE LANGUAGE plperlu")', 'extension "plperlu" is not available'),
    ],
    ids=["extension", "locale", "language"],
)
def test_what_is_lacking_when_a_migration_runs_is_told_with_what_helps(
    operation: str, told: str, project: Project
) -> None:
    write_tests(project, ONE)
    project.write(
        "shop/migrations/0002_lacking.py",
        f"""
        from django.contrib.postgres.operations import CreateCollation
        from django.db import migrations

        class Migration(migrations.Migration):
            dependencies = [("shop", "0001_initial")]
            operations = [{operation}]
        """,
    )
    result = project.test("--integration")
    assert result.code != 0
    assert "The migration shop.0002_lacking has failed, and nothing of" in result.output
    assert told in result.output
    assert "\n  ITKIT_POSTGRES_URL=postgresql://…, the URL of a server that has it" in result.output
    assert "Traceback" not in result.output

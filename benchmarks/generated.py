"""Write a Django project of a given size: models, migrations, seeded rows, and a zoo of objects.

The same size always gives the same files. Each app has ten models. Each model has ten indexes,
foreign keys to others of its app and of the app before, a generated column, JSON and array columns,
and comes to be in four steps, as it would over the years: its table, two columns more, indexes, a
constraint. Each app's last migration seeds rows. The app ``zoo`` creates by SQL what models cannot.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.zoo import zoo

MODELS_PER_APP = 10
MIGRATIONS = 320
SERVER_VERSION = 18  # of the embedded Postgres

_MODEL = """
class {model}(models.Model):
    name = models.CharField(max_length=80)
    label = models.GeneratedField(
        expression=Upper("name"), output_field=models.CharField(max_length=80), db_persist=True
    )
    slug = models.SlugField(unique=True)
    state = models.CharField(max_length=10, default="new")
    amount = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    created = models.DateTimeField(db_index=True, auto_now_add=True)
    parent = models.ForeignKey("{parent}", models.CASCADE, null=True, related_name="+")
    kind = models.ForeignKey("{kind}", models.CASCADE, null=True, related_name="+")
    data = models.JSONField(default=dict)
    tags = ArrayField(models.CharField(max_length=20), default=list)

    class Meta:
        indexes = [
            models.Index(fields=["state", "created"], name="{prefix}_state"),
            models.Index(
                fields=["amount"], name="{prefix}_new", condition=models.Q(state="new")
            ),
            GinIndex(fields=["data"], name="{prefix}_data"),
            GinIndex(fields=["name"], name="{prefix}_words", opclasses=["gin_trgm_ops"]),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(amount__gte=0), name="{prefix}_amount"),
        ]
"""

_STEPS = (
    """
        migrations.CreateModel("{model}", [
            ("id", models.BigAutoField(
                primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
            ("name", models.CharField(max_length=80)),
            ("label", models.GeneratedField(
                expression=Upper("name"), output_field=models.CharField(max_length=80),
                db_persist=True)),
            ("slug", models.SlugField(unique=True)),
            ("state", models.CharField(max_length=10, default="new")),
            ("amount", models.DecimalField(max_digits=10, decimal_places=2, default=0)),
            ("created", models.DateTimeField(db_index=True, auto_now_add=True)),
            ("parent", models.ForeignKey(
                to="{parent}", on_delete=models.CASCADE, null=True, related_name="+")),
            ("kind", models.ForeignKey(
                to="{kind}", on_delete=models.CASCADE, null=True, related_name="+")),
        ]),
""",
    """
        migrations.AddField("{model}", "data", models.JSONField(default=dict)),
        migrations.AddField("{model}", "tags", ArrayField(
            models.CharField(max_length=20), default=list, size=None)),
""",
    """
        migrations.AddIndex("{model}", models.Index(
            fields=["state", "created"], name="{prefix}_state")),
        migrations.AddIndex("{model}", models.Index(
            fields=["amount"], name="{prefix}_new", condition=models.Q(state="new"))),
        migrations.AddIndex("{model}", GinIndex(fields=["data"], name="{prefix}_data")),
        migrations.AddIndex("{model}", GinIndex(
            fields=["name"], name="{prefix}_words", opclasses=["gin_trgm_ops"])),
""",
    """
        migrations.AddConstraint("{model}", models.CheckConstraint(
            condition=models.Q(amount__gte=0), name="{prefix}_amount")),
""",
)

_IMPORTS = """
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import migrations, models
from django.db.models.functions import Upper
"""

_MIGRATION = """{imports}
class Migration(migrations.Migration):
    dependencies = {dependencies!r}
    operations = [{operations}    ]
"""

_SEED = """
from django.db import migrations


def seed(apps, schema_editor):
    for name in {models!r}:
        model = apps.get_model({app!r}, name)
        rows = [model(name=f"row {{n}}", slug=f"row-{{n}}", tags=["seed"]) for n in range(20)]
        model.objects.using(schema_editor.connection.alias).bulk_create(rows)


class Migration(migrations.Migration):
    dependencies = {dependencies!r}
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
"""

_EXTENSIONS = """
from django.contrib.postgres.operations import (
    BtreeGistExtension, CITextExtension, HStoreExtension, TrigramExtension,
)
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = []
    operations = [
        BtreeGistExtension(), CITextExtension(), HStoreExtension(), TrigramExtension(),
    ]
"""

_OBJECTS = """
from django.db import migrations

SQL = {sql!r}


class Migration(migrations.Migration):
    dependencies = [("zoo", "0001_extensions")]
    operations = [migrations.RunSQL(SQL)]
"""


def apps(tables: int) -> list[str]:
    """Return the labels of the apps that a project of so many tables has."""
    return ["zoo", *(f"app{number}" for number in range(-(-tables // MODELS_PER_APP)))]


def write(directory: Path, tables: int) -> None:
    """Write the apps of a project with so many tables of models into a directory."""
    _write_zoo(directory / "zoo")
    steps = max(1, round(len(_STEPS) * tables / MIGRATIONS))
    for numbers in _in_groups(range(tables), MODELS_PER_APP):
        _write_app(directory / _app(numbers[0]), numbers, steps)


def _write_zoo(app: Path) -> None:
    migrations = _make_app(app, models="")
    (migrations / "0001_extensions.py").write_text(_EXTENSIONS)
    (migrations / "0002_objects.py").write_text(
        _OBJECTS.format(sql=zoo(SERVER_VERSION, extensions=True))
    )


def _write_app(app: Path, numbers: Sequence[int], steps: int) -> None:
    """Write one app: its models, and migrations of so many steps each."""
    models = "".join(_MODEL.format(**_names(number)) for number in numbers)
    migrations = _make_app(app, models=_IMPORTS.replace("migrations, ", "") + models)
    before = [("zoo", "0001_extensions")]
    if numbers[0]:
        before.append((_app(numbers[0] - 1), "9999_seed"))
    for count, group in enumerate(_in_groups(list(_all_steps(numbers)), steps), start=1):
        step = _MIGRATION.format(imports=_IMPORTS, dependencies=before, operations="".join(group))
        (migrations / f"{count:04}_step.py").write_text(step)
        before = [(app.name, f"{count:04}_step")]
    seeded = [_model(number) for number in numbers[:3]]
    seed = _SEED.format(app=app.name, dependencies=before, models=seeded)
    (migrations / "9999_seed.py").write_text(seed)


def _make_app(app: Path, *, models: str) -> Path:
    """Make an app's package and return the one of its migrations."""
    migrations = app / "migrations"
    migrations.mkdir(parents=True)
    (app / "__init__.py").touch()
    (app / "models.py").write_text(models)
    (migrations / "__init__.py").touch()
    return migrations


def _in_groups(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _all_steps(numbers: Sequence[int]) -> Iterator[str]:
    """Yield the operations of an app: all its tables before anything that is added to them."""
    for step in _STEPS:
        for number in numbers:
            yield step.format(**_names(number))


def _names(number: int) -> dict[str, str]:
    """Return the names of a model, of the one before it, and of the first one of its app."""
    first = number - number % MODELS_PER_APP
    return {
        "model": _model(number),
        "prefix": f"m{number}",
        "parent": f"{_app(max(0, number - 1))}.{_model(max(0, number - 1))}",
        "kind": f"{_app(first)}.{_model(first)}",
    }


def _app(number: int) -> str:
    return f"app{number // MODELS_PER_APP}"


def _model(number: int) -> str:
    return f"Thing{number}"

"""What migrations read is observed: the next run migrates again if it has changed, and says what has."""

import json
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.postgres.server.driver import Connection
from itkit.postgres.template import database_template, schema_template
from tests.postgres.test_saved_state import saved
from tests.postgres.test_template import connected, server
from tests.support.projects import Project, Result, own_databases

__all__ = ["server"]

Change = Callable[[Project], None]

SETTINGS = """
    import os
    from pathlib import Path
    from django.utils.translation import gettext_lazy

    class Greeting:
        def __init__(self):
            self.text = gettext_lazy("colour")

    BASE_DIR = Path(__file__).parent
    FIXTURE_DIRS = [BASE_DIR / "data"]
    LOCALE_PATHS = [BASE_DIR / "locale"]
    USE_I18N = True
    TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [BASE_DIR / "texts"]}]
    COUNTRY = "AT"
    REGION = os.environ.get("REGION", "EU")
    RATES = {"AT": {"standard": 20}, "DE": {"standard": 19}}
    LANGUAGE_CODE = "de"
    GREETINGS = {"hello": gettext_lazy("Hello"), 1: {"a", "b", "c"}, "by": print, "of": Greeting()}
    AT_IMPORT = OF_CLASS = BY_ANOTHER_NAME = GOT = 1
    ITKIT["POSTGRES"] = {"SEED_FILES": ["data/rates.sqlite"]}
    LOGGING = {
        "version": 1,
        "handlers": {"file": {"class": "logging.FileHandler", "filename": BASE_DIR / "shop.log"}},
        "loggers": {"shop": {"handlers": ["file"], "level": "INFO"}},
    }
"""

MIGRATION = """
    import csv, glob, json, logging, os, pkgutil, sqlite3, subprocess, tempfile
    from concurrent.futures import ThreadPoolExecutor
    from importlib import resources
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    from django.apps import apps as all_apps
    from django.conf import settings
    from django.core import signing
    from django.core.management import call_command
    from django.db import migrations
    from django.template.loader import render_to_string
    from django.utils import translation
    from django.utils.module_loading import import_string

    from shop import by_module, reads_at_import, remembers
    from shop.by_name import NAME
    from shop.models import LIMIT
    from shop.operations import Seed
    from .. import by_relative_module
    from ..by_relative_name import RELATIVE

    AT_IMPORT = Path("data/at_import.txt").read_text()

    def files(apps, schema_editor):
        with open("migrated.txt", "a") as file:
            file.write("x")
        open("data/opened.txt").read()
        Path("data/path.txt").read_text()
        with open("data/rates.csv", newline="") as file:
            list(csv.reader(file))
        with open("data/rates.json") as file:
            json.load(file)
        os.close(os.open("data/descriptor.txt", os.O_RDONLY))
        resources.files("shop").joinpath("resource.txt").read_text()
        for name in os.listdir("data/listed"):
            Path("data/listed", name).read_text()
        glob.glob("*.txt", root_dir="data/globbed")
        list(Path("data/walked").rglob("*.txt"))
        Path("data/asked.txt").exists()
        try:
            open("data/tried.txt")
        except FileNotFoundError:
            pass
        Path("data/deleted.txt").read_text()
        sqlite3.connect("data/rates.sqlite").close()
        subprocess.run(["cat", "data/argument.txt"], check=True)
        subprocess.run("cat < data/shell.txt", shell=True, check=True)
        os.system("cat --show-all -- 'data/system.txt' > /dev/null")
        spawned = os.posix_spawn("/bin/sh", ["sh", "-c", "cat data/spawned.txt"], os.environ)
        os.waitpid(spawned, 0)
        pkgutil.get_data("shop", "packaged.txt")
        os.access("data/access.txt", os.R_OK)
        spec = spec_from_file_location("executed", "data/executed.py")
        spec.loader.exec_module(module_from_spec(spec))
        with ThreadPoolExecutor(1) as pool:
            list(pool.map(Path.read_text, [Path("data/thread.txt")]))

    def values(apps, schema_editor):
        os.environ["SUBSCRIPT"], os.getenv("GETENV"), os.environ.get("ABSENT")
        os.environb[b"BYTES"], os.getenvb(b"NO_BYTES"), dict(os.environb)
        settings.COUNTRY, getattr(settings, "NOT_SET", None), settings.REGION, settings.GREETINGS
        settings.RATES["AT"]["standard"]
        by_module.VALUE, by_relative_module.VALUE, reads_at_import.RATES, reads_at_import.SETTING
        remembers.rates(), remembers.Defaults().count, remembers.default(), remembers.by_another_name
        import_string("shop.by_string.VALUE"), all_apps.get_app_config("shop").rates
        render_to_string("welcome.txt")
        call_command("seed_countries")
        call_command("loaddata", "currencies", verbosity=0)
        with translation.override("de"):
            translation.gettext("colour")

    def what_does_not_decide(apps, schema_editor):
        logging.getLogger("shop").info("a data migration runs")
        Path("shop.log").read_text()
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).read_bytes()
        with tempfile.TemporaryDirectory() as made:
            subprocess.run(["cp", "data/opened.txt", made], check=True)
            Path(made, "opened.txt").read_text(), os.listdir(made), Path(made).exists()
        Path("made_by_migration.txt").write_text(str(os.getpid()))
        Path("made_by_migration.txt").read_text()
        signing.dumps("signed")
        settings.DATABASES["default"]["HOST"], settings.DEBUG, settings.MEDIA_ROOT
        dict(os.environ), os.path.expanduser("~/nothing")

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [
            migrations.RunPython(files), migrations.RunPython(values),
            migrations.RunPython(what_does_not_decide), Seed(),
        ]
"""

FILES = {
    "shop/migrations/0002_reads.py": MIGRATION,
    "shop/by_module.py": "VALUE = 1",
    "shop/by_name.py": "NAME = 1\nOTHER = 1",
    "shop/by_relative_module.py": "VALUE = 1",
    "shop/by_relative_name.py": "from shop.behind import BEHIND\nRELATIVE = BEHIND",
    "shop/behind.py": "BEHIND = 1",
    "shop/by_string.py": "VALUE = 1",
    "shop/resource.txt": "1",
    "shop/reads_at_import.py": """
        import json
        from pathlib import Path
        from django.conf import settings

        RATES = json.loads((Path(__file__).parent / "rates_at_import.json").read_text())
        SETTING = settings.AT_IMPORT
    """,
    "shop/rates_at_import.json": "1",
    "shop/packaged.txt": "1",
    "shop/remembers.py": """
        import functools
        import os
        from pathlib import Path

        from django.conf import settings
        from django.conf import settings as conf
        from django.utils.functional import cached_property

        @functools.lru_cache(maxsize=None)
        def rates():
            return (Path(__file__).parent.parent / "data" / "remembered.txt").read_text()

        class Defaults:
            OF_CLASS = settings.OF_CLASS

            @cached_property
            def count(self):
                return open(os.path.join(settings.BASE_DIR, "data/property.txt")).read()

            def unused(self):
                return settings.UNUSED, os.environ["UNUSED"]

        def default(value=os.environ.get("OF_FUNCTION")):
            return value

        by_another_name = [conf.BY_ANOTHER_NAME, getattr(conf, "GOT", None)]
        DEFAULTS = Defaults()
        rates(), DEFAULTS.count
    """,
    "shop/operations.py": """
        from django.db.migrations import RunPython

        def seed(apps, schema_editor):
            return 1

        class Seed(RunPython):
            def __init__(self):
                super().__init__(seed)
    """,
    "shop/management/__init__.py": "",
    "shop/management/commands/__init__.py": "",
    "shop/management/commands/seed_countries.py": """
        from django.core.management.base import BaseCommand

        class Command(BaseCommand):
            def handle(self, **options):
                return "1"
    """,
    "shop/apps.py": """
        from django.apps import AppConfig
        from django.db.models.signals import post_migrate
        from django.utils.functional import cached_property

        class ShopConfig(AppConfig):
            name = "shop"

            @cached_property
            def rates(self):
                with open("data/configured.txt") as file:
                    return file.read()

            def ready(self):
                from shop import by_string, receivers, remembers

                self.rates

                post_migrate.connect(receivers.grant, sender=self)
    """,
    "shop/receivers.py": """
        from shop import granted

        with open("data/receivers.txt") as file:
            GRANTED = file.read()

        def grant(**kwargs):
            return granted.VALUE, GRANTED
    """,
    "shop/granted.py": "VALUE = 1",
    "shop/tests.py": """
        from itkit.test import IntegrationTestCase
        from shop.models import Currency

        class One(IntegrationTestCase):
            def test_one(self):
                self.assertEqual(Currency.objects.get(pk=7).code, "CHF")

        class Two(IntegrationTestCase):
            def test_two(self):
                self.assertTrue(Currency.objects.exists())
    """,
    "texts/welcome.txt": "1",
    "data/currencies.json": '[{"model": "shop.currency", "pk": 7, "fields": {"code": "CHF"}}]',
    **{
        f"data/{name}": "1"
        for name in [
            "at_import.txt",
            "opened.txt",
            "path.txt",
            "rates.csv",
            "rates.json",
            "descriptor.txt",
            "deleted.txt",
            "rates.sqlite",
            "argument.txt",
            "shell.txt",
            "system.txt",
            "spawned.txt",
            "thread.txt",
            "remembered.txt",
            "property.txt",
            "access.txt",
            "executed.py",
            "configured.txt",
            "receivers.txt",
            "listed/one.txt",
            "globbed/one.txt",
            "walked/a/one.txt",
        ]
    },
}


def catalogue(**messages: str) -> bytes:
    """Return a compiled catalogue of gettext."""
    pairs = sorted({"": "Content-Type: text/plain; charset=UTF-8\n", **messages}.items())
    head, count = 28, len(pairs)
    columns: list[int] = []
    content = b""
    for text in [name for name, _ in pairs] + [text for _, text in pairs]:
        columns += [len(text.encode()), head + count * 16 + len(content)]
        content += text.encode() + b"\0"
    header = struct.pack("<7I", 0x950412DE, 0, count, head, head + count * 8, 0, 0)
    return header + struct.pack(f"<{count * 4}I", *columns) + content


def written(name: str, text: str) -> Change:
    return lambda project: project.write(name, text)


def edited(name: str, old: str, new: str) -> Change:
    def edit(project: Project) -> None:
        file = project.path / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return edit


def set_to(line: str) -> Change:
    return lambda project: project.settings(line)


def in_environment(**variables: str) -> Change:
    return lambda project: project.env.update(variables)


def translated(project: Project) -> None:
    (project.path / "locale/de/LC_MESSAGES/django.mo").write_bytes(catalogue(colour="Couleur"))


# What is changed, and what the run has to name.
DECIDES: dict[str, Change] = {
    "the file data/opened.txt": written("data/opened.txt", "2"),
    "the file data/path.txt": written("data/path.txt", "2"),
    "the file data/rates.csv": written("data/rates.csv", "2"),
    "the file data/rates.json": written("data/rates.json", "2"),
    "the file data/descriptor.txt": written("data/descriptor.txt", "2"),
    "the file shop/resource.txt": written("shop/resource.txt", "2"),
    "the file data/at_import.txt": written("data/at_import.txt", "2"),
    "the file shop/rates_at_import.json": written("shop/rates_at_import.json", "2"),
    "the file data/currencies.json": edited("data/currencies.json", "]", " ]"),
    "the directory data/listed": written("data/listed/two.txt", "1"),
    "the files data/globbed/*.txt": written("data/globbed/two.txt", "1"),
    "the files data/walked/**/*.txt": written("data/walked/b/two.txt", "1"),
    "the path data/asked.txt": written("data/asked.txt", "1"),
    "the file data/tried.txt": written("data/tried.txt", "1"),
    "the file data/deleted.txt": written("data/deleted.txt", "2"),
    "the file data/argument.txt": written("data/argument.txt", "2"),
    "the file data/shell.txt": written("data/shell.txt", "2"),
    "the file data/system.txt": written("data/system.txt", "2"),
    "the file data/spawned.txt": written("data/spawned.txt", "2"),
    "the file data/thread.txt": written("data/thread.txt", "2"),
    "the file data/remembered.txt": written("data/remembered.txt", "2"),
    "the file data/property.txt": written("data/property.txt", "2"),
    "the file data/configured.txt": written("data/configured.txt", "2"),
    "the file data/receivers.txt": written("data/receivers.txt", "2"),
    "the file data/executed.py": written("data/executed.py", "2"),
    "the path data/access.txt": lambda project: (project.path / "data/access.txt").unlink(),
    "the code in shop/by_string.py": edited("shop/by_string.py", "1", "2"),
    "the file shop/packaged.txt": written("shop/packaged.txt", "2"),
    "the file texts/welcome.txt": written("texts/welcome.txt", "2"),
    "the file locale/de/LC_MESSAGES/django.mo": translated,
    "the environment variable SUBSCRIPT": in_environment(SUBSCRIPT="2"),
    "the environment variable GETENV": in_environment(GETENV="2"),
    "the environment variable ABSENT": in_environment(ABSENT="2"),
    "the environment variable BYTES": in_environment(BYTES="2"),
    "the environment variable NO_BYTES": in_environment(NO_BYTES="2"),
    "the environment variable OF_FUNCTION": in_environment(OF_FUNCTION="2"),
    "the setting OF_CLASS": set_to("OF_CLASS = 2"),
    "the setting BY_ANOTHER_NAME": set_to("BY_ANOTHER_NAME = 2"),
    "the setting GOT": set_to("GOT = 2"),
    "the setting COUNTRY": set_to('COUNTRY = "DE"'),
    "the setting NOT_SET": set_to("NOT_SET = 1"),
    "the setting REGION": in_environment(REGION="US"),
    "the setting RATES": set_to('RATES["AT"]["standard"] = 21'),
    "the setting GREETINGS": set_to('GREETINGS["hello"] = gettext_lazy("Good morning")'),
    "the setting AT_IMPORT": set_to("AT_IMPORT = 2"),
    "the code in shop/by_module.py": edited("shop/by_module.py", "1", "2"),
    "the code in shop/by_name.py": edited("shop/by_name.py", "NAME = 1", "NAME = 2"),
    "the code in shop/by_relative_module.py": edited("shop/by_relative_module.py", "1", "2"),
    "the code in shop/behind.py": edited("shop/behind.py", "1", "2"),
    "the code in shop/models.py": edited("shop/models.py", "LIMIT = 1", "LIMIT = 2"),
    "the code in shop/operations.py": edited("shop/operations.py", "return 1", "return 2"),
    "the code in shop/granted.py": edited("shop/granted.py", "1", "2"),
    "the code in shop/management/commands/seed_countries.py": edited(
        "shop/management/commands/seed_countries.py", '"1"', '"2"'
    ),
}
DOES_NOT_DECIDE: dict[str, Change] = {
    "a log that is written": written("shop.log", "another"),
    "what a migration has made": written("made_by_migration.txt", "another"),
    "a part of a module that no migration uses": edited(
        "shop/by_name.py", "OTHER = 1", "OTHER = 2"
    ),
    "a method of a model": edited(
        "shop/models.py", "unique=True)", "unique=True)\n    def a(self): ..."
    ),
    "a comment": edited("shop/by_module.py", "VALUE", "# a comment\nVALUE"),
    "a setting that Django reads": set_to('SECRET_KEY = "another"'),
    "settings of the test run": set_to('DEBUG = True; MEDIA_ROOT = "/another"'),
    "the address of the server": set_to('DATABASES["default"]["PORT"] = "2"'),
    "a variable that nobody asks for": in_environment(ANOTHER="1", TERM="another", UNUSED="1"),
    "a setting of a method that nobody calls": set_to("UNUSED = 1"),
    "a hidden file in a directory that is listed": written("data/listed/.hidden", ""),
    "compiled modules": in_environment(PYTHONDONTWRITEBYTECODE=""),
    "another file in the directory of the data": written("data/another.txt", "1"),
}


@pytest.fixture
def shop(project: Project) -> Project:
    project.settings(SETTINGS)
    for name, text in FILES.items():
        project.write(name, text)
    edited("shop/models.py", "class Customer", "LIMIT = 1\n\nclass Customer")(project)
    (project.path / "data/rates.sqlite").write_bytes(b"")
    compiled = project.path / "locale/de/LC_MESSAGES/django.mo"
    compiled.parent.mkdir(parents=True)
    compiled.write_bytes(catalogue(colour="Farbe"))
    project.env["SUBSCRIPT"] = project.env["GETENV"] = project.env["BYTES"] = "1"
    return project


def passed(result: Result) -> Result:
    assert result.code == 0, result.output
    return result


def times_migrated(project: Project) -> int:
    """Return how often the migrations have run since this was asked last, in any process."""
    file = project.path / "migrated.txt"
    times = len(file.read_text()) if file.exists() else 0
    file.unlink(missing_ok=True)
    return times


def has_migrated(project: Project, *results: Result) -> bool:
    for result in results:
        passed(result)
    return times_migrated(project) > 0


def run(project: Project, *arguments: str, **env: str) -> Result:
    return project.test("--integration", *arguments, **env)


FINDS_CHANGED = """
import json
from itkit.postgres.template import reads

found = reads.Reads.parse(open("stored.txt").read()).changed()
print(json.dumps([reads.shown([name]) for name in found]))
"""


def stored(postgres_url: str) -> str:
    """Return what the only template of the server was made of, as it is stored."""
    (database,) = own_databases(postgres_url)
    with connected(postgres_url, database) as connection:
        (template,) = schema_template.templates(Connection(connection))
        return template.reads().text


def changed(project: Project, postgres_url: str) -> list[str]:
    """Return, in words, what has changed for a process of the project since its migrations ran."""
    project.write("stored.txt", stored(postgres_url))
    result = passed(project.manage("shell", "-c", FINDS_CHANGED))
    found: list[str] = json.loads(result.output.splitlines()[-1])
    return sorted(found)


@pytest.mark.usefixtures("no_databases")
@pytest.mark.slow
def test_what_a_migration_reads_decides_and_is_named(
    shop: Project, server: dict[str, str], postgres_url: str
) -> None:
    assert has_migrated(shop, run(shop, **server))
    for change in DOES_NOT_DECIDE.values():
        change(shop)
    assert changed(shop, postgres_url) == []
    result = run(shop, **server)
    assert not has_migrated(shop, result), result.output
    for change in DECIDES.values():
        change(shop)
    assert changed(shop, postgres_url) == sorted(f"{what} has changed" for what in DECIDES)
    result = run(shop, **server)
    assert has_migrated(shop, result), result.output
    assert f" and {len(DECIDES) - 3} more have changed" in result.output
    workers = shop.pytest("--integration", "-s", "-n", "2", "shop/tests.py", **server)
    results = [run(shop, "--parallel", "2", **server), workers]
    assert not has_migrated(shop, *results), results


SMALL = """
    import os
    from pathlib import Path
    from django.conf import settings
    from django.db import migrations

    def seed(apps, schema_editor):
        with open("migrated.txt", "a") as file:
            file.write("x")
        currencies = apps.get_model("shop", "Currency").objects
        for code in Path("data/codes.txt").read_text().split():
            currencies.create(code=code)
        currencies.create(code=settings.HOME_CURRENCY)

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [migrations.RunPython(seed)]
"""
ANY_TEST = """
    from django.test import TestCase

    class Any(TestCase):
        def test_any(self): ...
"""
SMALL_TESTS = """
    from pathlib import Path
    from django.conf import settings
    from itkit.test import IntegrationTestCase
    from shop.models import Currency

    class One(IntegrationTestCase):
        def test_one(self):
            codes = [*Path("data/codes.txt").read_text().split(), settings.HOME_CURRENCY, "EUR"]
            self.assertCountEqual(Currency.objects.values_list("code", flat=True), codes)

    class Two(One):
        pass
"""


@pytest.fixture
def small(project: Project, cache_dir: Path) -> Iterator[Project]:
    """A project whose data migration reads one file and one setting, with its own saved states."""
    project.write("shop/migrations/0002_small.py", f"{SMALL}\n    # {project.path}")
    project.write("shop/tests.py", SMALL_TESTS)
    project.write("data/codes.txt", "USD")
    project.settings("import os\nHOME_CURRENCY = os.environ.get('HOME_CURRENCY', 'CHF')")
    before = saved(cache_dir)
    yield project
    for path in saved(cache_dir) - before:
        shutil.rmtree(path)


def goes_with_what_is_read(project: Project, **env: str) -> None:
    """Find out that a project migrates when something has changed, and at no other time."""
    workers = ("--integration", "-s", "-n", "2", "shop/tests.py")
    assert has_migrated(project, run(project, **env))
    project.write("data/codes.txt", "GBP")
    result = run(project, "--parallel", "2", **env)
    assert has_migrated(project, result)
    assert "of default are to run, as the file data/codes.txt has changed" in result.output
    project.write("data/codes.txt", "USD")  # as after a branch
    assert not has_migrated(project, project.pytest(*workers, **env))
    result = project.pytest(*workers, **env, HOME_CURRENCY="SEK")
    assert has_migrated(project, result)
    assert "are to run, as the setting HOME_CURRENCY has changed" in result.output
    assert not has_migrated(project, run(project, "--parallel", "2", **env, HOME_CURRENCY="SEK"))


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.slow
def test_on_the_embedded_server(isolation: str, small: Project) -> None:
    goes_with_what_is_read(small, ITKIT_POSTGRES_ISOLATION=isolation)


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.usefixtures("no_databases")
@pytest.mark.slow
def test_on_a_server_of_ones_own(isolation: str, small: Project, server: dict[str, str]) -> None:
    goes_with_what_is_read(small, **server, ITKIT_POSTGRES_ISOLATION=isolation)


@pytest.mark.usefixtures("no_databases")
@pytest.mark.slow
def test_runs_at_once_that_read_different_values_have_different_templates(
    small: Project, server: dict[str, str]
) -> None:
    runs = [
        small.start("manage.py", "test", "--integration", **server, HOME_CURRENCY=currency)
        for currency in ("SEK", "NOK", "SEK")
    ]
    for one in runs:
        passed(small.finish(one))
    assert times_migrated(small) == 2
    for currency in ("SEK", "NOK"):
        assert not has_migrated(small, run(small, **server, HOME_CURRENCY=currency))


@pytest.mark.usefixtures("no_databases")
@pytest.mark.slow
def test_what_is_another_value_in_each_run_is_named_until_it_is_ignored(
    small: Project, server: dict[str, str]
) -> None:
    small.settings("""
        with open("imports.txt", "a+") as file:
            file.write("x")
            HOME_CURRENCY = str(file.tell())
    """)
    assert has_migrated(small, run(small, **server))
    result = run(small, **server)
    assert has_migrated(small, result)
    assert "as the setting HOME_CURRENCY has changed" in result.output
    small.write("shop/tests.py", ANY_TEST)
    small.settings('ITKIT["POSTGRES"] = {"IGNORED_READS": ["HOME_*", "data/*.txt"]}')
    small.write("data/codes.txt", "GBP")
    assert not has_migrated(small, run(small, **server))


@pytest.mark.parametrize("isolation", ["schema", "database"])
@pytest.mark.usefixtures("no_databases")
def test_no_value_is_stored_in_clear_text(
    isolation: str, small: Project, server: dict[str, str], postgres_url: str
) -> None:
    secret = "HUSHHUSH"
    env = {**server, "HOME_CURRENCY": secret, "ITKIT_POSTGRES_ISOLATION": isolation}
    small.write("shop/tests.py", ANY_TEST)
    short = SMALL.replace("=settings.HOME_CURRENCY", "=settings.HOME_CURRENCY[:3]")
    small.write("shop/migrations/0002_small.py", short)
    assert has_migrated(small, run(small, **env))
    database = own_databases(postgres_url)[0] if isolation == "schema" else "postgres"
    with connected(postgres_url, database) as connection:
        own = Connection(connection)
        if isolation == "schema":
            (template,) = schema_template.templates(own)
        else:
            (template,) = database_template.templates(own, parse(postgres_url, POSTGRES_SCHEMES))
        stored = template.reads().text
    assert "setting HOME_CURRENCY" in stored
    assert secret not in stored


IN_SQL = """
    from django.db import migrations

    class Migration(migrations.Migration):
        dependencies = [("shop", "0003_called")]
        operations = [migrations.RunSQL("INSERT INTO shop_currency (code) SELECT to_char(now(), 'YY')")]
"""
BY_EXPRESSION = """
    import time
    from django.db import migrations, models
    from django.db.models.functions import Now

    def update(apps, schema_editor):
        time.strftime("%Y", time.gmtime(0))
        apps.get_model("shop", "Currency").objects.update(at=Now())

    class Migration(migrations.Migration):
        dependencies = [("shop", "0004_sql")]
        operations = [
            migrations.AddField("Currency", "at", models.DateTimeField(db_default=Now())),
            migrations.RunPython(update),
        ]
"""
UNREPEATABLE = """
    import os, random
    import uuid
    from datetime import datetime
    from django.db import migrations
    from django.utils import timezone
    from shop.clock import moment

    def clock(apps, schema_editor):
        datetime.now(), timezone.now()

    def calls(apps, schema_editor):
        moment()

    def rolls(apps, schema_editor):
        os.environ.get("NEW"), random.Random(1).random(), uuid.uuid4()

    class Migration(migrations.Migration):
        dependencies = [("shop", "0001_initial")]
        operations = [migrations.RunPython(clock), migrations.RunPython(rolls)]
"""


TOLD = [
    "shop/clock.py:3: time.time reads the clock, in the migration shop.0003_called",
    "shop/migrations/0002_told.py:10: datetime.now reads the clock, in the migration shop.0002_told",
    "shop/migrations/0002_told.py:16: uuid.uuid4 reads random values, in the migration shop.0002_told",
    "shop/migrations/0004_sql.py:6: now in SQL reads the clock, in the migration shop.0004_sql",
    "shop/migrations/0005_expression.py:8: Now reads the clock, in the migration shop.0005_expression",
]


@pytest.mark.usefixtures("shared_servers")
@pytest.mark.slow
def test_a_migration_that_reads_the_clock_or_random_values_is_told_once(project: Project) -> None:
    project.write("shop/tests.py", ANY_TEST)
    project.write("shop/clock.py", "import time\ndef moment():\n    return time.time()\n")
    project.write("shop/migrations/0002_told.py", f"{UNREPEATABLE}    # {project.path}")
    project.write(
        "shop/migrations/0003_called.py",
        UNREPEATABLE.replace("0001_initial", "0002_told")
        .replace("(clock)", "(calls)")
        .replace("datetime.now(), timezone.now()", "pass")
        .replace(", uuid.uuid4()", ""),
    )
    project.write("shop/migrations/0004_sql.py", IN_SQL)
    project.write("shop/migrations/0005_expression.py", BY_EXPRESSION)
    workers = ("--integration", "-n", "2", "shop/tests.py")
    for first, second in [
        (run(project), run(project)),
        (project.pytest(*workers, NEW="1"), project.pytest(*workers, NEW="1")),
    ]:
        lines = [line.strip() for line in passed(first).output.splitlines()]
        assert [line for line in lines if re.search(r" reads (the clock|random)", line)] == TOLD
        assert "reads the clock" not in passed(second).output

"""The fingerprint: a short digest of all that decides the result of the migrations in any project.

Other values that the migrations read are recorded while they run, and ``reads`` compares them. If
fingerprint and reads are equal, nothing is migrated. So anything that is missing here can lead to a
stale schema, and anything that is here without need costs a superfluous migration. The fingerprint
contains, in this order: the versions of all installed packages, the settings that Django itself
reads for a schema, the apps with the files beside their migrations, the models, the receivers of
``post_migrate``, the routers, and the server.
"""

import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.db import connections, router
from django.db.migrations.loader import MigrationLoader
from django.db.models import Model
from django.db.models.signals import post_migrate, pre_migrate

from itkit import conf
from itkit.exceptions import ConfigurationError
from itkit.postgres.clone.clone import CLONE_VERSION
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import postgres_aliases
from itkit.postgres.template.sources import own_file

SETTINGS = (
    "AUTH_USER_MODEL",
    "DATABASE_ROUTERS",
    "DEFAULT_AUTO_FIELD",
    "DEFAULT_INDEX_TABLESPACE",
    "DEFAULT_TABLESPACE",
    "LANGUAGE_CODE",
    "LANGUAGES",
    "SITE_ID",
    "TIME_ZONE",
    "USE_I18N",
    "USE_TZ",
)
_DATABASE_CACHE = "django.core.cache.backends.db."
_DATA_FILES = frozenset({".csv", ".json", ".py", ".sql", ".txt", ".xml", ".yaml", ".yml"})
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_DIGEST_BYTES = 6


def of_project(alias: str, *, seed_files: Iterable[str], migrate: bool = True) -> str:
    """Return the digest of everything except the server.

    Args:
        alias: an alias of ``DATABASES``, as routers and migrations can treat aliases differently.
        seed_files: the files and directories of ``ITKIT["POSTGRES"]["SEED_FILES"]``, which data
            migrations read in a way that itkit cannot record.
        migrate: whether to run migrations; False with an option such as ``--nomigrations``.

    Raises:
        ConfigurationError: a file of ``SEED_FILES`` does not exist.
    """
    connection = connections[alias]
    migrates = migrate and connection.settings_dict["TEST"]["MIGRATE"] is not False
    parts = [str(CLONE_VERSION), alias, connection.settings_dict["ENGINE"], str(migrates)]
    parts.append(str(connection.settings_dict["TEST"].get("TEMPLATE")))
    parts += _installed_versions()
    parts += [f"{name}={getattr(settings, name, None)!r}" for name in SETTINGS]
    parts += _cache_tables()
    for app in apps.get_app_configs():
        parts += _app(app, migrates=migrates)
    parts += _receivers()
    parts += [_file(path) for path in _routers()]
    parts += [_file(path) for name in seed_files for path in _seed_files(name)]
    return _digest(parts)


def project_state(*, migrate: bool = True) -> str:
    """Return one digest for all aliases, with the names that their databases derive from."""
    options = conf.get().postgres
    seed_files = options.seed_files
    parts = [options.role, options.isolation]
    for alias in postgres_aliases():
        parts.append(of_project(alias, seed_files=seed_files, migrate=migrate))
        parts.append(connections[alias].creation._get_test_db_name())  # type: ignore[attr-defined]
        # missing in the stubs
    return _digest(parts)


def of_state(project: str, connection: Connection, *, salt: str, role: str = "project") -> str:
    """Return the fingerprint of the migrations' result on a server: twelve hex digits.

    Args:
        project: the result of ``of_project``.
        connection: a connection to the database of the tests. Its role and database are in the
            fingerprint, as a template belongs to the role and is in the database.
        salt: the id of a run that shares its template with no other run, or an empty text.
        role: the value of ``ITKIT["POSTGRES"]["ROLE"]``, which decides how the tests log in.
    """
    row = connection.execute(
        "SELECT version(), current_user, datname, encoding, datcollate, datctype"
        " FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    return _digest([project, repr(row), role, salt])


def _digest(parts: Iterable[str]) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _installed_versions() -> list[str]:
    """Return the names of the metadata directories of pip, which contain the versions."""
    found: set[str] = set()
    for entry in sys.path:
        directory = Path(entry or ".")
        if directory.is_dir():
            found.update(path.name for path in directory.glob("*.dist-info"))
    return sorted(found)


def _cache_tables() -> list[str]:
    """Return the tables that ``createcachetable`` makes."""
    return [
        str(cache_settings.get("LOCATION"))
        for cache_settings in settings.CACHES.values()
        if str(cache_settings.get("BACKEND", "")).startswith(_DATABASE_CACHE)
    ]


def _app(app: AppConfig, *, migrates: bool) -> Iterator[str]:
    module = MigrationLoader.migrations_module(app.label)[0] if migrates else None
    directory = _directory_of(module) if module is not None else None
    yield f"{app.label} {app.name} {module if directory else None}"
    if directory is not None:
        yield from map(_file, _files_below(directory))
    for model in app.get_models(include_auto_created=True, include_swapped=True):
        yield _model(model, is_migrated=directory is not None)


def _directory_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


@cache
def _files_below(directory: Path) -> tuple[Path, ...]:
    if not directory.is_dir():
        return ()
    found = (path for path in directory.rglob("*") if path.suffix in _DATA_FILES)
    return tuple(sorted(path for path in found if path.is_file()))


@cache
def _file(path: Path) -> str:
    content = blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return f"{path.parent.name}/{path.name} {content}"


def _model(model: type[Model], *, is_migrated: bool) -> str:
    """Describe what ``post_migrate`` reads of a model, or all of it if it has no migrations."""
    meta = model._meta
    decisive: list[Any] = [
        meta.label,
        str(meta.verbose_name_raw),
        sorted(map(str, meta.permissions)),
        list(meta.default_permissions),
        meta.proxy,
        meta.managed,
        meta.swapped,
    ]
    if not is_migrated:
        decisive += [meta.db_table, meta.db_table_comment, meta.db_tablespace]
        decisive += [(field.name, field.deconstruct()[1:]) for field in meta.local_fields]
        decisive += [item.deconstruct() for item in (*meta.indexes, *meta.constraints)]
        decisive += [sorted(map(str, meta.unique_together)), meta.order_with_respect_to]
    return _ADDRESS.sub("", repr(decisive))


def _receivers() -> Iterator[str]:
    """Yield the functions that run before and after ``migrate``, with the project's own files."""
    found: dict[Any, None] = {}
    for signal in (pre_migrate, post_migrate):
        for app in apps.get_app_configs():
            live = signal._live_receivers(app)
            found.update(dict.fromkeys((*live[0], *live[1])))
    for receiver in found:
        module = receiver.__module__
        yield f"{module}.{getattr(receiver, '__qualname__', '')}"
        path = own_file(module)
        if path is not None:
            yield _file(path)


def _routers() -> Iterator[Path]:
    for one in router.routers:
        path = own_file(type(one).__module__)
        if path is not None:
            yield path


def _seed_files(name: str) -> Iterable[Path]:
    path = Path(getattr(settings, "BASE_DIR", ".")) / name
    if path.is_dir():
        return _files_below(path)
    if not path.exists():
        raise ConfigurationError(
            f'ITKIT["POSTGRES"]["SEED_FILES"] names {name!r}, but there is no {path.absolute()}.'
            " Correct the path; a relative one begins at BASE_DIR."
        )
    return (path,)

"""Explains what a build of Postgres lacks or a server denies, and names the remedies."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from django.apps import apps
from django.db.migrations import Migration
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from itkit.core.text import chained, message_of
from itkit.exceptions import ItkitError, MigrationError
from itkit.postgres.migrations.requirements import REMEDIES
from itkit.postgres.migrations.watch import MigrationNames
from itkit.postgres.server import driver
from itkit.timeline import callsite

_LACKING: Final = re.compile(
    r"ICU is not supported in this build|collation \"[^\"]+\" for encoding .* does not exist"
    r"|extension \"[^\"]+\" is not available|could not open extension control file"
    r"|could not create locale|could not access file \"\$libdir"
)
"""What Postgres says where its build or its machine lacks something."""
_DENIED: Final = re.compile(
    r"InsufficientPrivilege|permission denied (?:for|to) |must be (?:owner of|superuser)"
)
_OF_STRUCTURE: Final = re.compile(
    r"UndefinedTable|UndefinedColumn|\b(?:relation|column|type|operator)\b.* does not exist"
    r"|violates [a-z-]+(?: key)? constraint|no unique or exclusion constraint matching"
    r"|value too long for type|numeric field overflow|out of range|invalid input syntax for type"
    r"|is of type .* but expression is of type|non-DEFAULT value into column"
)
"""What Postgres says where a table or a column is missing, or is not as a model has it."""
_EXTENSION: Final = re.compile(r"permission denied to create extension \"(?P<name>[^\"]+)\"")
_PROJECT: Final = 'ITKIT = {"POSTGRES": {"ROLE": "project"}}'
_VARIABLE: Final = "ITKIT_POSTGRES_ROLE=project"


def denied(shown: str, reach: str, wider: str) -> str:
    """Return advice for a test that Postgres has denied something, as its role is limited.

    Args:
        shown: the printed text of the test's failure.
        reach: the schemas or databases that the role may use, in words.
        wider: the setting for a project whose tests need more; empty where no setting helps.
    """
    if not _DENIED.search(shown):
        return ""
    advice = (
        f"The tests log in to Postgres by a role of the worker, which may use {reach}, and nothing"
        " else: neither other schemas and databases nor what only a superuser may do. A project"
        f" whose tests need more sets {_PROJECT}, or {_VARIABLE} in the environment{wider}."
    )
    found = _EXTENSION.search(shown)
    if found is None:
        return advice
    return (
        f"{advice} An extension is created for all workers before the tests where the settings"
        f' name it: ITKIT = {{"POSTGRES": {{"EXTENSIONS": ["{found["name"]}"]}}}}'
    )


def unmigrated(shown: str) -> str:
    """Return advice for a failure that says that a table or column is not as a model has it.

    Args:
        shown: the printed text of the test's failure.
    """
    labels = _without_migration() if _OF_STRUCTURE.search(shown) else ()
    if not labels:
        return ""
    return (
        f"The models of {', '.join(labels)} have changes for which there is no migration, and the"
        f" tests' database is what the migrations make: manage.py makemigrations {' '.join(labels)}"
    )


@cache
def _without_migration() -> tuple[str, ...]:
    """Return the labels of the apps for which ``makemigrations`` would write a migration."""
    loader = MigrationLoader(None)
    detector = MigrationAutodetector(loader.project_state(), ProjectState.from_apps(apps))
    return tuple(sorted(detector.changes(graph=loader.graph)))


def denial(error: BaseException) -> str:
    """Return what Postgres has denied; an empty text if an error has another reason."""
    for seen in chained(error):
        if isinstance(seen, driver.errors.InsufficientPrivilege):
            return str(seen).partition("\n")[0]
    return ""


def project_role_notice(alias: str, needs: str, kept_by: str) -> str:
    """Return a line that says why the tests do not log in by a role of the worker."""
    return (
        f"itkit: the tests of alias {alias!r} log in by the project's own role, as {needs};"
        f" {kept_by}. {_PROJECT} says so from the start."
    )


def role_too_weak(needs: str) -> str:
    """Return the message that the worker's role, which the settings require, may not migrate."""
    return (
        f'ITKIT["POSTGRES"]["ROLE"] is "worker", and {needs}. Nothing of the migrations was kept.'
        f' Set {_PROJECT}, or {_VARIABLE} in the environment, or "auto", which finds that out.'
    )


@contextmanager
def failures_named(names: MigrationNames) -> Iterator[None]:
    """Add the migration, and its line, to each error of a block that migrates.

    Args:
        names: knows which migration is running.

    Raises:
        MigrationError: the project's own code has failed.
    """
    try:
        yield
    except ItkitError:
        raise
    except (Exception, SystemExit) as error:
        running = names.running
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else _full_name(kind)
        who = f"{running[0].upper()}{running[1:]}"
        lines = [
            f"{who} has failed, and nothing of the migrations was kept:",
            *(f"  {line}" for line in f"{name}: {message_of(error)}".rstrip().splitlines()),
            *(f"  {line}" for line in _lines_of(error)),
            *([REMEDIES] if _LACKING.search(message_of(error)) else []),
        ]
        raise MigrationError("\n".join(lines)) from error


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _lines_of(error: BaseException) -> Iterator[str]:
    """Yield the operation that was running, and the lines of the project."""
    for frame, number in traceback.walk_tb(error.__traceback__):
        operation = frame.f_locals.get("operation")
        if frame.f_code is Migration.apply.__code__ and isinstance(operation, Operation):
            yield f"in the operation: {operation.describe()}"
        if callsite.is_own_file(frame.f_globals.get("__file__")):
            yield f"in {callsite.site(frame.f_globals, number)}"

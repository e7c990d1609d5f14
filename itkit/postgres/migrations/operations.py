"""The operations of the project's migrations, in the order in which a new database gets them."""

import inspect
import traceback
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from django.db import router
from django.db.migrations import Migration
from django.db.migrations.exceptions import (
    AmbiguityError,
    BadMigrationError,
    CircularDependencyError,
    NodeNotFoundError,
)
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation

from itkit.core.text import message_of
from itkit.exceptions import ConfigurationError
from itkit.timeline import callsite


class MigrationStep(NamedTuple):
    """An operation that changes the database.

    Attributes:
        migration: the migration that has the operation.
        operation: the operation, which may be a part of a ``SeparateDatabaseAndState``.
    """

    migration: Migration
    operation: Operation

    def named(self, *texts: str) -> str:
        """Return the name of the migration, with its file and the line to look at.

        Args:
            texts: texts to look for, in order; the line is the first one that has the text.
        """
        name = f"{self.migration.app_label}.{self.migration.name}"
        path = Path(inspect.getfile(type(self.migration)))
        lines = path.read_text(encoding="utf-8").splitlines()
        found = (n for text in texts for n, line in enumerate(lines, start=1) if text in line)
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        return f"{name} ({shown}:{next(found, 1)})"


@cache
def steps() -> tuple[MigrationStep, ...]:
    """Return all steps that would run, without migrations that others replace.

    Raises:
        ConfigurationError: Django cannot put the migrations in an order.
    """
    try:
        graph = MigrationLoader(None, ignore_no_migrations=True).graph
        ordered = dict.fromkeys(
            key for leaf in graph.leaf_nodes() for key in graph.forwards_plan(leaf)
        )
    except CircularDependencyError as error:
        raise ConfigurationError(
            f"The migrations depend on each other in a circle: {error}. Take one of these out of"
            " the dependencies of another, or move the operation that needs it to a migration of"
            " its own."
        ) from error
    except (AmbiguityError, BadMigrationError, NodeNotFoundError) as error:
        raise ConfigurationError(f"The migrations cannot be loaded: {error}") from error
    except Exception as error:  # of a module of migrations, which is imported here
        told = "\n  ".join([f"{type(error).__name__}: {message_of(error)}", *_lines_of(error)])
        raise ConfigurationError(f"The migrations cannot be loaded: {told}") from error
    return tuple(
        MigrationStep(graph.nodes[key], operation)
        for key in ordered
        for operation in flat(graph.nodes[key].operations)
    )


def _lines_of(error: Exception) -> Iterator[str]:
    """Yield the lines of the project that were running when an error was raised."""
    for frame, number in traceback.walk_tb(error.__traceback__):
        if callsite.is_own_file(frame.f_globals.get("__file__")):
            yield f"in {callsite.site(frame.f_globals, number)}"
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        yield f"in {callsite.CallSite(error.filename, error.lineno, '')}"


def runs_for(step: MigrationStep, alias: str) -> bool:
    """Return whether the project's routers let an operation run on an alias."""
    operation: Any = step.operation
    name = getattr(operation, "model_name", None)
    if name is None and hasattr(operation, "fields"):
        name = operation.name
    hints = dict(getattr(operation, "hints", None) or {})
    if name is not None:
        hints["model_name"] = name.lower()
    return bool(router.allow_migrate(alias, step.migration.app_label, **hints))


def flat(operations: Iterable[Any]) -> Iterator[Any]:
    """Yield the operations that run on the database."""
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from flat(operation.database_operations)
        else:
            yield operation


def statements(operation: RunSQL) -> Iterator[str]:
    """Yield the texts of a RunSQL, which takes one or several, with or without parameters."""
    given: Any = operation.sql
    if isinstance(given, str):
        yield given
    else:
        yield from (part if isinstance(part, str) else part[0] for part in given)

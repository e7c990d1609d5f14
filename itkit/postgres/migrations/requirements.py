"""Checks what migrations need from a server, by their operations, before the first one runs.

A migration for which the server lacks something fails only after all earlier ones have run, which
can take minutes. Only certain failures are reported here. What a data migration or the body of a
function needs is not seen; the server reports it when the migration runs.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from django.db.migrations.operations import RunSQL
from django.db.models import Field, Index, Q
from django.db.models.constraints import BaseConstraint
from django.db.models.expressions import BaseExpression

from itkit.exceptions import ServiceUnavailableError
from itkit.postgres.migrations import extensions
from itkit.postgres.migrations.escapes import without_comments
from itkit.postgres.migrations.operations import MigrationStep, runs_for, statements, steps
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import product

_BUILTIN_SINCE: Final = 170000
_BODY: Final = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)
_NEW_COLLATION: Final = re.compile(
    r"\bCREATE\s+COLLATION\s+(?:IF\s+NOT\s+EXISTS\s+)?(?:\"?\w+\"?\.)?\"?(?P<name>[\w-]+)\"?"
    r"(?:\s*\([^)]*\bprovider\s*=\s*'?(?P<provider>\w+))?",
    re.IGNORECASE,
)
_ANY_COLLATION: Final = re.compile(
    r"\"(?P<icu>[\w@-]+-x-icu)\"|\bCOLLATE\s+(?:\"?pg_catalog\"?\.)?\"(?P<name>[^\"]+)\"",
    re.IGNORECASE,
)
_OF_THE_SERVER: Final = re.compile(
    r"[\w@-]+-x-icu|[a-z]{2,3}_[A-Z]{2}(?:[.@].*)?|pg_c_utf8|unicode"
)
"""Names of collations that come with a server, which no migration creates."""
_PARTS: Final = (
    "base_field", "check", "condition", "constraint", "constraints", "db_default", "expression",
    "expressions", "field", "fields", "index", "indexes", "options", "output_field",
)  # fmt: skip
"""The attributes of operations, fields, indexes and constraints in which there are expressions."""


REMEDIES: Final = (
    "The embedded Postgres has no collations of ICU, pgcrypto, uuid-ossp, xml2 and PostGIS."
    " Nothing was migrated. Any one of these helps:\n"
    '  ITKIT_SOURCE=system, or ITKIT = {"SOURCE": "system"}, with a Postgres on the machine'
    " that has it\n"
    "  ITKIT_POSTGRES_URL=postgresql://…, the URL of a server that has it\n"
    "  another operation in the migration"
)
"""What helps where a server lacks something that a migration needs."""


class Requirement(NamedTuple):
    """One thing that a migration needs from a server.

    Attributes:
        kind: ``extension``, ``collation``, or ``provider`` for the provider of a new collation.
        name: the name of the extension, the collation or the provider.
        step: the step that needs it.
        shown: the text to look for in the migration's file.
    """

    kind: str
    name: str
    step: MigrationStep
    shown: str


def require(connection: Connection, alias: str) -> None:
    """Check that a server has what the migrations of an alias need.

    Args:
        connection: a connection to the server.
        alias: an alias of ``DATABASES``.

    Raises:
        ConfigurationError: the migrations cannot be put in an order.
        ServiceUnavailableError: the server lacks something; the message names the migrations and
            their lines.
    """
    needed = [
        found
        for step in steps()
        if runs_for(step, alias)
        for found in dict.fromkeys(_requirements(step))
    ]
    lacking = list(_lacking(connection, needed))
    if lacking:
        listed = "\n".join(f"  {line}" for line in dict.fromkeys(lacking))
        raise ServiceUnavailableError(
            f"The migrations need what {product(connection)} here does not have:\n{listed}\n"
            f"{REMEDIES}"
        )


def _requirements(step: MigrationStep) -> Iterator[Requirement]:
    from django.contrib.postgres.operations import CreateCollation  # imports a driver

    operation: Any = step.operation
    for asked in extensions.created(step):
        yield Requirement("extension", asked.name, step, asked.name)
    if isinstance(operation, CreateCollation):
        yield Requirement("provider", operation.provider, step, operation.name)
    if isinstance(operation, RunSQL):
        for text in _texts(operation):
            for match in _NEW_COLLATION.finditer(text):
                provider = (match["provider"] or "libc").lower()
                yield Requirement("provider", provider, step, match["name"])
            for match in _ANY_COLLATION.finditer(text):
                name = match["icu"] or match["name"]
                yield Requirement("collation", name, step, name)
    for name in _collations(operation):
        yield Requirement("collation", name, step, name)


def _texts(operation: RunSQL) -> Iterator[str]:
    """Yield the SQL that runs in the migration itself, without the bodies of functions."""
    for text in statements(operation):
        yield _BODY.sub("", without_comments(text))


def _collations(value: Any) -> Iterator[str]:
    """Yield the names of collations in an operation and its parts."""
    if isinstance(value, list | tuple):
        parts: Iterable[Any] = value
    elif isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, Q):
        parts = value.children
    elif isinstance(value, BaseExpression):
        yield from (part.collation for part in value.flatten() if hasattr(part, "collation"))
        return
    elif isinstance(value, Field | Index | BaseConstraint) or hasattr(value, "database_forwards"):
        if name := getattr(value, "db_collation", None):
            yield name
        parts = (vars(value).get(name) for name in _PARTS)
    else:
        return
    for part in parts:
        yield from _collations(part)


def _lacking(connection: Connection, needed: Sequence[Requirement]) -> Iterator[str]:
    """Yield a line for each thing that the server lacks."""
    collations: dict[str, str] = dict(
        connection.execute("SELECT collname::text, collprovider::text FROM pg_collation").fetchall()
    )
    available = {row[0] for row in connection.execute("SELECT name FROM pg_available_extensions")}
    # The collation "unicode" is listed by servers without ICU as well.
    has_icu = any(name.endswith("-x-icu") for name in collations)
    usable = {name for name, provider in collations.items() if has_icu or provider != "i"}
    usable |= {shown for kind, _, _, shown in needed if kind == "provider"}  # they make these
    for kind, name, step, shown in needed:
        where = step.named(shown, f"{type(step.operation).__name__}(")
        if kind == "extension" and name not in available:
            yield f"{where} creates the extension {name!r}"
        elif kind == "provider" and name == "icu" and not has_icu:
            yield f"{where} creates the collation {shown!r} of ICU"
        elif (
            kind == "provider"
            and name == "builtin"
            and connection.info.server_version < _BUILTIN_SINCE
        ):
            yield f"{where} creates the collation {shown!r} of the provider 'builtin'"
        elif kind == "collation" and name not in usable and _OF_THE_SERVER.fullmatch(name):
            yield f"{where} uses the collation {name!r}"

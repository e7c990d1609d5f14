"""Clones a schema by a script: made once from the catalogue, replayed in one round trip, verified.

The script qualifies only the names of the tables whose rows it copies, so it can be replayed in any
empty schema of the same database. First it makes the objects that others may use, in the order of
their dependencies. Then it copies the rows. At the end it makes what depends on rows: constraints,
indexes, triggers and rules.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from typing import Final, LiteralString, NamedTuple

from itkit.core.names import EXTENSION_SCHEMA
from itkit.postgres.clone import catalogue, dependencies, grants, options, statements
from itkit.postgres.clone.catalogue import digest, printed
from itkit.postgres.clone.dependencies import Address, CloneStep, Dependencies
from itkit.postgres.clone.tables import Column, TableDefinition, Tables, alter, settings
from itkit.postgres.migrations.extensions import schemas_beside
from itkit.postgres.server import sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import literal

__all__ = [
    "CLONE_VERSION",
    "Difference",
    "differences",
    "digest",
    "grouped",
    "replay",
    "script",
    "without_servers_own",
]

CLONE_VERSION: Final = 4

_SHOWN_OF_A_KIND = 3
_ONLY_IN_CLONE, _ONLY_IN_TEMPLATE = "only in the clone", "only in the template"
_STATEMENTS_PER_TRANSACTION = 50  # each table holds about ten locks until its transaction ends

_TYPES, _FUNCTIONS, _SEQUENCES, _TABLES, _VIEWS, _DEFAULTS = range(6)

# The settings of a replay's session. They cannot be local to a transaction, as there are many.
_SESSION = {
    "check_function_bodies": "off",  # a function's body may name objects that are made later
    "client_min_messages": "warning",
    "default_table_access_method": "heap",
    "default_tablespace": "",
    "synchronous_commit": "off",
}


class Difference(NamedTuple):
    """A difference between a template and its clone.

    Attributes:
        kind: the kind of the object that differs; empty if ``name`` contains it.
        name: the name of the object.
        what: the property that differs, or another problem with the object.
        values: the values of the property, in words.
    """

    kind: str
    name: str
    what: str
    values: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.what} {self.values}".strip()

    @property
    def key(self) -> tuple[str, ...]:
        """The object and property that differ, for a comparison with other differences."""
        is_of_existence = self.what in {_ONLY_IN_CLONE, _ONLY_IN_TEMPLATE}
        return self.kind, self.name, "" if is_of_existence else self.what


def script(connection: Connection, template: str) -> str:
    """Return SQL that rebuilds a schema with its rows in the first schema of the search_path.

    During its replay, the policies that hide rows from the template's owner must be lifted.

    Args:
        connection: a connection to the database of the template, in autocommit.
        template: name of the schema, which nobody may change meanwhile.
    """
    with printed(connection, template):
        return _Script(connection, template).text()


def replay(connection: Connection, script: str, schema: str, *, role: str | None = None) -> None:
    """Run a script in an existing empty schema, in one round trip.

    The script has many transactions, so that it does not exhaust the server's lock table. If it
    fails, the schema keeps a part of the objects.

    Args:
        connection: a connection to the database of the schema, in autocommit.
        script: the script, as ``script`` returns it.
        schema: the name of the schema, which exists and is empty.
        role: the role that will own the objects; by default that of the connection.

    Raises:
        driver.Error: a statement has failed; the connection can still be used.
    """
    # They differ from those at the making of the script if an extension was moved since.
    schemas = [schema, EXTENSION_SCHEMA, *schemas_beside(connection)]
    path = sql.SQL(", ").join(map(sql.Identifier, schemas))
    session = {**catalogue.PRINTING, **_SESSION, "search_path": path.as_string()}
    if role is not None:
        session["role"] = role
    connection.execute(
        "SELECT set_config(name, setting, false) FROM unnest(%s::text[], %s::text[])"
        " s(name, setting)",
        [list(session), list(session.values())],
    )
    try:
        connection.execute(script)
    finally:
        _leave(connection, session)


def differences(connection: Connection, template: str, schema: str) -> list[Difference]:
    """Return the differences between a template and its clone; none if the clone is faithful.

    The differences are objects that only one of them has, properties that differ, and objects of
    the clone that still use or mention the template.
    """
    found: list[Difference] = []
    if digest(connection, schema) != digest(connection, template):
        ours, theirs = (catalogue.describe(connection, name) for name in (schema, template))
        found += _existence(ours.keys(), theirs.keys())
        found += _changed(theirs, ours)
    for kind, name in catalogue.mentions(connection, schema, template):
        found.append(Difference(kind, name, f"mentions the schema {template}"))
    others, missing = (
        {("", name) for name in dependencies.others(connection, one, catalogue.KNOWN)}
        for one in (schema, template)
    )
    found += _existence(others, missing)
    for name, target in dependencies.references(connection, schema, template):
        found.append(Difference("", name, f"depends on {target}"))
    return found


def without_servers_own(
    found: Iterable[Difference], between_clones: Iterable[Difference]
) -> Iterator[Difference]:
    """Yield the differences that come from the script, and not from the server.

    One script makes both clones, so the server itself has written what differs between them: a
    number, a time, an arbitrary name.

    Args:
        found: the differences between the template and a clone.
        between_clones: the differences between this clone and another clone of the template.
    """
    own = {difference.key for difference in between_clones}
    return (difference for difference in found if difference.key not in own)


def grouped(found: Iterable[Difference]) -> list[str]:
    """Return differences as lines of text, with one line for many of the same kind."""
    groups: defaultdict[tuple[str, str], list[Difference]] = defaultdict(list)
    for difference in found:
        groups[difference.kind, difference.what].append(difference)
    lines: list[str] = []
    for (kind, what), alike in groups.items():
        if len(alike) <= _SHOWN_OF_A_KIND:
            lines += map(str, alike)
        else:
            lines.append(f"{len(alike)} {_plural(kind)}: {what}; for example {alike[0].name}")
    return lines


class _Script:
    """Makes one script."""

    def __init__(self, connection: Connection, template: str) -> None:
        self._connection = connection
        self._template = sql.Identifier(template).as_string()
        self._dependencies = Dependencies(connection)
        self._steps: dict[Address, CloneStep] = {}

    def text(self) -> str:
        """Return the whole script."""
        self._add(_TYPES, statements.TYPES)
        self._add(_FUNCTIONS, statements.FUNCTIONS)
        identities = self._add_sequences()
        functions = {address for address in self._steps if address[0] == "pg_proc"}
        late = self._dependencies.separate(functions)
        found = options.of_project(self._connection)
        tables = Tables(self._connection, late, identities, options.definitions(found))
        self._add_tables(tables)
        self._add(_VIEWS, statements.VIEWS)
        self._add_columns_of_views(tables)
        set_options = options.statements(found)
        for oid in self._relations() & set_options.keys():
            self._steps["pg_class", oid].statements.append(set_options.pop(oid))
        order = self._dependencies.order(self._steps)
        before = [statement for address in order for statement in self._steps[address].statements]
        # A worker's role may read its own schema only, and not the template.
        rows = ["SET LOCAL ROLE NONE", *self._rows(tables), *self._values()]
        after = [*self._after(tables, order), *set_options.values()]  # options of indexes
        return "".join(
            [
                *_transactions(before, _STATEMENTS_PER_TRANSACTION),
                *_transactions(rows, len(rows) + 1),
                *_transactions(after, _STATEMENTS_PER_TRANSACTION),
            ]
        )

    def _after(self, tables: Tables, order: list[Address]) -> Iterator[str]:
        """Yield the statements that make constraints, indexes, triggers and rules."""
        yield from statements.statements(self._connection, statements.INDEXES)
        yield from tables.late_constraints("ncpux")
        yield from tables.late_constraints("f")
        yield from self._refreshes(order)
        yield from statements.statements(self._connection, statements.BEHAVIOUR)
        yield from statements.statements(self._connection, statements.COMMENTS)
        yield from grants.grants(self._connection)
        yield from grants.default_privileges(self._connection)

    def _add(self, section: int, queries: tuple[LiteralString, ...]) -> None:
        for address, statement in statements.creations(self._connection, queries):
            self._steps[address] = CloneStep((section, address[1]), [statement])

    def _add_sequences(self) -> dict[int, str]:
        """Add the sequences, except those of identity columns; return the options of these."""
        identities = {}
        for oid, is_identity, inline, statement in statements.sequences(self._connection):
            identities[oid] = inline
            if not is_identity:
                self._steps["pg_class", oid] = CloneStep((_SEQUENCES, oid), [statement])
        return identities

    def _add_tables(self, tables: Tables) -> None:
        for oid, table in tables.by_id.items():
            self._steps["pg_class", oid] = CloneStep((_TABLES, oid), list(tables.create(table)))
            for column in filter(tables.is_late, table.columns):
                self._add_default(column, tables.late_default(column))

    def _add_columns_of_views(self, tables: Tables) -> None:
        names: dict[int, str] = dict(self._connection.execute(_NAMES_OF_VIEWS).fetchall())
        for oid, columns in tables.views.items():
            actions = [action for column in columns for action in settings(column)]
            self._steps["pg_class", oid].statements += alter(names[oid], actions)
            for column in columns:
                if column.default is not None:
                    default = f"ALTER {column.name} SET DEFAULT {column.default}"
                    self._add_default(column, *alter(names[oid], [default]))

    def _relations(self) -> set[int]:
        """Return the ids of the relations that the script has made so far, without indexes."""
        return {oid for catalogue, oid in self._steps if catalogue == "pg_class"}

    def _add_default(self, column: Column, *statements: str) -> None:
        oid = column.default_id or 0
        self._steps["pg_attrdef", oid] = CloneStep((_DEFAULTS, oid), [*statements])

    def _rows(self, tables: Tables) -> Iterator[str]:
        """Yield the statements that copy the rows of each table that has rows."""
        for table in tables.by_id.values():
            source = f"{self._template}.{table.name}"
            # If a policy hides rows, the table may have some nevertheless.
            is_filled = table.hides_rows or self._has_rows(source)
            if table.partition_key is None and is_filled:
                yield _copy(table, tables.target_of_rows(table), source)

    def _has_rows(self, source: str) -> bool:
        query = f"SELECT FROM ONLY {source} LIMIT 1"
        return bool(self._connection.execute(query).rowcount)

    def _values(self) -> Iterator[str]:
        """Yield the statements that set the sequences that were used."""
        changed = []
        for name, start in self._connection.execute(_NAMES_OF_SEQUENCES).fetchall():
            query = f"SELECT last_value, is_called FROM {self._template}.{name}"
            last, is_called = self._connection.execute(query).fetchall()[0]
            if is_called or last != start:
                changed.append(f"({literal(name)}, {last}, {str(is_called).lower()})")
        if changed:
            yield (
                "SELECT setval(name::regclass, value, called)"
                f" FROM (VALUES {', '.join(changed)}) v(name, value, called)"
            )

    def _refreshes(self, order: list[Address]) -> Iterator[str]:
        populated: dict[int, str] = dict(self._connection.execute(_POPULATED).fetchall())
        for address in order:
            if address[0] == "pg_class" and address[1] in populated:
                yield f"REFRESH MATERIALIZED VIEW {populated[address[1]]}"


_NAMES_OF_VIEWS: LiteralString = """
    SELECT oid, quote_ident(relname) FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('v', 'm')
"""
_NAMES_OF_SEQUENCES: LiteralString = """
    SELECT quote_ident(relname), seqstart FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid
    WHERE relnamespace = current_schema()::regnamespace ORDER BY c.oid
"""
_POPULATED: LiteralString = """
    SELECT oid, quote_ident(relname) FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'm' AND relispopulated
"""


def _copy(table: TableDefinition, target: TableDefinition, source: str) -> str:
    columns = [column for column in table.columns if not column.generated]
    names = ", ".join(column.name for column in columns)
    copied = ", ".join(column.copied for column in columns)
    listed = f" ({names})" if names else ""
    return (
        f"INSERT INTO {target.name}{listed} OVERRIDING SYSTEM VALUE"
        f" SELECT {copied} FROM ONLY {source}"
    )


def _transactions(statements: list[str], size: int) -> Iterator[str]:
    """Yield statements, divided into several transactions."""
    for start in range(0, len(statements), size):
        yield "BEGIN;\n" + ";\n".join(statements[start : start + size]) + ";\nCOMMIT;\n"


def _leave(connection: Connection, session: Iterable[str]) -> None:
    """Restore a connection's own settings, also after a statement has failed."""
    if connection.closed:
        return
    if not connection.is_idle:
        connection.execute("ROLLBACK")
    resets = sql.SQL("; ").join(
        sql.SQL("RESET {}").format(sql.Identifier(name)) for name in session
    )
    connection.execute(resets)


def _plural(kind: str) -> str:
    if not kind:
        return "objects"
    if kind.endswith("y"):
        return f"{kind[:-1]}ies"
    return kind if kind.endswith("s") else f"{kind}{'es' if kind.endswith('x') else 's'}"


def _existence(ours: Set[tuple[str, str]], theirs: Set[tuple[str, str]]) -> Iterator[Difference]:
    for kind, name in sorted(theirs - ours):
        yield Difference(kind, name, _ONLY_IN_TEMPLATE)
    for kind, name in sorted(ours - theirs):
        yield Difference(kind, name, _ONLY_IN_CLONE)


def _changed(template: catalogue.Description, clone: catalogue.Description) -> Iterator[Difference]:
    for kind, name in sorted(template.keys() & clone.keys()):
        theirs, ours = template[kind, name], clone[kind, name]
        for key in sorted(theirs.keys() | ours.keys()):
            before, after = theirs.get(key), ours.get(key)
            if before != after:
                values = f"is {after!r} in the clone, {before!r} in the template"
                yield Difference(kind, name, key, values)

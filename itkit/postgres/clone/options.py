"""Options of tables, indexes, views and columns, without those that are the server's own.

A server may store notes of its own among the options: Postgres 15.20 writes ``pg_attver=…`` into
each column, with a number that differs from table to table. No list of names can distinguish these.
An option belongs to the project if DDL can remove it and set it again. This is tried for one
example of each option, in a transaction that is rolled back.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, LiteralString, NamedTuple

from itkit.postgres.server import driver
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import literal

RELATION_KIND: Final[LiteralString] = """CASE c.relkind
    WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
    WHEN 'm' THEN 'materialised view' WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index'
    WHEN 'I' THEN 'index' WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type'
    ELSE c.relkind::text END"""
_OPTIONS: Final[LiteralString] = f"""
    SELECT c.oid, o.number, c.relkind::text,
        CASE o.number WHEN 0 THEN {RELATION_KIND} ELSE 'column' END, o.object,
        o.prefix || p.name, p.value, c.oid::regclass::text, o.part,
        CASE WHEN c.relkind = 'r' AND o.number = 0 THEN 'WITH'
            WHEN c.relkind NOT IN ('i', 'I') THEN 'ALTER'
            WHEN o.number = 0 AND EXISTS (SELECT FROM pg_constraint
                WHERE conindid = c.oid AND contype IN ('p', 'u', 'x')) THEN 'ALTER' ELSE '' END
    FROM pg_class c, LATERAL (
        SELECT 0, c.relname::text, '', '', c.reloptions
        UNION ALL SELECT 0, c.relname, '', 'toast.', reloptions
        FROM pg_class WHERE oid = c.reltoastrelid
        UNION ALL SELECT attnum, concat(c.relname, '.', attname),
            concat('ALTER ', quote_ident(attname), ' '), '', attoptions
        FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped
    ) o (number, object, part, prefix, options),
        pg_options_to_table(o.options) WITH ORDINALITY p (name, value, position)
    WHERE c.relnamespace = current_schema()::regnamespace
"""
_IN_ORDER: Final[LiteralString] = "ORDER BY c.oid, o.number, o.prefix, p.position"
_OF_RELATION: Final[LiteralString] = "AND c.oid = %s"


class Option(NamedTuple):
    """An option of a table, index, view or column.

    Attributes:
        relation: id of the relation.
        column: number of the column; 0 for an option of the relation itself.
        relkind: kind of the relation, as in ``pg_class``.
        kind: the kind of the relation or column, in words.
        object: the name of the object.
        name: the name of the option; ``toast.`` precedes the options of the TOAST table.
        value: the value of the option.
        table: the relation, as a statement names it.
        part: the words that name the column in an ``ALTER TABLE``.
        form: the words that set it: ``WITH`` in the table's definition, or an ``ALTER``. Empty if
            the relation's printed definition contains the option, as an index's does, or if no
            statement can set it.
    """

    relation: int
    column: int
    relkind: str
    kind: str
    object: str
    name: str
    value: str
    table: str
    part: str
    form: str

    @property
    def action(self) -> str:
        """The action of an ``ALTER TABLE`` that sets the option."""
        return f"{self.part}SET ({self.assignment})"

    @property
    def assignment(self) -> str:
        """The option with its value, as a statement gives it."""
        return f"{self.name} = {literal(self.value)}"

    @property
    def is_of_column(self) -> bool:
        """Whether it is an option of a column."""
        return self.column != 0


def of_project(connection: Connection) -> list[Option]:
    """Return the options in the first schema of the search_path, without the server's own.

    Args:
        connection: a connection inside of ``catalogue.printed``.
    """
    rows = connection.execute(f"{_OPTIONS} {_IN_ORDER}").fetchall()
    found = [Option(*row) for row in rows]
    examples = {(option.is_of_column, option.name, option.relkind): option for option in found}
    settable = {key: _is_settable(connection, option) for key, option in examples.items()}
    own = {
        (is_of_column, name) for (is_of_column, name, _), yes in settable.items() if yes is False
    }
    return [
        option if settable[key] else option._replace(form="")
        for option in found
        for key in [(option.is_of_column, option.name, option.relkind)]
        if key[:2] not in own
    ]


def definitions(options: Iterable[Option]) -> dict[int, str]:
    """Return the options in the definition of each table, by the table's id."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for option in options:
        if option.form == "WITH":
            found[option.relation].append(option.assignment)
    return {oid: f" WITH ({', '.join(assignments)})" for oid, assignments in found.items()}


def statements(options: Iterable[Option]) -> dict[int, str]:
    """Return the statement that sets the other options of each relation, by the relation's id."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    tables = {}
    for option in options:
        if option.form == "ALTER":
            found[option.relation].append(option.action)
            tables[option.relation] = option.table
    return {oid: f"ALTER TABLE ONLY {tables[oid]} {', '.join(found[oid])}" for oid in found}


def _is_settable(connection: Connection, option: Option) -> bool | None:
    """Return whether DDL can remove an option and set it again; None if this cannot be tried."""
    alter = f"ALTER TABLE ONLY {option.table} "
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"{alter}{option.part}RESET ({option.name})")
            if _value(connection, option) is not None:
                return False
            connection.execute(f"{alter}{option.action}")
            return _value(connection, option) == option.value
    except driver.errors.InvalidParameterValue:
        return False  # the server does not know the option by this name
    except (
        driver.errors.FeatureNotSupported,
        driver.errors.InsufficientPrivilege,
        driver.errors.WrongObjectType,
    ):
        return None  # the column of a view has no such statement, for example


def _value(connection: Connection, option: Option) -> str | None:
    """Return the present value of an option."""
    rows = connection.execute(f"{_OPTIONS} {_OF_RELATION}", [option.relation]).fetchall()
    same = (found for found in map(Option._make, rows) if found.column == option.column)
    return next((found.value for found in same if found.name == option.name), None)

"""A stamp of a catalogue, which shows within milliseconds whether anybody has altered it.

The ``xmin`` of each row in the system catalogues is the transaction that wrote it. DDL writes new
rows, so the sum of the hashes of these values changes with each DDL statement. It does not change
with VACUUM and ANALYZE, which update their figures in place.
"""

from collections.abc import Sequence
from typing import Final, LiteralString

from itkit.postgres.server import sql
from itkit.postgres.server.driver import Connection
from itkit.postgres.server.server import value

_SCHEMAS: Final = "SELECT unnest(%(schemas)s::oid[])"
_RELATIONS: Final = "SELECT oid FROM relations"
_ROUTINES: Final = "SELECT oid FROM pg_proc WHERE pronamespace = ANY (%(schemas)s)"
_TYPES: Final = "SELECT oid FROM pg_type WHERE typnamespace = ANY (%(schemas)s)"
_CATALOGUES: Final = (
    ("pg_class", "relnamespace", _SCHEMAS),
    ("pg_attribute", "attrelid", _RELATIONS),
    ("pg_attrdef", "adrelid", _RELATIONS),
    ("pg_index", "indrelid", _RELATIONS),
    ("pg_constraint", "connamespace", _SCHEMAS),
    ("pg_trigger", "tgrelid", _RELATIONS),
    ("pg_rewrite", "ev_class", _RELATIONS),
    ("pg_policy", "polrelid", _RELATIONS),
    ("pg_inherits", "inhrelid", _RELATIONS),
    ("pg_sequence", "seqrelid", _RELATIONS),
    ("pg_statistic_ext", "stxnamespace", _SCHEMAS),
    ("pg_proc", "pronamespace", _SCHEMAS),
    ("pg_type", "typnamespace", _SCHEMAS),
    ("pg_enum", "enumtypid", _TYPES),
    ("pg_description", "objoid", f"{_RELATIONS} UNION ALL {_ROUTINES} UNION ALL {_TYPES}"),
    ("pg_depend", "refobjid", _SCHEMAS),  # all other objects in a schema depend on it
)
_PARTS: Final = " UNION ALL ".join(
    f"SELECT {number}, count(*), coalesce(sum(hashint8(xmin::text::bigint)), 0) FROM {name} WHERE {key} IN ({oids})"  # noqa: E501, S608 - made of the constants above
    for number, (name, key, oids) in enumerate(_CATALOGUES)
)
_QUERY: Final = f"""
    WITH relations AS MATERIALIZED
        (SELECT oid FROM pg_class WHERE relnamespace = ANY (%(schemas)s))
    SELECT md5(string_agg(count || ' ' || sum, ',' ORDER BY number))
    FROM ({_PARTS}) AS part (number, count, sum)
    """  # noqa: S608 - made of the constants above


def of_schema(connection: Connection, schema: str) -> str:
    """Return the stamp of all objects in a schema."""
    return _stamp(connection, "SELECT oid FROM pg_namespace WHERE nspname = %s", [schema])


def of_database(connection: Connection) -> str:
    """Return the stamp of all schemas of the connection's database, except the server's own."""
    query = "SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'"
    return _stamp(connection, query)


def query(schemas: sql.Composed, more: sql.Composed) -> sql.Composed:
    """Return the query for a stamp of all objects in some schemas, and of further objects.

    Args:
        schemas: the query that yields the oids of the schemas.
        more: the query that yields the further objects.
    """
    found = sql.SQL(_QUERY.replace("%(schemas)s", "{schemas}"))
    array = sql.SQL("ARRAY({})::oid[]").format(schemas)
    return sql.SQL("SELECT ({}) || ' ' || ({})").format(found.format(schemas=array), more)


def is_logged(connection: Connection) -> bool:
    """Return whether no table of the database is unlogged; a crash would empty such a table."""
    return not value(connection, "SELECT EXISTS (SELECT FROM pg_class WHERE relpersistence = 'u')")


def _stamp(connection: Connection, query: LiteralString, parameters: Sequence[str] = ()) -> str:
    schemas = [oid for (oid,) in connection.execute(query, parameters or None).fetchall()]
    return str(value(connection, _QUERY, {"schemas": schemas}))

"""What a server writes of its own into each clone is no difference; what a clone lacks still is one.

Event triggers stand in for servers that do so: each answers to DDL as such a server would.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.postgres.clone import clone
from itkit.postgres.server.server import Connection, connect
from itkit.postgres.template.schema_template import SchemaTemplate

FINGERPRINT, RUN = "00c0ffee0001", "0123abcd"
PLACE = f"itkit_{RUN}_w0"

TABLES = """
    CREATE TABLE {schema}.plain (id int PRIMARY KEY, name text);
    CREATE TABLE {schema}.sampled (id int, kind text) WITH (fillfactor = 70, toast.autovacuum_enabled = false);
    ALTER TABLE {schema}.sampled ALTER kind SET (n_distinct = 5);
    CREATE INDEX by_kind ON {schema}.sampled (kind) WITH (fillfactor = 60);
    CREATE VIEW {schema}.named WITH (security_barrier) AS SELECT id AS n FROM {schema}.plain;
    CREATE TYPE {schema}.pair AS (a int, b text);
    CREATE TABLE {schema}.part (id int) PARTITION BY RANGE (id);
    CREATE TABLE {schema}.part_1 PARTITION OF {schema}.part FOR VALUES FROM (1) TO (9);
"""

# A comment with the time, a policy whose name is made by chance, an option of each table and of each
# column, and privileges of a role that differs from table to table.
NOTING = """
    CREATE FUNCTION public.note() RETURNS event_trigger LANGUAGE plpgsql
    SET allow_system_table_mods = on AS $note$
    DECLARE made record;
    BEGIN
        FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE'
        LOOP
            EXECUTE format('COMMENT ON TABLE %s IS %L', made.object_identity, clock_timestamp());
            EXECUTE format(
                'CREATE POLICY %I ON %s', 'own_' || gen_random_uuid(), made.object_identity
            );
            UPDATE pg_class SET reloptions = array_append(reloptions, 'own_version=' || oid)
            WHERE oid = made.objid AND reloptions IS NULL;
            UPDATE pg_attribute SET attoptions = ARRAY['own_version=' || attrelid]
            WHERE attrelid = made.objid AND attnum > 0 AND attoptions IS NULL;
            EXECUTE format('CREATE ROLE itkit_own_%s', made.objid);
            EXECUTE format('GRANT SELECT ON %s TO itkit_own_%s', made.object_identity, made.objid);
        END LOOP;
    END $note$;
    CREATE EVENT TRIGGER noting ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
        EXECUTE FUNCTION public.note();
"""


@pytest.fixture(params=["embedded", "system"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A superuser's connection to a database of its own."""
    fixture = {"embedded": "postgres_url", "system": "system_url"}[request.param]
    server = request.getfixturevalue(fixture)
    with connect(server, application="test") as maintenance:
        maintenance.execute("CREATE DATABASE servers_own")
        try:
            url = str(replace(parse(server, POSTGRES_SCHEMES), name="servers_own"))
            with connect(url, application="test") as connection:
                connection.execute("CREATE SCHEMA itkit_ext")
                yield connection
        finally:
            maintenance.execute("DROP DATABASE servers_own WITH (FORCE)")
            for (role,) in maintenance.execute(
                "SELECT rolname FROM pg_roles WHERE rolname ~ '^itkit_own_'"
            ).fetchall():
                maintenance.execute(f"DROP ROLE {role}".encode())


def provide(connection: Connection, tables: str = TABLES) -> tuple[str, ...]:
    """Make a template and a clone of it; return what the clone would lack."""
    template = SchemaTemplate(connection, FINGERPRINT, RUN, is_private=False)

    def migrate(schema: str) -> None:
        connection.execute(tables.format(schema=schema).encode())

    return template.provide(PLACE, migrate)


def schemas(connection: Connection) -> list[str]:
    query = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^itkit' ORDER BY 1"
    return [name for (name,) in connection.execute(query).fetchall()]


def options(connection: Connection, schema: str) -> set[str]:
    """Return the options of a schema's tables and columns that DDL has set."""
    query = """
        SELECT relname || ' ' || option FROM pg_class, unnest(reloptions) option
        WHERE relnamespace = %(schema)s::regnamespace
        UNION SELECT relname || '.' || attname || ' ' || option
        FROM pg_class c JOIN pg_attribute ON attrelid = c.oid, unnest(attoptions) option
        WHERE relnamespace = %(schema)s::regnamespace
        UNION SELECT c.relname || ' toast.' || option
        FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid, unnest(t.reloptions) option
        WHERE c.relnamespace = %(schema)s::regnamespace
    """
    found = {option for (option,) in connection.execute(query, {"schema": schema}).fetchall()}
    return {option for option in found if "own_version" not in option and "pg_attver" not in option}


def test_the_projects_own_options_are_in_its_clone(connection: Connection) -> None:
    assert provide(connection) == ()
    assert options(connection, PLACE) == {
        "sampled fillfactor=70",
        "sampled toast.autovacuum_enabled=false",
        "sampled.kind n_distinct=5",
        "by_kind fillfactor=60",
        "named security_barrier=true",
    }


def test_what_the_server_writes_into_each_table_is_no_difference(connection: Connection) -> None:
    connection.execute(NOTING.encode())
    tables = TABLES.replace("ALTER TABLE {schema}.sampled ALTER kind SET (n_distinct = 5);", "")
    assert provide(connection, tables) == ()
    assert schemas(connection) == [
        f"itkit_{FINGERPRINT}_script", f"itkit_{FINGERPRINT}_template", PLACE, "itkit_ext",
    ]  # fmt: skip
    second = SchemaTemplate(connection, FINGERPRINT, RUN, is_private=False)
    assert second.provide(f"itkit_{RUN}_w1", pytest.fail) == ()
    assert second.keep(f"itkit_{RUN}_w1", limit=1)


def test_what_a_clone_lacks_is_a_difference_beside_what_the_server_writes(
    connection: Connection,
) -> None:
    connection.execute(NOTING.encode())
    operator = "CREATE OPERATOR {schema}.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);"
    lacking = provide(connection, "CREATE TABLE {schema}.plain (id int);" + operator)
    assert lacking == ("operator ===(integer,integer): only in the template",)
    assert PLACE not in schemas(connection)


def test_differences_of_one_kind_are_one_line() -> None:
    found = [
        *(clone.Difference("column", f"t.c{n}", "attstorage", "is 'x'") for n in range(85)),
        *(clone.Difference("policy", f"p{n} on t", "only in the template") for n in range(4)),
        *(clone.Difference("index", f"i{n}", "only in the clone") for n in range(5)),
        clone.Difference(
            "table", "t", "relpersistence", "is 'u' in the clone, 'p' in the template"
        ),
        clone.Difference("", "cast (t AS integer)", "only in the template"),
    ]
    assert clone.grouped(found) == [
        "85 columns: attstorage; for example t.c0",
        "4 policies: only in the template; for example p0 on t",
        "5 indexes: only in the clone; for example i0",
        "table t: relpersistence is 'u' in the clone, 'p' in the template",
        "cast (t AS integer): only in the template",
    ]

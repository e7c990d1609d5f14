"""A clone is what its template is, in every object and row, or the difference is named."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote

import psycopg
import pytest

from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.postgres.clone import clone
from itkit.postgres.migrations import extensions
from itkit.postgres.server import policies, sql
from itkit.postgres.server.server import Connection, connect, value
from tests.support.doors import slow
from tests.support.zoo import zoo

TEMPLATE, CLONE, SECOND = "itkit_0123abcd_template", "itkit_0123abcd_w1", "itkit_0123abcd_w2"
EXTENSIONS = ["citext", "hstore", "pg_trgm", "btree_gist"]


@pytest.fixture(scope="session", params=["embedded", slow("system")])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a database with a template in it that holds the whole zoo."""
    server = request.getfixturevalue(
        {"embedded": "postgres_url", "system": "system_url"}[request.param]
    )
    database = str(replace(parse(server, POSTGRES_SCHEMES), name="clones"))
    with connect(server, application="test") as maintenance:
        maintenance.execute("CREATE DATABASE clones")
        with connect(database, application="test") as connection:
            extensions.prepare(connection, map(extensions.Asked, EXTENSIONS), may_move=False)
            version = connection.info.server_version // 10000
            make(connection, TEMPLATE, zoo(version, extensions=True))
        yield database
        maintenance.execute("DROP DATABASE clones WITH (FORCE)")


@pytest.fixture(scope="session")
def extended(url: str) -> Iterator[str]:
    """Name of a database with the extensions in it, to make others of."""
    own = str(replace(parse(url, POSTGRES_SCHEMES), name="clones_extended"))
    with connect(url, application="test") as maintenance:
        maintenance.execute("CREATE DATABASE clones_extended")
        with connect(own, application="test") as connection:
            extensions.prepare(connection, map(extensions.Asked, EXTENSIONS), may_move=False)
        yield "clones_extended"
        maintenance.execute("DROP DATABASE clones_extended WITH (FORCE)")


@pytest.fixture
def empty(url: str, extended: str) -> Iterator[Connection]:
    """A connection to a database of its own with the extensions in it."""
    own = str(replace(parse(url, POSTGRES_SCHEMES), name="clones_empty"))
    with connect(url, application="test") as maintenance:
        maintenance.execute(f"CREATE DATABASE clones_empty TEMPLATE {extended}".encode())
        try:
            with connect(own, application="test") as connection:
                yield connection
        finally:
            maintenance.execute("DROP DATABASE clones_empty WITH (FORCE)")


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with connect(url, application="test") as connection:
        yield connection


@pytest.fixture
def scratch(connection: Connection) -> Iterator[Connection]:
    """A connection whose work is undone."""
    with connection.transaction(force_rollback=True):
        yield connection


@pytest.fixture(scope="session")
def cloned(url: str) -> Iterator[str]:
    """Name of a clone of the zoo."""
    with connect(url, application="test") as connection:
        create(connection, CLONE)
        clone.replay(connection, clone.script(connection, TEMPLATE), CLONE)
    return CLONE


def create(connection: Connection, schema: str) -> None:
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


def drop(connection: Connection, *schemas: str) -> None:
    for schema in schemas:
        statement = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema))
        connection.execute(statement)


def run(connection: Connection, schema: str, text: str) -> None:
    """Run SQL as a migration in a schema would."""
    path = sql.SQL("SET search_path = {}, itkit_ext").format(sql.Identifier(schema))
    connection.execute(path)
    connection.execute(text.encode())
    connection.execute("RESET search_path")


def make(connection: Connection, schema: str, text: str) -> None:
    create(connection, schema)
    run(connection, schema, text)


def relations(connection: Connection, schema: str, kinds: str) -> list[str]:
    query = (
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace"
        " AND strpos(%s, relkind::text) > 0 ORDER BY 1"
    )
    return [row[0] for row in connection.execute(query, [schema, kinds]).fetchall()]


def unequal_rows(connection: Connection, schema: str, other: str) -> list[str]:
    """Name the tables and populated views whose rows differ in a way that counts."""
    found = []
    for table in relations(connection, schema, "rpm"):
        if table == "never":
            continue
        one, two = (
            sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(name, table)).as_string()
            for name in (schema, other)
        )
        query = (
            f"WITH one AS ({one}), two AS ({two}) SELECT count(*) FROM ("
            "(TABLE one EXCEPT ALL TABLE two) UNION ALL (TABLE two EXCEPT ALL TABLE one)) d"
        )
        if connection.execute(query.encode()).fetchall() != [(0,)]:
            found.append(table)
    return found


def sequences(connection: Connection, schema: str) -> dict[str, tuple[int, bool]]:
    found = {}
    for name in relations(connection, schema, "S"):
        query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))
        found[name] = connection.execute(query).fetchall()[0]
    return found


def test_every_object_of_the_zoo_is_in_its_clone(connection: Connection, cloned: str) -> None:
    assert clone.differences(connection, TEMPLATE, cloned) == []
    assert clone.digest(connection, TEMPLATE) == clone.digest(connection, cloned)


def test_every_row_and_sequence_is_in_its_clone(connection: Connection, cloned: str) -> None:
    assert unequal_rows(connection, TEMPLATE, cloned) == []
    assert sequences(connection, TEMPLATE) == sequences(connection, cloned)
    rows = "SELECT count(*) FROM {}"
    assert value(connection, sql.SQL(rows).format(sql.Identifier(cloned, "columns"))) == 3
    assert sequences(connection, cloned)["unused"] == (7, False)


def test_the_rows_come_in_one_transaction(connection: Connection, cloned: str) -> None:
    found = set()
    for table in relations(connection, cloned, "r"):
        query = sql.SQL("SELECT DISTINCT xmin::text FROM {}").format(sql.Identifier(cloned, table))
        found.update(connection.execute(query).fetchall())
    assert len(found) == 1


def test_a_clone_of_a_clone_is_the_same(connection: Connection, cloned: str) -> None:
    create(connection, SECOND)
    clone.replay(connection, clone.script(connection, cloned), SECOND)
    assert clone.differences(connection, TEMPLATE, SECOND) == []
    assert clone.differences(connection, cloned, SECOND) == []
    assert unequal_rows(connection, TEMPLATE, SECOND) == []
    drop(connection, SECOND)


def test_a_script_names_the_template_only_where_it_copies_rows(
    connection: Connection, cloned: str
) -> None:
    lines = [line for line in clone.script(connection, TEMPLATE).splitlines() if TEMPLATE in line]
    assert len(lines) > 20
    assert all(line.startswith("INSERT INTO ") for line in lines)


def test_the_connection_is_as_it_was(connection: Connection, cloned: str) -> None:
    assert value(connection, "SHOW search_path") == "pg_catalog"
    create(connection, SECOND)
    clone.replay(connection, clone.script(connection, TEMPLATE), SECOND)
    drop(connection, SECOND)
    settings = "SELECT name, setting FROM pg_settings WHERE source = 'session'"
    assert connection.execute(settings).fetchall() == []
    assert value(connection, "SHOW search_path") == "pg_catalog"


@pytest.mark.parametrize(
    "script", ["BEGIN; CREATE TABLE t (); SELECT 1 / 0; COMMIT;", "SELECT 1 / 0"]
)
def test_a_replay_that_fails_leaves_the_connection_usable(
    connection: Connection, script: str
) -> None:
    create(connection, SECOND)
    with pytest.raises(psycopg.errors.DivisionByZero):
        clone.replay(connection, script, SECOND)
    assert value(connection, "SHOW search_path") == "pg_catalog"
    assert relations(connection, SECOND, "r") == []
    drop(connection, SECOND)


TAMPERED = {
    "an index is gone": ("DROP INDEX by_at", "index by_at: only in the template"),
    "an index is new": ("CREATE INDEX new ON hen (egg)", "index new: only in the clone"),
    "an index is another": ("DROP INDEX by_hash; CREATE INDEX by_hash ON indexed (name)", "index by_hash: definition is"),
    "a predicate is another": (
        "DROP INDEX some_status_index; CREATE INDEX some_status_index ON indexed (status) WHERE status IN ('new', 'late') AND (n > 1 OR n IS NULL)",
        "index some_status_index: definition is",
    ),
    "parentheses are others": (
        "DROP INDEX some_status_index; CREATE INDEX some_status_index ON indexed (status) WHERE (status IN ('new', 'paid') AND n > 1) OR n IS NULL",
        "index some_status_index: definition is",
    ),
    "an index option": ("ALTER INDEX by_box SET (fillfactor = 80)", "index by_box: option fillfactor is '80'"),
    "an index is no partition's": (
        "CREATE TABLE gone (LIKE part_1); DROP TABLE gone; DROP INDEX part_n CASCADE; CREATE INDEX part_n ON ONLY part (n)",
        "inheritance part_1_n_idx of part_n: only in the template",
    ),
    "index statistics": ("ALTER INDEX by_slug ALTER COLUMN 2 SET STATISTICS 1", "column by_slug.expr: attstattarget is '1'"),
    "the clustered index": ("ALTER TABLE indexed SET WITHOUT CLUSTER", "index by_prefix: indisclustered is 'false'"),
    "a constraint's name": ("ALTER TABLE hen RENAME CONSTRAINT hen_egg TO x", "constraint hen.x: only in the clone"),
    "a constraint is valid": (
        "DELETE FROM orphan; ALTER TABLE orphan VALIDATE CONSTRAINT not_checked",
        "constraint orphan.not_checked: convalidated is 'true' in the clone, 'false' in the template",
    ),
    "a foreign key's action": (
        "ALTER TABLE hen DROP CONSTRAINT hen_egg, ADD CONSTRAINT hen_egg FOREIGN KEY (egg) REFERENCES egg",
        "constraint hen.hen_egg: confdeltype is",
    ),
    "deferrable": ("ALTER TABLE hen ALTER CONSTRAINT hen_egg DEFERRABLE", "constraint hen.hen_egg: condeferrable is 'true'"),
    "a check": (
        "ALTER TABLE animal DROP CONSTRAINT has_legs, ADD CONSTRAINT has_legs CHECK (legs > 0) NOT VALID",
        "constraint animal.has_legs: definition is",
    ),
    "a domain's check": (
        "ALTER DOMAIN positive DROP CONSTRAINT is_positive; ALTER DOMAIN positive ADD CONSTRAINT is_positive CHECK (VALUE > 1) NOT VALID",
        "constraint positive.is_positive: definition is",
    ),
    "a default": ("ALTER TABLE columns ALTER late SET DEFAULT 43", "column columns.late: adbin is '43' in the clone, '42' in the template"),
    "no default": ("ALTER TABLE columns ALTER tag DROP DEFAULT", "column columns.tag: adbin is None"),
    "NOT NULL": ("ALTER TABLE columns ALTER at DROP NOT NULL", "column columns.at: attnotnull is 'false'"),
    "a column's type": ("ALTER TABLE grandchild ALTER a TYPE bigint", "column grandchild.a: atttypid is 'bigint'"),
    "a column is gone": ("ALTER TABLE is_full DROP COLUMN id", "column is_full.id: only in the template"),
    "the order of columns": (
        "ALTER TABLE egg ADD COLUMN new int; ALTER TABLE egg DROP hen, ADD COLUMN hen int",
        "column egg.hen: attnum is '3'",
    ),
    "a column's storage": ("ALTER TABLE columns ALTER label SET STORAGE MAIN", "column columns.label: attstorage is 'm'"),
    "a column's statistics": ("ALTER TABLE columns ALTER tag SET STATISTICS 1", "column columns.tag: attstattarget is '1'"),
    "a column's options": ("ALTER TABLE columns ALTER at RESET (n_distinct)", "column columns.at: option n_distinct is None"),
    "an identity": ("ALTER TABLE grandchild ALTER id SET GENERATED BY DEFAULT", "column grandchild.id: attidentity is 'd'"),
    "a sequence's step": ("ALTER SEQUENCE lonely INCREMENT 9", "sequence lonely: seqincrement is '9'"),
    "a sequence's owner": ("ALTER SEQUENCE columns_id_seq OWNED BY NONE", "sequence columns_id_seq: owner is None"),
    "a table option": ("ALTER TABLE settings SET (fillfactor = 71)", "table settings: option fillfactor is '71'"),
    "a TOAST option": ("ALTER TABLE settings RESET (toast.autovacuum_enabled)", "table settings: option toast.autovacuum_enabled is None"),
    "LOGGED": ("ALTER TABLE settings SET LOGGED", "table settings: relpersistence is 'p'"),
    "replica identity": ("ALTER TABLE is_full REPLICA IDENTITY DEFAULT", "table is_full: relreplident is 'd'"),
    "inheritance": ("ALTER TABLE puppy NO INHERIT dog", "inheritance puppy of dog: only in the template"),
    "a partition's bound": (
        "ALTER TABLE part DETACH PARTITION part_1; ALTER TABLE part ATTACH PARTITION part_1 FOR VALUES FROM ('2026-02-01') TO ('2026-07-01')",
        "table part_1: relpartbound is",
    ),
    "a view": ("CREATE OR REPLACE VIEW a_top WITH (security_barrier) AS SELECT id AS first, slug('x') AS second FROM z_base", "view a_top: definition is"),
    "a view's option": ("ALTER VIEW a_top RESET (security_barrier)", "view a_top: option security_barrier is None"),
    "a view's default": ("ALTER VIEW z_base ALTER status DROP DEFAULT", "column z_base.status: adbin is None"),
    "a materialised view has rows": ("REFRESH MATERIALIZED VIEW never", "materialised view never: relispopulated is 'true'"),
    "a function's body": (
        "CREATE OR REPLACE FUNCTION slug(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 7 AS 'SELECT 1'",
        "function slug(text): prosrc is",
    ),
    "a function's volatility": ("ALTER FUNCTION slug(text) STABLE", "function slug(text): provolatile is 's'"),
    "a function's setting": ("ALTER FUNCTION next_code RESET work_mem", "function next_code(text,bigint): proconfig is None"),
    "a function's default": (
        "DROP FUNCTION rows_of; CREATE FUNCTION rows_of(n int DEFAULT 1) RETURNS TABLE (a int, \"b c\" mood) LANGUAGE sql AS 'SELECT 1, NULL::mood'",
        "function rows_of(integer): only in the clone",
    ),
    "an aggregate": (
        "CREATE OR REPLACE AGGREGATE slugs(words text) (SFUNC = add_slug, STYPE = text, FINALFUNC = lower)",
        "aggregate slugs(text): aggfinalfn is 'lower(text)'",
    ),
    "an enum's label": ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "type mood: labels is"),
    "an enum's new label": ("ALTER TYPE mood ADD VALUE 'new'", "type mood: labels is"),
    "a composite type": ("ALTER TYPE address ADD ATTRIBUTE country text", "column address.country: only in the clone"),
    "a domain's default": ("ALTER DOMAIN positive SET DEFAULT 2", "domain positive: typdefault is '2'"),
    "a trigger's state": ("ALTER TABLE hen ENABLE TRIGGER silent", "trigger silent on hen: tgenabled is 'O'"),
    "a foreign key's trigger": (
        "ALTER TABLE egg DISABLE TRIGGER ALL",
        'trigger egg_hen_fkey by "RI_FKey_check_ins" on egg: only in the clone',
    ),
    "a trigger": ("DROP TRIGGER many ON hen", "trigger many on hen: only in the template"),
    "a trigger of a partition": ("ALTER TABLE part_1 ENABLE TRIGGER on_parts", "trigger on_parts on part_1: tgenabled is 'O'"),
    "a rule": ("DROP RULE forget ON audit", "rule forget on audit: only in the template"),
    "a rule's state": ("ALTER TABLE audit ENABLE RULE forget", "rule forget on audit: ev_enabled is 'O'"),
    "a policy": ("ALTER POLICY own ON guarded USING (true)", "policy own on guarded: polqual is 'true'"),
    "a policy's roles": ("ALTER POLICY own ON guarded TO pg_monitor", "policy own on guarded: polroles is"),
    "row level security": ("ALTER TABLE guarded DISABLE ROW LEVEL SECURITY", "table guarded: relrowsecurity is 'false'"),
    "forced security": ("ALTER TABLE forced NO FORCE ROW LEVEL SECURITY", "table forced: relforcerowsecurity is 'false'"),
    "a comment": ("COMMENT ON TABLE part_1 IS 'x'", "comment part_1 in pg_class: description is 'x'"),
    "a column's comment": ("COMMENT ON COLUMN z_base.id IS NULL", "comment z_base.id in pg_class: only in the template"),
    "statistics": ("DROP STATISTICS some_statistics", "statistics some_statistics: only in the template"),
    "a statistics target": ("ALTER STATISTICS some_statistics SET STATISTICS 1", "statistics some_statistics: stxstattarget is '1'"),
    "a grant": ("GRANT DELETE ON parent TO PUBLIC", "table parent: relacl is"),
    "a grant option": ("REVOKE GRANT OPTION FOR SELECT ON child FROM pg_monitor", "table child: relacl is"),
    "a column's grant": ("REVOKE UPDATE (a) ON child FROM pg_read_all_data", "column child.a: attacl is None"),
    "a function's grant": ("GRANT EXECUTE ON FUNCTION slug(text) TO PUBLIC", "function slug(text): proacl is"),
    "a type's grant": ("GRANT USAGE ON TYPE mood TO PUBLIC", "type mood: typacl is"),
    "an owner": ("ALTER TABLE is_full OWNER TO pg_monitor", "table is_full: relowner is 'pg_monitor'"),
    "a new table": ("CREATE TABLE new ()", "table new: only in the clone"),
    "an operator": ("CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)", "operator ===(integer,integer): only in the clone"),
}  # fmt: skip


def test_each_change_to_a_clone_is_found_out(scratch: Connection, cloned: str) -> None:
    """All changes are made at once where that is possible: a comparison takes a second."""
    together = []
    for change, (statement, _) in TAMPERED.items():
        with suppress(psycopg.Error), scratch.transaction():
            run(scratch, cloned, statement)
            together.append(change)
    found = found_differences(scratch, TEMPLATE, cloned)
    alone = [change for change in TAMPERED if change not in together or not is_in(found, change)]
    assert len(together) - len(alone) > 50
    scratch.execute("ROLLBACK; BEGIN")
    for change in alone:
        with scratch.transaction(force_rollback=True):
            run(scratch, cloned, TAMPERED[change][0])
            found = found_differences(scratch, TEMPLATE, cloned)
            assert is_in(found, change), (change, found)


@pytest.mark.slow
def test_each_change_to_a_clone_changes_its_digest(scratch: Connection, cloned: str) -> None:
    digest = clone.digest(scratch, cloned)
    for change in TAMPERED.keys() - {"an operator"}:
        with scratch.transaction(force_rollback=True):
            run(scratch, cloned, TAMPERED[change][0])
            assert clone.digest(scratch, cloned) != digest, change


def is_in(found: list[str], change: str) -> bool:
    return any(line.startswith(TAMPERED[change][1]) for line in found)


UNSUPPORTED = {
    "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)": "operator ===(integer,integer)",
    "CREATE FUNCTION eq(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true';"
    "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = eq)": "operator ===(integer,integer)",
    "CREATE TYPE t AS (a int); CREATE FUNCTION f(t) RETURNS int LANGUAGE sql AS 'SELECT 1';"
    "CREATE CAST (t AS int) WITH FUNCTION f": "cast (t AS integer)",
    "CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple)": "text search configuration plain",
    "CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = simple)": "text search dictionary words",
    "CREATE CONVERSION mine FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8": "conversion mine",
    "CREATE OPERATOR FAMILY family USING btree": "operator family family USING btree",
    "CREATE TABLE t (); CREATE PUBLICATION itkit_test_publication FOR TABLE t": "publication relation t in publication itkit_test_publication",
    "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
    "CREATE EVENT TRIGGER itkit_test_trigger ON sql_drop EXECUTE FUNCTION f()": "event trigger itkit_test_trigger",
    "CREATE EXTENSION file_fdw WITH SCHEMA pg_catalog; CREATE SERVER itkit_server FOREIGN DATA WRAPPER file_fdw;"
    "CREATE FOREIGN TABLE t (a int) SERVER itkit_server OPTIONS (filename '/dev/null')": "foreign table t",
    "CREATE EXTENSION tablefunc WITH SCHEMA itkit_0123abcd_template": "extension tablefunc",
    "CREATE TABLE t (); CREATE VIEW public.itkit_test_view AS SELECT 1 FROM itkit_0123abcd_template.t": 'rule "_RETURN" on public.itkit_test_view',
    "CREATE TYPE base; CREATE FUNCTION i(cstring) RETURNS base LANGUAGE internal STRICT IMMUTABLE AS 'int4in';"
    "CREATE FUNCTION o(base) RETURNS cstring LANGUAGE internal STRICT IMMUTABLE AS 'int4out';"
    "CREATE TYPE base (INPUT = i, OUTPUT = o, LIKE = int4)": "type base",
}  # fmt: skip


def found_differences(connection: Connection, template: str, schema: str) -> list[str]:
    return list(map(str, clone.differences(connection, template, schema)))


def remake(connection: Connection, text: str) -> list[str]:
    """Make a template and a clone of it, instead of earlier ones; return the differences."""
    drop(connection, SECOND, CLONE, TEMPLATE)
    make(connection, TEMPLATE, text)
    create(connection, CLONE)
    script = clone.script(connection, TEMPLATE)
    with policies.lifted(connection, TEMPLATE):
        clone.replay(connection, script, CLONE)
    return found_differences(connection, TEMPLATE, CLONE)


def test_what_cannot_be_cloned_is_named(empty: Connection) -> None:
    for text, named in UNSUPPORTED.items():
        found = remake(empty, text)
        assert [line for line in found if line.startswith(f"{named}: ")], (text, found)


def test_what_belongs_to_an_extension_is_named(empty: Connection) -> None:
    text = """
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
        ALTER EXTENSION citext ADD FUNCTION f();
    """
    found = remake(empty, text)
    assert "function f() of the extension citext: only in the template" in found


MENTIONS = {
    "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM itkit_0123abcd_template.t'": "function f(): mentions the schema itkit_0123abcd_template",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT 1'": "function f(): mentions the schema itkit_0123abcd_template",
    "CREATE TABLE u (n bigint DEFAULT nextval('itkit_0123abcd_template.s'::text))": "column u.n: mentions the schema itkit_0123abcd_template",
    # The type of this name that a search_path finds first is the server's.
    "CREATE TABLE box (n int); CREATE FUNCTION f(itkit_0123abcd_template.box) RETURNS int LANGUAGE sql AS 'SELECT 1'": "function f(itkit_0123abcd_template.box): mentions the schema itkit_0123abcd_template",
}  # fmt: skip


def test_what_still_refers_to_the_template_is_named(empty: Connection) -> None:
    for text, named in MENTIONS.items():
        found = remake(empty, f"CREATE TABLE t (); CREATE SEQUENCE s; {text}")
        assert named in found, text


def test_what_depends_on_the_template_is_named(scratch: Connection, cloned: str) -> None:
    run(
        scratch,
        cloned,
        f"ALTER TABLE is_full ADD CONSTRAINT x FOREIGN KEY (id) REFERENCES {TEMPLATE}.parent",
    )
    found = found_differences(scratch, TEMPLATE, cloned)
    assert f"table constraint x on {cloned}.is_full: depends on table {TEMPLATE}.parent" in found


HARD = {
    "a check that reads another table": """
        CREATE TABLE zz (id int);
        INSERT INTO zz VALUES (1);
        CREATE FUNCTION known(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN EXISTS (SELECT FROM zz WHERE id = $1); END $$;
        CREATE TABLE aa (id int CHECK (known(id)));
        INSERT INTO aa VALUES (1);
    """,
    "hash partitions by a type of the schema": """
        CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f');
        CREATE TABLE h (m mood, n int) PARTITION BY HASH (m);
        CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 0);
        CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 1) PARTITION BY RANGE (n);
        CREATE TABLE h1r PARTITION OF h1 DEFAULT;
        CREATE TABLE h2 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 2);
        INSERT INTO h SELECT unnest(enum_range(NULL::mood)), 1;
    """,
    "default privileges and grants of the schema": """
        DO $$ BEGIN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO PUBLIC', current_schema());
            EXECUTE format('GRANT CREATE ON SCHEMA %I TO pg_monitor WITH GRANT OPTION', current_schema());
            EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO pg_monitor', current_schema());
            EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT EXECUTE ON FUNCTIONS TO pg_monitor WITH GRANT OPTION', current_schema());
        END $$;
        CREATE TABLE t ();
    """,
    "two foreign keys to a partitioned table": """
        CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE t (a int CONSTRAINT to_p REFERENCES p, b int, c int);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (5) PARTITION BY RANGE (id);
        CREATE TABLE p1_1 PARTITION OF p1 FOR VALUES FROM (1) TO (2);
        ALTER TABLE t ADD FOREIGN KEY (b) REFERENCES p ON DELETE CASCADE, ADD CONSTRAINT x FOREIGN KEY (c) REFERENCES p1;
        CREATE TABLE p2 PARTITION OF p DEFAULT;
    """,
    "partitions on both sides of a foreign key": """
        CREATE TABLE p (id int PRIMARY KEY) PARTITION BY HASH (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        CREATE TABLE q (id int REFERENCES p, up int) PARTITION BY RANGE (id);
        CREATE TABLE q1 (id int, up int, CONSTRAINT own FOREIGN KEY (id) REFERENCES p) PARTITION BY LIST (up);
        CREATE TABLE q1_1 (up int, id int, CONSTRAINT deep FOREIGN KEY (id) REFERENCES p);
        ALTER TABLE q1 ATTACH PARTITION q1_1 FOR VALUES IN (1);
        ALTER TABLE q ATTACH PARTITION q1 DEFAULT;
        INSERT INTO p VALUES (1);
        INSERT INTO q VALUES (1, 1);
    """,
    "names that need quotes, and long ones": r"""
        CREATE TABLE "Ünï; -- 'q' %s \" (id serial PRIMARY KEY, "ä ""b"" c" int UNIQUE REFERENCES "Ünï; -- 'q' %s \");
        CREATE TABLE a123456789012345678901234567890123456789012345678901234567890 (
            b123456789012345678901234567890123456789012345678901234567890 serial UNIQUE);
        INSERT INTO "Ünï; -- 'q' %s \" VALUES (DEFAULT, 1);
        COMMENT ON TABLE "Ünï; -- 'q' %s \" IS E'a\\b''\n$$ %s';
        COMMENT ON COLUMN "Ünï; -- 'q' %s \"."ä ""b"" c" IS 'x';
    """,
    "aggregates by internal functions": """
        CREATE AGGREGATE my_percentile(float8 ORDER BY "any") (SFUNC = ordered_set_transition, STYPE = internal,
            FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
        CREATE AGGREGATE my_rank(VARIADIC "any" ORDER BY VARIADIC "any") (SFUNC = ordered_set_transition_multi, STYPE = internal,
            FINALFUNC = rank_final, FINALFUNC_EXTRA, HYPOTHETICAL);
        CREATE AGGREGATE average(int) (SFUNC = int4_avg_accum, STYPE = bigint[], FINALFUNC = int8_avg, INITCOND = '{0,0}',
            SSPACE = 8, FINALFUNC_MODIFY = SHAREABLE, MSFUNC = int4_avg_accum, MINVFUNC = int4_avg_accum_inv, MSTYPE = bigint[],
            MSSPACE = 9, MFINALFUNC = int8_avg, MFINALFUNC_MODIFY = READ_WRITE, MINITCOND = '{0,0}');
        CREATE AGGREGATE every_row(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '0');
        CREATE AGGREGATE biggest(int) (SFUNC = int4larger, STYPE = int, SORTOP = >);
        COMMENT ON AGGREGATE my_percentile(float8 ORDER BY "any") IS 'x';
        COMMENT ON AGGREGATE every_row(*) IS 'y';
        REVOKE ALL ON FUNCTION my_percentile(float8, "any") FROM PUBLIC;
        REVOKE ALL ON FUNCTION every_row() FROM PUBLIC;
    """,
    "collations": """
        CREATE COLLATION "plain; %" FROM "C";
        DO $$ BEGIN
            CREATE COLLATION ignores_case (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);
        EXCEPTION WHEN feature_not_supported THEN
            CREATE COLLATION ignores_case (LC_COLLATE = 'C', LC_CTYPE = 'POSIX');
        END $$;
        COMMENT ON COLLATION ignores_case IS 'x';
        CREATE DOMAIN email AS text COLLATE ignores_case;
        CREATE TABLE t (a text COLLATE "plain; %" UNIQUE, b email, c text COLLATE ignores_case CHECK (c <> 'A'));
        CREATE INDEX i ON t (b, a COLLATE ignores_case);
        INSERT INTO t VALUES ('a', 'b', 'c');
    """,
    "an empty schema": "SELECT 1",
    "a domain that a function takes, which checks it": """
        CREATE DOMAIN d AS int;
        CREATE FUNCTION is_d(d) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN $1::int > 0; END $$;
        CREATE DOMAIN e AS int;
        ALTER DOMAIN e ADD CHECK (is_d(VALUE));
        CREATE TABLE t (d d, e e, ee e[]);
        INSERT INTO t VALUES (1, 1, '{1,2}');
    """,
    "an index whose expression uses a function that uses the table": """
        CREATE TABLE t (id int, name text);
        CREATE FUNCTION label(t) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1.name || 'x' $$;
        CREATE INDEX i ON t (label(t));
        ALTER TABLE t ADD CHECK (label(t) <> 'y'), ADD CONSTRAINT e EXCLUDE (label(t) WITH =);
        INSERT INTO t VALUES (1, 'a');
                CREATE POLICY p ON t USING (label(t) <> '');
    """,
    "a column dropped before each kind of column number": """
        CREATE TABLE t (x int, a int, y int, b int, c text);
        ALTER TABLE t DROP x, DROP y;
        ALTER TABLE t ADD PRIMARY KEY (b, a), ADD UNIQUE (c) , ADD CHECK (b > a);
        CREATE INDEX i ON t (b) INCLUDE (c);
        CREATE STATISTICS s ON a, b FROM t;
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER g AFTER UPDATE OF b, c ON t FOR EACH ROW EXECUTE FUNCTION f();
        CREATE VIEW v AS SELECT * FROM t;
        INSERT INTO t VALUES (1, 2, 'x');
    """,
    "views that a function lies between": """
        CREATE VIEW z AS SELECT 1 AS n;
        CREATE FUNCTION f() RETURNS SETOF z LANGUAGE sql BEGIN ATOMIC SELECT * FROM z; END;
        CREATE VIEW a AS SELECT * FROM f();
        CREATE FUNCTION "0"(n a) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE MATERIALIZED VIEW b AS SELECT "0"(a) FROM a;
        CREATE MATERIALIZED VIEW "1" AS SELECT count(*) FROM b;
    """,
    "a table of a type, with names for its row": """
        CREATE TYPE ty AS (a int, b text);
        CREATE TABLE t OF ty (a WITH OPTIONS PRIMARY KEY, b DEFAULT 'x' NOT NULL);
        CREATE TABLE u (t t, ts t[]);
        INSERT INTO t VALUES (1, 'y');
        INSERT INTO u VALUES (ROW(1, 'a,"b'), ARRAY[ROW(1, NULL)::t]);
    """,
    "extended types in every place": r"""
        CREATE TABLE t (id int, e citext, h hstore, es citext[], d int4range DEFAULT '[1,2)');
        CREATE DOMAIN mail AS citext CHECK (VALUE ~ '@');
        CREATE TYPE pair AS (k citext, v hstore);
        CREATE AGGREGATE longest(citext) (SFUNC = citext_larger, STYPE = citext, SORTOP = >);
        CREATE INDEX i ON t USING gist (h);
        CREATE TABLE m (mail mail DEFAULT 'a@b' CHECK (mail <> 'A@B'), pair pair);
        INSERT INTO t VALUES (1, 'A', 'a=>"b\"c"', '{a,B}');
        INSERT INTO m VALUES ('X@y', ('k', 'a=>1'));
    """,
}


def test_each_hard_case_is_cloned(empty: Connection) -> None:
    partitions = {"h0", "h1", "h1r", "h2"}  # which of them a row is in depends on ids
    for case, text in HARD.items():
        assert remake(empty, text) == [], case
        assert clone.digest(empty, TEMPLATE) == clone.digest(empty, CLONE), case
        create(empty, SECOND)
        clone.replay(empty, clone.script(empty, CLONE), SECOND)
        assert clone.differences(empty, TEMPLATE, SECOND) == [], case
        assert set(unequal_rows(empty, TEMPLATE, SECOND)) <= partitions, case


@pytest.fixture
def plain(empty: Connection) -> Iterator[Connection]:
    """A role that may do nothing but create schemas and use those of extensions."""
    empty.execute("CREATE ROLE itkit_plain")
    empty.execute("GRANT CREATE ON DATABASE clones_empty TO itkit_plain")
    empty.execute("GRANT USAGE ON SCHEMA itkit_ext TO itkit_plain")
    empty.execute("SET SESSION AUTHORIZATION itkit_plain")
    yield empty
    empty.execute("RESET SESSION AUTHORIZATION")
    empty.execute("DROP OWNED BY itkit_plain; DROP ROLE itkit_plain")


def test_a_role_that_may_only_create_schemas_can_clone(plain: Connection) -> None:
    text = zoo(plain.info.server_version // 10000, extensions=True)
    assert remake(plain, text) == []
    assert unequal_rows(plain, TEMPLATE, CLONE) == []


def test_rows_that_their_owner_does_not_see_are_copied(plain: Connection) -> None:
    text = """
        CREATE TABLE hidden (id int);
        INSERT INTO hidden VALUES (1), (2);
        CREATE POLICY one ON hidden USING (id = 1);
        ALTER TABLE hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    """
    assert remake(plain, text) == []
    for schema in (TEMPLATE, CLONE):
        plain.execute(f"ALTER TABLE {schema}.hidden NO FORCE ROW LEVEL SECURITY")
        assert value(plain, f"SELECT count(*) FROM {schema}.hidden") == 2


def pg_dump(url: str, schema: str) -> list[str]:
    """Return what pg_dump says of a schema, in an order and with names that can be compared."""
    program = shutil.which("pg_dump")
    server = parse(url, POSTGRES_SCHEMES)
    with connect(url, application="test") as connection:
        needed = connection.info.server_version // 10000
    found = subprocess.run(
        [program or "false", "--version"], capture_output=True, text=True, check=False
    )
    version = re.search(r"\) (\d+)", found.stdout)
    if version is None or int(version[1]) < needed:
        pytest.skip(f"no pg_dump of Postgres {needed} or later for {server.address}")
    dump = subprocess.run(
        [program, "--schema-only", f"--schema={schema}", f"--dbname={url}"],
        check=True, capture_output=True, text=True, env=os.environ | {"PGCONNECT_TIMEOUT": "10"},
    ).stdout  # fmt: skip
    lines = dump.replace(f"{schema}.", "").replace(schema, "SCHEMA").splitlines()
    array = re.compile(r"\(('(?:[^']|'')*'::character varying)\)::text")
    array_of = re.compile(r"\((ARRAY\[(?:[^]']|'[^']*')*\])\)::text\[\]")
    # What Postgres 15.20 keeps of its own in each column, and dumps as if it could be set.
    lines = [line for line in lines if "SET (pg_attver=" not in line]
    same = (array_of.sub(r"\1", array.sub(r"\1", line)) for line in lines)
    return sorted(line for line in same if not line.startswith(("--", "\\")))


def test_pg_dump_finds_no_difference(url: str, cloned: str) -> None:
    assert pg_dump(url, TEMPLATE) == pg_dump(url, cloned)


def many(count: int) -> str:
    """Return SQL that makes as many tables, with some ten relations each."""
    return "".join(
        f"CREATE TABLE t{n} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text UNIQUE, b int REFERENCES t{max(0, n - 1)});"
        f"CREATE INDEX ON t{n} (a text_pattern_ops); CREATE INDEX ON t{n} (b);"
        for n in range(count)
    )


def test_no_transaction_of_a_replay_fills_the_lock_table(empty: Connection) -> None:
    make(empty, TEMPLATE, many(300))
    empty.execute("CREATE TABLE public.locks (held bigint)")
    count = "INSERT INTO public.locks SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()"
    script = clone.script(empty, TEMPLATE)
    create(empty, CLONE)
    clone.replay(empty, script.replace("COMMIT;", f"{count}; COMMIT;"), CLONE)
    found = empty.execute("SELECT max(held), sum(held) FROM public.locks").fetchall()[0]
    assert found[1] > 3000  # what a single transaction would hold
    assert found[0] < 1000  # four at once leave room in the 6400 of a server's default settings


def test_clones_are_made_at_once(empty: Connection) -> None:
    make(empty, TEMPLATE, many(60))
    script = clone.script(empty, TEMPLATE)
    schemas = [f"itkit_0123abcd_w{number}" for number in range(4)]
    parameters = (
        f"{key}={quote(text, safe='')}" for key, text in empty.info.get_parameters().items()
    )
    url = f"postgresql://?{'&'.join(parameters)}"

    def make_one(schema: str) -> list[str]:
        with connect(url, application="test") as connection:
            create(connection, schema)
            clone.replay(connection, script, schema)
            return found_differences(connection, TEMPLATE, schema)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(make_one, schemas)) == [[], [], [], []]

"""One schema and its seeds on a real server: whatever happens to it, a reset takes it back."""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from itkit.exceptions import IsolationError
from itkit.postgres.reset import initial_rows
from itkit.postgres.reset.probe import TransactionSnapshot
from itkit.postgres.reset.reset import Reset
from itkit.postgres.server.server import connect
from itkit.postgres.server.sessions import Sessions
from itkit.timeline import core

SCHEMA, TEMPLATE = "itkit_0123abcd_w7", "itkit_0123abcd_template"
APPLICATION = "itkit-0123abcd-w7"

CONTENTS = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE plain (id serial PRIMARY KEY, name text UNIQUE);
CREATE TABLE seeded (id serial PRIMARY KEY, name text UNIQUE, mood mood DEFAULT 'ok', moods mood[], n positive);
CREATE TABLE untouched (id int PRIMARY KEY, seeded int REFERENCES seeded ON DELETE CASCADE,
    other int REFERENCES seeded ON DELETE SET NULL);
CREATE TABLE strict (id int PRIMARY KEY, seeded int NOT NULL REFERENCES seeded ON DELETE RESTRICT);
CREATE TABLE pointing (id int PRIMARY KEY, plain int REFERENCES plain ON DELETE CASCADE);
CREATE TABLE day (at date, n int) PARTITION BY RANGE (at);
CREATE TABLE day_1 PARTITION OF day FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE animal (name text);
CREATE TABLE dog (breed text) INHERITS (animal);
CREATE TABLE no_columns ();
CREATE TABLE unproven (id int PRIMARY KEY, n int, ref int);
INSERT INTO unproven VALUES (1, -1, 404);
ALTER TABLE unproven ADD CONSTRAINT more_than_none CHECK (n > 0) NOT VALID,
    ADD CONSTRAINT nowhere FOREIGN KEY (ref) REFERENCES plain ON DELETE SET NULL NOT VALID;
CREATE TABLE "Odd; % {}" (id int GENERATED ALWAYS AS IDENTITY, "a ""b" text,
    twice int GENERATED ALWAYS AS (length("a ""b") * 2) STORED);
CREATE TABLE audit (id serial, what text);
CREATE SEQUENCE lonely START 5;
CREATE SEQUENCE moved;
SELECT setval('moved', 7, false);
INSERT INTO seeded (name, mood, moods, n) VALUES ('one', 'sad', '{sad,ok}', 1), ('two', 'ok', NULL, 2);
INSERT INTO untouched VALUES (1, 1, 2), (2, 2, NULL);
INSERT INTO strict VALUES (1, 1);
INSERT INTO day VALUES ('2026-05-05', 1);
INSERT INTO animal VALUES ('any');
INSERT INTO dog VALUES ('rex', 'pug');
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO "Odd; % {}" ("a ""b") VALUES ('one'), ('three');
CREATE MATERIALIZED VIEW late AS SELECT 1 AS n;
CREATE MATERIALIZED VIEW names AS SELECT name FROM seeded;
CREATE UNIQUE INDEX ON names (name);
CREATE VIEW between_them AS SELECT name FROM names;
CREATE MATERIALIZED VIEW never AS SELECT name FROM plain WITH NO DATA;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM between_them;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %I.audit (what) VALUES (%L)', TG_TABLE_SCHEMA, TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON seeded FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER always AFTER DELETE ON plain FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE plain ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER on_replica AFTER DELETE ON day_1 FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE day_1 ENABLE REPLICA TRIGGER on_replica;
CREATE TRIGGER on_partition AFTER DELETE ON day_1 FOR EACH ROW EXECUTE FUNCTION note();
CREATE RULE kept AS ON DELETE TO dog DO INSTEAD NOTHING;
TRUNCATE audit RESTART IDENTITY;
"""
ROWS = (
    "plain", "seeded", "untouched", "strict", "pointing", "day", "day_1", "ONLY animal", "dog",
    "audit", "no_columns", "unproven", '"Odd; % {}"', "names", "counted", "late",
)  # fmt: skip


class Place:
    """A schema with its seeds, and what the tests do to it and see of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sessions = Sessions()
        self.tests = self.connect()
        self.reset = self.new_reset()

    def connect(self, application: str = APPLICATION) -> psycopg.Connection:
        """Connect as a test does."""
        return connect(self.url, application=application, search_path=SCHEMA)

    def new_reset(self, seeds: str = TEMPLATE) -> Reset:
        """Return the reset of a process that has just begun."""
        return Reset(
            self.url, schema=SCHEMA, initial=seeds, application=APPLICATION, sessions=self.sessions
        )

    def state(self) -> dict[str, Any]:
        """Return all that has to come back."""
        listed = self.tests.execute(
            "SELECT quote_ident(relname), relkind::text, relispopulated FROM pg_class"
            f" WHERE relkind IN ('m', 'S') AND relnamespace = '{SCHEMA}'::regnamespace"
        ).fetchall()
        empty = {name for name, _, is_populated in listed if not is_populated}
        queries = [
            f"SELECT '{rows}', ARRAY(SELECT t::text FROM {rows} t ORDER BY 1)"
            for rows in ROWS
            if rows not in empty
        ]
        queries += [
            f"SELECT '{name}', ARRAY[last_value::text, is_called::text] FROM {name}"
            for name, kind, _ in listed
            if kind == "S" and not name.startswith("made")
        ]
        states = self.tests.execute(
            "SELECT tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal AND"
            f" tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace)"
            " UNION ALL SELECT rulename, ev_enabled::text FROM pg_rewrite WHERE rulename = 'kept'"
            " UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            f" WHERE connamespace = '{SCHEMA}'::regnamespace"
            " UNION ALL SELECT relname, relispopulated::text FROM pg_class WHERE relkind = 'm'"
            " ORDER BY 1, 2"
        ).fetchall()
        found = dict(self.tests.execute(" UNION ALL ".join(queries)).fetchall())
        return {**found, **dict.fromkeys(empty, "not populated"), "states": states}

    def written_at(self, table: str) -> set[str]:
        """Return the transactions that have written the rows of a table."""
        return {row[0] for row in self.tests.execute(f"SELECT xmin::text FROM {table}")}

    def close(self) -> None:
        """Close all connections."""
        self.reset.close()
        self.tests.close()


@pytest.fixture(params=["superuser", "plain", "granted"])
def role(request: pytest.FixtureRequest) -> str:
    """Whether the role may do all, or no more than it must, or set one parameter as well."""
    return str(request.param)


@pytest.fixture
def place(postgres_url: str, role: str) -> Iterator[Place]:
    with connect(postgres_url, application="set-up") as admin:
        url = postgres_url
        if role != "superuser":
            admin.execute(
                "CREATE ROLE ordinary LOGIN; GRANT CREATE ON DATABASE postgres TO ordinary"
            )
            url = postgres_url.replace("//postgres@", "//ordinary@")
        if role == "granted":
            admin.execute("GRANT SET ON PARAMETER session_replication_role TO ordinary")
        with connect(url, application="set-up") as owner:
            for schema in (TEMPLATE, SCHEMA):
                owner.execute(f"CREATE SCHEMA {schema}; SET search_path = {schema}; {CONTENTS}")
        made = Place(url)
        yield made
        made.close()
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            f" AND application_name IN ('{APPLICATION}', 'somebody')"
        )
        admin.execute(f"DROP SCHEMA {TEMPLATE}, {SCHEMA} CASCADE")
        if role != "superuser":
            admin.execute(
                "REVOKE ALL ON DATABASE postgres FROM ordinary; DROP OWNED BY ordinary;"
                " DROP ROLE ordinary"
            )


def one_role(name: str) -> Any:
    return pytest.mark.parametrize("role", [name], indirect=True)


def in_another_process(place: Place, statement: str) -> None:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException), place.connect() as connection:
            connection.execute(statement)
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def copy(place: Place) -> None:
    with place.tests.raw.cursor().copy("COPY plain (id, name) FROM STDIN") as rows:
        rows.write_row((77, "copied"))


def rolled_back(place: Place) -> None:
    place.tests.execute("BEGIN; INSERT INTO plain (name) VALUES ('x'); ROLLBACK")


def prepared_on_another_connection(place: Place) -> None:
    with place.connect() as other, other.transaction():
        other.execute("UPDATE seeded SET name = %s WHERE id = 2", ["changed"])


CHANGES: dict[str, str | Callable[[Place], None]] = {
    "insert": "INSERT INTO plain (name) VALUES ('x')",
    "insert with an id, without the sequence": "INSERT INTO plain VALUES (99, 'x')",
    "copy": copy,
    "another process": lambda place: in_another_process(
        place, "INSERT INTO plain (name) VALUES ('x')"
    ),
    "another connection": prepared_on_another_connection,
    "rolled back": rolled_back,
    "update": "UPDATE seeded SET name = 'changed' WHERE id = 1",
    "update to the same": "UPDATE seeded SET name = name",
    "delete": "DELETE FROM strict; DELETE FROM seeded",
    "delete and put back": "DELETE FROM strict; INSERT INTO strict VALUES (1, 2)",
    "upsert": "INSERT INTO seeded (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'up'",
    "row by a trigger": "INSERT INTO seeded (name) VALUES ('noted')",
    "truncate": "TRUNCATE seeded, untouched, strict RESTART IDENTITY",
    "rows that refer to each other": "INSERT INTO plain VALUES (5); INSERT INTO pointing VALUES (1, 5)",
    "partition": "INSERT INTO day_1 VALUES ('2026-06-06', 2); UPDATE day SET n = 9",
    "parent of an inheritance": "DELETE FROM ONLY animal",
    "child of an inheritance": "INSERT INTO dog VALUES ('fido', 'mutt')",
    "row that violates a constraint": "DELETE FROM unproven",
    "table without columns": "INSERT INTO no_columns DEFAULT VALUES",
    "odd names": """DELETE FROM "Odd; % {}"; INSERT INTO "Odd; % {}" ("a ""b") VALUES ('x')""",
    "nextval": "SELECT nextval('lonely')",
    "setval that is not called": "SELECT setval('lonely', 1000, false)",
    "restart": "ALTER SEQUENCE seeded_id_seq RESTART WITH 1000",
    "view refreshed": "INSERT INTO seeded (name) VALUES ('x'); REFRESH MATERIALIZED VIEW names;"
    " REFRESH MATERIALIZED VIEW counted",
    "view refreshed concurrently": "UPDATE seeded SET name = name || '!';"
    " REFRESH MATERIALIZED VIEW CONCURRENTLY names",
    "view emptied": "REFRESH MATERIALIZED VIEW late WITH NO DATA",
    "view populated": "REFRESH MATERIALIZED VIEW never",
    "vacuum": lambda place: [
        place.tests.execute(statement)
        for statement in ("UPDATE seeded SET mood = 'sad'", "VACUUM FREEZE seeded", "VACUUM FULL seeded")
    ] and None,
}  # fmt: skip


def test_each_change_is_taken_back_by_the_first_reset_and_by_later_ones(place: Place) -> None:
    before = place.state()
    for name, change in CHANGES.items():
        reset = place.new_reset()
        for _ in range(3):
            place.tests.execute(change) if isinstance(change, str) else change(place)
            if name != "update to the same":
                assert place.state() != before, name
            reset.run()
            assert place.state() == before, name
        reset.close()


def test_nothing_is_written_where_nothing_has_changed(place: Place) -> None:
    place.reset.run()
    seeded = place.written_at("seeded") | place.written_at("names") | place.written_at("day")
    place.tests.execute("SELECT * FROM seeded FOR UPDATE; INSERT INTO plain (name) VALUES ('x')")
    place.reset.run()
    place.reset.run()
    assert (
        place.written_at("seeded") | place.written_at("names") | place.written_at("day") == seeded
    )


@one_role("superuser")
def test_only_what_has_changed_is_written(place: Place) -> None:
    place.reset.run()
    written = place.written_at("untouched")
    place.tests.execute("UPDATE seeded SET name = 'x' WHERE id = 1")
    place.reset.run()
    assert place.written_at("seeded") != written
    assert place.written_at("untouched") == place.written_at("names") == written


def test_seeds_that_are_all_there_stay_where_they_are(place: Place) -> None:
    place.reset.run()
    before, written = place.state(), place.written_at("seeded")
    for _ in range(2):
        place.tests.execute(
            "INSERT INTO seeded (name) VALUES ('x'); INSERT INTO untouched VALUES (5, 3, 3);"
            " UPDATE seeded SET name = 'y' WHERE name = 'x'; INSERT INTO day VALUES ('2026-07-07', 3)"
        )
        place.tests.execute("ALTER SEQUENCE seeded_id_seq RESTART WITH 3")
        place.reset.run()
        assert place.written_at("seeded") == place.written_at("day") == written
        assert place.state() == before


@one_role("plain")
def test_what_refers_to_changed_rows_comes_back_with_them(place: Place) -> None:
    before = place.state()
    place.reset.run()
    place.tests.execute("UPDATE seeded SET name = 'x' WHERE id = 1")
    place.reset.run()
    assert place.written_at("untouched") == place.written_at("seeded")
    assert place.state() == before


@pytest.mark.parametrize(
    ("before", "later", "known", "differs"),
    [
        ("10:10:", "10:10:", None, False),
        ("10:10:", "11:11:", None, True),
        ("10:10:", "11:11:", 10, False),
        ("10:10:", "12:12:", 10, True),
        ("10:10:", "10:12:10", 11, False),
        ("10:12:10", "10:12:10", None, False),
        ("10:12:10", "12:12:", None, True),
        ("10:12:10", "10:13:10", 12, False),
        ("10:14:10,12", "10:14:10", None, True),
        ("4294967306:4294967306:", "4294967307:4294967307:", 4294967306, False),
    ],
)
def test_snapshots_tell_whether_a_transaction_was_done_between_them(
    before: str, later: str, known: int | None, *, differs: bool
) -> None:
    done = TransactionSnapshot.parse(before).done_until(TransactionSnapshot.parse(later), [known])
    assert bool(done) is differs


def test_a_transaction_that_ends_after_the_reset_is_seen_by_the_next_one(place: Place) -> None:
    place.reset.run()
    before = place.state()
    with place.connect() as other:
        other.execute("BEGIN; INSERT INTO plain (name) VALUES ('late')")
        place.tests.execute("SELECT pg_advisory_lock(7)")
        busy = threading.Thread(
            target=other.execute, args=["SELECT pg_advisory_xact_lock(7); COMMIT"]
        )
        busy.start()
        wait_until(place, f"pid = {other.info.backend_pid} AND wait_event = 'advisory'")
        place.reset.run()
        place.tests.execute("SELECT pg_advisory_unlock(7)")
        busy.join()
        assert place.tests.execute("SELECT name FROM plain").fetchall() == [("late",)]
        place.reset.run()
    assert place.state() == before


def test_a_value_of_an_unlogged_sequence_is_seen(place: Place) -> None:
    if place.tests.info.server_version < 150000:
        pytest.skip("all sequences are logged before Postgres 15")
    for schema in (TEMPLATE, SCHEMA):
        place.tests.execute(f"CREATE UNLOGGED SEQUENCE {schema}.unlogged")
    place.reset.run()
    before = place.state()
    place.tests.execute("SELECT nextval('unlogged')")
    place.reset.run()
    assert place.state() == before


def test_a_table_that_a_test_has_made_is_dropped(place: Place) -> None:
    place.reset.run()
    place.tests.execute("CREATE TABLE made (id serial); INSERT INTO made DEFAULT VALUES")
    place.reset.run()
    assert place.tests.execute("SELECT to_regclass('made')").fetchall() == [(None,)]


ALTERED = [
    "DROP TABLE pointing",
    "ALTER TABLE seeded DROP COLUMN moods",
    "ALTER TABLE seeded ADD COLUMN added int DEFAULT 1",
    "ALTER TABLE untouched RENAME COLUMN other TO another",
    "DROP MATERIALIZED VIEW counted",
    "DROP SEQUENCE lonely; CREATE SEQUENCE lonely_2",
]
"""Each of them stays, so that the next one is made beside it."""

WRITTEN = (
    "INSERT INTO plain (name) VALUES ('x'); UPDATE seeded SET name = 'y' WHERE id = 1;"
    " DELETE FROM day"
)


def test_a_test_may_alter_and_drop(place: Place) -> None:
    for change in ALTERED:
        reset = place.new_reset()
        reset.run()
        place.tests.execute(change)
        place.tests.execute(WRITTEN)
        for _ in range(2):
            reset.run()
            seeded = place.tests.execute("SELECT name FROM seeded ORDER BY id").fetchall()
            assert seeded == [("one",), ("two",)], change
            assert place.tests.execute("SELECT * FROM plain").fetchall() == [], change
        reset.close()


def test_rows_whose_partition_a_test_has_dropped_are_refused(place: Place) -> None:
    place.reset.run()
    place.tests.execute("DROP TABLE day_1")
    place.tests.execute(WRITTEN)
    with pytest.raises(IsolationError, match="no partition of relation"):
        place.reset.run()


@one_role("superuser")
@pytest.mark.parametrize("times", [1, 2])
def test_the_server_may_end_our_sessions(place: Place, times: int) -> None:
    place.reset.run()
    before = place.state()
    for _ in range(times):
        place.tests.execute("INSERT INTO plain (name) VALUES ('x')")
        place.tests.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'itkit reset'"
        )
        place.reset.run()
        assert place.state() == before


def test_a_reset_that_fails_leaves_nothing_half_done(place: Place) -> None:
    place.reset.run()
    place.tests.execute(
        "INSERT INTO plain VALUES (5, 'x'); UPDATE seeded SET name = 'y' WHERE id = 1;"
        " ALTER TABLE seeded ADD CONSTRAINT unfit CHECK (name <> 'one')"
    )
    before = place.state()
    with pytest.raises(IsolationError, match=r"itkit_0123abcd_w7 could not be reset: .*unfit"):
        place.reset.run()
    assert place.state() == before
    place.tests.execute("ALTER TABLE seeded DROP CONSTRAINT unfit")
    place.reset.run()
    assert place.tests.execute("SELECT * FROM plain").fetchall() == []


@pytest.mark.parametrize("is_first", [True, False])
def test_a_session_that_sits_in_a_transaction_is_named_and_ended(
    place: Place, *, is_first: bool
) -> None:
    before = place.state()
    for statement, told in [
        ("INSERT INTO plain (name) VALUES ('secret')", "INSERT plain"),
        ("TRUNCATE audit", "TRUNCATE audit"),
        ("LOCK TABLE seeded", "LOCK seeded"),
        ("SELECT 'FROM secret'", "SELECT"),
    ]:
        reset = place.new_reset()
        if not is_first:
            reset.run()
        left = place.connect()
        left.execute("BEGIN")
        left.execute(statement)
        pid = left.info.backend_pid
        reset.run()
        error = core.pop_failures()[1][-1]
        assert f"session {pid}, opened by no connection" in str(error)
        assert re.findall(r"its last query is (.*) …", str(error)) == [told]
        assert "secret" not in str(error)
        assert place.state() == before, statement
        with pytest.raises(psycopg.OperationalError):
            left.execute("SELECT 1")
        reset.close()


def test_a_session_of_somebody_else_is_named_and_not_ended(place: Place) -> None:
    place.reset.run()
    patient = Reset(
        place.url, schema=SCHEMA, initial=TEMPLATE, application=APPLICATION,
        sessions=place.sessions, patience=0.5,
    )  # fmt: skip
    place.tests.execute("INSERT INTO plain VALUES (5, 'x')")
    with place.connect("somebody") as other:
        other.execute("BEGIN; UPDATE plain SET name = 'y'")
        pid = other.info.backend_pid
        named = (
            rf"(?s)for 0.5 seconds.*session {pid} of somebody \(user {other.info.user}, idle in"
            r" transaction\) on plain\n.*End it"
        )
        with pytest.raises(IsolationError, match=named):
            patient.run()
        other.execute("COMMIT")
        patient.run()
        patient.close()
    assert place.tests.execute("SELECT * FROM plain").fetchall() == []


@one_role("superuser")
def test_a_session_of_the_tests_that_is_at_work_is_waited_for_and_not_ended(place: Place) -> None:
    place.reset.run()
    before = place.state()
    with place.connect() as other:
        other.execute("BEGIN; LOCK TABLE plain")
        busy = threading.Thread(target=other.execute, args=["SELECT pg_sleep(1); COMMIT"])
        busy.start()
        wait_until(place, "state = 'active' AND query LIKE 'SELECT pg_sleep%'")
        place.reset.run()
        busy.join()
        other.execute("SELECT 1")
    assert place.state() == before


@one_role("plain")
def test_rows_that_a_policy_hides_from_their_owner_come_back(place: Place) -> None:
    place.tests.execute(
        "CREATE TABLE hidden (id int); INSERT INTO hidden VALUES (1), (2);"
        " ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; ALTER TABLE hidden FORCE ROW LEVEL SECURITY"
    )
    kept = names_seeds(place)
    initial_rows.keep(place.tests, SCHEMA, kept)
    reset = place.new_reset(kept)
    for change in ("DELETE FROM hidden WHERE id = 1", "INSERT INTO hidden VALUES (3)"):
        open_policy = "ALTER TABLE hidden {} ROW LEVEL SECURITY"
        place.tests.execute(open_policy.format("NO FORCE"))
        place.tests.execute(change)
        place.tests.execute(open_policy.format("FORCE"))
        reset.run()
        assert place.tests.execute("SELECT * FROM hidden").fetchall() == []
        place.tests.execute(open_policy.format("NO FORCE"))
        assert place.tests.execute("SELECT id FROM hidden ORDER BY 1").fetchall() == [(1,), (2,)]
        place.tests.execute(open_policy.format("FORCE"))
    reset.close()
    place.tests.execute(f"DROP SCHEMA {kept} CASCADE")


@one_role("superuser")
def test_seeds_that_are_kept_beside_a_schema_do_as_well_as_a_template(place: Place) -> None:
    before = place.state()
    kept = names_seeds(place)
    initial_rows.keep(place.tests, SCHEMA, kept)
    reset = place.new_reset(kept)
    for name, change in CHANGES.items():
        place.tests.execute(change) if isinstance(change, str) else change(place)
        reset.run()
        assert place.state() == before, name
    reset.close()
    place.tests.execute(f"DROP SCHEMA {kept} CASCADE")


def test_a_view_is_refreshed_after_those_that_it_is_made_of(place: Place) -> None:
    for schema in (TEMPLATE, SCHEMA):
        place.tests.execute(
            f"SET search_path = {schema};"
            " CREATE VIEW source AS SELECT name FROM seeded;"
            " CREATE MATERIALIZED VIEW early AS SELECT name FROM source;"
            " CREATE MATERIALIZED VIEW later AS SELECT upper(name) AS name FROM seeded;"
            " CREATE OR REPLACE VIEW source AS SELECT name FROM later;"
            " REFRESH MATERIALIZED VIEW early"
        )
    for _ in range(2):
        place.tests.execute(
            "UPDATE seeded SET name = name || '!';"
            " REFRESH MATERIALIZED VIEW later; REFRESH MATERIALIZED VIEW early"
        )
        place.reset.run()
        assert place.written_at("early") == place.written_at("later")
        rows = place.tests.execute("SELECT name FROM early ORDER BY 1").fetchall()
        assert rows == [("ONE",), ("TWO",)]


def names_seeds(place: Place) -> str:
    kept = "itkit_0123abcd_w7_seed"
    place.tests.execute(f"CREATE SCHEMA {kept}")
    return kept


def wait_until(place: Place, condition: str) -> None:
    query = f"SELECT count(*) FROM pg_stat_activity WHERE {condition}"
    deadline = time.monotonic() + 10
    while place.tests.execute(query).fetchone() == (0,):
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


def test_sequences_are_renewed_where_no_rows_were_committed(place: Place) -> None:
    before = place.state()
    moving = "SELECT nextval('lonely'), nextval('moved'), nextval('seeded_id_seq')"
    for reset in (place.new_reset(), place.reset):
        place.tests.execute(f"BEGIN; INSERT INTO plain (name) VALUES ('a'); {moving}; ROLLBACK")
        reset.renew_sequences()
        assert place.state() == before
        reset.close()
    place.tests.execute(f"INSERT INTO plain (name) VALUES ('loaded'); {moving}")
    loaded = place.state()
    place.reset.renew_sequences()
    assert place.state() == loaded
    place.reset.run()
    place.tests.execute(f"UPDATE ONLY animal SET name = 'changed'; {moving}")
    place.reset.renew_sequences()
    found = place.state()
    assert [name for name in before if found[name] != before[name]] == ["ONLY animal"]
    place.reset.run()
    assert place.state() == before
    place.tests.execute(f"INSERT INTO day VALUES ('2026-07-07', 3); {moving}")
    loaded = place.state()
    place.reset.renew_sequences()
    assert place.state() == loaded


def test_renewing_sequences_leaves_what_it_cannot_read_to_the_reset(place: Place) -> None:
    before = place.state()
    place.reset.run()
    place.tests.execute("SELECT nextval('lonely'); ALTER TABLE plain RENAME TO more")
    place.reset.renew_sequences()
    place.tests.execute("ALTER TABLE more RENAME TO plain")
    place.reset.run()
    assert place.state() == before

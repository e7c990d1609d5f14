"""What a reset takes back in a schema that was made by SQL, by a superuser and by a plain role."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace

import psycopg
import pytest

from itkit.core.urls import POSTGRES_SCHEMES, parse
from itkit.exceptions import IsolationError, OpenTransactionError
from itkit.postgres.reset import initial_rows
from itkit.postgres.reset.reset import Reset
from itkit.postgres.server import sql
from itkit.postgres.server.server import Connection, connect, value
from itkit.postgres.server.sessions import Sessions
from itkit.timeline import core
from tests.support.projects import after, wait_until
from tests.support.sentinel import Machine

SCHEMA, SEEDS, TESTS = "reset_plan", "reset_plan_seeds", "reset tests"
State = dict[str, object]

_QUERIES = """
    SELECT format(
        'SELECT %%L, ARRAY(SELECT t::text FROM %%s%%I.%%I t ORDER BY 1)',
        relname, CASE relkind WHEN 'm' THEN '' ELSE 'ONLY ' END, %(schema)s::text, relname
    ) FROM pg_class WHERE relnamespace = %(schema)s::regnamespace
    AND (relkind IN ('r', 'p') OR relkind = 'm' AND relispopulated)
    UNION ALL
    SELECT format(
        'SELECT %%L, ARRAY(SELECT (last_value, is_called)::text FROM %%I.%%I)',
        relname, %(schema)s::text, relname
    ) FROM pg_class WHERE relnamespace = %(schema)s::regnamespace AND relkind = 'S'
"""
"""Selects, for each table, populated view and sequence, the query of its name and contents."""

_ENABLED = """
    SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
    WHERE relnamespace = %(schema)s::regnamespace AND NOT tgisinternal
    UNION ALL SELECT ev_class::regclass::text, rulename, ev_enabled FROM pg_rewrite
    JOIN pg_class c ON c.oid = ev_class WHERE relnamespace = %(schema)s::regnamespace
    UNION ALL SELECT relname, 'policies', relforcerowsecurity::text::"char" FROM pg_class
    WHERE relnamespace = %(schema)s::regnamespace ORDER BY 1, 2
"""
_UNPOPULATED = """
    SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND NOT relispopulated
    ORDER BY 1
"""


@dataclass
class Place:
    """A schema with its seeds, what the tests do in it, and what resets it."""

    url: str
    tests: Connection
    all_seeing: Connection
    reset: Reset

    def seeded(self, script: str) -> State:
        """Make the schema and keep its seeds, as a run does; return its state."""
        self.tests.execute(script)
        with closing(connect(self.url, application="itkit setup")) as connection:
            initial_rows.keep(connection, SCHEMA, SEEDS)
        return self.state()

    def state(self) -> State:
        """Return all rows, values of sequences and whether triggers, rules, policies are in force."""
        found: State = {"enabled": self.all_seeing.execute(_ENABLED, {"schema": SCHEMA}).fetchall()}
        listed = self.all_seeing.execute(_QUERIES, {"schema": SCHEMA}).fetchall()
        query = " UNION ALL ".join(query for (query,) in listed)
        for name, rows in self.all_seeing.execute(query.encode()).fetchall():
            found[name] = [(row,) for row in rows]
        found["unpopulated"] = self.all_seeing.execute(_UNPOPULATED, [SCHEMA]).fetchall()
        return found

    def other_reset(self, *, lock_seconds: float) -> Reset:
        """Return another reset of the schema, which waits for locks as long as it is told."""
        return Reset(
            self.url,
            schema=SCHEMA,
            initial=SEEDS,
            application=TESTS,
            sessions=Sessions(),
            patience=lock_seconds,
        )

    def sessions(self) -> set[int]:
        """Return the sessions of resets; a reset that had to start again has new ones."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'itkit reset'"
        return {pid for (pid,) in self.all_seeing.execute(query).fetchall()}

    def takes_back(self, seeded: State, *wrecks: str) -> None:
        """Wreck the schema again and again, and see each time that a reset takes it back."""
        for wreck in wrecks:
            self.tests.execute(wreck)
            assert self.state() != seeded
            before = self.sessions()
            self.reset.run()
            assert self.state() == seeded
            assert before in (set(), self.sessions())

    def written(self) -> int:
        """Return how many transactions have written by now, this one included."""
        return int(value(self.all_seeing, "SELECT pg_current_xact_id()::text"))

    def stamps(self, table: str) -> list[tuple[object, ...]]:
        """Return which transactions have written the rows of a table."""
        query = sql.SQL("SELECT DISTINCT xmin::text FROM {}").format(sql.Identifier(SCHEMA, table))
        return self.all_seeing.execute(query).fetchall()

    def finds_nothing(self) -> None:
        """See that a reset writes nothing."""
        before = self.written()
        self.reset.run()
        assert self.written() == before + 1


ROLES = ["superuser", "plain"]


@pytest.fixture(params=ROLES)
def place(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Place]:
    with place_on(postgres_url, request.param) as made:
        yield made


@contextmanager
def place_on(postgres_url: str, kind: str) -> Iterator[Place]:
    server = parse(postgres_url, POSTGRES_SCHEMES)
    role = server.user if kind == "superuser" else "reset_plain"
    url = str(replace(server, user=role))
    path = f"{SCHEMA},itkit_ext"
    with closing(connect(postgres_url, application="all-seeing")) as all_seeing:
        if role == "reset_plain":
            all_seeing.execute("CREATE ROLE reset_plain LOGIN")
        for name in (SCHEMA, SEEDS):
            statement = sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}")
            all_seeing.execute(statement.format(sql.Identifier(name), sql.Identifier(role)))
        reset = Reset(url, schema=SCHEMA, initial=SEEDS, application=TESTS, sessions=Sessions())
        with closing(connect(url, application=TESTS, search_path=path)) as tests:
            yield Place(url, tests, all_seeing, reset)
        reset.close()
        all_seeing.execute(f"DROP SCHEMA {SCHEMA}, {SEEDS} CASCADE")
        if role == "reset_plain":
            all_seeing.execute("DROP ROLE reset_plain")


FRUIT = """
    CREATE TABLE fruit (id serial PRIMARY KEY, name text UNIQUE);
    INSERT INTO fruit (name) VALUES ('apple'), ('pear');
    CREATE TABLE basket (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int);
"""


def test_a_row_is_found_whoever_has_written_it(place: Place) -> None:
    seeded = place.seeded(FRUIT)
    place.takes_back(seeded, "INSERT INTO basket (n) VALUES (1)")
    with place.tests.raw.cursor().copy("COPY basket (n) FROM STDIN") as copy:
        copy.write("1\n2\n")
    place.takes_back(seeded, "SELECT")
    program = (
        "import sys, psycopg; psycopg.connect(sys.argv[1], autocommit=True).execute(sys.argv[2])"
    )
    statement = f"INSERT INTO {SCHEMA}.basket (n) VALUES (1)"
    subprocess.run([sys.executable, "-c", program, place.url, statement], check=True)
    place.takes_back(seeded, "SELECT")


def test_rows_of_migrations_come_back_whatever_was_done_to_them(place: Place) -> None:
    place.takes_back(
        place.seeded(FRUIT),
        "UPDATE fruit SET name = 'quince' WHERE id = 1",
        "UPDATE fruit SET name = name || '!'",
        "DELETE FROM fruit WHERE id = 2",
        "DELETE FROM fruit WHERE id = 2; INSERT INTO fruit VALUES (2, 'plum')",
        "INSERT INTO fruit VALUES (99, 'fig')",
        "INSERT INTO fruit VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y'",
        "TRUNCATE fruit",
        "TRUNCATE fruit RESTART IDENTITY",
        "INSERT INTO fruit (name) VALUES ('fig'); DELETE FROM fruit WHERE name = 'fig'",
        "SELECT setval('fruit_id_seq', 2, false)",
        "ALTER SEQUENCE basket_id_seq RESTART WITH 1000",
    )


def test_what_changes_no_row_is_no_change(place: Place) -> None:
    seeded = place.seeded(FRUIT)
    place.reset.run()
    place.finds_nothing()
    for harmless in (
        "BEGIN; UPDATE fruit SET name = name || '!'; INSERT INTO fruit VALUES (9, 'x'); ROLLBACK",
        "BEGIN; SELECT FROM fruit FOR UPDATE; COMMIT",
        "VACUUM (FREEZE) fruit",
        "ANALYZE",
    ):
        for statement in harmless.split(";"):
            place.tests.execute(statement)
        place.finds_nothing()
    assert place.state() == seeded


def test_a_rolled_back_insert_sets_only_the_sequence_back(place: Place) -> None:
    seeded = place.seeded(FRUIT)
    place.reset.run()
    stamps = place.stamps("fruit")
    place.takes_back(seeded, "BEGIN; INSERT INTO fruit (name) VALUES ('fig'); ROLLBACK")
    assert place.stamps("fruit") == stamps


def test_a_sequence_that_a_migration_has_set_but_not_used(place: Place) -> None:
    script = (
        FRUIT + "ALTER SEQUENCE basket_id_seq RESTART WITH 500; CREATE SEQUENCE down INCREMENT -3"
    )
    seeded = place.seeded(script)
    place.takes_back(seeded, "INSERT INTO basket (n) VALUES (1)", "SELECT nextval('down')")


def test_materialised_views_are_as_migrations_left_them(place: Place) -> None:
    seeded = place.seeded(
        FRUIT
        + """
        CREATE MATERIALIZED VIEW names AS SELECT id, name FROM fruit;
        CREATE UNIQUE INDEX ON names (id);
        CREATE MATERIALIZED VIEW above AS SELECT count(*) FROM names;
        CREATE MATERIALIZED VIEW full_baskets AS SELECT * FROM basket;
        CREATE MATERIALIZED VIEW never AS SELECT 1 AS one WITH NO DATA;
        """
    )
    insert = "INSERT INTO fruit (name) VALUES ('fig');"
    place.takes_back(
        seeded,
        "REFRESH MATERIALIZED VIEW never",
        insert + "REFRESH MATERIALIZED VIEW names; REFRESH MATERIALIZED VIEW above",
        insert + "REFRESH MATERIALIZED VIEW CONCURRENTLY names",
        "UPDATE fruit SET name = 'x' WHERE id = 1; REFRESH MATERIALIZED VIEW CONCURRENTLY names",
        "INSERT INTO basket (n) VALUES (1); REFRESH MATERIALIZED VIEW full_baskets",
    )
    place.finds_nothing()
    place.tests.execute("REFRESH MATERIALIZED VIEW names WITH NO DATA")
    place.reset.run()
    assert place.state() == seeded


def test_a_view_that_the_first_test_empties_is_filled_again(place: Place) -> None:
    seeded = place.seeded(FRUIT + "CREATE MATERIALIZED VIEW names AS SELECT name FROM fruit")
    place.reset.begin()
    place.reset.prepare()
    for more in ("", "DELETE FROM fruit"):
        place.tests.execute(f"REFRESH MATERIALIZED VIEW names WITH NO DATA; {more}")
        place.reset.run()
        assert place.state() == seeded


def test_what_is_committed_beside_a_rolled_back_test_is_taken_back(place: Place) -> None:
    seeded = place.seeded(
        FRUIT
        + "CREATE MATERIALIZED VIEW names AS SELECT name FROM fruit; CREATE TABLE other (n int)"
    )
    place.reset.begin()
    for statements, told in (
        ("REFRESH MATERIALIZED VIEW names WITH NO DATA; DELETE FROM fruit", ["names", "fruit"]),
        ("CREATE TABLE made (n int); CREATE VIEW seen AS SELECT 1; DELETE FROM fruit",
         ["made", "seen", "fruit"]),
    ):  # fmt: skip
        place.tests.execute(statements)
        found = place.reset.take_back()
        assert [name.removeprefix(f"{SCHEMA}.") for name in found] == told
        assert place.state() == seeded
    # Sequences go on, unless they would yield the number of an initial row.
    for statements, number in (
        ("TRUNCATE fruit RESTART IDENTITY", 3),
        ("INSERT INTO fruit (name) VALUES ('fig')", 5),
        ("SELECT setval('fruit_id_seq', 2, false)", 3),
    ):
        place.tests.execute(statements)
        place.reset.take_back()
        assert place.state()["fruit"] == seeded["fruit"]
        assert value(place.tests, "SELECT nextval('fruit_id_seq')") == number
    # As long as the tests are in a transaction, what they have may not be made anew.
    with closing(_session(place.url, TESTS)) as of_a_class:
        of_a_class.execute("BEGIN; SELECT FROM basket")
        place.tests.execute("DROP TABLE other; DELETE FROM fruit")
        after_its_class = "the structure of the database (taken back after its class)"
        assert place.reset.take_back() == [after_its_class]
        place.tests.execute("INSERT INTO basket (n) VALUES (1)")
        of_a_class.execute("COMMIT")
    place.reset.end_class()  # no place can be made anew here: what is left is accepted
    place.reset.run()
    left = place.state()
    assert "other" not in left
    assert [left["fruit"], left["basket"]] == [seeded["fruit"], seeded["basket"]]


def test_views_that_a_test_makes_are_dropped(place: Place) -> None:
    seeded = place.seeded(FRUIT)
    place.reset.run()
    place.tests.execute("CREATE MATERIALIZED VIEW made AS SELECT * FROM fruit")
    place.tests.execute("CREATE MATERIALIZED VIEW later AS SELECT * FROM made WITH NO DATA")
    place.reset.run()
    assert place.state() == seeded


PARTS = """
    CREATE TABLE log (what text);
    CREATE TABLE part (day int, n int, PRIMARY KEY (day, n)) PARTITION BY RANGE (day);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
    CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20) PARTITION BY LIST (n);
    CREATE TABLE part_2_a PARTITION OF part_2 FOR VALUES IN (1);
    CREATE TABLE part_2_b PARTITION OF part_2 DEFAULT;
    INSERT INTO part VALUES (1, 1), (11, 1), (12, 5);
"""


def test_partitions_of_partitions(place: Place) -> None:
    place.takes_back(
        place.seeded(PARTS),
        "INSERT INTO part VALUES (2, 2)",
        "UPDATE part SET day = 13 WHERE day = 1",
        "DELETE FROM part_2_a",
        "TRUNCATE part_2",
        "INSERT INTO part_2_b VALUES (15, 7); DELETE FROM part_1",
    )


def test_triggers_of_partitions_are_silent(place: Place) -> None:
    seeded = place.seeded(
        PARTS
        + """
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO log VALUES (TG_OP); RETURN NULL; END $$;
        CREATE TRIGGER own AFTER INSERT OR DELETE ON part_1 FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TRIGGER always AFTER INSERT OR DELETE ON part_2_b FOR EACH ROW EXECUTE FUNCTION note();
        ALTER TABLE part_2_b ENABLE ALWAYS TRIGGER always;
        CREATE TRIGGER whole AFTER INSERT OR DELETE ON part FOR EACH ROW EXECUTE FUNCTION note();
        ALTER TABLE part_1 ENABLE ALWAYS TRIGGER whole;
        ALTER TABLE part_2_a DISABLE TRIGGER whole;
        """
    )
    place.takes_back(
        seeded, "DELETE FROM part", "UPDATE part SET n = 3 WHERE day = 1; TRUNCATE log"
    )


def test_foreign_keys_of_and_to_single_partitions(place: Place) -> None:
    seeded = place.seeded(
        PARTS
        + """
        CREATE TABLE day (n int PRIMARY KEY); INSERT INTO day VALUES (1);
        ALTER TABLE part_1 ADD FOREIGN KEY (n) REFERENCES day;
        CREATE TABLE user_of_one (day int, n int, FOREIGN KEY (day, n) REFERENCES part_2_a);
        INSERT INTO user_of_one VALUES (11, 1);
        """
    )
    place.takes_back(
        seeded,
        "INSERT INTO day VALUES (2)",
        "INSERT INTO part VALUES (3, 1)",
        "DELETE FROM user_of_one",
    )


def test_inherited_tables(place: Place) -> None:
    seeded = place.seeded(
        """
        CREATE TABLE animal (name text); CREATE TABLE dog (breed text) INHERITS (animal);
        CREATE TABLE pug () INHERITS (dog); INSERT INTO dog VALUES ('rex', 'any');
        """
    )
    place.takes_back(
        seeded,
        "INSERT INTO animal VALUES ('x')",
        "UPDATE animal SET name = 'y'",
        "DELETE FROM animal",
        "INSERT INTO pug VALUES ('p', 'pug')",
    )


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"])
def test_keys_between_changed_and_unchanged_tables(place: Place, action: str) -> None:
    seeded = place.seeded(
        f"""
        CREATE TABLE top (id int PRIMARY KEY, n int);
        CREATE TABLE middle (id int PRIMARY KEY, top int DEFAULT 1 REFERENCES top ON DELETE {action});
        CREATE TABLE low (id int PRIMARY KEY, middle int REFERENCES middle ON DELETE {action});
        CREATE TABLE unseeded (id int PRIMARY KEY, top int REFERENCES top ON DELETE {action});
        INSERT INTO top VALUES (1, 1), (2, 2); INSERT INTO middle VALUES (1, 2); INSERT INTO low VALUES (1, 1);
        """
    )
    place.takes_back(
        seeded,
        "UPDATE top SET n = 5",
        "INSERT INTO unseeded VALUES (1, 2)",
        "INSERT INTO top VALUES (3, 3); UPDATE middle SET top = 3; DELETE FROM top WHERE id = 2",
    )


def test_circles_of_keys(place: Place) -> None:
    seeded = place.seeded(
        """
        CREATE TABLE hen (id int PRIMARY KEY, egg int, mother int REFERENCES hen ON DELETE RESTRICT);
        CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL REFERENCES hen ON DELETE CASCADE);
        INSERT INTO hen VALUES (1, NULL, 1), (2, NULL, 1); INSERT INTO egg VALUES (7, 2);
        UPDATE hen SET egg = 7; ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg ON DELETE SET NULL;
        """
    )
    place.takes_back(
        seeded,
        "UPDATE hen SET egg = NULL WHERE id = 2",
        "INSERT INTO egg VALUES (8, 1); UPDATE hen SET egg = 8; DELETE FROM egg WHERE id = 7",
        "UPDATE hen SET mother = 2",
    )


NOISE = """
    CREATE TABLE log (what text);
    CREATE TABLE loud (id int PRIMARY KEY, n int);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO log VALUES (TG_NAME); RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; END $$;
    CREATE TRIGGER "plain {0} %s" BEFORE INSERT OR DELETE ON loud FOR EACH ROW EXECUTE FUNCTION note();
    CREATE TRIGGER always AFTER INSERT OR DELETE ON loud FOR EACH ROW EXECUTE FUNCTION note();
    CREATE TRIGGER replica AFTER INSERT OR DELETE ON loud FOR EACH ROW EXECUTE FUNCTION note();
    CREATE TRIGGER silent AFTER INSERT OR DELETE ON loud FOR EACH ROW EXECUTE FUNCTION note();
    CREATE CONSTRAINT TRIGGER late AFTER INSERT OR DELETE ON loud DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION note();
    ALTER TABLE loud ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica, DISABLE TRIGGER silent;
    CREATE TABLE ruled (id int);
    INSERT INTO ruled VALUES (1); INSERT INTO loud VALUES (1, 1);
    CREATE RULE stays AS ON DELETE TO ruled DO INSTEAD NOTHING;
    CREATE RULE noted AS ON INSERT TO ruled DO ALSO INSERT INTO log VALUES ('rule');
    CREATE RULE "always" AS ON INSERT TO ruled DO ALSO INSERT INTO log VALUES ('rule');
    ALTER TABLE ruled ENABLE ALWAYS RULE "always";
    CREATE TABLE kept (id int); CREATE RULE kept AS ON DELETE TO kept DO INSTEAD NOTHING;
    ALTER TABLE kept ENABLE REPLICA RULE kept;
    TRUNCATE log;
"""


def test_triggers_and_rules_are_silent_and_afterwards_as_they_were(place: Place) -> None:
    place.takes_back(
        place.seeded(NOISE),
        "UPDATE loud SET n = 2",
        "DELETE FROM loud; INSERT INTO loud VALUES (2, 2)",
        "INSERT INTO ruled VALUES (2)",
        "UPDATE ruled SET id = 3; INSERT INTO kept VALUES (1)",
    )


def test_policies_that_hide_rows_from_their_owner(place: Place) -> None:
    seeded = place.seeded(
        """
        CREATE TABLE tenant (id int, name text); INSERT INTO tenant VALUES (1, 'a'), (2, 'b');
        CREATE TABLE secret (id int);
        CREATE POLICY own ON tenant USING (id = 1) WITH CHECK (true);
        CREATE POLICY none ON secret FOR INSERT WITH CHECK (true);
        ALTER TABLE tenant ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        ALTER TABLE secret ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        """
    )
    place.takes_back(
        seeded,
        "INSERT INTO secret VALUES (1)",
        "INSERT INTO tenant VALUES (3, 'c')",
        "UPDATE tenant SET name = 'x'",
        "TRUNCATE tenant",
    )


def test_columns_and_names_of_every_kind(place: Place) -> None:
    long = "n" * 63
    seeded = place.seeded(
        f"""
        CREATE TABLE "Odd {{name}} {{}} 100% %s ""q"" 'a'; --" (
            "Id {{0}}" int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "a %s""b" text[],
            twice int GENERATED ALWAYS AS (cardinality("a %s""b") * 2) STORED);
        INSERT INTO "Odd {{name}} {{}} 100% %s ""q"" 'a'; --" ("a %s""b") VALUES ('{{a,"b,{{"}}');
        CREATE TABLE {long} ({long} serial); INSERT INTO {long} DEFAULT VALUES;
        CREATE TABLE "Ünïcode ✓" (id int); INSERT INTO "Ünïcode ✓" VALUES (1);
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b mood);
        CREATE TABLE typed (p positive, j jsonb, b bytea, m mood[], c pair, r int4range, f float8, x json);
        INSERT INTO typed VALUES (1, '{{"a": [1, "%s"]}}', '\\x00ff', '{{sad}}', '(1,ok)', '[1,4)', 'NaN', '{{ }}');
        CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
        CREATE TABLE dropped (a int, gone int, b int); INSERT INTO dropped VALUES (1, 2, 3);
        ALTER TABLE dropped DROP COLUMN gone;
        """
    )
    place.takes_back(
        seeded,
        f"TRUNCATE {long}, typed, dropped; INSERT INTO {long} DEFAULT VALUES",
        'DELETE FROM "Odd {name} {} 100% %s ""q"" \'a\'; --"',
        "INSERT INTO nothing DEFAULT VALUES; UPDATE dropped SET b = 4",
        'DELETE FROM "Ünïcode ✓"; UPDATE typed SET j = NULL',
    )


def test_tables_that_tests_make_alter_and_drop(place: Place) -> None:
    seeded = place.seeded(FRUIT + "CREATE VIEW seen AS SELECT 1; CREATE TABLE other (id int)")
    run = place.reset.run
    run()
    place.tests.execute("CREATE TABLE made (id int); INSERT INTO made VALUES (1)")
    run()
    assert "made" not in place.state()
    # What is made may stand for what is dropped, where no new place can be had.
    place.tests.execute("DROP VIEW seen; CREATE TABLE made (id int); INSERT INTO made VALUES (1)")
    run()
    assert place.state()["made"] == []
    place.tests.execute("DROP TABLE other; INSERT INTO basket (n) VALUES (1)")
    run()
    assert place.state()["basket"] == []
    place.tests.execute("ALTER TABLE fruit DROP name; ALTER TABLE fruit ADD name text DEFAULT 'x'")
    run()
    assert place.state()["fruit"] == seeded["fruit"]
    place.tests.execute("ALTER TABLE fruit ADD COLUMN weight int NOT NULL DEFAULT 3")
    place.tests.execute("DELETE FROM fruit")
    run()
    assert place.state()["fruit"] == [("(1,apple,3)",), ("(2,pear,3)",)]
    place.tests.execute(
        "ALTER TABLE fruit DROP COLUMN weight; ALTER TABLE fruit RENAME name TO title"
    )
    place.tests.execute("INSERT INTO basket (n) VALUES (1); DELETE FROM fruit")
    run()
    assert place.state()["basket"] == []
    place.tests.execute("ALTER TABLE fruit RENAME title TO name; DELETE FROM fruit")
    run()
    assert place.state()["fruit"] == seeded["fruit"]


def test_seeds_that_do_not_fit_any_more_are_an_error_that_says_so(place: Place) -> None:
    seeded = place.seeded("CREATE TABLE strict (id int NOT NULL); INSERT INTO strict VALUES (1)")
    place.reset.run()
    place.tests.execute("ALTER TABLE strict RENAME id TO number")
    with pytest.raises(IsolationError, match=r'reset_plan .+ null value in column "number"'):
        place.reset.run()
    place.tests.execute("ALTER TABLE strict RENAME number TO id")
    place.reset.run()
    assert place.state() == seeded


def test_a_reset_goes_on_when_the_server_has_ended_its_sessions(place: Place) -> None:
    seeded = place.seeded(FRUIT)
    place.reset.run()
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'itkit reset'"
    for _ in range(2):
        place.all_seeing.execute(end)
        assert after(5, lambda: [str(pid) for pid in place.sessions()]) == []
        place.takes_back(seeded, "DELETE FROM fruit")


def test_a_new_reset_knows_nothing_of_an_earlier_one(place: Place) -> None:
    seeded = place.seeded(FRUIT)
    place.takes_back(seeded, "DELETE FROM fruit")
    place.reset.close()
    assert wait_until(lambda: not place.sessions())  # the server hears of it a moment later
    place.takes_back(seeded, "UPDATE fruit SET name = name || '!'")


def _told_of_left_open() -> str:
    """Return what is kept, for no test here, of the sessions that were left open."""
    error = core.pop_failures()[1][-1]
    assert isinstance(error, OpenTransactionError)
    return str(error)


def _session(url: str, application: str) -> Connection:
    return connect(url, application=application, search_path=SCHEMA)


@pytest.mark.parametrize(
    "lock", ["INSERT INTO fruit VALUES (9)", "LOCK TABLE fruit", "TRUNCATE basket"]
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_transaction_that_the_tests_have_left_open_is_ended_at_once(
    place: Place, lock: str, is_first: bool
) -> None:
    seeded = place.seeded(FRUIT)
    if not is_first:
        place.reset.run()
    with closing(_session(place.url, TESTS)) as left:
        left.execute(f"BEGIN; {lock}")
        place.reset.run()
        told = _told_of_left_open()
        assert f"session {left.info.backend_pid}, opened by no conn" in told
    assert place.state() == seeded


@pytest.mark.parametrize("role", ROLES)
def test_a_transaction_that_the_tests_have_prepared_is_rolled_back(
    role: str, machine: Machine
) -> None:
    url = f"postgresql://postgres@127.0.0.1:{machine.postgres_port}/postgres"
    with place_on(url, role) as place:
        seeded = place.seeded(FRUIT)
        place.all_seeing.execute("CREATE TABLE public.elsewhere (id int)")
        place.all_seeing.execute("BEGIN; INSERT INTO public.elsewhere VALUES (1)")
        place.all_seeing.execute("PREPARE TRANSACTION 'of another place'")
        for number in range(2):
            place.tests.execute("BEGIN; INSERT INTO fruit (name) VALUES ('plum')")
            place.tests.execute(f"PREPARE TRANSACTION 'the plum''s {number}'")
            place.reset.run()
            assert f"that was prepared, by PREPARE TRANSACTION 'the plum''s {number}'" in (
                _told_of_left_open()
            )
            assert place.state() == seeded
        left = place.all_seeing.execute("SELECT gid FROM pg_prepared_xacts").fetchall()
        assert left == [("of another place",)]
        place.all_seeing.execute("ROLLBACK PREPARED 'of another place'")
        place.all_seeing.execute("DROP TABLE public.elsewhere")


def test_a_session_of_the_tests_that_goes_on_with_a_lock_is_ended_after_a_while(
    place: Place,
) -> None:
    seeded = place.seeded(FRUIT)
    reset = place.other_reset(lock_seconds=0.5)
    with closing(_session(place.url, TESTS)) as busy:
        pid = busy.info.backend_pid
        busy.execute("BEGIN; DELETE FROM fruit")
        thread = threading.Thread(target=_sleep, args=[busy])
        thread.start()
        _wait_until(place.all_seeing, pid, "active")
        reset.run()
        assert f"session {pid}, " in _told_of_left_open()
        thread.join()
    assert place.state() == seeded
    reset.close()


def test_a_foreign_session_with_a_lock_is_named_and_left_alone(
    place: Place, postgres_url: str
) -> None:
    seeded = place.seeded(FRUIT)
    reset = place.other_reset(lock_seconds=0.5)
    for lock in ("LOCK TABLE fruit", "SELECT FROM fruit FOR UPDATE"):
        with closing(_session(postgres_url, "somebody's psql")) as foreign:
            pid = foreign.info.backend_pid
            foreign.execute(f"BEGIN; {lock}")
            with pytest.raises(IsolationError) as raised:
                reset.run()
            assert foreign.execute("SELECT 1").fetchall() == [(1,)]
        user = parse(postgres_url, POSTGRES_SCHEMES).user
        line = rf"session {pid} of somebody's psql \(user {user}, .+\) on fruit"
        assert re.search(line, str(raised.value))
        assert "None" not in str(raised.value)
    reset.run()
    assert place.state() == seeded
    reset.close()


def _sleep(busy: Connection) -> None:
    with suppress(psycopg.OperationalError):
        busy.execute("SELECT pg_sleep(60)")


def _wait_until(connection: Connection, pid: int, state: str) -> None:
    query = "SELECT state FROM pg_stat_activity WHERE pid = %s"
    while value(connection, query, [pid]) != state:
        time.sleep(0.01)


def test_a_schema_of_230_tables(place: Place) -> None:
    tables = "".join(
        f"CREATE TABLE t{n} (id serial PRIMARY KEY, up int REFERENCES t{max(n - 1, 0)});"
        f"INSERT INTO t{n} (up) VALUES (1);"
        for n in range(230)
    )
    seeded = place.seeded(tables.replace("up int REFERENCES t0)", "up int)", 1))
    place.takes_back(seeded, "INSERT INTO t100 (up) VALUES (1)", "UPDATE t229 SET up = NULL")
    place.tests.execute("TRUNCATE t0 CASCADE")
    place.takes_back(seeded, "SELECT")

"""The one reader of SQL: which tables a statement names, and what it is without its values."""

import pytest

from itkit.core.sqltext import TransactionStep, normalised, read, transaction_step

TABLES = [
    ("SELECT 1", ""),
    ('SELECT 1 FROM "a" INNER JOIN "b" ON (1) LEFT OUTER JOIN c ON (2)', "a b c"),
    ('SELECT EXTRACT(YEAR FROM "o"."created" AT TIME ZONE %s) AS "y" FROM "shop_order" "o"', "shop_order"),
    ("SELECT substring(a FROM 2 FOR 3), trim(both from b), overlay(a placing b from 2) FROM t", "t"),
    ("SELECT * FROM t WHERE a IS DISTINCT FROM b AND c IS NOT DISTINCT FROM d", "t"),
    ('SELECT "a"."id" FROM "shop_order" "a", "shop_line" "b" WHERE 1 = 1', "shop_order shop_line"),
    ("SELECT * FROM a AS x, b y, c", "a b c"),
    ("SELECT (SELECT COUNT(*) FROM u) AS n FROM t", "u t"),
    ("SELECT * FROM a WHERE EXISTS(SELECT 1 FROM c U0 WHERE U0.x = (a.id))", "a c"),
    ("SELECT * FROM (SELECT * FROM a UNION ALL SELECT * FROM b) q", "a b"),
    ("SELECT * FROM (a LEFT OUTER JOIN b ON a.i=b.i) JOIN c USING (i)", "a b c"),
    ("SELECT * FROM generate_series(1, 2) g, t, unnest(%s) u", "t"),
    ("SELECT * FROM a TABLESAMPLE system(1), b", "a b"),
    ("SELECT * FROM a, LATERAL (SELECT 1 FROM x WHERE x.i = a.i) q", "a x"),
    ("SELECT * FROM t FOR UPDATE OF t NOWAIT", "t"),
    ("SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED", "t"),
    ("SELECT DISTINCT ON (a) b FROM t", "t"),
    ('SELECT "from" FROM "select" WHERE "join" = 1', "select"),
    ("SELECT * FROM user, date, level, type", "user date level type"),
    ("SELECT * FROM public.order_items oi NATURAL JOIN products", "order_items products"),
    ('SELECT * FROM "public"."Order-Items"', "Order-Items"),
    ('SELECT * FROM "say ""so"""', 'say "so"'),
    ("SELECT * FROM Shop_Order", "shop_order"),
    ("INSERT INTO \"shop-order\" (\"a\") VALUES (%s)", "shop-order"),
    ("INSERT INTO a SELECT * FROM public.b", "a b"),
    ("INSERT INTO a (x) VALUES (1) ON CONFLICT (x) DO UPDATE SET x = excluded.x RETURNING id", "a"),
    ("UPDATE ONLY a SET x = 'FROM z'", "a"),
    ("UPDATE a SET x = b.x FROM b, (SELECT 1 FROM z) q WHERE a.i = b.i", "a b z"),
    ("DELETE FROM a USING b, s.c WHERE a.x = b.x", "a b c"),
    ("MERGE INTO a USING b ON a.i = b.i WHEN MATCHED THEN UPDATE SET x = 1", "a b"),
    ("WITH x AS (SELECT * FROM a), y(i) AS (SELECT 1 FROM b) SELECT * FROM x JOIN y ON true JOIN c ON true", "a b c"),
    ("WITH RECURSIVE r AS (SELECT 1 FROM a UNION SELECT 1 FROM r) SELECT * FROM r", "a"),
    ("WITH d AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM d", "a b"),
    ("/* FROM hidden */ SELECT 1 -- FROM x\n FROM t", "t"),
    ("SELECT $$FROM x$$, 'it''s FROM b' FROM t", "t"),
    ("SELECT data ? 'a', data ?| array['b'], data @> %s FROM t", "t"),
    ("TRUNCATE a, \"b\" RESTART IDENTITY CASCADE", "a b"),
    ("TRUNCATE TABLE a", "a"),
    ("COPY a (x) FROM STDIN", "a"),
    ("CREATE TABLE IF NOT EXISTS s.t (a int REFERENCES u)", "t"),
    ("CREATE INDEX i ON t (a)", "t"),
    ("ALTER TABLE ONLY t ADD COLUMN c int", "t"),
    ("DROP TABLE IF EXISTS a, b CASCADE", "a b"),
    ("LOCK TABLE a IN SHARE MODE", "a"),
    ("SELECT 1 FROM a; SELECT 1 FROM b", "a"),
    ("EXPLAIN SELECT * FROM t", "t"),
    (r"SELECT 'C:\', 'FROM secret' FROM t", "t"),
    (r"SELECT E'it\'s FROM secret', e'\\' FROM t", "t"),
    ("SELECT $a$ FROM x $$ FROM y $a$, $$it's$$ FROM t", "t"),
    ("SELECT 1 -- it's FROM x\n FROM t", "t"),
    ('SELECT "it\'s" FROM t WHERE a = \'FROM x\'', "t"),
    ("SELECT a # 1, b #> %s FROM t", "t"),
    ("SELECT 'FROM secret", ""),  # as the server cuts the text of a long query
    ("SELECT * FROM t WHERE a = E'x FROM secret", "t"),
    ("SELECT $$ FROM secret", ""),
    ("SELECT 1 /* FROM secret", ""),
    ("BEGIN", ""),
    ('SAVEPOINT "s1_x2"', ""),
    ("", ""),
    ("SELECT * FROM", ""),
    ("((((", ""),
    (")))) FROM", ""),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), TABLES)
def test_the_tables_of_a_statement(sql: str, expected: str) -> None:
    found = read(sql).tables
    assert " ".join(found) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT (SELECT COUNT(*) FROM u) FROM t", ("SELECT", "t", False)),
        ("select 1 from (a join b on true)", ("SELECT", "a", False)),
        ("SELECT * FROM (SELECT * FROM inner_one) q", ("SELECT", "inner_one", False)),
        ("INSERT INTO a SELECT * FROM b", ("INSERT", "a", True)),
        ("  update a set x = 1", ("UPDATE", "a", True)),
        ("WITH x AS (SELECT 1 FROM a) SELECT * FROM x JOIN b ON true", ("SELECT", "b", False)),
        ("WITH x AS (SELECT 1 FROM a) UPDATE b SET y = 1", ("UPDATE", "b", True)),
        ("WITH d AS (DELETE FROM a RETURNING *) SELECT * FROM d", ("SELECT", "a", True)),
        ("WITH d AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT 1", ("INSERT", "b", True)),
        ("COPY a FROM STDIN", ("COPY", "a", True)),
        ("COPY a TO STDOUT", ("COPY", "a", False)),
        ("COPY (SELECT * FROM a) TO STDOUT", ("COPY", "a", False)),
        ("SELECT 1 FROM a FOR UPDATE", ("SELECT", "a", False)),
        ("/* INSERT INTO b */ SELECT 1 FROM a", ("SELECT", "a", False)),
        ("ROLLBACK", ("ROLLBACK", "", False)),
    ],
)
def test_what_a_statement_is_about(sql: str, expected: tuple[str, str, bool]) -> None:
    found = read(sql)
    assert (found.verb, found.table, found.writes) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT  1\n FROM t", "SELECT ? FROM t"),
        ("SELECT a FROM t WHERE b = 'it''s' AND c = 1.5", "SELECT a FROM t WHERE b = ? AND c = ?"),
        ("SELECT t1.a FROM t1 WHERE a IN (%s, %s,%s)", "SELECT t1.a FROM t1 WHERE a IN (…)"),
        ("SELECT 1 FROM t WHERE a IN (1, 'b', %s) AND c = 2", "SELECT ? FROM t WHERE a IN (…) AND c = ?"),
        ('SELECT "a2" FROM "t" WHERE "a" = %s', 'SELECT "a2" FROM "t" WHERE "a" = %s'),
        ("SELECT a ? 'k', a ?| %s FROM t -- why", "SELECT a ? ?, a ?| %s FROM t"),
        ("INSERT INTO t (a, b) VALUES (%s, %s), (%s, %s)", "INSERT INTO t (a, b) VALUES (…), (…)"),
        ("SELECT $$a 1$$, /* 2 */ 3", "SELECT …"),
        (r"SELECT a FROM t WHERE b = 'C:\' AND c = 'secret'", "SELECT a FROM t WHERE b = ? AND c = ?"),
        ("SELECT a FROM t WHERE b = 'secret", "SELECT a FROM t WHERE b = ?"),
    ],
)  # fmt: skip
def test_a_statement_without_its_values(sql: str, expected: str) -> None:
    assert normalised(sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("BEGIN", TransactionStep.BEGIN),
        (" begin;", TransactionStep.BEGIN),
        ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", TransactionStep.BEGIN),
        ("COMMIT AND CHAIN", TransactionStep.COMMIT),
        ("END", TransactionStep.COMMIT),
        ("ABORT", TransactionStep.ROLLBACK),
        ("ROLLBACK WORK", TransactionStep.ROLLBACK),
        ("-- why\nROLLBACK", TransactionStep.ROLLBACK),
        ("/* why */ commit", TransactionStep.COMMIT),
        ("ROLLBACK TO a", None),
        ("ROLLBACK WORK TO a", None),
        ("rollback transaction to savepoint a", None),
        ("START", None),
        ("SELECT 'BEGIN'", None),
        ("BEGINNING", None),
        ("", None),
    ],
)
def test_what_a_statement_does_to_its_transaction(
    sql: str, expected: TransactionStep | None
) -> None:
    assert transaction_step(sql) is expected

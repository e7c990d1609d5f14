"""One of every kind of object that a migration may put in a schema, each in the forms that differ.

The texts are relative to the search_path, so that each is good for one ``migrations.RunSQL``. A
kind that only later servers have is in a text of its own: ``zoo(version)`` is all of them.
"""

ZOO = r"""
-- types ---------------------------------------------------------------------------------------
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "fine"; \n');
ALTER TYPE mood ADD VALUE 'so-so' BEFORE 'ok';
COMMENT ON TYPE mood IS 'how it feels; it''s \ 100%';
CREATE TYPE address AS (street text COLLATE "C", "zip code" varchar(10), moods mood[]);
COMMENT ON COLUMN address.street IS 'a column of a composite type';
CREATE TYPE "Odd type; %" AS (n int);
CREATE TYPE text_range AS RANGE (SUBTYPE = text, COLLATION = "C", MULTIRANGE_TYPE_NAME = many_texts);
CREATE FUNCTION float_gap(a float8, b float8) RETURNS float8 LANGUAGE sql IMMUTABLE RETURN a - b;
CREATE TYPE float_range AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float_gap);
CREATE DOMAIN positive AS int DEFAULT 1 CONSTRAINT is_positive CHECK (VALUE > 0);
COMMENT ON DOMAIN positive IS 'a domain';
COMMENT ON CONSTRAINT is_positive ON DOMAIN positive IS 'a constraint of a domain';
CREATE DOMAIN code AS varchar(8) COLLATE "C" DEFAULT 'EUR' NOT NULL;
ALTER DOMAIN code ADD CONSTRAINT code_form CHECK (VALUE ~ '^[A-Z]+$') NOT VALID;
CREATE DOMAIN even AS bigint;
CREATE FUNCTION is_even(n bigint) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT n % 2 = 0';
ALTER DOMAIN even ADD CONSTRAINT is_even CHECK (is_even(VALUE));
ALTER DOMAIN even ADD CONSTRAINT "small; %" CHECK (VALUE < 1000);
REVOKE USAGE ON TYPE mood FROM PUBLIC;
GRANT USAGE ON TYPE mood TO pg_monitor WITH GRANT OPTION;
REVOKE USAGE ON TYPE positive FROM PUBLIC;

-- sequences -----------------------------------------------------------------------------------
CREATE SEQUENCE lonely START 5;
CREATE SEQUENCE down AS smallint INCREMENT -2 MINVALUE -100 MAXVALUE 50 START 40 CACHE 3 CYCLE;
SELECT nextval('lonely'), nextval('lonely'), nextval('down');
CREATE SEQUENCE unused;
CREATE SEQUENCE given_back;
SELECT setval('given_back', 1, false), setval('unused', 7, false);
COMMENT ON SEQUENCE lonely IS 'a sequence';
GRANT USAGE, SELECT ON SEQUENCE lonely TO pg_monitor;

-- functions -----------------------------------------------------------------------------------
CREATE FUNCTION slug(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 7
    AS $$ SELECT lower(regexp_replace(words, '\W+', '-', 'g')) $$;
CREATE FUNCTION slug(words text, sep text, VARIADIC more text[] DEFAULT '{}') RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT slug(words) || sep $$;
CREATE FUNCTION next_code(prefix text DEFAULT 'A-', n bigint DEFAULT nextval('lonely')) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET work_mem = '8MB'
    AS $body$ BEGIN RETURN prefix || n; END $body$;
ALTER FUNCTION next_code RESET search_path;
CREATE FUNCTION "Odd function; %"(IN a int, OUT b int, INOUT c text) LANGUAGE sql AS $$ SELECT a, c $$;
COMMENT ON FUNCTION slug(text) IS 'a function';
REVOKE EXECUTE ON FUNCTION slug(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slug(text) TO pg_monitor;

-- tables --------------------------------------------------------------------------------------
CREATE TABLE parent (id int CONSTRAINT parent_key PRIMARY KEY, up int CONSTRAINT parent_up REFERENCES parent);
CREATE TABLE child (
    id int PRIMARY KEY WITH (fillfactor = 60),
    parent int NOT NULL REFERENCES parent ON DELETE CASCADE ON UPDATE SET NULL DEFERRABLE INITIALLY DEFERRED,
    a int, b int,
    CONSTRAINT child_pair UNIQUE (a, b) INCLUDE (parent) DEFERRABLE,
    CONSTRAINT child_late UNIQUE (b) DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE child_target (a int, b int, PRIMARY KEY (a, b));
CREATE TABLE grandchild (
    id int GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 5) PRIMARY KEY,
    a int, b int,
    CONSTRAINT "both" FOREIGN KEY (a, b) REFERENCES child_target (a, b) MATCH FULL
);
COMMENT ON CONSTRAINT "both" ON grandchild IS 'a constraint';
CREATE TABLE orphan (parent int);
INSERT INTO orphan VALUES (404);
ALTER TABLE orphan ADD CONSTRAINT not_checked FOREIGN KEY (parent) REFERENCES parent NOT VALID;
ALTER TABLE orphan ADD CONSTRAINT not_checked_either CHECK (parent < 100) NOT VALID;
CREATE TABLE hen (id int PRIMARY KEY, egg int);
CREATE TABLE egg (id int PRIMARY KEY, hen int REFERENCES hen ON DELETE RESTRICT);
ALTER TABLE hen ADD CONSTRAINT hen_egg FOREIGN KEY (egg) REFERENCES egg ON DELETE SET DEFAULT;
CREATE TABLE "Odd table; %" (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "a b" text DEFAULT 'x''\ %s;',
    "select" int GENERATED ALWAYS AS (length("a b") * 2) STORED,
    "UPPER" text COLLATE "C" CONSTRAINT "Odd check; %" CHECK ("UPPER" = upper("UPPER"))
);
COMMENT ON TABLE "Odd table; %" IS 'a table';
COMMENT ON COLUMN "Odd table; %"."a b" IS 'a column';
CREATE TABLE columns (
    id serial PRIMARY KEY,
    big bigserial,
    number int GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME counter MINVALUE -5 START -5 CYCLE),
    dropped int,
    feeling mood DEFAULT 'ok' NOT NULL,
    feelings mood[] DEFAULT '{ok,sad}',
    home address DEFAULT ROW('s', 'z', NULL)::address,
    homes address[],
    amount positive,
    letters code DEFAULT 'EUR',
    evens even,
    span text_range DEFAULT text_range('a', 'b'),
    spans many_texts,
    at timestamptz(3) DEFAULT now() NOT NULL,
    price numeric(10, 2) DEFAULT -1.50,
    bits bit(3) DEFAULT B'101',
    during interval DAY TO SECOND(2),
    day date DEFAULT '2026-02-03',
    body jsonb DEFAULT '{"a": ["b", 1]}',
    tag text DEFAULT next_code(),
    label text DEFAULT slug('A B'),
    lonely bigint DEFAULT nextval('lonely'),
    slugged text GENERATED ALWAYS AS (slug(tag)) STORED
);
ALTER TABLE columns DROP COLUMN dropped;
ALTER TABLE columns ADD COLUMN late int DEFAULT 42 NOT NULL;
ALTER TABLE columns ALTER label SET STORAGE EXTERNAL, ALTER tag SET COMPRESSION pglz,
    ALTER tag SET STATISTICS 250, ALTER at SET (n_distinct = -0.5), ALTER body SET STORAGE MAIN;
INSERT INTO columns (tag, feeling) VALUES ('One Two', 'sad'), ('Three', 'ok'), (NULL, 'ok');
CREATE UNLOGGED TABLE settings (id int, body text) WITH (fillfactor = 70, autovacuum_enabled = false,
    autovacuum_vacuum_scale_factor = 0.5, toast.autovacuum_enabled = false, user_catalog_table = false);
CREATE TABLE no_columns ();
CREATE TABLE typed OF "Odd type; %" (PRIMARY KEY (n));
CREATE TABLE with_row_default (id int, copy parent, copies parent[]);
CREATE TABLE is_full (id int);
ALTER TABLE is_full REPLICA IDENTITY FULL;
CREATE TABLE is_nothing (id int);
ALTER TABLE is_nothing REPLICA IDENTITY NOTHING;
CREATE TABLE is_index (id int NOT NULL);
CREATE UNIQUE INDEX is_index_id ON is_index (id);
ALTER TABLE is_index REPLICA IDENTITY USING INDEX is_index_id;
CREATE TABLE bookings (room text, during tsrange, active bool,
    CONSTRAINT no_overlap EXCLUDE USING gist (during WITH &&) WHERE (active),
    CONSTRAINT one_slug EXCLUDE (slug(room) WITH =) DEFERRABLE);
CREATE TABLE with_checks (id int, status varchar(10), kind mood,
    CONSTRAINT some_status CHECK (status IN ('new', 'paid', 'it''s]')),
    CONSTRAINT nested CHECK ((id > 0 AND (id < 10 AND status <> '')) OR NOT (id = 5 OR id IS NULL)),
    CONSTRAINT not_inherited CHECK (id <> 7) NO INHERIT,
    CONSTRAINT by_function CHECK (slug(status) <> 'x'),
    CHECK (kind IN ('sad', 'ok')));
CREATE TABLE "lower" (id int PRIMARY KEY);
CREATE TABLE names_with_dots ("a.b" int, "c""d" int);
GRANT SELECT, INSERT ON parent TO PUBLIC;
GRANT SELECT ON child TO pg_monitor WITH GRANT OPTION;
GRANT SELECT (id), UPDATE (a, b) ON child TO pg_read_all_data;
REVOKE DELETE ON hen FROM CURRENT_USER;

-- inheritance and partitions ------------------------------------------------------------------
CREATE TABLE animal (id serial, name text NOT NULL DEFAULT 'any', legs int CONSTRAINT has_legs CHECK (legs >= 0),
    twice int GENERATED ALWAYS AS (legs * 2) STORED);
CREATE TABLE plant (name text NOT NULL, height int);
CREATE TABLE dog (breed text, legs int DEFAULT 4) INHERITS (animal);
CREATE TABLE puppy (CONSTRAINT young CHECK (age < 2), age int) INHERITS (dog);
ALTER TABLE puppy ALTER breed SET NOT NULL, ALTER name SET DEFAULT 'pup';
CREATE TABLE triffid () INHERITS (animal, plant);
INSERT INTO animal (name) VALUES ('a');
INSERT INTO dog (name, breed) VALUES ('rex', 'pug');
INSERT INTO puppy (breed) VALUES ('mutt');
CREATE TABLE part (day date NOT NULL, n int, region text, CONSTRAINT n_small CHECK (n < 1000)) PARTITION BY RANGE (day);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE part_2 (n int, junk int, region text DEFAULT 'eu', day date NOT NULL, CONSTRAINT n_small CHECK (n < 1000),
    CONSTRAINT own CHECK (n > -5));
ALTER TABLE part_2 DROP COLUMN junk;
ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM ('2026-07-01') TO (MAXVALUE);
CREATE TABLE part_rest PARTITION OF part DEFAULT PARTITION BY LIST (region);
CREATE TABLE part_rest_eu PARTITION OF part_rest FOR VALUES IN ('eu', 'e''u', NULL) PARTITION BY HASH (n, lower(region));
CREATE TABLE part_rest_eu_0 PARTITION OF part_rest_eu FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE part_rest_eu_1 PARTITION OF part_rest_eu FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE part_rest_rest PARTITION OF part_rest DEFAULT;
CREATE INDEX part_n ON part (n);
CREATE INDEX only_one ON part_1 (region);
CREATE INDEX part_lower ON ONLY part (lower(region)) WHERE n > 0;
CREATE INDEX part_1_lower_odd_name ON part_1 (lower(region)) WHERE n > 0;
ALTER INDEX part_lower ATTACH PARTITION part_1_lower_odd_name;
INSERT INTO part VALUES ('2026-05-05', 1, 'x'), ('2026-08-08', 2, 'y'), ('2020-01-01', 3, 'eu'), ('2020-01-01', 4, NULL),
    ('2020-01-01', 5, 'us');
CREATE TABLE keyed (id int, kind text, owner int REFERENCES parent, CONSTRAINT keyed_key PRIMARY KEY (id, kind),
    CONSTRAINT keyed_owner UNIQUE (owner, id, kind)) PARTITION BY LIST (kind);
CREATE TABLE keyed_a (kind text NOT NULL, id int NOT NULL, owner int, CONSTRAINT own_key PRIMARY KEY (id, kind),
    CONSTRAINT own_reference FOREIGN KEY (owner) REFERENCES parent);
ALTER TABLE keyed ATTACH PARTITION keyed_a FOR VALUES IN ('a');
CREATE TABLE keyed_b PARTITION OF keyed FOR VALUES IN ('b');
CREATE TABLE refers_to_keyed (id int, kind text, CONSTRAINT to_keyed FOREIGN KEY (id, kind) REFERENCES keyed);
CREATE TABLE stamped (at timestamptz NOT NULL, n int) PARTITION BY RANGE (at);
CREATE TABLE stamped_1 PARTITION OF stamped FOR VALUES FROM ('2026-01-01 00:00+02') TO ('2026-02-01 00:00+02');
COMMENT ON TABLE part_1 IS 'a partition';
COMMENT ON INDEX part_n IS 'an index';

-- indexes -------------------------------------------------------------------------------------
CREATE TABLE indexed (id int PRIMARY KEY, name text, status varchar(10), body jsonb, tags text[], at timestamptz, box box, n int);
CREATE UNIQUE INDEX by_slug ON indexed (slug(name) DESC NULLS LAST, (n + 1)) INCLUDE (status);
CREATE INDEX some_status_index ON indexed (status) WHERE status IN ('new', 'paid') AND (n > 1 OR n IS NULL);
CREATE INDEX by_prefix ON indexed (name text_pattern_ops, status varchar_pattern_ops DESC);
CREATE INDEX by_collation ON indexed (name COLLATE "C", lower(status) COLLATE "POSIX");
CREATE INDEX by_body ON indexed USING gin (body jsonb_path_ops) WITH (fastupdate = off);
CREATE INDEX by_tags ON indexed USING gin (tags);
CREATE INDEX by_box ON indexed USING gist (box) WITH (fillfactor = 50);
CREATE INDEX by_point ON indexed USING spgist (name);
CREATE INDEX by_at ON indexed USING brin (at) WITH (pages_per_range = 16);
CREATE INDEX by_minmax ON indexed USING brin (n int4_minmax_multi_ops (values_per_range = 16));
CREATE INDEX by_hash ON indexed USING hash (name);
CREATE INDEX "Odd index; %" ON indexed (id) WHERE name = ' ON indexed; "x" ';
ALTER INDEX by_slug ALTER COLUMN 2 SET STATISTICS 300;
ALTER TABLE indexed CLUSTER ON by_prefix;
CREATE STATISTICS some_statistics (ndistinct, mcv) ON status, n, (lower(name)) FROM indexed;
ALTER STATISTICS some_statistics SET STATISTICS 55;
CREATE STATISTICS "Odd statistics; %" ON (n * 2) FROM indexed;
COMMENT ON STATISTICS some_statistics IS 'extended statistics';

-- functions that use tables and types, tables that use those functions -----------------------
CREATE FUNCTION full_name(animal) RETURNS text LANGUAGE sql STABLE AS $$ SELECT $1.name || ' full' $$;
CREATE FUNCTION children(parent) RETURNS SETOF child LANGUAGE sql STABLE
    BEGIN ATOMIC
        SELECT * FROM child WHERE child.parent = $1.id AND child.a IN (1, 2);
    END;
CREATE FUNCTION count_eggs() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM egg; END;
CREATE TABLE counts_eggs (id int, eggs bigint DEFAULT count_eggs(), CHECK (eggs <= count_eggs()));
CREATE FUNCTION rows_of() RETURNS TABLE (a int, "b c" mood) LANGUAGE sql ROWS 5
    AS $$ SELECT 1, 'ok'::mood $$;
CREATE TABLE circle (id int PRIMARY KEY, n bigint);
CREATE FUNCTION circle_size() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM circle; END;
ALTER TABLE circle ALTER n SET DEFAULT circle_size(), ADD CONSTRAINT in_circle CHECK (n <= circle_size());
CREATE PROCEDURE tidy(INOUT n int DEFAULT 3) LANGUAGE plpgsql AS $$ BEGIN DELETE FROM no_such_table; COMMIT; END $$;
COMMENT ON PROCEDURE tidy IS 'a procedure';
CREATE FUNCTION upsert(int) RETURNS void LANGUAGE sql
    BEGIN ATOMIC
        INSERT INTO parent VALUES ($1, NULL) ON CONFLICT ON CONSTRAINT parent_key DO NOTHING;
    END;
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', COMBINEFUNC = int4pl, PARALLEL = SAFE,
    MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = int, MINITCOND = '0');
CREATE FUNCTION add_slug(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT concat($1, slug($2)) $$;
CREATE AGGREGATE slugs(words text) (SFUNC = add_slug, STYPE = text, FINALFUNC = upper);
COMMENT ON AGGREGATE slugs(text) IS 'an aggregate';

-- views ---------------------------------------------------------------------------------------
CREATE VIEW z_base AS SELECT id, name, status FROM indexed WHERE status IN ('new', 'paid') WITH LOCAL CHECK OPTION;
CREATE VIEW a_top (first, second) WITH (security_barrier) AS SELECT id, slug(name) FROM z_base;
ALTER VIEW z_base ALTER COLUMN status SET DEFAULT 'new';
CREATE VIEW grouped AS SELECT indexed.*, count(*) AS how_many FROM indexed JOIN hen ON hen.id = n GROUP BY indexed.id;
CREATE RECURSIVE VIEW numbers (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 5;
CREATE FUNCTION first_of_top() RETURNS a_top LANGUAGE sql STABLE BEGIN ATOMIC SELECT * FROM a_top LIMIT 1; END;
CREATE VIEW of_function AS SELECT (first_of_top()).*, total(n) FROM numbers;
COMMENT ON VIEW z_base IS 'a view';
COMMENT ON COLUMN z_base.id IS 'a column of a view';
GRANT SELECT ON a_top TO PUBLIC;
CREATE MATERIALIZED VIEW z_dogs WITH (fillfactor = 90) AS SELECT breed, count(*) AS n FROM dog GROUP BY breed;
CREATE UNIQUE INDEX z_dogs_breed ON z_dogs (breed);
CREATE MATERIALIZED VIEW a_dogs AS SELECT sum(n) FROM z_dogs;
CREATE MATERIALIZED VIEW never AS SELECT 1 AS one WITH NO DATA;
CREATE INDEX never_one ON never (one);
ALTER MATERIALIZED VIEW z_dogs ALTER COLUMN breed SET STATISTICS 10;
COMMENT ON MATERIALIZED VIEW z_dogs IS 'a materialised view';

-- triggers, rules, policies -------------------------------------------------------------------
CREATE TABLE audit (id serial, what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (what) VALUES (TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE OF a, b OR DELETE ON child FOR EACH ROW
    WHEN (pg_trigger_depth() < 5) EXECUTE FUNCTION note('x', 'it''s');
CREATE TRIGGER silent AFTER DELETE ON hen FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE hen DISABLE TRIGGER silent;
CREATE TRIGGER always AFTER UPDATE ON hen FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION note();
ALTER TABLE hen ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER "Odd trigger ON hen" BEFORE TRUNCATE ON hen FOR EACH STATEMENT EXECUTE FUNCTION note();
ALTER TABLE hen ENABLE REPLICA TRIGGER "Odd trigger ON hen";
CREATE TRIGGER many AFTER UPDATE ON hen REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON egg FROM hen DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER instead INSTEAD OF INSERT ON a_top FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER on_parts AFTER INSERT ON part FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE part_1 DISABLE TRIGGER on_parts;
CREATE TRIGGER on_one AFTER INSERT ON part_2 FOR EACH ROW EXECUTE FUNCTION note();
COMMENT ON TRIGGER noted ON child IS 'a trigger';
CREATE RULE forget AS ON DELETE TO audit WHERE OLD.id > 5 DO INSTEAD NOTHING;
CREATE RULE on_top AS ON UPDATE TO a_top DO INSTEAD (
    UPDATE indexed SET name = NEW.second WHERE id = OLD.first; INSERT INTO audit (what) VALUES ('top'));
ALTER TABLE audit DISABLE RULE forget;
COMMENT ON RULE on_top ON a_top IS 'a rule';
CREATE TABLE guarded (id int, owner text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON guarded AS RESTRICTIVE FOR UPDATE TO pg_monitor, pg_read_all_data
    USING (owner = CURRENT_USER) WITH CHECK (owner IN ('a', 'b') AND id IN (SELECT id FROM hen));
CREATE POLICY "Odd policy; %" ON guarded USING (slug(owner) <> '');
COMMENT ON POLICY own ON guarded IS 'a policy';
CREATE TABLE forced (id int);
ALTER TABLE forced FORCE ROW LEVEL SECURITY;

-- rows ----------------------------------------------------------------------------------------
INSERT INTO parent VALUES (1, NULL), (2, 1);
INSERT INTO child VALUES (1, 2, 1, 1);
INSERT INTO "Odd table; %" ("a b") VALUES ('one'), ('three');
INSERT INTO egg VALUES (1, NULL);
INSERT INTO hen VALUES (1, 1);
INSERT INTO keyed VALUES (1, 'a', 1), (1, 'b', NULL);
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO settings VALUES (1, repeat('x', 10000));
INSERT INTO guarded VALUES (1, 'a');
REFRESH MATERIALIZED VIEW z_dogs;
REFRESH MATERIALIZED VIEW a_dogs;
"""

ZOO_15 = r"""
CREATE TABLE no_two_nulls (a int, b int, CONSTRAINT one_null UNIQUE NULLS NOT DISTINCT (a, b));
CREATE UNIQUE INDEX one_null_index ON no_two_nulls (b) NULLS NOT DISTINCT;
CREATE VIEW as_invoker WITH (security_invoker = true) AS SELECT * FROM no_two_nulls;
CREATE TABLE sets_null (a int, b int, c int, CONSTRAINT only_b FOREIGN KEY (a, b) REFERENCES child_target (a, b) ON DELETE SET NULL (b));
CREATE UNLOGGED SEQUENCE unlogged_sequence;
"""

ZOO_18 = r"""
CREATE TABLE virtual (id int CONSTRAINT virtual_key PRIMARY KEY, price int CONSTRAINT "a price; %" NOT NULL,
    double int GENERATED ALWAYS AS (price * 2) VIRTUAL, triple int GENERATED ALWAYS AS (price * 3) STORED);
INSERT INTO virtual (id, price) VALUES (1, 2);
CREATE TABLE not_enforced (id int CONSTRAINT seen NOT NULL NO INHERIT, up int,
    CONSTRAINT not_enforced_key FOREIGN KEY (up) REFERENCES parent NOT ENFORCED,
    CONSTRAINT not_enforced_check CHECK (id > 5) NOT ENFORCED);
INSERT INTO not_enforced VALUES (1, 404);
CREATE TABLE late_null (id int, up int);
INSERT INTO late_null VALUES (NULL, 1);
ALTER TABLE late_null ADD CONSTRAINT from_now_on NOT NULL id NOT VALID;
CREATE TABLE periods (id int4range, valid daterange, CONSTRAINT periods_key PRIMARY KEY (id, valid WITHOUT OVERLAPS));
CREATE TABLE in_period (id int4range, valid daterange,
    CONSTRAINT in_period_key FOREIGN KEY (id, PERIOD valid) REFERENCES periods (id, PERIOD valid));
CREATE DOMAIN named_null AS int CONSTRAINT "not null; %" NOT NULL;
CREATE TABLE heir (CONSTRAINT heir_name NOT NULL legs) INHERITS (animal);
CREATE TABLE identified (id int GENERATED ALWAYS AS IDENTITY, n int CONSTRAINT n_known NOT NULL) PARTITION BY LIST (n);
CREATE TABLE identified_1 PARTITION OF identified FOR VALUES IN (1);
INSERT INTO identified (n) VALUES (1), (1);
"""

# Needs the extensions citext, hstore, pg_trgm and btree_gist on the search_path.
ZOO_EXTENSIONS = r"""
CREATE TABLE extended (id int, email citext UNIQUE DEFAULT 'A@b', tags hstore, name text,
    CONSTRAINT some_email CHECK (email IN ('a', 'b') OR email <> ''),
    CONSTRAINT one_room EXCLUDE USING gist (id WITH =, name WITH <>));
CREATE INDEX by_trigram ON extended USING gin (name gin_trgm_ops);
CREATE VIEW alike AS SELECT id, name % 'x' AS is_alike, tags -> 'a' AS tag, email = 'A@B' AS is_it FROM extended;
CREATE FUNCTION alike(citext, hstore DEFAULT '') RETURNS citext LANGUAGE sql BEGIN ATOMIC SELECT $1 || ($2 -> 'a'); END;
INSERT INTO extended VALUES (1, 'a', 'a=>1', 'x');
"""


def zoo(version: int, *, extensions: bool = False) -> str:
    """Return all of it that a server of one major version can have."""
    parts = [ZOO, ZOO_15 if version >= 15 else "", ZOO_18 if version >= 18 else ""]
    return "".join([*parts, ZOO_EXTENSIONS if extensions else ""])

"""The statements that make the objects of a schema, except tables: one query for each kind.

The queries print names relative to the search_path, and run inside of ``catalogue.printed``.
"""

from collections.abc import Iterator
from typing import Final, LiteralString

from itkit.postgres.clone.dependencies import Address
from itkit.postgres.server.driver import Connection

# Some definitions qualify the name of their object, always in the same position.
_PREFIX: Final = "length(quote_ident(current_schema()) || '.')"


def _relative(head: LiteralString, definition: LiteralString) -> LiteralString:
    """Return SQL for a definition without the schema, which follows a known head."""
    return f"{head} || substr({definition}, length({head}) + {_PREFIX} + 1)"


_ENUMS: LiteralString = """
    SELECT 'pg_type', t.oid, format('CREATE TYPE %I AS ENUM (%s)', t.typname,
        (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
         FROM pg_enum WHERE enumtypid = t.oid))
    FROM pg_type t WHERE t.typnamespace = current_schema()::regnamespace AND t.typtype = 'e'
"""
_COMPOSITES: LiteralString = """
    SELECT 'pg_type', t.oid, format('CREATE TYPE %I AS (%s)', t.typname,
        (SELECT string_agg(concat_ws(' ', quote_ident(a.attname),
            format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attcollation NOT IN (0, e.typcollation)
                THEN 'COLLATE ' || a.attcollation::regcollation END), ', ' ORDER BY a.attnum)
         FROM pg_attribute a JOIN pg_type e ON e.oid = a.atttypid
         WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
    FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
    WHERE t.typnamespace = current_schema()::regnamespace
"""
_RANGES: LiteralString = """
    SELECT 'pg_type', t.oid, format('CREATE TYPE %I AS RANGE (%s)', t.typname, concat_ws(', ',
        'SUBTYPE = ' || r.rngsubtype::regtype,
        format('SUBTYPE_OPCLASS = %s%I',
            CASE WHEN NOT pg_opclass_is_visible(o.oid) THEN o.opcnamespace::regnamespace || '.' END,
            o.opcname),
        'COLLATION = ' || nullif(r.rngcollation, 0)::regcollation,
        'SUBTYPE_DIFF = ' || nullif(r.rngsubdiff, 0)::regproc,
        format('MULTIRANGE_TYPE_NAME = %I', m.typname)))
    FROM pg_type t JOIN pg_range r ON r.rngtypid = t.oid JOIN pg_opclass o ON o.oid = r.rngsubopc
        JOIN pg_type m ON m.oid = r.rngmultitypid
    WHERE t.typnamespace = current_schema()::regnamespace
"""
# The name of the column with the locale depends on the server's version.
_COLLATIONS: LiteralString = """
    SELECT 'pg_collation', c.oid, format('CREATE COLLATION %I (%s)', c.collname, concat_ws(', ',
        'PROVIDER = ' || CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin'
            ELSE 'libc' END,
        CASE WHEN c.collprovider = 'c' THEN format('LC_COLLATE = %L, LC_CTYPE = %L', c.collcollate,
                c.collctype)
            ELSE format('LOCALE = %L',
                coalesce(row ->> 'colllocale', row ->> 'colliculocale', c.collcollate)) END,
        CASE WHEN NOT c.collisdeterministic THEN 'DETERMINISTIC = false' END,
        'RULES = ' || quote_literal(row ->> 'collicurules')))
    FROM pg_collation c, to_jsonb(c) row WHERE c.collnamespace = current_schema()::regnamespace
"""
# Since Postgres 17, NOT NULL of a domain is a constraint with a name.
_DOMAINS: LiteralString = """
    SELECT 'pg_type', t.oid, concat_ws(' ', format('CREATE DOMAIN %I AS', t.typname),
        format_type(t.typbasetype, t.typtypmod), CASE WHEN t.typcollation NOT IN (0, b.typcollation)
            THEN 'COLLATE ' || t.typcollation::regcollation END, 'DEFAULT ' || t.typdefault,
        CASE WHEN t.typnotnull AND NOT EXISTS (SELECT FROM pg_constraint
            WHERE contypid = t.oid AND contype = 'n') THEN 'NOT NULL' END)
    FROM pg_type t JOIN pg_type b ON b.oid = t.typbasetype
    WHERE t.typnamespace = current_schema()::regnamespace AND t.typtype = 'd'
"""
_DOMAIN_CONSTRAINTS: LiteralString = """
    SELECT 'pg_constraint', oid, format('ALTER DOMAIN %s ADD CONSTRAINT %I %s', contypid::regtype,
        conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = current_schema()::regnamespace AND contypid <> 0
"""
_FUNCTION_HEAD: Final = (
    "CASE p.prokind WHEN 'p' THEN 'CREATE OR REPLACE PROCEDURE '"
    " ELSE 'CREATE OR REPLACE FUNCTION ' END"
)
# The constructors of a range are made with the range.
_FUNCTIONS: LiteralString = f"""
    SELECT 'pg_proc', p.oid, {_relative(_FUNCTION_HEAD, "pg_get_functiondef(p.oid)")}
    FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace AND p.prokind <> 'a'
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass
            AND objid = p.oid AND deptype = 'i')
"""
_AGGREGATES: LiteralString = """
    SELECT 'pg_proc', p.oid, format('CREATE AGGREGATE %I(%s) (%s)', p.proname,
        coalesce(nullif(pg_get_function_arguments(p.oid), ''), '*'), concat_ws(', ',
        format('SFUNC = %s, STYPE = %s', a.aggtransfn, a.aggtranstype::regtype),
        'SSPACE = ' || nullif(a.aggtransspace, 0),
        'FINALFUNC = ' || nullif(a.aggfinalfn, 0)::regproc,
        CASE WHEN a.aggfinalextra THEN 'FINALFUNC_EXTRA' END,
        'FINALFUNC_MODIFY = ' || CASE a.aggfinalmodify WHEN 'r' THEN 'READ_ONLY'
            WHEN 's' THEN 'SHAREABLE' ELSE 'READ_WRITE' END,
        'COMBINEFUNC = ' || nullif(a.aggcombinefn, 0)::regproc,
        'SERIALFUNC = ' || nullif(a.aggserialfn, 0)::regproc,
        'DESERIALFUNC = ' || nullif(a.aggdeserialfn, 0)::regproc,
        'INITCOND = ' || quote_literal(a.agginitval),
        'MSFUNC = ' || nullif(a.aggmtransfn, 0)::regproc,
        'MINVFUNC = ' || nullif(a.aggminvtransfn, 0)::regproc,
        'MSTYPE = ' || nullif(a.aggmtranstype, 0)::regtype,
        'MSSPACE = ' || nullif(a.aggmtransspace, 0),
        'MFINALFUNC = ' || nullif(a.aggmfinalfn, 0)::regproc,
        CASE WHEN a.aggmfinalextra THEN 'MFINALFUNC_EXTRA' END,
        CASE WHEN a.aggmtransfn <> 0 THEN 'MFINALFUNC_MODIFY = ' || CASE a.aggmfinalmodify
            WHEN 'r' THEN 'READ_ONLY' WHEN 's' THEN 'SHAREABLE' ELSE 'READ_WRITE' END END,
        'MINITCOND = ' || quote_literal(a.aggminitval),
        (SELECT 'SORTOP = ' || format('OPERATOR(%I.%s)', o.oprnamespace::regnamespace, o.oprname)
         FROM pg_operator o WHERE o.oid = a.aggsortop),
        'PARALLEL = ' || CASE p.proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED'
            ELSE 'UNSAFE' END,
        CASE WHEN a.aggkind = 'h' THEN 'HYPOTHETICAL' END))
    FROM pg_proc p JOIN pg_aggregate a ON a.aggfnoid = p.oid
    WHERE p.pronamespace = current_schema()::regnamespace
"""
_SEQUENCES: LiteralString = """
    SELECT s.seqrelid, EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
            AND objid = s.seqrelid AND deptype = 'i'),
        CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END, quote_ident(c.relname),
        s.seqtypid::regtype::text, format('START WITH %s INCREMENT BY %s MINVALUE %s MAXVALUE %s'
            ' CACHE %s%s CYCLE', s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache,
            CASE WHEN s.seqcycle THEN '' ELSE ' NO' END)
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
    WHERE c.relnamespace = current_schema()::regnamespace ORDER BY c.oid
"""
_VIEWS: LiteralString = """
    SELECT 'pg_class', c.oid, concat_ws(' ', CASE c.relkind WHEN 'v' THEN 'CREATE VIEW'
            ELSE 'CREATE MATERIALIZED VIEW' END, quote_ident(c.relname),
        (SELECT format('USING %I', amname) FROM pg_am WHERE oid = c.relam AND amname <> 'heap'),
        'AS', rtrim(pg_get_viewdef(c.oid), ';'),
        CASE c.relkind WHEN 'm' THEN 'WITH NO DATA' END)
    FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
        AND c.relkind IN ('v', 'm')
"""

# From here on, each query returns only statements, in their order.
_OWNERS: LiteralString = """
    SELECT format('ALTER SEQUENCE %I OWNED BY %s.%I', c.relname, d.refobjid::regclass, a.attname)
    FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
            AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'S' ORDER BY c.oid
"""
_INDEXES: LiteralString = """
    SELECT pg_get_indexdef(c.oid, 0, true)
    FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
        AND c.relkind IN ('i', 'I')
        AND NOT EXISTS (SELECT FROM pg_constraint
        WHERE conindid = c.oid AND contype IN ('p', 'u', 'x'))
    ORDER BY c.oid
"""
# The index of a constraint is attached when the partition is.
_ATTACHED_INDEXES: LiteralString = """
    SELECT format('ALTER INDEX %s ATTACH PARTITION %s', i.inhparent::regclass, i.inhrelid::regclass)
    FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('i', 'I')
        AND NOT EXISTS (SELECT FROM pg_constraint
            WHERE conindid = i.inhparent AND contype IN ('p', 'u', 'x'))
    ORDER BY c.oid
"""
_INDEX_STATISTICS: LiteralString = """
    SELECT format('ALTER INDEX %I ALTER COLUMN %s SET STATISTICS %s', c.relname, a.attnum,
        a.attstattarget)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('i', 'I')
        AND a.attstattarget >= 0
    ORDER BY c.oid, a.attnum
"""
_STATISTICS: LiteralString = f"""
    SELECT s.statement FROM pg_statistic_ext x, LATERAL (VALUES
        (1, {_relative("'CREATE STATISTICS '", "pg_get_statisticsobjdef(x.oid)")}),
        (2, format('ALTER STATISTICS %I SET STATISTICS %s', x.stxname, nullif(x.stxstattarget, -1)))
    ) s(number, statement)
    WHERE x.stxnamespace = current_schema()::regnamespace
        AND (number = 1 OR coalesce(x.stxstattarget, -1) >= 0)
    ORDER BY x.oid, s.number
"""
# A partition gets its parent's triggers from there; servers before 15 call them internal.
_TRIGGERS: LiteralString = """
    SELECT pg_get_triggerdef(t.oid, true)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal
        AND t.tgparentid = 0 ORDER BY t.oid
"""
_RULES: LiteralString = """
    SELECT pg_get_ruledef(w.oid, true)
    FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
    WHERE c.relnamespace = current_schema()::regnamespace AND w.rulename <> '_RETURN' ORDER BY w.oid
"""
_POLICIES: LiteralString = """
    SELECT concat_ws(' ', format('CREATE POLICY %I ON %I AS', p.polname, c.relname),
        CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
        'FOR ' || CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
            WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
        'TO ' || (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC'
            WHEN quote_ident(current_user)::regrole THEN 'CURRENT_USER'
            ELSE quote_ident(pg_get_userbyid(role)) END, ', ') FROM unnest(p.polroles) role),
        'USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
        'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    WHERE c.relnamespace = current_schema()::regnamespace ORDER BY p.oid
"""
_STATE: Final = """CASE s.state WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS'
    WHEN 'R' THEN 'ENABLE REPLICA' END"""
# The settings that a table gets at the end; most tables have none.
_SETTINGS: LiteralString = f"""
    SELECT format('ALTER TABLE ONLY %I %s', c.relname, string_agg(s.action, ', '))
    FROM pg_class c JOIN LATERAL (
        SELECT 'ENABLE ROW LEVEL SECURITY' AS action WHERE c.relrowsecurity
        UNION ALL SELECT 'FORCE ROW LEVEL SECURITY' WHERE c.relforcerowsecurity
        UNION ALL SELECT 'OF ' || c.reloftype::regtype WHERE c.reloftype <> 0
        UNION ALL SELECT 'REPLICA IDENTITY ' || CASE c.relreplident WHEN 'f' THEN 'FULL'
            ELSE 'NOTHING' END
            WHERE c.relreplident IN ('f', 'n') AND c.relkind <> 'v'
        UNION ALL SELECT 'REPLICA IDENTITY USING INDEX ' || indexrelid::regclass FROM pg_index
            WHERE indrelid = c.oid AND indisreplident
        UNION ALL SELECT 'CLUSTER ON ' || indexrelid::regclass FROM pg_index
            WHERE indrelid = c.oid AND indisclustered
        UNION ALL SELECT format('%s TRIGGER %I', {_STATE}, s.name)
            FROM (SELECT tgenabled AS state, tgname AS name FROM pg_trigger WHERE tgrelid = c.oid
                AND tgenabled <> 'O' AND (NOT tgisinternal OR tgconstraint = 0)) s
        UNION ALL SELECT format('%s RULE %I', {_STATE}, s.name)
            FROM (SELECT ev_enabled AS state, rulename AS name FROM pg_rewrite
                WHERE ev_class = c.oid AND ev_enabled <> 'O') s
    ) s ON true
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
    GROUP BY c.oid, c.relname ORDER BY c.oid
"""
_COMMENTS: LiteralString = """
    SELECT format('COMMENT ON %s IS %L', o.target, d.description)
    FROM pg_description d JOIN (
        SELECT 'pg_class' AS catalogue, c.oid, 0 AS part, CASE c.relkind WHEN 'v' THEN 'VIEW'
            WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'i' THEN 'INDEX'
            WHEN 'I' THEN 'INDEX' ELSE 'TABLE' END || ' ' || quote_ident(c.relname) AS target
        FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
            AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'i', 'I')
        UNION ALL SELECT 'pg_class', c.oid, a.attnum, format('COLUMN %I.%I', c.relname, a.attname)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = current_schema()::regnamespace
        UNION ALL SELECT 'pg_type', t.oid, 0, CASE t.typtype WHEN 'd' THEN 'DOMAIN '
            ELSE 'TYPE ' END
            || t.oid::regtype FROM pg_type t WHERE t.typnamespace = current_schema()::regnamespace
        UNION ALL SELECT 'pg_proc', p.oid, 0, CASE p.prokind WHEN 'p' THEN 'PROCEDURE '
            WHEN 'a' THEN 'AGGREGATE ' ELSE 'FUNCTION ' END || format('%I(%s)', p.proname,
            CASE p.prokind WHEN 'a' THEN coalesce(nullif(pg_get_function_arguments(p.oid), ''), '*')
                ELSE pg_get_function_identity_arguments(p.oid) END)
        FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace
        UNION ALL SELECT 'pg_constraint', k.oid, 0, format('CONSTRAINT %I ON %s', k.conname,
            CASE k.contypid WHEN 0 THEN k.conrelid::regclass::text
                ELSE 'DOMAIN ' || k.contypid::regtype END)
        FROM pg_constraint k WHERE k.connamespace = current_schema()::regnamespace
            AND k.contype <> 't'
        UNION ALL SELECT 'pg_collation', c.oid, 0, format('COLLATION %I', c.collname)
        FROM pg_collation c WHERE c.collnamespace = current_schema()::regnamespace
        UNION ALL SELECT 'pg_statistic_ext', x.oid, 0, format('STATISTICS %I', x.stxname)
        FROM pg_statistic_ext x WHERE x.stxnamespace = current_schema()::regnamespace
        UNION ALL SELECT 'pg_trigger', t.oid, 0, format('TRIGGER %I ON %I', t.tgname, c.relname)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = current_schema()::regnamespace
        UNION ALL SELECT 'pg_rewrite', w.oid, 0, format('RULE %I ON %I', w.rulename, c.relname)
        FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
        WHERE c.relnamespace = current_schema()::regnamespace
        UNION ALL SELECT 'pg_policy', p.oid, 0, format('POLICY %I ON %I', p.polname, c.relname)
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        WHERE c.relnamespace = current_schema()::regnamespace
    ) o ON d.classoid = o.catalogue::regclass AND d.objoid = o.oid AND d.objsubid = o.part
    ORDER BY o.catalogue, o.oid, o.part
"""

TYPES: Final = (_COLLATIONS, _ENUMS, _COMPOSITES, _RANGES, _DOMAINS, _DOMAIN_CONSTRAINTS)
FUNCTIONS: Final = (_FUNCTIONS, _AGGREGATES)
VIEWS: Final = (_VIEWS,)
INDEXES: Final = (_OWNERS, _INDEXES, _ATTACHED_INDEXES, _INDEX_STATISTICS, _STATISTICS)
BEHAVIOUR: Final = (_TRIGGERS, _RULES, _POLICIES, _SETTINGS)
COMMENTS: Final = (_COMMENTS,)


def creations(
    connection: Connection, queries: tuple[LiteralString, ...]
) -> Iterator[tuple[Address, str]]:
    """Yield the catalogue and id of each object of some kinds, and the statement that makes it."""
    for query in queries:
        for catalogue, oid, statement in connection.execute(query).fetchall():
            yield (catalogue, oid), statement


def statements(connection: Connection, queries: tuple[LiteralString, ...]) -> Iterator[str]:
    """Yield the statements for some kinds, in an order in which they can run."""
    for query in queries:
        for (statement,) in connection.execute(query).fetchall():
            yield statement


def sequences(connection: Connection) -> Iterator[tuple[int, bool, str, str]]:
    """Yield each sequence: id, whether it is of an identity, its options there, its statement."""
    for oid, is_identity, unlogged, name, kind, options in connection.execute(
        _SEQUENCES
    ).fetchall():
        statement = f"CREATE {unlogged}SEQUENCE {name} AS {kind} {options}"
        yield oid, is_identity, f"SEQUENCE NAME {name} {options}", statement

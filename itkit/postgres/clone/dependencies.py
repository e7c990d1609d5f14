"""The dependencies in a schema: the order in which to make its objects, and what is outside."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import LiteralString

from itkit.postgres.server import sql
from itkit.postgres.server.driver import Connection

Address = tuple[str, int]  # the catalogue that has the object as a row, and the object's id there

# Objects that are made as a part of others, which have their dependencies as well.
_PARTS: LiteralString = """
    SELECT 'pg_attrdef', d.oid, 'pg_class', d.adrelid
    FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
    WHERE c.relnamespace = current_schema()::regnamespace
    UNION ALL
    SELECT 'pg_constraint', oid, 'pg_class', conrelid FROM pg_constraint
    WHERE connamespace = current_schema()::regnamespace AND conrelid <> 0
        AND contype IN ('c', 'n', 'p', 'u', 'x')
    UNION ALL
    SELECT 'pg_class', conindid, 'pg_constraint', oid FROM pg_constraint
    WHERE connamespace = current_schema()::regnamespace AND contype IN ('p', 'u', 'x')
    UNION ALL
    SELECT 'pg_class', typrelid, 'pg_type', t.oid
    FROM pg_type t JOIN pg_class c ON c.oid = typrelid
    WHERE typnamespace = current_schema()::regnamespace AND c.relkind = 'c'
    UNION ALL
    SELECT 'pg_type', t.oid, 'pg_class', typrelid
    FROM pg_type t JOIN pg_class c ON c.oid = typrelid
    WHERE typnamespace = current_schema()::regnamespace AND c.relkind <> 'c'
    UNION ALL
    SELECT 'pg_type', typarray, 'pg_type', oid FROM pg_type
    WHERE typnamespace = current_schema()::regnamespace AND typarray <> 0
    UNION ALL
    SELECT 'pg_type', rngmultitypid, 'pg_type', rngtypid
    FROM pg_range JOIN pg_type t ON t.oid = rngtypid
    WHERE typnamespace = current_schema()::regnamespace
    UNION ALL
    SELECT 'pg_rewrite', w.oid, 'pg_class', ev_class
    FROM pg_rewrite w JOIN pg_class c ON c.oid = ev_class
    WHERE c.relnamespace = current_schema()::regnamespace AND rulename = '_RETURN'
    UNION ALL
    SELECT 'pg_proc', d.objid, 'pg_type', d.refobjid
    FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
    WHERE d.deptype = 'i' AND d.classid = 'pg_proc'::regclass
        AND d.refclassid = 'pg_type'::regclass
        AND p.pronamespace = current_schema()::regnamespace
    UNION ALL
    SELECT 'pg_class', d.objid, 'pg_class', d.refobjid
    FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
    WHERE d.deptype = 'i' AND d.classid = 'pg_class'::regclass
        AND d.refclassid = 'pg_class'::regclass AND c.relkind = 'S'
        AND c.relnamespace = current_schema()::regnamespace
"""
# A sequence that a column owns depends on the column, but is made first and assigned later.
_NEEDS: LiteralString = """
    WITH member AS (
        SELECT 'pg_class'::regclass AS classid, oid AS objid FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind <> 'S'
        UNION ALL
        SELECT 'pg_type'::regclass, oid FROM pg_type
        WHERE typnamespace = current_schema()::regnamespace
        UNION ALL
        SELECT 'pg_proc'::regclass, oid FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
        UNION ALL
        SELECT 'pg_constraint'::regclass, oid FROM pg_constraint
        WHERE connamespace = current_schema()::regnamespace
        UNION ALL
        SELECT 'pg_attrdef'::regclass, d.oid FROM pg_attrdef d JOIN pg_class c ON c.oid = adrelid
        WHERE relnamespace = current_schema()::regnamespace
        UNION ALL
        SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite w JOIN pg_class c ON c.oid = ev_class
        WHERE relnamespace = current_schema()::regnamespace
    )
    SELECT DISTINCT classid::text, objid, refclassid::regclass::text, refobjid
    FROM member JOIN pg_depend USING (classid, objid)
    WHERE refclassid IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass,
        'pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_collation'::regclass)
"""

# All that depends on a namespace, directly or through other objects.
_REACH: LiteralString = """
    SELECT 'pg_namespace'::regclass::oid AS classid, oid AS objid FROM pg_namespace
    WHERE nspname = {schema}
    UNION
    SELECT d.classid, d.objid FROM {itself} JOIN pg_depend d
        ON d.refclassid = {itself}.classid AND d.refobjid = {itself}.objid
"""
# The part of it that is dropped with the schema: objects in it, and parts of them.
_CONTENT: LiteralString = (
    _REACH + " WHERE d.deptype <> 'n' OR d.refclassid = 'pg_namespace'::regclass"
)
_OTHERS: LiteralString = """
    WITH RECURSIVE reach AS ({reach}), found AS (
        SELECT classid, objid, schema, identity,
            type || ' ' || replace(identity, quote_ident({schema}) || '.', '') AS name
        FROM reach, pg_identify_object(classid, objid, 0)
    )
    SELECT name FROM found
    WHERE (classid::regclass::text <> ALL ({known}) OR strpos(identity, quote_ident({schema})) = 0)
        AND schema IS DISTINCT FROM 'pg_toast'
    UNION ALL
    SELECT name || ' of the extension ' || e.extname
    FROM found JOIN pg_depend d USING (classid, objid) JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    ORDER BY 1
"""
# An intersection, as the planner underestimates both and would join them in a nested loop.
_REFERENCES: LiteralString = """
    WITH RECURSIVE ours AS ({ours}), theirs AS ({theirs}), used AS (
        SELECT d.classid, d.objid, d.refclassid, d.refobjid
        FROM theirs JOIN pg_depend d ON d.refclassid = theirs.classid AND d.refobjid = theirs.objid
    ), user_of_theirs AS (SELECT * FROM ours INTERSECT SELECT classid, objid FROM used)
    SELECT DISTINCT o.type || ' ' || o.identity, r.type || ' ' || r.identity
    FROM user_of_theirs JOIN used USING (classid, objid),
        pg_identify_object(classid, objid, 0) o, pg_identify_object(refclassid, refobjid, 0) r
    ORDER BY 1, 2
"""


@dataclass
class CloneStep:
    """One object that others may use, and the statements that make it.

    Attributes:
        rank: the position among objects that do not need each other.
        statements: the statements that make it.
    """

    rank: tuple[int, int]
    statements: list[str]


class Dependencies:
    """The dependencies of the objects in the first schema of the search_path."""

    def __init__(self, connection: Connection) -> None:
        self._parts = {
            (part, part_id): (whole, whole_id)
            for part, part_id, whole, whole_id in connection.execute(_PARTS).fetchall()
        }
        self._needs = [
            ((user, user_id), (used, used_id))
            for user, user_id, used, used_id in connection.execute(_NEEDS).fetchall()
        ]

    def separate(self, functions: set[Address]) -> set[Address]:
        """Turn the defaults and constraints that use functions into separate objects.

        A function may use the table in turn, so these are made when both exist.
        """
        users = {self._constraint_of(user) for user, used in self._needs if used in functions}
        late = {user for user in users if user[0] in {"pg_attrdef", "pg_constraint"}}
        for address in late:
            self._parts.pop(address, None)
        return late

    def order(self, steps: Mapping[Address, CloneStep]) -> list[Address]:
        """Return the objects by rank, but each one after all objects that it needs."""
        waiting: dict[Address, set[Address]] = {address: set() for address in steps}
        users: defaultdict[Address, set[Address]] = defaultdict(set)
        for user, used in self._between(steps):
            waiting[user].add(used)
            users[used].add(user)
        ready = [(steps[address].rank, address) for address in steps if not waiting[address]]
        heapq.heapify(ready)
        order: list[Address] = []
        while ready:
            _, address = heapq.heappop(ready)
            order.append(address)
            for user in users[address]:
                waiting[user].discard(address)
                if not waiting[user]:
                    heapq.heappush(ready, (steps[user].rank, user))
        # The remaining objects need each other. The replay fails, and names what was missing.
        left = waiting.keys() - set(order)
        return order + sorted(left, key=lambda address: steps[address].rank)

    def _constraint_of(self, address: Address) -> Address:
        """Return the constraint that an index belongs to, or the object itself."""
        whole = self._parts.get(address, address)
        return whole if whole[0] == "pg_constraint" else address

    def _between(self, steps: Iterable[Address]) -> Iterator[tuple[Address, Address]]:
        """Yield pairs of a step and another step that it needs."""
        known = set(steps)
        for user, used in self._needs:
            step, needed = self._whole(user, known), self._whole(used, known)
            if step and needed and step != needed:
                yield step, needed

    def _whole(self, part: Address, known: set[Address]) -> Address | None:
        address: Address | None = part
        while address is not None and address not in known:
            address = self._parts.get(address)
        return address


def others(connection: Connection, schema: str, known: Iterable[str]) -> list[str]:
    """Return the objects that depend on a schema but are in none of the known catalogues.

    The script of a clone cannot make these: operators, casts and publications; objects in another
    schema; and all objects of extensions.
    """
    query = sql.SQL(_OTHERS).format(
        reach=_recursive(_REACH, schema, "reach"),
        schema=sql.Literal(schema),
        known=list(known),
    )
    return [row[0] for row in connection.execute(query).fetchall()]


def references(connection: Connection, schema: str, other: str) -> list[tuple[str, str]]:
    """Return the objects of one schema that depend on objects of the other."""
    query = sql.SQL(_REFERENCES).format(
        ours=_recursive(_CONTENT, schema, "ours"), theirs=_recursive(_CONTENT, other, "theirs")
    )
    return [(row[0], row[1]) for row in connection.execute(query).fetchall()]


def _recursive(query: LiteralString, schema: str, name: str) -> sql.Composed:
    return sql.SQL(query).format(schema=sql.Literal(schema), itself=sql.Identifier(name))

"""What a reset has to do in one schema or in several, put together once from the catalogue.

Each table, sequence and materialised view is an item of the plan, with a query that yields its
number if it has changed since the last reset and with the statements that take it back.
``Plan.detect`` runs all those queries as one, ``Plan.restore`` the statements of the items that
have changed.

A table without seeds has changed if it has rows. One with seeds has, if their number is another or
if a row was written by any other transaction than the one that has restored them last, its *stamp*.
That sees what came by raw SQL, COPY, triggers and other processes, and does not see what was rolled
back. As long as all rows of the stamp are there, it is enough to remove the others.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Final, LiteralString

from psycopg import sql

from itkit.postgres import contents
from itkit.postgres.items import Item, SequenceValue, Table
from itkit.postgres.server import Connection, value

CATALOGUE_CHANGED: Final = -1
_XIDS: Final = 2**32  # a row carries only the lower half of a transaction's id
_NO_STAMP: Final = "0"

# Whatever is created in a schema depends on it, which is cheaper to read than pg_class. A column
# that is dropped has another name from then on.
_CATALOGUE: Final = """
    format('%s %s %s', (SELECT sum(objid::bigint) FROM pg_depend
        WHERE refclassid = 'pg_namespace'::regclass
        AND refobjid IN (SELECT oid FROM pg_namespace WHERE {schemas})),
        (SELECT sum(oid::bigint) FROM pg_namespace WHERE {schemas}),
        (SELECT sum(hashtext(attname)::bigint) FROM pg_attribute
        WHERE attrelid = ANY({seeded}::oid[]) AND attnum > 0))
"""


class Plan:
    """The SQL of the resets of one schema, or of several that refer to each other.

    Args:
        connection: of our own, which is going to run ``detect``.
        schemas: to be reset, each with the schema that has what comes back.
        others: the condition on a row of ``pg_namespace`` that a schema is to be watched as well.
        is_replica: whether the session that restores is in the role ``replica``: no foreign key
            is checked in it, and no trigger or rule fires but those that ask for it.

    Attributes:
        everything: numbers of all items.
        sequences: numbers of all sequences.
    """

    def __init__(
        self,
        connection: Connection,
        schemas: Mapping[str, str],
        others: LiteralString,
        *,
        is_replica: bool,
    ) -> None:
        self._connection = connection
        self._is_replica = is_replica
        self._items = contents.read(connection, schemas, is_replica=is_replica)
        self._numbers = {
            item.oid: number for number, item in enumerate(self._items) if isinstance(item, Table)
        }
        self._stamps = [_NO_STAMP] * len(self._items)
        sequences = {
            number: item
            for number, item in enumerate(self._items)
            if isinstance(item, SequenceValue)
        }
        self.everything = set(range(len(self._items)))
        self.sequences = set(sequences)
        untraced = [item for item in sequences.values() if not item.is_logged]
        self._untraced = " UNION ALL ".join(item.detect(0) for item in untraced)
        connection.execute(_prepare(connection, list(schemas), others, self._items))

    def detect(self) -> dict[int, bool]:
        """Return the numbers of what has changed.

        ``CATALOGUE_CHANGED`` is among them where something was created or dropped. The value is
        true for a table that has lost none of its seeds, but has other rows as well.
        """
        stamps = ",".join(self._stamps)
        return dict(self._connection.execute(f"EXECUTE itkit_detect('{{{stamps}}}')").fetchall())

    def moved_sequences(self) -> set[int]:
        """Return the numbers of the sequences that rolled-back tests have moved on.

        There are none where any table has other rows than its seeds: somebody may have loaded these
        for several tests, and they have taken numbers as well.
        """
        changed = self.detect()
        if CATALOGUE_CHANGED in changed:
            return set()
        items = [self._items[number] for number in changed]
        tables = [item for item in items if isinstance(item, Table)]
        if any(not table.seed_count or table.hides_rows for table in tables):
            return set()
        counts = " UNION ALL ".join(table.count for table in tables)
        found = self._connection.execute(counts).fetchall() if tables else []
        if [count for (count,) in found] != [table.seed_count for table in tables]:
            return set()
        return self.sequences & changed.keys()

    def has_changed_untraced(self) -> bool:
        """Whether anything has changed that can without the id of a transaction."""
        return bool(self._untraced and self._connection.execute(self._untraced).fetchall())

    def forget(self) -> None:
        """Make room for the plan of what the schema is now."""
        self._connection.execute("DEALLOCATE itkit_detect")

    def restore(self, changed: Mapping[int, bool], connection: Connection) -> int:
        """Take back what has changed, in one transaction, and return its id.

        Args:
            changed: as ``detect`` returns it.
            connection: of our own, another one than that of ``detect``.
        """
        kept = {number for number, has_seeds in changed.items() if has_seeds}
        whole = self._with_referring(changed.keys() - kept)
        query = self._statements(whole, kept - whole)
        [(transaction,)] = connection.execute(query).fetchall()
        for number in whole:
            self._stamps[number] = str(int(transaction) % _XIDS)
        return int(transaction)

    def _statements(self, whole: Set[int], kept: Set[int]) -> str:
        items = [(number, self._items[number]) for number in sorted(whole | kept)]
        tables = [item for _, item in items if isinstance(item, Table)]
        deletes = [
            item.delete_others(self._stamps[number]) if number in kept else item.delete
            for number, item in items
            if isinstance(item, Table)
        ]
        inserts = [
            item.insert
            for number, item in items
            if isinstance(item, Table) and item.seed_count and number in whole
        ]
        parts = [
            "SELECT pg_current_xact_id()::text",
            *self._silenced(tables, self._rows_back(deletes, inserts)),
            *(item.restore for _, item in items if not isinstance(item, Table)),
        ]
        return "; ".join(parts)

    def _with_referring(self, changed: Set[int]) -> set[int]:
        """Add the seeded tables that refer to those which are emptied, and to these in turn.

        Where foreign keys are checked, their rows would be deleted as well, or in the way.
        """
        found = set(changed)
        pending = [] if self._is_replica else list(found)
        while pending:
            more = set(self._seeded_referring(self._items[pending.pop()])) - found
            found |= more
            pending += more
        return found

    def _seeded_referring(self, item: Item) -> Iterator[int]:
        if not isinstance(item, Table) or not item.seed_count:
            return  # what refers to rows that are not seeded is not seeded either
        for oid in item.referring:
            number = self._numbers.get(oid)
            other = self._items[number] if number is not None else None
            if number is not None and isinstance(other, Table) and other.seed_count:
                yield number

    def _rows_back(self, deletes: list[str], inserts: list[str]) -> list[str]:
        """Return what empties tables and fills those with seeds.

        Where foreign keys are checked, all is done at once, so that they are checked when it is
        done. Then the order does not matter, not even where keys that cannot be deferred form a
        circle.
        """
        if self._is_replica:
            return [*deletes, *inserts]
        return [*_at_once(deletes), *_at_once(inserts)]

    def _silenced(self, tables: Sequence[Table], statements: list[str]) -> Iterator[str]:
        """Yield statements with the project's own triggers, rules and policies out of the way."""
        if not self._is_replica:
            yield "SET CONSTRAINTS ALL DEFERRED"
        for table in tables:
            yield from table.open
        yield from statements
        if not self._is_replica:
            # What is still to be checked would keep the tables from being altered.
            yield "SET CONSTRAINTS ALL IMMEDIATE"
        for table in tables:
            yield from table.shut


def _prepare(
    connection: Connection, schemas: list[str], others: LiteralString, items: Sequence[Item]
) -> str:
    seeded = [item.oid for item in items if isinstance(item, Table) and item.seed_count]
    watched = sql.SQL("(nspname = ANY({}) OR {})").format(schemas, sql.SQL(others))
    catalogue = sql.SQL(_CATALOGUE).format(schemas=watched, seeded=seeded)
    now = value(connection, sql.SQL("SELECT {}").format(catalogue))
    changed = sql.SQL("SELECT {}, false WHERE {} <> {}").format(CATALOGUE_CHANGED, catalogue, now)
    parts = [changed.as_string(), *(item.detect(number) for number, item in enumerate(items))]
    return f"PREPARE itkit_detect (xid[]) AS {' UNION ALL '.join(parts)}"


def _at_once(statements: Sequence[str]) -> list[str]:
    """Join statements into one."""
    parts = [f"s{number} AS ({statement})" for number, statement in enumerate(statements)]
    return [f"WITH {', '.join(parts)} SELECT"] if parts else []

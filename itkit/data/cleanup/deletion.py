"""Deletes rows and the rows that refer to them, by one statement per table, without ``on_delete``.

``Model.delete()`` would stop at PROTECT, is overridden for soft deletion, and sends several queries
per row. This module uses the graph of all references: those of models and those that only the
database knows. The graph says which rows have to be deleted, and in which order.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.db import connections, models, transaction

from itkit import conf
from itkit.data.cleanup.references import GenericReference, Reference, References, label
from itkit.data.cleanup.report import CleanupReport
from itkit.data.cleanup.rows import Row, TrackedRows, concrete, is_broken, is_of_test_case
from itkit.data.factories.lookup import all_rows

Model = type[models.Model]

_left: set[str] = set()


def delete(
    rows: Iterable[Row],
    tracked: TrackedRows,
    report: CleanupReport,
    *,
    is_end: bool,
    is_reset: Callable[[str], bool],
) -> list[Exception]:
    """Delete rows in one transaction per database, count them in ``report``, return what failed.

    At the end of a test, rows in a transaction that Django will roll back are left to Django, and
    rows of a database that is reset after the test are left to the reset.

    Args:
        rows: the rows.
        tracked: the rows that the manager knows.
        report: gets the numbers.
        is_end: whether the test has ended.
        is_reset: returns whether a database, by its alias, is reset after the test.
    """
    by_database: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_database[row.using].append(row)
    errors = []
    for using, own in by_database.items():
        try:
            if _is_rolled_back(using, is_end=is_end):
                report.forgotten.update(label(row.model) for row in own)
                _leave(row for row in own if row in tracked.committed)
            elif is_end and is_reset(using) and not conf.get().data.delete_by_model:
                report.forgotten.update(label(row.model) for row in own)
                _leave(own)
            else:
                _delete_from(using, own, tracked, report)
        except Exception as error:  # noqa: BLE001 - the other databases are still to be cleaned
            error.add_note(_explanation(using, own))
            errors.append(error)
    return errors


def take_left() -> set[str]:
    """Return, once, the tables with committed rows of tests' data that were left to others.

    Where a transaction will be rolled back, these are rows that threads have made outside of it. As
    it may refer to them, they cannot be removed before it ends. The others were left to a reset.
    """
    taken = set(_left)
    _left.clear()
    return taken


def _leave(rows: Iterable[Row]) -> None:
    for model in {row.model for row in rows}:
        _left.update(_tables(model))


def _tables(model: Model) -> set[str]:
    """Return the tables that a row of a model may have parts in."""
    through = [field.remote_field.through for field in model._meta.many_to_many]
    models = [model, *map(concrete, model._meta.all_parents), *filter(None, through)]
    return {one._meta.db_table for one in models}


def _delete_from(using: str, rows: list[Row], tracked: TrackedRows, report: CleanupReport) -> None:
    with transaction.atomic(using=using):
        closure = _Closure(using, rows)
        closure.complete()
        counted = closure.delete(tracked)
    # Not update(): += leaves out the models of which no row was removed.
    report.removed += counted.removed
    report.beyond += counted.beyond
    report.released += counted.released


def _is_rolled_back(using: str, *, is_end: bool) -> bool:
    return is_broken(using) or (is_end and is_of_test_case(using))


def _explanation(using: str, rows: list[Row]) -> str:
    counts = Counter(label(row.model) for row in rows)
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    return (
        f"itkit: while removing test data from DATABASES[{using!r}]: {listed}. "
        "These rows are left. If the error says that the transaction is aborted, an earlier "
        "statement of the test failed in it: put that one into its own transaction.atomic()."
    )


class _Closure:
    """Rows of one database that are to be deleted, with all rows that cannot stay without them."""

    def __init__(self, using: str, rows: list[Row]) -> None:
        self._using = using
        self._given: dict[Model, set[Any]] = defaultdict(set)
        self._keys: dict[Model, set[Any]] = defaultdict(set)
        self._parent_keys: dict[Model, set[Any]] = defaultdict(set)
        self._pending: dict[Model, set[Any]] = defaultdict(set)
        self._references = References.of(using)
        for row in rows:
            self._given[row.model].add(row.pk)
        for model, keys in self._given.items():
            self.add(model, keys)

    def add(self, model: Model, keys: set[Any]) -> None:
        """Add rows of a model by their primary keys."""
        new = keys - self._keys[model]
        if new:
            self._keys[model] |= new
            self._pending[model] |= new

    def complete(self) -> None:
        """Add the rows that refer to these, and the parents' rows where models inherit tables."""
        while self._pending:
            model, keys = self._pending.popitem()
            self._add_parents(model, keys)
            for reference in self._references.to.get(model, ()):
                if not reference.is_nulling:
                    self.add(reference.model, self._staying(reference, keys))
            for generic in self._references.generic:
                self.add(generic.model, self._about(generic, model, keys))

    def delete(self, tracked: TrackedRows) -> CleanupReport:
        """Delete the rows, first those that refer to others; return how many there were."""
        report = CleanupReport()
        for model in list(self._keys):
            self._release(model, report)
        for model in self._in_order():
            deleted = self._delete_all(model)
            self._count(model, deleted, tracked, report)
        return report

    def _add_parents(self, model: Model, keys: set[Any]) -> None:
        for parent, link in model._meta.parents.items():
            if link is not None:  # a proxy has no table, so there is no reference to its parent
                found = self._column(model, link.attname, "pk", keys)
                self._parent_keys[parent] |= found
                self.add(parent, found)

    def _staying(self, reference: Reference, keys: set[Any]) -> set[Any]:
        """Return the rows that refer to these and are not to be deleted so far."""
        if reference.target_column != "pk":
            keys = self._column(reference.target, reference.target_column, "pk", keys)
        known = self._keys.get(reference.model)
        return self._column(reference.model, "pk", reference.column, keys, known)

    def _about(self, generic: GenericReference, model: Model, keys: set[Any]) -> set[Any]:
        """Return the rows that refer to these by a generic key and are not to be deleted so far.

        The database would let them stay, but they would refer to rows that do not exist.
        """
        kinds = self._references.kinds(model)
        if not kinds:
            return set()
        return self._column(
            generic.model,
            "pk",
            generic.column,
            generic.values(keys),
            self._keys.get(generic.model),
            **{f"{generic.kind}__in": kinds},
        )

    def _release(self, model: Model, report: CleanupReport) -> None:
        for reference in self._references.to.get(model, ()):
            if not reference.is_nulling:
                continue
            staying = self._staying(reference, self._keys[model])
            for rows in self._rows(reference.model, "pk", staying):
                released = rows.update(**{reference.column: None})
                report.released[label(reference.model)] += released

    def _delete_all(self, model: Model) -> int:
        batches = self._rows(model, "pk", self._keys[model])
        if model._meta.label_lower in map(str.lower, conf.get().data.delete_by_model):
            return sum(_deleted_by_model(rows, self._using) for rows in batches)
        # Not delete(): that would collect and load the rows that the closure has found already.
        return sum(rows._raw_delete(self._using) for rows in batches)

    def _count(
        self, model: Model, deleted: int, tracked: TrackedRows, report: CleanupReport
    ) -> None:
        if model._meta.auto_created:  # the table of a ManyToManyField is a part of its owner
            return
        found = self._keys[model] - self._given[model]
        # The manager may know some of them, which another step of the clean-up removes.
        unknown = {key for key in found if Row(self._using, model, key) not in tracked}
        implied = self._parent_keys[model] & unknown
        beyond = unknown - implied
        report.beyond[label(model)] += len(beyond)
        # Rows that the test has deleted itself are not counted.
        report.removed[label(model)] += deleted - len(beyond) - len(implied)

    def _in_order(self) -> list[Model]:
        """Return the models, beginning with those that refer to others; cut cycles anywhere.

        Django declares its foreign keys as deferred. So the order within the transaction matters
        only for foreign keys that Django has not declared.
        """
        ordered: dict[Model, None] = {}
        entered: set[Model] = set()

        def visit(model: Model) -> None:
            if model in entered:
                return
            entered.add(model)
            for reference in self._references.to.get(model, ()):
                if reference.model in self._keys:
                    visit(reference.model)
            ordered[model] = None

        for model in self._keys:
            visit(model)
        return list(ordered)

    def _column(
        self,
        model: Model,
        wanted: str,
        column: str,
        values: set[Any],
        except_keys: set[Any] | None = None,
        **conditions: Any,
    ) -> set[Any]:
        found: set[Any] = set()
        for rows in self._rows(model, column, values):
            rows = rows.filter(**conditions)  # noqa: PLW2901 - narrowed down
            if except_keys and _takes_arrays(model, "pk", self._using):
                rows = rows.exclude(AnyOf(models.F("pk"), list(except_keys)))  # noqa: PLW2901 - as above
            found.update(rows.values_list(wanted, flat=True))
        return found - (except_keys or set())

    def _rows(self, model: Model, column: str, values: set[Any]) -> Iterator[models.QuerySet[Any]]:
        """Yield the rows that have one of the values, in querysets that the database accepts."""
        everything = all_rows(model, self._using)
        rest = list(values)
        if rest and _takes_arrays(model, column, self._using):
            yield everything.filter(AnyOf(models.F(column), rest))
            return
        while rest:
            size = connections[self._using].ops.bulk_batch_size([column], rest)
            yield everything.filter(**{f"{column}__in": rest[:size]})
            rest = rest[size:]


class AnyOf(models.Lookup):
    """``column = ANY(array)``: one parameter, where ``column IN (…)`` has one for each value."""

    lookup_name = "any_of"
    prepare_rhs = False

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return the condition and its parameters."""
        column, parameters = self.process_lhs(compiler, connection)
        field = self.lhs.output_field
        if all(type(value) is int for value in self.rhs):
            # A literal, as psycopg would examine each number of a list twice.
            values: Any = f"{{{','.join(map(str, self.rhs))}}}"
        else:
            values = [field.get_db_prep_value(value, connection) for value in self.rhs]
        return f"{column} = ANY(%s::{field.rel_db_type(connection)}[])", (*parameters, values)


def _deleted_by_model(rows: models.QuerySet[Any], using: str) -> int:
    """Delete rows by their model's own ``delete()``, for its side effects; return how many."""
    count = 0
    for instance in rows.iterator():
        instance.delete(using=using)
        count += 1
    rows._raw_delete(using)  # a soft deletion leaves them
    return count


def _takes_arrays(model: Model, column: str, using: str) -> bool:
    field = model._meta.pk if column == "pk" else model._meta.get_field(column)
    # A composite key has several columns.
    return connections[using].vendor == "postgresql" and getattr(field, "column", None) is not None

"""Deletes rows with what references them: one statement per table, whatever ``on_delete`` says.

``Model.delete()`` would stop at PROTECT, be overridden by soft deletion, and cost some queries per
row. Here the graph of foreign keys of all installed models says which rows have to go, and in
which order.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.db import connections, models, router, transaction

from itkit.data.lookup import ForeignKey
from itkit.data.report import CleanupReport
from itkit.data.rows import Row, TrackedRows, concrete

Model = type[models.Model]
# Since Django 6.1 the database itself can do it.
_NULLING = (models.SET_NULL, getattr(models, "DB_SET_NULL", models.SET_NULL))


def delete(rows: Iterable[Row], tracked: TrackedRows, report: CleanupReport) -> list[Exception]:
    """Delete rows in one transaction per database, count them in ``report``, return what failed."""
    by_database: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_database[row.using].append(row)
    errors = []
    for using, own in by_database.items():
        try:
            _delete_from(using, own, tracked, report)
        except Exception as error:  # noqa: BLE001 - the other databases are still to be cleaned
            error.add_note(_explanation(using, own))
            errors.append(error)
    return errors


def _delete_from(using: str, rows: list[Row], tracked: TrackedRows, report: CleanupReport) -> None:
    if _is_rolled_back_anyway(using):
        report.forgotten.update(row.model._meta.label for row in rows)
        return
    with transaction.atomic(using=using):
        closure = _Closure(using)
        for row in rows:
            closure.add(row.model, {row.pk})
        closure.complete()
        counted = closure.delete(tracked)
    # Not update(): += leaves out the models of which there was nothing to remove.
    report.removed += counted.removed
    report.beyond += counted.beyond
    report.released += counted.released


def _is_rolled_back_anyway(using: str) -> bool:
    connection = connections[using]
    return connection.in_atomic_block and connection.needs_rollback


def _explanation(using: str, rows: list[Row]) -> str:
    counts = Counter(row.model._meta.label for row in rows)
    listed = ", ".join(f"{count} {label}" for label, count in counts.items())
    return (
        f"itkit: while removing test data from DATABASES[{using!r}]: {listed}. "
        "These rows are left. If the error says that the transaction is aborted, an earlier "
        "statement of the test failed in it: put that one into its own transaction.atomic()."
    )


class _Closure:
    """Rows of one database that are to go, with all that cannot stay without them."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._keys: dict[Model, set[Any]] = defaultdict(set)
        self._parent_keys: dict[Model, set[Any]] = defaultdict(set)
        self._pending: dict[Model, set[Any]] = defaultdict(set)
        self._references = _references_by_target(using)

    def add(self, model: Model, keys: set[Any]) -> None:
        """Add rows of a model by their primary keys."""
        new = keys - self._keys[model]
        if new:
            self._keys[model] |= new
            self._pending[model] |= new

    def complete(self) -> None:
        """Add what references the rows, and the parents' rows of those that inherit tables."""
        while self._pending:
            model, keys = self._pending.popitem()
            self._add_parents(model, keys)
            for field in self._references[model]:
                if field.remote_field.on_delete not in _NULLING:
                    self.add(field.model, self._referencing(field, keys))

    def delete(self, tracked: TrackedRows) -> CleanupReport:
        """Delete the rows, those that reference others first, and return how many there were."""
        report = CleanupReport()
        for model in list(self._keys):
            self._release(model, report)
        for model in self._in_order():
            deleted = self._delete_all(model)
            self._count(model, deleted, tracked, report)
        return report

    def _add_parents(self, model: Model, keys: set[Any]) -> None:
        for parent, link in model._meta.parents.items():
            if link is not None:  # there is none to the parent of a proxy, which has no table
                found = self._column(model, link.attname, "pk", keys)
                self._parent_keys[parent] |= found
                self.add(parent, found)

    def _referencing(self, field: ForeignKey, keys: set[Any]) -> set[Any]:
        target = field.target_field
        if not target.primary_key:
            keys = self._column(target.model, target.attname, "pk", keys)
        return self._column(field.model, "pk", field.attname, keys)

    def _release(self, model: Model, report: CleanupReport) -> None:
        for field in self._references[model]:
            if field.remote_field.on_delete not in _NULLING:
                continue
            staying = self._referencing(field, self._keys[model])
            staying -= self._keys.get(field.model, set())
            for rows in self._rows(field.model, "pk", staying):
                report.released[field.model._meta.label] += rows.update(**{field.attname: None})

    def _delete_all(self, model: Model) -> int:
        # Not delete(): that would collect and load what the closure has found already.
        batches = self._rows(model, "pk", self._keys[model])
        return sum(rows._raw_delete(self._using) for rows in batches)

    def _count(
        self, model: Model, deleted: int, tracked: TrackedRows, report: CleanupReport
    ) -> None:
        if model._meta.auto_created:  # the table of a ManyToManyField is a part of its owner
            return
        known = {key for key in self._keys[model] if Row(self._using, model, key) in tracked}
        implied = self._parent_keys[model] - known
        beyond = self._keys[model] - known - implied
        report.beyond[model._meta.label] += len(beyond)
        # Rows that the test has deleted itself are not counted.
        report.removed[model._meta.label] += deleted - len(beyond) - len(implied)

    def _in_order(self) -> list[Model]:
        """Return the models, those that reference others first; a cycle is cut anywhere.

        Django declares its foreign keys as deferred, so that within the transaction the order
        matters only for those that somebody else declared.
        """
        ordered: dict[Model, None] = {}
        entered: set[Model] = set()

        def visit(model: Model) -> None:
            if model in entered:
                return
            entered.add(model)
            for field in self._references[model]:
                if field.model in self._keys:
                    visit(field.model)
            ordered[model] = None

        for model in self._keys:
            visit(model)
        return list(ordered)

    def _column(self, model: Model, wanted: str, column: str, values: set[Any]) -> set[Any]:
        found: set[Any] = set()
        for rows in self._rows(model, column, values):
            found.update(rows.values_list(wanted, flat=True))
        return found

    def _rows(self, model: Model, column: str, values: set[Any]) -> Iterator[models.QuerySet[Any]]:
        """Yield the rows that have one of the values, as many at once as the database takes."""
        operations = connections[self._using].ops
        # No manager of the model: one that hides rows, as soft deletion does, would leave them.
        everything: models.QuerySet[Any] = models.QuerySet(model, using=self._using)
        rest = list(values)
        while rest:
            size = operations.bulk_batch_size([column], rest)
            yield everything.filter(**{f"{column}__in": rest[:size]})
            rest = rest[size:]


def _references_by_target(using: str) -> dict[Model, list[ForeignKey]]:
    references: dict[Model, list[ForeignKey]] = defaultdict(list)
    for model in apps.get_models(include_auto_created=True):
        if _has_table(model, using):
            for field in model._meta.local_fields:
                if isinstance(field, models.ForeignKey):
                    references[concrete(field.related_model)].append(field)
    return references


def _has_table(model: Model, using: str) -> bool:
    can_have = model._meta.can_migrate(connections[using])
    return can_have and router.allow_migrate_model(using, model)

"""Checks factories: whether they make valid rows, twice, and the same rows in bulk."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import connections, models, router, transaction
from django.test.utils import CaptureQueriesContext

from itkit.core import seed
from itkit.core.text import message_of
from itkit.data.cleanup.leaks import NewRows
from itkit.data.cleanup.rows import concrete
from itkit.data.factories import factories, lookup
from itkit.data.factories.factories import Factory
from itkit.data.manager import Bulk, TestDataManager

Model = type[models.Model]
Rows = dict[str, list[dict[str, Any]]]

_SEED: Final = "lint"
_BATCH: Final = 3


@dataclass
class Verdict:
    """The result of one factory in one state.

    Attributes:
        factory: the module and the name of the factory.
        state: a trait; empty for the factory as it is.
        rows: the number of rows that one instance makes, itself included.
        queries: the number of queries that one instance takes.
        milliseconds: the milliseconds that one instance takes.
        problems: sentences that say what is wrong.
    """

    factory: str
    state: str
    rows: int = 0
    queries: int = 0
    milliseconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def verdicts() -> Iterator[Verdict]:
    """Try each factory of the project, as it is and with each of its traits; no row stays."""
    for factory in factories.all_factories():
        for state in ("", *factories.traits(factory)):
            yield _verdict(factory, state)


def _verdict(factory: Factory, state: str) -> Verdict:
    verdict = Verdict(f"{factory.__module__}.{factory.__name__}", state)
    using = factories.database(factory) or router.db_for_write(factory._meta.get_model_class())
    trial = _Trial(factory, (state,) if state else (), using)
    try:
        trial.measure(verdict)
    except Exception as error:  # noqa: BLE001 - whatever a factory raises is what is looked for
        verdict.problems.append(f"cannot be created: {_first_line(error)}")
        return verdict
    for problem in (trial.twice, trial.valid, trial.equal_in_bulk):
        try:
            verdict.problems += problem()
        except Exception as error:  # noqa: BLE001 - as above
            verdict.problems.append(f"{problem.__name__}: {_first_line(error)}")
    return verdict


class _Trial:
    """One factory in one state; its rows are taken back after each step."""

    def __init__(self, factory: Factory, states: tuple[str, ...], using: str) -> None:
        self._factory = factory
        self._states = states
        self._using = using

    def measure(self, verdict: Verdict) -> None:
        with self._taken_back() as (data, new_rows):
            started = time.perf_counter()
            with CaptureQueriesContext(connections[self._using]) as queries:
                data.create(self._factory, *self._states)
            verdict.milliseconds = (time.perf_counter() - started) * 1000
            verdict.queries = len(queries)
            verdict.rows = sum(1 for _ in new_rows.new())

    def twice(self) -> list[str]:
        with self._taken_back() as (data, _):
            data.create(self._factory, *self._states)
            try:
                data.create(self._factory, *self._states)
            except Exception as error:  # noqa: BLE001 - as above
                return [f"a second one cannot be created beside the first: {_first_line(error)}"]
        return []

    def valid(self) -> list[str]:
        with self._taken_back() as (data, _):
            made = data.create(self._factory, *self._states)
            try:
                type(made)._base_manager.using(self._using).get(pk=made.pk).full_clean()
            except ValidationError as error:
                messages = error.message_dict.items()
                return [f"full_clean(): {name}: {' '.join(text)}" for name, text in messages]
        return []

    def equal_in_bulk(self) -> list[str]:
        """Compare a batch with rows made one by one, except for values that always differ."""
        single, again, bulk = self._batch("never"), self._batch("never"), self._batch("auto")
        problems = []
        for label in sorted({*single, *bulk}):
            rows = single.get(label, []), again.get(label, []), bulk.get(label, [])
            if len(rows[0]) != len(rows[2]):
                problems.append(f"in bulk {len(rows[2])} {label}, one by one {len(rows[0])}")
            differing = {
                name
                for one, other, third in zip(*rows, strict=False)
                for name in one
                if one[name] == other[name] != third[name]
            }
            problems += [f"in bulk another {label}.{name}" for name in sorted(differing)]
        return problems

    def _batch(self, bulk: Bulk) -> Rows:
        with self._taken_back() as (data, new_rows):
            data.create_batch(self._factory, _BATCH, *self._states, bulk=bulk)
            return _contents(new_rows, self._using)

    @contextmanager
    def _taken_back(self) -> Iterator[tuple[TestDataManager, NewRows]]:
        with (
            transaction.atomic(using=self._using),
            seed.apart(_SEED, self._factory.__name__),
        ):
            new_rows = NewRows(self._using, lookup.tables(self._using, with_links=True))
            new_rows.begin()
            try:
                yield TestDataManager(seed=_SEED, using=self._using), new_rows
            finally:
                transaction.set_rollback(True, using=self._using)


def _contents(new_rows: NewRows, using: str) -> Rows:
    """Return the new rows by model, in the order of their keys, under consecutive numbers."""
    keys: dict[Model, list[Any]] = {}
    for row in new_rows.new():
        keys.setdefault(row.model, []).append(row.pk)
    labels = {
        (model, key): f"{model._meta.label} no. {number}"
        for model, own in keys.items()
        for number, key in enumerate(_in_order(own), 1)
    }
    return {
        model._meta.label: [
            _comparable(model, values, labels)
            for values in lookup.all_rows(model, using)
            .filter(pk__in=own)
            .order_by("pk")
            .values(*(item.attname for item in model._meta.local_concrete_fields))
        ]
        for model, own in keys.items()
    }


def _in_order(keys: list[Any]) -> list[Any]:
    return sorted(keys, key=lambda key: key.int if isinstance(key, uuid.UUID) else key)


def _comparable(
    model: Model, values: dict[str, Any], labels: dict[tuple[Model, Any], str]
) -> dict[str, Any]:
    compared = dict(values)
    for item in model._meta.local_concrete_fields:
        target = concrete(item.related_model) if isinstance(item, models.ForeignKey) else model
        if item.primary_key or isinstance(item, models.ForeignKey):
            compared[item.attname] = labels.get(
                (target, values[item.attname]), values[item.attname]
            )
    return compared


def _first_line(error: Exception) -> str:
    lines = message_of(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

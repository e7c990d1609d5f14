"""The rows that a manager knows, in the order of their creation, and how each is found again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, NamedTuple

from django.core.exceptions import SynchronousOnlyOperation, ValidationError
from django.db import connections, models, router
from django.db.models.signals import post_save

from itkit.data.factories.lookup import all_rows
from itkit.exceptions import DataError

Model = type[models.Model]

_IN_A_LOOP: Final = (
    "An event loop runs in this thread, where Django writes nothing. In asyncio code write: await"
    " data.acreate(...), await data.acreate_batch(...), await data.acleanup()."
)


class Row(NamedTuple):
    """One row. These attributes find it, even when the instance has lost its key."""

    using: str
    model: Model
    pk: Any

    @classmethod
    def of(cls, instance: models.Model) -> "Row":
        """Return the row of a saved instance.

        Raises:
            DataError: the instance has not been saved.
        """
        if instance.pk is None:
            raise DataError(f"{instance!r} has no row to track: save it first.")
        model = concrete(type(instance))
        using = instance._state.db or router.db_for_write(model, instance=instance)
        return cls(using, model, _key(model._meta.pk, instance.pk, using))

    @property
    def inherited(self) -> "list[Row]":
        """The rows in the tables that the model inherits; they have the same key."""
        return [Row(self.using, concrete(up), self.pk) for up in self.model._meta.all_parents]


def _key(field: Any, value: Any, using: str) -> Any:
    """Return a primary key as Django reads it, or as it is stored if a field has a type of its own.

    Such a value may not be accepted by ``to_python()``, or cannot be a key of a dictionary.
    """
    try:
        key = field.to_python(value)
        hash(key)
    except (TypeError, ValidationError):
        return field.get_db_prep_save(value, connections[using])
    return key


def concrete(model: Model) -> Model:
    """Return the model that has the table of a model, which may be a proxy of it."""
    return model._meta.concrete_model or model


Callback = Callable[[], object]
Step = Callback | list[Row]


class TrackedRows:
    """A stack of rows and callbacks: a clean-up undoes them in reverse.

    Attributes:
        committed: the rows that another thread has made, outside of the transaction of a
            ``TestCase``.
    """

    def __init__(self) -> None:
        self.committed: set[Row] = set()
        self._known: dict[Row, models.Model | None] = {}
        self._adding = threading.Lock()  # the tested code may save in several threads
        self._steps: list[Step] = []

    def add(self, instance: models.Model) -> None:
        """Push the row of an instance; a row that is known keeps its position."""
        self._add(Row.of(instance), instance)

    def add_row(self, row: Row) -> None:
        """Push a row whose instance nobody has read."""
        self._add(row, None)

    def _add(self, row: Row, instance: models.Model | None) -> None:
        with self._adding:
            if row in self._known:
                return
            self._known[row] = instance
            if not is_of_test_case(row.using):
                self.committed.add(row)
            step = self._steps[-1] if self._steps else None
            if not isinstance(step, list):
                step = []
                self._steps.append(step)
            step.append(row)

    def add_callback(self, callback: Callback) -> None:
        """Push a function to be called."""
        self._steps.append(callback)

    @property
    def has_callbacks(self) -> bool:
        """Whether there is a function that is still to be called."""
        return any(not isinstance(step, list) for step in self._steps)

    def pop(self) -> Iterator[Step]:
        """Remove and yield the steps, the last one first; adjacent rows come as one step."""
        while self._steps:
            yield self._steps.pop()
        self._known.clear()
        self.committed.clear()

    def instances(self, model: Model) -> list[Any]:
        """Return the instances of a model, the oldest first."""
        self._read(model)
        return [instance for instance in self._known.values() if isinstance(instance, model)]

    def _read(self, model: Model) -> None:
        """Read the instances of a model of which only the rows are known."""
        unread = [
            row
            for row, instance in self._known.items()
            if instance is None and issubclass(row.model, model)
        ]
        for using, kind in {(row.using, row.model) for row in unread}:
            keys = [row.pk for row in unread if (row.using, row.model) == (using, kind)]
            for key, instance in all_rows(kind, using).in_bulk(keys).items():
                self._known[Row(using, kind, key)] = instance

    def __contains__(self, row: object) -> bool:
        return row in self._known

    def __iter__(self) -> Iterator[Row]:
        return iter(self._known)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Add every row that this thread inserts through ``save()``, in here.

        Raises:
            DataError: an event loop runs in this thread, where Django writes nothing.
        """
        _listen()
        _thread.recording.append(self)
        try:
            yield
        except SynchronousOnlyOperation:
            raise DataError(_IN_A_LOOP) from None
        finally:
            _thread.recording.pop()

    @contextmanager
    def capturing(self) -> Iterator[list[models.Model]]:
        """Add every row that any thread inserts through ``save()``, in here; yield them."""
        made: list[models.Model] = []

        def capture(instance: models.Model) -> None:
            self.add(instance)
            made.append(instance)

        _listen()
        _capturing.append(capture)
        try:
            yield made
        finally:
            _capturing.remove(capture)


class _CapturingThread(threading.local):
    """The managers that record what the thread inserts; several where a factory uses a manager."""

    def __init__(self) -> None:
        self.recording: list[TrackedRows] = []


_thread = _CapturingThread()
_capturing: list[Callable[[models.Model], None]] = []


@cache
def _listen() -> None:
    """Connect once per process, for good: for each row, it would cost a third of the insert."""
    post_save.connect(add_to_recording)


def add_to_recording(*, instance: models.Model, created: bool, **_: object) -> None:
    """Add a new row to the managers that record; code that inserts without ``save()`` calls it."""
    if created:
        for rows in _thread.recording:
            rows.add(instance)
        for capture in _capturing.copy():
            capture(instance)


def is_broken(using: str) -> bool:
    """Return whether the connection's transaction can only be rolled back."""
    connection = connections[using]
    return connection.in_atomic_block and connection.needs_rollback


def is_of_test_case(using: str) -> bool:
    """Return whether a ``TestCase`` has begun the transaction, and will roll it back."""
    connection: Any = connections[using]  # the mark is private; the same in Django 5.2 to 6.1
    return any(block._from_testcase for block in connection.atomic_blocks)

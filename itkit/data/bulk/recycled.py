"""Instances that are used instead of new ones that a factory would make on the way."""

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models

from itkit.exceptions import DataError

Model = type[models.Model]


class Recycled:
    """Instances that exist already, by model; several of one model take turns."""

    def __init__(self) -> None:
        self._by_model: dict[Model, deque[models.Model]] = defaultdict(deque)

    def __bool__(self) -> bool:
        return bool(self._by_model)

    def __contains__(self, model: object) -> bool:
        return isinstance(model, type) and any(
            waiting and issubclass(kind, model) for kind, waiting in self._by_model.items()
        )

    @contextmanager
    def including(self, instances: tuple[Any, ...]) -> Iterator[None]:
        """Use more instances within a block; they come before those of an outer block.

        Raises:
            DataError: one of the values is not an instance of a model.
        """
        for instance in instances:
            if not isinstance(instance, models.Model):
                raise DataError(f"recycle() takes instances of models, not {instance!r}.")
        before = {model: deque(waiting) for model, waiting in self._by_model.items()}
        for model in {type(instance) for instance in instances}:
            self._by_model[model] = deque(item for item in instances if type(item) is model)
        try:
            yield
        finally:
            self._by_model.clear()
            self._by_model.update(before)

    def of(self, model: Model) -> Any:
        """Return the next instance of a model or of a model that inherits it, or None."""
        for kind, waiting in self._by_model.items():
            if waiting and issubclass(kind, model):
                waiting.rotate(-1)
                return waiting[-1]
        return None

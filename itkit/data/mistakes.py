"""Mistakes in ``ITKIT["DATA"]``, other than values of wrong types."""

from collections.abc import Iterator

from itkit import conf
from itkit.data import aliases
from itkit.data.factories import lookup
from itkit.exceptions import DataError


def mistakes() -> list[conf.Mistake]:
    """Return the mistakes: names in the settings that belong to no model or field."""
    return [*aliases.mistakes(), *_of_deletion()]


def _of_deletion() -> Iterator[conf.Mistake]:
    for label in conf.get().data.delete_by_model:
        try:
            lookup.model_labelled(label)
        except DataError:
            message = f'ITKIT["DATA"]["DELETE_BY_MODEL"]: {label!r} is no installed model.'
            yield conf.Mistake(13, message, lookup.label_hint(label))

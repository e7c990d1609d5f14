"""The objects that a scenario has named, and how they are written down and found again."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps
from django.db import models

from itkit.core.text import did_you_mean
from itkit.data.factories.lookup import all_rows
from itkit.exceptions import DataError


class World:
    """The result of a scenario: its attributes are instances, lists of them, or plain values.

    Each row is read once, when a test asks for it.
    """

    def __init__(self, scenario: str, named: Mapping[str, Any], using: str, origin: str) -> None:
        self._scenario = scenario
        self._named = named
        self._using = using
        self._origin = origin

    def __getattr__(self, name: str) -> Any:
        named = self.__dict__.get("_named", {})
        if name.startswith("_") or name not in named:
            raise AttributeError(
                f"The scenario {self.__dict__.get('_scenario')!r} names no {name!r}. "
                f"{did_you_mean(name, dict(named))}"
            )
        found = _found(named[name], self._using)
        setattr(self, name, found)
        return found

    def __dir__(self) -> Iterable[str]:
        return sorted(self._named)

    def __repr__(self) -> str:
        return f"<World of {self._scenario}: {', '.join(sorted(self._named))}; {self._origin}>"


def reference(scenario: str, name: str, value: Any) -> Any:
    """Return a reference to a value that a scenario names, which can be written as JSON.

    Raises:
        DataError: the value cannot be kept.
    """
    if isinstance(value, models.Model):
        return {"row": [value._meta.label, str(value.pk)]}
    if isinstance(value, list | tuple | models.QuerySet):
        return {"list": [reference(scenario, name, item) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": {str(key): reference(scenario, name, item) for key, item in value.items()}}
    if value is None or isinstance(value, str | int | float):
        return {"is": value}
    raise DataError(
        f"The scenario {scenario!r} names {name!r}, which is {value!r}. It can name saved "
        "instances, lists and dicts of them, texts and numbers."
    )


def _found(reference: Any, using: str) -> Any:
    ((kind, value),) = reference.items()
    if kind == "row":
        return _row(*value, using=using)
    if kind == "list":
        return _all_found(value, using)
    if kind == "dict":
        return {key: _found(item, using) for key, item in value.items()}
    return value


def _row(label: str, key: str, *, using: str) -> models.Model:
    found: models.Model = all_rows(apps.get_model(label), using).get(pk=key)
    return found


def _all_found(references: list[Any], using: str) -> list[Any]:
    """Return the values of a list; all rows of one model are read in one query."""
    labels = {item["row"][0] for item in references if "row" in item}
    if len(labels) != 1 or not all("row" in item for item in references):
        return [_found(item, using) for item in references]
    model = apps.get_model(labels.pop())
    keys = [model._meta.pk.to_python(item["row"][1]) for item in references]
    found = all_rows(model, using).in_bulk(keys)
    return [found[key] for key in keys]

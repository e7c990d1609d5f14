"""Aliases: what ``create_order(...)`` creates, by ``ITKIT["DATA"]["ALIASES"]`` or by convention.

Without a setting an alias is a model's name: ``order`` is the one installed model called
``Order``, and ``user`` is ``AUTH_USER_MODEL``. Mistakes in ``ITKIT["DATA"]`` are found here too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.db import models

from itkit import conf
from itkit.core.text import did_you_mean
from itkit.data.factories import factories, lookup
from itkit.exceptions import DataError, UnknownAliasError

Model = type[models.Model]

ITEMS: Final = "items"
_USUAL_RELATIONS: Final = ("items", "lines")
_ITEM_DEFAULTS: Final = {"quantity": 1, "price": Decimal("10.00")}
_SETTING: Final = 'ITKIT["DATA"]["ALIASES"]'


@dataclass(frozen=True)
class Children:
    """The rows of a model that belong to a row of another model.

    Attributes:
        model: the model of these rows.
        field: their foreign key to the other model.
        relation: the name by which the other model reaches them.
    """

    model: Model
    field: str
    relation: str

    def default(self) -> list[dict[str, Any]]:
        """Return the values of a parent's one child, for a factory that makes none."""
        names = lookup.field_names(self.model)
        return [{name: value for name, value in _ITEM_DEFAULTS.items() if name in names}]


@dataclass(frozen=True)
class Alias:
    """A short name of a model, with the arguments that its ``create_<name>()`` takes."""

    name: str
    model: Model
    args: tuple[str, ...]
    children: Children | None
    defaults: Mapping[str, Any]

    def bind(
        self, values: dict[str, Any], args: tuple[Any, ...] = (), *, method: str = "create"
    ) -> dict[str, Any]:
        """Return the values by their fields' names, positional ones included.

        None for one of ``args`` means that the test does not care.

        Args:
            values: the values by name.
            args: positional values.
            method: the name of the method that the test called, for messages.

        Raises:
            DataError: there are more positional values than ``args``, or items are given twice, or
                for a model that has no items.
        """
        names = (*self.args, ITEMS)
        if len(args) > len(names):
            raise DataError(
                f"{method}() takes {len(names)} positional values {names}, not {len(args)}. "
                f'Pass the others by name, or set {_SETTING}["{self.name}"]["ARGS"].'
            )
        bound = dict(zip(names, args, strict=False)) | self._renamed(values)
        bound = {
            _name_for(self.model, name, value): value
            for name, value in self._with_items(bound).items()
            if value is not None or name not in names
        }
        if ITEMS in bound and not self.children and not lookup.field_of(self.model, ITEMS):
            raise DataError(self._no_children())
        return bound

    def _no_children(self) -> str:
        relations = ", ".join(sorted(_child_relations(self.model))) or "none"
        return (
            f"{self.model._meta.label} has no relation called items or lines, so it takes no "
            f'items. Name one in {_SETTING}["{self.name}"]["ITEMS"] (available: {relations}).'
        )

    def _with_items(self, values: dict[str, Any]) -> dict[str, Any]:
        """Accept the name of the relation, such as ``lines``, instead of ``items``.

        A factory that declares it makes those rows itself.
        """
        relation = self.children.relation if self.children else ITEMS
        if relation == ITEMS or relation not in values or _is_declared(self.model, relation):
            return values
        if values.get(ITEMS) is not None:
            raise DataError(
                f"{ITEMS} and {relation} are the same rows of {self.model._meta.label}. "
                "Pass them by one of these names."
            )
        rest = {name: value for name, value in values.items() if name != relation}
        return rest | {ITEMS: values[relation]}

    def _renamed(self, values: dict[str, Any]) -> dict[str, Any]:
        """Accept ``user_id`` for the owner, also where the model's foreign key has another name."""
        if "user_id" not in values or not self.args or lookup.field_of(self.model, "user_id"):
            return values
        return {self.args[0] if name == "user_id" else name: values[name] for name in values}


def _is_declared(model: Model, name: str) -> bool:
    factory = factories.of_model(model)
    return factory is not None and factories.declares(factory, name)


def _name_for(model: Model, name: str, value: Any) -> str:
    """Return the name that takes ``value``: an instance does not fit under ``user_id``."""
    field = lookup.field_of(model, name)
    return field.name if field is not None and isinstance(value, models.Model) else name


def find(name: str) -> Alias:
    """Return the alias of a name.

    Raises:
        UnknownAliasError: no alias and no installed model has this name.
        DataError: several models have this name, or the setting names a model that does not exist.
    """
    entry = conf.get().data.aliases.get(name, conf.AliasSettings())
    model = _model(name, entry)
    return Alias(
        name=name,
        model=model,
        args=entry.args or _usual_args(name, model),
        children=_children(model, entry),
        defaults=entry.defaults,
    )


def singular(plural: str) -> str:
    """Return the alias in a plural such as ``orders`` or ``categories``."""
    if plural.endswith("ies"):
        return plural.removesuffix("ies") + "y"
    return plural.removesuffix("s")


def names() -> list[str]:
    """Return the names in the settings, and ``user``."""
    return sorted({*conf.get().data.aliases, "user"})


def mistakes() -> list[conf.Mistake]:
    """Return the mistakes in ``ITKIT["DATA"]``: names that belong to no model or field."""
    found = []
    for name, entry in conf.get().data.aliases.items():
        key_path = f'{_SETTING}["{name}"]'
        try:
            model = _model(name, entry)
        except DataError as error:
            found.append(_wrong_model(entry, key_path, error))
        else:
            found.extend(_wrong_names(model, entry, key_path))
    return [*found, *_mistakes_of_deletion()]


def _mistakes_of_deletion() -> Iterator[conf.Mistake]:
    for label in conf.get().data.delete_by_model:
        try:
            lookup.model_labelled(label)
        except DataError:
            message = f'ITKIT["DATA"]["DELETE_BY_MODEL"]: {label!r} is no installed model.'
            yield conf.Mistake(13, message, lookup.label_hint(label))


def _wrong_model(entry: conf.AliasSettings, key_path: str, error: DataError) -> conf.Mistake:
    if entry.model is None:
        return conf.Mistake(8, f"{key_path}: {error}", f'Name the model in {key_path}["MODEL"].')
    message = f'{key_path}["MODEL"] is {entry.model!r}, which is no installed model.'
    return conf.Mistake(8, message, lookup.label_hint(entry.model))


def _wrong_names(model: Model, entry: conf.AliasSettings, key_path: str) -> Iterator[conf.Mistake]:
    for name in entry.args:
        if lookup.field_of(model, name) is None:
            message = f'{key_path}["ARGS"]: {model._meta.label} has no field {name!r}.'
            hint = did_you_mean(name, lookup.field_names(model))
            yield conf.Mistake(9, message, hint)
    try:
        _children(model, entry)
    except DataError as error:
        yield conf.Mistake(9, f'{key_path}["ITEMS"]: {error}', f'Correct {key_path}["ITEMS"].')


def _model(name: str, entry: conf.AliasSettings) -> Model:
    if entry.model is not None:
        return lookup.model_labelled(entry.model)
    if name == "user":
        return lookup.model_labelled(settings.AUTH_USER_MODEL)
    found = lookup.models_named(name)
    if len(found) == 1:
        return found[0]
    if found:
        labels = ", ".join(model._meta.label for model in found)
        raise DataError(
            f"{name!r} may be any of {labels}. Say which: "
            f'{_SETTING}["{name}"] = {{"MODEL": "{found[0]._meta.label}"}}.'
        )
    error = UnknownAliasError(f"No model goes by the alias {name!r}. {_near(name)}")
    error.obj = apps  # without it, Python 3.12 and later add a suggestion of their own
    raise error


def _near(name: str) -> str:
    known = {model.__name__.lower() for model in apps.get_models()} | set(names())
    hint = did_you_mean(name, sorted(known))
    return f'{hint} Or add {_SETTING}["{name}"] = {{"MODEL": "app.Model"}}.'


def _usual_args(name: str, model: Model) -> tuple[str, ...]:
    """Return the argument of the common call: a user's address, another model's owner."""
    if name == "user":
        return ("email",) if lookup.field_of(model, "email") else ()
    keys = lookup.foreign_keys(model)
    owners = [key for key in keys if _is_user(key.related_model)]
    owners = owners or [key for key in keys if not key.null and not key.has_default()]
    return (owners[0].attname,) if len(owners) == 1 else ()


def _is_user(model: Model) -> bool:
    return model._meta.label_lower == settings.AUTH_USER_MODEL.lower()


def _children(model: Model, entry: conf.AliasSettings) -> Children | None:
    relations = _child_relations(model)
    if not entry.items:
        usual = [relations[name] for name in _USUAL_RELATIONS if name in relations]
        return usual[0] if len(usual) == 1 else None
    name, *labels = entry.items
    if name in relations:
        return relations[name]
    if labels:
        return _children_by_key(model, name, lookup.model_labelled(labels[0]))
    hint = did_you_mean(name, list(relations))
    raise DataError(f"{model._meta.label} has no relation {name!r} to rows of its own. {hint}")


def _child_relations(model: Model) -> dict[str, Children]:
    return {
        name: Children(relation.related_model, relation.field.name, name)
        for relation in model._meta.related_objects
        if relation.one_to_many and (name := relation.get_accessor_name())
    }


def _children_by_key(model: Model, name: str, child: Model) -> Children:
    keys = {key.name: key for key in lookup.foreign_keys(child) if key.related_model is model}
    if name in keys:
        return Children(child, name, keys[name].remote_field.get_accessor_name() or "")
    raise DataError(
        f"{name!r} is neither a relation of {model._meta.label} nor a foreign key of "
        f"{child._meta.label} to it. {did_you_mean(name, keys)}"
    )

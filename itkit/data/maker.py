"""One instance of a model: by the project's factory where there is one, else by model_bakery."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from django.db import connections, models, router

from itkit.data import factories, lookup, obstacles
from itkit.data.lookup import Field, ForeignKey
from itkit.data.plan import BAKERY, Plan
from itkit.data.unique import UniqueValues
from itkit.exceptions import DataError

Model = type[models.Model]
Values = dict[str, Any]


class Maker:
    """Makes instances, saved or not, and those that they need.

    Args:
        unique: gives the values of unique columns to model_bakery, which would collide.
        using: alias of ``DATABASES``; by default what the factory or the router says.
        plan: writes what is to be saved, later; without one it is saved at once.
    """

    def __init__(self, unique: UniqueValues, using: str | None, plan: Plan | None = None) -> None:
        self._unique = unique
        self._using = using
        self._plan = plan

    def by_model(
        self,
        model: Model,
        values: Values,
        states: tuple[str, ...] = (),
        *,
        save: bool = True,
        within: tuple[Model, ...] = (),
    ) -> Any:
        """Make an instance of ``model``; ``within`` are the models that wait for it.

        Raises:
            DataError: states are asked for and there is no factory that could know them.
        """
        factory = factories.of_model(model)
        if factory is not None:
            return self.by_factory(factory, values, states, save=save)
        if states:
            raise DataError(
                f"{model._meta.label} has no factory, so it has no state {states[0]!r}. Write "
                f"{model.__name__}Factory in {model._meta.app_config.name}/factories.py with the "
                "state as a factory.Trait, or pass the values."
            )
        return self._by_bakery(model, values, save=save, within=within)

    def by_factory(
        self,
        factory: factories.Factory,
        values: Values,
        states: tuple[str, ...] = (),
        *,
        save: bool = True,
    ) -> Any:
        """Make an instance by a factory of factory_boy, with the traits named by ``states``."""
        values = factories.trait_values(factory, states) | values
        if self._using is not None:
            factory = factories.on_database(factory, self._using)
        if not save:
            return factory.build(**values)
        values = self._with_rows(factory, values)
        if self._plan is None:
            return factory.create(**values)
        return self._planned_by_factory(factory, values, self._plan)

    def has_made(self, model: Model, field: str, parent: models.Model) -> bool:
        """Return whether the making of ``parent`` made rows of a model that refer to it."""
        if self._plan is not None and parent._state.adding:
            waiting = self._plan.last_waiting(model)
            if waiting is not None and getattr(waiting, field) is parent:
                return True
            if not self._plan.has_saved(model):
                return False
        rows: models.QuerySet[Any] = models.QuerySet(
            model, using=parent._state.db or self._using or router.db_for_write(model)
        )
        return rows.filter(**{field: parent}).exists()

    @staticmethod
    def _planned_by_factory(factory: factories.Factory, values: Values, plan: Plan) -> Any:
        from itkit.data import builder  # imports factory_boy

        reason = obstacles.of_entry(factory)
        if reason is None:
            return builder.build(factory, values, plan)
        plan.count_saved(factory._meta.get_model_class(), factory.__name__, reason)
        return factory.create(**values)

    @staticmethod
    def _with_rows(factory: factories.Factory, values: Values) -> Values:
        """Replace ids by their rows where the factory would otherwise make a row of its own."""
        model = factory._meta.get_model_class()
        replaced = {}
        for name, value in values.items():
            key = lookup.foreign_key_by_id(model, name)
            if key is not None and value is not None and factories.declares(factory, key.name):
                replaced[key.name] = lookup.row(key, value, factories.database(factory))
            else:
                replaced[name] = value
        return replaced

    def _by_bakery(
        self, model: Model, values: Values, *, save: bool, within: tuple[Model, ...]
    ) -> Any:
        from model_bakery import baker

        related = self._related(model, values, save=save, within=(*within, model))
        given = {name: value for name, value in values.items() if not _is_nested(name, related)}
        values = dict(self._unique_values(model, given)) | related | given
        if save and self._plan is not None:
            return self._planned_by_bakery(model, values, self._plan)
        make = baker.make if save else baker.prepare
        return make(model, _using=self._using or "", **values)

    def _planned_by_bakery(self, model: Model, values: Values, plan: Plan) -> Any:
        from model_bakery import baker

        using = self._using or router.db_for_write(model)
        reason = plan.obstacle(model, using) or _obstacle_of_values(model, tuple(values))
        if reason is None:
            instance = baker.prepare(model, _using=using, **values)
            reason = plan.add(instance, using, BAKERY)
            if reason is None:
                return instance
        plan.count_saved(model, BAKERY, reason)
        return baker.make(model, _using=using, **values)

    def _related(
        self, model: Model, values: Values, *, save: bool, within: tuple[Model, ...]
    ) -> Values:
        """Make the rows that a row of ``model`` cannot be without, by their own factories."""
        made = {}
        for field in lookup.foreign_keys(model):
            nested = _nested_values(field.name, values)
            if field.name in values or field.attname in values:
                continue
            if nested or _must_be_made(field):
                if not nested:  # what the test spells out comes to an end
                    _refuse_cycle(field, within)
                made[field.name] = self.by_model(
                    field.related_model, nested, save=save, within=within
                )
        return made

    def _unique_values(self, model: Model, given: Values) -> Iterator[tuple[str, Any]]:
        for field in _fields_that_differ(model):
            if field.name not in given:
                draw = self._generator(field)
                if draw is not None:
                    yield field.name, draw()

    def _generator(self, field: Field) -> Callable[[], Any] | None:
        if isinstance(field, models.AutoField) or field.choices:
            return None
        if isinstance(field, models.EmailField):
            return self._unique.email
        if isinstance(field, models.URLField):
            return lambda: f"https://example.com/{self._unique.hex()}"
        if isinstance(field, models.CharField | models.TextField):
            return lambda: self._unique.text(field.max_length)
        if isinstance(field, models.IntegerField):
            return lambda: 1 + self._unique.number(self._largest(field))
        return None

    def _largest(self, field: Field) -> int:
        alias = self._using or router.db_for_write(field.model)
        _, largest = connections[alias].ops.integer_field_range(field.get_internal_type())
        return min(largest or 2**31 - 1, 2**31 - 1)


@cache
def _obstacle_of_values(model: Model, names: tuple[str, ...]) -> str | None:
    """Return why model_bakery needs the row for one of the values of these names, or None."""
    for name in names:
        field = lookup.field_of(model, name)
        if field is None or field.many_to_many:
            return f"{name} is no column of it"
        if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
            return f"{name} is set again after the row has been saved"
    return None


def _is_empty(field: Field) -> bool:
    return not field.null and not field.has_default() and not field.has_db_default()


def _must_be_made(field: ForeignKey) -> bool:
    # model_bakery picks a content type; one that is made would name no model.
    return _is_empty(field) and field.related_model._meta.label != "contenttypes.ContentType"


def _is_nested(name: str, related: Values) -> bool:
    return name.partition("__")[0] in related and "__" in name


def _nested_values(name: str, values: Values) -> Values:
    prefix = f"{name}__"
    return {key.removeprefix(prefix): values[key] for key in values if key.startswith(prefix)}


@cache
def _fields_that_differ(model: Model) -> tuple[Field, ...]:
    """Return the fields whose values no two rows may share, and which nothing else fills in."""
    together = _fields_unique_together(model)
    return tuple(
        field
        for field in model._meta.fields
        if (field.unique or field.name in together or isinstance(field, models.EmailField))
        and _is_empty(field)
    )


def _fields_unique_together(model: Model) -> set[str]:
    groups: list[Sequence[str]] = [*model._meta.unique_together]
    groups += [constraint.fields for constraint in model._meta.total_unique_constraints]
    return {name for group in groups for name in group}


def _refuse_cycle(field: ForeignKey, within: tuple[Model, ...]) -> None:
    if field.related_model in within:
        path = " → ".join(model._meta.label for model in (*within, field.related_model))
        raise DataError(
            f"{field} cannot be filled: each row needs another one first ({path}). "
            f"Pass {field.name}=…, or write a factory for {within[0]._meta.label}."
        )

"""One instance of a model: by the project's factory where there is one, else by model_bakery."""

from functools import cache
from typing import Any

from django.db import models, router

from itkit.core import seed
from itkit.data.bulk import obstacles
from itkit.data.bulk.plan import BAKERY, BatchPlan
from itkit.data.bulk.recycled import Recycled
from itkit.data.create import unknown
from itkit.data.create.fillers import Fillers, is_empty
from itkit.data.factories import factories, lookup, recipes
from itkit.data.factories.lookup import ForeignKey, ForeignObject
from itkit.data.unique import UniqueValues
from itkit.exceptions import DataError

Model = type[models.Model]
Values = dict[str, Any]


class InstanceMaker:
    """Makes instances, saved or not, and the instances that they need.

    Args:
        unique: gives model_bakery the values of unique columns, as its own would collide.
        using: alias of ``DATABASES``; by default the one of the factory or the router.
        recycled: the instances that are used instead of new ones.
        plan: writes the instances later; without a plan each is saved at once.
    """

    def __init__(
        self,
        unique: UniqueValues,
        using: str | None,
        recycled: Recycled,
        plan: BatchPlan | None = None,
    ) -> None:
        self._fillers = Fillers(unique, using)
        self._using = using
        self._recycled = recycled
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
            DataError: a state or a field does not exist, or several states are given for a model
                that is made by a recipe.
        """
        factory = factories.of_model(model)
        if factory is not None:
            return self.by_factory(factory, values, states, save=save)
        recipe = recipes.of_model(model, states)
        if recipe is not None:
            return self.by_recipe(recipe, values, save=save)
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
        seed.reseed_imported()  # the factory, or the lookup of it, may be the first to import them
        unknown.refuse_for_factory(factory, values)
        values = factories.trait_values(factory, states) | values
        if self._using is not None:
            factory = factories.on_database(factory, self._using)
        if not save:
            return factory.build(**values)
        values = self._with_rows(factory, values)
        if self._plan is None and not self._recycled:
            return factory.create(**values)
        self._refuse_values_of_recycled(factory._meta.get_model_class(), values)
        return self._built(factory, values)

    def has_made(self, model: Model, field: str, parent: models.Model) -> bool:
        """Return whether rows of a model that refer to ``parent`` were made together with it."""
        if self._plan is not None and parent._state.adding:
            waiting = self._plan.last_waiting(model)
            if waiting is not None and getattr(waiting, field) is parent:
                return True
            if not self._plan.has_saved(model):
                return False
        using = parent._state.db or self._using or router.db_for_write(model)
        return lookup.all_rows(model, using).filter(**{field: parent}).exists()

    def by_recipe(self, recipe: recipes.Recipe, values: Values, *, save: bool = True) -> Any:
        """Make an instance by a recipe of model_bakery."""
        seed.reseed_imported()
        unknown.refuse_for_recipe(recipe, values)
        model = recipes.model_of(recipe)
        related = self._related(model, recipe.attr_mapping | values, save=save, within=(model,))
        given = {name: value for name, value in values.items() if not _is_nested(name, related)}
        drawn = self._fillers.values(model, recipe.attr_mapping | given)
        make = recipe.make if save else recipe.prepare
        if save and self._plan is not None:
            self._plan.count_saved(model, BAKERY, "a recipe saves what it needs on its own")
        return make(_using=self._using or "", **dict(drawn), **related, **given)

    def _built(self, factory: factories.Factory, values: Values) -> Any:
        from itkit.data.bulk import builder  # imports factory_boy

        reason = obstacles.of_entry(factory)
        if reason is None:
            return builder.build(factory, values, self._recycled, self._plan)
        if self._plan is not None:
            model = factory._meta.get_model_class()
            self._plan.count_saved(model, factory.__name__, reason)
        return factory.create(**values)

    def _refuse_values_of_recycled(self, model: Model, values: Values) -> None:
        for name in values:
            first, is_nested, _ = name.partition("__")
            field = lookup.field_of(model, first) if is_nested else None
            if isinstance(field, models.ForeignKey) and field.related_model in self._recycled:
                raise DataError(
                    f"{name} is a value of a new {field.related_model._meta.label}, but one is "
                    f"recycled here. Leave it out, or pass {first}=…."
                )

    @staticmethod
    def _with_rows(factory: factories.Factory, values: Values) -> Values:
        """Replace ids by their rows where the factory would make a row of its own otherwise."""
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
        baker = _bakery(model)
        seed.reseed_imported()
        unknown.refuse_for_model(model, values)
        self._refuse_values_of_recycled(model, values)
        related = self._related(model, values, save=save, within=(*within, model))
        given = {name: value for name, value in values.items() if not _is_nested(name, related)}
        values = dict(self._fillers.values(model, given)) | related | given
        if save and self._plan is not None:
            return self._planned_by_bakery(model, values, self._plan)
        make = baker.make if save else baker.prepare
        return make(model, _using=self._using or "", **values)

    def _planned_by_bakery(self, model: Model, values: Values, plan: BatchPlan) -> Any:
        from model_bakery import baker

        using = self._using or router.db_for_write(model)
        reason = plan.obstacle(model, using) or _obstacle_of_values(model, tuple(values))
        if reason is None:
            instance = baker.prepare(model, _using=using, **values)
            reason = plan.add(instance, using, BAKERY)
            if reason is None:
                return instance
        plan.count_saved(model, BAKERY, reason)
        # A save() of the project's own may not take the name of a database.
        return baker.make(model, _using=self._using or "", **values)

    def _related(
        self, model: Model, values: Values, *, save: bool, within: tuple[Model, ...]
    ) -> Values:
        """Make the rows that a row of ``model`` cannot be without, by their own factories."""
        made: Values = {}
        for reference in lookup.foreign_objects(model):
            if reference.name not in values and not reference.null:
                made |= self._referred(reference, values | made, save=save, within=within)
        for field in lookup.foreign_keys(model):
            nested = _nested_values(field.name, values)
            if {field.name, field.attname} & {*values, *made}:
                continue
            if nested or _must_be_made(field):
                if field.related_model in self._recycled:
                    made[field.name] = self._recycled.of(field.related_model)
                    continue
                if not nested:  # values that the test gives end the recursion
                    _refuse_cycle(field, within)
                made[field.name] = self.by_model(
                    field.related_model, nested, save=save, within=within
                )
        return made

    def _referred(
        self, reference: ForeignObject, values: Values, *, save: bool, within: tuple[Model, ...]
    ) -> Values:
        """Make the row that a reference by several columns needs; return it and these columns."""
        target = reference.related_model
        nested = _nested_values(reference.name, values)
        for column, key in reference.related_fields:
            given = values.get(column.name)
            if column.attname in values:
                nested.setdefault(key.attname, values[column.attname])
            elif given is not None and isinstance(key, models.ForeignKey):
                nested.setdefault(key.name, given)
            elif given is not None:
                of_given: Any = column  # a ForeignKey, whose value has another type than the key
                nested.setdefault(key.attname, getattr(given, of_given.target_field.attname))
        row = None
        if len(nested) >= len(reference.related_fields) and save:
            using = self._using or router.db_for_write(target)
            row = lookup.all_rows(target, using).filter(**nested).first()
        if row is None:
            if not nested:
                _refuse_cycle(reference, within)
            row = self.by_model(target, nested, save=save, within=within)
        made = {reference.name: row}
        for column, key in reference.related_fields:
            if not {column.name, column.attname} & values.keys():
                is_row = isinstance(column, models.ForeignKey) and isinstance(
                    key, models.ForeignKey
                )
                made[column.name if is_row else column.attname] = getattr(
                    row, key.name if is_row else key.attname
                )
        return made


@cache
def _obstacle_of_values(model: Model, names: tuple[str, ...]) -> str | None:
    """Return why model_bakery needs the saved row for one of these values, or None."""
    for name in names:
        field = lookup.field_of(model, name)
        is_column = field is not None and (
            field.column is not None or isinstance(field, models.ForeignObject)
        )
        if field is None or field.many_to_many or not is_column:  # a generic key has no column
            return f"{name} is no column of it"
        if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
            return f"{name} is set again after the row has been saved"
    return None


def _must_be_made(field: ForeignKey) -> bool:
    # model_bakery picks a content type; one that is made would name no model.
    return is_empty(field) and field.related_model._meta.label != "contenttypes.ContentType"


def _is_nested(name: str, related: Values) -> bool:
    return name.partition("__")[0] in related and "__" in name


def _nested_values(name: str, values: Values) -> Values:
    prefix = f"{name}__"
    return {key.removeprefix(prefix): values[key] for key in values if key.startswith(prefix)}


def _refuse_cycle(field: ForeignObject, within: tuple[Model, ...]) -> None:
    if field.related_model in within:
        path = " → ".join(model._meta.label for model in (*within, field.related_model))
        raise DataError(
            f"{field} cannot be filled: each row needs another one first ({path}). "
            f"Pass {field.name}=…, or write a factory for {within[0]._meta.label}."
        )


def _bakery(model: Model) -> Any:
    try:
        from model_bakery import baker
    except ImportError as error:
        raise DataError(
            f"{model._meta.label} has no factory in any <app>/factories.py, and model_bakery, which"
            " makes the rows of such models, is not installed:"
            " pip install 'django-itkit[factories]', or write a factory"
        ) from error
    return baker

"""The steps of factory_boy, for instances that a plan writes later or that are recycled.

Declarations, sequences, traits and the order of evaluation are those of factory_boy. Only the
moment of the insert is itkit's.
"""

from functools import cache, partial
from typing import Any, NamedTuple

from django.db import models
from factory import enums
from factory.builder import BuildStep, DeclarationSet, StepBuilder, parse_declarations
from factory.declarations import Maybe, RelatedFactory
from factory.django import DjangoModelFactory

from itkit.data.bulk.plan import BatchPlan
from itkit.data.bulk.recycled import Recycled
from itkit.data.factories.factories import Factory, is_factory, is_inherited


def build(
    factory: Factory, values: dict[str, Any], recycled: Recycled, plan: BatchPlan | None
) -> Any:
    """Make an instance by a factory, and those instances that it needs and that are not recycled.

    A plan writes it later; without one it is saved.
    """
    return Builder(factory._meta, values, recycled, plan).build()


class Builder(StepBuilder):
    """Builds one instance. Copies of the builder build the instances that it needs."""

    def __init__(
        self, factory_meta: Any, extras: dict[str, Any], recycled: Recycled, plan: BatchPlan | None
    ) -> None:
        super().__init__(factory_meta, extras, enums.CREATE_STRATEGY)
        self._recycled = recycled
        self._plan = plan
        self._is_needed = False  # by an instance that does not exist yet
        self._is_instance_there = False

    def build(self, parent_step: Any = None, force_sequence: int | None = None) -> Any:
        """Make the instance; a factory of something else than rows makes it in its own way."""
        if not is_factory(self.factory_meta.factory):
            return super().build(parent_step, force_sequence)
        model = self.factory_meta.get_model_class()
        if self._is_needed and model in self._recycled:
            return self._recycled.of(model)
        hooks = self._plan.hooks if self._plan else 0
        pre, post = self._declarations()
        step = BuildStep(
            builder=self, sequence=self._sequence(force_sequence), parent_step=parent_step
        )
        step.resolve(pre)
        args, kwargs = self.factory_meta.prepare_arguments(step.attributes)
        instance = self._made(step, args, kwargs, post)
        if self._plan is not None and self._plan.hooks == hooks:
            step.stub = None  # it is not needed any more, and would be a cycle of references
        return instance

    def recurse(self, factory_meta: Any, extras: dict[str, Any]) -> "Builder":
        """Return a builder of an instance that this one needs, or that follows this one."""
        builder = type(self)(factory_meta, extras, self._recycled, self._plan)
        builder._is_needed = not self._is_instance_there
        return builder

    def _declarations(self) -> tuple[DeclarationSet, DeclarationSet]:
        shared = _shared_declarations(self.factory_meta)
        if shared is not None and all(map(shared.takes, self.extras.items())):
            return shared.with_values(self.extras)
        return parse_declarations(
            self.extras, self.factory_meta.pre_declarations, self.factory_meta.post_declarations
        )

    def _sequence(self, forced: int | None) -> int:
        if forced is not None:
            return forced
        if self.force_init_sequence is not None:
            return self.force_init_sequence
        return self.factory_meta.next_sequence()

    def _made(self, step: Any, args: tuple[Any, ...], kwargs: dict[str, Any], post: Any) -> Any:
        self._is_instance_there = True
        if self._plan is None:
            return self._saved(step, args, kwargs, post)
        model, using, maker, obstacle = self._plan.destination(self.factory_meta.factory)
        if obstacle is None:
            instance = model(*args, **kwargs)
            obstacle = self._plan.add(instance, using, maker)
            if obstacle is None:
                self._follow(instance, step, post, self._plan)
                return instance
        self._plan.count_saved(model, maker, obstacle)
        return self._saved(step, args, kwargs, post)

    def _saved(self, step: Any, args: tuple[Any, ...], kwargs: dict[str, Any], post: Any) -> Any:
        instance = self.factory_meta.instantiate(step=step, args=args, kwargs=kwargs)
        results = {name: _evaluated(post[name], instance, step) for name in post.sorted()}
        self.factory_meta.use_postgeneration_results(instance=instance, step=step, results=results)
        return instance

    def _follow(self, instance: models.Model, step: Any, post: Any, plan: BatchPlan) -> None:
        """Plan the rows of related factories, and postpone the hooks that may look at the row."""
        if not post.declarations:
            return
        results: dict[str, Any] = {}
        hooks = []
        for name in post.sorted():
            results[name] = None  # keeps the order
            if _only_makes_rows(post[name].declaration):
                results[name] = _evaluated(post[name], instance, step)
            else:
                hooks.append(post[name])
        if hooks or (results and _sees_results(self.factory_meta.factory)):
            plan.follow(partial(self._call_hooks, instance, step, hooks, results, plan))

    def _call_hooks(
        self,
        instance: models.Model,
        step: Any,
        hooks: list[Any],
        results: dict[str, Any],
        plan: BatchPlan,
    ) -> None:
        for hook in hooks:
            plan.count_hook(self.factory_meta.factory.__name__, hook.name)
            results[hook.name] = _evaluated(hook, instance, step)
        self.factory_meta.use_postgeneration_results(instance=instance, step=step, results=results)


class _Shared(NamedTuple):
    """The declarations of a factory, parsed once for all instances that differ in plain values."""

    pre: DeclarationSet
    post: DeclarationSet

    def takes(self, item: tuple[str, Any]) -> bool:
        """Return whether a value simply replaces a declaration, or is for a name without one."""
        name, value = item
        if enums.SPLITTER in name or name in self.post or enums.get_builder_phase(value):
            return False
        declared = self.pre.declarations.get(name)
        return not getattr(declared, "CAPTURE_OVERRIDES", False)

    def with_values(self, values: dict[str, Any]) -> tuple[DeclarationSet, DeclarationSet]:
        """Return the declarations with these values, which replace some or are added."""
        if not values:
            return self
        pre = DeclarationSet()
        pre.declarations = self.pre.declarations | values
        pre.contexts = self.pre.contexts
        return pre, self.post


@cache
def _shared_declarations(factory_meta: Any) -> _Shared | None:
    """Return the declarations of a factory, which are the same for all instances without values.

    It returns None where a Transformer takes its value out of them, so that they cannot be shared.
    """
    pre, post = parse_declarations(
        {}, factory_meta.pre_declarations, factory_meta.post_declarations
    )
    return None if any("" in context for context in pre.contexts.values()) else _Shared(pre, post)


def _evaluated(declared: Any, instance: models.Model, step: Any) -> Any:
    return declared.declaration.evaluate_post(
        instance=instance, step=step, overrides=declared.context
    )


def _only_makes_rows(declaration: Any) -> bool:
    if isinstance(declaration, Maybe):
        return all(
            _only_makes_rows(item)
            for item in (declaration.decider, declaration.yes, declaration.no)
            if enums.get_builder_phase(item) == enums.BuilderPhase.POST_INSTANTIATION
        )
    return isinstance(declaration, RelatedFactory)


def _sees_results(factory: Factory) -> bool:
    # factory_boy's own method saves the instance again, although related factories cannot change
    # it.
    return not is_inherited(factory, "_after_postgeneration", DjangoModelFactory)

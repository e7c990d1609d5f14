"""TestDataManager: creates what a test needs, knows all of it, and removes it again."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self, TypeGuard, TypeVar, get_args, overload

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, models

from itkit.conf import DataLeaks
from itkit.core import seed as seeds
from itkit.core.text import did_you_mean
from itkit.data import aliases, marks, progress
from itkit.data.bulk.explanation import Explanation
from itkit.data.bulk.plan import BatchPlan
from itkit.data.bulk.recycled import Recycled
from itkit.data.cleanup import deletion
from itkit.data.cleanup.leaks import Leak, Watch
from itkit.data.cleanup.report import CleanupReport
from itkit.data.cleanup.rows import Row, TrackedRows
from itkit.data.create import login
from itkit.data.create.maker import InstanceMaker
from itkit.data.factories import factories, lookup, recipes
from itkit.data.marks import MarkedValue, MarkWatch
from itkit.data.scenarios import player, scenarios
from itkit.data.scenarios.player import Snapshots
from itkit.data.scenarios.scenarios import Scenario
from itkit.data.scenarios.world import World
from itkit.data.unique import UniqueValues
from itkit.exceptions import DataError, LeakedRowsError
from itkit.timeline import callsite

M = TypeVar("M", bound=models.Model)
T = TypeVar("T")
Made_co = TypeVar("Made_co", covariant=True)

States = tuple[str, ...]
Values = dict[str, Any]
Bulk = Literal["auto", "copy", "never"]

_CREATE_TEST: Final = "create_test_"
_CREATE: Final = "create_"
_CREATED: Final = "created_"


class FactoryOf(Protocol[Made_co]):
    """What a type checker takes a factory class for: ``DjangoModelFactory[Order]`` makes orders."""

    def create(self, **kwargs: Any) -> Made_co:
        """Create and save one instance."""


def _kept_nowhere() -> None:
    """Return no directory: scenarios are kept in this process."""


def _never_reset(_alias: str) -> bool:
    """Return that nobody else removes the rows."""
    return False


class TestDataManager:
    """Creates rows by the project's factories, or by model_bakery, and removes them.

    The manager tracks all rows that it creates, and those that factories create on the way. Only
    rows that send no ``post_save`` (``bulk_create``, ``mute_signals``) need ``track()``.
    ``cleanup()`` removes them in reverse, together with rows of the tested code that refer to them.
    As a context manager it cleans up at the end.

    ``create_<alias>()`` and ``create_test_<alias>()`` create by an alias, as ``create("<alias>")``
    does; ``created_<alias>s`` lists the created instances. Aliases are in ``ITKIT["DATA"]`` or are
    names of models: ``create_test_user()``, ``create_test_order(user.id, items=[{...}])``.

    Args:
        seed: a seed that makes the unique values repeatable; see ``UniqueValues``.
        offset: the position in the seed's values at which to begin.
        using: alias of ``DATABASES``; by default the one of the factory or the router.
        leaks: what happens to rows that are new in this database at clean-up and that the manager
            does not know. They are removed; ``"report"`` also warns of them, and ``"fail"`` fails
            the test. Both compare the tables' keys. ``"exact"`` fails the test too. It uses
            triggers, in itkit's schemas only, until the first clean-up, and so sees the rows of raw
            SQL, COPY, threads and processes with any keys.
        snapshots: returns the directory where the rows of scenarios are kept for other processes;
            returns None if there is none.
        unique: draws the unique values, instead of a seed.
        watch: finds the values of bystanders, and secrets, where they turn up; that of a test.
        is_reset: returns whether a database, by its alias, is reset after the test whose manager
            this is; by default none is.

    Attributes:
        unique: values that collide with no others: ``unique.email()``, ``unique.text(10)``.
    """

    __test__ = False  # pytest would collect the class for its name

    def __init__(
        self,
        *,
        seed: str | None = None,
        offset: int = 0,
        using: str | None = None,
        leaks: DataLeaks = "off",
        snapshots: Snapshots = _kept_nowhere,
        unique: UniqueValues | None = None,
        watch: MarkWatch | None = None,
        is_reset: Callable[[str], bool] | None = None,
    ) -> None:
        self.unique = unique or UniqueValues(seed, offset=offset)
        self._snapshots = snapshots
        self._using = using
        self._recycled = Recycled()
        self._maker = InstanceMaker(self.unique, using, self._recycled)
        self._tracked = TrackedRows()
        self._explanation = Explanation()
        self._watch = Watch(leaks, using)
        self._mark_watch = watch
        self._is_reset = is_reset or _never_reset
        self._marks: list[MarkedValue] = []

    def __repr__(self) -> str:
        counts = Counter(row.model._meta.label for row in self._tracked)
        rows = ", ".join(f"{count} of {label}" for label, count in counts.items())
        return f"<{type(self).__name__}: {rows or 'no rows'}>"

    @overload
    def create(self, what: type[M], /, *states: str, **values: Any) -> M: ...
    @overload
    def create(self, what: type[FactoryOf[T]], /, *states: str, **values: Any) -> T: ...
    @overload
    def create(self, what: str | type[Any], /, *states: str, **values: Any) -> Any: ...
    def create(self, what: str | type[Any], /, *states: str, **values: Any) -> Any:
        """Create and save one instance.

        Args:
            what: a model, its label (``"shop.Order"``), a factory of factory_boy, a recipe of
                model_bakery, or an alias (``"order"``).
            states: names of the factory's traits to switch on; of a model without a factory, the
                name of a recipe.
            values: the values that matter to the test; all others are filled in.

        Raises:
            DataError: the model, alias, trait or field does not exist, or a row cannot be filled
                in.
        """
        with self._tracked.recording():
            return self._creation(what, states, values, self._maker)()

    @overload
    def create_batch(
        self, what: type[M], size: int, /, *states: str, bulk: Bulk = "auto", **values: Any
    ) -> list[M]: ...
    @overload
    def create_batch(
        self,
        what: type[FactoryOf[T]],
        size: int,
        /,
        *states: str,
        bulk: Bulk = "auto",
        **values: Any,
    ) -> list[T]: ...
    @overload
    def create_batch(
        self, what: str | type[Any], size: int, /, *states: str, bulk: Bulk = "auto", **values: Any
    ) -> list[Any]: ...
    def create_batch(
        self, what: str | type[Any], size: int, /, *states: str, bulk: Bulk = "auto", **values: Any
    ) -> list[Any]:
        """Create and save ``size`` instances, with the rows that ``create()`` would make.

        They are written by table, in one transaction, with the rows that they need. Rows that have
        to be saved on their own are saved one by one; ``explain()`` says which and why.

        Args:
            what: the model or factory, as in ``create()``.
            size: how many.
            states: the states, as in ``create()``.
            bulk: ``"auto"`` writes by COPY or INSERT, whichever is faster; ``"copy"`` writes by
                COPY wherever that is possible; ``"never"`` saves one by one.
            values: the values of all instances, as in ``create()``.

        Raises:
            DataError: for the reasons of ``create()``, or because ``size`` is no whole number of 0
                or more, or ``bulk`` is none of these words.
        """
        _check_batch(size, bulk)
        title = f"Creating {getattr(what, '__name__', what)}"
        with self._tracked.recording():
            if bulk == "never":
                create = self._creation(what, states, values, self._maker)
                return [create() for _ in progress.counted(title, size)]
            with BatchPlan(copy=bulk == "copy") as plan:
                maker = InstanceMaker(self.unique, self._using, self._recycled, plan)
                create = self._creation(what, states, values, maker)
                made = [create() for _ in progress.counted(title, size)]
        self._explanation = plan.explanation
        return made

    def explain(self) -> Explanation:
        """Return how the rows of the last ``create_batch()`` were written, and why not in bulk."""
        return self._explanation

    @overload
    def build(self, what: type[M], /, *states: str, **values: Any) -> M: ...
    @overload
    def build(self, what: type[FactoryOf[T]], /, *states: str, **values: Any) -> T: ...
    @overload
    def build(self, what: str | type[Any], /, *states: str, **values: Any) -> Any: ...
    def build(self, what: str | type[Any], /, *states: str, **values: Any) -> Any:
        """Make one instance and the instances that it refers to, and save none of them.

        Raises:
            DataError: for the reasons of ``create()``.
        """
        if factories.is_factory(what):
            return self._maker.by_factory(what, values, states, save=False)
        if recipes.is_recipe(what):
            return self._maker.by_recipe(what, values, save=False)
        if _is_alias(what):
            alias = aliases.find(what)
            values = self._completed(alias, alias.bind(values))
            return self._maker.by_model(alias.model, values, states, save=False)
        return self._maker.by_model(_model(what), values, states, save=False)

    @overload
    def bystander(self, what: type[M], /, *states: str, **values: Any) -> M: ...
    @overload
    def bystander(self, what: type[FactoryOf[T]], /, *states: str, **values: Any) -> T: ...
    @overload
    def bystander(self, what: str | type[Any], /, *states: str, **values: Any) -> Any: ...
    def bystander(self, what: str | type[Any], /, *states: str, **values: Any) -> Any:
        """Create and save a row that the test has nothing to do with, with marked values.

        A value of it that turns up elsewhere fails the test at its end, with where it is, and the
        line: in a response of Django's test client, a mail, the arguments of a backend's call, a
        record of logging, a key or a value in Redis, or a text in another row. What making it has
        left, as by receivers, is left out. Marked are its texts, and its decimal numbers where they
        have room for six digits before the point.

        Args:
            what: the model or factory, as in ``create()``.
            states: the states, as in ``create()``.
            values: the values that the test gives, as in ``create()``; they are not marked.

        Raises:
            DataError: for the reasons of ``create()``, or no column is left for a mark, or the
                manager is none of a test.
        """
        watch = self._required_watch("bystander")
        model = self._model_of(what)
        marked = marks.values_of(model, values, self.unique)
        made = self.create(what, *states, **marked, **values)
        self._look_for(watch, list(marks.of_row(model, marked, _site())))
        return made

    def secret(self, *, allowed: Iterable[str] = ()) -> str:
        """Return a text that must not turn up but where it is allowed, which fails the test.

        Args:
            allowed: names or patterns of where it may be: a column as ``"shop.Order.token"``, a
                call as ``"payments.charge"``, a response as ``"GET /account/"``, ``"mail"``, a
                logger as ``"log shop.views"``, and keys in Redis by their names.

        Raises:
            DataError: ``allowed`` is a text or has a name that nothing has, or the manager is
                none of a test.
        """
        if isinstance(allowed, str):
            text = f"allowed is {allowed!r}, expected a list: write allowed=[{allowed!r}]."
            raise DataError(text)
        watch = self._required_watch("secret")
        text = marks.secret_text(self.unique)
        self._look_for(watch, [MarkedValue(text, "secret", _site(), tuple(allowed))])
        return text

    def _required_watch(self, method: str) -> MarkWatch:
        if self._mark_watch is None:
            raise DataError(
                f"{method}() is for the data of a test: self.data, cls.data, or the fixture data."
            )
        return self._mark_watch

    def _look_for(self, watch: MarkWatch, made: list[MarkedValue]) -> None:
        watch.add(made)
        self._marks += made

    def track(self, rows: T) -> T:
        """Remove an instance, or those of a queryset or list, at clean-up as well.

        Returns:
            Its argument.

        Raises:
            DataError: an instance has not been saved.
        """
        for instance in rows if isinstance(rows, Iterable) else [rows]:
            if not isinstance(instance, models.Model):
                raise DataError(f"track() takes saved instances, not {instance!r}.")
            self._tracked.add(instance)
        return rows

    def scenario(self, what: str | Scenario) -> World:
        """Create the rows of a scenario, and return the objects that it names as attributes.

        The rows are made once. From then on this process and others restore them, as long as the
        sources of the scenario, the factories and the models do not change. Where rows cannot be
        restored, they are made anew; the ``repr`` of the result says which happened and why.

        Args:
            what: the name of a function in a ``scenarios.py``, ``"app.name"``, or the function
                itself.

        Raises:
            DataError: the scenario does not exist, or it names a value that cannot be kept.
        """
        played = scenarios.find(what)
        return player.play(
            played,
            self._using or DEFAULT_DB_ALIAS,
            snapshots=self._snapshots,
            new_manager=partial(self._of_scenario, played),
            manager=self,
            tracked=self._tracked,
        )

    def _of_scenario(self, played: Scenario) -> "TestDataManager":
        unique = UniqueValues(
            played.full_name, offset=seeds.offset_of_kept(played.full_name), is_apart=True
        )
        return TestDataManager(using=self._using, snapshots=self._snapshots, unique=unique)

    async def ascenario(self, what: str | Scenario) -> World:
        """Create the rows of a scenario, as ``scenario()`` does, from asyncio code."""
        return await sync_to_async(self.scenario)(what)

    @contextmanager
    def recycle(self, *instances: models.Model) -> Iterator[None]:
        """Use these instances, within a block, wherever a factory would create one of their models.

        ``with data.recycle(customer): data.create_batch(Order, 10)`` makes ten orders of one
        customer. Several of one model take turns. Rows that a RelatedFactory makes for such an
        instance are made as usual.

        Raises:
            DataError: one of the values is not an instance of a model. Within the block: a value
                such as ``customer__name`` is for an instance that will not be made.
        """
        with self._recycled.including(instances):
            yield

    @contextmanager
    def capture(self) -> Iterator[list[models.Model]]:
        """Track all that the tested code creates within a block, in all threads.

        ``bulk_create`` and raw SQL send no signal, so rows that they insert are not seen.

        Yields:
            A list of the instances in the order of their creation, which grows within the block.
        """
        with self._tracked.capturing() as made:
            yield made

    def counts(self) -> Counter[str]:
        """Return how many rows there are to remove, by the label of their model."""
        return Counter(row.model._meta.label for row in self._tracked)

    def on_cleanup(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function at clean-up, after what is created later has been removed."""
        self._tracked.add_callback(partial(function, *args))

    def cleanup(self) -> CleanupReport:
        """Remove the created and tracked rows, the last first, and rows that refer to them.

        A second call finds nothing to do. In a running event loop write ``await data.cleanup()``.

        Raises:
            ExceptionGroup: all that went wrong; the rest has been removed.
            LeakedRowsError: the manager found rows that it did not know, and ``leaks`` forbids
                that.
        """
        report = CleanupReport()
        if _in_event_loop():
            return report.after(partial(self._clean_up, report))
        self._clean_up(report)
        return report

    def end(self) -> CleanupReport:
        """Clean up at the end of a test, as ``cleanup()`` does.

        Rows in the transaction of a ``django.test.TestCase`` are left to the rollback that follows,
        and rows of a database that is reset after the test to the reset, which removes all that the
        test has committed. Before a function of ``on_cleanup()`` is called, and where a model is
        deleted in its own way (``DELETE_BY_MODEL``), they are removed one table after the other.

        Raises:
            ExceptionGroup: all that went wrong; the rest has been removed.
            LeakedRowsError: for the reasons of ``cleanup()``.
        """
        report = CleanupReport()
        self._clean_up(report, is_end=True)
        return report

    @overload
    async def acreate(self, what: type[M], /, *states: str, **values: Any) -> M: ...
    @overload
    async def acreate(self, what: type[FactoryOf[T]], /, *states: str, **values: Any) -> T: ...
    @overload
    async def acreate(self, what: str | type[Any], /, *states: str, **values: Any) -> Any: ...
    async def acreate(self, what: str | type[Any], /, *states: str, **values: Any) -> Any:
        """Create and save one instance, as ``create()`` does, from asyncio code."""
        return await sync_to_async(lambda: self.create(what, *states, **values))()

    @overload
    async def acreate_batch(
        self, what: type[M], size: int, /, *states: str, bulk: Bulk = "auto", **values: Any
    ) -> list[M]: ...
    @overload
    async def acreate_batch(
        self,
        what: type[FactoryOf[T]],
        size: int,
        /,
        *states: str,
        bulk: Bulk = "auto",
        **values: Any,
    ) -> list[T]: ...
    @overload
    async def acreate_batch(
        self, what: str | type[Any], size: int, /, *states: str, bulk: Bulk = "auto", **values: Any
    ) -> list[Any]: ...
    async def acreate_batch(
        self, what: str | type[Any], size: int, /, *states: str, bulk: Bulk = "auto", **values: Any
    ) -> list[Any]:
        """Create and save ``size`` instances, as ``create_batch()`` does, from asyncio code."""
        create_batch = partial(self.create_batch, what, size, *states, bulk=bulk, **values)
        return await sync_to_async(create_batch)()

    @overload
    async def abystander(self, what: type[M], /, *states: str, **values: Any) -> M: ...
    @overload
    async def abystander(self, what: type[FactoryOf[T]], /, *states: str, **values: Any) -> T: ...
    @overload
    async def abystander(self, what: str | type[Any], /, *states: str, **values: Any) -> Any: ...
    async def abystander(self, what: str | type[Any], /, *states: str, **values: Any) -> Any:
        """Create a row with marked values, as ``bystander()`` does, from asyncio code."""
        return await sync_to_async(lambda: self.bystander(what, *states, **values))()

    async def acleanup(self) -> CleanupReport:
        """Remove the created and tracked rows, as ``cleanup()`` does, from asyncio code."""
        return await self.cleanup()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await sync_to_async(self.__exit__)(kind, failure, traceback)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._clean_up(CleanupReport())
        except (ExceptionGroup, LeakedRowsError) as error:
            if failure is None:
                raise
            # The clean-up must not hide the failure of the test, which matters more.
            details = list(error.exceptions) if isinstance(error, ExceptionGroup) else ""
            failure.add_note(f"{error} {details}".rstrip())

    def __getattr__(self, name: str) -> Any:
        for prefix in (_CREATE_TEST, _CREATE):
            if name.startswith(prefix):
                return partial(self._create_as, name, aliases.find(name.removeprefix(prefix)))
        if name.startswith(_CREATED):
            alias = aliases.find(aliases.singular(name.removeprefix(_CREATED)))
            return self._tracked.instances(alias.model)
        hint = ""
        if not name.startswith("_"):  # protocols of Python look these up
            public = [other for other in dir(type(self)) if not other.startswith("_")]
            hint = f". {did_you_mean(name, public)}"
        error = AttributeError(f"{type(self).__name__} has no attribute {name!r}{hint}")
        error.obj = self  # without it, Python 3.12 and later add a suggestion of their own
        raise error

    def _create_as(self, method: str, alias: aliases.Alias, /, *args: Any, **values: Any) -> Any:
        bound = alias.bind(values, args, method=method)
        with self._tracked.recording():
            return self._create_with_children(alias, (), bound, self._maker)

    def _creation(
        self, what: str | type[Any], states: States, values: Values, maker: InstanceMaker
    ) -> Callable[[], Any]:
        """Return a function that creates one instance at each call."""
        if factories.is_factory(what):
            return partial(maker.by_factory, what, values, states)
        if recipes.is_recipe(what):
            return partial(maker.by_recipe, what, values)
        if _is_alias(what):
            alias = aliases.find(what)
            bound = alias.bind(values)
            return partial(self._create_with_children, alias, states, bound, maker)
        return partial(maker.by_model, _model(what), values, states)

    def _create_with_children(
        self, alias: aliases.Alias, states: States, values: Values, maker: InstanceMaker
    ) -> Any:
        children = alias.children
        if children is None:
            return maker.by_model(alias.model, self._completed(alias, values), states)
        values = dict(values)
        items = values.pop(aliases.ITEMS, None)
        parent = maker.by_model(alias.model, self._completed(alias, values), states)
        if items is None and not maker.has_made(children.model, children.field, parent):
            items = children.default()
        for child in items or ():
            maker.by_model(children.model, {children.field: parent, **child})
        return parent

    def _completed(self, alias: aliases.Alias, values: Values) -> Values:
        return login.completed(alias.model, {**alias.defaults, **values}, self.unique)

    def _clean_up(self, report: CleanupReport, *, is_end: bool = False) -> None:
        errors: list[Exception] = []
        leaks: list[Leak] = []
        errors += _failure_of(self._look_a_last_time)  # while the rows are there
        errors += _failure_of(lambda: leaks.extend(self._watch.leaks(self._tracked)))
        # The database's notes end here, as the triggers have changed its tables.
        errors += _failure_of(self._watch.close)
        leaked = [leak.row for leak in leaks]
        errors += self._delete(leaked, CleanupReport(), is_end=is_end)
        report.leaked += [str(leak) for leak in leaks]
        for step in self._tracked.pop():
            if isinstance(step, list):
                errors += self._delete(step, report, is_end=is_end)
            else:
                errors += _failure_of(step)
        self.unique.release()
        if errors:
            raise ExceptionGroup("Not all test data could be removed", errors)
        self._watch.judge(leaks)

    def _delete(self, rows: list[Row], report: CleanupReport, *, is_end: bool) -> list[Exception]:
        # A function that is called at clean-up finds no row that was created after it was given.
        is_reset = _never_reset if self._tracked.has_callbacks else self._is_reset
        return deletion.delete(rows, self._tracked, report, is_end=is_end, is_reset=is_reset)

    def _look_a_last_time(self) -> None:
        """Look for the marks of this manager, whose rows are about to be removed."""
        made, self._marks = self._marks, []
        if made and self._mark_watch is not None:
            try:
                self._mark_watch.look()
            finally:
                self._mark_watch.forget(made)

    @staticmethod
    def _model_of(what: Any) -> type[models.Model]:
        """Return the model of what can be created."""
        if factories.is_factory(what):
            return what._meta.get_model_class()  # type: ignore[no-any-return]  # factory_boy's
        if recipes.is_recipe(what):
            return recipes.model_of(what)
        return aliases.find(what).model if _is_alias(what) else _model(what)


def _site() -> callsite.CallSite:
    """Return the line of the test that has called the manager."""
    caller = callsite.caller(sys._getframe(2))
    return callsite.site(caller.f_globals, caller.f_lineno)


def _is_alias(what: object) -> TypeGuard[str]:
    return isinstance(what, str) and "." not in what


def _model(what: object) -> type[models.Model]:
    if isinstance(what, str):
        return lookup.model_labelled(what)
    if isinstance(what, type) and issubclass(what, models.Model):
        return what
    raise DataError(
        f"{what!r} is nothing that can be created. Give a model, its label such as 'shop.Order', "
        "a factory, a recipe, or an alias such as 'order'."
    )


def _check_batch(size: Any, bulk: Any) -> None:
    if not isinstance(size, int) or size < 0:
        raise DataError(f"size is {size!r}, expected a whole number of 0 or more.")
    if bulk not in get_args(Bulk):
        raise DataError(
            f"bulk is {bulk!r}, expected one of {', '.join(map(repr, get_args(Bulk)))}."
        )


def _failure_of(callback: Callable[[], object]) -> list[Exception]:
    try:
        callback()
    except Exception as error:  # noqa: BLE001 - the rest is still to be cleaned up
        return [error]
    return []


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

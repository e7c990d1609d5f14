"""A test whose act is done from each state of a field: its argument ``state``, and its sweep."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple
from unittest import SkipTest

from django.apps import apps
from django.core import mail

from itkit import conf, environment, redis
from itkit.core.text import repr_of
from itkit.environment import Environment
from itkit.exceptions import FaultError, StateError
from itkit.fakes import Call
from itkit.sweep import rows
from itkit.sweep.act import apart, check_names, check_transactions, variation
from itkit.sweep.aftermath import Beginning, result_of
from itkit.sweep.choosing import StatesChoice, StateSpec
from itkit.sweep.rows import Exact
from itkit.sweep.variations import Sweep, Variation
from itkit.timeline import callsite, core
from itkit.timeline.core import Crossing

_SECOND: Final = "state.act() was entered a second time in one test: make a test of each act."
_NOT_ENTERED: Final = (
    "state.returned() was called outside of the block: call it within with state.act(): ..."
)
_NO_CHOICE: Final = (
    "The test asks for state, and says no field. Put the decorator over it:"
    ' @itkit.sweep.states(Order, "status", allowed=["pending"]).'
)
_NO_ACT: Final = "The test is swept with states, and has no act: with state.act(): ..."
_NO_STATE: Final = "--itkit-state is {!r}, and the states of {} are: {}."
_MAIL: Final = "mail"
_WROTE: Final = "the act was refused, and has written {}"
_NOT_REFUSED: Final = "the act was not refused{}"
_REFUSED: Final = "the act was refused from a state that is allowed: it has {}\n{}"
_NOT_ARRANGED: Final = (
    "no row has state.value where the act begins\n"
    "  {} has to be {!r} in one of them, and the rows have: {}.\n"
    "  Create the row with it, such as self.data.create({!r}, {}=state.value)."
)
_OTHER_ERROR: Final = (
    "itkit: {} is no refusal, as the decorator says refusal={}. Where it may refuse, name it too."
)
_HINT: Final = (
    "Where the act refuses by what it returns, hand that over: state.returned(...). Where it may"
    " be done from here, name the state: allowed=[..., {!r}]."
)


class Written(NamedTuple):
    """One thing that an act has left.

    Attributes:
        subject: the label of a model, the name of a call or of a key, or ``mail``.
        text: one line that says what has changed.
        sites: the lines that may have done it.
    """

    subject: str
    text: str
    sites: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text} at {' or '.join(self.sites)}" if self.sites else self.text


class Snapshot(NamedTuple):
    """What there is before an act, or after it.

    Attributes:
        rows: the rows of all models.
        keys: the values in Redis, by their keys.
    """

    rows: Exact
    keys: dict[str, str]


class SentCommands(NamedTuple):
    """Commands that a client has sent to Redis.

    Attributes:
        name: their words and keys.
        site: the line that they came from.
    """

    name: str
    site: str


class SweptState:
    """The state that the act of a test is done from.

    Args:
        choice: the states that the author of the test has chosen.
        spec: the state; None for the first one.

    Attributes:
        value: the value of the field, which the test arranges.
        is_allowed: whether the act must succeed from it.
        error: the error by which the act was refused; None where it raised none.
        option: the option of the command line that repeats this variation.
        was_entered: whether the test has begun its act.
    """

    columns = ()

    def __init__(self, choice: StatesChoice, spec: StateSpec | None = None) -> None:
        self.value, self.is_allowed = spec or choice.states[0]
        self.option = f"--itkit-state {shlex.quote(str(spec))}" if spec is not None else ""
        self.error: Exception | None = None
        self.was_entered = False
        self._choice = choice
        self._is_within = False
        self._refusal = ""
        self._since = datetime.now(UTC)

    @property
    def has_fault(self) -> bool:
        """Whether the act is to be refused, so that what the test has programmed is not used."""
        return not self.is_allowed

    @property
    def where(self) -> str:
        """Whether the state is allowed."""
        return "is allowed" if self.is_allowed else "is not allowed"

    @property
    def shown(self) -> str:
        """The state in a sentence."""
        allowed = "" if self.is_allowed else "not "
        return f"{self._choice.field} is {self.value!r}, from which the act is {allowed}allowed."

    @contextmanager
    def act(self, *, may_write: Iterable[str] = ()) -> Iterator[None]:
        """Do the act within a block, which a refusal does not leave.

        Args:
            may_write: names or patterns of what may be written although the act is refused: labels
                of models, calls of backends, keys in Redis, and ``mail``.

        Raises:
            FaultError: this is the second act of the test, a transaction is open, no row has
                ``state.value``, or nothing is called as ``may_write`` says.
            StateError: the act was not refused, or has written although it was; or it has returned
                a refusal from a state that is allowed.
        """
        if isinstance(may_write, str):
            text = f"may_write is {may_write!r}, expected a list: write may_write=[{may_write!r}]."
            raise FaultError(text)
        if self.was_entered:
            raise FaultError(_SECOND)
        patterns = tuple(may_write)
        check_names("may_write", patterns)
        check_transactions("The act of a state cannot be judged")
        self.was_entered = True
        apart(self._check_arranged)
        if self.is_allowed:
            with self._acting():
                yield
            if self._refusal:
                raise StateError(_REFUSED.format(self._refusal, self.shown))
            return
        before, begun, sent = apart(_snapshot), Beginning.now(), list[SentCommands]()
        try:
            with self._acting(), redis.clients_led(partial(_note, sent)):
                yield
        except (AssertionError, SkipTest):  # of the test itself
            raise
        except self._choice.refusal as error:
            self.error = error
            self._refusal = f"raised {repr_of(error)}"
        except Exception as error:
            error.add_note(_OTHER_ERROR.format(type(error).__name__, _names(self._choice.refusal)))
            raise
        found = [
            one
            for one in _written(before, apart(_snapshot), begun, sent)
            if not any(fnmatchcase(one.subject, pattern) for pattern in patterns)
        ]
        self._judge(found)

    def returned(self, value: Any) -> Any:
        """Take what the act has returned for a refusal, if it may be one.

        ``None``, ``False``, and a response with a status from 400 to 499 are refusals.

        Args:
            value: the value that the act has returned.

        Returns:
            The same.

        Raises:
            FaultError: the block has not begun, or has ended.
        """
        if not self._is_within:
            raise FaultError(_NOT_ENTERED)
        result = result_of(value, None, self._since)
        if result.may_refuse:
            self._refusal = result.text.replace(rows.LOOSE, "")
        return value

    def _check_arranged(self) -> None:
        """Check that the test has created its row with the state."""
        label, _, name = self._choice.field.rpartition(".")
        with core.between_tests():
            values = rows.column(apps.get_model(label), name)
        if str(self.value) not in values:
            seen = ", ".join(f"{value!r} ({number})" for value, number in sorted(values.items()))
            raise FaultError(
                _NOT_ARRANGED.format(
                    self._choice.field, self.value, seen or "no row at all", label, name
                )
            )

    @contextmanager
    def _acting(self) -> Iterator[None]:
        self._is_within = True
        try:
            yield
        finally:
            self._is_within = False

    def check(self) -> None:
        """Do nothing: the act is looked at where its block ends."""

    def _judge(self, found: list[Written]) -> None:
        if self._refusal and not found:
            return
        subjects = ", ".join(dict.fromkeys(one.subject for one in found))
        if self._refusal:
            lines = [_WROTE.format(subjects), self.shown, f"It has {self._refusal}."]
        else:
            lines = [_NOT_REFUSED.format(f", and has written {subjects}" if found else "")]
            lines += [self.shown, _HINT.format(self.value)]
        if found:
            lines += ["It has written:", rows.shown(map(str, found))]
        raise StateError("\n".join(lines)) from self.error


class StateSweep(Sweep):
    """The variations of one test in which its act is done from another state.

    Args:
        environment: the environment that the tests run in.
        choice: the states.
        *args: as all sweeps take them.
    """

    word = "state"
    failing = "The test does not hold from"
    when = "from"
    option = "state"

    def __init__(self, environment: Environment, choice: StatesChoice, *args: Any) -> None:
        super().__init__(environment, *args)
        self._choice = choice

    def new(self, spec: StateSpec | None = None) -> SweptState:
        """Return what the test holds in a run, the first of which is from the first state."""
        return SweptState(self._choice, spec)

    def _begin(self, first: SweptState) -> bool:
        """Return whether there are more states.

        Raises:
            FaultError: the test has no act, or the field no state that the command line asks for.
        """
        if not first.was_entered:
            raise FaultError(_NO_ACT)
        if self._only:
            self._asked()
            return True
        self.count(len(self._choice.states))
        return len(self._choice.states) > 1

    def variations(self) -> Iterator[Variation]:
        """Yield each state but the first, or the only one that the command line asks for."""
        if self._only:
            yield Variation(self._asked(), is_last=True, is_shown=True)
            return
        total = len(self._choice.states)
        for number, spec in enumerate(self._choice.states[1:], 2):
            self.count(total)
            reason = self.bound(conf.get().sweep.variations)
            if number < total and reason:
                self.leave(total - number, total, reason)
            is_last = number == total or bool(reason)
            yield Variation(spec, is_last)
            if is_last:
                return

    def _asked(self) -> StateSpec:
        """Return the state that the command line asks for."""
        states = self._choice.states
        for spec in states:
            if str(spec) == self._only:
                return spec
        known = ", ".join(repr(str(spec)) for spec in states)
        raise FaultError(_NO_STATE.format(self._only, self._choice.field, known))

    def not_tried(self) -> Iterator[str]:
        """Yield what is not a state of this field."""
        yield f"what other fields than {self._choice.field} say"


def current(choice: StatesChoice | None = None) -> SweptState:
    """Return the state of the running variation; the first one where none runs.

    Args:
        choice: the states that the author has chosen; None where only the variation has them.

    Raises:
        FaultError: nothing says it.
    """
    running = variation()
    if isinstance(running, SweptState):
        return running
    if choice is None:
        raise FaultError(_NO_CHOICE)
    return SweptState(choice)


def _names(refusal: type[Exception] | tuple[type[Exception], ...]) -> str:
    kinds = refusal if isinstance(refusal, tuple) else (refusal,)
    return " or ".join(kind.__name__ for kind in kinds)


def _snapshot() -> Snapshot:
    found = environment.current()
    if found is None:
        text = "state.act() needs --integration: the test is to be skipped without it."
        raise FaultError(text)
    with core.between_tests():
        return Snapshot(rows.exact(), dict(found.contents_of_redis()))


def _note(
    sent: list[SentCommands],
    commands: Sequence[Sequence[object]],
    caller: core.Caller,
    _errors: ModuleType,
) -> Callable[[], None]:
    """Note commands that a client is about to send, whose lines the timeline does not have."""
    name = ", ".join(map(redis.command_name, commands))
    if any(map(redis.command_writes, commands)):
        sent.append(SentCommands(name, str(callsite.site(caller.f_globals, caller.f_lineno))))
    return _nothing


def _nothing() -> None:
    """Do what is to be done when commands of a client are done."""


def _written(
    before: Snapshot, after: Snapshot, begun: Beginning, sent: list[SentCommands]
) -> Iterator[Written]:
    """Yield what is another one than it was.

    Args:
        before: the snapshot before the act.
        after: the snapshot after the act.
        begun: the crossings and mails that there were before the act.
        sent: the commands that the act has sent to write to Redis.
    """
    made = list(core.current())[begun.crossings :]
    yield from _changes(before.rows, after.rows, made)
    for key in sorted(before.keys.keys() | after.keys.keys()):
        old, new = before.keys.get(key), after.keys.get(key)
        if old != new:
            sites = dict.fromkeys(one.site for one in sent if key in one.name)
            yield Written(key, f"key:     {key}: {old} -> {new}", tuple(sites))
    for call in made:
        if isinstance(call, Call):
            yield Written(call.name, f"call:    {call.shown}", _sites([call]))
    for one in getattr(mail, "outbox", [])[begun.mails :]:
        yield Written(_MAIL, f"mail:    {one.subject!r} to {', '.join(one.to)}")


def _changes(before: Exact, after: Exact, made: list[Crossing]) -> Iterator[Written]:
    for model, alias, key in [*before, *(one for one in after if one not in before)]:
        old, new = before.get((model, alias, key)), after.get((model, alias, key))
        name = f"{model._meta.label} {key}"
        if old is None:
            verb, text = "INSERT", f"new:     {name}"
        elif new is None:
            verb, text = "DELETE", f"gone:    {name}"
        else:
            values = [
                f"{column} {value!r} -> {new[column]!r}"
                for column, value in old.items()
                if value != new[column] and repr(value) != repr(new[column])
            ]
            verb, text = "UPDATE", f"changed: {name}: {', '.join(values)}"
            if not values:
                continue
        yield Written(model._meta.label, text, _writers(verb, model._meta.db_table, made))


def _writers(verb: str, table: str, made: list[Crossing]) -> tuple[str, ...]:
    """Return the lines with statements that write to a table, of this kind where there are any."""
    found = [
        one
        for one in made
        if one.kind == "sql"
        and one.name.split(" ")[1:2] == [table]
        and not one.name.startswith("SELECT")
    ]
    return _sites([one for one in found if one.name.startswith(verb)] or found)


def _sites(made: Iterable[Crossing]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(one.site) for one in made if one.site is not None))

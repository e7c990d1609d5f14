"""Swaps a real class or function for its fake in place, so that all references get the fake.

Nothing is patched by name. The methods are replaced on the class itself, so that earlier instances,
``from x import Y`` and ``super()`` get them. The code object of a function is replaced. So is the
code of the class's own methods, for references that were taken before the swap, such as a bound
method or a partial. Only earlier references to inherited methods are not reached. The arguments of
an ``async`` function or a generator function are checked when it first runs.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

from asgiref.sync import markcoroutinefunction

from itkit.fakes.classes.members import REPLACED, Kind, Member, members_of
from itkit.fakes.fake import Fake
from itkit.fakes.methods import Method
from itkit.fakes.swap.outline import Outline
from itkit.fakes.swap.parts import Parts
from itkit.fakes.swap.reading import PartsWatch, is_nested, may_have_parts
from itkit.fakes.swap.replacements import Performer, performer, replacement

_ABSENT: Final = object()
_IMMUTABLE_TYPE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE


class Patch(NamedTuple):
    """A patch of the test's that hides a fake.

    Attributes:
        name: the name of what is patched.
        found: the object that was found instead of the fake.
        fake: the object that belongs there.
        line: the line by which a test undoes the patch.
        put: puts an object there.
    """

    name: str
    found: Any
    fake: Any
    line: str
    put: Callable[[Any], None]


def obstacle(real: Any) -> str | None:
    """Return why a real backend cannot be swapped, or None if it can."""
    if isinstance(real, FunctionType):
        return None
    if not isinstance(real, type):
        kind = type(real).__qualname__
        return f"it is neither a class nor a Python function but an instance of {kind}"
    if real.__flags__ & _IMMUTABLE_TYPE:
        return "it is a class written in C, whose methods cannot be replaced"
    if not members_of(real) and not may_have_parts(real):
        return "it has no public method and no part that has one"
    return None


class ClassSwap:
    """The swap of one class: its methods and their replacements.

    ``__init__`` stays real, as it stores configuration. Private methods stay real too, and so do
    special methods except those that reach out (``SPECIAL_METHODS``). The parts of the class's
    objects and its nested classes are faked as well.

    Args:
        real: the class.
        fake: the fake that answers.
        has_parts: whether parts are faked.
        name: the name of the class below that of the backend, for a class that is nested in the
            client's class.
    """

    def __init__(self, real: type, fake: Fake, *, has_parts: bool = True, name: str = "") -> None:
        self._real = real
        self._watch: PartsWatch | None = None
        nested: list[ClassSwap] = []
        methods = dict(fake.methods) if not name else _named(name, real, fake)
        if has_parts:
            parts = Parts(fake)
            if not name:
                fake.outline = Outline(real, parts.seen)
            self._watch = PartsWatch(real, parts, self._put, f"{name}." if name else "")
            nested = [
                ClassSwap(raw, fake, name=f"{name}.{key}".lstrip("."))
                for key, raw in vars(real).items()
                if is_nested(real, key, raw)
            ]
        self._fakes = {key: replacement(method) for key, method in methods.items()}
        taken = [
            FunctionSwap(function, method)
            for method in methods.values()
            if (function := _own_function(method.member)) is not None
        ]
        self._inner: list[ClassSwap | FunctionSwap] = [*taken, *nested]
        self._originals: dict[str, Any] | None = None
        self._replacements: dict[str, Any] = {}

    def swap(self) -> None:
        """Put the fake's methods into the class."""
        if self._originals is None:
            self._originals = {}
            for name, method in self._fakes.items():
                self._put(name, method)
            for inner in self._inner:
                inner.swap()
            if self._watch is not None:
                self._watch.start()

    def restore(self) -> None:
        """Put the real methods back; the class is then as it was."""
        originals, self._originals = self._originals, None
        self._replacements.clear()
        if self._watch is not None:
            self._watch.stop()
        for inner in reversed(self._inner):
            inner.restore()
        for name, method in reversed((originals or {}).items()):
            if method is _ABSENT:
                type.__delattr__(self._real, name)
            else:
                type.__setattr__(self._real, name, method)

    def is_clear(self) -> bool:
        """Return whether no patch hides the methods; called before and after each test."""
        own = vars(self._real)
        for name, method in list(self._replacements.items()):
            if own.get(name) is not method:
                return False
        return all(inner.is_clear() for inner in self._inner)

    def patches(self) -> Iterator[Patch]:
        """Yield the patches that hide the methods."""
        own = vars(self._real)
        for name, method in list(self._replacements.items()):
            if own.get(name) is not method:
                whole = f"{self._real.__module__}.{self._real.__qualname__}.{name}"
                line = (
                    f'with patch.object({self._real.__name__}, "{name}"): in the test, or'
                    " self.addCleanup(patcher.stop)"
                )
                put = partial(type.__setattr__, self._real, name)
                yield Patch(whole, own.get(name), method, line, put)
        for inner in self._inner:
            yield from inner.patches()

    def _put(self, name: str, value: Any) -> None:
        if self._originals is not None:
            self._originals.setdefault(name, vars(self._real).get(name, _ABSENT))
            self._replacements[name] = value
            # A metaclass may refuse plain assignment, or change the value.
            type.__setattr__(self._real, name, value)


def _named(name: str, real: type, fake: Fake) -> dict[str, Method]:
    """Return the methods of a class that is nested in the client's class, by their names."""
    return {
        key: fake.method(f"{name}.{key}", replace(member, name=f"{name}.{key}"))
        for key, member in members_of(real).items()
    }


class FunctionSwap:
    """The swap of one function, whose code is replaced.

    Args:
        real: the function, which may be that of a method.
        method: records its calls and answers them.
    """

    def __init__(self, real: FunctionType, method: Method) -> None:
        self._real = real
        self._fake_state = self._state_for(method)
        self._real_state: _FunctionState | None = None

    def swap(self) -> None:
        """Put the fake's code into the function."""
        if self._real_state is None:
            self._real_state = _FunctionState.of(self._real)
            self._fake_state.put_into(self._real)

    def restore(self) -> None:
        """Put the real code back; the function is then as it was."""
        state, self._real_state = self._real_state, None
        if state is not None:
            state.put_into(self._real)

    def is_clear(self) -> bool:
        """Return whether the code is the fake's."""
        return self._real_state is None or self._real.__code__ is self._fake_state.code

    def patches(self) -> Iterator[Patch]:
        """Yield the patches that hide the function: only its code can be replaced."""
        code = self._real.__code__
        if self._real_state is not None and code is not self._fake_state.code:
            name = f"{self._real.__module__}.{self._real.__qualname__}.__code__"
            line = "give the function its code back in the test"
            yield Patch(name, code, self._fake_state.code, line, self._put_code)

    def _put_code(self, code: CodeType) -> None:
        if code is self._fake_state.code:
            self._fake_state.put_into(self._real)
        else:
            self._real.__code__ = code

    def _state_for(self, method: Method) -> "_FunctionState":
        # The closure stays with the function, so the new code has to have as many free variables.
        member = method.member
        stub = _stub_for(self._real, has_owner=member.has_owner)
        code = stub.__code__.replace(co_freevars=self._real.__code__.co_freevars)
        attributes = {**vars(self._real), "__signature__": member.signature, REPLACED: member}
        if member.kind is Kind.COROUTINE:
            attributes.update(vars(markcoroutinefunction(lambda: None)))
        return _FunctionState(code, None, {"_itkit_perform": performer(method)}, attributes)


class _FunctionState(NamedTuple):
    """The attributes of a function that a swap changes."""

    code: CodeType
    defaults: tuple[Any, ...] | None
    keyword_defaults: dict[str, Any] | None
    attributes: dict[str, Any]

    @classmethod
    def of(cls, function: FunctionType) -> "_FunctionState":
        return cls(
            function.__code__,
            function.__defaults__,
            function.__kwdefaults__,
            dict(vars(function)),
        )

    def put_into(self, function: FunctionType) -> None:
        # A call in another thread may see the new code with the old defaults. That is harmless, as
        # a swap happens before the first test and a restore after the last.
        function.__code__ = self.code
        function.__defaults__ = self.defaults
        function.__kwdefaults__ = self.keyword_defaults
        vars(function).clear()
        vars(function).update(self.attributes)


# A function never changes its kind: CPython warns when it gets code of another kind.


def _stub_for(function: FunctionType, *, has_owner: bool) -> Any:
    if inspect.iscoroutinefunction(function):
        return _coroutine_method_stub if has_owner else _coroutine_stub
    if inspect.isasyncgenfunction(function):
        return _async_generator_method_stub if has_owner else _async_generator_stub
    if inspect.isgeneratorfunction(function):
        return _generator_method_stub if has_owner else _generator_stub
    return _method_stub if has_owner else _stub


def _own_function(member: Member) -> FunctionType | None:
    """Return the function of a method, as it is in the class that defines it itself."""
    raw = member.raw
    function = raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw
    return function if member.is_own and isinstance(function, FunctionType) else None


def _stub(*args: Any, _itkit_perform: Performer, **kwargs: Any) -> Any:
    return _itkit_perform(None, args, kwargs)


def _method_stub(owner: Any, /, *args: Any, _itkit_perform: Performer, **kwargs: Any) -> Any:
    return _itkit_perform(owner, args, kwargs)


def _generator_stub(*args: Any, _itkit_perform: Performer, **kwargs: Any) -> Any:
    yield from _itkit_perform(None, args, kwargs)


def _generator_method_stub(
    owner: Any, /, *args: Any, _itkit_perform: Performer, **kwargs: Any
) -> Any:
    yield from _itkit_perform(owner, args, kwargs)


async def _coroutine_stub(*args: Any, _itkit_perform: Performer, **kwargs: Any) -> Any:
    return await _itkit_perform(None, args, kwargs)


async def _coroutine_method_stub(
    owner: Any, /, *args: Any, _itkit_perform: Performer, **kwargs: Any
) -> Any:
    return await _itkit_perform(owner, args, kwargs)


async def _async_generator_stub(*args: Any, _itkit_perform: Performer, **kwargs: Any) -> Any:
    async for value in _itkit_perform(None, args, kwargs):
        yield value


async def _async_generator_method_stub(
    owner: Any, /, *args: Any, _itkit_perform: Performer, **kwargs: Any
) -> Any:
    async for value in _itkit_perform(owner, args, kwargs):
        yield value

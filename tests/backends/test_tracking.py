"""``TestContainer.track()``: which methods and branches of a service a test has used."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache, wraps
from pathlib import Path
from typing import Protocol

import pytest

from itkit import TestContainer, measure_integration_coverage
from itkit.exceptions import BindingError
from tests.support import tracked_module
from tests.support.fakes_app import IPaymentGateway


class Shapes(Protocol):
    def area(self, shape: object) -> float: ...
    def total(self, shapes: list[object]) -> float: ...
    def never(self) -> None: ...


class Service:
    """A service with each kind of branch."""

    __secret = 3

    def area(self, shape):
        """Return the area."""
        match shape:
            case (width, height):
                return width * height
            case int() | float():
                return shape * shape
        return 0

    def total(self, shapes):
        found = 0
        for shape in shapes:
            try:
                found += self.area(shape) if shape is not None else self.__secret
            except TypeError:
                found -= 1
            except ValueError:
                raise
        while found > 100:
            found -= 100
        if found == 42:
            found = 1
        elif found == 43:
            found = 2
        return found

    def never(self):
        if self:
            self.area(1)


class Base:
    def inherited(self):
        return [1 if item else 2 for item in (0, 1)]


def traced(function):
    @wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


class Wide(Base):
    def __init__(self) -> None:
        super().__init__()
        self.start = 1

    @staticmethod
    def static(value):
        return "yes" if value else "no"

    @classmethod
    def of_class(cls):
        return cls.__name__

    @property
    def size(self):
        return self.start

    @cached_property
    def kept(self):
        return self.start

    @traced
    @lru_cache  # noqa: B019 - what it keeps is as short as the test
    def decorated(self):
        return self.start

    async def awaited(self):
        async for item in self.items():
            if item:
                return item
        return None

    async def items(self):
        yield 0
        yield 1

    def generated(self) -> Iterator[int]:
        while True:
            yield 1
            break

    @contextmanager
    def opened(self) -> Iterator[int]:
        yield self.start

    def closure(self):
        start = self.start

        def inner():
            nonlocal start
            if start:
                start += 1
            return start, __class__

        return inner()

    def unused(self):
        return 1


def short(branches):
    return [branch.partition(": ")[2] for branch in branches]


def measured(container, interface):
    return measure_integration_coverage(container, [(interface, "used")])["used"]


def test_methods_and_each_kind_of_branch():
    with TestContainer() as container:
        container.bind(Shapes, Service)
        container.track(Shapes)
        service = container.get(Shapes)

        assert measured(container, Shapes)["methods_called"] == []
        assert service.total([(2, 3), None, ValueError, 150]) == 9 + 0 + 22500 - 22500
        found = measured(container, Shapes)

    assert found["methods_called"] == ["area", "total"]
    assert found["methods_missed"] == ["never"]
    assert short(found["branches_covered"]) == [
        "case [width, height]",
        "case int() | float()",
        "match shape: no case",
        "for shape in shapes: an item",
        "for shape in shapes: the end",
        "if shape is not None: true",
        "if shape is not None: false",
        "while found > 100: true",
        "while found > 100: false",
        "if found == 42: false",
        "if found == 43: false",
    ]
    assert short(found["branches_missed"]) == [
        "except TypeError",
        "except ValueError",
        "if found == 42: true",
        "if found == 43: true",
        "if self: true",
        "if self: false",
    ]


def test_the_place_of_a_branch_is_its_line():
    lines = Path(__file__).read_text().splitlines()
    line = lines.index("            except TypeError:") + 1
    with TestContainer() as container:
        container.track(Service)
        container.get(Service).total([("a", [])])
        covered = measured(container, Service)["branches_covered"]

    assert f"tests/backends/test_tracking.py:{line} in Service.total: except TypeError" in covered


def test_all_kinds_of_methods_do_what_they_did():
    with TestContainer() as container:
        container.track(Wide)
        wide = container.get(Wide)

        assert (wide.static(1), wide.of_class(), wide.size, wide.kept) == ("yes", "Wide", 1, 1)
        assert wide.inherited() == [2, 1]
        assert wide.decorated() == 1
        assert asyncio.run(wide.awaited()) == 1
        assert list(wide.generated()) == [1]
        with wide.opened() as opened:
            assert opened == 1
        assert wide.closure() == (2, Wide)
        found = measured(container, Wide)

    assert found["methods_missed"] == ["unused"]
    assert "if value: false" in short(found["branches_missed"])
    assert {"if start: true", "if item: true", "while True: true"} <= set(
        short(found["branches_covered"])
    )


def test_a_module_stands_for_an_interface_and_its_private_functions_count():
    class Halves(Protocol):
        def half(self, number: int) -> int: ...

    original = tracked_module.half.__code__
    with TestContainer() as container:
        container.bind(Halves, tracked_module)
        container.track(Halves)

        assert container.get(Halves).half(4) == 2
        found = measured(container, Halves)

    assert found["methods_called"] == ["half"]
    assert short(found["branches_covered"]) == ["if number % 2: false"]
    assert short(found["branches_missed"]) == ["if number % 2: true"]
    assert tracked_module.half.__code__ is original


def test_all_threads_and_all_who_hold_the_function_count():
    area = Service.area
    with TestContainer() as container:
        container.track(Service)
        thread = threading.Thread(target=area, args=(Service(), 1))
        thread.start()
        thread.join()

        assert measured(container, Service)["methods_called"] == ["area"]


def test_two_containers_track_one_class_and_each_ends_for_itself():
    original = Service.area.__code__
    with TestContainer() as outer:
        outer.track(Service)
        with TestContainer() as inner:
            inner.track(Service)
            Service().area(1)
        Service().never()

        assert measured(inner, Service)["methods_called"] == ["area"]
        assert measured(outer, Service)["methods_called"] == ["area", "never"]
    assert Service.area.__code__ is original


def test_a_container_that_nobody_closes_ends_with_whoever_holds_it():
    original = Service.area.__code__
    container = TestContainer()
    container.track(Service)
    assert Service.area.__code__ is not original

    del container
    gc.collect()

    assert Service.area.__code__ is original


def test_another_binding_begins_anew():
    with TestContainer() as container:
        container.bind(Shapes, Service())
        container.track(Shapes)
        container.get(Shapes).area(1)
        container.bind(Shapes, Service())

        assert measured(container, Shapes)["methods_called"] == []


def test_of_a_mock_the_calls_count():
    with TestContainer() as container:
        container.bind_mock(IPaymentGateway)
        container.track(IPaymentGateway)
        container.get(IPaymentGateway).charge_card(1, "tok")

        found = measured(container, IPaymentGateway)
        assert found["methods_called"] == ["charge_card"]
        assert found["branches_covered"] == found["branches_missed"] == []


def test_what_is_not_tracked_is_no_zero():
    with pytest.raises(BindingError, match=r"Add before .*: container\.track\(Service\)"):
        measured(TestContainer(), Service)


def test_what_is_not_the_project_s_own_code_cannot_be_tracked():
    container = TestContainer()
    container.bind(Shapes, [])

    with pytest.raises(BindingError, match="no public method of it that is written in Python"):
        container.track(Shapes)

"""The public interface as a type checker sees it: checked by mypy, never run."""

from typing import Any, assert_type

from django.contrib.auth.models import User
from django.db.models import Model
from factory.django import DjangoModelFactory

from itkit import (
    Observation,
    ServiceCoverage,
    TestContainer,
    TestDataManager,
    budget,
    measure_integration_coverage,
    observe,
)
from itkit.backends.registry import Registry
from itkit.data import World
from itkit.data.cleanup.report import CleanupReport
from itkit.fakes import Call, Handle, MethodHandle
from itkit.fakes.programming import Programming, Rule
from itkit.observation.assertions import TimelineReader
from itkit.runner import IntegrationRunner
from itkit.test import IntegrationTestCase


class UserFactory(DjangoModelFactory[User]):
    """A factory that says what it makes."""


def typed_fixture(handle: Handle) -> Handle:
    """A fixture of a project that is checked with --strict."""
    return handle


class Gateway:
    """A backend that a project registers."""

    def charge(self, amount: int, token: str) -> None:
        """A call that the project makes."""


class Checkout(IntegrationTestCase):
    """A test case's own attributes."""

    def test_types(self) -> None:
        assert_type(self.data, TestDataManager)
        assert_type(self.backends, Registry)
        assert_type(self.data.create(User), User)
        assert_type(self.data.create_batch(User, 2), list[User])
        assert_type(self.data.create_batch(User, 2, "state", bulk="copy", email="a"), list[User])
        assert_type(self.data.create(UserFactory, "staff", email="a"), User)
        assert_type(self.data.create_batch(UserFactory, 2), list[User])
        assert_type(self.data.build(UserFactory), User)
        assert_type(self.data.bystander(UserFactory), User)
        assert_type(self.data.scenario("crowd"), World)
        assert_type(self.data.build(User), User)
        assert_type(self.backends[Gateway], Handle[Gateway])
        assert_type(self.timeline, TimelineReader)
        assert_type(self.benchmark(list, rounds=2).p95, float)
        with self.budget("checkout"):
            pass
        assert_type(self.backends[Gateway].charge, MethodHandle)
        assert_type(self.backends[Gateway].call_count("charge"), int)
        assert_type(self.backends[Gateway].was_called_with("charge", 1, token="t"), bool)
        assert_type(self.backends[Gateway].get_calls("charge"), list[Call])
        assert_type(self.backends[Gateway].strict(), Handle[Gateway])
        charge = self.backends[Gateway].charge
        assert_type(charge.returns(1).delays(0.1, virtual=True), MethodHandle)
        assert_type(charge.loses_reply(TimeoutError).required(), MethodHandle)
        assert_type(charge.when(amount=1).returns("txn"), Rule)
        assert_type(charge.on_call(2).raises(TimeoutError), Programming)


async def create_in_asyncio(data: TestDataManager) -> None:
    """The twins for asyncio code."""
    assert_type(await data.acreate(User), User)
    assert_type(await data.acreate_batch(User, 2), list[User])
    assert_type(await data.acleanup(), CleanupReport)
    with data.capture() as made:
        assert_type(made, list[Model])
    with observe() as seen:
        assert_type(seen, Observation)


def use_a_container(container: TestContainer) -> None:
    """Handles of a container."""
    assert_type(container.get_mock(Gateway), Handle[Gateway])
    assert_type(container.get_mock("payments"), Handle[Any])
    assert_type(container.get(Gateway), Gateway)
    measured = measure_integration_coverage(container, [(Gateway, "payments")])
    assert_type(measured, dict[str, ServiceCoverage])


@budget
def use_a_budget(number: int) -> str:
    """Say a number; the decorator keeps the types."""
    return str(number)


assert_type(use_a_budget(1), str)


runner: type[IntegrationRunner] = IntegrationRunner

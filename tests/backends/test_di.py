"""Backends by the containers of dependencies that bind them, with the real packages."""

from abc import ABC, abstractmethod

import injector
import injectq
import pytest
import svcs
import wireup
from dependency_injector import containers as di_containers
from dependency_injector import providers as di_providers
from django.test import override_settings
from that_depends import BaseContainer
from that_depends import providers as td_providers

from itkit.backends import resolve
from itkit.backends.registry import Registry
from itkit.timeline import core
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.fakes_app import ReallyCalledError
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")


class IRates(ABC):
    @abstractmethod
    def rate(self, currency: str) -> float: ...


class Rates(IRates):
    def rate(self, currency: str) -> float:
        raise ReallyCalledError


class Shop:
    """Who has got it from the container."""

    def __init__(self, rates: IRates) -> None:
        self.rates = rates


class Declared(di_containers.DeclarativeContainer):
    rates = di_providers.Singleton(Rates)
    shop = di_providers.Singleton(Shop, rates=rates)
    made = di_providers.Callable(Rates)
    number = di_providers.Object(5)


class Depending(BaseContainer):
    rates = td_providers.Singleton(Rates)
    shop = td_providers.Singleton(Shop, rates=rates.cast)


declared = Declared()


class Outer(di_containers.DeclarativeContainer):
    inner = di_providers.Container(Declared)


injector_ = injector.Injector(
    [lambda binder: binder.bind(IRates, to=Rates, scope=injector.singleton)]
)
registry = svcs.Registry()
registry.register_factory(IRates, Rates)
queue = injectq.InjectQ()
queue.bind(IRates, Rates)


@wireup.injectable
def made_by_wireup() -> IRates:
    return Rates()


wired = wireup.create_sync_container(injectables=[made_by_wireup])


def the_container():
    return declared


HERE = __name__
RATES = f"{HERE}.IRates"
ENTRIES = {
    "dependency-injector": (
        {"CONTAINER": f"{HERE}.declared", "KEY": "rates"},
        lambda: declared.shop().rates,
    ),
    "dependency-injector, a class": ({"CONTAINER": f"{HERE}.Declared", "KEY": "rates"}, Rates),
    "dependency-injector, within": ({"CONTAINER": f"{HERE}.Outer", "KEY": "inner.rates"}, Rates),
    "dependency-injector, made": ({"CONTAINER": f"{HERE}.declared", "KEY": "made"}, Rates),
    "by a function": ({"CONTAINER": f"{HERE}.the_container", "KEY": "rates"}, Rates),
    "that-depends": (
        {"CONTAINER": f"{HERE}.Depending", "KEY": "rates"},
        lambda: Depending.shop.resolve_sync().rates,
    ),
    "injector": ({"CONTAINER": f"{HERE}.injector_", "KEY": RATES}, lambda: injector_.get(IRates)),
    "svcs": (
        {"CONTAINER": f"{HERE}.registry", "KEY": RATES},
        lambda: svcs.Container(registry).get(IRates),
    ),
    "injectq": ({"CONTAINER": f"{HERE}.queue", "KEY": RATES}, lambda: queue.get(IRates)),
    "wireup": ({"CONTAINER": f"{HERE}.wired", "KEY": RATES}, lambda: wired.get(IRates)),
}


@pytest.mark.parametrize("package", ENTRIES)
def test_what_a_container_gives_is_faked_also_what_it_gave_before(package):
    entry, get = ENTRIES[package]
    before = get()
    with override_settings(ITKIT={"BACKENDS": {"rates": entry}}):
        backends = Registry.from_settings()
    core.new_timeline("test")
    backends.swap()
    try:
        backends.rates.rate.returns(1.5)
        assert before.rate("eur") == 1.5
        assert get().rate("usd") == 1.5
        assert isinstance(before, IRates)
        assert backends[Rates].call_count("rate") == 2
    finally:
        backends.restore()
        core.new_timeline()
    with pytest.raises(ReallyCalledError):
        before.rate("eur")


@pytest.mark.parametrize(
    ("entry", "mistake"),
    [
        (
            {"CONTAINER": f"{HERE}.declared", "KEY": "rate"},
            (
                f'itkit.E012 ITKIT["BACKENDS"]["b"]["CONTAINER"] is \'{HERE}.declared\': the container of'
                " dependency_injector gives nothing for 'rate': AttributeError:"
            ),
        ),
        (
            {"CONTAINER": f"{HERE}.registry", "KEY": f"{HERE}.Shop"},
            (
                f'itkit.E012 ITKIT["BACKENDS"]["b"]["CONTAINER"] is \'{HERE}.registry\': the container of'
                f" svcs gives nothing for '{HERE}.Shop': ServiceNotFoundError:"
            ),
        ),
        (
            {"CONTAINER": f"{HERE}.HERE", "KEY": "x"},
            (
                f'itkit.E012 ITKIT["BACKENDS"]["b"]["CONTAINER"] is \'{HERE}.HERE\': \'{HERE}\' is no'
                " container of any of these: dependency_injector, django_injector, injector, injectq,"
                " svcs, that_depends, wireup."
            ),
        ),
        (
            {"CONTAINER": f"{HERE}.declared", "KEY": "number"},
            (
                'itkit.E006 ITKIT["BACKENDS"]["b"]["KEY"] is \'number\', which cannot be swapped: it is a'
                " class written in C"
            ),
        ),
        (
            {"CONTAINER": f"{HERE}.declared"},
            'itkit.E003 ITKIT["BACKENDS"]["b"] has a CONTAINER and no KEY.',
        ),
        (
            {"TARGET": f"{HERE}.Rates", "KEY": "rates"},
            'itkit.E003 ITKIT["BACKENDS"]["b"] has KEY = \'rates\', which goes with a CONTAINER.',
        ),
        (
            {"CONTAINER": "nowhere", "KEY": "x"},
            (
                'itkit.E005 ITKIT["BACKENDS"]["b"]["CONTAINER"] is \'nowhere\', which cannot be imported'
                " (it has no module)."
            ),
        ),
        (
            {"BUILTIN": "mail", "FAKE": "a.b"},
            'itkit.E003 ITKIT["BACKENDS"]["b"] has a BUILTIN and a FAKE, expected one of them.',
        ),
    ],
)
def test_a_mistake_in_the_settings_is_told(entry, mistake):
    with override_settings(ITKIT={"BACKENDS": {"b": entry}}):
        (found,) = resolve.mistakes()
    assert f"{found.id} {found.message}".startswith(mistake)


@pytest.mark.parametrize("door", SERIAL)
@pytest.mark.slow
def test_django_injector(door, project: Project):
    project.settings("""
        INSTALLED_APPS.append("django_injector")
        INJECTOR_MODULES = ["shop.modules.ShopModule"]
        TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
        MIDDLEWARE = []
        ITKIT["BACKENDS"] = {"rates": {"CONTAINER": "django_injector", "KEY": "shop.modules.IRates"}}
    """)
    project.write(
        "shop/modules.py",
        """
        import injector

        class IRates:
            def rate(self, currency: str) -> float: ...

        class Rates(IRates):
            def rate(self, currency: str) -> float:
                raise RuntimeError("the real rates")

        class ShopModule(injector.Module):
            def configure(self, binder):
                binder.bind(IRates, to=Rates, scope=injector.singleton)
    """,
    )
    write_tests(
        project,
        """
        from django.apps import apps
        from itkit.test import IntegrationTestCase
        from shop.modules import IRates


        class Rates(IntegrationTestCase):
            def test_faked(self):
                self.backends.rates.rate.returns(1.5)
                rates = apps.get_app_config("django_injector").injector.get(IRates)
                self.assertEqual(rates.rate("eur"), 1.5)
    """,
    )
    result = enter(door, project)

    assert result.counts == {"passed": 1}, result.output

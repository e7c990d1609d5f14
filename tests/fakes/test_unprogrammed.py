"""What nobody programmed is harmless while nobody uses it, and explains itself as soon as one does."""

import asyncio
import copy
import json
import operator
import pickle
from pathlib import Path

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models
from django.template import Context, Engine
from psycopg import ProgrammingError
from psycopg.adapt import PyFormat, Transformer

from itkit.backends.registry import Registry
from itkit.exceptions import UnprogrammedReturnError
from itkit.fakes import UnprogrammedReturn
from itkit.timeline import core
from tests.support.fakes_app import AsyncGateway, StripeGateway, geocode


@pytest.fixture(autouse=True)
def backends():
    registry = Registry({"payments": StripeGateway, "later": AsyncGateway, "geo": geocode})
    core.new_timeline()
    registry.swap()
    yield registry
    registry.restore()


@pytest.fixture
def value():
    return StripeGateway().charge(5000, "tok_visa")


async def _await(value):
    return await value


async def _async_for(value):
    async for _ in value:
        pass


def _enter(value):
    with value:
        pass


USES = {
    "tested for truth": bool,
    "asked for its attribute 'id'": operator.attrgetter("id"),
    "given an attribute": lambda value: setattr(value, "id", 1),
    "compared": lambda value: value == "txn_1",
    "compared ": lambda value: value != "txn_1",
    "compared  ": lambda value: value > 1,
    "compared   ": lambda value: value in ["txn_1", "txn_2"],
    "hashed": lambda value: {value},
    "formatted": str,
    "formatted ": lambda value: f"{value}",
    "formatted  ": lambda value: "%s" % value,  # noqa: UP031 - one of the ways
    "formatted   ": bytes,
    "formatted    ": Path,
    "serialised": pickle.dumps,
    "copied": copy.deepcopy,
    "iterated": list,
    "iterated ": next,
    "iterated  ": lambda value: asyncio.run(_async_for(value)),
    "measured": len,
    "searched": lambda value: 1 in value,
    "indexed": operator.itemgetter("id"),
    "called": lambda value: value(),
    "awaited": lambda value: asyncio.run(_await(value)),
    "entered": _enter,
    "taken for a number": int,
    "taken for a number ": float,
    "calculated with": lambda value: value + 1,
    "calculated with ": lambda value: 1 + value,
    "calculated with  ": lambda value: sum([value]),
}


@pytest.mark.parametrize("use", USES, ids=str.strip)
def test_every_use_fails_and_names_the_line_to_add(value, use):
    with pytest.raises(UnprogrammedReturnError) as caught:
        USES[use](value)

    first, site, advice = str(caught.value).splitlines()
    assert first == (
        f"The return value of payments.charge was {use.strip()}, but the test programs none."
    )
    assert site.startswith("  called at tests/fakes/test_unprogrammed.py:")
    assert advice == "  add to the test: backends.payments.charge.returns(...)"


@pytest.mark.parametrize(
    "field",
    [
        models.CharField(),
        models.TextField(),
        models.IntegerField(),
        models.BooleanField(),
        models.DecimalField(max_digits=5, decimal_places=2),
        models.DateTimeField(),
        models.UUIDField(),
    ],
    ids=lambda field: type(field).__name__,
)
def test_it_cannot_be_saved_in_a_field_of_a_model(value, field):
    with pytest.raises(UnprogrammedReturnError):
        field.get_db_prep_save(value, connection=None)


def test_it_cannot_be_looked_up_in_the_database(value):
    with pytest.raises(UnprogrammedReturnError):
        ContentType.objects.filter(app_label=value)


def test_it_cannot_be_rendered_in_a_template(value):
    with pytest.raises(UnprogrammedReturnError):
        Engine().from_string("{{ txn }}").render(Context({"txn": value}))


@pytest.mark.parametrize("encoder", [json.JSONEncoder, DjangoJSONEncoder])
def test_json_refuses_it_by_a_name_that_carries_the_line(value, encoder):
    with pytest.raises(TypeError) as caught:
        json.dumps({"txn": value}, cls=encoder)

    assert str(caught.value) == (
        "Object of type UnprogrammedReturn of payments.charge"
        " (add to the test: backends.payments.charge.returns(...)) is not JSON serializable"
    )


def test_psycopg_refuses_it_by_a_name_that_carries_the_line(value):
    with pytest.raises(ProgrammingError, match=r"backends\.payments\.charge\.returns\(\.\.\.\)"):
        Transformer().get_dumper(value, PyFormat.AUTO)


@pytest.mark.django_db
def test_sqlite_refuses_it(value):
    with pytest.raises(UnprogrammedReturnError), connection.cursor() as cursor:
        cursor.execute("SELECT %s", [value])


def test_its_class_is_made_once_for_a_method(value):
    again = StripeGateway().charge(1, "tok")

    assert isinstance(value, UnprogrammedReturn)
    assert type(value) is type(again)


def test_it_may_be_ignored_stored_and_passed_on(value):
    stored = [value, {"txn": value}]
    StripeGateway().refund(1, reason=stored)

    assert stored[0] is value
    assert repr(value) == "<unprogrammed return of payments.charge>"


def test_a_method_that_returns_none_by_its_annotation_returns_none():
    assert StripeGateway().notify(["line"]) is None
    assert asyncio.run(AsyncGateway().notify("text")) is None


def test_an_async_method_gives_it_when_awaited():
    value = asyncio.run(AsyncGateway().charge(1))

    with pytest.raises(UnprogrammedReturnError, match=r"backends\.later\.charge\.returns"):
        bool(value)


def test_a_function_names_its_own_line():
    with pytest.raises(UnprogrammedReturnError, match=r"add to the test: backends\.geo\.returns"):
        bool(geocode("Graben 1"))


def test_a_method_that_is_named_like_a_control_names_the_way_by_item():
    with pytest.raises(UnprogrammedReturnError) as caught:
        bool(StripeGateway().get_calls("monday"))

    assert str(caught.value).endswith('backends.payments["get_calls"].returns(...)')

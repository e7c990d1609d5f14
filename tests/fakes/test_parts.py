"""The parts of a client are faked as the client is, whatever it is made of."""

import asyncio
import copy
import inspect

import pytest
from asgiref.sync import iscoroutinefunction

from itkit.backends.registry import Registry
from itkit.backends.resolve import ResolvedBackend
from itkit.conf import BackendSettings
from itkit.exceptions import UnexpectedCallError, UnknownMethodError, UnprogrammedReturnError
from itkit.timeline import core
from tests.support import parts_app
from tests.support.doors import SERIAL, enter, write_tests
from tests.support.parts_app import (
    CLIENTS,
    AsyncLines,
    Base,
    Channel,
    Charges,
    Configured,
    Containers,
    Deep,
    Functions,
    GreeterStub,
    InItsClass,
    Lines,
    Nesting,
    ReallyCalledError,
    SetInInit,
    SetLater,
    Table,
)
from tests.support.projects import Project

pytestmark = pytest.mark.usefixtures("shared_servers")

EARLY = {name: make() for name, (_, make) in CLIENTS.items()}


@pytest.fixture
def timeline():
    yield core.new_timeline("a test")
    core.new_timeline()


@pytest.fixture
def swapped(timeline):
    registries = []

    def swap(real, **settings):
        registry = Registry({"pay": ResolvedBackend(real, BackendSettings(**settings))})
        registries.append(registry)
        registry.swap()
        return registry.pay

    yield swap
    for registry in reversed(registries):
        registry.restore()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_part_is_faked_whatever_way_the_client_holds_it(kind, swapped, timeline):
    real, make = CLIENTS[kind]
    handle = swapped(real)
    handle.charges.create.returns("ch_1")
    client = make()

    assert client.charges.create(5, currency="usd") == "ch_1"
    assert EARLY[kind].charges.create(amount=5) == "ch_1"  # made before the swap
    assert isinstance(client.charges, Charges)
    assert [call.name for call in timeline] == ["pay.charges.create"] * 2
    assert [call.site.path for call in timeline] == [__file__] * 2
    handle.charges.create.assert_called_with(amount=5, currency="usd")
    with pytest.raises(TypeError, match=r"Charges\.create\(\) missing 1 required"):
        client.charges.create()


@pytest.mark.parametrize("kind", CLIENTS)
def test_parts_of_an_object_that_was_made_while_all_was_real_are_faked(kind, timeline):
    real, make = CLIENTS[kind]
    registry = Registry({"pay": real})
    registry.swap()
    try:
        with registry.restored():
            client = make()
            with pytest.raises(ReallyCalledError):
                client.charges.create(amount=5)
        registry.pay.charges.create.returns("ch_1")
        assert client.charges.create(amount=5) == "ch_1"
        assert [call.name for call in timeline] == ["pay.charges.create"]
    finally:
        registry.restore()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_part_is_real_again_after_the_run(kind, timeline):
    real, make = CLIENTS[kind]
    before = dict(vars(real)), list(vars(real))
    registry = Registry({"pay": real})
    registry.swap()
    registry.pay.charges.create.returns("ch_1")
    client = make()
    assert client.charges.create(1) == "ch_1"
    registry.restore()

    assert (dict(vars(real)), list(vars(real))) == before
    assert type(client.charges) is Charges
    with pytest.raises(ReallyCalledError):
        client.charges.create(1)


@pytest.mark.parametrize("kind", CLIENTS)
def test_an_unprogrammed_call_of_a_part_names_the_line_to_add(kind, swapped):
    real, make = CLIENTS[kind]
    handle = swapped(real)
    with pytest.raises(UnprogrammedReturnError) as caught:
        str(make().charges.create(1))
    assert str(caught.value).endswith("add to the test: backends.pay.charges.create.returns(...)")

    handle.strict()
    with pytest.raises(UnexpectedCallError, match=r"pay\.charges\.create\(2\) was not expected"):
        make().charges.create(2)
    handle.lenient()
    assert make().charges.create(3) == ""


def test_the_modes_hold_for_parts(swapped, timeline):
    handle = swapped(SetInInit, mode="spy")
    with pytest.raises(ReallyCalledError):
        SetInInit().charges.create(1)
    assert handle.charges.create.call_count == 1
    handle.charges.create.raises(TimeoutError, times=1).returns("ch_1")
    with pytest.raises(TimeoutError):
        SetInInit().charges.create(2)
    with pytest.raises(ReallyCalledError):
        SetInInit().charges.version()


def test_a_part_is_strict_from_the_settings_and_one_that_is_required_fails(swapped):
    handle = swapped(Deep, unprogrammed="strict")
    with pytest.raises(UnexpectedCallError):
        Deep().chat.messages.charges.create(1)
    handle.chat.messages.charges.create.required()
    assert handle.chat.messages.charges.create.call_count == 1


def test_parts_of_parts_have_whole_names(swapped, timeline):
    handle = swapped(Deep)
    handle.chat.messages.charges.create.returns("ch_1")
    handle["chat.messages.charges.version"].returns("v1")

    charges = Deep().chat.messages.charges
    assert (charges.create(1), charges.version()) == ("ch_1", "v1")
    names = [call.name for call in timeline]
    assert names == ["pay.chat.messages.charges.create", "pay.chat.messages.charges.version"]
    assert handle.call_count("chat.messages.charges.create") == 1


def test_every_kind_of_method_of_a_part_is_what_it_is(swapped):
    charges = swapped(SetInInit).charges
    charges.acreate.returns("later")
    charges.pages.returns(["one", "two"])
    charges.session.returns("session")
    charges.version.returns("v1")
    charges.default.returns("default")
    charges["__getitem__"].returns("item")
    charges["__iter__"].does(lambda: iter(["line"]))
    part = SetInInit().charges

    assert iscoroutinefunction(part.acreate)
    assert asyncio.run(part.acreate(1)) == "later"
    assert list(part.pages(1)) == ["one", "two"]
    with part.session() as session:
        assert session == "session"
    assert (part.version(), part.default("x"), part["key"]) == ("v1", "default", "item")
    assert list(part) == ["line"]
    with part as entered:
        assert type(entered) is type(part)
    assert str(inspect.signature(part.create)) == "(amount: int, *, currency: str = 'eur') -> str"
    with pytest.raises(TypeError):
        part.default()


def test_values_of_a_part_are_real_and_properties_can_be_programmed(swapped):
    handle = swapped(SetInInit)
    client = SetInInit()

    assert (client.charges.limit, len(client.charges), client.charges.currency) == (100, 42, "eur")
    handle.charges.currency.returns("usd")
    assert client.charges.currency == "usd"
    client.charges.limit = 7
    assert client.charges.limit == 7
    assert client.charges is client.charges
    assert client.charges == client.charges
    assert client.charges != SetInInit().charges
    handle.charges.create.returns("ch_1")
    for copied in (copy.copy(client.charges), copy.deepcopy(client).charges):
        assert copied.create(1) == "ch_1"


@pytest.mark.parametrize("name", ["lookup", "ask", "find", "sent", "create", "send", "fetch"])
def test_functions_that_a_client_holds_are_faked(name, swapped):
    handle = swapped(Functions)
    handle[name].returns("found")
    arguments = ("https://x.example", "q") if name == "fetch" else (5,)

    assert getattr(Functions(), name)(*arguments) == "found"
    assert handle[name].calls[0].args == arguments
    with pytest.raises(TypeError):
        getattr(Functions(), name)(*range(9))
    if name in ("find", "sent"):
        assert getattr(Functions, name)(5) == "found"


def test_an_object_that_is_called_is_faked_with_its_methods(swapped):
    handle = swapped(GreeterStub)
    handle.SayHello.returns("hello")
    handle.SayHello.future.returns("soon")
    stub = GreeterStub(Channel())

    assert (stub.SayHello("ada", timeout=1), stub.SayHello.future("ada")) == ("hello", "soon")
    handle.SayHello.assert_called_once_with(request="ada", timeout=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'retries'"):
        stub.SayHello("ada", retries=1)


def test_what_lies_in_containers_is_faked(swapped):
    handle = swapped(Containers)
    handle.by_name.charges.create.returns("name")
    handle.by_number["0"].create.returns("number")
    handle.space.charges.create.returns("space")
    client = Containers()

    assert client.by_name["charges"].create(1) == "name"
    assert client.by_name.get("charges").create(1) == "name"
    assert [part.create(1) for _, part in client.by_name.items()] == ["name"]
    assert dict(client.by_name)["charges"].create(1) == "name"
    assert client.by_number[0].create(1) == "number"
    assert [part.create(1) for part in client.by_number] == ["number"]
    assert client.space.charges.create(1) == "space"


def test_classes_within_the_class_are_faked_but_no_errors(swapped):
    handle = swapped(Nesting)
    handle.Charges.create.returns("ch_1")
    handle.Charges.refund.returns("re_1")

    assert Nesting.Charges.create(1) == "ch_1"
    assert Nesting.Charges().refund(1) == "re_1"
    with pytest.raises(Nesting.CardError):
        raise Nesting.CardError


def test_parts_are_read_from_the_class_itself(swapped):
    handle = swapped(InItsClass)
    handle.charges.create.returns("ch_1")

    assert InItsClass.charges.create(1) == "ch_1"


def test_what_is_iterated_or_indexed_reaches_out(swapped):
    async def first():
        return await anext(aiter(AsyncLines()))

    swapped(Lines)["__next__"].returns_each("one", StopIteration())
    swapped(AsyncLines)["__anext__"].returns("later")
    swapped(Table)["__getitem__"].returns("row")

    assert list(Lines()) == ["one"]
    assert asyncio.run(first()) == "later"
    assert Table()["key"] == "row"


def test_the_constructor_uses_its_parts_for_real_and_values_stay(swapped, timeline):
    handle = swapped(Configured)
    client = Configured()

    assert (client.attempts, client.policy.attempts) == (3, 3)
    assert (client.colour, client.names, client.options) == (
        parts_app.Colour.RED,
        ["a", "b"],
        {"timeout": 3},
    )
    assert type(client.names) is list
    assert isinstance(client.error, ValueError)
    assert list(timeline) == []
    handle.policy.configure.returns(9)
    assert client.policy.configure(1) == 9
    assert client.policy.attempts == 3


def test_a_part_that_comes_after_the_constructor_is_faked(swapped):
    later, outside = swapped(SetLater), swapped(Base)
    client, other = SetLater(), Base()
    client._connect()
    later.charges.create.returns("ch_1")
    assert client.charges.create(1) == "ch_1"

    other.refunds = Charges()
    with pytest.raises(UnprogrammedReturnError, match=r"pay\.refunds\.create was formatted"):
        str(other.refunds.create(1))
    outside.strict()


def test_a_part_whose_class_is_a_backend_itself_is_that_backend(timeline):
    registry = Registry({"pay": SetInInit, "charges": Charges})
    registry.swap()
    try:
        registry.charges.create.returns("ch_1")
        assert SetInInit().charges.create(1) == "ch_1"
        assert [call.name for call in timeline] == ["charges.create"]
    finally:
        registry.restore()


MISTAKES = {
    "a part": (lambda pay: pay.chrages, "pay has no method 'chrages'. Did you mean 'charges'?"),
    "a method": (lambda pay: pay.charges.craete, "pay.charges has no 'craete'. Did you mean 'crea"),
    "a control": (lambda pay: pay.charges.create.retruns(1), "has no 'retruns'. Did you mean 'ret"),
    "a habit": (lambda pay: pay.charges.create.return_value, "use returns(value)"),
    "a habit of parts": (
        lambda pay: pay.charges.assert_called_once(),
        "use assert_called(times=1)",
    ),
    "by a string": (lambda pay: pay.call_count("charges.craete"), "no method 'charges.craete'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_name_that_a_part_does_not_have_is_an_error(mistake, swapped):
    act, message = MISTAKES[mistake]
    handle = swapped(SetInInit)
    with pytest.raises(UnknownMethodError) as caught:
        act(handle)
    assert message in str(caught.value)


def test_a_name_that_only_an_object_can_show_is_checked_when_it_does(swapped, timeline):
    handle = swapped(CLIENTS["given to __init__"][0])
    handle.charges.craete.returns("ch_1")
    with pytest.raises(UnknownMethodError, match=r"pay\.charges\.craete is programmed.*'create'"):
        parts_app.GivenToInit(Charges()).charges.create(1)
    assert len(timeline.kept) == 1
    with pytest.raises(UnknownMethodError, match="Did you mean 'create'"):
        _ = handle.charges.craete


def test_a_class_without_parts_is_read_at_full_speed(swapped):
    swapped(parts_app.Policy)
    parts_app.Policy().plain = 5
    assert parts_app.Policy.__getattribute__ is object.__getattribute__
    swapped(SetInInit)
    SetInInit()
    assert SetInInit.__getattribute__ is not object.__getattribute__


CLIENTS_PY = """
    import os

    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # where boto3 looks for credentials
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

    import boto3
    import grpc
    import openai
    import stripe


    class Storage:
        def __init__(self):
            self.s3 = boto3.client("s3", region_name="eu-central-1")


    class GreeterStub:
        def __init__(self, channel):
            self.SayHello = channel.unary_unary(
                "/Greeter/SayHello", request_serializer=str.encode, response_deserializer=bytes.decode
            )


    openai_client = openai.OpenAI(api_key="sk-none")
    async_client = openai.AsyncOpenAI(api_key="sk-none")
    stripe_client = stripe.StripeClient("sk_test_none")
    storage = Storage()
    greeter = GreeterStub(grpc.insecure_channel("192.0.2.1:1"))


    def complete(prompt):
        messages = [{"role": "user", "content": prompt}]
        return openai_client.chat.completions.create(model="m", messages=messages)


    async def complete_later(prompt):
        return await async_client.chat.completions.create(model="m", messages=[])


    def refund(charge):
        try:
            return stripe_client.v1.refunds.create({"charge": charge})
        except Exception:
            return None
"""

REAL_TESTS = """
    import asyncio

    from itkit.exceptions import UnexpectedCallError, UnknownMethodError
    from itkit.test import IntegrationTestCase
    from shop import clients


    class Parts(IntegrationTestCase):
        def test_openai(self):
            create = self.backends.openai.chat.completions.create
            create.does(lambda **given: given["model"])
            self.assertEqual(clients.complete("hello"), "m")
            self.assertEqual(create.calls[0].kwargs["messages"][0]["content"], "hello")
            self.assertEqual([call.name for call in self.timeline], ["openai.chat.completions.create"])
            with self.assertRaisesRegex(TypeError, "unexpected keyword argument 'modle'"):
                clients.openai_client.chat.completions.create(modle="m")
            with self.assertRaisesRegex(UnknownMethodError, "Did you mean 'create'"):
                self.backends.openai.chat.completions.craete

        def test_openai_async(self):
            self.backends.later.chat.completions.create.does(lambda **given: "done")
            self.assertEqual(asyncio.run(clients.complete_later("x")), "done")

        def test_stripe(self):
            create = self.backends.stripe.v1.charges.create
            create.does(lambda params, options=None: {"id": "ch_1", **params})
            charge = clients.stripe_client.v1.charges.create({"amount": 5})
            self.assertEqual(charge, {"id": "ch_1", "amount": 5})
            create.assert_called_once_with(params={"amount": 5})

        def test_boto3(self):
            self.backends.storage.s3.put_object.returns({"ETag": "1"})
            self.assertEqual(clients.storage.s3.put_object(Bucket="b", Key="k"), {"ETag": "1"})
            self.backends.storage.s3.put_object.assert_called_once_with(Bucket="b", Key="k")

        def test_grpc(self):
            self.backends.greeter.SayHello.returns("hello")
            self.assertEqual(clients.greeter.SayHello("ada", timeout=1), "hello")
            self.backends.greeter.strict()
            with self.assertRaises(UnexpectedCallError):
                clients.greeter.SayHello.future("ada")

        def test_what_is_forgotten_by_the_next_test(self):
            self.assertEqual(self.backends.openai.chat.completions.create.call_count, 0)

        def test_fails_as_it_is_swallowed(self):
            self.backends.stripe.strict()
            clients.refund("ch_1")

        def test_fails_as_it_is_used(self):
            if clients.complete("hello"):
                pass
"""


@pytest.mark.parametrize("door", SERIAL)
def test_clients_of_others_are_faked_part_by_part(door: str, project: Project):
    project.write("shop/clients.py", CLIENTS_PY)
    project.settings(
        """
        ITKIT["BACKENDS"].update({
            "openai": {"TARGET": "openai.OpenAI"},
            "later": {"TARGET": "openai.AsyncOpenAI"},
            "stripe": {"TARGET": "stripe.StripeClient"},
            "storage": {"TARGET": "shop.clients.Storage"},
            "greeter": {"TARGET": "shop.clients.GreeterStub"},
        })
        """
    )
    write_tests(project, REAL_TESTS)
    result = enter(door, project)
    assert result.counts == {"passed": 6, "failed": 2}, result.output
    for shown in (
        "stripe.v1.refunds.create({'charge': 'ch_1'}) was not expected",
        "backends.openai.chat.completions.create.returns(...)",
    ):
        assert shown in result.output, result.output

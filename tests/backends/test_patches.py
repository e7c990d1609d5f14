"""What a test leaves over a fake is taken away at its end, and is told by name."""

import re
import sys

import pytest
from django.conf import settings
from django.core.signals import setting_changed
from django.test import override_settings

from itkit.backends.registry import Registry
from itkit.backends.resolve import ResolvedBackend
from itkit.conf import BackendSettings
from itkit.timeline import core
from tests.support import fakes_app, parts_app
from tests.support.fakes_app import StripeGateway, geocode
from tests.support.parts_app import Cached

HERE = sys.modules[__name__]
REAL = StripeGateway
GATEWAY = "tests.support.fakes_app.StripeGateway"


@pytest.fixture
def registry():
    with override_settings(PAYMENT_GATEWAY=GATEWAY):
        found = Registry(
            {
                "payments": ResolvedBackend(
                    StripeGateway, BackendSettings(setting="PAYMENT_GATEWAY")
                ),
                "geo": geocode,
                "cached": Cached,
            }
        )
        core.new_timeline("a test")
        found.swap()
        found.watch_patches()
        found.accept_patches()
        yield found
        found.remove_patches()
        found.restore()
        core.new_timeline()


def replaced_in_the_class():
    StripeGateway.charge = lambda self, amount, token: "left"


def removed_from_the_class():
    del StripeGateway.charge


def replaced_static_method():
    StripeGateway.version = staticmethod(lambda: "left")


def replaced_property():
    StripeGateway.account = "left"


def replaced_inherited_method():
    StripeGateway.ping = None


def replaced_part():
    Cached.charges = "left"


def replaced_class():
    fakes_app.StripeGateway = object


def replaced_class_where_it_is_imported():
    HERE.StripeGateway = "left"


def replaced_function():
    fakes_app.geocode = print


def replaced_code():
    geocode.__code__ = (lambda address, country="AT": "left").__code__


def enabled_override():
    override_settings(PAYMENT_GATEWAY="left", DEBUG=True).enable()


def changed_setting():
    settings.PAYMENT_GATEWAY = "left"


WAYS = {
    replaced_in_the_class: [
        r"tests\.support\.fakes_app\.StripeGateway\.charge is the function .*replaced_in"
    ],
    removed_from_the_class: [
        r"StripeGateway\.charge is None\n    write: with patch\.object\(Stripe"
    ],
    replaced_static_method: [r"StripeGateway\.version is <staticmethod"],
    replaced_property: [r"StripeGateway\.account is 'left'"],
    replaced_inherited_method: [r"StripeGateway\.ping is None"],
    replaced_part: [r"tests\.support\.parts_app\.Cached\.charges is 'left'"],
    replaced_class: [
        r"tests\.support\.fakes_app\.StripeGateway is <class 'object'>\n    write: with patch\("
    ],
    replaced_class_where_it_is_imported: [r"test_patches\.StripeGateway is 'left'"],
    replaced_function: [r"tests\.support\.fakes_app\.geocode is <built-in function print>"],
    replaced_code: [r"tests\.support\.fakes_app\.geocode\.__code__ is <code object"],
    enabled_override: [
        r"django\.conf\.settings is <UserSettingsHolder>\n    write: with override_se"
    ],
    changed_setting: [
        r"settings\.PAYMENT_GATEWAY is 'left'\n    write: with override_settings\(PAY"
    ],
}


def check(registry):
    assert HERE.StripeGateway is fakes_app.StripeGateway is REAL
    assert (settings.PAYMENT_GATEWAY, settings.DEBUG) == (GATEWAY, False)
    registry.payments.charge.returns("txn")
    registry.payments.version.returns("v1")
    registry.payments.ping.returns("pong")
    registry.geo.returns((1.0, 2.0))
    registry.cached.charges.create.returns("ch_1")
    gateway = REAL("key")
    assert (gateway.charge(1, "t"), gateway.version(), gateway.ping()) == ("txn", "v1", "pong")
    assert gateway.account == "acct of key"
    assert fakes_app.geocode("x") == (1.0, 2.0)
    assert parts_app.Cached().charges.create(1) == "ch_1"
    assert registry.payments.call_count("charge") == 1


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_left_is_told_once_and_put_back(way, registry):
    way()
    left = registry.remove_patches()

    patterns = WAYS[way]
    if way is enabled_override:  # the value of the backend's own setting is another one as well
        assert len(left) == 2
    else:
        assert len(left) == len(patterns), left
    for pattern, line in zip(patterns, left, strict=False):
        assert re.match(pattern, line) or re.search(pattern, line), line
    assert registry.remove_patches() == []
    check(registry)


def test_what_was_there_before_the_test_is_not_its_own(registry):
    replaced_in_the_class()
    override = override_settings(PAYMENT_GATEWAY="of the class")
    override.enable()
    registry.accept_patches()
    assert registry.remove_patches() == []

    of_the_class = StripeGateway.__dict__["charge"]
    removed_from_the_class()
    changed_setting()
    assert len(registry.remove_patches()) == 2
    assert StripeGateway.__dict__["charge"] is of_the_class
    assert settings.PAYMENT_GATEWAY == "of the class"
    override.disable()
    registry.accept_patches()
    assert settings.PAYMENT_GATEWAY == GATEWAY


def test_what_a_fixture_of_more_tests_takes_back_in_the_end_is_not_the_tests(registry):
    replaced = StripeGateway.__dict__["charge"]
    replaced_in_the_class()
    registry.accept_patches()
    StripeGateway.charge = replaced
    assert registry.remove_patches() == []
    check(registry)


def test_listeners_hear_of_a_setting_that_is_put_back(registry):
    heard = []

    def listen(*, setting, value, enter, **_):
        heard.append((setting, value, enter))

    setting_changed.connect(listen)
    try:
        changed_setting()
        registry.remove_patches()
        assert heard == [("PAYMENT_GATEWAY", GATEWAY, False)]
    finally:
        setting_changed.disconnect(listen)


def test_fakes_that_a_test_has_taken_out_are_put_in_again(registry):
    registry.restore()
    assert registry.remove_patches() == [
        "The fakes are taken out\n    write: with backends.restored():"
    ]
    check(registry)


def test_a_block_without_fakes_leaves_nothing(registry):
    with registry.restored():
        pass
    assert registry.remove_patches() == []
    check(registry)

"""Each mistake in the settings is a system check with an id and a remedy."""

from typing import Any

import pytest
from django.core import checks
from django.test import override_settings

GATEWAY = "tests.support.fakes_app.StripeGateway"


def found(**settings: Any) -> list[tuple[str | None, str, str | None]]:
    with override_settings(**settings):
        messages = checks.run_checks(tags=["itkit"])
    return [(message.id, str(message.msg), message.hint) for message in messages]


def test_no_settings_are_no_mistake() -> None:
    assert found() == []
    assert found(ITKIT={"BACKENDS": {"payments": {"TARGET": GATEWAY}}}) == []


@pytest.mark.parametrize(
    ("itkit", "identity", "hint"),
    [
        ({"BACKEND": {}}, "itkit.E001", "Did you mean 'BACKENDS'?"),
        ({"SOURCE": "docker"}, "itkit.E002", 'Correct ITKIT["SOURCE"].'),
        ({"BACKENDS": {"payments": {}}}, "itkit.E003", "Name the Django setting"),
        ({"BACKENDS": {"p": {"SETTING": "GATEWAI"}}}, "itkit.E004", "Did you mean 'GATEWAY'?"),
        ({"BACKENDS": {"p": {"TARGET": GATEWAY + "s"}}}, "itkit.E005", "'StripeGateway'?"),
        (
            {"BACKENDS": {"p": {"TARGET": "tests.support.fakes_app:StripeGateway"}}},
            "itkit.E005",
            f"Write {GATEWAY!r}, with dots: package.module.Name.",
        ),
        (
            {"BACKENDS": {"p": {"TARGET": "tests/support/fakes_app.py:StripeGateway"}}},
            "itkit.E005",
            f"Write {GATEWAY!r}, with dots",
        ),
        ({"BACKENDS": {"p": {"TARGET": "builtins.dict"}}}, "itkit.E006", "the project's own"),
        ({"REDIS": {"SETTINGS": ["GATEWAY"]}}, "itkit.E007", "redis://"),
        ({"DATA": {"ALIASES": {"o": {"MODEL": "shopdata.Ordr"}}}}, "itkit.E008", "Order"),
        (
            {"DATA": {"ALIASES": {"o": {"MODEL": "shopdata.Order", "ARGS": ["custmer"]}}}},
            "itkit.E009",
            "customer",
        ),
    ],
)
def test_a_mistake_has_an_id_and_a_remedy(itkit: Any, identity: str, hint: str) -> None:
    messages = found(ITKIT=itkit, GATEWAY=GATEWAY)
    assert [message[0] for message in messages] == [identity]
    assert hint in f"{messages[0][1]} {messages[0][2]}"


def test_mistakes_of_several_parts_are_reported_at_once() -> None:
    messages = found(
        ITKIT={
            "BACKENDS": {"payments": {}},
            "REDIS": {"SETTINGS": ["NOWHERE"]},
            "DATA": {"ALIASES": {"o": {"MODEL": "no.Model"}}},
        }
    )
    assert {message[0] for message in messages} == {"itkit.E003", "itkit.E007", "itkit.E008"}

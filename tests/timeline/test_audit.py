"""Python's audit events are heard by all who listen, however their blocks end."""

import sys
from contextlib import ExitStack
from typing import Any

import pytest

from itkit.timeline import audit

EVENT = "tests.event"


def test_blocks_may_end_in_any_order() -> None:
    heard: list[str] = []

    def listener(name: str) -> dict[str, audit.Listener]:
        return {EVENT: lambda arguments: heard.append(f"{name} {arguments[0]}")}

    with ExitStack() as inner:
        with ExitStack() as outer:
            outer.enter_context(audit.listening(listener("outer")))
            inner.enter_context(audit.listening(listener("inner")))
            sys.audit(EVENT, 1)
        sys.audit(EVENT, 2)
    sys.audit(EVENT, 3)
    assert heard == ["inner 1", "outer 1", "inner 2"]


def test_who_listens_last_can_keep_an_event_from_the_others() -> None:
    heard: list[Any] = []

    def refuse(_arguments: tuple[Any, ...]) -> None:
        raise PermissionError

    with audit.listening({EVENT: heard.append}):
        with audit.listening({EVENT: refuse}), pytest.raises(PermissionError):
            sys.audit(EVENT, 1)
        sys.audit(EVENT, 2)
    assert heard == [(2,)]

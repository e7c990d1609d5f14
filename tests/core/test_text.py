"""Parts of messages."""

import pytest

from itkit.core.text import counted
from itkit.exceptions import ItkitError, printable


@pytest.mark.parametrize(
    ("number", "noun", "plural", "shown"),
    [
        (0, "fault", "", "0 faults"),
        (1, "fault", "", "1 fault"),
        (12_345_678, "fault", "", "12345678 faults"),
        (1.0, "second", "", "1 second"),
        (0.5, "second", "", "0.5 seconds"),
        (1, "query", "queries", "1 query"),
        (2, "query", "queries", "2 queries"),
    ],
)
def test_a_number_has_its_noun(number: float, noun: str, plural: str, shown: str) -> None:
    assert counted(number, noun, plural) == shown


def test_what_a_terminal_would_obey_is_escaped() -> None:
    text = "a\tb\nc\x00\x1b[31m\r\x7f\x9b\udc80é…"
    shown = r"\x00\x1b[31m\r\x7f\x9b\udc80é…"
    assert printable(text) == f"a\tb\nc{shown}"
    assert str(ItkitError(text)) == f"a\tb\nc{shown}"
    assert ItkitError(text).args == (text,)

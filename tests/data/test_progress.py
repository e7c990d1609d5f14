"""A bar is shown on a terminal, and only for what takes long."""

import os
import pty
import sys

from itkit.data import progress


def shown_by(count, monkeypatch):
    """Count to ``count`` with a terminal as stderr, and return what it shows."""
    control, end = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(end, "w") as stderr, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stderr)
        assert list(progress.counted("Creating Order", count)) == list(range(count))
        stderr.flush()
        shown = b"".join(read(control))
    os.close(control)
    return shown.decode()


def read(terminal):
    os.set_blocking(terminal, False)
    try:
        while chunk := os.read(terminal, 4096):
            yield chunk
    except BlockingIOError:
        pass


def test_a_bar_tells_how_far_it_is(monkeypatch):
    monkeypatch.setattr(progress, "WAIT_SECONDS", -1)
    shown = shown_by(30, monkeypatch)
    assert "Creating Order" in shown
    assert "30/30" in shown


def test_what_is_quick_shows_nothing(monkeypatch):
    assert shown_by(30, monkeypatch) == ""


def test_no_terminal_sees_no_bar(capsys, monkeypatch):
    monkeypatch.setattr(progress, "WAIT_SECONDS", -1)
    assert list(progress.counted("Creating Order", 3)) == [0, 1, 2]
    assert not capsys.readouterr().err.strip()

"""Sends errors that fail a test from processes that the test forks to the test's process.

A forked process has a copy of the timeline, which nobody reads. It may end by ``os._exit``, so each
error is sent at once, as one datagram, which no thread has to wait for.
"""

import json
import os
import socket
from contextlib import suppress
from typing import Final

from itkit.core.text import message_of
from itkit.exceptions import ElsewhereError
from itkit.timeline import core

_LONGEST: Final = 8000  # characters of a message, far below the limit of a datagram


class FailureChannel:
    """The channel from forked processes to the process that has forked them."""

    def __init__(self) -> None:
        self._here: socket.socket | None = None
        self._there: socket.socket | None = None
        self._process = os.getpid()

    def open(self) -> None:
        """Prepare for processes that are forked from now on."""
        self._here, self._there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self._here, self._there):
            end.settimeout(0)

    def expect(self) -> None:
        """Listen from now on, as this process has forked another one."""
        if self._here is not None and self._process == os.getpid():
            core.set_failure_source(self._receive)

    def close(self) -> None:
        """Stop listening to forked processes."""
        core.set_failure_source(None)
        core.set_parent_sink(None)
        for end in (self._here, self._there):
            if end is not None:
                end.close()
        self._here = self._there = None

    def use_in_child(self) -> None:
        """Send failures to the parent from now on, as this process was just forked."""
        core.set_failure_source(None)
        core.set_parent_sink(self._send)

    def _send(self, test: str, error: BaseException) -> None:
        text = f"{type(error).__name__}: {message_of(error)}"[:_LONGEST]
        # If the buffer is full, the errors in it fail the test already.
        with suppress(OSError):
            if self._there is not None:
                self._there.send(json.dumps([test, os.getpid(), text]).encode())

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            while self._here is not None:
                test, process, text = json.loads(self._here.recv(1 << 16))
                error = ElsewhereError(f"in the forked process {process}: {text}")
                core.record_failure_of(test, error)

"""The messages of the environment: what a test has left or done, and what to do about it."""

import re
from collections.abc import Sequence

from itkit.core.text import listed

NOT_OF_DJANGO = "not opened by Django: one of a client of its own, or of another process"
"""The line about a session whose opener is not known."""

_NO_SOCKET = re.compile(r"SocketBlockedError|SocketConnectBlockedError|tried to use socket\.socket")


def leaked_keys(test: str, keys: Sequence[str]) -> str:
    """Return the message that a test has left keys in Redis.

    Args:
        test: the name of the test.
        keys: a line for each key.
    """
    return (
        f"{test} has left keys in Redis:\n{listed(keys)}\nRemove them, give them a TTL in the code"
        ' under test, or set ITKIT["REDIS"]["LEAKS"] to "off": the next test does not see them.'
    )


def leaked_patches(test: str, patches: Sequence[str]) -> str:
    """Return the message that a test has left patches over fakes or settings.

    Args:
        test: the name of the test.
        patches: a text about each patch.
    """
    return (
        f"{test} has left patches over fakes or settings, which would have stayed in all later"
        f" tests. itkit has removed them:\n{listed(patches)}"
    )


def denied(denials: Sequence[str], prefix: str) -> str:
    """Return the message that Redis has denied commands of a test.

    Args:
        denials: a line for each command.
        prefix: the beginning of the names that the test may use.
    """
    return (
        "The test, or code that an earlier one has left running, has used names or commands in"
        f" Redis that are not its own, and the server has denied them:\n{listed(denials)}\n"
        f"The names that a test may use begin with {prefix}. All that redis-py sends and Lua"
        " scripts do gets that prefix; code that bypasses them, such as a library of functions,"
        " has to add it. A command that may do more can be named in"
        ' ITKIT["REDIS"]["ALLOW_COMMANDS"].'
    )


def effects_in_transactions(lines: str) -> str:
    """Return the message that something has left the process while a transaction was open."""
    return (
        "Something has left the process while a transaction was open, and would have stayed after"
        f" a rollback:\n{lines}\n"
        'A backend that is meant to be called there has "IN_TRANSACTION": "allow" in its entry of'
        ' ITKIT["BACKENDS"].'
    )


def unused_answers(lines: str) -> str:
    """Return the message that no call has used answers which a test has programmed."""
    return (
        f"The test has programmed answers that no call has used:\n{lines}\n"
        'Remove them, or have the code under test call the backend. ITKIT["UNUSED"] = "warn"'
        " reports them at the end of the run only."
    )


def committed(test: str, tables: Sequence[str], openers: Sequence[str]) -> str:
    """Return the warning that a test has committed although it is rolled back.

    Args:
        test: the name of the test.
        tables: the names of the tables.
        openers: a line for each session that may have committed.
    """
    return (
        f"{test} has committed changes to {', '.join(tables)}, although its transaction is rolled"
        " back at its end. itkit has taken them back, so that no later test sees them. The"
        f" sessions that may have committed:\n{listed(openers)}\n"
        "Write by Django's connection of the main thread in such a test, or let it commit for"
        " real: as an itkit.test.IntegrationTestCase, or a pytest function with the marker"
        " integration."
    )


def blocked_sockets(shown: str) -> str:
    """Return advice if a failure comes from pytest-socket, else an empty text.

    Args:
        shown: the printed text of the failure.
    """
    if not _NO_SOCKET.search(shown):
        return ""
    return (
        "pytest-socket has refused this. itkit's own servers are reached by sockets of this"
        " machine: --allow-unix-socket, and with live servers or a server of your own"
        " --allow-hosts=127.0.0.1,::1,localhost. itkit itself refuses connections that leave the"
        " machine."
    )


def if_it_passes_alone(before: int) -> str:
    """Return advice for a failure that may depend on earlier tests.

    Args:
        before: the number of tests that ran before it in its process.
    """
    return (
        "\nif it passes alone: the same with --itkit-bisect, which finds what has to run before it"
        f" ({before} test{'s' * (before > 1)} did)"
    )


def earlier_connection(where: str) -> str:
    """Return the part of the start line about a connection that was open before the tests."""
    return f"a connection that was open before the tests was shut: {where}"

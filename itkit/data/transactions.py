"""What becomes of the transaction that a connection is in."""

from typing import Any

from django.db import connections


def is_broken(using: str) -> bool:
    """Return whether it can only be rolled back."""
    connection = connections[using]
    return connection.in_atomic_block and connection.needs_rollback


def is_of_test_case(using: str) -> bool:
    """Return whether a ``TestCase`` has begun it, and will roll it back."""
    connection: Any = connections[using]  # the mark is private; the same in Django 5.2 to 6.1
    return any(block._from_testcase for block in connection.atomic_blocks)

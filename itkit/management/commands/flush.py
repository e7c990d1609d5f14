"""Replaces Django's ``flush`` by itkit's reset after a test that has committed.

Each TransactionTestCase of Django calls this command by its name when a test is over. So test cases
keep the rows of their migrations without a change.
"""

import functools
from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import flush

from itkit import environment


class Command(flush.Command):
    """Resets a database of itkit's if a test case calls it; otherwise it is Django's command."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return a parser, which is made once for test cases, as it takes longer than a reset."""
        if getattr(self, "_called_from_command_line", False):
            return super().create_parser(prog_name, subcommand, **kwargs)
        return _parser(prog_name, subcommand, **kwargs)

    def handle(self, **options: Any) -> None:
        """Reset or flush."""
        current = environment.current()
        # Only a test case passes this option. A test that calls the command itself wants empty
        # tables.
        asked_by_test_case = "inhibit_post_migrate" in options
        if (
            current
            and asked_by_test_case
            and current.reset_database(
                options["database"], tells_receivers=not options["inhibit_post_migrate"]
            )
        ):
            return
        super().handle(**options)


@functools.cache
def _parser(prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
    return flush.Command().create_parser(prog_name, subcommand, **kwargs)

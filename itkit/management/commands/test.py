"""Django's ``test`` command, with ``--integration`` added to the project's runner of any kind.

Django finds a command by the name of its module, so that each command has one.
"""

import argparse
from typing import Any

from django.conf import settings
from django.core.management.commands import test
from django.test.utils import get_runner

from itkit.runner import runner


class Command(test.Command):
    """Finds the project's runner as Django does, and mixes ``--integration`` into it."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the mixed runner."""
        self.test_runner = _mixed(self.test_runner)
        super().add_arguments(parser)

    def handle(self, *test_labels: str, **options: Any) -> None:
        """Run the tests with the mixed runner."""
        options["testrunner"] = _mixed(options["testrunner"])
        super().handle(*test_labels, **options)


def _mixed(path: str | None) -> str:
    """Return the import path of the runner at ``path``, or of TEST_RUNNER, with the mixin."""
    runner.ProjectRunner = runner.mix_into(get_runner(settings, path))
    return f"{runner.__name__}.ProjectRunner"

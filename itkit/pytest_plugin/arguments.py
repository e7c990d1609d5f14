"""How a command of pytest names its tests, and where its options come from."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

    from itkit.environment.bisection.bisection import Trial

_ADDOPTS: Final = "PYTEST_ADDOPTS"


def configured(config: pytest.Config) -> str:
    """Return where options come from that nobody has typed, for messages."""
    if "--itkit-" in os.environ.get(_ADDOPTS, ""):
        return f"the environment variable {_ADDOPTS}"
    return f"addopts in {config.inipath.name}" if config.inipath is not None else "a conftest.py"


def trial_of(config: pytest.Config) -> Trial | None:
    """Return the trial of a bisection, whose tests pytest is to run; None in an ordinary run."""
    if not (file := config.getoption("itkit_trial")):
        return None
    from itkit.environment.bisection.bisection import Trial

    trial = Trial(file)
    config.option.itkit_seed = trial.seed
    config.option.maxfail = 0
    if trial.tests is not None:
        # pytest gets the files, as it runs no test at all where one that is named is gone.
        paths = dict.fromkeys(test.partition("::")[0] for test in trial.tests)
        config.args = [str(config.rootpath / path) for path in paths]
    return trial


def start_of(config: pytest.Config) -> list[str]:
    """Return the command that starts this pytest, without its arguments."""
    from django.utils.autoreload import get_child_arguments

    if [*config.invocation_params.args] != sys.argv[1:]:  # another program has called pytest
        return [sys.executable, "-m", "pytest"]
    start = [os.fspath(argument) for argument in get_child_arguments()]
    return start[: len(start) - len(sys.argv[1:])]


def id_of(config: pytest.Config, argument: str) -> str:
    """Return the id of the test that an argument names."""
    path, *rest = argument.split("::")
    file = config.invocation_params.dir / path
    return "::".join([Path(os.path.relpath(file, config.rootpath)).as_posix(), *rest])


def named(config: pytest.Config, test: str) -> str:
    """Return the argument that names a test by its id."""
    path, *rest = test.split("::")
    file = config.rootpath / path
    return "::".join([os.path.relpath(file, config.invocation_params.dir), *rest])

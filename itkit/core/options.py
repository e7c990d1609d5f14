"""The command-line options of both doors, ``manage.py test`` and pytest, with their help.

A new option is an entry of ``OPTIONS``. The doors pass its value to the environment.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from itkit.core import names

OPTION_HELP: Final = (
    "Provide a real Postgres and Redis, isolated, with the external backends faked, and run the"
    f" {names.TAG} tests as well."
)
REBUILD_HELP: Final = (
    "With --integration: run the migrations, even if nothing has changed that itkit knows of."
)
SEED_HELP: Final = (
    "With --integration: the seed of random values, as a failure prints it, to repeat a test."
)
BISECT_HELP: Final = (
    "With --integration, for one test that has failed in a run and passes alone: find out which of"
    " the tests that ran before it in its process make it fail."
)
KEEP_HELP: Final = (
    "With --integration: stop at each failed test, and at the last one, before its rows"
    " are removed, so that manage.py itkit shell and dbshell join it from another terminal."
)
REPORT_HELP: Final = (
    "With --integration: write a page for each test that fails, which shows what has left the"
    " process before, and an index of them; by default to itkit-report/. --itkit-report=off writes"
    " none."
)
REPORT_ALL_HELP: Final = "With --integration: write a page for each test, also for those that pass."
REPORT_TEXT: Final = "text"
REPORT_GITHUB: Final = "github"
REPORT_FORMAT_HELP: Final = (
    "With --integration: print failures at the end once more, as annotations that GitHub shows"
    " beside the code (github)."
)
KEEP_ALONE: Final = (
    "--itkit-keep has one process stand still: leave out --parallel, or with pytest-xdist add -n0."
)
SWEEP_HELP: Final = (
    "With --integration: run swept tests with the faults that matter (quick), with all faults and"
    " pairs (full), or once, without any (off)."
)
FAULT_HELP: Final = (
    "With --integration: run swept tests with this fault only, as a finding prints it, such as"
    " 'payments.charge#1:lost_reply'."
)
SCHEDULE_HELP: Final = (
    "With --integration: run raced tests with this schedule only, as a finding prints it, such as"
    " '0x3,1x2,0'."
)
STATE_HELP: Final = (
    "With --integration: run tests that are swept with states from this one only, as a finding"
    " prints it, such as 'shipped'."
)
ONE_VARIATION: Final = "{} is one variation of a sweep, and --itkit-sweep is off: {}."
SEVERAL_VARIATIONS: Final = "{} are variations of different sweeps: leave all but one of them out."
_LEAVE_OFF_OUT: Final = "leave out --itkit-sweep=off"
_OVERRIDE_OFF: Final = "{} says so; --itkit-sweep=quick overrides it"
_ALONE: Final = "{} nothing without --integration: add it, or leave {} out."
_ANSWERED_ELSEWHERE: Final = ("--integration", "--itkit-bisect", "--itkit-trial")
"""Options whose own message says what they need besides ``--integration``."""
COVERAGE_HELP: Final = (
    "With --integration: find out which outcomes of the backends the tests have seen, print those"
    " that none has, and write a page to itkit-coverage/."
)
COVERAGE_MIN_HELP: Final = (
    "With --integration: the same, and fail the run where the tests have seen less than this"
    " percentage."
)
BUDGETS_HELP: Final = (
    "With --integration: compare what leaves the process within budget() with the file of budgets"
    " (check), or write into the file what the tests that run have sent (update)."
)
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "--integration": {"action": "store_true", "help": OPTION_HELP},
    "--rebuild": {"action": "store_true", "help": REBUILD_HELP},
    "--itkit-bisect": {"action": "store_true", "help": BISECT_HELP},
    "--itkit-keep": {"action": "store_true", "help": KEEP_HELP},
    "--itkit-report": {
        "nargs": "?",
        "const": names.REPORT_DIRECTORY,
        "metavar": "DIR",
        "help": REPORT_HELP,
    },
    "--itkit-report-all": {"action": "store_true", "help": REPORT_ALL_HELP},
    "--itkit-report-format": {
        "choices": (REPORT_TEXT, REPORT_GITHUB),
        "default": REPORT_TEXT,
        "help": REPORT_FORMAT_HELP,
    },
    "--itkit-coverage": {"action": "store_true", "help": COVERAGE_HELP},
    "--itkit-coverage-min": {"type": float, "metavar": "PERCENT", "help": COVERAGE_MIN_HELP},
    "--itkit-budgets": {
        "choices": (names.BUDGETS_CHECK, names.BUDGETS_UPDATE),
        "default": names.BUDGETS_CHECK,
        "help": BUDGETS_HELP,
    },
    "--itkit-sweep": {"choices": names.SWEEPS, "default": names.SWEEP_QUICK, "help": SWEEP_HELP},
    "--itkit-fault": {"metavar": "FAULT", "help": FAULT_HELP},
    "--itkit-schedule": {"metavar": "SCHEDULE", "help": SCHEDULE_HELP},
    "--itkit-state": {"metavar": "STATE", "help": STATE_HELP},
    "--itkit-trial": {"metavar": "FILE", "help": argparse.SUPPRESS},
    "--itkit-seed": {"metavar": "SEED", "help": SEED_HELP},
}
"""The command-line options of both doors, with the arguments of ``add_argument()``."""


def django_command() -> str:
    """Return how ``manage.py test`` is typed on this machine: ``python manage.py test``."""
    return f"{Path(sys.executable or 'python').name} manage.py test"


def is_typed(option: str, arguments: Sequence[str]) -> bool:
    """Return whether an option is among the arguments of a command line, also if it is shortened.

    ``manage.py`` takes the beginning of an option for it, as ``argparse`` does.
    """
    words = [argument.partition("=")[0] for argument in arguments]
    return any(
        word == option or (word.startswith("--itkit-") and option.startswith(word))
        for word in words
    )


def without_integration(arguments: Sequence[str]) -> str:
    """Return what is wrong with a command line without ``--integration``; else an empty text.

    Only what was typed is wrong: a project may have options in a file for all of its runs.
    """
    alone = [option for option in OPTIONS if option not in _ANSWERED_ELSEWHERE]
    typed = [option for option in alone if is_typed(option, arguments)]
    if not typed:
        return ""
    changes, them = ("changes", "it") if len(typed) == 1 else ("change", "them")
    return _ALONE.format(f"{' and '.join(typed)} {changes}", them)


def off_of(arguments: Sequence[str], configured: str) -> str:
    """Return what to do about ``--itkit-sweep=off``.

    Args:
        arguments: the arguments of the command line.
        configured: where options come from that nobody has typed, such as ``addopts``.
    """
    typed = is_typed("--itkit-sweep", arguments)
    return _LEAVE_OFF_OUT if typed else _OVERRIDE_OFF.format(configured)


def options_of(values: Mapping[str, Any]) -> list[str]:
    """Return the command-line options for values that are given by the names of their variables.

    Values that are no options of itkit's, or that are not set, are left out.
    """
    found = {option: values.get(option.removeprefix("--").replace("-", "_")) for option in OPTIONS}
    return [
        option if value is True else f"{option}={value}" for option, value in found.items() if value
    ]

"""``manage.py`` without the verdicts and effects of itkit: the peer of ``benchmarks.verdicts``.

``python -m benchmarks.unjudged {with,without} test ...``. In a process that is run ``without``,
nothing follows threads, transactions and effects, and nothing asks at the end of a test what was
kept. The last line that either prints is the CPU time of this process, in seconds.
"""

import sys
import time
from contextlib import nullcontext
from typing import Any

from django.core.management import execute_from_command_line


def main() -> None:
    """Run the command of Django's that is given."""
    choice, *arguments = sys.argv[1:]
    if choice == "without":
        _switch_off()
    status: Any = 0
    try:
        execute_from_command_line(["manage.py", *arguments])
    except SystemExit as end:
        status = end.code
    print(f"CPU {time.process_time()}", flush=True)
    sys.exit(status)


def _switch_off() -> None:
    from itkit.environment import Environment
    from itkit.observation import effects, swallowed
    from itkit.timeline import core, forked, threads, transactions

    for owner in (effects, threads, transactions):
        owner.followed = nullcontext  # type: ignore[attr-defined]  # it stands in for a module's
    for held, names in (
        (core, ("note_asked", "note_effect", "note_unasked")),
        (forked.Channel, ("expect", "open")),
        (transactions, ("check_left_open", "note_statement")),
        (swallowed, ("check", "check_all_run")),
        (Environment, ("_check_effects", "_check_unused")),
    ):
        for name in names:
            assert hasattr(held, name), f"{held} has no {name}"
            setattr(held, name, _nothing)
    swallowed.late = lambda: iter(())


def _nothing(*_: object, **__: object) -> None:
    """Do nothing."""


if __name__ == "__main__":
    main()

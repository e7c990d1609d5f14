"""The environment of this process: starts a run, attaches a worker, forks, and ends.

``current()`` is global to the process and no ContextVar, as threads and live servers must see it.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack

from django.core import checks

from itkit.backends import resolve
from itkit.core import names, seed
from itkit.core.handshake import Payload
from itkit.core.options import ONE_VARIATION, SEVERAL_VARIATIONS, off_of
from itkit.environment import afterwards, forking
from itkit.environment.reporting import coverage, messages, pages
from itkit.environment.worker import Environment, check_run
from itkit.exceptions import ConfigurationError, ItkitError
from itkit.network import earlier, guarding

_current: Environment | None = None
_past: Environment | None = None
"""That of a run which is over: it knows what this process had before."""


def _after_fork() -> None:
    if _current is not None:
        _current.continue_in_child()


def _after_fork_in_parent() -> None:
    if _current is not None:
        _current.expect_child()


os.register_at_fork(after_in_child=_after_fork, after_in_parent=_after_fork_in_parent)


def current() -> Environment | None:
    """Return the environment that this process is attached to, or None without --integration."""
    return _current


def start(
    *,
    migrate: bool = True,
    rebuild: bool = False,
    seeded: str | None = None,
    reported: str | None = None,
    reports_all: bool = False,
    budgets: str = names.BUDGETS_CHECK,
    covered: bool = False,
    arguments: Sequence[str] = (),
    configured: str = "the runner of the tests",
    sweep: str = names.SWEEP_QUICK,
    fault: str | None = None,
    schedule: str | None = None,
    state: str | None = None,
) -> Environment:
    """Start a run and attach this, the main process to it; ``stop()`` ends it.

    If an earlier run is over in this process, the process first gets its own state back.

    Args:
        migrate: whether to run migrations; False with an option such as ``--nomigrations``.
        rebuild: whether to migrate anew, although a template exists.
        seeded: the seed of the run's random values, the value of the option ``--itkit-seed``.
        reported: the directory of the report, as the option ``--itkit-report`` says.
        reports_all: whether tests that pass have a page as well, as ``--itkit-report-all`` says.
        budgets: whether budgets are checked or updated, as the option ``--itkit-budgets`` says.
        arguments: the arguments of the command line.
        configured: where options come from that are not among these arguments, for messages.
        sweep: which faults swept tests are run with, as the option ``--itkit-sweep`` says.
        covered: whether the boundary coverage is measured, as ``--itkit-coverage`` says.
        fault: the only fault that swept tests are run with, as the option ``--itkit-fault`` says.
        schedule: the only schedule that swept tests are run with, as ``--itkit-schedule`` says.
        state: the only state that swept tests are run from, as ``--itkit-state`` says.

    Raises:
        ConfigurationError: the seed is no seed, the report cannot be written, the fault or schedule
            is given without a sweep, or a system check found mistakes in the settings. Nothing was
            started.
        ItkitError: the run could not start. Nothing was left running; the message says what to
            change.
    """
    global _current  # noqa: PLW0603 - one environment per process, for all its threads
    if _current is not None:
        raise ItkitError(
            f"This process is in the run {_current.payload.run} already. A test that runs tests"
            " with --integration starts them in a process of their own."
        )
    options = {"--itkit-fault": fault, "--itkit-schedule": schedule, "--itkit-state": state}
    asked = [option for option, value in options.items() if value]
    if len(asked) > 1:
        raise ConfigurationError(SEVERAL_VARIATIONS.format(" and ".join(asked)))
    if asked and sweep == names.SWEEP_OFF:
        off = off_of(arguments, configured)
        raise ConfigurationError(ONE_VARIATION.format(asked[0], off))
    reopen()
    notices = _check_settings()
    from itkit import postgres
    from itkit.environment.run import Run

    postgres.replace_sqlite()
    run = Run(
        migrate=migrate,
        rebuild=rebuild,
        seed=seed.Seed.parse(seeded),
        report=pages.prepared(reported, arguments, is_asked=reports_all),
        report_all=reports_all,
        budgets=budgets,
        coverage=coverage.prepared() if covered else "",
        sweep=sweep,
        fault=fault or "",
        schedule=schedule or "",
        state=state or "",
        notes=[
            *(
                messages.earlier_connection(where)
                for where in dict.fromkeys(earlier.shut(guarding.is_let_through))
            ),
            *resolve.remarks(),
        ],
    )
    with ExitStack() as undo:
        undo.callback(postgres.put_sqlite_back)
        payload = run.start()
        undo.callback(run.stop)
        environment = Environment(payload, names.MAIN_WORKER, run=run)
        environment.notices = notices
        environment.attach()
        undo.pop_all()
    _current = environment
    return environment


def attach(worker: str) -> Environment:
    """Attach a process that the main process has started to its run.

    Raises:
        ItkitError: the run has ended meanwhile, or this process is no worker of one.
    """
    global _current  # noqa: PLW0603 - one environment per process, for all its threads
    reopen()
    payload = Payload.from_environment()
    from itkit import postgres

    postgres.replace_sqlite()
    earlier.shut(guarding.is_let_through)
    check_run(payload)
    environment = Environment(payload, worker)
    environment.attach()
    forking.end_with_parent()
    _current = environment
    return environment


def stop() -> list[afterwards.Late]:
    """Detach this process and, in the main one, end the run; a second call does nothing.

    The process does not get its own state back yet, as code may outlive the tests: whatever such
    code tries from now on fails.

    Returns:
        What outlives the tests and was not returned by ``shut()`` before.
    """
    global _current, _past  # noqa: PLW0603 - one environment per process, for all its threads
    environment, _current = _current, None
    # A process that a test has forked releases nothing, as its parent owns what both share.
    if environment is None or environment.process != os.getpid():
        return []
    late = environment.shut()
    _past = environment
    environment.detach()
    return late


def leave_with(status: int) -> None:
    """Note the exit code of the run, which is over: code that outlives it cannot improve it."""
    if _past is not None:
        _past.leaving.status = status


def reopen() -> None:
    """Restore the state that this process had before a run that is over."""
    global _past
    past, _past = _past, None
    if past is not None:
        past.give_back()


def _check_settings() -> list[str]:
    """Return the warnings of itkit's system checks; raise their errors."""
    found = checks.run_checks(tags=["itkit"])
    errors = [problem for problem in found if problem.level >= checks.ERROR]
    if errors:
        lines = [f"  {error.id}  {error.msg} {error.hint or ''}".rstrip() for error in errors]
        raise ConfigurationError("\n".join(["not started, the settings have mistakes:", *lines]))
    return [
        f"itkit: {problem.id}  {problem.msg} {problem.hint or ''}".rstrip()
        for problem in found
        if not problem.is_silenced()
    ]

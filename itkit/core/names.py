"""Run, worker and test ids, and the names made of them. The only place that knows what is ours.

The words that both doors use are here too.
"""

import argparse
import re
import secrets
from collections.abc import Mapping
from hashlib import blake2s
from typing import Any, Final

TAG: Final = "integration"
SKIP_REASON: Final = "an integration test: run with --integration"
OPTION_HELP: Final = (
    "Provide a real Postgres and Redis, isolated, with the external backends faked, and run the"
    f" {TAG} tests as well."
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
REPORT_DIRECTORY: Final = "itkit-report"
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
    "--itkit-keep has one process stand still, with --integration: leave out --parallel, or with"
    " pytest-xdist add -n0."
)
SWEEP_OFF: Final = "off"
SWEEP_QUICK: Final = "quick"
SWEEP_FULL: Final = "full"
SWEEPS: Final = (SWEEP_OFF, SWEEP_QUICK, SWEEP_FULL)
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
ONE_VARIATION: Final = (
    "{} is one variation of a sweep: leave out --itkit-sweep=off, and other options that ask for"
    " one variation."
)
COVERAGE_HELP: Final = (
    "With --integration: find out which outcomes of the backends the tests have seen, print those"
    " that none has, and write a page to itkit-coverage/."
)
COVERAGE_MIN_HELP: Final = (
    "With --integration: the same, and fail the run where the tests have seen less than this"
    " percentage."
)
BUDGETS_CHECK: Final = "check"
BUDGETS_UPDATE: Final = "update"
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
        "const": REPORT_DIRECTORY,
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
        "choices": (BUDGETS_CHECK, BUDGETS_UPDATE),
        "default": BUDGETS_CHECK,
        "help": BUDGETS_HELP,
    },
    "--itkit-sweep": {"choices": SWEEPS, "default": SWEEP_QUICK, "help": SWEEP_HELP},
    "--itkit-fault": {"metavar": "FAULT", "help": FAULT_HELP},
    "--itkit-schedule": {"metavar": "SCHEDULE", "help": SCHEDULE_HELP},
    "--itkit-state": {"metavar": "STATE", "help": STATE_HELP},
    "--itkit-trial": {"metavar": "FILE", "help": argparse.SUPPRESS},
    "--itkit-seed": {"metavar": "SEED", "help": SEED_HELP},
}
"""The command-line options of both doors, with the arguments of ``add_argument()``."""

PAYLOAD_VARIABLE: Final = "ITKIT_PAYLOAD"
INVITATION_VARIABLE: Final = "ITKIT_TEST"
PGOPTIONS_VARIABLE: Final = "ITKIT_PGOPTIONS"
EXTENSION_SCHEMA: Final = "itkit_ext"
SEEDS_SCHEMA: Final = "itkit_seeds"
PASSED_OVER: Final = "passed over: "  # in the start line, of a server that cannot be used
KEY_ROOT: Final = "itkit:"
MAIN_WORKER: Final = "w0"

_RUN = r"[0-9a-f]{8}"
_WORKER = r"[a-z]+[0-9]+"
_OUR_SCHEMA = re.compile(rf"itkit_(?P<run>{_RUN})_(?P<worker>{_WORKER})(?:_[a-z0-9]+)?")
_FINGERPRINT = r"[0-9a-f]{12}"
_OUR_STATE = re.compile(
    rf"itkit_(?P<fingerprint>{_FINGERPRINT})_(?:template|script|kept_[0-9a-f]{{8}})"
)
OUR_SCHEMAS: Final = (
    rf"^itkit_({_RUN}_{_WORKER}(_[a-z0-9]+)?"
    rf"|{_FINGERPRINT}_(template|script|kept_[0-9a-f]{{8}})|ext|seeds(_[0-9a-f]{{8}})?)$"
)
"""The names of all schemas of itkit's, as a regular expression of Postgres."""
READS_FILE: Final = "itkit-reads.json"
"""In a saved cluster, says what the migrations have read whose result it has."""
NO_SERVER: Final = "no database server answers there; this brings one, for the tests only:"
"""What is said, without ``--integration``, of a connection that is refused; a command follows."""
_OUR_DATABASE = re.compile(r"itkit_tests_(?:[a-z0-9_]+_)?[0-9a-f]{8}")
_LONGEST_PART: Final = 30  # of a database's own name; Postgres cuts names at 63 bytes
_OUR_KEY = re.compile(rf"itkit:(?P<run>{_RUN}):")
_OUR_USER = re.compile(rf"itkit_(?P<run>{_RUN})_{_WORKER}")


def options_of(values: Mapping[str, Any]) -> list[str]:
    """Return the options of a command line that give these values, by the names of their variables.

    What is no option of itkit's, or is not given, is left out.
    """
    found = {option: values.get(option.removeprefix("--").replace("-", "_")) for option in OPTIONS}
    return [
        option if value is True else f"{option}={value}" for option, value in found.items() if value
    ]


def is_refusal(text: str) -> bool:
    """Return whether an error of a database's client says that no server answers."""
    return "Connection refused" in text or "No such file or directory" in text


def new_run_id() -> str:
    """Return eight random hex digits that name one run of the test command."""
    return secrets.token_hex(4)


def worker_id(number: str | int) -> str:
    """Return the id of a parallel worker: ``w1`` for Django's 1, ``gw0`` for xdist's gw0."""
    text = str(number)
    return text if re.fullmatch(_WORKER, text) else f"w{int(text)}"


def schema(run: str, worker: str, alias: str = "default") -> str:
    """Return the schema of one worker for one alias of ``DATABASES``.

    Aliases may share a database, so each but ``default`` has its own suffix. An alias is free
    text while Postgres cuts names at 63 bytes, so the suffix is a digest.
    """
    name = f"itkit_{run}_{worker}"
    if alias == "default":
        return name
    return f"{name}_{blake2s(alias.encode(), digest_size=4).hexdigest()}"


def seed_schema(schema: str) -> str:
    """Return the schema beside a worker's that keeps the rows which its migrations made."""
    return _beside(schema, "seed")


def seeds_schema(schema: str) -> str:
    """Return the schema that keeps the migrated rows of another one in a worker's database."""
    if schema == "public":
        return SEEDS_SCHEMA
    return f"{SEEDS_SCHEMA}_{blake2s(schema.encode(), digest_size=4).hexdigest()}"


def twin_schema(schema: str) -> str:
    """Return the schema beside a worker's for a second clone, to compare the first one with."""
    return _beside(schema, "twin")


def template_schema(fingerprint: str) -> str:
    """Return the schema that migrations have made once, for clones to be made of."""
    return f"itkit_{fingerprint}_template"


def script_schema(fingerprint: str) -> str:
    """Return the schema beside a template's that keeps how to clone it."""
    return f"itkit_{fingerprint}_script"


def new_kept_schema(fingerprint: str) -> str:
    """Return a name for a clone that waits for the next run."""
    return f"itkit_{fingerprint}_kept_{secrets.token_hex(4)}"


def _beside(schema: str, what: str) -> str:
    return f"{schema}{what}" if schema.count("_") > 2 else f"{schema}_{what}"


def database(name: str, *owner: str) -> str:
    """Return the database that itkit creates on a server for the schemas of a project's tests.

    No other tool takes it for its own, as Django does with ``test_<NAME>``.

    Args:
        name: the name of the project's own database, for people to recognise.
        owner: a text that distinguishes the project from others, which may use the same name.
    """
    shown = re.sub(r"[^a-z0-9]+", "_", name.lower())[:_LONGEST_PART].strip("_")
    digest = blake2s(repr((name, *owner)).encode(), digest_size=4).hexdigest()
    return "_".join(filter(None, ("itkit_tests", shown, digest)))


def is_database(name: str) -> bool:
    """Return whether a name is that of a database which itkit creates for schemas."""
    return _OUR_DATABASE.fullmatch(name) is not None


def key_prefix(run: str, worker: str) -> str:
    """Return the prefix of all Redis keys and channels of one worker."""
    return f"{KEY_ROOT}{run}:{worker}:"


def redis_user(run: str, worker: str) -> str:
    """Return the name of the Redis user that is limited to a worker's keys."""
    return f"itkit_{run}_{worker}"


def run_of_schema(name: str) -> str | None:
    """Return the run id in the name of a schema, or None when the schema is not ours."""
    match = _OUR_SCHEMA.fullmatch(name)
    return match["run"] if match else None


def fingerprint_of_schema(name: str) -> str | None:
    """Return the fingerprint in the name of a template or of what belongs to it, or None."""
    match = _OUR_STATE.fullmatch(name)
    return match["fingerprint"] if match else None


def run_of_key(key: str) -> str | None:
    """Return the run id in the name of a Redis key, or None when the key is not ours."""
    match = _OUR_KEY.match(key)
    return match["run"] if match else None


def run_of_user(name: str) -> str | None:
    """Return the run id in the name of a Redis user, or None when the user is not ours."""
    match = _OUR_USER.fullmatch(name)
    return match["run"] if match else None

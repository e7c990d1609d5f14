"""Run, worker and test ids, and the names made from them. Only this module recognises our names.

The words that pass between the processes of a run are here too, such as how swept tests are run.
"""

import re
import secrets
from hashlib import blake2s
from typing import Final

TAG: Final = "integration"
SKIP_REASON: Final = "an integration test: run with --integration"
REPORT_DIRECTORY: Final = "itkit-report"
SWEEP_OFF: Final = "off"
SWEEP_QUICK: Final = "quick"
SWEEP_FULL: Final = "full"
SWEEPS: Final = (SWEEP_OFF, SWEEP_QUICK, SWEEP_FULL)
BUDGETS_CHECK: Final = "check"
BUDGETS_UPDATE: Final = "update"

PAYLOAD_VARIABLE: Final = "ITKIT_PAYLOAD"
INVITATION_VARIABLE: Final = "ITKIT_TEST"
PGOPTIONS_VARIABLE: Final = "ITKIT_PGOPTIONS"
EXTENSION_SCHEMA: Final = "itkit_ext"
KEPT_ROWS_SCHEMA: Final = "itkit_seeds"
PASSED_OVER: Final = "passed over: "  # in the start line, about a server that cannot be used
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
"""The file in a saved cluster with the values that its migrations have read."""
_OUR_DATABASE = re.compile(r"itkit_tests_(?:[a-z0-9_]+_)?[0-9a-f]{8}")
_LONGEST_PART: Final = 30  # characters of the database's own name; Postgres cuts names at 63 bytes
_OUR_KEY = re.compile(rf"itkit:(?P<run>{_RUN}):")
_OUR_USER = re.compile(rf"itkit_(?P<run>{_RUN})_{_WORKER}")


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
    return f"{name}_{_digest(alias)}"


def initial_rows_schema(schema: str) -> str:
    """Return the schema beside a worker's that keeps the rows of its migrations."""
    return _beside(schema, "seed")


def kept_rows_schema(schema: str) -> str:
    """Return the schema in a worker's database that keeps the migrated rows of another schema."""
    if schema == "public":
        return KEPT_ROWS_SCHEMA
    return f"{KEPT_ROWS_SCHEMA}_{_digest(schema)}"


def twin_schema(schema: str) -> str:
    """Return the schema beside a worker's for a second clone, with which the first is compared."""
    return _beside(schema, "twin")


def template_schema(fingerprint: str) -> str:
    """Return the schema that migrations have made once, and that is cloned."""
    return f"itkit_{fingerprint}_template"


def script_schema(fingerprint: str) -> str:
    """Return the schema beside a template's that keeps the script of its clones."""
    return f"itkit_{fingerprint}_script"


def new_kept_schema(fingerprint: str) -> str:
    """Return a name for a clone that waits for the next run."""
    return f"itkit_{fingerprint}_kept_{secrets.token_hex(4)}"


def _digest(text: str) -> str:
    return blake2s(text.encode(), digest_size=4).hexdigest()


def _beside(schema: str, what: str) -> str:
    return f"{schema}{what}" if schema.count("_") > 2 else f"{schema}_{what}"


def database(name: str, *owner: str) -> str:
    """Return the database that itkit creates on a server for the schemas of a project's tests.

    No other tool uses this name, unlike ``test_<NAME>``, which Django uses.

    Args:
        name: the name of the project's own database, for people to recognise.
        owner: a text that distinguishes the project from others, which may use the same name.
    """
    shown = re.sub(r"[^a-z0-9]+", "_", name.lower())[:_LONGEST_PART].strip("_")
    return "_".join(filter(None, ("itkit_tests", shown, _digest(repr((name, *owner))))))


def is_database(name: str) -> bool:
    """Return whether a name is one of a database that itkit creates for schemas."""
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
    """Return the fingerprint in the name of a template or of its parts, or None."""
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

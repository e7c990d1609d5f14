"""``ITKIT``: one table of settings with defaults, validation, a cached getter and its reset.

Each dataclass below is one table. A field's metadata holds the check of its value; the key in
``ITKIT`` is the field's name in capitals. Some keys can be set by the environment as well, and
the environment wins: a CI job should not have to edit settings.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any, Final, Literal, get_args

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from itkit.core import names, urls
from itkit.core.text import did_you_mean
from itkit.exceptions import ConfigurationError

Check = Callable[[Any], str | None]

_HOST = re.compile(r"[\w*?.-]+(/\d+|:\d+)?|\[[\da-fA-F:.]+\](:\d+)?|[\da-fA-F:.]+(/\d+)?|/[^\0\n]+")
"""A name or a pattern of names with or without a port, an address, a network, a socket's path."""

NAMES_OF_SECRETS: Final = r"CREDENTIAL|KEY|PASS|SECRET|SIGNATURE|TOKEN"
"""A regular expression that finds a part of the name of each setting that may be a secret."""

_PREFIX: Final = "ITKIT_"
_OWN_VARIABLES: Final = frozenset(
    {names.PAYLOAD_VARIABLE, names.INVITATION_VARIABLE, names.PGOPTIONS_VARIABLE}
)
_OF_TESTS: Final = f"{names.INVITATION_VARIABLE}_"  # the variables of itkit's own test suite


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong value in the settings, with the number of the check's id, a message and a hint.

    Attributes:
        number: the number of the check.
        message: a sentence that says what is wrong.
        hint: how to mend it.
        level: ``E`` for an error, ``W`` for a warning.
    """

    number: int
    message: str
    hint: str
    level: str = "E"

    @property
    def id(self) -> str:
        """The id of the system check, such as ``itkit.E002``."""
        return f"itkit.{self.level}{self.number:03}"


def _a_string(value: Any) -> str | None:
    return None if value is None or isinstance(value, str) else "a string"


def _a_path(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "the path of a file"


def _a_flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "True or False"


def _seconds(value: Any) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if number and value > 0 else "a number of seconds above 0"


def _a_count(value: Any) -> str | None:
    number = isinstance(value, int) and not isinstance(value, bool)
    return None if number and value >= 0 else "a whole number, 0 or more"


def _strings(value: Any) -> str | None:
    is_list = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    return None if is_list else "a list of strings"


def _hosts(value: Any) -> str | None:
    expected = _strings(value)
    if expected is None and all(_HOST.fullmatch(item) for item in value):
        return None
    return (
        "a list of hosts: 'api.example.com', '*.example.com', 'api.example.com:443', '10.0.0.0/8',"
        " or the path of a socket"
    )


def _one_of(choices: Sequence[str]) -> Callable[[Any], str | None]:
    expected = f"one of {', '.join(map(repr, choices))}"
    return lambda value: None if value in choices else expected


def _a_mapping(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else "a dict"


def _a_url(schemes: tuple[str, ...]) -> Check:
    def check(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            return f"a URL such as {schemes[0]}://localhost/…"
        try:
            urls.parse(value, schemes)
        except ConfigurationError as error:
            return str(error)
        return None

    return check


def _setting(default: Any, check: Check, *, env: str | None = None, is_secret: bool = False) -> Any:
    metadata = {"check": check, "env": env, "is_secret": is_secret}
    return field(default=default, metadata=metadata)


_FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
"""The values of a flag in the environment."""

SOURCES = ("auto", "settings", "embedded", "system")
"""Where servers may come from. ``auto`` tries all of them in this order."""


ISOLATIONS = ("schema", "database")
"""Whether each worker has a schema or a database of its own."""

ROLES = ("auto", "worker", "project")
"""The role of Postgres by which the tests log in: a role of the worker if that is possible, a role
of the worker in any case, or the role of the project."""

SCOPES = ("test", "class", "worker")
"""The scope at whose end the keys in Redis are removed."""

LEAKS = ("off", "report", "fail")
"""What happens if a test leaves keys."""

DataLeaks = Literal["off", "report", "fail", "exact"]
DATA_LEAKS = get_args(DataLeaks)
"""What happens if a test makes rows that its data manager does not know."""

SEQUENCES = ("run", "test")
"""The scope at whose end the sequences of factories begin again."""

ACLS = ("auto", "require", "off")
"""Whether each worker has a Redis user of its own: if possible, in any case, or never."""

BUILTINS = ("celery", "mail", "storage", "tasks")
"""The built-in backends."""

LOCALS = ("warn", "refuse")
"""What happens if code connects to a local server that is not named and that no test started."""

MODES = ("fake", "spy", "real")
"""What answers the calls of a backend: its fake, the real backend with a record, or without."""

EFFECTS = ("report", "fail", "off")
"""What happens if an effect leaves the process while a transaction is open."""

IN_TRANSACTION = ("report", "allow")
"""Whether a backend may be called while a transaction is open."""

UNUSED = ("warn", "fail", "off")
"""What happens if no call uses an answer that a test has programmed."""

UNPROGRAMMED = ("lazy", "lenient", "strict")
"""What a call without a programmed answer returns: a value that fails when code uses it, an empty
value by the annotation, or an error."""


@dataclass(frozen=True, kw_only=True)
class PostgresSettings:
    """``ITKIT["POSTGRES"]``."""

    url: str | None = _setting(
        None, _a_url(urls.POSTGRES_SCHEMES), env="ITKIT_POSTGRES_URL", is_secret=True
    )
    bin: str | None = _setting(None, _a_string, env="ITKIT_POSTGRES_BIN")
    allow_remote: bool = _setting(False, _a_flag)  # noqa: FBT003 - a default, not a call's argument
    in_project_database: bool = _setting(
        False,  # noqa: FBT003 - as above
        _a_flag,
        env="ITKIT_POSTGRES_IN_PROJECT_DATABASE",
    )
    extensions: tuple[str, ...] = _setting((), _strings)
    isolation: str = _setting("schema", _one_of(ISOLATIONS), env="ITKIT_POSTGRES_ISOLATION")
    replace_sqlite: bool = _setting(False, _a_flag, env="ITKIT_POSTGRES_REPLACE_SQLITE")  # noqa: FBT003 - as above
    role: str = _setting("auto", _one_of(ROLES), env="ITKIT_POSTGRES_ROLE")
    keep: int = _setting(8, _a_count, env="ITKIT_POSTGRES_KEEP")
    seed_files: tuple[str, ...] = _setting((), _strings)
    ignored_reads: tuple[str, ...] = _setting((), _strings)


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    """``ITKIT["REDIS"]``."""

    url: str | None = _setting(
        None, _a_url(urls.REDIS_SCHEMES), env="ITKIT_REDIS_URL", is_secret=True
    )
    bin: str | None = _setting(None, _a_string, env="ITKIT_REDIS_BIN")
    allow_remote: bool = _setting(False, _a_flag)  # noqa: FBT003 - a default, not a call's argument
    settings: tuple[str, ...] = _setting((), _strings)
    allow_addresses: tuple[str, ...] = _setting((), _strings)
    allow_commands: tuple[str, ...] = _setting((), _strings)
    per_worker_server: bool = _setting(False, _a_flag)  # noqa: FBT003 - as above
    acl: str = _setting("auto", _one_of(ACLS), env="ITKIT_REDIS_ACL")
    shared_aliases: tuple[str, ...] = _setting((), _strings)
    scope: str = _setting("test", _one_of(SCOPES))
    leaks: str = _setting("off", _one_of(LEAKS), env="ITKIT_REDIS_LEAKS")


@dataclass(frozen=True, kw_only=True)
class BackendSettings:
    """One entry of ``ITKIT["BACKENDS"]``: where the real backend is named, and who answers."""

    setting: str | None = _setting(None, _a_string)
    alias: str | None = _setting(None, _a_string)
    target: str | None = _setting(None, _a_string)
    container: str | None = _setting(None, _a_string)
    key: str | None = _setting(None, _a_string)
    builtin: str | None = _setting(None, _one_of(BUILTINS))
    fake: str | None = _setting(None, _a_string)
    options: Mapping[str, Any] = field(
        default_factory=dict, metadata={"check": _a_mapping, "env": None}
    )
    mode: str = _setting("fake", _one_of(MODES))
    unprogrammed: str = _setting("lazy", _one_of(UNPROGRAMMED))
    in_transaction: str = _setting("report", _one_of(IN_TRANSACTION))
    faults: tuple[str, ...] = _setting((), _strings)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """``ITKIT["NETWORK"]``."""

    block: bool = _setting(True, _a_flag)  # noqa: FBT003 - a default, not a call's argument
    allow: tuple[str, ...] = _setting((), _hosts)
    local: str = _setting("warn", _one_of(LOCALS), env="ITKIT_NETWORK_LOCAL")


@dataclass(frozen=True, kw_only=True)
class AliasSettings:
    """One entry of ``ITKIT["DATA"]["ALIASES"]``: what ``create_<alias>()`` creates."""

    model: str | None = _setting(None, _a_string)
    args: tuple[str, ...] = _setting((), _strings)
    items: tuple[str, ...] = _setting((), _strings)
    defaults: Mapping[str, Any] = field(
        default_factory=dict, metadata={"check": _a_mapping, "env": None}
    )


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """``ITKIT["DATA"]``."""

    aliases: Mapping[str, AliasSettings] = field(
        default_factory=dict, metadata={"entries": AliasSettings}
    )
    delete_by_model: tuple[str, ...] = _setting((), _strings)
    sequences: str = _setting("run", _one_of(SEQUENCES))
    leaks: DataLeaks = _setting(  # noqa: RUF009 - as all others; it sees no immutable type here
        "off", _one_of(DATA_LEAKS), env="ITKIT_DATA_LEAKS"
    )


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """``ITKIT["REPORT"]``."""

    dir: str | None = _setting(None, _a_string, env="ITKIT_REPORT_DIR")
    values: bool = _setting(True, _a_flag)  # noqa: FBT003 - a default, not a call's argument
    secrets: tuple[str, ...] = _setting((), _strings)
    budgets: str = _setting("budgets.json", _a_path)
    coverage: str = _setting("itkit-coverage", _a_path, env="ITKIT_REPORT_COVERAGE")


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """``ITKIT["SWEEP"]``: how long one swept test may take."""

    variations: int = _setting(500, _a_count)
    seconds: float = _setting(120.0, _seconds)
    act_seconds: float = _setting(10.0, _seconds)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``ITKIT`` as a whole, checked and with its defaults."""

    source: str = _setting("auto", _one_of(SOURCES), env="ITKIT_SOURCE")
    start_timeout: float = _setting(30.0, _seconds, env="ITKIT_START_TIMEOUT")
    cache_dir: str | None = _setting(None, _a_string, env="ITKIT_CACHE_DIR")
    data_root: str | None = _setting(None, _a_string, env="ITKIT_DATA_ROOT")
    effects: str = _setting("report", _one_of(EFFECTS), env="ITKIT_EFFECTS")
    unused: str = _setting("warn", _one_of(UNUSED), env="ITKIT_UNUSED")
    postgres: PostgresSettings = field(
        default_factory=PostgresSettings, metadata={"table": PostgresSettings}
    )
    redis: RedisSettings = field(default_factory=RedisSettings, metadata={"table": RedisSettings})
    backends: Mapping[str, BackendSettings] = field(
        default_factory=dict, metadata={"entries": BackendSettings}
    )
    network: NetworkSettings = field(
        default_factory=NetworkSettings, metadata={"table": NetworkSettings}
    )
    data: DataSettings = field(default_factory=DataSettings, metadata={"table": DataSettings})
    report: ReportSettings = field(
        default_factory=ReportSettings, metadata={"table": ReportSettings}
    )
    sweep: SweepSettings = field(default_factory=SweepSettings, metadata={"table": SweepSettings})


@cache
def get() -> Settings:
    """Return the checked settings; cached until ``ITKIT`` changes.

    Raises:
        ConfigurationError: anything is wrong with them; the message lists all of it.
    """
    parsed, mistakes = _read()
    if mistakes:
        lines = [f"  {mistake.message} {mistake.hint}" for mistake in mistakes]
        raise ConfigurationError("\n".join(["The setting ITKIT has mistakes:", *lines]))
    return parsed


def mistakes() -> list[Mistake]:
    """Return all mistakes in ``ITKIT`` and its environment variables."""
    return [*_read()[1], *_unknown_variables()]


def _unknown_variables() -> Iterator[Mistake]:
    """Yield the environment variables with a name like itkit's that nothing reads."""
    known = set(_variables(Settings))
    for name in sorted(os.environ):
        if not name.startswith(_PREFIX) or name.startswith(_OF_TESTS):
            continue
        if name not in known | _OWN_VARIABLES:
            message = f"The environment variable {name} is none of itkit's."
            # ITKIT_KEEP is nearer to ITKIT_POSTGRES_KEEP than by its letters.
            same = [
                other for other in sorted(known) if other.endswith(name.removeprefix(_PREFIX[:-1]))
            ]
            yield Mistake(14, message, did_you_mean(same[0] if same else name, sorted(known)))


def _variables(kind: type[Any]) -> Iterator[str]:
    for item in fields(kind):
        if "table" in item.metadata:
            yield from _variables(item.metadata["table"])
        elif variable := item.metadata.get("env"):
            yield variable


def _read() -> tuple[Settings, list[Mistake]]:
    reader = _SettingsReader()
    parsed = reader.table(Settings, getattr(django_settings, "ITKIT", {}), "ITKIT")
    return parsed, reader.mistakes


class _SettingsReader:
    """Turns nested dicts into the dataclasses above, and collects the mistakes that it finds."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def table(self, kind: type[Any], raw: Any, path: str) -> Any:
        if not isinstance(raw, Mapping):
            self._wrong_value(path, raw, "a dict")
            raw = {}
        known = {item.name.upper(): item for item in fields(kind)}
        self._report_unknown(raw, known, path)
        return kind(**dict(self._values(known, raw, path)))

    def _values(
        self, known: Mapping[str, Field[Any]], raw: Mapping[str, Any], path: str
    ) -> Iterator[tuple[str, Any]]:
        for key, item in known.items():
            key_path = f'{path}["{key}"]'
            if "table" in item.metadata:
                yield item.name, self.table(item.metadata["table"], raw.get(key, {}), key_path)
            elif "entries" in item.metadata:
                yield item.name, self._entries(item.metadata["entries"], raw.get(key, {}), key_path)
            elif (variable := item.metadata["env"]) and variable in os.environ:
                yield item.name, self._from_environment(item, os.environ[variable])
            elif key in raw:
                yield item.name, self._checked(item, raw[key], key_path)

    def _entries(self, kind: type[Any], raw: Any, path: str) -> dict[str, Any]:
        if not isinstance(raw, Mapping):
            self._wrong_value(path, raw, "a dict of names")
            return {}
        return {
            str(name): self._entry(kind, entry, f'{path}["{name}"]') for name, entry in raw.items()
        }

    def _entry(self, kind: type[Any], raw: Any, path: str) -> Any:
        """Return the table of one entry, or note a mistake that proposes a table."""
        if isinstance(raw, Mapping):
            return self.table(kind, raw, path)
        key = "MODEL" if kind is AliasSettings else "TARGET"
        meant = raw if isinstance(raw, str) else _dotted_path(raw)
        if kind is BackendSettings and meant in BUILTINS:
            key = "BUILTIN"
        elif kind is BackendSettings and hasattr(django_settings, meant):
            key = "SETTING"
        shown = urls.redact(repr(raw))
        self.mistakes.append(
            Mistake(2, f"{path} is {shown}, expected a dict.", f'Write {{"{key}": "{meant}"}}.')
        )
        return kind()

    def _checked(self, item: Field[Any], value: Any, key_path: str) -> Any:
        expected = item.metadata["check"](value)
        if expected and item.metadata.get("is_secret") and isinstance(value, str):
            # The value is not shown: without a URL, a password in it cannot be recognised.
            self.mistakes.append(Mistake(2, f"{key_path}: {expected}", f"Correct {key_path}."))
        elif expected:
            self._wrong_value(key_path, value, expected)
        return tuple(value) if isinstance(value, list) else value

    def _from_environment(self, item: Field[Any], text: str) -> Any:
        value: Any = text
        if not text:
            message = f"The environment variable {item.metadata['env']} is empty."
            self.mistakes.append(Mistake(2, message, "Give it a value, or remove it."))
            return item.default
        if isinstance(item.default, bool):
            value = _FLAGS.get(text.lower(), text)
        elif isinstance(item.default, int | float):
            try:
                value = type(item.default)(text)
            except ValueError:
                value = text
        return self._checked(item, value, f"the environment variable {item.metadata['env']}")

    def _wrong_value(self, key_path: str, value: Any, expected: str) -> None:
        shown = urls.redact(repr(value))
        self.mistakes.append(
            Mistake(2, f"{key_path} is {shown}, expected {expected}.", f"Correct {key_path}.")
        )

    def _report_unknown(
        self, raw: Mapping[Any, Any], known: Mapping[str, Field[Any]], path: str
    ) -> None:
        for key in raw:
            if key not in known:
                self.mistakes.append(
                    Mistake(1, f"{path} has no key {key!r}.", did_you_mean(str(key).upper(), known))
                )


def _dotted_path(thing: Any) -> str:
    """Return the path of a class or function, or an example of such a path."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    return f"{module}.{name}" if module and name else "package.module.Name"


def shown(name: str, value: str) -> str:
    """Return how a message shows the value of a setting, which may be a secret.

    Args:
        name: the name of the setting.
        value: the value of the setting.
    """
    is_secret = re.search(NAMES_OF_SECRETS, name, re.IGNORECASE)
    return "a text that is not shown" if is_secret else repr(value)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "ITKIT":
        get.cache_clear()


setting_changed.connect(_forget, dispatch_uid="itkit.conf")

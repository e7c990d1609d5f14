from typing import Any

import pytest
from django.test import override_settings

from itkit import conf
from itkit.exceptions import ConfigurationError
from tests.support.projects import Project


def mistakes_of(value: Any) -> list[str]:
    with override_settings(ITKIT=value):
        return [f"{mistake.id} {mistake.message} {mistake.hint}" for mistake in conf.mistakes()]


def test_everything_has_a_default() -> None:
    with override_settings(ITKIT={}):
        settings = conf.get()
    assert settings.source == "auto"
    assert settings.start_timeout == 30
    assert settings.postgres.url is None
    assert settings.redis.settings == ()
    assert settings.backends == {}
    assert settings.data.aliases == {}


def test_values_are_read_from_nested_tables() -> None:
    with override_settings(
        ITKIT={
            "POSTGRES": {"URL": "postgresql://h/d", "EXTENSIONS": ["citext"]},
            "BACKENDS": {"sms": {"TARGET": "shop.sms"}},
            "DATA": {"ALIASES": {"order": {"MODEL": "shop.Order", "ARGS": ["user_id"]}}},
        }
    ):
        settings = conf.get()
    assert settings.postgres.extensions == ("citext",)
    assert settings.backends["sms"] == conf.BackendSettings(target="shop.sms")
    assert settings.data.aliases["order"].args == ("user_id",)


def test_the_getter_is_cached_until_the_setting_changes() -> None:
    with override_settings(ITKIT={}):
        first = conf.get()
        assert conf.get() is first
    with override_settings(ITKIT={"SOURCE": "system"}):
        assert conf.get().source == "system"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], "itkit.E002 ITKIT is [], expected a dict."),
        ({"POSTGRESS": {}}, "itkit.E001 ITKIT has no key 'POSTGRESS'. Did you mean 'POSTGRES'?"),
        (
            {"zzz": 1},
            "itkit.E001 ITKIT has no key 'zzz'. Available: BACKENDS, CACHE_DIR, DATA, DATA_ROOT, EFFECTS, NETWORK, POSTGRES, REDIS, REPORT, SOURCE, START_TIMEOUT, SWEEP, UNUSED.",
        ),
        ({5: 1}, "itkit.E001 ITKIT has no key 5."),
        (
            {"SOURCE": "docker"},
            "itkit.E002 ITKIT[\"SOURCE\"] is 'docker', expected one of 'auto', 'settings', 'embedded', 'system'.",
        ),
        ({"SOURCE": []}, 'itkit.E002 ITKIT["SOURCE"] is [], expected one of'),
        (
            {"START_TIMEOUT": -1},
            'itkit.E002 ITKIT["START_TIMEOUT"] is -1, expected a number of seconds above 0.',
        ),
        ({"START_TIMEOUT": True}, 'itkit.E002 ITKIT["START_TIMEOUT"] is True'),
        (
            {"POSTGRES": {"URL": "mysql://u:secret@h"}},
            'itkit.E002 ITKIT["POSTGRES"]["URL"]: The URL of a server does not begin with',
        ),
        ({"POSTGRES": {"URL": 5}}, 'itkit.E002 ITKIT["POSTGRES"]["URL"] is 5, expected a URL'),
        ({"POSTGRES": {"ALLOW_REMOTE": "yes"}}, "expected True or False."),
        (
            {"POSTGRES": {"ISOLATION": "table"}},
            "itkit.E002 ITKIT[\"POSTGRES\"][\"ISOLATION\"] is 'table', expected one of 'schema', 'database'.",
        ),
        ({"POSTGRES": {"KEEP": -1}}, 'ITKIT["POSTGRES"]["KEEP"] is -1, expected a whole number, 0'),
        ({"POSTGRES": {"KEEP": True}}, 'itkit.E002 ITKIT["POSTGRES"]["KEEP"] is True'),
        ({"POSTGRES": {"SEED_FILES": "seeds"}}, "expected a list of strings."),
        ({"REDIS": {"SETTINGS": "CELERY_BROKER_URL"}}, "expected a list of strings."),
        ({"REDIS": {"ACL": True}}, "is True, expected one of 'auto', 'require', 'off'."),
        ({"REDIS": {"ALLOW_COMMANDS": "FLUSHALL"}}, "expected a list of strings."),
        ({"REDIS": None}, 'itkit.E002 ITKIT["REDIS"] is None, expected a dict.'),
        (
            {"BACKENDS": {"p": "shop.Gateway"}},
            'itkit.E002 ITKIT["BACKENDS"]["p"] is \'shop.Gateway\', expected a dict. Write {"TARGET": "shop.Gateway"}.',
        ),
        ({"BACKENDS": {"p": "mail"}}, 'expected a dict. Write {"BUILTIN": "mail"}.'),
        (
            {"BACKENDS": {"p": "SECRET_KEY"}},
            'expected a dict. Write {"SETTING": "SECRET_KEY"}.',
        ),
        ({"BACKENDS": {"p": Project}}, 'Write {"TARGET": "tests.support.projects.Project"}.'),
        ({"DATA": {"ALIASES": {"order": "shop.Order"}}}, 'Write {"MODEL": "shop.Order"}.'),
        ({"BACKENDS": {"p": {"TARGETS": "x"}}}, "Did you mean 'TARGET'?"),
        ({"BACKENDS": []}, 'itkit.E002 ITKIT["BACKENDS"] is [], expected a dict of names.'),
        ({"DATA": {"ALIASES": {"order": {"MODEL": 1}}}}, "expected a string."),
        ({"DATA": {"ALIASES": {"order": {"DEFAULTS": []}}}}, "expected a dict."),
    ],
)
def test_a_mistake_is_told_with_its_place_and_remedy(value: Any, expected: str) -> None:
    found = mistakes_of(value)
    assert len(found) == 1
    assert expected in found[0]
    assert "secret" not in found[0]


def test_all_mistakes_are_told_at_once() -> None:
    assert len(mistakes_of({"SOURCE": 1, "REDIS": {"URL": "x", "B": 2}})) == 3
    with (
        override_settings(ITKIT={"SOURCE": 1, "CACHE_DIR": 1}),
        pytest.raises(ConfigurationError, match=r"(?s)SOURCE.*CACHE_DIR"),
    ):
        conf.get()


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITKIT_SOURCE", "system")
    monkeypatch.setenv("ITKIT_START_TIMEOUT", "5")
    monkeypatch.setenv("ITKIT_POSTGRES_URL", "postgresql://env/d")
    with override_settings(ITKIT={"SOURCE": "embedded", "POSTGRES": {"URL": "postgresql://set/d"}}):
        settings = conf.get()
    assert (settings.source, settings.start_timeout) == ("system", 5.0)
    assert settings.postgres.url == "postgresql://env/d"
    monkeypatch.setenv("ITKIT_POSTGRES_KEEP", "0")
    monkeypatch.setenv("ITKIT_POSTGRES_ISOLATION", "database")
    with override_settings(ITKIT={"POSTGRES": {"KEEP": 3}}):
        settings = conf.get()
    assert (settings.postgres.keep, settings.postgres.isolation) == (0, "database")


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), ("true", True), ("True", True), ("0", False), ("false", False), ("Yes", True), ("on", True), ("no", False), ("off", False)]
)  # fmt: skip
def test_a_flag_in_the_environment_is_a_word(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: bool
) -> None:
    monkeypatch.setenv("ITKIT_POSTGRES_IN_PROJECT_DATABASE", text)
    with override_settings(ITKIT={"POSTGRES": {"IN_PROJECT_DATABASE": not expected}}):
        assert conf.get().postgres.in_project_database is expected


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITKIT_START_TIMEOUT", "soon")
    assert "the environment variable ITKIT_START_TIMEOUT is 'soon'" in mistakes_of({})[0]
    monkeypatch.setenv("ITKIT_POSTGRES_IN_PROJECT_DATABASE", "maybe")
    assert "_IN_PROJECT_DATABASE is 'maybe', expected True or False" in mistakes_of({})[-1]
    monkeypatch.delenv("ITKIT_POSTGRES_IN_PROJECT_DATABASE")
    monkeypatch.setenv("ITKIT_START_TIMEOUT", "5")
    monkeypatch.setenv("ITKIT_POSTGRES_KEEP", "many")
    assert "the environment variable ITKIT_POSTGRES_KEEP is 'many'" in mistakes_of({})[0]


@pytest.mark.parametrize("variable", ["ITKIT_POSTGRES_URL", "ITKIT_SOURCE", "ITKIT_POSTGRES_KEEP"])
def test_an_empty_variable_is_told_as_such(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CI job may set one of a secret that it does not have; no other server stands in for it."""
    monkeypatch.setenv(variable, "")
    told = (
        f"itkit.E002 The environment variable {variable} is empty. Give it a value, or remove it."
    )
    assert mistakes_of({}) == [told]


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("ITKIT_POSTGRES_ISOLATON", "Did you mean 'ITKIT_POSTGRES_ISOLATION'?"),
        ("ITKIT_REDISURL", "Did you mean 'ITKIT_REDIS_URL'?"),
        ("ITKIT_SOURCES", "Did you mean 'ITKIT_SOURCE'?"),
        ("ITKIT_KEEP", "Did you mean 'ITKIT_POSTGRES_KEEP'?"),
    ],
)
def test_a_variable_of_the_environment_that_nothing_reads_is_a_mistake(
    variable: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "x")
    expected = f"itkit.E014 The environment variable {variable} is none of itkit's. {hint}"
    assert mistakes_of({}) == [expected]


@pytest.mark.parametrize("variable", ["ITKIT_PAYLOAD", "ITKIT_TEST", "ITKIT_TEST_ROUNDS"])
def test_a_variable_that_itkit_sets_itself_is_none(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    assert mistakes_of({}) == []

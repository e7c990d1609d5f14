"""The settings that name Redis servers: found, pointed at the server of the tests, mistaken."""

import os
from typing import Any, NamedTuple

import pytest
import redis
from django.core.signals import setting_changed
from django.utils.functional import SimpleLazyObject

from itkit.checks import check_settings
from itkit.redis import PrefixIsolation, addresses, mistakes, project_servers


@pytest.fixture
def table(settings) -> Any:
    settings.ITKIT = {}
    return settings


def installed(url: str) -> PrefixIsolation:
    """Return an isolation that points the settings at a server; nothing connects to it."""
    made = PrefixIsolation(server=url, run="0123abcd", worker="w1", owned=True, project=[])
    made.install()
    return made


def test_project_servers_are_those_of_caches_then_those_of_the_named_settings(table):
    table.CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": "redis://cache:6380/1",
            "OPTIONS": {"USERNAME": "u", "PASSWORD": "p"},
        },
        "memory": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "own": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": ["redis://a/0", "redis://b/0"],
        },
        "sentinel": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": "redis://service/4",
            "OPTIONS": {"SENTINELS": [("h", 1)]},
        },
    }
    table.CELERY_BROKER_URL = "redis://b:7/2;redis://c:7/2"
    table.LAYERS = {"default": {"CONFIG": {"hosts": [("d", 6379), {"address": "unix:///s?db=1"}]}}}
    table.QUEUES = {"high": {"HOST": "e", "PORT": 6379, "DB": 3, "PASSWORD": "p"}}
    table.CLUSTER = {"redis": {"host": "f", "db": "4"}, "mongo": {"host": "m", "db": "shop"}}
    table.REDIS_HOST, table.REDIS_PORT, table.REDIS_DB = "g", "7", 2
    table.VALKEY_HOST = "redis://i/3"
    table.THUMBNAIL_REDIS_HOST = "j"
    names = [
        *("CELERY_BROKER_URL", "LAYERS", "QUEUES", "CLUSTER", "REDIS_HOST", "VALKEY_HOST"),
        "THUMBNAIL_REDIS_HOST",
    ]
    table.ITKIT = {"REDIS": {"SETTINGS": names}}
    assert project_servers() == [
        ('CACHES["default"]', "redis://u:p@cache:6380/1"),
        ('CACHES["own"]', "redis://a/0"),
        ('CACHES["own"]', "redis://b/0"),
        ('CACHES["sentinel"]', "sentinel://h:1/4"),
        ("CELERY_BROKER_URL", "redis://b:7/2"),
        ("CELERY_BROKER_URL", "redis://c:7/2"),
        ("LAYERS", "redis://d:6379/0"),
        ("LAYERS", "unix:///s?db=1"),
        ("QUEUES", "redis://:p@e:6379/3"),
        ("CLUSTER", "redis://f:6379/4"),
        ("REDIS_HOST", "redis://g:7/2"),
        ("VALKEY_HOST", "redis://i/3"),
        ("THUMBNAIL_REDIS_HOST", "redis://j:6379/0"),
    ]
    assert mistakes() == []


def test_a_project_without_redis_has_no_servers(table):
    table.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert project_servers() == []


def test_named_settings_and_variables_point_at_the_server_of_the_tests(table, monkeypatch):
    path = "/run/tests.sock"
    monkeypatch.setenv("REDIS_URL", "redis://real:1/5")
    table.REDIS_URL = "redis://real:1/5"
    table.CELERY_RESULT_BACKEND = "redis://real:1/6"
    table.LAYERS = {"hosts": [("real", 1), "rediss://real:1/7"], "capacity": 5}
    names = ["REDIS_URL", "CELERY_RESULT_BACKEND", "LAYERS", "MISSING"]
    table.ITKIT = {"REDIS": {"SETTINGS": names}}
    originals = [table.REDIS_URL, table.CELERY_RESULT_BACKEND, table.LAYERS]
    told: list[tuple[str, bool]] = []

    def note(*, setting: str, enter: bool, **_: Any) -> None:
        told.append((setting, enter))

    setting_changed.connect(note)
    made = installed("unix:///run/tests.sock")
    assert table.REDIS_URL == os.environ["REDIS_URL"] == f"unix://{path}?db=5"
    assert f"redis+socket://{path}?virtual_host=6" == table.CELERY_RESULT_BACKEND
    assert {"hosts": [("real", 1), f"unix://{path}?db=7"], "capacity": 5} == table.LAYERS
    made.uninstall()
    setting_changed.disconnect(note)
    assert originals == [table.REDIS_URL, table.CELERY_RESULT_BACKEND, table.LAYERS]
    assert os.environ["REDIS_URL"] == "redis://real:1/5"
    assert told == [
        *((name, True) for name in names[:3]),
        *((name, False) for name in reversed(names[:3])),
    ]


def test_hosts_and_ports_point_at_a_server_on_a_port(table):
    table.LAYERS = {
        "hosts": [("real", 1)],
        "queue": {"HOST": "real", "PORT": 1, "DB": 2},
        "no port": {"HOST": "real", "DB": 2},
    }
    table.BROKER_URL = "redis://real:1/3"
    table.ITKIT = {"REDIS": {"SETTINGS": ["LAYERS", "BROKER_URL"]}}
    made = installed("redis://:s3cret@127.0.0.1:7777/0")
    assert table.LAYERS == {
        "hosts": [("127.0.0.1", 7777)],
        "queue": {"HOST": "127.0.0.1", "PORT": 7777, "DB": 2},
        "no port": {"HOST": "127.0.0.1", "PORT": 7777, "DB": 2},
    }
    assert table.BROKER_URL == "redis://:s3cret@127.0.0.1:7777/3"
    made.uninstall()


def test_settings_that_do_not_help_are_mistakes(table):
    table.REDIS_URL = "redis://h/0"
    table.PLAIN = "text"
    table.ITKIT = {
        "REDIS": {"SETTINGS": ["REDIS_URL", "REDIS_URI", "PLAIN"], "ALLOW_ADDRESSES": ["h", "h:1"]}
    }
    found = [(mistake.id, mistake.message, mistake.hint) for mistake in mistakes()]
    assert [id_ for id_, _, _ in found] == ["itkit.E007"] * 3
    assert "'REDIS_URI', which is not a setting" in found[0][1]
    assert "'REDIS_URL'" in found[0][2]
    assert "'PLAIN', in which no Redis address is found" in found[1][1]
    assert "'h', which is not an address" in found[2][1]


def test_a_name_that_resembles_no_setting_is_to_be_defined_or_removed(table):
    table.ITKIT = {"REDIS": {"SETTINGS": ["QQQ_STORE"]}}
    (mistake,) = mistakes()
    assert mistake.hint == "No setting is called so: define it, or remove the name here."


@pytest.mark.parametrize(
    "text",
    ["foo", "", ":1", "h:", "h:0", "h:x", "h:1/0", "redis://h:1", "u@h:1", "a b:1", "[::1]", "./s"],
)
def test_what_is_neither_host_and_port_nor_a_path_is_no_address(table, text):
    table.ITKIT = {"REDIS": {"ALLOW_ADDRESSES": [text]}}
    (mistake,) = mistakes()
    assert f"has {text!r}, which is not an address" in mistake.message


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h:1", ("h", 1)),
        ("cache-1.internal_net:6380", ("cache-1.internal_net", 6380)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("127.0.0.2:1", ("localhost", 1)),
        ("::1:1", ("localhost", 1)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("/nowhere/s", ("/nowhere/s", 0)),
    ],
)
def test_addresses_are_host_and_port_or_the_path_of_a_socket(text, address):
    assert addresses.of_text(text) == address


def test_mistakes_of_the_table_itself_are_reported_by_conf_only(table):
    table.ITKIT = {"REDIS": {"SETTINGS": "REDIS_URL"}}
    assert mistakes() == []


def test_a_database_beside_a_url_is_kept(table):
    table.CACHES = {}
    table.RQ_QUEUES = {
        "a": {"URL": "redis://h.example:1234/", "DB": 4},
        "b": {"URL": "redis://h.example:1234", "DB": 5},
        "c": {"URL": "redis://h.example:1234/2"},
        "d": {"URL": "unix:///run/redis.sock", "DB": 6},
    }
    table.ITKIT = {"REDIS": {"SETTINGS": ["RQ_QUEUES"]}}
    for server, named in (("unix:///s", "unix:///s?db=2"), ("redis://t:1/0", "redis://t:1/2")):
        isolation = installed(server)
        try:
            plain = server.removesuffix("/0")
            assert [queue["URL"].rstrip("/") for queue in table.RQ_QUEUES.values()] == [
                plain, plain, named, plain,
            ]  # fmt: skip
            numbers = [
                redis.ConnectionPool.from_url(queue["URL"], db=queue.get("DB")).connection_kwargs[
                    "db"
                ]
                for queue in table.RQ_QUEUES.values()
            ]
            assert numbers == [4, 5, 2, 6]
        finally:
            isolation.uninstall()


def test_settings_that_name_redis_and_are_not_listed_are_told_at_once(table):
    table.CACHES = {}
    table.RQ_QUEUES = {"a": {"HOST": "h", "PORT": 1}, "dead": {"URL": "redis://gone:1/0"}}
    table.CACHEOPS_REDIS = {"host": "h", "port": 1, "db": 3}
    table.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [("h", 1)]},
        }
    }
    table.DEEP = {"a": [{"b": "valkey://h:2/1"}]}
    table.REDIS_HOST, table.REDIS_PORT = "h", 3
    table.LISTED_REDIS = "redis://h"
    table.SMTP = {"host": "mail", "port": 25}
    table.PAIR = ("h", 8000)
    table.ITKIT = {"REDIS": {"SETTINGS": ["LISTED_REDIS"]}}
    (mistake,) = mistakes()
    names = ["CACHEOPS_REDIS", "CHANNEL_LAYERS", "DEEP", "REDIS_HOST", "RQ_QUEUES"]
    assert mistake.id == "itkit.W005"
    assert f"The settings {', '.join(names)} name Redis servers" in mistake.message
    listed = ", ".join(f'"{name}"' for name in ["LISTED_REDIS", *names])
    assert f'ITKIT = {{"REDIS": {{"SETTINGS": [{listed}]}}}}' in mistake.hint
    table.ITKIT = {"REDIS": {"SETTINGS": ["LISTED_REDIS", *names]}}
    assert mistakes() == []
    assert check_settings() == []
    table.ITKIT = {}
    (found,) = check_settings()
    assert found.id == "itkit.W005"
    assert '"REDIS_HOST"' in found.hint
    backend = "django.core.cache.backends.redis.RedisCache"
    table.CACHES = {"default": {"BACKEND": backend, "LOCATION": "redis://h:3/1"}}
    assert '"REDIS_HOST"' not in check_settings()[0].hint  # it is redirected
    table.CACHES = {}
    del table.RQ_QUEUES, table.CACHEOPS_REDIS, table.CHANNEL_LAYERS, table.LISTED_REDIS
    del table.REDIS_HOST
    assert [found.id for found in check_settings()] == ["itkit.W005"]  # of DEEP


def test_options_of_a_url_that_are_not_of_its_server_are_kept(table):
    table.CACHES = {}
    table.REDIS_URL = "redis://h:1/3?decode_responses=True&socket_timeout=5"
    table.SECURE_REDIS_URL = "rediss://u:p@h:1/4?ssl_cert_reqs=none&health_check_interval=9"
    table.REDIS_SOCKET_URL = "unix:///run/redis.sock?db=5&decode_responses=True"
    table.CELERY_BROKER_URL = "redis+socket:///run/redis.sock?virtual_host=6&client_name=w"
    names = ["REDIS_URL", "SECURE_REDIS_URL", "REDIS_SOCKET_URL", "CELERY_BROKER_URL"]
    table.ITKIT = {"REDIS": {"SETTINGS": names}}
    on_socket = [
        "unix:///s?db=3&decode_responses=True&socket_timeout=5",
        "unix:///s?db=4&health_check_interval=9",
        "unix:///s?db=5&decode_responses=True",
        "redis+socket:///s?virtual_host=6&client_name=w",
    ]
    on_port = [
        "redis://t:1/3?decode_responses=True&socket_timeout=5",
        "redis://t:1/4?health_check_interval=9",
        "redis://t:1/5?decode_responses=True",
        "redis://t:1/6?client_name=w",
    ]
    for server, expected in (("unix:///s", on_socket), ("redis://t:1/0", on_port)):
        isolation = installed(server)
        try:
            assert [getattr(table, name) for name in names] == expected
            client = redis.Redis.from_url(table.REDIS_URL)
            assert client.get_encoder().decode_responses
        finally:
            isolation.uninstall()


class Named(NamedTuple):
    host: str
    port: int


@pytest.mark.parametrize(
    ("name", "value", "found", "pointed"),
    [
        ("RQ_QUEUES", {"a": {"HOST": "h"}}, "redis://h:6379/0", {"a": {"HOST": "t", "PORT": 7}}),
        ("SESSION_REDIS", {"host": "h"}, "redis://h:6379/0", {"host": "t", "port": 7}),
        (
            "Q_CLUSTER",
            {"name": "q", "redis": {"host": "h"}},
            "redis://h:6379/0",
            {"name": "q", "redis": {"host": "t", "port": 7}},
        ),
        ("LAYERS", [Named("h", 1)], "redis://h:1/0", [Named("t", 7)]),
        ("HOSTS", frozenset({"redis://h:1/2"}), "redis://h:1/2", frozenset({"redis://t:7/2"})),
        ("LAZY", SimpleLazyObject(lambda: "redis://h:1/2"), "redis://h:1/2", "redis://t:7/2"),
        ("CELERY_BROKER_URL", "redis:///2", "redis:///2", "redis://t:7/2"),
        ("REDIS_URL", "redis://:pass@/2", "redis://:pass@/2", "redis://t:7/2"),
        (
            "CACHEOPS_SENTINEL",
            {"locations": [("h", 26379)], "service_name": "m"},
            "sentinel://h:26379/0",
            {"locations": [("t", 7)], "service_name": "m"},
        ),
        (
            "LAYERS",
            {"hosts": [{"sentinels": [{"host": "h", "port": 26379}], "master_name": "m"}]},
            "sentinel://h:26379/0",
            {"hosts": [{"sentinels": [{"host": "t", "port": 7}], "master_name": "m"}]},
        ),
        ("REDIS_SERVER", "h:1", "redis://h:1/0", "h:1"),
    ],
)
def test_what_else_names_a_server(table, name, value, found, pointed):
    table.CACHES = {}
    setattr(table, name, value)
    assert addresses.of_setting(table, name) == [found]
    assert [mistake.id for mistake in mistakes()] == ["itkit.W005"] * (value != [Named("h", 1)])
    table.ITKIT = {"REDIS": {"SETTINGS": [name]}}
    assert mistakes() == []
    assert [label for label, _ in project_servers()] == [name]
    isolation = installed("redis://t:7/0")
    try:
        assert getattr(table, name) == pointed
    finally:
        isolation.uninstall()


def test_what_names_no_server_is_not_told(table):
    table.CACHES = {}
    table.EMAIL = {"host": "mail.example.com"}
    table.GREETING = SimpleLazyObject(lambda: "hello")
    table.REDIS_VERSION = "7.2"
    table.MEMCACHED = "h:11211"
    assert mistakes() == []

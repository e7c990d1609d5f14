import pytest

from itkit.core.urls import POSTGRES_SCHEMES, REDIS_SCHEMES, is_local_host, parse, redact
from itkit.exceptions import ConfigurationError


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:p%40ss%2Fword@db.example.com:5433/shop?sslmode=require",
        "postgresql://user@[::1]/shop",
        "postgresql://user@/shop?host=%2Frun%2Fpg&port=5433",
        "postgresql:///shop",
    ],
)
def test_a_postgres_url_survives_parsing_and_printing(url: str) -> None:
    server = parse(url, POSTGRES_SCHEMES)
    assert parse(str(server), POSTGRES_SCHEMES) == server
    assert server.name == "shop"


@pytest.mark.parametrize(
    ("url", "address", "local"),
    [
        ("redis://:secret@localhost:6380/2", "localhost:6380", True),
        ("rediss://10.0.0.1", "10.0.0.1:6379", False),
        ("unix:///run/redis.sock?db=3", "/run/redis.sock", True),
        ("valkey://127.0.0.5/0", "127.0.0.5:6379", True),
    ],
)
def test_a_redis_url_tells_where_the_server_is(url: str, address: str, local: bool) -> None:
    server = parse(url, REDIS_SCHEMES)
    assert parse(str(server), REDIS_SCHEMES) == server
    assert (server.address, server.is_local) == (address, local)


def test_passwords_with_reserved_characters_are_decoded() -> None:
    assert parse("postgresql://u:p%40s%3As@h/d", POSTGRES_SCHEMES).password == "p@s:s"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:secret@h/d", "does not begin with postgresql:// or postgres://"),
        ("postgres//u:secret@h/d", "does not begin with"),
        ("nonsense", "does not begin with"),
        ("postgresql://u:secret@h:port/d", "is not a URL"),
        ("postgresql://u:sec/secret@h/d", "is not a URL"),
        ("postgresql://u:sec ret@h:99999/d", "is not a URL"),
        ("postgresql://u:secret@h/d?port=x", "option 'port'"),
        ("postgresql://[::1/d", "is not a URL"),
    ],
)
def test_what_is_no_url_is_refused_and_not_shown(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse(url, POSTGRES_SCHEMES)
    assert "sec" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_redis_url_without_a_host_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="neither a host nor a socket"):
        parse("redis:///1", REDIS_SCHEMES)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:secret@h/d",
        "could not connect to redis://:secret@h:1 (refused)",
        "postgresql://u:sec@secret:secret@h/d",
        "host=h password=secret dbname=d",
        "host=h password='secret secret' dbname=d",
        "postgresql://h/d?user=u&password=secret",
    ],
)
def test_no_password_survives_redaction(text: str) -> None:
    assert "secret" not in redact(text)
    assert "***" in redact(text)


def test_redaction_keeps_what_helps() -> None:
    assert redact("postgresql://u:x@h:1/d is down") == "postgresql://u:***@h:1/d is down"
    assert redact("redis://localhost/1") == "redis://localhost/1"


@pytest.mark.parametrize(
    "host", ["", "localhost", "127.0.0.1", "127.9.9.9", "::1", "/run/pg", "@abstract"]
)
def test_local_hosts(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize("host", ["db", "10.0.0.1", "localhost.example.com", "0.0.0.0", "prod/x"])
def test_remote_hosts(host: str) -> None:
    assert not is_local_host(host)

import pytest

from itkit.core.urls import (
    POSTGRES_SCHEMES,
    REDIS_SCHEMES,
    is_local_host,
    parse,
    passwords_in,
    redact,
)
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
        "postgresql://u:12/secret@h/d",
        "redis://:secret@h:1,redis+socket://u:secret@/run/redis",
        "https://u:secret@h/d",
    ],
)
def test_no_password_survives_redaction(text: str) -> None:
    assert "secret" not in redact(text)
    assert "***" in redact(text)


def test_redaction_keeps_what_helps() -> None:
    assert redact("postgresql://u:x@h:1/d is down") == "postgresql://u:***@h:1/d is down"
    assert redact("redis://localhost/1") == "redis://localhost/1"
    assert redact("redis://:x@h,redis://:y@i") == "redis://:***@h,redis://:***@i"
    assert redact("GET http://h:8000/users/a@b") == "GET http://h:8000/users/a@b"
    assert redact("redis://u:x@h/1", r"\1") == r"redis://u:\1@h/1"


@pytest.mark.parametrize(
    ("text", "passwords"),
    [
        ("redis://localhost/1 http://h:8000/a@b", []),
        ("redis://:x@h:1;redis://u:y@h:1", ["x", "y"]),
        ("postgresql://u:p%40ss@h/d", ["p%40ss", "p@ss"]),
        ("postgresql://u:p@ss@h/d", ["p@ss"]),
        ("postgresql://u:pass@h/d?mail=a@b", ["pass@h/d?mail=a", "pass"]),
    ],
)
def test_passwords_are_found(text: str, passwords: list[str]) -> None:
    assert list(passwords_in(text)) == passwords


@pytest.mark.parametrize(
    "host", ["", "localhost", "127.0.0.1", "127.9.9.9", "::1", "/run/pg", "@abstract"]
)
def test_local_hosts(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize("host", ["db", "10.0.0.1", "localhost.example.com", "0.0.0.0", "prod/x"])
def test_remote_hosts(host: str) -> None:
    assert not is_local_host(host)

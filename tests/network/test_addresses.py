"""Servers on this machine are found in settings, in whatever shape these name them."""

from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import pytest

from itkit.network import addresses

SHAPES = {
    "host:port": ("127.0.0.1:11211", {11211}),
    "several with commas": ("localhost:9092,localhost:9093, 127.0.0.2:9094", {9092, 9093, 9094}),
    "a list of them": (["10.0.0.5:1", "[::1]:11212"], {11212}),
    "a URL": ("amqp://guest:guest@localhost:5673//", {5673}),
    "a URL without a port": ("amqp://guest:1234@localhost//", {5672}),
    "a URL of a driver": ("mysql+pymysql://u:p@127.0.0.1/shop", {3306}),
    "several URLs": ("redis://localhost:1/0;redis://localhost:2/0", {1, 2}),
    "a URL of several hosts": ("mongodb://localhost:27018,127.0.0.1:27019/db", {27018, 27019}),
    "a URL of http": ("http://localhost:9200/index", {9200}),
    "a parsed URL": (urlparse("http://localhost:9201"), {9201}),
    "bytes": (b"redis://localhost:6380", {6380}),
    "a pair": (("127.0.0.1", 6381), {6381}),
    "a pair of texts": (["localhost", "6382"], {6382}),
    "pairs, deep in a setting": ({"a": [{"hosts": [("::1", 6383)]}]}, {6383}),
    "a mapping": ({"host": "localhost", "port": 6384}, {6384}),
    "a mapping in capitals": ({"HOST": "127.0.0.1", "PORT": "6385"}, {6385}),
    "a mapping with longer names": ({"broker_host": "localhost", "broker_port": 6386}, {6386}),
    "a database": ({"ENGINE": "django.db.backends.mysql", "HOST": "localhost"}, {3306}),
    "a DSN of libpq": ("dbname=shop host=localhost user=me", {5432}),
    "a DSN with a port": ("host='127.0.0.1' port='5433'", {5433}),
    "a key": ({"localhost:6387": "primary"}, {6387}),
    "a name of this machine": ("http://shop.localhost:8001", {8001}),
    "a path": ("/tmp/itkit.sock", {"/tmp/itkit.sock"}),
    "a path with a scheme": ("unix:/tmp/itkit.sock", {"/tmp/itkit.sock"}),
    "a URL of a socket": ("unix:///tmp/itkit.sock?db=1", {"/tmp/itkit.sock"}),
    "Celery's URL of a socket": ("redis+socket:///tmp/itkit.sock", {"/tmp/itkit.sock"}),
    "an object": (PurePosixPath("/tmp/itkit.sock"), {"/tmp/itkit.sock"}),
    "a directory of Postgres": (
        {"ENGINE": "django.db.backends.postgresql", "HOST": "/tmp", "PORT": ""},
        {"/tmp/.s.PGSQL.5432", "/tmp"},
    ),
    "a URL of such": ("postgresql:///shop?host=/tmp", {"/tmp/.s.PGSQL.5432"}),
    "another machine": (["redis://10.0.0.5:6379", ("db.example.com", 5432), "a.b:1"], set()),
    "no address": (["12:30", "localhost", "a:b", "user:1234@x", ("a", 5), {"host": "localhost"}], set()),
    "no port": (["localhost:0", "localhost:99999", "http://localhost:x", ("localhost", True)], set()),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_found(shape: str) -> None:
    value, expected = SHAPES[shape]
    found = addresses.named({"SETTING": value})
    assert set(found) == expected
    assert all(place.startswith("SETTING") for place in found.values())


def test_a_host_and_a_port_may_be_two_settings() -> None:
    found = addresses.named({"MEMCACHED_HOST": "localhost", "MEMCACHED_PORT": 11213, "PORT": 5})
    assert found == {11213: "MEMCACHED_HOST"}


def test_the_place_is_named_as_one_would_write_it() -> None:
    found = addresses.named({"CACHES": {"default": {"LOCATION": ["127.0.0.1:11214"]}}})
    assert found == {11214: 'CACHES["default"]["LOCATION"]'}


def test_a_value_that_holds_itself_ends() -> None:
    value: dict[str, object] = {"url": "redis://localhost:6388"}
    value["self"] = [value]
    assert addresses.named({"SETTING": value}) == {6388: 'SETTING["url"]'}


def test_a_path_through_a_link_is_the_same_socket(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "socket")
    assert addresses.of_socket(str(tmp_path / "link")) == str(tmp_path / "socket")

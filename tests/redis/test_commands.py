"""The table of commands, against the server that knows best: COMMAND and COMMAND GETKEYS."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itkit.exceptions import EscapeError
from itkit.redis import keyspecs, policy
from itkit.redis.commands import KEYS, REDIS_KEYS
from itkit.redis.prefix import plans
from itkit.redis.prefix.namespace import Namespace
from itkit.redis.prefix.rewrite import Rewriter
from tests.support import redis_server

PREFIX = "itkit:0123abcd:w1:1:"
PLACES = {name: place for place, names in KEYS.items() for name in names.split()}


@pytest.fixture(scope="module", params=redis_server.programs("valkey", "redis"))
def server(request: pytest.FixtureRequest) -> Iterator[redis_server.Server]:
    with redis_server.on_socket(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def valkey() -> Iterator[redis_server.Server]:
    with redis_server.on_socket("valkey") as running:
        yield running


def commands_of(server: redis_server.Server) -> dict[str, list[Any]]:
    """Return every command and subcommand of a server, with its entry in COMMAND."""
    entries = {}
    pending = server.ask("COMMAND")
    while pending:
        entry = pending.pop()
        entries[entry[0].upper()] = entry
        pending += entry[9] if len(entry) > 9 else []  # Redis 6 tells nothing of subcommands
    return entries


@pytest.fixture(scope="module")
def commands(server) -> dict[str, list[Any]]:
    return commands_of(server)


@pytest.fixture
def rewrite() -> Rewriter:
    return Rewriter(Namespace("0123abcd", "w1", 1), owned=False)


def prefixed(rewrite: Rewriter, line: list[str]) -> list[str]:
    """Return the arguments that are sent with the prefix, without it."""
    sent, _ = rewrite(line)
    return [arg.removeprefix(PREFIX) for arg in sent if str(arg).startswith(PREFIX)]


def lines_of(name: str, place: str, arity: int) -> Iterator[list[str]]:
    """Yield command lines of several lengths and counts that the server takes for well-formed."""
    dice = random.Random(name)
    words = name.split("|")
    for extra in range(6 if arity < 0 else 1):
        arguments = [f"arg{number}" for number in range(len(words), abs(arity) + extra)]
        line = [*words, *arguments]
        for part in place.split():
            where, _, step = part.partition("#")
            if part != where:
                room = (len(line) - int(where) - 1) // int(step or 1)
                line[int(where)] = str(dice.randint(1, max(room, 1)))
            if "@" in part:
                word, start = part.split("/")[0].split("@")
                line = [*line[: int(start)], word, *arguments[: 2 * (1 + extra)]]
        yield line


def test_key_positions_of_every_command_are_those_of_the_server(server, commands, rewrite):
    wrong, right = [], 0
    for name, place in places_of(commands).items():
        lines = list(lines_of(name, place, commands[name][1]))
        asked = [(line, keys) for line in lines if (keys := getkeys(server, line)) is not None]
        assert asked, f"the server takes no command line of {name}"
        for line, keys in asked:
            if sorted(prefixed(rewrite, line)) == sorted(keys):
                right += 1
            else:
                wrong.append((line, keys, prefixed(rewrite, line)))
    assert wrong == []
    assert right > 600


def places_of(commands: dict[str, list[Any]]) -> dict[str, str]:
    """Return where the keys are of those commands that the server knows."""
    return {name: place for name, place in PLACES.items() if name in commands}


def has_keys(entry: list[Any]) -> bool:
    return bool(entry[8]) and "not_key" not in entry[8][0]["flags"]


def test_every_command_of_the_server_that_has_keys_is_asked_for(commands):
    with_keys = {name for name, entry in commands.items() if has_keys(entry)}
    by_hand = {"GEORADIUS", "GEORADIUSBYMEMBER", "SORT", "SORT_RO"}  # TRICKY has them
    refused = {"MIGRATE", "MOVE", "CLUSTERSCAN"}
    assert with_keys - set(places_of(commands)) - by_hand - refused == set()
    assert len(with_keys) > 180


WORDS = ["STREAMS", "GROUP", "COUNT", "BLOCK", "STORE", "LIMIT", "WEIGHTS", "MATCH", "ex", "NX"]
NUMBERS = [str(number) for number in range(6)]
ARGUMENTS = st.lists(
    st.one_of(st.sampled_from([*WORDS, *NUMBERS]), st.text("ab:{}*", min_size=1, max_size=3)),
    min_size=1,
    max_size=9,
)


@pytest.fixture(scope="module")
def keyed(commands) -> list[str]:
    return sorted(places_of(commands))


@settings(max_examples=1500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 999), arguments=ARGUMENTS)
@pytest.mark.slow
def test_key_positions_of_any_command_line_are_those_of_the_server(
    server, keyed, rewrite, number, arguments
):
    name = keyed[number % len(keyed)]
    group = ["GROUP"] if name == "XREADGROUP" else []  # what the server takes for granted there
    line = [*name.split("|"), *group, *arguments]
    # The server names no key when more are announced than there are arguments.
    if keys := getkeys(server, line):
        assert sorted(prefixed(rewrite, line)) == sorted(keys), line


TRICKY = [
    "XREADGROUP GROUP STREAMS c STREAMS a b 0 0",
    "XREADGROUP GROUP g STREAMS COUNT 2 NOACK STREAMS a >",
    "XREAD COUNT 1 BLOCK 5 STREAMS STREAMS a 0 0",
    "xread streams a 0",
    "EVAL return 0 arg",
    "FCALL f 2 a b arg",
    "ZUNIONSTORE d 2 a b WEIGHTS 1 2 AGGREGATE MAX",
    "ZINTERCARD 2 a b LIMIT 1",
    "BLMPOP 0 2 a b LEFT COUNT 3",
    "LMPOP 1 a LEFT",
    "MSETEX 2 a 1 b 2 EX 10",
    "GEORADIUS k 1 2 3 m STORE d",
    "GEORADIUS k 1 2 3 m COUNT 5 ASC STOREDIST d",
    "GEORADIUSBYMEMBER k m 3 km STORE d",
    "GEORADIUSBYMEMBER k m 3 km WITHDIST",
    "SORT k",
    "SORT k LIMIT 0 5 DESC STORE d",
    "SORT k ALPHA STORE STORE",
    "SORT STORE LIMIT STORE GET STORE d",
    "SORT_RO k LIMIT 0 1",
    "COPY a b DB 3 REPLACE",
    "BITOP AND d a b c",
    "MEMORY USAGE a SAMPLES 5",
    "XINFO STREAM a FULL COUNT 5",
    "XGROUP CREATE a g $ MKSTREAM",
    "LCS a b LEN",
    "PFCOUNT a b c",
    "SINTERCARD 2 a b",
]


@pytest.mark.parametrize("line", TRICKY)
def test_key_positions_of_tricky_command_lines_are_those_of_the_server(
    server, commands, rewrite, line
):
    if line.split()[0].upper() not in commands:
        assert line.startswith("MSETEX")  # Redis 7 does not know it
        return
    assert sorted(prefixed(rewrite, line.split())) == sorted(getkeys(server, line.split()))


def getkeys(server: redis_server.Server, line: list[str]) -> list[str] | None:
    """Return what the server takes for keys; None when the line is not well-formed to it."""
    try:
        return server.ask("COMMAND", "GETKEYS", *line)
    except redis.ResponseError as error:
        return [] if "no key arguments" in str(error) else None


def test_every_command_of_the_server_is_rewritten_passed_or_refused(commands):
    known = {*plans.all_plans(owned=False), *policy.REFUSED}
    containers = {name.partition("|")[0] for name in commands if "|" in name}
    assert set(commands) - known - containers == set()


def test_no_command_is_both_allowed_and_refused():
    assert set(plans.all_plans(owned=False)) & set(policy.REFUSED) == set()


def test_every_name_in_the_policy_is_a_command_of_valkey_or_of_redis(valkey):
    commands = commands_of(valkey)
    redis_only = {"CLIENT|MAINT_NOTIFICATIONS", *(f"HIMPORT|{word}" for word in HIMPORT)}
    assert policy.PASSED - set(commands) == redis_only
    assert set(policy.REFUSED) - set(commands) == set()


HIMPORT = ("PREPARE", "DISCARD", "DISCARDALL")


def test_commands_of_redis_alone_are_not_those_of_valkey(commands):
    names = {name for names in REDIS_KEYS.values() for name in names.split()}
    assert names & set(commands) == set()


@pytest.mark.parametrize(
    "line",
    [
        ("XINFO STREAM", "k"),
        ("XINFO", "STREAM", "k"),
        ("xinfo", b"stream", "k"),
        (b"XINFO STREAM", "k"),
        ("Xinfo Stream", "k"),
    ],
)
def test_names_of_commands_may_be_spelled_in_every_way(rewrite, line):
    sent, _ = rewrite(line)
    assert list(sent)[-1] == f"{PREFIX}k"
    assert len(sent) == 3


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("k", f"{PREFIX}k"),
        (b"\xffk", PREFIX.encode() + b"\xffk"),
        (bytearray(b"k"), PREFIX.encode() + b"k"),
        (memoryview(b"k"), PREFIX.encode() + b"k"),
        (7, f"{PREFIX}7"),
        (1.5, f"{PREFIX}1.5"),
        ("", PREFIX),
    ],
)
def test_keys_of_every_type_get_the_prefix(rewrite, name, sent):
    assert rewrite(("GET", name))[0][1] == sent


@pytest.mark.parametrize("name", [None, True, object()])
def test_what_redis_py_refuses_as_a_key_is_left_to_it(rewrite, name):
    assert rewrite(("GET", name))[0][1] is name


def test_prefix_means_the_same_in_a_pattern_as_in_a_key():
    assert not set(PREFIX) & set("*?[]^\\{}")


def test_sort_prefixes_patterns_but_not_the_element_itself(rewrite):
    line = ["SORT", "k", "BY", "w_*", "GET", "#", "GET", "o_*->f", "LIMIT", "0", "1", "STORE", "d"]
    assert prefixed(rewrite, line) == ["k", "w_*", "o_*->f", "d"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (("MOVE", "a", "1"), "out of this test's reach"),
        (("SWAPDB", "0", "1"), "out of this test's reach"),
        (("MIGRATE", "h", "1", "k", "0", "9"), "out of this test's reach"),
        (("CONFIG", "SET", "maxmemory", "1"), "for everybody"),
        (("CONFIG SET", "maxmemory", "1"), "for everybody"),
        (("config resetstat",), "for everybody"),
        (("SCRIPT FLUSH",), "for everybody"),
        (("FUNCTION LOAD", "code"), "for everybody"),
        (("DEBUG", "SLEEP", "1"), "for everybody"),
        (("SHUTDOWN",), "for everybody"),
        (("ACL SETUSER", "x"), "for everybody"),
        (("CLIENT KILL", "1"), "connections of others"),
        (("CLIENT REPLY", "OFF"), "assign replies to commands"),
        (("CLIENT TRACKING", "ON"), "client-side caching"),
        (("MONITOR",), "of everybody"),
        (("RESET",), "another login"),
        (("CLUSTER SLOTS",), "Redis Cluster is not supported"),
    ],
)
def test_commands_that_reach_beyond_are_refused_with_the_reason(rewrite, line, reason):
    with pytest.raises(EscapeError, match=reason) as refused:
        rewrite(line)
    assert 'ITKIT["REDIS"]["ALLOW_ADDRESSES"]' in str(refused.value)


@pytest.mark.parametrize("line", [("FT.SEARCH", "i", "q"), ("OBJECT NEW", "k"), ("",), ("GET\0",)])
def test_unknown_commands_are_refused(rewrite, line):
    with pytest.raises(EscapeError, match="does not know this command"):
        rewrite(line)


def test_libraries_of_functions_are_for_servers_of_our_own():
    rewrite = Rewriter(Namespace("0123abcd", "w1", 1), owned=True)
    assert rewrite(("FUNCTION LOAD", "code"))[0] == ("FUNCTION", "LOAD", "code")


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        (("AUTH", "x"), ("AUTH", "u", "p")),
        ((b"auth", b"default", b"x"), ("AUTH", "u", "p")),
        (("HELLO",), ("HELLO",)),
        (("HELLO", 3), ("HELLO", 3)),
        (("hello", 3, "auth", "default", "x"), ("HELLO", 3, "auth", "u", "p")),
        (
            ("HELLO", 3, "SETNAME", "AUTH", b"AUTH", "default", "x"),
            ("HELLO", 3, "SETNAME", "AUTH", b"AUTH", "u", "p"),
        ),
        (("HELLO", 3, "AUTH", "default"), ("HELLO", 3, "AUTH", "u", "p")),
    ],
)
def test_whatever_the_login_it_is_the_one_of_the_tests_server(line, sent):
    rewrite = Rewriter(Namespace("0123abcd", "w1", 1), owned=False, login=("u", "p"))
    assert tuple(rewrite(line)[0]) == sent


def test_notation_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="1-2"):
        keyspecs.parse("1-2")


def test_keys_without_the_rest_of_the_command_are_left_to_the_server(rewrite):
    for line in (["GET"], ["EVAL", "x"], ["EVAL", "x", "many"], ["XREAD", "COUNT"], ["SORT"]):
        assert list(rewrite(line)[0]) == line

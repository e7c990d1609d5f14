import pytest

from itkit.core import names


def test_run_ids_differ_and_are_eight_hex_digits() -> None:
    ids = {names.new_run_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(run) == 8 and int(run, 16) >= 0 for run in ids)


@pytest.mark.parametrize(
    ("number", "worker"), [(1, "w1"), ("2", "w2"), ("gw0", "gw0"), ("w7", "w7")]
)
def test_workers_of_both_runners_have_ids(number: str | int, worker: str) -> None:
    assert names.worker_id(number) == worker


def test_schemas_and_prefixes_are_recognized_as_those_of_their_run() -> None:
    run = names.new_run_id()
    for alias in ("default", "other", 'we"ird; DROP'):
        schema = names.schema(run, "gw12", alias)
        assert names.run_of_schema(schema) == run
        assert len(schema) < 64
        assert schema.replace("_", "").isalnum()
    assert names.run_of_key(names.key_prefix(run, "w1") + "any:thing") == run


@pytest.mark.parametrize(
    "schema",
    [
        "public",
        "itkit_ext",
        "itkit_meta",
        "itkit_0123abcd",
        "itkit_0123ABCD_w1",
        "xitkit_0123abcd_w1",
        "itkit_0123abcd_w1;",
        "itkit_0123abcd_w1\n",
        "itkit_0123abcdef_w1",
    ],
)
def test_other_schemas_are_not_ours(schema: str) -> None:
    assert names.run_of_schema(schema) is None


@pytest.mark.parametrize(
    "key", ["itkit:", "itkit:runs", "itkit:0123abc:w1:k", "x:itkit:0123abcd:w1:k"]
)
def test_other_keys_are_not_ours(key: str) -> None:
    assert names.run_of_key(key) is None


def test_aliases_have_schemas_of_their_own() -> None:
    assert len({names.schema("0123abcd", "w1", alias) for alias in ("default", "a", "b")}) == 3

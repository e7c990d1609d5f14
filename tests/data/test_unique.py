"""Unique values: no collision, repeatable, and honest when there are no more."""

import threading

import pytest

from itkit.data import UniqueValues
from itkit.exceptions import DataError


def test_two_hundred_thousand_numbers_are_all_different():
    unique = UniqueValues("seed")

    assert len({unique.number() for _ in range(200_000)}) == 200_000


@pytest.mark.parametrize("space", [1, 2, 3, 36, 1000, 46_656])
def test_a_small_space_is_used_up_to_its_last_value_and_then_refused(space):
    unique = UniqueValues("seed")

    size = space - space // 8 if space >= 1000 else space
    assert {unique.number(space) for _ in range(size)} == set(range(size))
    with pytest.raises(DataError, match=f"All {size} different values"):
        unique.number(space)


@pytest.mark.parametrize("space", [1000, 46_656, 2**32])
def test_what_is_kept_apart_meets_no_value_of_any_seed(space):
    apart = UniqueValues("a", is_apart=True)
    kept = {apart.number(space) for _ in range(min(space // 8, 1000))}
    assert min(kept) >= space - space // 8
    assert max(kept) < space
    others = UniqueValues("b", offset=2**31)
    drawn = {others.number(space) for _ in range(min(space - space // 8, 5000))}
    assert max(drawn) < space - space // 8


def test_values_look_random_rather_than_counted():
    unique = UniqueValues("seed")
    drawn = [unique.number() for _ in range(1000)]

    assert drawn != sorted(drawn)
    assert 0.4 < sum(number > 2**31 for number in drawn) / len(drawn) < 0.6


def test_a_seed_repeats_its_values_and_another_seed_gives_others():
    first, again, other = (UniqueValues(seed) for seed in ("a", "a", "b"))
    emails = [first.email() for _ in range(50)]

    assert emails == [again.email() for _ in range(50)]
    assert not set(emails) & {other.email() for _ in range(50)}


def test_workers_that_begin_at_offsets_of_their_own_share_no_value():
    workers = [UniqueValues("seed", offset=worker << 24) for worker in range(4)]
    drawn = [worker.hex() for worker in workers for _ in range(5_000)]

    assert len(set(drawn)) == 20_000


def test_managers_without_a_seed_share_no_value_in_one_process():
    drawn = [UniqueValues().email() for _ in range(2_000)]

    assert len(set(drawn)) == 2_000


def test_a_short_column_gets_new_values_from_each_manager_without_using_up():
    drawn = [UniqueValues().text(1) for _ in range(200)]

    assert len(set(drawn)) == 36


def test_threads_that_draw_at_once_share_no_value():
    unique = UniqueValues("seed")
    drawn = []
    threads = [
        threading.Thread(target=lambda: drawn.extend(unique.number() for _ in range(3_000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(drawn)) == 12_000


@pytest.mark.parametrize(("max_length", "length"), [(None, 8), (1, 1), (3, 3), (7, 7), (100, 8)])
def test_text_fits_into_its_column(max_length, length):
    assert len(UniqueValues("seed").text(max_length)) == length


def test_an_address_has_the_form_of_the_reference_page():
    name, _, host = UniqueValues("seed").email().partition("@")

    assert host == "example.com"
    assert name.startswith("test_")
    assert len(bytes.fromhex(name.removeprefix("test_"))) == 4


def test_few_values_are_given_once_as_long_as_their_rows_are_there():
    first, second = UniqueValues("a"), UniqueValues("b", offset=300)
    drawn = [unique.number(1000) for _ in range(400) for unique in (first, second)]
    assert len(set(drawn)) == 800

    first.release()
    third = UniqueValues("c")
    assert {third.number(1000) for _ in range(400)} & set(drawn)


def test_values_of_long_columns_are_not_remembered():
    unique = UniqueValues("a")
    unique.email()
    assert not unique._given


def test_managers_that_draw_few_values_in_threads_at_once_share_none():
    managers = [UniqueValues(str(number)) for number in range(4)]
    drawn = []

    def draw(manager):
        drawn.extend(manager.number(46_656) for _ in range(2_000))

    threads = [threading.Thread(target=draw, args=(manager,)) for manager in managers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == 8_000

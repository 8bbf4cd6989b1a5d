"""Something that keys share: whoever comes new finds room, whatever the others take."""

from __future__ import annotations

import random

import pytest
from idefics2_service.shares import Shares


def fill(shares: Shares, key_id: str, amount: int = 1) -> int:
    """Take as much as a key may have; return how much it has."""
    while shares.has_room(key_id, amount):
        shares.take(key_id, amount)
    return shares.of(key_id)


@pytest.mark.parametrize("num_keys", [1, 2, 3, 9])
def test_keys_that_press_have_equal_shares_once_all_have_come_and_gone_a_few_times(num_keys: int) -> None:
    shares, dice = Shares(1_000), random.Random(0)  # noqa: S311  # no secret
    keys = [f"key {number}" for number in range(num_keys)]
    for _ in range(10_000):
        key_id = dice.choice(keys)
        if shares.has_room(key_id):
            shares.take(key_id)
        elif shares.of(key_id):
            shares.give_back(key_id)
    fair = 1_000 / (num_keys + 1)
    assert [shares.of(key_id) for key_id in keys] == pytest.approx([fair] * num_keys, abs=0.1 * fair + 1)
    assert shares.num_taken == sum(shares.of(key_id) for key_id in keys)


def test_a_key_alone_gets_half_and_each_that_comes_new_gets_half_of_the_rest() -> None:
    shares = Shares(1_024)
    assert [fill(shares, key_id) for key_id in "abcdefgh"] == [512, 256, 128, 64, 32, 16, 8, 4]


def test_a_key_with_more_than_its_share_gets_nothing_new_until_it_has_less() -> None:
    shares = Shares(12)
    assert fill(shares, "anna") == 6
    fill(shares, "bert")
    shares.give_back("anna")
    assert not shares.has_room("anna")
    shares.give_back("anna", 4)
    assert shares.has_room("anna")


def test_those_without_room_are_the_ones_that_have_as_much_as_is_free() -> None:
    shares = Shares(12)
    assert shares.without_room() == set()
    fill(shares, "anna")
    shares.take("bert")
    assert shares.without_room() == {"anna"}
    fill(shares, "bert")
    assert shares.without_room() == {"anna", "bert"}
    shares.give_back("anna", 4)
    assert shares.without_room() == set()


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_the_last_one_can_be_had(capacity: int) -> None:
    shares = Shares(capacity)
    for number in range(capacity):
        assert shares.has_room(f"key {number}")
        shares.take(f"key {number}")
    assert not shares.has_room("another")


def test_nothing_is_kept_of_a_key_that_has_nothing() -> None:
    shares = Shares(10)
    for number in range(1_000):
        assert shares.has_room(f"key {number}")
        shares.take(f"key {number}", 3)
        shares.give_back(f"key {number}", 3)
        shares.take(f"key {number}", 0)
    assert (len(shares._of_keys), shares.num_taken) == (0, 0)


def test_who_is_refused_is_told_what_it_has_and_what_is_free() -> None:
    shares = Shares(10)
    fill(shares, "anna")
    assert (
        shares.describe("anna") == "of 10, this key has 5 and 5 are free; no key may have more than are free"
    )

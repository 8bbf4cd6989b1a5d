"""Pictures wait for a decoder in one line, in which shares take turns."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from queue import SimpleQueue

import pytest
from fakes.engine import call_from_threads
from idefics2_engine.picture_line import PictureLine
from processes import PATIENCE_SECONDS


@pytest.fixture
def line() -> PictureLine[str]:
    """One that is empty."""
    return PictureLine()


def put(line: PictureLine[str], *pictures: str) -> None:
    """Put pictures, each of which is wanted by all shares that its name begins with."""
    for picture in pictures:
        line.put(picture, partial(tuple, picture.partition(" ")[0]))


def take(line: PictureLine[str], number: int) -> list[str | None]:
    """Take so many pictures that are there."""
    return [line.take() for _ in range(number)]


def test_pictures_of_one_share_are_taken_as_they_came(line: PictureLine[str]) -> None:
    put(line, "a 1", "a 2", "a 3")
    assert take(line, 3) == ["a 1", "a 2", "a 3"]


def test_shares_take_turns(line: PictureLine[str]) -> None:
    put(line, "a 1", "a 2", "a 3", "b 1", "b 2", "c 1")
    assert take(line, 6) == ["a 1", "b 1", "c 1", "a 2", "b 2", "a 3"]


def test_who_comes_beside_floods_of_others_waits_for_one_picture_of_each(line: PictureLine[str]) -> None:
    put(line, *(f"{share} {number}" for number in range(100) for share in "ab"))
    take(line, 20)
    put(line, "c 1")
    assert "c 1" in take(line, 3)


def test_who_comes_beside_the_flood_of_one_is_next(line: PictureLine[str]) -> None:
    put(line, *(f"a {number}" for number in range(100)))
    take(line, 20)
    put(line, "b 1")
    assert take(line, 2) == ["b 1", "a 20"]


def test_who_waits_has_a_turn_however_many_come_who_never_had_one(line: PictureLine[str]) -> None:
    put(line, "a 1", "a 2")
    assert take(line, 1) == ["a 1"]
    taken = list[str | None]()
    for share in "bcdefgh":
        put(line, share)
        put(line, share.upper())
        taken += take(line, 1)
    assert "a 2" in taken[:3]


def test_who_comes_again_and_again_does_not_pass_those_who_wait(line: PictureLine[str]) -> None:
    put(line, *(f"a {number}" for number in range(100)))
    taken = list[str | None]()
    for number in range(50):
        put(line, f"b {number}")  # each when there is none of the share before
        taken += take(line, 2)
    assert Counter(str(picture)[0] for picture in taken) == {"a": 50, "b": 50}


def test_what_two_shares_want_comes_with_the_first_turn_of_either_and_once(line: PictureLine[str]) -> None:
    put(line, *(f"a {number}" for number in range(9)), "ab both", "b 1")
    taken = take(line, 11)
    assert taken[:3] == ["a 0", "ab both", "a 1"]
    assert len(set(taken)) == 11


def test_who_comes_to_want_what_waits_already_is_asked_for_at_each_turn(line: PictureLine[str]) -> None:
    wanted_by = ["a"]
    put(line, *(f"a {number}" for number in range(9)))
    line.put("last", lambda: tuple(wanted_by))
    take(line, 2)
    wanted_by.append("b")
    assert "last" in take(line, 2)


def test_what_nobody_wants_any_more_is_taken_at_once_and_costs_nobody_a_turn(line: PictureLine[str]) -> None:
    put(line, "a 1", "b 1", "a 2", "b 2")
    line.put("nobody's", lambda: ())
    assert take(line, 5) == ["nobody's", "a 1", "b 1", "a 2", "b 2"]


def test_who_takes_waits_for_a_picture_and_no_longer_once_the_line_is_closed(line: PictureLine[str]) -> None:
    taken = SimpleQueue[str | None]()

    def take_all() -> None:
        while (picture := line.take()) is not None:
            taken.put(picture)
        taken.put(None)

    taker = threading.Thread(target=take_all, daemon=True)
    taker.start()
    put(line, "a 1")
    assert taken.get(timeout=PATIENCE_SECONDS) == "a 1"
    put(line, "a 2", "a 3")
    line.close()
    assert [taken.get(timeout=PATIENCE_SECONDS) for _ in range(3)] == ["a 2", "a 3", None]


def test_many_who_put_and_take_at_once_lose_nothing_and_take_nothing_twice(line: PictureLine[str]) -> None:
    names, taken = [f"{'abc'[number % 3]} {number}" for number in range(3000)], SimpleQueue[str]()

    def take_all() -> None:
        while (picture := line.take()) is not None:
            taken.put(picture)

    takers = [threading.Thread(target=take_all, daemon=True) for _ in range(4)]
    for taker in takers:
        taker.start()
    call_from_threads(lambda part: put(line, *part), names, 4)
    line.close()
    for taker in takers:
        taker.join(PATIENCE_SECONDS)
    assert sorted(taken.get_nowait() for _ in names) == sorted(names)
    assert taken.empty()

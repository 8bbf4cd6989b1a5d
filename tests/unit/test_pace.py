"""The pace of a download: little for who does not read, more for who keeps up and finds room."""

from __future__ import annotations

import pytest
from idefics2_service.budget import SMALL_BYTES, Budget
from idefics2_service.uploads.pace import LEAST_BYTES, Pace
from idefics2_service.uploads.pieces import PIECE_BYTES

ROUNDS = 20


class Clock:
    """Tells what it is set to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_who_has_read_nothing_yet_holds_nothing_that_counts(clock: Clock) -> None:
    budget = Budget(PIECE_BYTES)
    with budget.hold("anna", 0) as room:
        assert Pace(room, clock).step() == LEAST_BYTES <= SMALL_BYTES
        assert budget.num_bytes == 0


def test_who_keeps_up_gets_twice_as_much_each_time_up_to_a_piece(clock: Clock) -> None:
    budget = Budget(4 * PIECE_BYTES)
    with budget.hold("anna", 0) as room:
        pace = Pace(room, clock)
        steps = [pace.step() for _ in range(ROUNDS)]
        assert steps[:3] == [LEAST_BYTES, 2 * LEAST_BYTES, 4 * LEAST_BYTES]
        assert steps[-1] == budget.num_bytes == PIECE_BYTES
    assert budget.num_bytes == 0


def test_who_becomes_slow_gets_little_and_gives_back_what_was_held(clock: Clock) -> None:
    budget = Budget(4 * PIECE_BYTES)
    with budget.hold("anna", 0) as room:
        pace = Pace(room, clock)
        for _ in range(ROUNDS):
            pace.step()
        clock.seconds += 1
        assert (pace.step(), budget.num_bytes) == (LEAST_BYTES, 0)
        assert pace.step() == 2 * LEAST_BYTES


def test_where_there_is_no_room_it_goes_on_with_what_it_has(clock: Clock) -> None:
    budget = Budget(16 * LEAST_BYTES)
    with budget.hold("anna", 0) as room, budget.hold("bert", 8 * LEAST_BYTES):
        pace = Pace(room, clock)
        assert [pace.step() for _ in range(ROUNDS)][-1] == 4 * LEAST_BYTES  # no more than is free for others
        assert budget.num_bytes == 12 * LEAST_BYTES

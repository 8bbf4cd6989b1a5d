"""Turns: given as the line says, never too many at a time, and none is lost."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial

import pytest
from idefics2_service.errors import QueueFull
from idefics2_service.queue import Turns
from turns import let_others_run


class Caller:
    """Takes a turn in a task of its own and holds it until it is told to leave."""

    def __init__(self, turns: Turns, key_id: str = "") -> None:
        """Come to the line, each with another key where none is given."""
        self._key_id = key_id or f"key {id(self)}"
        self.positions: list[int] = []
        self.has_turn = asyncio.Event()
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(turns))

    async def _run(self, turns: Turns) -> None:
        async with turns.take(self._key_id, self.positions.append):
            self.has_turn.set()
            await self.leave.wait()

    async def end(self) -> None:
        """Give the turn back."""
        self.leave.set()
        await self.task

    async def cancel(self) -> None:
        """Be cancelled, wherever it stands."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def line_up(turns: Turns, number: int) -> list[Caller]:
    """Let callers come one after the other."""
    callers = []
    for _ in range(number):
        callers.append(Caller(turns))
        await let_others_run()
    return callers


def check_empty(turns: Turns) -> None:
    assert (turns.num_running, turns.num_waiting) == (0, 0)


async def test_whoever_finds_a_free_turn_has_it_at_once() -> None:
    turns = Turns(2, 0)
    first, second = await line_up(turns, 2)
    assert first.has_turn.is_set()
    assert second.has_turn.is_set()
    assert first.positions == second.positions == [0]
    assert (turns.num_running, turns.num_waiting) == (2, 0)
    await first.end()
    await second.end()
    check_empty(turns)


async def test_turns_of_as_many_keys_go_to_whoever_came_first() -> None:
    turns = Turns(2, 10)
    callers = await line_up(turns, 7)
    for index, caller in enumerate(callers):
        await asyncio.wait_for(caller.has_turn.wait(), 10)
        assert [other.has_turn.is_set() for other in callers[index + 2 :]] == [False] * max(5 - index, 0)
        assert turns.num_running == min(2, 7 - index)
        assert turns.num_waiting == max(5 - index, 0)
        await caller.end()
    check_empty(turns)


async def test_a_position_is_told_when_it_changes_and_only_then() -> None:
    turns = Turns(1, 10)
    running, second, third, fourth = await line_up(turns, 4)
    assert [caller.positions for caller in (second, third, fourth)] == [[0], [1], [2]]
    late = Caller(turns)
    await let_others_run()
    assert [caller.positions for caller in (second, third, fourth, late)] == [[0], [1], [2], [3]]
    await third.cancel()
    assert [caller.positions for caller in (second, third, fourth, late)] == [[0], [1], [2, 1], [3, 2]]
    await running.end()
    await second.has_turn.wait()
    assert [caller.positions for caller in (second, fourth, late)] == [[0], [2, 1, 0], [3, 2, 1]]
    await late.cancel()
    await second.end()
    await fourth.has_turn.wait()
    assert [caller.positions for caller in (running, fourth, late)] == [[0], [2, 1, 0], [3, 2, 1]]
    await fourth.end()
    check_empty(turns)


async def test_whoever_is_cancelled_in_the_line_leaves_it_to_the_others() -> None:
    turns = Turns(1, 3)
    running, second, third = await line_up(turns, 3)
    await second.cancel()
    assert (turns.num_running, turns.num_waiting) == (1, 1)
    await running.end()
    await asyncio.wait_for(third.has_turn.wait(), 10)
    assert not second.has_turn.is_set()
    await third.end()
    check_empty(turns)


async def test_whoever_is_cancelled_with_a_turn_gives_it_back() -> None:
    turns = Turns(1, 3)
    running, second = await line_up(turns, 2)
    await running.cancel()
    await asyncio.wait_for(second.has_turn.wait(), 10)
    assert turns.num_running == 1
    await second.end()
    check_empty(turns)


async def test_an_error_with_a_turn_gives_it_back() -> None:
    turns = Turns(1, 0)
    with pytest.raises(ZeroDivisionError):
        async with turns.take("anna", lambda _: None):
            raise ZeroDivisionError
    check_empty(turns)


async def test_a_turn_that_is_given_to_one_who_is_cancelled_goes_on_to_the_next() -> None:
    turns = Turns(1, 3)
    async with turns.take("anna", lambda _: None):
        unlucky, next_one = await line_up(turns, 2)
    # The turn is given, and nothing ran since: `unlucky` does not know of it yet.
    assert not unlucky.has_turn.is_set()
    assert turns.num_waiting == 1
    await unlucky.cancel()
    assert not unlucky.has_turn.is_set()
    await asyncio.wait_for(next_one.has_turn.wait(), 10)
    assert turns.num_running == 1
    await next_one.end()
    check_empty(turns)


async def test_a_turn_that_is_given_to_the_last_one_who_is_cancelled_is_free_again() -> None:
    turns = Turns(1, 3)
    async with turns.take("anna", lambda _: None):
        (unlucky,) = await line_up(turns, 1)
    await unlucky.cancel()
    check_empty(turns)


@pytest.mark.parametrize("max_waiting", [0, 2])
async def test_one_more_than_may_wait_is_refused_with_bound_and_value(max_waiting: int) -> None:
    turns = Turns(1, max_waiting)
    callers = await line_up(turns, 1 + max_waiting)
    refused = Caller(turns)
    for check in (partial(turns.check_room, "zoe"), refused.task.result):
        await asyncio.wait([refused.task])
        with pytest.raises(QueueFull) as caught:
            check()
        assert caught.value.metadata == {"bound": str(max_waiting), "value": str(max_waiting)}
        assert caught.value.retry_after_seconds == 1
    assert refused.positions == []
    assert (turns.num_running, turns.num_waiting) == (1, max_waiting)
    for caller in callers:
        await caller.end()
    check_empty(turns)


async def test_there_is_room_again_when_someone_leaves_the_line() -> None:
    turns = Turns(1, 1)
    running, waiting = await line_up(turns, 2)
    with pytest.raises(QueueFull):
        turns.check_room("zoe")
    await waiting.cancel()
    turns.check_room("zoe")
    (later,) = await line_up(turns, 1)
    await running.end()
    await asyncio.wait_for(later.has_turn.wait(), 10)
    await later.end()
    check_empty(turns)


async def test_turns_that_are_free_leave_room_without_a_line() -> None:
    turns = Turns(2, 0)
    (running,) = await line_up(turns, 1)
    turns.check_room("zoe")
    await running.end()


async def test_whoever_is_cancelled_just_before_a_turn_comes_gives_back_no_turn_that_it_never_had() -> None:
    turns = Turns(1, 3)
    async with turns.take("anna", lambda _: None):
        (unlucky,) = await line_up(turns, 1)
        unlucky.task.cancel()  # it has not run since when the turn is given back
    await unlucky.cancel()
    check_empty(turns)


@pytest.mark.parametrize("seed", range(20))
async def test_no_turn_is_lost_and_none_is_added_in_a_storm_of_takes_and_cancels(seed: int) -> None:
    draw, turns, num_holding = random.Random(seed), Turns(3, 1000), 0  # noqa: S311  # not a secret

    async def hold(num_rounds: int) -> None:
        nonlocal num_holding
        async with turns.take(draw.choice(("anna", "bert", "cleo")), lambda _: None):
            num_holding += 1
            assert num_holding <= 3
            try:
                for _ in range(num_rounds):
                    await let_others_run()
            finally:
                num_holding -= 1

    tasks: list[asyncio.Task[None]] = []
    for _ in range(400):
        tasks += [asyncio.create_task(hold(draw.randrange(4))) for _ in range(draw.randrange(3))]
        for task in draw.sample(tasks, min(len(tasks), draw.randrange(3))):
            task.cancel()
        if draw.random() < 0.7:
            await let_others_run()
        assert 0 <= turns.num_running <= 3
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ends} == {type(None), asyncio.CancelledError}
    check_empty(turns)


async def test_a_key_that_presses_leaves_room_in_the_line_for_others() -> None:
    turns = Turns(1, 8)
    (running,) = await line_up(turns, 1)
    greedy = [Caller(turns, "anna") for _ in range(8)]
    await let_others_run()
    refused = [caller.task for caller in greedy if caller.task.done()]
    assert len(refused) == turns.num_waiting == 4
    for task in refused:
        with pytest.raises(QueueFull, match="of 8, this key has 4 and 4 are free"):
            task.result()
    others = await line_up(turns, 4)
    assert turns.num_waiting == 8
    await greedy[0].cancel()
    with pytest.raises(QueueFull):
        turns.check_room("anna")
    turns.check_room("bert")
    for caller in (running, *greedy[1:4], *others):
        caller.leave.set()
    await asyncio.wait_for(asyncio.gather(*(caller.task for caller in (running, *greedy[1:4], *others))), 10)
    check_empty(turns)
    turns.check_room("anna")


async def test_a_key_that_comes_beside_a_flood_has_the_next_turn_and_all_are_told() -> None:
    turns = Turns(2, 16)
    first, second, *flood = [Caller(turns, "anna") for _ in range(5)]
    await let_others_run()
    assert [caller.positions for caller in flood] == [[0], [1], [2]]
    light = Caller(turns, "bert")
    await let_others_run()
    assert light.positions == [0]
    assert [caller.positions for caller in flood] == [[0, 1], [1, 2], [2, 3]]
    await first.end()
    await asyncio.wait_for(light.has_turn.wait(), 10)
    assert not any(caller.has_turn.is_set() for caller in flood)
    assert [caller.positions for caller in flood] == [[0, 1, 0], [1, 2, 1], [2, 3, 2]]
    for caller in (second, light, *flood):
        await caller.end()
    check_empty(turns)


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_waits_has_as_many_turns_before_it_as_it_was_told_where_turns_end_as_they_were_given(
    seed: int,
) -> None:
    draw, turns = random.Random(seed), Turns(3, 1000)  # noqa: S311  # not a secret
    callers = [Caller(turns, f"key {draw.choice((1, 1, 1, 2, 3))}") for _ in range(60)]
    await let_others_run()
    running, waiting = callers[:3], callers[3:]
    for caller in draw.sample(waiting, 20):
        await caller.cancel()
        waiting.remove(caller)
    waiting.sort(key=lambda caller: caller.positions[-1])
    told = [list(range(position, -1, -1)) for position in range(len(waiting))]
    for number, caller in enumerate(waiting):
        assert caller.positions[-1] == number
        del caller.positions[:-1]
    for ended, begun in zip([*running, *waiting], waiting, strict=False):
        await ended.end()
        await asyncio.wait_for(begun.has_turn.wait(), 10)
    assert [caller.positions for caller in waiting] == told
    for caller in waiting[-turns.num_running :]:
        await caller.end()
    check_empty(turns)


async def test_all_who_leave_at_once_are_told_of_nothing_and_who_stays_once() -> None:
    turns = Turns(1, 1000)
    running, *leaving = await line_up(turns, 50)
    (staying,) = await line_up(turns, 1)
    for caller in leaving:
        caller.task.cancel()
    await asyncio.wait([caller.task for caller in leaving])
    assert [caller.positions for caller in leaving] == [[position] for position in range(49)]
    assert staying.positions == [49, 0]
    await running.end()
    await asyncio.wait_for(staying.has_turn.wait(), 10)
    await staying.end()
    check_empty(turns)


async def test_the_one_who_waits_longest_tells_how_long() -> None:
    turns = Turns(1, 8)
    assert turns.oldest_seconds == 0
    running = Caller(turns, "anna")
    await let_others_run()
    assert turns.oldest_seconds == 0
    patient, light = (Caller(turns, key_id) for key_id in ("anna", "bert"))
    await let_others_run()
    oldest = turns._line.oldest
    assert oldest is not None
    oldest.since -= 5
    await running.end()
    await light.has_turn.wait()
    assert turns.oldest_seconds >= 5
    await light.end()
    await patient.has_turn.wait()
    assert turns.oldest_seconds == 0
    await patient.end()
    check_empty(turns)

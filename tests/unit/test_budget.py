"""Bytes that are held: never too many, given back however it ends, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack, suppress

import pytest
from idefics2_service.budget import SMALL_BYTES, Budget
from idefics2_service.errors import MemoryFull
from turns import let_others_run

MEGABYTE = 1_000_000


class Reader:
    """Reserves bytes in a task of its own, keeps some of them, and gives them back when told to."""

    def __init__(self, budget: Budget, key_id: str, num_bytes: int, num_kept: int | None = None) -> None:
        """Come to the line."""
        self.has_room = asyncio.Event()
        self.task = asyncio.create_task(self._run(budget, key_id, num_bytes, num_kept))

    async def _run(self, budget: Budget, key_id: str, num_bytes: int, num_kept: int | None) -> None:
        async with budget.reserve(key_id, num_bytes) as room:
            if num_kept is not None:
                room.shrink(num_kept)
            self.has_room.set()
            await asyncio.Event().wait()

    async def leave(self) -> None:
        """Give back what it has, or stop to wait."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class Clock:
    """Stands still until it is set."""

    seconds = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.seconds


async def line_up(budget: Budget, *wanted: tuple[str, int]) -> list[Reader]:
    """Let readers come one after the other."""
    readers = []
    for key_id, num_megabytes in wanted:
        readers.append(Reader(budget, key_id, num_megabytes * MEGABYTE))
        await let_others_run()
    return readers


def who_has_room(readers: list[Reader]) -> list[bool]:
    """Tell of each whether it has room."""
    return [reader.has_room.is_set() for reader in readers]


async def leave_all(readers: list[Reader]) -> None:
    """Let all go."""
    for reader in readers:
        await reader.leave()


def test_bytes_are_held_in_the_context_however_it_ends() -> None:
    budget = Budget(10 * MEGABYTE)
    with budget.hold("anna", 3 * MEGABYTE):
        assert budget.num_bytes == 3 * MEGABYTE
    with pytest.raises(ZeroDivisionError), budget.hold("anna", 3 * MEGABYTE):
        raise ZeroDivisionError
    assert budget.num_bytes == 0


def test_what_is_here_is_refused_at_once_where_there_is_no_room_and_that_is_told() -> None:
    refusals: list[MemoryFull] = []
    budget = Budget(10 * MEGABYTE, tell_refusal=refusals.append)
    with budget.hold("anna", 5 * MEGABYTE):
        with pytest.raises(MemoryFull, match="this key has 5000000 and 5000000 are free") as caught:
            budget.hold("anna", MEGABYTE).__enter__()
        assert caught.value.metadata == {"bound": "10000000", "value": "1000000"}
        assert caught.value.retry_after_seconds == 1
        with budget.hold("bert", 5 * MEGABYTE), pytest.raises(MemoryFull) as other:
            budget.hold("zoe", MEGABYTE).__enter__()
    assert budget.num_bytes == 0
    assert refusals == [caught.value, other.value]


def test_a_call_without_a_file_is_never_refused() -> None:
    budget = Budget(MEGABYTE)
    with ExitStack() as stack:
        for key_id in ("anna", "bert", "zoe"):
            stack.enter_context(budget.hold(key_id, MEGABYTE, is_accepted=True))
        stack.enter_context(budget.hold("anna", SMALL_BYTES))
        assert budget.num_bytes == 3 * MEGABYTE


async def test_nothing_is_kept_of_those_whose_calls_hold_nothing() -> None:
    budget = Budget(MEGABYTE)
    for number in range(100):
        with budget.hold(f"address {number}", SMALL_BYTES):
            pass
        async with budget.reserve(f"key {number}", 0):
            pass
    assert len(budget._shares._of_keys) == 0


def test_what_was_accepted_before_is_counted_and_not_refused() -> None:
    budget = Budget(10 * MEGABYTE)
    with budget.hold("anna", 9 * MEGABYTE, is_accepted=True):
        with budget.hold("anna", 9 * MEGABYTE, is_accepted=True):
            assert budget.num_bytes == 18 * MEGABYTE
        with pytest.raises(MemoryFull):
            budget.hold("bert", 2 * MEGABYTE).__enter__()


def test_a_key_has_room_as_long_as_it_has_less_than_is_free() -> None:
    budget = Budget(10 * MEGABYTE)
    with budget.hold("anna", 4 * MEGABYTE):
        assert budget.has_room("anna")
        with budget.hold("anna", MEGABYTE):
            assert (budget.has_room("anna"), budget.has_room("bert")) == (False, True)
        with budget.hold("anna", 9 * MEGABYTE, is_accepted=True):
            assert (budget.has_room("anna"), budget.has_room("bert")) == (False, False)
        assert budget.has_room("anna")


async def test_who_waits_until_not_all_is_held_hears_of_it_whoever_gives_it_back() -> None:
    budget = Budget(MEGABYTE)
    with budget.hold("anna", 2 * MEGABYTE, is_accepted=True):
        waiting = [asyncio.create_task(budget.wait_until_free()) for _ in range(2)]
        await let_others_run()
        with budget.hold("bert", MEGABYTE, is_accepted=True):
            pass
        await let_others_run()
        assert not any(task.done() for task in waiting)
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)


async def test_what_is_elsewhere_waits_for_room_in_the_order_of_its_key() -> None:
    budget = Budget(10 * MEGABYTE)
    readers = await line_up(budget, ("anna", 5), ("anna", 4), ("anna", 1), ("bert", 2))
    assert who_has_room(readers) == [True, False, False, True]  # the small one passes nobody of its key
    await readers[0].leave()
    await let_others_run()
    assert who_has_room(readers) == [True, True, False, True]
    await readers[3].leave()
    await let_others_run()
    assert who_has_room(readers) == [True, True, True, True]
    await leave_all(readers)
    assert budget.num_bytes == 0


async def test_what_is_here_passes_nobody_of_its_key_who_waits() -> None:
    budget = Budget(10 * MEGABYTE)
    readers = await line_up(budget, ("anna", 4), ("anna", 4))
    with pytest.raises(MemoryFull):
        budget.hold("anna", MEGABYTE).__enter__()
    with budget.hold("bert", MEGABYTE):
        pass
    await leave_all(readers)
    with budget.hold("anna", MEGABYTE):
        pass


async def test_room_that_is_not_needed_lets_the_next_one_in() -> None:
    budget = Budget(10 * MEGABYTE)
    readers = [Reader(budget, "anna", 5 * MEGABYTE, num_kept=1_000) for _ in range(6)]
    for reader in readers:
        await asyncio.wait_for(reader.has_room.wait(), 10)
    assert budget.num_bytes == 6_000
    await leave_all(readers)
    assert budget.num_bytes == 0


async def test_more_than_all_is_let_in_when_nothing_else_is_held() -> None:
    budget = Budget(MEGABYTE)
    (large,) = await line_up(budget, ("anna", 3))
    assert large.has_room.is_set()
    (next_one,) = await line_up(budget, ("anna", 3))
    assert not next_one.has_room.is_set()
    await large.leave()
    await asyncio.wait_for(next_one.has_room.wait(), 10)
    await next_one.leave()
    with budget.hold("anna", 3 * MEGABYTE):
        pass
    assert budget.num_bytes == 0


async def test_who_stops_to_wait_leaves_the_line_to_the_others() -> None:
    budget = Budget(10 * MEGABYTE)
    readers = await line_up(budget, ("anna", 2), ("anna", 7), ("anna", 1))
    assert who_has_room(readers) == [True, False, False]
    await readers[1].leave()
    await let_others_run()
    assert who_has_room(readers) == [True, False, True]
    await leave_all(readers)
    assert budget.num_bytes == 0


async def test_room_that_is_given_to_one_who_is_cancelled_is_free_again() -> None:
    budget = Budget(MEGABYTE)
    async with budget.reserve("anna", MEGABYTE):
        unlucky, next_one = await line_up(budget, ("anna", 1), ("anna", 1))
    assert not unlucky.has_room.is_set()  # it is given, and `unlucky` does not know of it yet
    await unlucky.leave()
    await asyncio.wait_for(next_one.has_room.wait(), 10)
    await next_one.leave()
    assert budget.num_bytes == 0


async def test_others_pass_a_large_one_for_a_while_and_then_wait_behind_it() -> None:
    clock = Clock()
    budget = Budget(10 * MEGABYTE, clock)
    readers = await line_up(budget, ("bert", 5), ("anna", 8), ("carl", 1))
    assert who_has_room(readers) == [True, False, True]
    clock.seconds += 5
    readers += await line_up(budget, ("dora", 1))
    assert who_has_room(readers) == [True, False, True, False]
    with pytest.raises(MemoryFull):
        budget.hold("emil", MEGABYTE).__enter__()
    with budget.hold("emil", SMALL_BYTES), budget.hold("emil", 1_000_000, is_accepted=True):
        pass
    await readers[0].leave()
    await let_others_run()
    assert who_has_room(readers) == [True, True, True, True]
    await leave_all(readers)
    assert budget.num_bytes == 0


async def test_nobody_waits_for_long_behind_one_for_whom_no_room_comes() -> None:
    clock = Clock()
    budget = Budget(10 * MEGABYTE, clock)
    readers = await line_up(budget, ("bert", 5), ("anna", 8))
    clock.seconds += 34
    with pytest.raises(MemoryFull):
        budget.hold("emil", MEGABYTE).__enter__()
    clock.seconds += 1
    readers += await line_up(budget, ("dora", 1))
    with budget.hold("emil", MEGABYTE):
        assert who_has_room(readers) == [True, False, True]
    clock.seconds += 270  # five minutes after it came, and five seconds
    with pytest.raises(MemoryFull):
        budget.hold("emil", MEGABYTE).__enter__()
    await leave_all(readers)


async def test_who_stood_behind_one_for_whom_no_room_comes_is_let_in_without_anybody_leaving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("idefics2_service.budget._PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("idefics2_service.budget._PRECEDENCE_SECONDS", 0.05)
    budget = Budget(10 * MEGABYTE)
    readers = await line_up(budget, ("bert", 5), ("anna", 8), ("carl", 1))
    await asyncio.wait_for(readers[2].has_room.wait(), 10)
    assert who_has_room(readers) == [True, False, True]
    await leave_all(readers)


async def test_who_waits_for_room_of_its_own_key_holds_up_nobody_else() -> None:
    clock = Clock()
    budget = Budget(10 * MEGABYTE, clock)
    readers = await line_up(budget, ("anna", 4), ("anna", 4))
    clock.seconds += 5
    readers += await line_up(budget, ("bert", 1))
    with budget.hold("carl", MEGABYTE):
        assert who_has_room(readers) == [True, False, True]
    await leave_all(readers)


@pytest.mark.parametrize("seed", range(20))
async def test_in_a_storm_all_come_to_their_end_and_nothing_is_lost(seed: int) -> None:
    budget, dice = Budget(10 * MEGABYTE), random.Random(seed)  # noqa: S311  # no secret

    async def read(key_id: str) -> None:
        num_bytes = dice.randrange(3 * MEGABYTE)
        async with budget.reserve(key_id, num_bytes) as room:
            assert budget.num_bytes <= 10 * MEGABYTE
            await let_others_run()
            room.shrink(num_bytes // 2)
            await let_others_run()

    async def bring(key_id: str) -> None:
        with suppress(MemoryFull), budget.hold(key_id, dice.randrange(3 * MEGABYTE)):
            await let_others_run()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(200):
        kind = dice.choice((read, read, bring))
        tasks.append(asyncio.create_task(kind(dice.choice("abc"))))
        if dice.random() < 0.2:
            dice.choice(tasks).cancel()
        if dice.random() < 0.5:
            await let_others_run()
    async with asyncio.timeout(20):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ends} <= {type(None), asyncio.CancelledError}
    assert (budget.num_bytes, budget._line) == (0, [])

"""A request's history: numbered, the same for whoever watches, and at an end after its last event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from idefics2_service.errors import InternalError
from idefics2_service.events import Failed, Finished, History, LogLine, QueuePosition, StageEntered, TextDelta
from idefics2_service.requests import FinishReason, GenerateOutput, Stage, Usage

if TYPE_CHECKING:
    from idefics2_service.events import Event, Happening

OUTPUT = GenerateOutput("ab", FinishReason.LENGTH, Usage(3, 2, 1), {}, "one", 7)
MIDDLE: list[Happening] = [
    StageEntered(Stage.RESOLVING),
    LogLine("image_url: PNG"),
    QueuePosition(0),
    TextDelta("a", 1),
    TextDelta("b", 2),
]
LAST: list[Happening] = [Finished(OUTPUT), Failed(InternalError("broken"))]
each_end = pytest.mark.parametrize("last", LAST, ids=["finished", "failed"])


def fill(history: History, *happenings: Happening) -> None:
    """Append what happened, one second after the other."""
    for happening in happenings:
        history.append(float(len(history.events)), happening)


async def watch(history: History, after: int = 0) -> list[Event]:
    """Watch to the end."""
    return [event async for event in history.watch(after)]


async def let_others_run() -> None:
    """Return when all that is ready now has had its turn."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_soon(passed.set)
    await passed.wait()


@each_end
async def test_events_are_numbered_from_1_without_gaps(last: Happening) -> None:
    history = History()
    fill(history, *MIDDLE, last)
    assert [event.sequence for event in history.events] == [1, 2, 3, 4, 5, 6]
    assert [event.time for event in history.events] == [0, 1, 2, 3, 4, 5]
    assert [event.happening for event in history.events] == [*MIDDLE, last]


@each_end
async def test_only_the_end_is_last(last: Happening) -> None:
    history = History()
    assert not history.is_complete
    for happening in MIDDLE:
        fill(history, happening)
        assert not history.is_complete
    fill(history, last)
    assert history.is_complete
    assert [event.is_last for event in history.events] == [False] * 5 + [True]


@each_end
@pytest.mark.parametrize("late", [*MIDDLE, *LAST], ids=lambda happening: type(happening).__name__)
async def test_nothing_is_added_after_the_last_event(last: Happening, late: Happening) -> None:
    history = History()
    fill(history, *MIDDLE, last, late)
    assert [event.happening for event in history.events] == [*MIDDLE, last]
    assert [event.happening for event in await watch(history)] == [*MIDDLE, last]


@each_end
@pytest.mark.parametrize("num_before", range(7))
async def test_whoever_comes_late_sees_what_the_first_one_saw(last: Happening, num_before: int) -> None:
    history, all_of_it = History(), [*MIDDLE, last]
    early = asyncio.create_task(watch(history))
    fill(history, *all_of_it[:num_before])
    late = asyncio.create_task(watch(history))
    for happening in all_of_it[num_before:]:
        await let_others_run()
        fill(history, happening)
    assert await early == await late == list(history.events)


@each_end
@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("is_over", [True, False])
async def test_watching_resumes_after_the_number_that_is_given(
    last: Happening, after: int, *, is_over: bool
) -> None:
    history = History()
    fill(history, *MIDDLE)
    if is_over:
        fill(history, last)
    watching = asyncio.create_task(watch(history, after))
    await let_others_run()
    fill(history, last)
    assert [event.sequence for event in await watching] == list(range(after + 1, 7))


async def test_each_event_is_told_when_it_happens() -> None:
    history = History()
    watching = history.watch()
    for happening in (*MIDDLE, LAST[0]):
        following = asyncio.ensure_future(anext(watching))
        await let_others_run()
        assert not following.done()
        fill(history, happening)
        assert (await following).happening == happening
    with pytest.raises(StopAsyncIteration):
        await anext(watching)


async def test_events_that_happen_while_a_watcher_is_busy_are_not_lost() -> None:
    history = History()
    fill(history, MIDDLE[0])
    seen = []
    async for event in history.watch():
        seen.append(event)
        if event.sequence == 1:
            fill(history, *MIDDLE[1:3])
        if event.sequence == 3:
            fill(history, *MIDDLE[3:], LAST[0])
    assert seen == list(history.events)
    assert len(seen) == 6


async def test_many_watchers_all_see_the_same() -> None:
    history = History()
    watchers = [asyncio.create_task(watch(history)) for _ in range(50)]
    for happening in (*MIDDLE, LAST[0]):
        await let_others_run()
        fill(history, happening)
    assert [event.happening for event in await watchers[0]] == [*MIDDLE, LAST[0]]
    assert all([await watcher == list(history.events) for watcher in watchers])


async def test_a_watcher_that_leaves_takes_nothing_from_the_others() -> None:
    history = History()
    staying, leaving = (asyncio.create_task(watch(history)) for _ in range(2))
    fill(history, *MIDDLE[:2])
    await let_others_run()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    async for _ in history.watch():
        break
    fill(history, *MIDDLE[2:], LAST[0])
    assert await staying == list(history.events)
    assert len(history.events) == 6


async def test_watching_after_the_last_event_ends_at_once() -> None:
    history = History()
    history.append(0, Failed(InternalError("gone")))
    assert [event async for event in history.watch(1)] == []
    assert [event async for event in history.watch(7)] == []

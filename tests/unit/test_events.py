"""A request's events: numbered, each read once by the one who is attached, and at an end after the last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from idefics2_service.errors import InternalError
from idefics2_service.events import Failed, Feed, Finished, LogLine, QueuePosition, StageEntered, TextDelta
from idefics2_service.requests import FinishReason, GenerateOutput, Stage, Usage
from turns import let_others_run

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
NUM_SLOW = 1_000
each_end = pytest.mark.parametrize("last", LAST, ids=["finished", "failed"])


def fill(feed: Feed, *happenings: Happening) -> None:
    """Append what happened, one second after the other."""
    for second, happening in enumerate(happenings):
        feed.append(float(second), happening)


async def read(feed: Feed) -> list[Event]:
    """Read to the end."""
    return [event async for event in feed]


@each_end
async def test_events_are_numbered_from_1_without_gaps(last: Happening) -> None:
    feed = Feed()
    fill(feed, *MIDDLE, last)
    events = await read(feed)
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.time for event in events] == [0, 1, 2, 3, 4, 5]
    assert [event.happening for event in events] == [*MIDDLE, last]
    assert [event.is_last for event in events] == [False] * 5 + [True]


@each_end
@pytest.mark.parametrize("late", [*MIDDLE, *LAST], ids=lambda happening: type(happening).__name__)
async def test_nothing_is_added_after_the_last_event(last: Happening, late: Happening) -> None:
    feed = Feed()
    fill(feed, *MIDDLE, last, late)
    assert [event.happening for event in await read(feed)] == [*MIDDLE, last]
    feed.append(9, late)
    assert await read(feed) == []


@each_end
@pytest.mark.parametrize("num_before", range(7))
async def test_whoever_comes_late_misses_nothing(last: Happening, num_before: int) -> None:
    feed, all_of_it = Feed(), [*MIDDLE, last]
    fill(feed, *all_of_it[:num_before])
    reading = asyncio.create_task(read(feed))
    for happening in all_of_it[num_before:]:
        await let_others_run()
        fill(feed, happening)
    assert [event.happening for event in await reading] == all_of_it


async def test_each_event_is_told_when_it_happens() -> None:
    feed = Feed()
    for happening in (*MIDDLE, LAST[0]):
        following = asyncio.ensure_future(anext(feed))
        await let_others_run()
        assert not following.done()
        fill(feed, happening)
        assert (await following).happening == happening
    with pytest.raises(StopAsyncIteration):
        await anext(feed)


async def test_who_gives_up_waiting_for_an_event_reads_on_without_a_gap() -> None:
    feed = Feed()
    for happening in (*MIDDLE, LAST[0]):
        given_up = asyncio.ensure_future(anext(feed))
        await let_others_run()
        given_up.cancel()
        fill(feed, happening)  # and that is heard of in the same moment
        await let_others_run()
        assert given_up.cancelled()
        assert (await anext(feed)).happening == happening


async def test_events_that_happen_while_the_reader_is_busy_are_not_lost() -> None:
    feed = Feed()
    fill(feed, MIDDLE[0])
    seen = []
    async for event in feed:
        seen.append(event.happening)
        if event.sequence == 1:
            fill(feed, *MIDDLE[1:3])
        if event.sequence == 3:
            fill(feed, *MIDDLE[3:], LAST[0])
    assert seen == [*MIDDLE, LAST[0]]


@each_end
async def test_a_reader_who_is_far_behind_gets_all_of_the_text_in_few_events(last: Happening) -> None:
    feed = Feed()
    fill(feed, *(TextDelta(f"{number} ", number) for number in range(NUM_SLOW)), LogLine("still here"), last)
    events = await read(feed)
    assert len(events) < NUM_SLOW / 10
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    text = [event.happening for event in events if isinstance(event.happening, TextDelta)]
    assert "".join(delta.text for delta in text) == "".join(f"{number} " for number in range(NUM_SLOW))
    assert text[-1].num_generated_tokens == NUM_SLOW - 1
    assert [event.happening for event in events[-2:]] == [LogLine("still here"), last]


async def test_text_is_joined_to_text_alone() -> None:
    feed = Feed()
    stages: list[Happening] = [StageEntered(Stage.QUEUED), TextDelta("a", 1)] * 100
    fill(feed, *stages, LAST[0])
    assert [event.happening for event in await read(feed)] == [*stages, LAST[0]]

"""Requests that wait in a store, and what is asked of it meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.stopwatch import Stopwatch
from idefics2_service.events import Finished, TextDelta
from idefics2_service.requests import ImageSource
from store.submissions import claim, make_output, make_request, make_submission

if TYPE_CHECKING:
    from bench.stores import Place
    from idefics2_service.requests import RequestName
    from idefics2_service.store.interface import RequestStore
    from idefics2_service.store.records import Claim, Submission

NUM_KEYS = 50
PAYLOAD = os.urandom(20_000)
"""What a picture is like to a store."""
PAGE_SIZE = 50
NUM_TOGETHER = 32
"""Submissions at a time while a store is filled; RedisStore has so many connections."""
STRIDE = 7_919
"""A prime: walks through all places of the queue."""
TEXT = TextDelta("A red circle before a pale wall, to the left. ", 12)
"""What a request tells of at a time."""
_REQUEST = replace(make_request(), images=(ImageSource("images[0].data", data=PAYLOAD),))


class Backlog:
    """Who waits, by its own books: `store` is to hold the same."""

    def __init__(self) -> None:
        self._names: list[RequestName] = []
        self._num_begun = 0

    def __len__(self) -> int:
        return len(self._names) - self._num_begun

    async def fill(self, store: RequestStore, size: int) -> None:
        """Submit, many at a time, until so many wait."""
        while missing := size - len(self):
            together = min(missing, NUM_TOGETHER)
            await asyncio.gather(*(store.submit(self.add()) for _ in range(together)))

    def add(self) -> Submission:
        """Make the next submission; keys take turns."""
        number = len(self._names)
        submission = make_submission(f"bench-{number}", f"key-{number % NUM_KEYS}", request=_REQUEST)
        self._names.append(submission.name)
        return submission

    def begin(self) -> None:
        """Know that one waits no more."""
        self._num_begun += 1

    def choose(self, number: int) -> RequestName:
        """Return one that waits, somewhere else for each number."""
        # In the rear half: those that were submitted together may be begun in another order.
        return self._names[-1 - number * STRIDE % (len(self) // 2)]


async def time_calls(store: RequestStore, backlog: Backlog, count: int) -> Stopwatch:
    """Call one method after the other, so many times; as many wait at the end as at the beginning."""
    stopwatch = Stopwatch()
    for number in range(count):
        await stopwatch.time("submit", store.submit(backlog.add()))
        claimed = await stopwatch.time("claim", claim(store))
        backlog.begin()
        name = backlog.choose(number)
        record = await stopwatch.time("get", store.get(name))
        assert record.queue_position is not None
        await stopwatch.time("list_page", store.list_page(name.key_id, None, PAGE_SIZE, None))
        await store.finish(claimed, claimed.last_sequence, (), Finished(make_output()))
    return stopwatch


async def time_starts(place: Place, name: RequestName, count: int) -> list[float]:
    """Return the seconds from the start of a store to its first answer, so many times."""
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        async with place.open_store() as store:
            await store.get(name)
            seconds.append(time.perf_counter() - started)
    return seconds


async def time_appends(store: RequestStore, claimed: Claim, count: int) -> list[float]:
    """Return the milliseconds of each of so many appends."""
    stopwatch = Stopwatch()
    for after in range(claimed.last_sequence, claimed.last_sequence + count):
        await stopwatch.time("append", store.append(claimed, after, (TEXT,)))
    return stopwatch.milliseconds["append"]


async def count_appends(store: RequestStore, claims: list[Claim], count: int) -> float:
    """Return appends a second where each claim's worker makes `count`, one after the other."""
    started = time.perf_counter()
    await asyncio.gather(*(time_appends(store, claimed, count) for claimed in claims))
    return len(claims) * count / (time.perf_counter() - started)

"""A URL that several requests of a key want at the same time is fetched once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from idefics2_service.downloads import Downloads
from idefics2_service.fetcher import HostUnreachable

URL = "https://example.org/cat.png"


class HeldFetcher:
    """Fetches when it is let."""

    def __init__(self) -> None:
        """Begin closed."""
        self.gate = asyncio.Event()
        self.calls: Counter[tuple[str, int]] = Counter()
        self.num_cancelled = 0
        self.error: Exception | None = None

    async def get(self, key_id: str, url: str, max_bytes: int) -> bytes:
        """As Fetcher.get."""
        self.calls[url, max_bytes] += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return b"cat"


@pytest.fixture
def fetcher() -> HeldFetcher:
    """One that is closed."""
    return HeldFetcher()


@pytest.fixture
def downloads(fetcher: Any) -> Downloads:
    """Over it."""
    return Downloads(fetcher)


@pytest.fixture
def outcomes() -> list[tuple[str, int]]:
    """How each download went, and what it brought."""
    return []


@pytest.fixture
def told_downloads(fetcher: Any, outcomes: list[tuple[str, int]]) -> Downloads:
    """Over it, told of."""
    return Downloads(fetcher, lambda outcome, _, num_bytes: outcomes.append((outcome, num_bytes)))


async def begin(downloads: Downloads, *wanted: tuple[str, str, int]) -> list[asyncio.Task[bytes]]:
    """Let somebody want each of these, all at the same time."""
    tasks = [asyncio.create_task(downloads.fetch(*one)) for one in wanted]
    await asyncio.sleep(0)
    return tasks


async def test_equal_urls_of_a_key_are_fetched_once(downloads: Downloads, fetcher: HeldFetcher) -> None:
    tasks = await begin(downloads, *[("anna", URL, 10)] * 5)
    fetcher.gate.set()
    assert await asyncio.gather(*tasks) == [b"cat"] * 5
    assert fetcher.calls == {(URL, 10): 1}


async def test_other_keys_bounds_and_times_fetch_for_themselves(
    downloads: Downloads, fetcher: HeldFetcher
) -> None:
    tasks = await begin(downloads, ("anna", URL, 10), ("bert", URL, 10), ("anna", URL, 11))
    fetcher.gate.set()
    await asyncio.gather(*tasks)
    assert fetcher.calls == {(URL, 10): 2, (URL, 11): 1}
    await downloads.fetch("anna", URL, 10)
    assert fetcher.calls[URL, 10] == 3


async def test_who_leaves_takes_nothing_from_the_others(downloads: Downloads, fetcher: HeldFetcher) -> None:
    first, second = await begin(downloads, *[("anna", URL, 10)] * 2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    fetcher.gate.set()
    assert await second == b"cat"
    assert fetcher.num_cancelled == 0


async def test_the_last_one_who_leaves_ends_the_fetching(downloads: Downloads, fetcher: HeldFetcher) -> None:
    tasks = await begin(downloads, *[("anna", URL, 10)] * 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    again = await begin(downloads, ("anna", URL, 10))
    fetcher.gate.set()
    assert await again[0] == b"cat"
    assert fetcher.num_cancelled == 1
    assert not downloads._running


async def test_all_who_wait_hear_of_the_failure_and_the_next_one_tries_again(
    downloads: Downloads, fetcher: HeldFetcher
) -> None:
    fetcher.error = HostUnreachable("the host is away")
    tasks = await begin(downloads, *[("anna", URL, 10)] * 3)
    fetcher.gate.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [fetcher.error] * 3
    fetcher.error = None
    assert await downloads.fetch("anna", URL, 10) == b"cat"


async def test_who_asks_is_told_what_was_fetched_and_what_was_shared(
    told_downloads: Downloads, fetcher: HeldFetcher, outcomes: list[tuple[str, int]]
) -> None:
    tasks = await begin(told_downloads, *[("anna", URL, 10)] * 3)
    fetcher.gate.set()
    await asyncio.gather(*tasks)
    assert outcomes == [("shared", 0)] * 2 + [("fetched", 3)]


async def test_who_asks_is_told_what_failed_and_what_nobody_wanted_any_more(
    told_downloads: Downloads, fetcher: HeldFetcher, outcomes: list[tuple[str, int]]
) -> None:
    (left,) = await begin(told_downloads, ("anna", URL, 10))
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    fetcher.error = HostUnreachable("the host is away")
    fetcher.gate.set()
    (failed,) = await begin(told_downloads, ("anna", URL, 10))
    await asyncio.gather(failed, return_exceptions=True)
    assert sorted(outcomes) == [("cancelled", 0), ("failed", 0)]

"""A server whose disk is full takes nothing more, loses nothing that was acknowledged, and may be read."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from disks import enlarge, small_disk
from idefics2_service.errors import StoreUnavailable
from idefics2_service.events import Finished, LogLine
from idefics2_service.requests import RequestName, State
from idefics2_service.store.records import Lease
from store.servers import BINARIES, Server, catch_up, make_replica
from store.submissions import (
    KEY,
    claim,
    claim_all,
    make_output,
    make_submission,
    make_submissions,
    submit,
)

if TYPE_CHECKING:
    from pathlib import Path

    from idefics2_service.store.interface import RequestStore
    from store.conftest import StartStore

PATIENCE_SECONDS = 20
ANSWERED, WATCHED = RequestName(KEY, "answered"), RequestName(KEY, "watched")
SMALL_BYTES = 4 * 2**20
PROMPT = "x" * 100_000


async def submit_until_refused(store: RequestStore) -> list[str]:
    """Submit until the disk is full; return what was acknowledged."""
    acknowledged: list[str] = []
    for number in range(1_000):
        try:
            await submit(store, str(number), prompt=PROMPT)
        except StoreUnavailable:
            return acknowledged
        acknowledged.append(f"{KEY}/{number}")
    raise AssertionError("the disk is not full yet")


@pytest.mark.parametrize("name", list(BINARIES))
async def test_a_full_disk_takes_nothing_more_and_loses_nothing(
    start_store: StartStore, tmp_path: Path, name: str
) -> None:
    with small_disk(tmp_path / "disk", SMALL_BYTES) as disk, Server(name, "--dir", str(disk)) as server:
        store = await start_store(url=server.url)
        acknowledged = await submit_until_refused(store)
        assert acknowledged
        with pytest.raises(StoreUnavailable):
            await store.submit(make_submission("one more", prompt=PROMPT))
        enlarge(disk)
        server.kill()  # most have ended by themselves: they may not answer what they cannot write
        server.start()
        kept = await claim_all(store)
        assert set(acknowledged) <= set(kept)
        await submit(store, "one more", prompt=PROMPT)
        await store.stop()


async def watch(store: RequestStore, seen: asyncio.Queue[int]) -> None:
    """Put the number of each event of WATCHED into a queue."""
    async for event in make_submissions(store).watch(WATCHED):
        seen.put_nowait(event.sequence)


async def look(store: RequestStore) -> list[object]:
    """Read all there is to be read of ANSWERED and WATCHED."""
    submissions = make_submissions(store)
    watched = await submissions.get(WATCHED)
    return [
        watched,
        await submissions.read_logs(watched),
        await store.events(WATCHED, 0, 10),
        await submissions.get(ANSWERED),
        await submissions.result(ANSWERED),
        (await submissions.list_page(KEY, State.SUCCEEDED, 10, None)).records,
        (await submissions.list_page(KEY, State.RUNNING, 10, None)).records,
    ]


@pytest.mark.parametrize("name", list(BINARIES))
async def test_over_a_replica_on_another_disk_reads_go_on_while_the_disk_is_full(
    start_store: StartStore, tmp_path: Path, name: str
) -> None:
    with (
        small_disk(tmp_path / "disk", SMALL_BYTES) as disk,
        Server(name, "--dir", str(disk)) as server,
        make_replica(server) as replica,
    ):
        await catch_up(server)
        store = await start_store(url=server.url, replica_url=replica.url)
        await submit(store, "answered", "watched")
        await store.finish(await claim(store), 1, [], Finished(make_output()))
        claimed = await claim(store)
        await store.append(claimed, 1, [LogLine("x")])
        before, seen = await look(store), asyncio.Queue[int]()
        watching = asyncio.create_task(watch(store, seen))
        async with asyncio.timeout(PATIENCE_SECONDS):
            numbers = [await seen.get() for _ in range(2)]
        await catch_up(server)
        acknowledged = await submit_until_refused(store)
        server.wait()  # it has ended by itself
        assert await look(store) == before
        with pytest.raises(StoreUnavailable):  # what was not kept is not told, either
            await store.get(RequestName(KEY, str(len(acknowledged))))
        with pytest.raises(StoreUnavailable):
            await store.submit(make_submission("one more", prompt=PROMPT))
        assert seen.empty()
        enlarge(disk)
        server.start()
        assert await store.append(claimed, 2, [LogLine("y")]) is Lease.HELD
        assert await store.finish(claimed, 3, [], Finished(make_output())) is Lease.HELD
        async with asyncio.timeout(PATIENCE_SECONDS):
            await watching
        numbers += [seen.get_nowait() for _ in range(seen.qsize())]
        assert numbers == [1, 2, 3, 4]
        assert set(acknowledged) <= set(await claim_all(store))
        await store.stop()


@pytest.mark.parametrize("name", list(BINARIES))
async def test_a_server_that_may_lose_what_it_acknowledged_is_read_while_its_disk_is_full(
    start_store: StartStore, tmp_path: Path, name: str
) -> None:
    options = ("--appendfsync", "everysec")
    with (
        small_disk(tmp_path / "disk", SMALL_BYTES) as disk,
        Server(name, "--dir", str(disk), *options) as server,
    ):
        store = await start_store(url=server.url, allow_data_loss=True)
        acknowledged = await submit_until_refused(store)
        page = await store.list_page(KEY, None, 1_000, None)
        assert {f"{KEY}/{record.name.request_id}" for record in page.records} == set(acknowledged)
        enlarge(disk)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with suppress(StoreUnavailable):
                    await submit(store, "one more", prompt=PROMPT)
                    break
        assert set(acknowledged) <= set(await claim_all(store))
        await store.stop()

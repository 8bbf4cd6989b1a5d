"""A disk without room: nothing new is taken, what is there can be read, and nothing is damaged."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

import apsw
import grpc
import psutil
import pytest
from disks import small_disk
from faults.requests.caller import connect, make_submission
from faults.requests.client import Client, Wish
from faults.requests.cluster import run_cluster
from faults.requests.judge import judge
from faults.requests.record import Record
from faults.requests.recoveries import refusal_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from faults.requests.caller import Caller
    from faults.requests.cluster import Front

DISK_BYTES, LARGEST_FILE_BYTES = 4 * 2**20, 2**20
LONG_PROMPT = "x" * 30_000
MAX_SECONDS = 60


@contextmanager
def no_room(place: Path) -> Iterator[None]:
    """Take all that is left of a disk."""
    file = place / "filler"
    with file.open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    try:
        yield
    finally:
        file.unlink()


@contextmanager
def no_large_files(pid: int) -> Iterator[None]:
    """Let a process fail where its files grow; anybody may do that."""
    process = psutil.Process(pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (LARGEST_FILE_BYTES, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("is_disk_full", [True, False], ids=["full disk", "no large files"])
async def test_without_room_nothing_new_is_taken_and_nothing_is_damaged(
    tmp_path: Path, *, is_disk_full: bool
) -> None:
    data = tmp_path / "data0"
    with ExitStack() as stack:
        if is_disk_full:
            stack.enter_context(small_disk(data, DISK_BYTES))
        async with run_cluster("sqlite", tmp_path) as cluster, asyncio.timeout(MAX_SECONDS):
            front = cluster.fronts[0]
            shortage = no_room(data) if is_disk_full else no_large_files(front.front.pid)
            async with connect([front.address], random.Random(0)) as caller:  # noqa: S311  # no secret
                await _run_out_of_room(front, caller, shortage)
        with closing(apsw.Connection(str(data / "requests.sqlite"))) as connection:
            assert connection.pragma("integrity_check") == "ok"


async def _run_out_of_room(front: Front, caller: Caller, shortage: AbstractContextManager[None]) -> None:
    """Submit before, in and after a shortage, and let the front die at the end."""
    before, after = (Client(n, caller, asyncio.get_running_loop().time, Wish()) for n in range(2))
    await before.live()
    with shortage:
        taken = await _submit_until_refused(caller)
        await before.look()
    await after.live()
    await front.front.kill()
    for client in (before, after):
        await client.look()
    assert not judge(Record(1.0, 0.0, [before.story, after.story])).faults
    for request_id in taken:
        assert [event async for event in caller.watch(request_id)][-1].finished.HasField("response")


async def _submit_until_refused(caller: Caller) -> list[str]:
    """Return what was taken nevertheless, in the room that the store has in its own files.

    Who is refused once may be so for what was to be written together with it, and find room alone.
    """
    taken: list[str] = []
    num_refused = 0
    while num_refused < 2:
        submission = make_submission(f"long-{len(taken)}", LONG_PROMPT)
        try:
            await caller.call_once("Submit", submission)
        except grpc.aio.AioRpcError:
            num_refused += 1
        else:
            taken.append(submission.request_id)
            num_refused = 0
    refusal = await refusal_of(caller, "Submit", submission)
    assert refusal == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    return taken

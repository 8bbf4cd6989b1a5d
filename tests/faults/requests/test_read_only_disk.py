"""A disk that can only be read: nothing new is taken, what is there can be read, and nothing is lost."""

from __future__ import annotations

import asyncio
import io
import random
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import grpc
import pytest
from disks import fragile_disk, read_only, small_disk
from faults.requests.caller import connect, make_submission
from faults.requests.client import Client, Wish
from faults.requests.cluster import API_KEY, run_cluster
from faults.requests.judge import judge
from faults.requests.record import Record
from faults.requests.recoveries import find, refusal_of
from faults.requests.triton import true_answer
from idefics2.v1 import requests_pb2
from idefics2_client import AsyncClient, Idefics2Error, Retry, ServiceUnavailable
from pictures import red_circle
from processes import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

    from disks import FragileDisk
    from faults.requests.caller import Caller
    from faults.requests.cluster import Cluster, Front
    from idefics2.v1.files_pb2 import File
    from idefics2_client import TransferUpdate

DISK_BYTES = 32 * 2**20
MAX_SECONDS = 120

pytestmark = pytest.mark.timeout(240)

PICTURE = red_circle()
LARGE = PICTURE + random.Random(1).randbytes(9 * 2**20)  # noqa: S311  # no secret
"""Behind a picture's end nobody looks."""
STORE_AWAY = (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


class Uploader:
    """Brings files to a front, and is told each time that one is refused."""

    def __init__(self, front: Front) -> None:
        """Call `front`; a call that only reads is made once."""
        self.losses: asyncio.Queue[Idefics2Error] = asyncio.Queue()
        once = Retry(max_attempts=1, max_seconds=0.2, on_lost=self.losses.put_nowait)
        self.client = AsyncClient(front.address, API_KEY, retry=once)

    async def be_refused(self, content: bytes) -> None:
        """Bring a file that the disk has no room for, until that is said."""
        bringing = asyncio.create_task(self.client.upload(content))
        loss = await self.losses.get()
        bringing.cancel()
        assert loss.reason == "FILE_STORE_UNAVAILABLE"


class Pause:
    """Holds an upload back after its first bytes, until it is told to go on."""

    def __init__(self) -> None:
        """Hold back nothing yet."""
        self.is_reached = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._may_go_on = threading.Event()

    def wait(self, update: TransferUpdate) -> None:
        """Wait in the thread that reads what is uploaded, which reads no further meanwhile."""
        if update.num_bytes:
            self._loop.call_soon_threadsafe(self.is_reached.set)
            assert self._may_go_on.wait(MAX_SECONDS)

    def end(self) -> None:
        """Let the upload go on."""
        self._may_go_on.set()


async def read_back(files: AsyncClient, file: File) -> bytes:
    """Return the bytes of an uploaded file."""
    out = io.BytesIO()
    await files.download(file, out)
    return out.getvalue()


async def test_what_was_acknowledged_survives_a_disk_that_becomes_read_only_and_a_restart(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data0"
    with fragile_disk(data, tmp_path / "disk.img", DISK_BYTES) as disk:
        async with (
            run_cluster("sqlite", tmp_path) as cluster,
            asyncio.timeout(MAX_SECONDS),
            connect(cluster.addresses, random.Random(0)) as caller,  # noqa: S311  # no secret
        ):
            await _live_through(disk, cluster, caller)
        with closing(apsw.Connection(str(data / "requests.sqlite"))) as connection:
            assert connection.pragma("integrity_check") == "ok"


async def _live_through(disk: FragileDisk, cluster: Cluster, caller: Caller) -> None:
    """Submit before a damage, one that is running then, and after it; the front ends as its operator asks.

    Nobody watches the one that is running: what was told of an attempt, and is not on the disk yet, is told
    anew by the next one, as after a loss of power.
    """
    (front,), clock = cluster.fronts, asyncio.get_running_loop().time
    wishes = (Wish(), Wish(watches=False, is_slow=True), Wish())
    before, running, after = (Client(n, caller, clock, wish) for n, wish in enumerate(wishes))
    uploader = Uploader(front)
    async with uploader.client as files:
        await before.live()
        kept = await files.upload(PICTURE)
        await running.live()
        await find(caller.watch(running.story.request_id), "text_delta")
        disk.fail()
        refused = make_submission("refused", "question")
        assert await refusal_of(caller, "Submit", refused) == STORE_AWAY
        cancel = requests_pb2.CancelRequestRequest(request_id=running.story.request_id)
        assert await refusal_of(caller, "CancelRequest", cancel) == STORE_AWAY
        await uploader.be_refused(LARGE)
        await before.look()
        assert await read_back(files, kept) == PICTURE
        assert (await files.generate(kept, "question")).output == true_answer("question")  # nothing durable
        assert await front.front.end(forever=True) == 0
        disk.repair()
        front.front.resume()
        await cluster.wait_until_up()
        await after.live()
        for client in (before, running, after):
            await client.look()
        assert not judge(Record(1.0, 0.0, [before.story, running.story, after.story])).faults
        question = requests_pb2.GetRequestRequest(request_id="refused")
        assert (await refusal_of(caller, "GetRequest", question))[1] == "REQUEST_NOT_FOUND"
        assert await read_back(files, kept) == PICTURE
        assert await read_back(files, await files.upload(LARGE)) == LARGE


async def test_an_upload_goes_on_when_its_disk_can_be_written_again(tmp_path: Path) -> None:
    (tmp_path / "data0").mkdir()
    with small_disk(tmp_path / "data0" / "files", DISK_BYTES) as disk:
        async with run_cluster("sqlite", tmp_path) as cluster, asyncio.timeout(MAX_SECONDS):
            uploader = Uploader(cluster.fronts[0])
            async with (
                uploader.client,
                connect(cluster.addresses, random.Random(0)) as caller,  # noqa: S311  # no secret
            ):
                await _upload_through(disk, uploader, cluster.fronts[0], caller)


async def _upload_through(disk: Path, uploader: Uploader, front: Front, caller: Caller) -> None:
    """Let a disk be read only for a while in the middle of an upload; requests are kept on another one."""
    files, pause, other = uploader.client, Pause(), Uploader(front)
    kept = await files.upload(PICTURE)
    uploading = asyncio.create_task(files.upload(LARGE, on_progress=pause.wait))
    await pause.is_reached.wait()
    with read_only(disk):
        pause.end()
        assert (await uploader.losses.get()).reason == "FILE_STORE_UNAVAILABLE"
        async with other.client:
            await other.be_refused(PICTURE + b"another")
        with pytest.raises(ServiceUnavailable) as caught:
            await files.delete_file(kept)
        assert caught.value.reason == "FILE_STORE_UNAVAILABLE"
        assert await read_back(files, kept) == PICTURE
        client = Client(0, caller, asyncio.get_running_loop().time, Wish())
        await client.live()
        assert not uploading.done()
    assert await read_back(files, await uploading) == LARGE
    await client.look()
    assert not judge(Record(1.0, 0.0, [client.story])).faults
    await files.delete_file(kept)


def test_a_front_does_not_start_on_a_disk_that_can_only_be_read_and_says_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data, DISK_BYTES), read_only(data):
        options = ("--triton-url", "127.0.0.1:1", "--grpc-port", "0", "--http-port", "0")
        ended = subprocess.run(
            [sys.executable, "-m", "idefics2_service", "serve", *options],
            env={**clean_environment(), "IDEFICS2_DATA_FOLDER": str(data), "IDEFICS2_API_KEY": API_KEY},
            check=False,
            capture_output=True,
            text=True,
            timeout=MAX_SECONDS,
        )
    assert ended.returncode == 1
    assert "IDEFICS2_DATA_FOLDER: cannot keep" in ended.stderr
    assert "Read-only file system" in ended.stderr

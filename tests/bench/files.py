"""What it costs to upload and to download a large picture over gRPC: `make bench-files`.

The caller sends messages that were written before, and does not read into those that come, so that the
server's work is what is timed, as far as both share the cores. Beside it, in turns: the disk alone, which is
given the same bytes in the same pieces, each of them made safe, or the object store; and a bare grpc.aio
server, which drops what it reads.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import uvloop
from bench.bare_server import CHUNK, NUM_CHUNKS, OPTIONS
from bench.memory import Growth
from bench.programs import run_script
from bench.results import Goal, Row, make_row, write
from bench.tables import render
from blobs.servers import run_s3
from idefics2.v1 import files_pb2
from idefics2_service import logs
from idefics2_service.blobs.s3 import S3Blobs
from idefics2_service.settings import LogSettings
from idefics2_service.uploads.pieces import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    import psutil

TITLE = "Uploading and downloading a picture of 90 MiB"
COMMAND = "make bench-files"
HERE = Path(__file__).parent
NUM_RUNS = 7
MIB = 2**20
NUM_BYTES = NUM_CHUNKS * len(CHUNK)
PIECE = bytes(PIECE_BYTES)
SIZES = [min(PIECE_BYTES, NUM_BYTES - begin) for begin in range(0, NUM_BYTES, PIECE_BYTES)]
"""Of the pieces of a file; the last one is smaller."""
NAMES = [f"bench/{number}" for number in range(len(SIZES))]
MAX_SECONDS = 500.0
VOLUME_MB = 1_000
"""The object store gives no room back while it is measured."""
DISK, BARE, DIRECTORY = "the disk", "grpc.aio alone", "a directory"
STORE, S3 = "the object store", "S3"
VARIABLES = {
    "IDEFICS2_GRPC_PORT": "0",
    "IDEFICS2_HTTP_PORT": "0",
    "IDEFICS2_LOG_LEVEL": "warning",
}


class Rates:
    """MiB a second, by what was measured."""

    def __init__(self) -> None:
        self._samples: defaultdict[str, list[float]] = defaultdict(list)
        self.memory: dict[str, int] = {}
        """Bytes that a server had on top, at most."""

    async def time(self, name: str, work: Awaitable[Any]) -> Any:
        """Time what moves a file's bytes."""
        started = time.perf_counter()
        answer = await work
        self._samples[name].append(NUM_BYTES / MIB / (time.perf_counter() - started))
        return answer

    def note_memory(self, name: str, growth: Growth) -> None:
        """Note what a server had on top during one upload."""
        self.memory[name] = max(growth.num_bytes, self.memory.get(name, 0))

    def median(self, name: str) -> float:
        """Return what was usual."""
        return statistics.median(self._samples[name])


class Server:
    """A front that files are uploaded to."""

    def __init__(self, process: psutil.Process, channel: grpc.aio.Channel, api_key: str) -> None:
        self.process = process
        self._channel: Any = channel  # the stubs want serializers, which bytes need not
        self._metadata = (("authorization", f"Key {api_key}"),)

    async def upload(self, messages: list[bytes]) -> files_pb2.File:
        """Send an upload."""
        upload = self._channel.stream_unary(
            "/idefics2.v1.FileService/Upload", None, files_pb2.File.FromString
        )
        file: files_pb2.File = await upload(iter(messages), metadata=self._metadata)
        return file

    async def download(self, file: files_pb2.File) -> None:
        """Read a file to its end."""
        download = self._channel.unary_stream("/idefics2.v1.FileService/DownloadFile")
        message = files_pb2.DownloadFileRequest(id=file.id).SerializeToString()
        num_bytes = sum([len(data) async for data in download(message, metadata=self._metadata)])
        if num_bytes < file.size_bytes:
            raise RuntimeError(f"a file ended after {num_bytes} bytes")

    async def delete(self, file: files_pb2.File) -> None:
        """Forget a file."""
        delete = self._channel.unary_unary("/idefics2.v1.FileService/DeleteFile")
        await delete(files_pb2.DeleteFileRequest(id=file.id).SerializeToString(), metadata=self._metadata)


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rates = runner.run(measure())
    print(
        "\n" + render(write("files", TITLE, tuple(replace(row, command=COMMAND) for row in make_rows(rates))))
    )
    return 0


async def measure() -> Rates:
    """Measure both stores."""
    rates = Rates()
    async with asyncio.timeout(MAX_SECONDS), run_bare() as bare:
        with tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder:
            async with run_server({"IDEFICS2_DATA_FOLDER": folder}) as server:
                for _ in range(NUM_RUNS):
                    path = Path(folder) / "bytes"
                    await rates.time(DISK, asyncio.to_thread(write_to_disk, path))
                    await asyncio.to_thread(path.unlink)
                    with Growth(bare.process) as growth:
                        await rates.time(f"{BARE}, up", bare.drop())
                    rates.note_memory(BARE, growth)
                    await rates.time(f"{BARE}, down", bare.send())
                    await move(rates, DIRECTORY, server)
            with run_s3(VOLUME_MB) as place:
                os.environ.update(place)
                url = "s3://bench/files"
                blobs = S3Blobs(url)
                variables = {**place, "IDEFICS2_DATA_FOLDER": folder, "IDEFICS2_BLOB_URL": url}
                await put_all(blobs)
                await blobs.delete(*NAMES)
                async with run_server(variables) as server:
                    for _ in range(NUM_RUNS):
                        await rates.time(STORE, put_all(blobs))
                        await blobs.delete(*NAMES)
                        await move(rates, S3, server)
    return rates


class Bare:
    """The bare server."""

    def __init__(self, process: psutil.Process, channel: grpc.aio.Channel) -> None:
        self.process = process
        self._channel: Any = channel  # as above
        self._messages = write_messages()

    async def drop(self) -> None:
        """Send an upload."""
        await self._channel.stream_unary("/bench.Bare/Drop")(iter(self._messages))

    async def send(self) -> None:
        """Read a download."""
        async for _ in self._channel.unary_stream("/bench.Bare/Send")(b""):
            pass


@asynccontextmanager
async def run_bare() -> AsyncIterator[Bare]:
    """Run the bare server."""
    async with (
        run_script(HERE / "bare_server.py") as (process, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port.strip()}", options=OPTIONS) as channel,
    ):
        yield Bare(process, channel)


@asynccontextmanager
async def run_server(variables: Mapping[str, str]) -> AsyncIterator[Server]:
    """Run a front that has let one small file through."""
    async with run_script(HERE / "front.py", {**VARIABLES, **variables}) as (process, line):
        ready = json.loads(line)
        async with grpc.aio.insecure_channel(ready["address"], options=OPTIONS) as channel:
            server = Server(process, channel, ready["api_key"])
            await server.delete(await server.upload(write_messages(1)))
            yield server


async def move(rates: Rates, name: str, server: Server) -> None:
    """Upload a file that nobody knows, download it, and forget it."""
    messages = write_messages()
    with Growth(server.process) as growth:
        file = await rates.time(f"{name}, up", server.upload(messages))
    rates.note_memory(name, growth)
    del messages
    await rates.time(f"{name}, down", server.download(file))
    await server.delete(file)


def write_messages(num_chunks: int = NUM_CHUNKS) -> list[bytes]:
    """Write an upload whose content is new."""
    start = files_pb2.UploadStart(size_bytes=num_chunks * len(CHUNK))
    first = b"BM" + secrets.token_bytes(14) + CHUNK[16:]
    requests = [files_pb2.UploadRequest(start=start), files_pb2.UploadRequest(chunk=first)]
    other = files_pb2.UploadRequest(chunk=CHUNK).SerializeToString()
    return [*(request.SerializeToString() for request in requests), *[other] * (num_chunks - 1)]


def write_to_disk(path: Path) -> None:
    """Write as many bytes, each piece safe before the next."""
    with path.open("wb", buffering=0) as file:
        for size in SIZES:
            file.write(PIECE[:size])
            os.fsync(file.fileno())


async def put_all(blobs: S3Blobs) -> None:
    """Put as many bytes, one piece after the other."""
    for name, size in zip(NAMES, SIZES, strict=True):
        await blobs.put(name, PIECE[:size])


def make_rows(rates: Rates) -> list[Row]:
    """Make rows of all that was measured."""
    rows = [
        make_row(f"upload into {DIRECTORY}, beside {DISK}", rates.median(f"{DIRECTORY}, up"), "MiB/s",
                 peer=rates.median(DISK), goal=Goal(least_ratio=0.8)),
        make_row(f"upload into {DIRECTORY}, beside {BARE}", rates.median(f"{DIRECTORY}, up"), "MiB/s",
                 peer=rates.median(f"{BARE}, up")),
        make_row(f"upload into {S3}, beside {STORE}", rates.median(f"{S3}, up"), "MiB/s",
                 peer=rates.median(STORE)),
    ]  # fmt: skip
    for name in (DIRECTORY, S3):
        down, peer = rates.median(f"{name}, down"), rates.median(f"{BARE}, down")
        rows.append(make_row(f"download from {name}, beside {BARE}", down, "MiB/s", peer=peer))
    for name in (DIRECTORY, S3):
        memory, peer = rates.memory[name] / 1e6, rates.memory[BARE] / 1e6
        text = f"memory on top for an upload into {name}, at most, beside {BARE}"
        rows.append(make_row(text, memory, "MB", peer=peer, goal=Goal(below=32)))
    return rows


if __name__ == "__main__":
    sys.exit(main())

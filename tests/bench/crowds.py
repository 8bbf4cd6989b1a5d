"""Callers of a front whose model keeps a steady pace."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
import urllib.request
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from bench.crowd_front import SLOWLY
from bench.programs import run_script
from harness import describe_red_circle
from idefics2.v1 import files_pb2, files_pb2_grpc, generation_pb2_grpc, requests_pb2, requests_pb2_grpc
from idefics2_service.keys.changes import create
from idefics2_service.keys.file import KeyFile
from pictures import red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psutil

FRONT = Path(__file__).with_name("crowd_front.py")
_CHUNK_BYTES = 2**20
_SLOW = describe_red_circle(prompt=f"{SLOWLY}what is this?", max_new_tokens=1_000)


class Crowd:
    """Callers over one channel."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        self._metadata = (("authorization", f"Key {api_key}"),)
        self._generation: Any = generation_pb2_grpc.GenerationServiceStub(channel)
        self._requests: Any = requests_pb2_grpc.RequestServiceStub(channel)
        self._files: Any = files_pb2_grpc.FileServiceStub(channel)

    def ask(self, num_tokens: int) -> Any:
        """Call Generate."""
        message = describe_red_circle(max_new_tokens=num_tokens)
        return self._generation.Generate(message, metadata=self._metadata)

    async def time(self, num_tokens: int) -> float:
        """Return the seconds of a Generate that is answered."""
        started = time.perf_counter()
        await self.ask(num_tokens)
        return time.perf_counter() - started

    def stream_slowly(self) -> Any:
        """Call GenerateStream for an answer in few and long words."""
        return self._generation.GenerateStream(_SLOW, metadata=self._metadata)

    async def submit_slow(self, request_id: str) -> None:
        """Submit a request for such an answer."""
        submission = requests_pb2.SubmitRequest(request_id=request_id, input=_SLOW)
        await self._requests.Submit(submission, metadata=self._metadata)

    def watch(self, request_id: str) -> Any:
        """Call WatchRequest."""
        message = requests_pb2.WatchRequestRequest(request_id=request_id)
        return self._requests.WatchRequest(message, metadata=self._metadata)

    async def upload(self, num_bytes: int) -> str:
        """Upload a file of a size; return its id."""
        content = red_circle().ljust(num_bytes, b"\0")
        start = files_pb2.UploadRequest(start=files_pb2.UploadStart(size_bytes=num_bytes))
        pieces = (content[at : at + _CHUNK_BYTES] for at in range(0, num_bytes, _CHUNK_BYTES))
        messages = [start, *(files_pb2.UploadRequest(chunk=piece) for piece in pieces)]
        file: files_pb2.File = await self._files.Upload(iter(messages), metadata=self._metadata)
        return file.id

    def download(self, file_id: str) -> Any:
        """Call DownloadFile."""
        return self._files.DownloadFile(files_pb2.DownloadFileRequest(id=file_id), metadata=self._metadata)


class CrowdFront:
    """A front that many call."""

    def __init__(self, process: psutil.Process, ready: dict[str, str], other_key: str) -> None:
        self.process = process
        self.http_address, self.api_key = ready["http"], ready["api_key"]
        self._grpc_address = ready["address"]
        self.other_key = other_key
        """Beside the one that all have who bring none."""

    @asynccontextmanager
    async def connect(self, *options: tuple[str, int], api_key: str = "") -> AsyncIterator[Crowd]:
        """Open a channel."""
        async with grpc.aio.insecure_channel(self._grpc_address, options=options) as channel:
            yield Crowd(channel, api_key or self.api_key)

    @property
    def num_bytes(self) -> int:
        """Its memory."""
        num_bytes: int = self.process.memory_info().rss
        return num_bytes

    @property
    def num_unsent_bytes(self) -> int:
        """What the system holds of its answers since nobody takes them."""
        ports = {int(address.rpartition(":")[2]) for address in (self.http_address, self._grpc_address)}
        # Source: proc_net_tcp.txt; the second field is address:port, the fifth tx_queue:rx_queue, all in hex.
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(
            int(fields[4].partition(":")[0], 16)
            for fields in lines
            if int(fields[1].partition(":")[2], 16) in ports
        )

    async def read_metric(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        text = await asyncio.to_thread(self._fetch_metrics)
        # To parse all of it takes so long that calls which end meanwhile would be timed too late.
        samples = re.findall(rf"^{name}(?:{{.*}})? (\S+)", text, re.MULTILINE)
        return sum(map(float, samples))

    def _fetch_metrics(self) -> str:
        url = f"http://{self.http_address}/metrics"
        with urllib.request.urlopen(url) as answer:
            text: str = answer.read().decode()
            return text


@asynccontextmanager
async def run_crowd_front(**variables: str) -> AsyncIterator[CrowdFront]:
    """Run a front with settings, and let nothing of it survive the block."""
    with tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder:
        other_key = create(KeyFile(Path(folder) / "keys.json"), "other", datetime.now(UTC)).text
        given = {
            "IDEFICS2_DATA_FOLDER": folder,
            "IDEFICS2_GRPC_PORT": "0",
            "IDEFICS2_HTTP_PORT": "0",
            "IDEFICS2_LOG_LEVEL": "warning",
            **variables,
        }
        async with run_script(FRONT, given) as (process, line):
            yield CrowdFront(process, json.loads(line), other_key)

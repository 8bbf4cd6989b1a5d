"""What the Python client costs its callers: `make bench-clients`.

Calls are timed beside those of a bare stub, which sends a message that was written before, in turns and to
the same server, a process that answers at once.
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from bench.answering_server import NUM_STREAMS_VARIABLE
from bench.files import VARIABLES
from bench.programs import run_script
from bench.results import Goal, Row, make_row, write
from bench.tables import render
from idefics2.v1.generation_pb2 import GenerateRequest, Image
from idefics2.v1.generation_pb2_grpc import GenerationServiceStub
from idefics2_client import AsyncClient, Client
from idefics2_service import logs
from idefics2_service.settings import LogSettings
from pictures import red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TITLE = "The Python client"
COMMAND = "make bench-clients"
HERE = Path(__file__).parent
API_KEY = "bench.0123456789abcdef"
PROMPT = "Describe the image."
NUM_WARM_UPS, NUM_PAIRS = 100, 1_000
NUM_STREAMS = 1_000
NUM_STARTS = 16
NUM_UPLOADS = 3
UPLOAD_BYTES = 90 * 10**6
MAX_SECONDS = 60.0
_IMPORT = "import time; started = time.perf_counter(); import {module}; print(time.perf_counter() - started)"


@dataclass(frozen=True)
class Pair:
    """Milliseconds of a call: by the client, and by a bare stub."""

    ours: float
    bare: float


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = [*measure_import(), *asyncio.run(measure())]
    print("\n" + render(write("clients", TITLE, tuple(replace(row, command=COMMAND) for row in rows))))
    return 0


async def measure() -> list[Row]:
    """Measure what needs a server."""
    with tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder:
        picture = Path(folder) / "circle.png"
        picture.write_bytes(red_circle())
        async with run_answering_server() as target:
            blocking = await asyncio.to_thread(measure_calls, target, picture)
            pairs = {"blocking": blocking, "asyncio": await measure_asyncio_calls(target, picture)}
            streams = await measure_streams(target)
        return [*make_call_rows(pairs), streams, *await measure_uploads(Path(folder))]


@asynccontextmanager
async def run_answering_server() -> AsyncIterator[str]:
    """Run a server that answers at once; yield where it is."""
    script, variables = HERE / "answering_server.py", {NUM_STREAMS_VARIABLE: str(NUM_STREAMS)}
    async with run_script(script, variables) as (_, port):
        yield f"127.0.0.1:{port.strip()}"


def measure_import() -> list[Row]:
    """Import the client, and what it stands on, in new processes; files are in the machine's cache."""
    seconds: dict[str, list[float]] = {"grpc": [], "idefics2_client": []}
    for _ in range(NUM_STARTS):
        for module, times in seconds.items():
            command = (sys.executable, "-c", _IMPORT.format(module=module))
            times.append(float(subprocess.check_output(command, text=True)))
    bare, ours = (statistics.median(times[1:]) for times in seconds.values())
    return [make_row("importing it, beside grpc alone", ours, "s", peer=bare, goal=Goal(below=0.3))]


def measure_calls(target: str, picture: Path) -> list[Pair]:
    """Ask about a picture in a file, with the blocking client."""
    pairs = []
    message, terms = write_message(picture)
    with Client(target, API_KEY) as client, grpc.insecure_channel(target) as channel:
        stub = GenerationServiceStub(channel)
        for _ in range(NUM_WARM_UPS + NUM_PAIRS):
            started = time.perf_counter()
            client.generate(picture, PROMPT, temperature=0, timeout_seconds=MAX_SECONDS)
            between = time.perf_counter()
            stub.Generate(message, timeout=MAX_SECONDS, metadata=terms)
            pairs.append(Pair(between - started, time.perf_counter() - between))
    return pairs[NUM_WARM_UPS:]


async def measure_asyncio_calls(target: str, picture: Path) -> list[Pair]:
    """Ask about a picture in a file, with the asyncio client."""
    pairs = []
    message, terms = write_message(picture)
    async with AsyncClient(target, API_KEY) as client, grpc.aio.insecure_channel(target) as channel:
        stub = GenerationServiceStub(channel)
        for _ in range(NUM_WARM_UPS + NUM_PAIRS):
            started = time.perf_counter()
            await client.generate(picture, PROMPT, temperature=0, timeout_seconds=MAX_SECONDS)
            between = time.perf_counter()
            await stub.Generate(message, timeout=MAX_SECONDS, metadata=terms)
            pairs.append(Pair(between - started, time.perf_counter() - between))
    return pairs[NUM_WARM_UPS:]


def write_message(picture: Path) -> tuple[GenerateRequest, tuple[tuple[str, str], ...]]:
    """Write what the client will send, and its metadata."""
    image = Image(data=picture.read_bytes())
    message = GenerateRequest(prompt=PROMPT, images=[image], temperature=0)
    return message, (("authorization", f"Key {API_KEY}"),)


async def measure_streams(target: str) -> Row:
    """Open so many streams on one channel; none ends before all are open."""
    async with AsyncClient(target, API_KEY) as client:

        async def read() -> bool:
            events = [event async for event in client.stream(b"GIF", PROMPT, timeout_seconds=MAX_SECONDS)]
            return events[-1].HasField("finished")

        ended = await asyncio.gather(*(read() for _ in range(NUM_STREAMS)), return_exceptions=True)
    num_complete = sum(end is True for end in ended)
    return make_row("streams open at a time on one channel, all read to their end", num_complete, "streams",
                    goal=Goal(above=NUM_STREAMS))  # fmt: skip


def make_call_rows(pairs: dict[str, list[Pair]]) -> list[Row]:
    """Make rows of what the client adds."""
    rows = []
    for kind, timed in pairs.items():
        added = statistics.median((pair.ours - pair.bare) * 1000 for pair in timed)
        ours = statistics.median(pair.ours * 1000 for pair in timed)
        bare = statistics.median(pair.bare * 1000 for pair in timed)
        rows.append(
            make_row(f"{kind}: a call about a picture in a file, beside a bare stub's", ours, "ms", peer=bare)
        )
        rows.append(make_row(f"{kind}: what the client adds to it", added, "ms", goal=Goal(below=1)))
    return rows


async def measure_uploads(folder: Path) -> list[Row]:
    """Upload a large file to a front that keeps it in a folder."""
    path = folder / "large.bmp"
    with path.open("wb") as file:
        file.write(b"BM")
        file.truncate(UPLOAD_BYTES)
    rows = []
    async with run_script(HERE / "front.py", {**VARIABLES, "IDEFICS2_DATA_FOLDER": str(folder)}) as (_, line):
        ready = json.loads(line)
        for kind in ("blocking", "asyncio"):
            reports = [
                await upload(kind, ready["address"], ready["api_key"], path) for _ in range(NUM_UPLOADS)
            ]
            memory = max(report["num_bytes"] for report in reports) / 1e6
            speed = UPLOAD_BYTES / 2**20 / statistics.median(report["seconds"] for report in reports)
            name = f"{kind}: uploading a file of 90 MB"
            rows.append(make_row(f"{name}, memory on top at most", memory, "MB", goal=Goal(below=32)))
            rows.append(make_row(f"{name}, its digest included", speed, "MiB/s"))
    return rows


async def upload(kind: str, *arguments: object) -> dict[str, float]:
    """Upload in a process of its own; return what that took."""
    command = (sys.executable, str(HERE / "uploading.py"), kind, *map(str, arguments))
    output = await asyncio.to_thread(subprocess.check_output, command, text=True)
    report: dict[str, float] = json.loads(output)
    return report


if __name__ == "__main__":
    sys.exit(main())

"""How many statuses one core answers over HTTP: `make bench-fal`.

The hosted endpoint's Python client asks ten times a second where its request stands: this is what a caller
who waits costs. The front has one core for itself, and who asks has the others.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import uvloop
from bench.results import Goal, Row, make_row, write
from bench.tables import render
from idefics2_service import logs
from idefics2_service.settings import LogSettings
from pictures import DESCRIBE, red_circle
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

COMMAND = "make bench-fal"
TITLE = "Statuses over HTTP"
FRONT = Path(__file__).with_name("polled_front.py")
NUM_RUNS = 5
RUN_SECONDS = 2.0
NUM_CONNECTIONS = 8
NUM_SUBMITTED = 40
"""More than the front takes ahead of the model."""
MAX_SECONDS = 170.0
STATES = ("queued", "running", "completed")


@dataclass(frozen=True)
class Front:
    """A front that somebody asks."""

    process: psutil.Process
    address: str
    api_key: str

    @property
    def cpu_seconds(self) -> float:
        """How long it has worked."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@dataclass(frozen=True)
class Rate:
    """What one run was like."""

    by_clock: float
    """Answers a second."""
    by_cpu: float
    """Answers a second that the front's core worked."""


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rates = runner.run(measure())
    rows = tuple(
        row for (state, has_logs), found in rates.items() for row in make_rows(state, has_logs, found)
    )
    print("\n" + render(write("polling", TITLE, rows)))
    return 0


async def measure() -> dict[tuple[str, int], list[Rate]]:
    """Ask about each kind of request in turns, so that what drifts drifts for all."""
    rates: dict[tuple[str, int], list[Rate]] = {}
    async with asyncio.timeout(MAX_SECONDS), run_front() as front:
        urls = await prepare_requests(front)
        for _ in range(NUM_RUNS):
            for state, has_logs in itertools.product(STATES, (0, 1)):
                rate = await measure_rate(front, f"{urls[state]}?logs={has_logs}")
                rates.setdefault((state, has_logs), []).append(rate)
    return rates


@asynccontextmanager
async def run_front() -> AsyncIterator[Front]:
    """Run a front on one core, and go to the others; let nothing of it survive the block."""
    core, *others = sorted(os.sched_getaffinity(0))
    pipe = asyncio.subprocess.PIPE
    with tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder:
        variables = {
            "IDEFICS2_DATA_FOLDER": folder,
            "IDEFICS2_GRPC_PORT": "0",
            "IDEFICS2_HTTP_PORT": "0",
            "IDEFICS2_QUEUE_MAX_RUNNING": "1",
            "IDEFICS2_LOG_LEVEL": "warning",
        }
        command = ("taskset", "--cpu-list", str(core), sys.executable, str(FRONT))
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, env={**clean_environment(), **variables}
        )
        os.sched_setaffinity(0, others or {core})
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready = json.loads(await process.stdout.readline())
            yield Front(psutil.Process(process.pid), ready["http"], ready["api_key"])
        finally:
            process.stdin.close()
            await process.wait()
            os.sched_setaffinity(0, {core, *others})


async def prepare_requests(front: Front) -> dict[str, str]:
    """Submit requests, and return the path of one in each state."""
    body = {
        "image_url": "data:image/png;base64," + base64.b64encode(red_circle()).decode(),
        "prompt": DESCRIBE,
    }
    headers = {"authorization": f"Key {front.api_key}"}
    paths = []
    async with httpx.AsyncClient(base_url=f"http://{front.address}", headers=headers, timeout=60) as client:
        for number in range(NUM_SUBMITTED):
            submitted = (await client.post("/queue/fal-ai/idefics-2-8b", json=body)).json()
            path = httpx.URL(submitted["status_url"]).path
            if number == 0:
                async with client.stream("GET", f"{path}/stream") as stream:
                    await stream.aread()  # to its end
            paths.append(path)
    return {"completed": paths[0], "running": paths[1], "queued": paths[-1]}


async def measure_rate(front: Front, path: str) -> Rate:
    """Ask about one request again and again, over several connections."""
    begin, cpu_begin = time.perf_counter(), front.cpu_seconds
    counts = await asyncio.gather(*(ask(front, path, begin + RUN_SECONDS) for _ in range(NUM_CONNECTIONS)))
    seconds, cpu_seconds = time.perf_counter() - begin, front.cpu_seconds - cpu_begin
    return Rate(sum(counts) / seconds, sum(counts) / cpu_seconds)


async def ask(front: Front, path: str, end: float) -> int:
    """Ask over one connection until `end`, as cheaply as can be; return how often."""
    host, _, port = front.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = (f"GET {path} HTTP/1.1", f"Host: {front.address}", f"Authorization: Key {front.api_key}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    count = 0
    while time.perf_counter() < end:
        writer.write(head)
        fields = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert fields.startswith((b"http/1.1 200", b"http/1.1 202")), fields
        length = fields.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        count += 1
    writer.close()
    return count


def make_rows(state: str, has_logs: int, rates: list[Rate]) -> list[Row]:
    """Make rows of the median run."""
    name = f"status of a {state} request, with{'' if has_logs else 'out'} its log"
    by_clock = statistics.median(rate.by_clock for rate in rates)
    by_cpu = statistics.median(rate.by_cpu for rate in rates)
    rows = [
        make_row(name, by_clock, "1/s", goal=Goal(above=500)),
        make_row(f"{name}, by what the front's core worked", by_cpu, "1/s"),
    ]
    return [replace(row, command=COMMAND) for row in rows]


if __name__ == "__main__":
    sys.exit(main())

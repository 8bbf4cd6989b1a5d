"""The way of a picture to the model: the front reads its header, a worker of the engine its pixels."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from harness import make_files
from idefics2_engine.config import EngineConfig
from idefics2_engine.image_workers import ImageWorkers, WorkerLimits
from idefics2_engine.images import InvalidImage, Sizing
from idefics2_service.errors import InvalidInput
from idefics2_service.requests import ImageSource
from idefics2_service.settings import LimitSettings
from pictures import red_circle
from plain import cut_plainly, decode_plainly

if TYPE_CHECKING:
    from idefics2_engine.images import Crop

PATIENCE_SECONDS = 60
LIMITS = LimitSettings()
ENGINE = EngineConfig()
SIZING = Sizing(shortest_edge=378, longest_edge=980, patch_size=14, resample=2)
"""Idefics2-8B's."""
MAX_SECONDS, MAX_BYTES = 1, 200_000_000
"""What no picture takes more of, decoded or refused: a quiet processor's time, a worker's memory."""
KNOWN = red_circle()
OVERRUN = ("takes too long", "took more than")
"""How a worker says of a file that it was given up: for its time on the processor, or by the clock."""


@dataclass(frozen=True)
class Outcome:
    """What became of a file."""

    name: str
    front: str
    """The reason of its refusal; empty: its header was read."""
    worker: str
    """The reason of its refusal; empty: it was decoded."""
    problem: str
    """What the worker says of it."""
    num_pixels: int
    """As the front read them; 0: it did not."""
    front_seconds: float
    """Of the processor."""
    worker_seconds: float
    """Of the processor, and of the clock where the worker was ended for it."""
    worker_bytes: int
    """At most, beyond what a worker has before its first picture."""


class Decoder:
    """Both halves of the way, and one worker that is watched."""

    def __init__(self, max_processor_seconds: float = ENGINE.max_image_processor_seconds) -> None:
        """Start the worker, with the limits that the engine has unless it is told otherwise."""
        limits = WorkerLimits(
            ENGINE.max_image_pixels,
            ENGINE.max_image_seconds,
            max_processor_seconds,
            ENGINE.max_image_memory_bytes,
        )
        self._files = make_files(LIMITS)
        self._others = set(psutil.Process().children())
        self._workers = ImageWorkers(1, SIZING, limits)
        self._known = cut_plainly(decode_plainly(KNOWN), SIZING, split=False)
        self.check_known()
        self._idle_bytes = self._peak_bytes()

    def close(self) -> None:
        """End the worker."""
        self._workers.close()

    async def decode(self, name: str, data: bytes) -> Outcome:
        """Let a file go its way; one that the front refuses goes on, as callers of Triton may send it."""
        front, num_pixels, front_seconds = await self._read(data)
        worker = self._worker()
        _forget_peak(worker)
        before, begun = _cpu_seconds(worker), time.monotonic()
        reason, problem = await asyncio.to_thread(self._refuse, data)
        clock_seconds = time.monotonic() - begun
        if not worker.is_running():
            self.check_known()  # by a new one
            return Outcome(name, front, reason, problem, num_pixels, front_seconds, clock_seconds, 0)
        seconds = _cpu_seconds(worker) - before
        more = self._peak_bytes() - self._idle_bytes
        return Outcome(name, front, reason, problem, num_pixels, front_seconds, seconds, more)

    def check_known(self) -> None:
        """Decode a picture that is known, and compare it."""
        for crop, known in zip(self._cut(KNOWN, split=False), self._known, strict=True):
            assert crop.grid == known.grid
            assert np.array_equal(crop.patches, known.patches)

    async def _read(self, data: bytes) -> tuple[str, int, float]:
        before = time.process_time()
        try:
            image = await self._files.resolve(
                ImageSource("images[0].data", data=data), "anna", LIMITS.max_image_bytes
            )
        except InvalidInput as error:
            return error.reason, 0, time.process_time() - before
        return "", image.width * image.height, time.process_time() - before

    def _refuse(self, data: bytes) -> tuple[str, str]:
        """Return why the worker refuses a file, if it does."""
        try:
            self._cut(data, split=True)
        except InvalidImage as error:
            return error.reason, error.problem
        return "", ""

    def _cut(self, data: bytes, *, split: bool) -> list[Crop]:
        return self._workers.submit(data, split=split, give_up=lambda: False).result(PATIENCE_SECONDS)

    def _worker(self) -> psutil.Process:
        (worker,) = (process for process in psutil.Process().children() if process not in self._others)
        return worker

    def _peak_bytes(self) -> int:
        status = Path(f"/proc/{self._worker().pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


def check(outcome: Outcome) -> None:
    """Fail unless a file was decoded, or refused by name, within what it may take."""
    assert outcome.front in {
        "",
        "FILE_EMPTY",
        "FILE_NOT_AN_IMAGE",
        "FILE_UNDECODABLE",
        "FILE_TOO_MANY_PIXELS",
    }
    assert outcome.worker in {"", "FILE_NOT_AN_IMAGE", "FILE_UNDECODABLE", "FILE_TOO_MANY_PIXELS"}, outcome
    assert "died" not in outcome.problem, outcome
    assert outcome.worker_bytes <= MAX_BYTES, outcome


def _forget_peak(process: psutil.Process) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)

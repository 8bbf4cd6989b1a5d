"""How long calls take, one at a time."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

Answer = TypeVar("Answer")


class Stopwatch:
    """Times calls by name."""

    def __init__(self) -> None:
        self.milliseconds: defaultdict[str, list[float]] = defaultdict(list)

    async def time(self, name: str, call: Awaitable[Answer]) -> Answer:
        """Wait for the answer of a call, and note how long it took."""
        started = time.perf_counter()
        answer = await call
        self.milliseconds[name].append((time.perf_counter() - started) * 1000)
        return answer


def percentile(samples: Sequence[float], percent: int) -> float:
    """Return what so many of a hundred do not exceed."""
    return statistics.quantiles(samples, n=100)[percent - 1]


def time_disk(data: bytes, count: int) -> list[float]:
    """Return the milliseconds that it takes to write `data` safely, and nothing else, so many times."""
    samples = []
    with tempfile.TemporaryFile() as file:
        for _ in range(count):
            started = time.perf_counter()
            os.write(file.fileno(), data)
            os.fdatasync(file.fileno())
            samples.append((time.perf_counter() - started) * 1000)
    return samples

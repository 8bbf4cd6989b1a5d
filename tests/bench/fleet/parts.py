"""What a cell has beside its GPUs, how much of it traffic uses, and which of it breaks first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.fleet.store import StoreTimes, count_writes
from bench.results import read

if TYPE_CHECKING:
    from bench.fleet.sizing import Cell
    from bench.fleet.traffic import Mix

WRITES_ROW = "Valkey, 100,000 queued: append, by 64 requests that run"
SUBMIT_ROW = "Valkey, 100,000 queued: submit, p50"
POLLS_ROW = "status of a running request, without its log"
S3_ROW = "upload into S3, beside the object store"
POLLS_PER_SECOND = 10
"""Of the hosted endpoint's Python client, for each request that it waits for."""
LINK_BYTES_PER_SECOND = 1.25e9
"""Of the machine that the store is on: 10 Gbit/s, assumed."""
STORE_MEMORY_BYTES = 64 * 2**30
"""Of that machine, assumed."""
KEEP_SECONDS = 86_400
"""IDEFICS2_STORE_KEEP_SECONDS."""
MOST = 0.6
"""Of what a part can do: the rest is for bursts, and for a cell that takes over another's callers."""
MIB = 2**20


@dataclass(frozen=True)
class Capacities:
    """What the parts can do, as measured by other benchmarks."""

    store_writes: float
    """A second."""
    store_answer_seconds: float
    front_polls: float
    """A second, of one front."""
    front_s3_bytes: float
    """A second, of one front."""
    kept_bytes: float
    """That the store keeps of a request that ended."""

    @property
    def store_times(self) -> StoreTimes:
        """What the simulation counts with."""
        return StoreTimes(1 / self.store_writes, self.store_answer_seconds)


@dataclass(frozen=True)
class Part:
    """One thing that may break."""

    name: str
    use: float
    """Share of what it can do."""
    is_shared: bool
    """By all GPUs of a cell: it breaks where a cell is too large, and more of it come with more cells."""


def read_capacities(kept_bytes: float) -> Capacities:
    """Read what `make bench-queue`, `bench-fal` and `bench-files` found."""
    queue, polling, files = (
        {row.name: row.value for row in read(name).rows} for name in ("queue", "polling", "files")
    )
    return Capacities(
        store_writes=queue[WRITES_ROW],
        store_answer_seconds=queue[SUBMIT_ROW] / 1000,
        front_polls=polling[POLLS_ROW],
        front_s3_bytes=files[S3_ROW] * MIB,
        kept_bytes=kept_bytes,
    )


def find_parts(cell: Cell, mix: Mix, capacities: Capacities) -> list[Part]:
    """Tell how much of each part a cell uses, the most used one first."""
    rate, num_gpus, verdict = cell.rate, cell.num_gpus, cell.verdict
    num_bytes = sum(w * picture.num_bytes for w, picture in mix.pictures) / sum(w for w, _ in mix.pictures)
    writes = 1 + count_writes(verdict.end_p50 - verdict.first_token_p50, verdict.end_p50)
    parts = [
        Part("the store's writes", rate * writes / capacities.store_writes, is_shared=True),
        Part("the store's network, each image in and out", 2 * rate * num_bytes / LINK_BYTES_PER_SECOND,
             is_shared=True),
        Part("the store's memory, a day of answers", rate * KEEP_SECONDS * capacities.kept_bytes
             / STORE_MEMORY_BYTES, is_shared=True),
        Part("a front's answers to callers who poll", cell.verdict.mean_open / num_gpus * POLLS_PER_SECOND
             / capacities.front_polls, is_shared=False),
        Part("a front's uploads into S3", rate / num_gpus * num_bytes / capacities.front_s3_bytes,
             is_shared=False),
    ]  # fmt: skip
    return sorted(parts, key=lambda part: -part.use)


def find_largest_cell(cell: Cell, mix: Mix, capacities: Capacities) -> int:
    """Return how many GPUs may share a store, by what those of one cell use."""
    shared = max(part.use for part in find_parts(cell, mix, capacities) if part.is_shared)
    return max(1, int(cell.num_gpus * MOST / shared))

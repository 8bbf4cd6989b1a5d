"""What steps learn from, written ahead of them by other processes where a GPU would wait for it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.pool import Level

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from training.batches import Batch, Seen, Writer
    from training.plan import Plan
    from training.pool import Pool

SPLIT_STEPS = 12
"""One in so many steps learns from split pictures."""
_NUM_TOGETHER = 64
"""Pictures that are looked at together."""
_AHEAD = 3
"""What each process writes before it is asked."""
_LARGEST = 8_000_000
"""Bytes, of what a step learns from or looks at."""
_SHARED = "/dev/shm"  # noqa: S108  # no file of ours: torch passes tensors through it
_PATIENCE = 300
"""Seconds, for what is written next."""


class Steps(Dataset["Batch | list[Seen]"]):
    """What each step of a plan learns from: it depends on nothing but the step."""

    def __init__(self, plan: Plan, examples: Pool, writer: Writer) -> None:
        """Take from `examples`, which `writer` writes about."""
        self._plan, self._pool, self._writer = plan, examples, writer
        self._chunks: dict[tuple[Level, int, int], list[NDArray[np.int64]]] = {}

    def __getitem__(self, step: int) -> Batch | list[Seen]:
        """Write it: a batch, or the chunks of a step that only sees."""
        lesson, number, _ = self._plan.find(step)
        rng = np.random.default_rng([self._plan.seed, 2, step])
        shows = not lesson.remembers
        if lesson.asks and number % SPLIT_STEPS == SPLIT_STEPS - 1:
            return self._writer.write_splits(rng, shows=shows)
        level, (size, num_chunks) = lesson.level, self._plan.chunks_of(lesson)
        epoch, first = divmod(number * num_chunks, self._pool.count_chunks(size, level))
        if (level, size, epoch) not in self._chunks:
            shuffle = np.random.default_rng([self._plan.seed, 1, level, epoch])
            self._chunks = {(level, size, epoch): self._pool.epoch(shuffle, size, level)}
        chosen = self._chunks[level, size, epoch][first : first + num_chunks]
        if not lesson.asks:
            return self._writer.see(chosen, rng)
        return self._writer.write(chosen, rng, shows=shows, topic=lesson.topic)


class Looks(Dataset["tuple[Tensor, Tensor]"]):
    """Every picture of a pool that is asked about once, in chunks of one size."""

    def __init__(self, seed: int, examples: Pool, writer: Writer) -> None:
        """Take from `examples`, which `writer` gathers."""
        self._seed, self._pool, self._writer = seed, examples, writer
        self._chunks = list(examples.group(_NUM_TOGETHER, Level.ALL))
        size = _NUM_TOGETHER // 5
        self._splits = [
            group[start : start + size]
            for group in examples.split_groups
            for start in range(0, len(group), size)
        ]

    def __len__(self) -> int:
        """Count the chunks."""
        return len(self._chunks) + len(self._splits)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return [num_pictures] int64, which they are, and [num_pictures, 3, height, width] uint8."""
        rng = np.random.default_rng([self._seed, 4, number])
        if number < len(self._chunks):
            chunk = self._chunks[number]
            return torch.from_numpy(chunk), self._writer.see([chunk], rng)[0].pixels
        splits = self._splits[number - len(self._chunks)]
        return torch.from_numpy(self._pool.number_crops(splits)), self._writer.see_splits(splits, rng).pixels


def count_workers() -> int:
    """Return how many processes shall write for a GPU: one a core but one, if what they write has room."""
    wanted = max(1, len(os.sched_getaffinity(0)) - 1)
    room = shutil.disk_usage(_SHARED).free // (_AHEAD * _LARGEST)
    if room < wanted:
        print(f"{_SHARED} has room for what {room} of {wanted} processes write", flush=True)  # noqa: T201
    return max(1, min(wanted, room))


def feed(source: Dataset[Any], numbers: range, workers: int) -> Iterator[Any]:
    """Yield what `source` has for each number, in their order.

    Args:
        source: what is to be written.
        numbers: of its items.
        workers: processes that begin to write at once, each with what is now in memory; 0 to write in this
            process, and only when asked.

    """
    if not workers:
        return map(source.__getitem__, numbers)
    # By name: to ask a busy process for the descriptor of each tensor takes longer than a step.
    torch.multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]
    return iter(
        DataLoader(
            source,
            batch_size=None,
            sampler=numbers,
            collate_fn=_leave,
            generator=torch.Generator(),  # or it would draw from everybody's
            multiprocessing_context="fork",  # the pool is shared, not copied
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=_AHEAD,
            timeout=_PATIENCE,
        )
    )


def _leave(item: Any) -> Any:
    return item

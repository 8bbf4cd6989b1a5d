"""What goes on around a program on its machine: other programs, and a pace that changes.

A machine of a cloud shares its cores with others that it cannot see: the same work takes half as long again
for some seconds, and then does not.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAUSE_SECONDS = 0.06
_STRETCH_SECONDS = 0.25
"""A pace is that of so long: one piece of work says little."""
_NUM_PRODUCTS = 40
_ROWS, _MATRIX = np.ones((4, 128), np.float32), np.ones((128, 384), np.float32)
"""As small as those of a decoding step, and too small for BLAS to share among threads."""


@dataclass(frozen=True)
class Surroundings:
    """What goes on around a program."""

    others: float = 0.0
    """Cores that other programs want all the time."""
    paces: Sequence[tuple[float, float]] = ()
    """From so many seconds on, work takes so many times as long as usual."""

    def relative_to(self, cost: float) -> Surroundings:
        """Return the same, of what a piece of work costs as `paces`; `cost` is the usual one."""
        return replace(self, paces=[(at, each / cost) for at, each in self.paces])


ALONE = Surroundings()


class PaceMeter:
    """Does a small piece of work again and again, and notes what it costs a core, as a context.

    Waiting for a core does not count: that is what our own programs do to each other.
    """

    def __init__(self) -> None:
        """Do nothing yet."""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._costs: list[tuple[float, float]] = []

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._is_over.set()
        self._thread.join()

    def read(self, begun: float) -> list[tuple[float, float]]:
        """Return the seconds that the work cost from each time on, in seconds since `begun`."""
        stretches: defaultdict[int, list[float]] = defaultdict(list)
        for at, cost in self._costs:
            stretches[max(0, int((at - begun) // _STRETCH_SECONDS))].append(cost)
        return [(n * _STRETCH_SECONDS, statistics.median(costs)) for n, costs in sorted(stretches.items())]

    def _run(self) -> None:
        while not self._is_over.wait(_PAUSE_SECONDS):
            at, before = time.perf_counter(), time.thread_time()
            for _ in range(_NUM_PRODUCTS):
                _ROWS @ _MATRIX  # what comes of it is of no use
            self._costs.append((at, time.thread_time() - before))


def find_usual(costs: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Return what the work of several meters usually costs."""
    return statistics.median(cost for each in costs for _, cost in each)

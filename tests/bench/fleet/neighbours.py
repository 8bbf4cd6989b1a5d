"""What other programs take of the machine's cores while something is measured."""

from __future__ import annotations

import os
import time

import psutil


class Neighbours:
    """Watches from its making on; `pids` and all that they started are not neighbours."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._begun = self._read()

    def measure(self) -> float:
        """Return the share of all cores' time that others took, 0 to 1."""
        (clock, all_, ours), (clock0, all0, ours0) = self._read(), self._begun
        others = (all_ - all0) - (ours - ours0)
        return max(0.0, others / (clock - clock0) / len(os.sched_getaffinity(0)))

    def _read(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        processes = [psutil.Process(pid) for pid in self._pids]
        family = [*processes, *(child for process in processes for child in process.children(recursive=True))]
        ours = sum(spent.user + spent.system for spent in (process.cpu_times() for process in family))
        return time.perf_counter(), times.user + times.system + times.nice + times.softirq, ours

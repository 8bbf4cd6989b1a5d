"""What other programs take of the machine's cores while something is measured."""

from __future__ import annotations

import os
import time

import psutil


class Neighbours:
    """Watches from its making on; we, `pids` and all that they started are not neighbours."""

    def __init__(self, *pids: int) -> None:
        self._pids = (os.getpid(), *pids)
        self._begun = self._read()

    def measure(self) -> float:
        """Return how many cores others had, on average: that they wanted more does not show."""
        (clock, all_, ours), (clock0, all0, ours0) = self._read(), self._begun
        return max(0.0, (all_ - all0) - (ours - ours0)) / (clock - clock0)

    def _read(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        processes = [psutil.Process(pid) for pid in self._pids]
        family = {one for process in processes for one in (process, *process.children(recursive=True))}
        ours = sum(spent.user + spent.system for spent in (process.cpu_times() for process in family))
        return time.perf_counter(), times.user + times.system + times.nice + times.softirq, ours

"""What the container that we are in may use, as the kernel tells of it."""

from __future__ import annotations

import os
from pathlib import Path

_CONTAINER = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 62
"""Bytes: what cgroup v1 says where there is none is more, and depends on the size of a page."""


def count_cores() -> int:
    """Count the cores that this process may use: a share of one counts as one.

    Where the container has a quota of time, more threads than that would use it up early in each period, and
    stand still for the rest of it.
    """
    num_cores = len(os.sched_getaffinity(0))
    quota = _read_quota()
    return min(num_cores, quota) if quota else num_cores


def _read_quota() -> int | None:
    """Return how many cores' time the container may take, rounded up; None where it has no limit.

    Source: `cpu.max` of cgroup v2, and of v1 what had its place, in the kernel's documentation.
    """
    both, quota, period = (
        _CONTAINER / name for name in ("cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
    )
    if both.exists():
        words = both.read_text().split()
    elif quota.exists():
        words = [quota.read_text().strip(), period.read_text()]
    else:
        return None
    return None if words[0] in {"max", "-1"} else -(-int(words[0]) // int(words[1]))


def read_memory() -> tuple[int, int] | None:
    """Return the bytes that cannot be given back and what the container may have; None where it has no limit.

    Source: what MemAvailable of /proc/meminfo is to a machine: files that are cached are given back before
    anybody is killed, those that were read twice (`active`), too. `memory.max` of cgroup v2, and of v1 what
    had its place, in the kernel's documentation.
    """
    if (limit := _CONTAINER / "memory.max").exists():
        used, stat, prefix = _CONTAINER / "memory.current", _CONTAINER / "memory.stat", ""
    elif (limit := _CONTAINER / "memory/memory.limit_in_bytes").exists():
        old = _CONTAINER / "memory"
        used, stat, prefix = old / "memory.usage_in_bytes", old / "memory.stat", "total_"
    else:
        return None
    if (most := limit.read_text().strip()) == "max" or int(most) >= _NO_LIMIT:
        return None
    lines = dict(line.split() for line in stat.read_text().splitlines())
    cached = sum(int(lines[f"{prefix}{kind}_file"]) for kind in ("inactive", "active"))
    return max(0, int(used.read_text()) - cached), int(most)

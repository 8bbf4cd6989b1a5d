"""What the process lives on, for those who look after it: tasks, disk, memory, certificates."""

from __future__ import annotations

import asyncio
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from idefics2_service.lookout import keep_looking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from idefics2_service.metrics import Metrics
    from idefics2_service.tls import Certificates

_LOOK_SECONDS = 5.0
_CONTAINER = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 62
"""Bytes: what cgroup v1 says where there is none is more, and depends on the size of a page."""


def watch(metrics: Metrics, certificates: Mapping[str, Certificates]) -> None:
    """Let `metrics` show, each time that they are read, what there is.

    Args:
        metrics: where it is shown.
        certificates: by port.

    """
    metrics.tasks.set_function(_count_tasks)
    metrics.memory_limit_bytes.set(_find_memory_limit())
    for port, pair in certificates.items():
        metrics.certificates_current.labels(port).set_function(_tell_current(pair))
        metrics.certificate_expires.labels(port).set_function(_tell_end(pair))


class Disk:
    """What room there is for the service's own files, as it was last seen: to ask may take for ever."""

    def __init__(self, folder: Path, metrics: Metrics) -> None:
        """Show in `metrics` what there is where `folder` is or will be."""
        self._folder = folder
        self._metrics = metrics
        self._show(math.nan, math.nan)

    def follow(self) -> AbstractContextManager[None]:
        """Look again and again, until the end of the context."""
        return keep_looking(self.look, _LOOK_SECONDS)

    def look(self) -> None:
        """Look now; blocks, for as long as the disk does. Of one that fails nothing is known."""
        try:
            self._show(*_read_disk(self._folder))
        except OSError:
            self._show(math.nan, math.nan)

    def _show(self, free_bytes: float, size_bytes: float) -> None:
        self._metrics.data_free_bytes.set(free_bytes)
        self._metrics.data_size_bytes.set(size_bytes)


def _count_tasks() -> int:
    """Count the tasks of the event loop that asks, where one does."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


def _tell_current(pair: Certificates) -> Callable[[], float]:
    return lambda: pair.is_current


def _tell_end(pair: Certificates) -> Callable[[], float]:
    return lambda: pair.expires_at


def _read_disk(folder: Path) -> tuple[float, float]:
    """Return the bytes that are free and all there are, where `folder` is or will be."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(there)
    return usage.free, usage.total


def _find_memory_limit() -> int:
    """Return the bytes of the container, or of the machine where the container has no limit.

    Source: `memory.max` of cgroup v2, and of v1 what had its place, in the kernel's documentation.
    """
    for limit in (_CONTAINER / "memory.max", _CONTAINER / "memory/memory.limit_in_bytes"):
        if limit.exists() and (most := limit.read_text().strip()) != "max" and int(most) < _NO_LIMIT:
            return int(most)
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemTotal"].split()[0]) * 1024

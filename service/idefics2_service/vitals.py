"""What the process lives on, for those who look after it: tasks, disk, memory, certificates."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from idefics2_service.metrics import Metrics
    from idefics2_service.tls import Certificates


def watch(metrics: Metrics, folder: Path, certificates: Mapping[str, Certificates]) -> None:
    """Let `metrics` show, each time that they are read, what there is.

    Args:
        metrics: where it is shown.
        folder: of the service's own files.
        certificates: by port.

    """
    metrics.tasks.set_function(_count_tasks)
    metrics.data_free_bytes.set_function(lambda: _read_disk(folder)[0])
    metrics.data_size_bytes.set_function(lambda: _read_disk(folder)[1])
    metrics.memory_limit_bytes.set(_find_memory_limit())
    for port, pair in certificates.items():
        metrics.certificates_current.labels(port).set_function(_tell_current(pair))
        metrics.certificate_expires.labels(port).set_function(_tell_end(pair))


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
    """Return the bytes of the container, or of the machine where the container has no limit."""
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        return int(most)
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemTotal"].split()[0]) * 1024

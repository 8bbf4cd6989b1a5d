"""What the programs hold at a moment: memory, descriptors, threads, tasks, rows, files, shared memory."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import httpx
import psutil
from load.soak.record import (
    FILES,
    LATE_FILES,
    LATE_ROWS,
    REGION_SIZES,
    REGIONS,
    ROWS,
    TASKS,
    TEMPORARY,
    Held,
    Sample,
)
from processes import PATIENCE_SECONDS, SHARED_MEMORY, program_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import Started

_ROLES = {
    "idefics2_service.triton.guard": "guard",
    "idefics2_engine.engine_program": "engine",
    "idefics2_engine.image_worker": "image workers",
}
"""By the module that a Python process runs."""
_ANONYMOUS = {"RssAnon:", "VmSwap:"}
_TASKS_METRIC = "idefics2_tasks "
_OTHER_TABLES = ("payloads", "ends", "events", "deliveries")
_ALL_ROWS = " UNION ALL ".join(f"SELECT 1 FROM {table}" for table in ("requests", *_OTHER_TABLES))  # noqa: S608  # our own names
_LATE_ROWS = " UNION ALL ".join(
    (
        "SELECT 1 FROM requests WHERE expires_at < ?",
        *(f"SELECT 1 FROM {table} WHERE seq NOT IN (SELECT seq FROM requests)" for table in _OTHER_TABLES),  # noqa: S608  # as above
    )
)
"""Those whose time is over, and those whose request is forgotten."""
_BUSY_MILLISECONDS = 10_000
_TIDY_SECONDS = 90.0
"""How long after its time what is over may still be there: files are looked at once a minute."""


class Sampler:
    """Looks at a running service from outside."""

    def __init__(self, started: Started, folder: Path, keep_seconds: float) -> None:
        """Look at a service whose files are in `folder`, and which keeps requests and files for so long."""
        self._started = started
        self._folder = folder
        self._keep_seconds = keep_seconds
        self._client = httpx.Client(timeout=PATIENCE_SECONDS)

    def look(self, at: float) -> Sample:
        """Return what is held now; takes some milliseconds of the programs' time."""
        files = list(_find_times(self._folder / "files"))
        oldest = time.time() - self._keep_seconds - _TIDY_SECONDS
        num_rows, num_late_rows = self._count_rows()
        regions = self._measure_regions()
        counts = {
            TASKS: self._count_tasks(),
            ROWS: num_rows,
            LATE_ROWS: num_late_rows,
            FILES: len(files),
            LATE_FILES: sum(modified_at < oldest for modified_at in files),
            TEMPORARY: len(self._started.service.leftovers()) - len(regions),
            REGIONS: len(regions),
            REGION_SIZES: sum(regions),
        }
        return Sample(at, self._measure(), counts)

    def close(self) -> None:
        """Let go of the service."""
        self._client.close()

    def _measure(self) -> dict[str, Held]:
        found: dict[str, list[Held]] = defaultdict(list)
        service = self._started.service
        for process in (psutil.Process(service.process.pid), *service.tree()):
            try:
                role = "front" if process.pid == service.process.pid else _find_role(process)
                held = Held(_read_memory(process.pid), process.num_fds(), process.num_threads())
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue
            found[role].append(held)
        return {role: _add(processes) for role, processes in found.items()}

    def _measure_regions(self) -> list[int]:
        """Return what each region of shared memory takes, in KiB."""
        sizes = []
        for name in self._started.service.shared_memory():
            with suppress(FileNotFoundError):
                sizes.append((SHARED_MEMORY / name).stat().st_blocks // 2)
        return sizes

    def _count_tasks(self) -> int:
        text = self._client.get(f"http://{self._started.ready.http}/metrics").text
        (line,) = (line for line in text.splitlines() if line.startswith(_TASKS_METRIC))
        return int(float(line.removeprefix(_TASKS_METRIC)))

    def _count_rows(self) -> tuple[int, int]:
        """Return how many there are, and how many of them should be gone."""
        path = str(self._folder / "requests.sqlite")
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(_BUSY_MILLISECONDS)
        try:
            num_rows = len(connection.execute(_ALL_ROWS).fetchall())
            late = connection.execute(_LATE_ROWS, (time.time() - _TIDY_SECONDS,)).fetchall()
            return num_rows, len(late)
        finally:
            connection.close()


def _find_times(folder: Path) -> Iterator[float]:
    """Yield when each file was written; those that go meanwhile are left out."""
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                yield Path(place, name).stat().st_mtime


def _read_memory(pid: int) -> float:
    """Return the anonymous memory of a process, where it is swapped out, too."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(words[1]) for words in lines if words[0] in _ANONYMOUS) / 1024


def _find_role(process: psutil.Process) -> str:
    words = process.cmdline()
    return next((role for module, role in _ROLES.items() if module in words), program_name(process))


def _add(processes: list[Held]) -> Held:
    memory, descriptors, threads = (sum(column) for column in zip(*processes, strict=True))
    return Held(memory, int(descriptors), int(threads))

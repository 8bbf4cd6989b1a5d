"""What the programs hold at a moment: memory, descriptors, threads, tasks, rows, files, shared memory."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import apsw
import httpx
import psutil
from processes import SHARED_MEMORY, program_name

if TYPE_CHECKING:
    from processes import Started

_ROLES = {
    "idefics2_service.triton.guard": "guard",
    "idefics2_engine.engine_program": "engine",
    "idefics2_engine.image_worker": "image workers",
}
"""By the module that a Python process runs."""
_ANONYMOUS = {"RssAnon:", "VmSwap:"}
_TASKS = "idefics2_tasks "
_TABLES = ("requests", "payloads", "ends", "events", "deliveries")
_COUNTS = [f"SELECT count(*) FROM {table}" for table in _TABLES]  # noqa: S608  # our own names


class Held(NamedTuple):
    """What processes of one role hold together."""

    memory: float
    """MiB that no file stands behind: what is mapped from files comes and goes with other processes."""
    descriptors: int
    threads: int


class Sample(NamedTuple):
    """All of a moment."""

    at: float
    """Seconds since the first request."""
    roles: dict[str, Held]
    counts: dict[str, int]
    """asyncio's tasks, rows of the store, files that were uploaded, shared memory."""


class Sampler:
    """Looks at a running service from outside."""

    def __init__(self, started: Started, folder: Path) -> None:
        """Look at a service whose files are in `folder`."""
        self._started = started
        self._folder = folder
        self._client = httpx.Client()

    def look(self, at: float) -> Sample:
        """Return what is held now; takes some milliseconds of the programs' time."""
        regions = [SHARED_MEMORY / name for name in self._started.service.shared_memory()]
        counts = {
            "asyncio tasks": self._count_tasks(),
            "rows in the store": self._count_rows(),
            "uploaded files and their parts": sum(
                path.is_file() for path in (self._folder / "files").rglob("*")
            ),
            "regions of shared memory": len(regions),
            "KiB of shared memory": sum(region.stat().st_blocks for region in regions) // 2,
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

    def _count_tasks(self) -> int:
        text = self._client.get(f"http://{self._started.ready.http}/metrics").text
        (line,) = (line for line in text.splitlines() if line.startswith(_TASKS))
        return int(float(line.removeprefix(_TASKS)))

    def _count_rows(self) -> int:
        path = str(self._folder / "requests.sqlite")
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            counts = (connection.execute(query).fetchall()[0][0] for query in _COUNTS)
            return sum(int(str(number)) for number in counts)
        finally:
            connection.close()


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

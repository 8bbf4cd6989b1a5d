"""What a benchmark found: rows of figures, and the machine and the commit that they belong to."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil

COMMAND = "make bench"
FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One figure; `peer` is what it is compared with, measured in the same run."""

    name: str
    value: float
    unit: str
    """Of `value` and `peer`."""
    peer: float | None
    ratio: float | None
    """Ours by the peer's."""
    goal: str | None
    """For a reader: `< 20 s`."""
    goal_met: bool | None
    command: str
    """Measures it again."""


@dataclass(frozen=True)
class Machine:
    """Where it was measured; nothing here tells which machine it was."""

    cpu: str
    num_cores: int
    memory_gib: int
    os: str
    python: str
    torch: str


@dataclass(frozen=True)
class Results:
    """One run of one benchmark."""

    title: str
    """What was measured, for a reader."""
    machine: Machine
    commit: str
    """Ends in `-dirty` where files differed from it."""
    date: str
    """Of the end of the run, ISO 8601, UTC."""
    rows: tuple[Row, ...]


def make_row(name: str, value: float, unit: str, *, bound: float | None = None, **sides: float) -> Row:
    """Make a row; `bound` is what the value shall stay below, `sides` may be its peer and ratio."""
    rounded = {side: round(figure, 3) for side, figure in sides.items()}
    return Row(
        name=name,
        value=round(value, 3),
        unit=unit,
        peer=rounded.get("peer"),
        ratio=rounded.get("ratio"),
        goal=None if bound is None else f"< {bound:g} {unit}",
        goal_met=None if bound is None else value < bound,
        command=COMMAND,
    )


def write(name: str, title: str, rows: tuple[Row, ...]) -> Results:
    """Keep `rows` as results/<name>.json, with the machine and the commit of now."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    results = Results(title, _describe_machine(), _find_commit(), date, rows)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(asdict(results), indent=2) + "\n")
    return results


def read(name: str) -> Results:
    """Read what `write` kept."""
    kept = json.loads((FOLDER / f"{name}.json").read_text())
    machine, rows = Machine(**kept["machine"]), tuple(Row(**row) for row in kept["rows"])
    return Results(kept["title"], machine, kept["commit"], kept["date"], rows)


def find_names() -> list[str]:
    """Return the names of all results that are kept."""
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def _describe_machine() -> Machine:
    return Machine(
        cpu=_find_cpu(),
        num_cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        os=platform.freedesktop_os_release()["PRETTY_NAME"],
        python=platform.python_version(),
        torch=metadata.version("torch"),
    )


def _find_cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    # Arm's has no such line.
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def _find_commit() -> str:
    command = ("git", "describe", "--always", "--dirty", "--exclude=*")
    return subprocess.check_output(command, cwd=FOLDER.parent, text=True).strip()

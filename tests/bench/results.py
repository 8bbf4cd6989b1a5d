"""What a benchmark found: rows of figures, and the machine and the commit that they belong to."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = "make bench"
FOLDER = Path(__file__).parent / "results"
_MEASURED_TOO = FOLDER.parent / "fleet/profiles"
"""What the simulated fleet is made of."""


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
    spread: tuple[float, float] | None = None
    """The least and the largest ratio of pairs, of which `ratio` is the median."""


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
    """Ends in `-dirty` where files differed from it, other than those that are measured."""
    date: str
    """Of the end of the run, ISO 8601, UTC."""
    rows: tuple[Row, ...]
    how: str = "Measured"
    """Or `Simulated`: what stands before the machine."""


@dataclass(frozen=True)
class Goal:
    """What a figure shall be: a bound of its own, or one of its ratio to the peer's."""

    below: float | None = None
    above: float | None = None
    most_ratio: float | None = None
    least_ratio: float | None = None
    within: float | None = None
    """How far the ratio may be from 1, up or down."""

    def describe(self, unit: str) -> str | None:
        """Say it to a reader; None where there is no goal."""
        if self.below is not None:
            return f"< {self.below:g} {unit}"
        if self.above is not None:
            return f">= {self.above:g} {unit}"
        if self.most_ratio is not None:
            return f"<= {self.most_ratio:g} x"
        if self.within is not None:
            return f"{1 - self.within:g} to {1 + self.within:g} x"
        return None if self.least_ratio is None else f">= {self.least_ratio:g} x"

    def is_met(self, value: float, ratio: float | None) -> bool | None:
        """Tell whether it is reached; None where there is no goal."""
        if self.below is not None:
            return value < self.below
        if self.above is not None:
            return value >= self.above
        if ratio is not None and self.most_ratio is not None:
            return ratio <= self.most_ratio
        if ratio is not None and self.within is not None:
            return abs(ratio - 1) <= self.within
        return None if ratio is None or self.least_ratio is None else ratio >= self.least_ratio


NO_GOAL = Goal()


def make_row(name: str, value: float, unit: str, *, peer: float | None = None, goal: Goal = NO_GOAL) -> Row:
    """Make a row; `peer` is the other side's value."""
    ratio = None if peer is None else value / peer
    return Row(
        name=name,
        value=round(value, 3),
        unit=unit,
        peer=None if peer is None else round(peer, 3),
        ratio=None if ratio is None else round(ratio, 3),
        goal=goal.describe(unit),
        goal_met=goal.is_met(value, ratio),
        command=COMMAND,
    )


def gather(title: str, rows: tuple[Row, ...], how: str = "Measured") -> Results:
    """Put the machine and the commit of now to `rows`."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Results(title, _describe_machine(), _find_commit(), date, rows, how)


def make_pairs_row(name: str, pairs: Sequence[tuple[float, float]], unit: str, goal: Goal = NO_GOAL) -> Row:
    """Make a row of values and peers that were measured in pairs: medians, also of the ratios."""
    values, peers = zip(*pairs, strict=True)
    ratios = [value / peer for value, peer in pairs]
    ratio = statistics.median(ratios)
    row = make_row(name, statistics.median(values), unit, peer=statistics.median(peers), goal=goal)
    spread = (round(min(ratios), 3), round(max(ratios), 3))
    return replace(row, ratio=round(ratio, 3), goal_met=goal.is_met(row.value, ratio), spread=spread)


def write(name: str, title: str, rows: tuple[Row, ...], how: str = "Measured") -> Results:
    """Keep `rows` as results/<name>.json, with the machine and the commit of now."""
    results = gather(title, rows, how)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(asdict(results), indent=2) + "\n")
    return results


def read(name: str) -> Results:
    """Read what `write` kept."""
    kept = json.loads((FOLDER / f"{name}.json").read_text())
    machine, rows = Machine(**kept["machine"]), tuple(Row(**row) for row in kept["rows"])
    how = kept.get("how", "Measured")
    return Results(kept["title"], machine, kept["commit"], kept["date"], rows, how)


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
    if told := os.environ.get("BENCH_COMMIT"):  # where the tree came without git
        return told
    root = FOLDER.parents[2]
    commit = _ask_git(root, "rev-parse", "--short", "HEAD")
    # But for what is measured: of several benchmarks in a row, each changes some.
    others = [f":(exclude){folder.relative_to(root)}" for folder in (FOLDER, _MEASURED_TOO)]
    is_dirty = _ask_git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *others)
    return f"{commit}-dirty" if is_dirty else commit


def _ask_git(root: Path, *command: str) -> str:
    return subprocess.check_output(("git", *command), cwd=root, text=True).strip()

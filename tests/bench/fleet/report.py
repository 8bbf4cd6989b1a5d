"""The figures of fleets of 1, 10, 100 and 1,000 GPUs, and of a day."""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.fleet.days import Day, live_through
from bench.fleet.judge import judge
from bench.fleet.mixes import MIXES
from bench.fleet.parts import MOST, find_largest_cell, find_parts
from bench.fleet.sizing import Cell, Setting, Wish, find_rate, try_out
from bench.results import Goal, Row, make_row

if TYPE_CHECKING:
    from bench.fleet.fleet import Run
    from bench.fleet.parts import Capacities
    from bench.fleet.profile import Profile

COMMAND = "make bench-fleet"
SIZED = "documents"
WISHES = {"documents": Wish(15.0), "photos": Wish(5.0), "catalogue": Wish(5.0)}
SIZES = (1, 2, 4)
"""Cells that are simulated of each mix."""
FLEETS = (100, 1_000)
OTHER_SEEDS = (2, 3, 4)
DAY = Day(low=0.3, peak=13.0, max_gpus=8)
NAMES = {"documents": "scanned pages", "photos": "photographs", "catalogue": "repeated pictures"}
ROOM = Goal(below=100 * MOST)


@dataclass(frozen=True)
class Sized:
    """What was found of one mix."""

    mix: str
    cells: list[Cell]
    largest: Cell | None = None
    """As many GPUs as may share a store."""
    redrawn: tuple[Cell, ...] = ()
    """The same with other seeds."""


def size_mix(name: str, profile: Profile, capacities: Capacities) -> Sized:
    """Find what cells of a few sizes bear; of one mix, what the largest bears."""
    setting, wish = Setting(profile, MIXES[name], capacities.store_times), WISHES[name]
    cells = [find_rate(setting, 1, wish)]
    for num_gpus in (*SIZES[1:], *((10,) if name == SIZED else ())):
        cells.append(find_rate(setting, num_gpus, wish, cells[-1].rate / cells[-1].num_gpus))
    if name != SIZED:
        return Sized(name, cells)
    most = find_largest_cell(cells[-1], setting.mix, capacities)
    largest = find_rate(setting, most, wish, cells[-1].rate / cells[-1].num_gpus)
    redrawn = tuple(try_out(replace(setting, seed=seed), most, largest.rate) for seed in OTHER_SEEDS)
    return Sized(name, cells, largest, redrawn)


def live_a_day(profile: Profile, capacities: Capacities) -> Run:
    """Simulate a day of the mix that fleets are sized for."""
    return live_through(Setting(profile, MIXES[SIZED], capacities.store_times), DAY)


def simulate_all(profile: Profile, capacities: Capacities) -> tuple[dict[str, Sized], Run]:
    """Simulate everything, in as many processes as there are cores."""
    with ProcessPoolExecutor() as processes:
        day = processes.submit(live_a_day, profile, capacities)
        sized = {name: processes.submit(size_mix, name, profile, capacities) for name in MIXES}
        return {name: found.result() for name, found in sized.items()}, day.result()


def make_rows(sized: dict[str, Sized], day: Run, capacities: Capacities) -> list[Row]:
    """Make rows of fleets of growing size, then of the day."""
    main = sized[SIZED]
    one, ten = main.cells[0], main.cells[-1]
    assert main.largest is not None
    rows = [row for cell in (one, ten) for row in _make_cell_rows(_name(cell.num_gpus), cell, capacities)]
    for num_gpus in FLEETS:
        rows += _make_fleet_rows(num_gpus, main.largest, capacities)
    worst = max(cell.verdict.end_p99 for cell in main.redrawn)
    name = f"{main.largest.num_gpus} GPUs, the same load drawn anew {len(OTHER_SEEDS)} times"
    rows.append(make_row(f"{name}: p99 of the answer, worst", worst, "s"))
    rows += [
        make_row(f"1 GPU, {NAMES[mix]}: requests a second at a p99 of {WISHES[mix].p99_seconds:g} s",
                 found.cells[0].rate, "requests/s")
        for mix, found in sized.items() if mix != SIZED
    ]  # fmt: skip
    return [replace(row, command=COMMAND) for row in [*rows, *_make_day_rows(day)]]


def _make_cell_rows(name: str, cell: Cell, capacities: Capacities) -> list[Row]:
    first = find_parts(cell, MIXES[SIZED], capacities)[0]
    wish = f"{NAMES[SIZED]}: requests a second at a p99 of {WISHES[SIZED].p99_seconds:g} s"
    return [
        make_row(f"{name}, {wish}", cell.rate, "requests/s"),
        make_row(f"{name}: GPU hours for 1,000 requests", 1000 / 3600 * cell.num_gpus / cell.rate, "hours"),
        make_row(f"{name}: in use of what breaks first, {first.name}", 100 * first.use, "%", goal=ROOM),
    ]


def _make_fleet_rows(num_gpus: int, largest: Cell, capacities: Capacities) -> list[Row]:
    """Make rows of many GPUs: in one cell, as if it bore them; then in cells that do."""
    in_one = largest.stretch(num_gpus)
    parts = [part for part in find_parts(in_one, MIXES[SIZED], capacities) if part.is_shared]
    rows = [
        make_row(f"{_name(num_gpus)} in one cell: in use of {part.name}", 100 * part.use, "%", goal=ROOM)
        for part in parts if 100 * part.use >= 100 * MOST
    ]  # fmt: skip
    num_cells = math.ceil(num_gpus / largest.num_gpus)
    name = f"{_name(num_gpus)} in {num_cells} cells of up to {math.ceil(num_gpus / num_cells)}"
    whole = make_row(f"{name}, {NAMES[SIZED]}: requests a second at a p99 of {WISHES[SIZED].p99_seconds:g} s",
                     in_one.rate, "requests/s")  # fmt: skip
    cell = largest.stretch(math.ceil(num_gpus / num_cells))
    first = find_parts(cell, MIXES[SIZED], capacities)[0]
    use = make_row(f"{name}: in use of what breaks first, {first.name}", 100 * first.use, "%", goal=ROOM)
    return [*rows, whole, use]


def _make_day_rows(day: Run) -> list[Row]:
    verdict = judge(day)
    load = f"a day of {NAMES[SIZED]}, {DAY.low:g} to {DAY.peak:g} a second"
    name = f"{load}, up to {DAY.max_gpus} GPUs by queue age"
    waited = sum(sample.queue_age > 10 for sample in day.samples) / len(day.samples)
    return [
        make_row(f"{name}: requests", verdict.num_ended, "requests"),
        make_row(f"{name}, a GPU lost and a rollout: without an end", len(day.jobs) - verdict.num_ended,
                 "requests", goal=Goal(below=1)),
        make_row(f"{name}: p50 of the answer", verdict.end_p50, "s"),
        make_row(f"{name}: p99 of the answer", verdict.end_p99, "s"),
        make_row(f"{name}: share of it in which the first in line had waited over 10 s", 100 * waited, "%"),
        make_row(f"{name}: GPU hours, beside all of them all day", day.gpu_seconds / 3600, "hours",
                 peer=DAY.max_gpus * day.seconds / 3600),
    ]  # fmt: skip


def _name(num_gpus: int) -> str:
    return f"{num_gpus:,} GPU" + "s" * (num_gpus > 1)

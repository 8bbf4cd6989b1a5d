"""How many GPUs for this traffic, and how much traffic for these GPUs, at a p99."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.fleet.fleet import Fleet
from bench.fleet.judge import Verdict, judge
from bench.fleet.traffic import draw_traffic, steady

if TYPE_CHECKING:
    from bench.fleet.profile import Profile
    from bench.fleet.store import StoreTimes
    from bench.fleet.traffic import Mix

WARM_UP_SECONDS = 30.0
MIN_SECONDS, MIN_REQUESTS = 120.0, 1_500
"""Of one GPU; a p99 of fewer is chance."""
PRECISION = 0.03
FIRST_GUESS = 4.0
"""Requests a second of a GPU, where the search begins."""
STRIDE, LEAST = 1.25, 0.05
"""How far the search goes at a time, and the share of the guess that is next to nothing to do."""
Moment = Literal["first-token", "end"]


class CannotBeKept(Exception):
    """However many GPUs there are."""


@dataclass(frozen=True)
class Wish:
    """What callers are promised."""

    p99_seconds: float
    moment: Moment = "end"
    """Until what: the first token or the end of the answer."""

    def is_kept(self, verdict: Verdict) -> bool:
        """Whether it was."""
        value = verdict.end_p99 if self.moment == "end" else verdict.first_token_p99
        return value <= self.p99_seconds


@dataclass(frozen=True)
class Setting:
    """What is sized."""

    profile: Profile
    mix: Mix
    store_times: StoreTimes
    seed: int = 1


@dataclass(frozen=True)
class Cell:
    """GPUs that share a store, under a load that they can bear."""

    num_gpus: int
    rate: float
    """Requests a second."""
    verdict: Verdict

    def stretch(self, num_gpus: int) -> Cell:
        """Imagine more GPUs, each with as much to do, and nothing that is in their way."""
        factor = num_gpus / self.num_gpus
        verdict = dataclasses.replace(self.verdict, mean_open=self.verdict.mean_open * factor)
        return Cell(num_gpus, self.rate * factor, verdict)


def try_out(setting: Setting, num_gpus: int, rate: float) -> Cell:
    """Simulate one cell under a steady load."""
    seconds = WARM_UP_SECONDS + max(MIN_SECONDS / math.sqrt(num_gpus), MIN_REQUESTS / rate)
    asks = draw_traffic(steady(rate), setting.mix, seconds, setting.seed)
    fleet = Fleet(setting.profile, setting.store_times, setting.seed)
    for _ in range(num_gpus):
        fleet.add()
    return Cell(num_gpus, rate, judge(fleet.go(asks), WARM_UP_SECONDS))


def find_rate(setting: Setting, num_gpus: int, wish: Wish, guess: float = FIRST_GUESS) -> Cell:
    """Find the most requests a second for which a cell keeps the wish; `guess` is of one GPU.

    Raises:
        CannotBeKept: an idle GPU does not either.

    """
    kept, broken = _find_bounds(setting, num_gpus, wish, guess * num_gpus)
    while broken - kept.rate > PRECISION * broken:
        cell = try_out(setting, num_gpus, (kept.rate + broken) / 2)
        if wish.is_kept(cell.verdict):
            kept = cell
        else:
            broken = cell.rate
    return kept


def _find_bounds(setting: Setting, num_gpus: int, wish: Wish, guess: float) -> tuple[Cell, float]:
    """Return a cell that keeps the wish, and a rate not far above it at which it does not."""
    cell = try_out(setting, num_gpus, guess)
    if wish.is_kept(cell.verdict):
        while wish.is_kept((above := try_out(setting, num_gpus, cell.rate * STRIDE)).verdict):
            cell = above
        return cell, above.rate
    if not wish.is_kept(try_out(setting, num_gpus, guess * LEAST).verdict):
        raise CannotBeKept(f"the answers themselves take longer than {wish.p99_seconds:g} s")
    while not wish.is_kept((below := try_out(setting, num_gpus, cell.rate / STRIDE)).verdict):
        cell = below
    return below, cell.rate


def find_gpus(setting: Setting, rate: float, wish: Wish, max_cell: int) -> tuple[int, Cell]:
    """Find the fewest GPUs that keep the wish; return in how many cells they are, and one of these.

    Raises:
        CannotBeKept: however many there are.

    """
    num_cells = math.ceil(rate / (find_rate(setting, 1, wish).rate * max_cell))
    while (cell := _find_cell(setting, rate / num_cells, wish, max_cell)) is None:
        num_cells += 1
    return num_cells, cell


def _find_cell(setting: Setting, rate: float, wish: Wish, max_cell: int) -> Cell | None:
    """Return the smallest cell that keeps the wish; None if not even the largest does."""
    low, high, best = 1, max_cell + 1, None
    while low < high:
        cell = try_out(setting, (low + high) // 2, rate)
        if wish.is_kept(cell.verdict):
            high, best = cell.num_gpus, cell
        else:
            low = cell.num_gpus + 1
    return best

"""A day of a fleet: traffic that comes and goes, an autoscaler, a GPU that is lost and a rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.fleet.autoscaler import Autoscaler, read_rules
from bench.fleet.fleet import Fleet
from bench.fleet.rollout import lose_gpu, roll_out
from bench.fleet.traffic import DAY_SECONDS, diurnal, draw_traffic

if TYPE_CHECKING:
    from bench.fleet.fleet import Run
    from bench.fleet.sizing import Setting

HOUR_SECONDS = 3600.0
LOSS_AT = 11 * HOUR_SECONDS
ROLLOUT_AT = 17 * HOUR_SECONDS
REPAIR_SECONDS = 900.0
"""Until another node has the GPU and the weights."""


@dataclass(frozen=True)
class Day:
    """What comes, and how much there is for it."""

    low: float
    peak: float
    """Requests a second."""
    max_gpus: int
    sharpness: int = 8
    seconds: float = DAY_SECONDS


def live_through(setting: Setting, day: Day) -> Run:
    """Simulate a day, from the fewest replicas on."""
    fleet = Fleet(setting.profile, setting.store_times, setting.seed)
    rules = read_rules(most=day.max_gpus)
    for _ in range(rules.least):
        fleet.add()
    start_seconds = setting.profile.start_seconds
    Autoscaler(fleet, rules, start_seconds)
    share = day.seconds / DAY_SECONDS
    fleet.clock.process(lose_gpu(fleet, LOSS_AT * share, REPAIR_SECONDS))
    fleet.clock.process(roll_out(fleet, ROLLOUT_AT * share, start_seconds))
    pattern = diurnal(day.low, day.peak, day.seconds, day.sharpness)
    return fleet.go(draw_traffic(pattern, setting.mix, day.seconds, setting.seed), day.seconds)

"""The simulation beside the real service: this machine, the embedded checkpoint, the same arrivals.

Each load runs several times, all of them in turns, and each time is a pair: what the real service did, and
what the simulation makes of the requests as they were really sent. On a noisy machine their ratios differ.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

import uvloop
from bench.backlog import TEXT, Backlog
from bench.fleet.calibration import FITTED, find_error, fit
from bench.fleet.callers import run_callers
from bench.fleet.loads import make_calibration_loads, make_checked_loads, make_warm_up_loads
from bench.fleet.profile import ProfileFile, read_profile
from bench.fleet.trials import find_percentile, simulate, try_all
from bench.results import Goal, Row, make_pairs_row, make_row
from bench.stores import prepare_place
from idefics2_service.events import Finished
from redis import Redis
from store.submissions import claim, make_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.fleet.profile import Profile
    from bench.fleet.trials import Observed, Trial
    from bench.stores import Place
    from idefics2_service.store.interface import RequestStore

FIRST, TINY = "tiny_guess", "tiny"
COMMAND = "make bench-fleet"
NUM_ROUNDS = 5
NUM_ENDED = 500
NUM_APPENDS = 5
ANSWER = "x" * 400
"""As long as a hundred tokens."""
CLOSE = Goal(within=0.15)
QUIET = Goal(below=5)
SHOWN = (
    ("rate", "answers", 1, "1/s"),
    ("first_p50", "first token, p50", 1000, "ms"),
    ("end_p50", "answer, p50", 1000, "ms"),
)
"""Figures of a load, what they are called, and their unit."""


def try_service() -> list[Trial]:
    """Run all loads on the real service."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_try_service())


async def _try_service() -> list[Trial]:
    async with run_callers() as callers:
        await try_all(callers, make_warm_up_loads(), 1)
        return await try_all(callers, [*make_calibration_loads(), *make_checked_loads()], NUM_ROUNDS)


def calibrate(trials: Sequence[Trial]) -> Profile:
    """Fit a profile to what the real service did, from a first guess on, and keep it."""
    before = read_profile(FIRST)
    profile = fit(before.profile, _pick_calibration(trials))
    fitted = {"token_points", *(figure for figure in FITTED if isinstance(figure, str))}
    sources = {**before.sources, **dict.fromkeys(fitted, "fitted to the real service: make bench-fleet")}
    ProfileFile(before.title, is_measured=True, profile=profile, sources=sources).write(TINY)
    return profile


def make_check_rows(profile: Profile, trials: Sequence[Trial]) -> list[Row]:
    """Make rows of each load that the profile was not fitted to, and of how far the machine was ours."""
    others = statistics.mean(trial.around.others for trial in trials) / len(os.sched_getaffinity(0))
    slowest = max(pace for trial in trials for _, pace in trial.around.paces)
    left = find_error(profile, _pick_calibration(trials))
    rows = [
        make_row("cores' time that other programs took meanwhile", 100 * others, "%", goal=QUIET),
        make_row("the machine's slowest quarter of a second, beside its usual ones", slowest, "x"),
        make_row("how late the load generator was at worst", 1000 * max(t.latest for t in trials), "ms"),
        make_row("what the fit leaves of the loads it was made from, typically", 100 * left, "%"),
    ]
    for load in make_checked_loads():
        rows += _make_load_rows(profile, [trial for trial in trials if trial.load == load.name])
    return [by_command(row) for row in rows]


def _make_load_rows(profile: Profile, trials: Sequence[Trial]) -> list[Row]:
    pairs = [(simulate(profile, trial), trial.observed) for trial in trials]
    named = f"{trials[0].load}: {{}}, simulated beside measured"
    rows = [
        make_pairs_row(
            named.format(title),
            [(factor * getattr(here, name), factor * getattr(there, name)) for here, there in pairs],
            unit,
            CLOSE,
        )
        for name, title, factor, unit in SHOWN
    ]
    # Of one run, a p99 is the second or third longest answer: chance.
    here, there = _find_p99(here for here, _ in pairs), _find_p99(there for _, there in pairs)
    name = named.format("answer, p99 of all runs")
    return [*rows, make_row(name, here, "ms", peer=there, goal=CLOSE)]


def _find_p99(runs: Iterable[Observed]) -> float:
    """Return the milliseconds of the 99th percentile of all answers."""
    return 1000 * find_percentile([seconds for run in runs for seconds in run.to_end], 99)


def _pick_calibration(trials: Sequence[Trial]) -> list[Trial]:
    names = {load.name for load in make_calibration_loads()}
    return [trial for trial in trials if trial.load in names]


def by_command(row: Row) -> Row:
    """Say how to measure a figure again."""
    return replace(row, command=COMMAND)


def measure_kept_bytes() -> float:
    """Return what Valkey keeps in memory of a request that ended."""
    with prepare_place("valkey") as place, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure_kept_bytes(place))


async def _measure_kept_bytes(place: Place) -> float:
    backlog = Backlog()
    async with place.open_store() as store:
        with Redis.from_url(place.url) as server:
            await _end_many(store, backlog)  # what is there once for all is there then
            before = server.info("memory")["used_memory"]
            await _end_many(store, backlog)
            return float(server.info("memory")["used_memory"] - before) / NUM_ENDED


async def _end_many(store: RequestStore, backlog: Backlog) -> None:
    for _ in range(NUM_ENDED):
        await store.submit(backlog.add())
        claimed = await claim(store)
        await store.append(claimed, claimed.last_sequence, (TEXT,) * NUM_APPENDS)
        after = claimed.last_sequence + NUM_APPENDS
        await store.finish(claimed, after, (), Finished(make_output(ANSWER)))

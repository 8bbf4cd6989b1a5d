"""The simulation beside the real service: this machine, the embedded checkpoint, the same arrivals."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import uvloop
from bench.backlog import TEXT, Backlog
from bench.fleet.calibration import FITTED, find_error, fit, measure, simulate
from bench.fleet.callers import run_callers
from bench.fleet.loads import make_calibration_loads, make_checked_loads, make_warm_up_loads
from bench.fleet.neighbours import Neighbours
from bench.fleet.profile import ProfileFile, read_profile
from bench.results import Goal, Row, make_row
from bench.stores import prepare_place
from idefics2_service.events import Finished
from redis import Redis
from store.submissions import claim, make_output

if TYPE_CHECKING:
    from bench.fleet.calibration import Observed
    from bench.fleet.profile import Profile
    from bench.stores import Place
    from idefics2_service.store.interface import RequestStore

FIRST, TINY = "tiny_guess", "tiny"
COMMAND = "make bench-fleet"
NUM_ROUNDS = 3
NUM_ENDED = 500
NUM_APPENDS = 5
ANSWER = "x" * 400
"""As long as a hundred tokens."""
CLOSE = Goal(within=0.15)
QUIET = Goal(below=5)


@dataclass(frozen=True)
class Measured:
    """What the real service did."""

    loads: dict[str, Observed]
    neighbours: float
    """Share of the cores' time that others took meanwhile."""


def measure_service() -> Measured:
    """Run all loads on the real service."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure_service())


async def _measure_service() -> Measured:
    async with run_callers() as callers:
        await measure(callers, make_warm_up_loads(), 1)
        neighbours = Neighbours(os.getpid(), callers.pid)
        loads = await measure(callers, [*make_calibration_loads(), *make_checked_loads()], NUM_ROUNDS)
        return Measured(loads, neighbours.measure())


def calibrate(measured: Measured) -> Profile:
    """Fit a profile to what was measured, from a first guess on, and keep it."""
    before = read_profile(FIRST)
    profile = fit(before.profile, measured.loads, make_calibration_loads())
    fitted = {"token_points", *(figure for figure in FITTED if isinstance(figure, str))}
    sources = {**before.sources, **dict.fromkeys(fitted, "fitted to the real service: make bench-fleet")}
    ProfileFile(before.title, is_measured=True, profile=profile, sources=sources).write(TINY)
    return profile


def make_check_rows(profile: Profile, measured: Measured) -> list[Row]:
    """Make rows of each load: the simulation beside the real service."""
    others = make_row(
        "cores' time that other programs took meanwhile", 100 * measured.neighbours, "%", goal=QUIET
    )
    left = find_error(profile, measured.loads, make_calibration_loads())
    rows = [
        others,
        make_row("what the fit leaves of the loads it was made from, typically", 100 * left**0.5, "%"),
    ]
    for load in make_checked_loads():
        here, there = simulate(profile, load), measured.loads[load.name]
        rows.append(make_row(f"{load.name}: simulated beside measured, answers", here.rate, "1/s",
                             peer=there.rate, goal=CLOSE))  # fmt: skip
        for what, value, peer in (
            ("first token, p50", here.first_p50, there.first_p50),
            ("answer, p50", here.end_p50, there.end_p50),
            ("answer, p99", here.end_p99, there.end_p99),
        ):
            rows.append(make_row(f"{load.name}: {what}", 1000 * value, "ms", peer=1000 * peer, goal=CLOSE))
    return [by_command(row) for row in rows]


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

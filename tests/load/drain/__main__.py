"""The long run: `make test-drain`, or `ROUNDS=20 make test-drain`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import NO_GOAL, Goal, Row, make_row, write
from bench.tables import render
from load.drain.judge import MOST_END_SECONDS, judge
from load.drain.trial import Plan, run_trial

if TYPE_CHECKING:
    from load.drain.judge import Verdict

TITLE = "What callers feel of a rolling restart"
COMMAND = "make test-drain"
RATE, DELAY_SECONDS, DRAIN_SECONDS = 15.0, 2.0, 5.0
MOST_TOLD_MILLISECONDS = 500.0
_WAYS = {
    "envoy": "through Envoy, which asks for health",
    "health": "in turns, by clients who ask for health",
    "client": "in turns, by clients who do not",
    "submitted": "submitted and watched, by those who ask for health",
}
_NONE = Goal(below=1)


def main() -> int:
    """Restart all fronts for some rounds, keep the figures, show them; 1 where a promise was broken."""
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each front is restarted")
    plan = Plan(parser.parse_args().rounds, RATE, DELAY_SECONDS, DRAIN_SECONDS)
    with tempfile.TemporaryDirectory(prefix="idefics2-drain-") as folder:
        verdict = judge(asyncio.run(run_trial(plan, Path(folder))))
    for fault in verdict.faults:
        _say(fault)
    _say("\n" + render(write("drain", TITLE, make_rows(plan, verdict))))
    return 1 if verdict.faults else 0


def make_rows(plan: Plan, verdict: Verdict) -> tuple[Row, ...]:
    """Write the figures; both sides of a call are on one machine."""
    load = f"{plan.num_rounds * plan.num_fronts} restarts of {plan.num_fronts} fronts in turns"
    most_told = Goal(below=MOST_TOLD_MILLISECONDS)
    return (
        _row(f"{load}: load meanwhile", verdict.rate, "calls/s"),
        *(_row(f"{load}: calls {how}", verdict.num_calls.get(way, 0), "calls") for way, how in _WAYS.items()),
        _row(
            f"{load}: calls cut by a closing port, of clients who do not ask for health",
            verdict.num_cut,
            "calls",
        ),
        _row(f"{load}: calls that failed, and other broken promises", len(verdict.faults), "of them", _NONE),
        _row(
            f"{load}: requests that were handed back, and run elsewhere", verdict.num_handed_back, "requests"
        ),
        _row(
            f"{load}: watches that went on elsewhere, without gap or repeat", verdict.num_resumed, "watches"
        ),
        _row("SIGTERM, until health says NOT_SERVING (worst)", 1000 * verdict.told_seconds, "ms", most_told),
        _row("SIGTERM, until `/healthz/ready` is 503 (worst)", 1000 * verdict.ready_seconds, "ms", most_told),
        _row(
            f"SIGTERM, until the process is gone, of {plan.delay_seconds:g} s for balancers and "
            f"{plan.drain_seconds:g} s for calls (worst)",
            verdict.end_seconds,
            "s",
            Goal(below=MOST_END_SECONDS),
        ),
    )


def _row(name: str, value: float, unit: str, goal: Goal = NO_GOAL) -> Row:
    return replace(make_row(name, value, unit, goal=goal), command=COMMAND)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a command prints


if __name__ == "__main__":
    sys.exit(main())

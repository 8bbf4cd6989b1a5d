"""The long run: `make test-faults`, or `SEEDS=100 make test-faults`."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import write
from bench.tables import render
from faults.requests.caller import connect
from faults.requests.cluster import ENGINES, LEASE_SECONDS, run_cluster
from faults.requests.judge import judge
from faults.requests.queued import fill
from faults.requests.recoveries import (
    measure_cancel,
    measure_cancel_elsewhere,
    measure_restart,
    measure_store_return,
    measure_takeover,
)
from faults.requests.report import HEAD, make_engine_rows, make_recovery_rows, render_line
from faults.requests.trial import LEAST_RATE, Plan, run_trial
from faults.requests.triton import HOLD
from idefics2.v1 import generation_pb2

if TYPE_CHECKING:
    from bench.results import Row
    from faults.requests.judge import Verdict

TITLE = "What killed processes do to submitted requests"
QUIET_SECONDS = 120.0
NUM, NUM_QUEUED = 3, 10_000
FRONT, TRITON = "a dead front's request runs elsewhere", "a dead Triton's request runs elsewhere"
RESTART = f"a killed front with {NUM_QUEUED:,} queued serves again"
RETURN, CANCEL = "submits are taken again once a killed Valkey is back", "the model hears of a cancel"
ELSEWHERE = f"{CANCEL} at another front, over Valkey"
GOALS = {
    FRONT: LEASE_SECONDS + 1,
    TRITON: LEASE_SECONDS + 1,
    RETURN: 2.0,
    ELSEWHERE: 0.05,
    CANCEL: 0.05,
    RESTART: 2.0,
}


def main() -> int:
    """Run all trials, keep the figures, show them; 1 where a promise was broken or a trial shows nothing."""
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = _parse_arguments()
    _say(HEAD)
    rows: list[Row] = []
    is_good = True
    for engine in arguments.engines:
        verdicts = [_try(engine, seed, arguments.seconds) for seed in range(1, arguments.seeds + 1)]
        is_good &= all(verdict.is_valid and not verdict.faults for verdict in verdicts)
        rows += make_engine_rows(engine, verdicts, LEAST_RATE)
    rows += make_recovery_rows(asyncio.run(_measure()), GOALS)
    _say("\n" + render(write("faults", TITLE, tuple(rows))))
    return 0 if is_good else 1


def _try(engine: str, seed: int, seconds: float) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="idefics2-faults-") as folder:
        plan = Plan(engine, seed, seconds, QUIET_SECONDS)
        verdict = judge(asyncio.run(run_trial(plan, Path(folder))))
    _say(render_line(engine, seed, verdict))
    for fault in verdict.faults:
        _say(f"    {fault.kind.value}: {fault.where}: {fault.what}")
    return verdict


async def _measure() -> dict[str, list[float]]:
    """Strike one thing at a time, NUM times each."""
    seconds: dict[str, list[float]] = defaultdict(list)
    dice = random.Random(0)  # noqa: S311  # no secret
    with tempfile.TemporaryDirectory(prefix="idefics2-faults-") as folder:
        async with (
            run_cluster("valkey", Path(folder), 2) as cluster,
            connect(cluster.addresses, dice) as caller,
        ):
            assert cluster.store is not None
            for number in range(NUM):
                seconds[FRONT].append(await measure_takeover(cluster, caller, "front", number))
                seconds[TRITON].append(await measure_takeover(cluster, caller, "triton", number))
                seconds[RETURN].append(await measure_store_return(cluster.store, caller, f"return-{number}"))
                seconds[ELSEWHERE].append(await measure_cancel_elsewhere(cluster, caller, f"far-{number}"))
    with tempfile.TemporaryDirectory(prefix="idefics2-faults-") as folder:
        async with run_cluster("sqlite", Path(folder)) as cluster, connect(cluster.addresses, dice) as caller:
            for number in range(NUM):
                held = (f"cancel-{number}", HOLD, generation_pb2.STAGE_DECODE)
                seconds[CANCEL].append(await measure_cancel(cluster.fronts[0], caller, *held))
    with tempfile.TemporaryDirectory(prefix="idefics2-faults-") as folder:
        await fill(Path(folder, "data0"), NUM_QUEUED)
        async with run_cluster("sqlite", Path(folder)) as cluster:
            for _ in range(NUM):
                seconds[RESTART].append(await measure_restart(cluster.fronts[0]))
    return seconds


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="trials of each engine")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each of them strikes")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a command prints


if __name__ == "__main__":
    sys.exit(main())

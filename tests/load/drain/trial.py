"""One trial: every front of a cluster is ended and begun again, some rounds, under steady load."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faults.requests.cluster import run_cluster
from load.drain.envoy import run_envoy
from load.drain.record import Record
from load.drain.restarts import restart, wait_until_called
from load.drain.traffic import Traffic
from load.drain.ways import PATIENCE_SECONDS, open_ways

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from faults.requests.cluster import Cluster, Front


@dataclass(frozen=True)
class Plan:
    """What a trial does."""

    num_rounds: int
    rate: float
    """Calls a second."""
    delay_seconds: float
    """How long a front that ends still takes calls; Envoy asks for its health more often."""
    drain_seconds: float
    """How long what it runs may go on after that."""
    num_fronts: int = 2


async def run_trial(plan: Plan, folder: Path, blobs: Mapping[str, str] | None = None) -> Record:
    """Run two fronts and more on one Valkey; return what callers saw.

    Args:
        plan: What happens.
        folder: Of their files.
        blobs: Variables that lead to where uploaded files are kept; None: in a directory that they share.

    """
    record = Record()
    variables = {
        **({"IDEFICS2_DATA_FOLDER": str(folder / "data")} if blobs is None else blobs),
        "IDEFICS2_GRPC_DRAIN_DELAY_SECONDS": str(plan.delay_seconds),
        "IDEFICS2_GRPC_DRAIN_TIMEOUT_SECONDS": str(plan.drain_seconds),
    }
    async with (
        run_cluster("valkey", folder, plan.num_fronts, **variables) as cluster,
        run_envoy(cluster, folder) as envoy,
        open_ways(envoy, cluster.addresses) as ways,
    ):
        names = [way.name for way in ways]
        async with Traffic(ways, record, plan.rate) as traffic:
            for front in cluster.fronts:
                await _wait(front, names)
            for number in range(plan.num_rounds):
                async with traffic.holding(number):
                    await _restart_all(cluster, traffic, record, names)
        record.crashes = [program.name for program in cluster.programs for _ in range(program.crashes)]
    return record


async def _restart_all(cluster: Cluster, traffic: Traffic, record: Record, ways: list[str]) -> None:
    """One after the other, each once the one before is called again."""
    for front in cluster.fronts:
        record.restarts.append(await restart(front, traffic.clock))
        await front.front.wait_until_up()
        await _wait(front, ways)


async def _wait(front: Front, names: list[str]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await wait_until_called(front, names)

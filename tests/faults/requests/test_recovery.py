"""One fault at a time. `make test-faults` measures how fast each is made good; here nothing may hang."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from faults.requests.caller import connect
from faults.requests.client import Client, Wish
from faults.requests.cluster import LEASE_SECONDS, run_cluster
from faults.requests.judge import judge
from faults.requests.queued import fill
from faults.requests.record import Record
from faults.requests.recoveries import (
    measure_cancel_elsewhere,
    measure_restart,
    measure_store_return,
    measure_takeover,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from faults.requests.caller import Caller
    from faults.requests.cluster import Cluster

MAX_SECONDS = LEASE_SECONDS + 10
"""Of a machine that does much else; the promise is a second more than the lease."""
NUM_QUEUED = 10_000
DICE = random.Random(0)  # noqa: S311  # no secret


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Two fronts on one Valkey."""
    async with run_cluster("valkey", tmp_path_factory.mktemp("cluster"), num_fronts=2) as running:
        yield running


@pytest.fixture(scope="module")
async def caller(cluster: Cluster) -> AsyncIterator[Caller]:
    """Somebody who calls either front."""
    async with connect(cluster.addresses, DICE) as caller:
        yield caller


@pytest.mark.parametrize("victim", ["front", "triton"])
async def test_what_a_dead_process_ran_is_run_elsewhere(
    cluster: Cluster, caller: Caller, victim: str
) -> None:
    assert await measure_takeover(cluster, caller, victim) < MAX_SECONDS


async def test_a_cancel_at_one_front_reaches_the_model_of_the_other(cluster: Cluster, caller: Caller) -> None:
    assert await measure_cancel_elsewhere(cluster, caller, "cancelled-elsewhere") < MAX_SECONDS


async def test_while_the_store_is_away_nothing_is_taken_and_then_all_goes_on(
    cluster: Cluster, caller: Caller
) -> None:
    assert cluster.store is not None
    before = Client(1, caller, asyncio.get_running_loop().time, Wish())
    await before.live()
    assert await measure_store_return(cluster.store, caller, "after") < MAX_SECONDS
    await before.look()
    assert not judge(Record(1.0, 0.0, [before.story])).faults
    assert [event.HasField("finished") async for event in caller.watch("after")][-1]


async def test_a_front_with_ten_thousand_queued_is_soon_back_and_watchers_go_on(tmp_path: Path) -> None:
    await fill(tmp_path / "data0", NUM_QUEUED)
    async with run_cluster("sqlite", tmp_path) as cluster, connect(cluster.addresses, DICE) as caller:
        watching = [asyncio.create_task(_watch(caller, number)) for number in range(0, 200, 10)]
        await watching[0]
        assert await measure_restart(cluster.fronts[0]) < MAX_SECONDS
        async with asyncio.timeout(60):
            seen = await asyncio.gather(*watching)
    for numbers in seen:
        assert numbers == list(range(1, len(numbers) + 1))


async def _watch(caller: Caller, number: int) -> list[int]:
    """Watch one of those that wait; return the sequences of its events."""
    return [event.sequence async for event in caller.watch(f"queued-{number}")]

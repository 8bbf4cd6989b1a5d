"""One front of a cluster is ended and begun again, and what it says meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import httpx
from faults.requests.journal import read_notes
from grpc_health.v1 import health_pb2, health_pb2_grpc
from load.drain.record import Restart

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from faults.requests.cluster import Front

_READY = 200
_LOOK_SECONDS = 0.05


async def restart(front: Front, clock: Callable[[], float]) -> Restart:
    """End it while it is called; return what was seen, once it is gone."""
    async with grpc.aio.insecure_channel(front.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        await _hear(watch, health_pb2.HealthCheckResponse.SERVING)
        at, started = clock(), time.monotonic()
        ending = asyncio.create_task(front.front.end())
        told, (status, ready), _ = await asyncio.gather(
            _time(_hear(watch, health_pb2.HealthCheckResponse.NOT_SERVING), started),
            _time(_look_until_unready(front), started),
            ending,
        )
        return Restart(at, told[1], status, ready, time.monotonic() - started, ending.result())


async def _time(work: Any, started: float) -> tuple[Any, float]:
    return await work, time.monotonic() - started


async def _hear(watch: Any, status: int) -> None:
    """Read the answers of a watch until one is `status`."""
    while (await watch.read()).status != status:
        pass


async def _look_until_unready(front: Front) -> int:
    """Return the first status of its readiness that is not 200; 0 where nobody answers."""
    async with httpx.AsyncClient() as client:
        while True:
            try:
                response = await client.get(f"http://{front.http}/healthz/ready")
            except httpx.TransportError:
                return 0
            if response.status_code != _READY:
                return response.status_code


async def wait_until_called(front: Front, ways: Collection[str]) -> None:
    """Return when a front that was just begun is called by all ways again."""
    num_known = len(read_notes(front.journal))
    missing = set(ways)
    while missing:
        notes = read_notes(front.journal)[num_known:]
        missing -= {note.request_id.partition("-")[0] for note in notes}
        await asyncio.sleep(_LOOK_SECONDS)

"""How fast the service gets over a killed model, and how fast it ends: `make bench`.

Both happen in the middle of an answer, several times; a bound must hold each time, so the worst counts.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from bench.calls import FrontCalls
from bench.programs import run_service
from bench.results import Goal, Row, make_row, write
from bench.tables import render
from grpc_health.v1 import health_pb2, health_pb2_grpc
from processes import patience, wait_until_gone

if TYPE_CHECKING:
    from processes import Service

TITLE = "What a killed model and Ctrl-C cost"
NUM = 5
MAX_SECONDS = 170.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class WrongEnd(Exception):
    """An answer did not end as it should."""


@dataclass(frozen=True)
class Recovery:
    """Seconds from the end of the model's process to what is seen of it."""

    told: float
    """The caller in mid-answer gets UNAVAILABLE."""
    not_serving: float
    """The health service says NOT_SERVING."""
    answering: float
    """Generate has answered truly, called as soon as the health service says SERVING."""


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    recoveries, stops = asyncio.run(measure())
    print("\n" + render(write("recovery", TITLE, make_rows(recoveries, stops))))
    return 0


async def measure() -> tuple[list[Recovery], list[float]]:
    """Kill the model NUM times, always under one and the same service; start and stop NUM services."""
    async with asyncio.timeout(MAX_SECONDS):
        return await measure_recoveries(), await measure_stops()


async def measure_recoveries() -> list[Recovery]:
    """Kill the model again and again; return what was seen each time."""
    recoveries = []
    async with run_service() as started, grpc.aio.insecure_channel(started.ready.grpc) as channel:
        front, health = FrontCalls(channel, started.ready.api_key), watch_health(channel)
        await wait_for(SERVING, health)
        for number in range(NUM):
            recoveries.append(await recover(started.service, front, health))
            print(f"kill {number + 1}: {recoveries[-1]}", flush=True)
    return recoveries


async def measure_stops() -> list[float]:
    """Start and interrupt again and again; return the seconds that each end took."""
    stops = []
    for number in range(NUM):
        async with run_service() as started, grpc.aio.insecure_channel(started.ready.grpc) as channel:
            call = await FrontCalls(channel, started.ready.api_key).begin_endless()
            # Somebody goes on reading: a call that nobody holds would be cancelled.
            _, seconds = await asyncio.gather(read_to_end(call), asyncio.to_thread(stop, started.service))
        stops.append(seconds)
        print(f"stop {number + 1}: {seconds:.2f} s", flush=True)
    return stops


async def recover(service: Service, front: FrontCalls, health: Any) -> Recovery:
    """Kill the model in the middle of an answer; return when the service answers again.

    Raises:
        WrongEnd: the caller was told something else than UNAVAILABLE.

    """
    call, stub = await front.begin_endless(), service.stub()
    kill_time = time.perf_counter()

    async def be_told() -> float:
        code = await read_to_end(call)
        if code is not grpc.StatusCode.UNAVAILABLE:
            raise WrongEnd(f"the answer of the killed model ended with {code.name}")
        return time.perf_counter() - kill_time

    async def see_it_lost() -> float:
        await wait_for(NOT_SERVING, health)
        return time.perf_counter() - kill_time

    stub.kill()
    told, not_serving = await asyncio.gather(be_told(), see_it_lost())
    await wait_for(SERVING, health)
    await front.answer()
    return Recovery(told, not_serving, time.perf_counter() - kill_time)


def stop(service: Service) -> float:
    """Send Ctrl-C; return the seconds until none of its processes and no shared memory is left."""
    tree = service.tree()
    interrupt_time = time.perf_counter()
    status = service.stop()
    wait_until_gone(tree)
    for _ in patience("shared memory to be given back"):
        if not service.shared_memory():
            break
    seconds = time.perf_counter() - interrupt_time
    assert status == 0, service.log.read_text()
    return seconds


def watch_health(channel: grpc.aio.Channel) -> Any:
    """Begin to read the health of everything."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest())


async def wait_for(status: int, health: Any) -> None:
    """Read the health until it is `status`."""
    while (await health.read()).status != status:
        pass


async def read_to_end(call: Any) -> grpc.StatusCode:
    """Read an answer until it ends or fails; return the status."""
    try:
        while await call.read():
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def make_rows(recoveries: list[Recovery], stops: list[float]) -> tuple[Row, ...]:
    """Make the worst of what was measured."""
    told = max(recovery.told for recovery in recoveries)
    not_serving = max(recovery.not_serving for recovery in recoveries)
    answering = max(recovery.answering for recovery in recoveries)
    worst = f"(worst of {NUM})"
    return (
        make_row(f"the caller is told of a killed model {worst}", told, "s", goal=Goal(below=5)),
        make_row(f"health says NOT_SERVING after it {worst}", not_serving, "s", goal=Goal(below=5)),
        make_row(f"the service answers again by itself {worst}", answering, "s", goal=Goal(below=15)),
        make_row(f"Ctrl-C in mid-answer until nothing is left {worst}", max(stops), "s", goal=Goal(below=10)),
    )


if __name__ == "__main__":
    sys.exit(main())

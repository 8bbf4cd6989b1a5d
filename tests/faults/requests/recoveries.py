"""How long it takes until what was struck is made good, each one fault at a time."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Literal

import grpc
from faults.requests.caller import connect, make_submission, reason_of
from faults.requests.journal import read_notes, wait_for_note
from faults.requests.triton import HOLD
from grpc_health.v1 import health_pb2, health_pb2_grpc
from idefics2.v1 import error_reason_pb2, generation_pb2, requests_pb2
from processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from faults.requests.caller import Caller
    from faults.requests.cluster import Cluster, Front
    from faults.requests.programs import Program

Event = generation_pb2.Event
_Field = Literal["attempt_started", "stage_entered", "text_delta", "finished"]


_IMPATIENT = tuple((f"grpc.{name}_reconnect_backoff_ms", 20) for name in ("initial", "min", "max"))


async def measure_takeover(cluster: Cluster, caller: Caller, victim: str, number: int = 0) -> float:
    """Kill the front or the Triton of a request that is being answered; return the seconds until it runs.

    Args:
        cluster: All of it up, and so again at the end.
        caller: Calls its fronts.
        victim: `front` or `triton`.
        number: Tells requests apart, where this is done several times.

    """
    request_id = f"taken-over-from-{victim}-{number}"
    await caller.submit(request_id, f"{HOLD}{request_id}")
    events = caller.watch(request_id)
    await find(events, "text_delta")
    struck: Program = getattr(_whose(cluster, request_id), victim)
    started = time.monotonic()
    await struck.kill()
    while (await find(events, "attempt_started")).attempt_started.attempt != 2:
        pass
    await find(events, "text_delta")
    seconds = time.monotonic() - started
    await cancel(caller, request_id)
    await find(events, "finished")
    await cluster.wait_until_up()
    return seconds


def _whose(cluster: Cluster, request_id: str) -> Front:
    """Find whose Triton was asked."""
    (front,) = (
        front
        for front in cluster.fronts
        if request_id in {note.request_id for note in read_notes(front.journal)}
    )
    return front


async def measure_cancel(
    front: Front, caller: Caller, request_id: str, prompt: str, stage: generation_pb2.Stage.ValueType
) -> float:
    """Cancel a request in a stage; return the seconds until its model, which is `front`'s, hears of it."""
    await caller.submit(request_id, prompt)
    events = caller.watch(request_id)
    while (await find(events, "stage_entered")).stage_entered.stage != stage:
        pass
    return await _time_cancel(front, caller, request_id, events)


async def measure_cancel_elsewhere(cluster: Cluster, caller: Caller, request_id: str) -> float:
    """Cancel a request at a front that does not run it; return the seconds until its model hears of it."""
    await caller.submit(request_id, f"{HOLD}{request_id}")
    events = caller.watch(request_id)
    await find(events, "text_delta")
    runs = _whose(cluster, request_id)
    others = [front.address for front in cluster.fronts if front is not runs]
    async with connect(others, random.Random(0)) as elsewhere:  # noqa: S311  # no secret
        message = requests_pb2.GetRequestRequest(request_id=request_id)
        await elsewhere.call("GetRequest", message)  # to be connected is not what is measured
        return await _time_cancel(runs, elsewhere, request_id, events)


async def _time_cancel(front: Front, caller: Caller, request_id: str, events: AsyncIterator[Event]) -> float:
    """Cancel what `front` runs by `caller`; return the seconds until the front's model hears of it."""
    started = time.monotonic()
    await cancel(caller, request_id)
    assert (await find(events, "finished")).finished.failure.reason == error_reason_pb2.REQUEST_CANCELLED
    note = await asyncio.to_thread(wait_for_note, front.journal, "cancelled", request_id)
    return note.time - started


async def cancel(caller: Caller, request_id: str) -> requests_pb2.Request:
    """Cancel a request."""
    message = requests_pb2.CancelRequestRequest(request_id=request_id)
    answer: requests_pb2.Request = await caller.call("CancelRequest", message)
    return answer


async def find(events: AsyncIterator[Event], field: _Field) -> Event:
    """Read events until one has `field`."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in events:
            if event.HasField(field):
                return event
    raise AssertionError(f"no {field} came")


async def measure_store_return(store: Program, caller: Caller, request_id: str) -> float:
    """Kill the store's server for a while; return the seconds from its return to a submit that is taken.

    Whoever calls meanwhile must be refused.
    """
    await store.kill(forever=True)
    submission = make_submission(request_id, "question of a lost store")
    for method, message in (
        ("Submit", submission),
        ("GetRequest", requests_pb2.GetRequestRequest(request_id=request_id)),
    ):
        code, reason = await refusal_of(caller, method, message)
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    store.resume()
    await store.wait_until_up()
    started = time.monotonic()
    await caller.call("Submit", submission)
    return time.monotonic() - started


async def refusal_of(caller: Caller, method: str, message: Any) -> tuple[grpc.StatusCode, str]:
    """Return code and reason with which a front refuses."""
    try:
        answer = await caller.call_once(method, message)
    except grpc.aio.AioRpcError as error:
        return error.code(), reason_of(error)
    raise AssertionError(f"{method} was answered with {answer}")


async def measure_restart(front: Front) -> float:
    """Kill a front; return the seconds from its successor's start until that says that it serves."""
    await front.front.kill(forever=True)
    front.front.resume()
    started = time.monotonic()
    async with (
        grpc.aio.insecure_channel(front.address, options=_IMPATIENT) as channel,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        async for answer in stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                break
    return time.monotonic() - started

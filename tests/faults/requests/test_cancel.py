"""A cancel reaches whatever is on its way; what has not begun never does."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from fakes.slow_host import SlowHost, run_slow_host
from faults.requests.caller import connect, make_submission
from faults.requests.cluster import Front, run_cluster
from faults.requests.journal import read_notes
from faults.requests.recoveries import cancel, measure_cancel
from faults.requests.triton import HOLD, HOLD_PREFILL
from idefics2.v1 import generation_pb2, requests_pb2
from ports import HOST
from processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from faults.requests.caller import Caller

MAX_SECONDS = 5.0
"""Of a machine that does much else; `make test-faults` measures."""
NUM_AHEAD = 16
"""How many a front claims before the model begins with them."""


@pytest.fixture(scope="module")
async def slow_host() -> AsyncIterator[SlowHost]:
    """A host of a picture that does not come."""
    async with run_slow_host() as host:
        yield host


@pytest.fixture(scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory, slow_host: SlowHost) -> AsyncIterator[Front]:
    """A front with one turn on its model, which may fetch from the slow host."""
    async with run_cluster(
        "sqlite",
        tmp_path_factory.mktemp("cancel"),
        IDEFICS2_QUEUE_MAX_RUNNING="1",
        IDEFICS2_FETCH_ALLOWED_NETWORKS=HOST,
        IDEFICS2_FETCH_PORTS=str(slow_host.port),
    ) as cluster:
        yield cluster.fronts[0]


@pytest.fixture
async def caller(front: Front) -> AsyncIterator[Caller]:
    """Somebody who submits and cancels."""
    async with connect([front.address], random.Random(0)) as caller:  # noqa: S311  # no secret
        yield caller


async def wait_for_stage(caller: Caller, request_id: str, stage: generation_pb2.Stage.ValueType) -> None:
    """Return when a request enters a stage."""
    async for event in caller.watch(request_id):
        if event.stage_entered.stage == stage:
            return


async def read_end(caller: Caller, request_id: str) -> Any:
    """Watch a request to its end."""
    return [event async for event in caller.watch(request_id)][-1].finished


@pytest.mark.parametrize(
    ("prompt", "stage"),
    [(HOLD_PREFILL, generation_pb2.STAGE_PREFILL), (HOLD, generation_pb2.STAGE_DECODE)],
)
async def test_the_model_hears_soon_of_a_cancel(
    front: Front, caller: Caller, prompt: str, stage: generation_pb2.Stage.ValueType
) -> None:
    assert await measure_cancel(front, caller, f"in-stage-{stage}", prompt, stage) < MAX_SECONDS


async def test_a_request_whose_image_is_being_fetched_is_cancelled_and_never_begins(
    front: Front, caller: Caller, slow_host: SlowHost
) -> None:
    submission = make_submission("fetches", "question")
    submission.input.images[0].url = slow_host.url
    await caller.call("Submit", submission)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await slow_host.is_asked.wait()
        await cancel(caller, "fetches")
        await slow_host.is_left.wait()
    assert (await read_end(caller, "fetches")).failure.message == "the request was cancelled"
    assert "fetches" not in {note.request_id for note in read_notes(front.journal)}


async def test_what_waits_never_begins_once_it_is_cancelled(front: Front, caller: Caller) -> None:
    await caller.submit("holds", HOLD)
    await wait_for_stage(caller, "holds", generation_pb2.STAGE_DECODE)
    names = [f"waits-{number}" for number in range(NUM_AHEAD + 1)]
    for name in names:
        await caller.submit(name, "waits")
    claimed, queued = names[0], names[-1]
    await wait_for_stage(caller, claimed, generation_pb2.STAGE_QUEUED)
    assert (await cancel(caller, queued)).state == requests_pb2.STATE_CANCELLED
    await cancel(caller, claimed)
    assert (await read_end(caller, claimed)).failure.message == "the request was cancelled"
    await cancel(caller, "holds")
    for name in names[1:-1]:
        assert (await read_end(caller, name)).HasField("response")
    begun = {note.request_id for note in read_notes(front.journal) if note.what == "begun"}
    assert not begun & {claimed, queued}


async def test_a_cancel_at_any_moment_leaves_room_for_the_next(caller: Caller) -> None:
    dice = random.Random(0)  # noqa: S311  # no secret
    for number in range(20):
        await caller.submit(f"any-{number}", HOLD)
        await asyncio.sleep(dice.uniform(0, 0.05))  # the moment is what is tried
        await cancel(caller, f"any-{number}")
        assert (await read_end(caller, f"any-{number}")).failure.message == "the request was cancelled"
    await caller.submit("next", "question")
    assert (await read_end(caller, "next")).HasField("response")

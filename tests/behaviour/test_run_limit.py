"""No request takes longer than it may from its turn on the model, however it was asked, in every store."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from faces.face import Failure, ask, ask_without_end, read, refusal_of
from faces.rest import read_events
from faces.web import BODY, QUEUE, RUN, Web
from fakes.script import Answer
from harness import MakeSettings, red_circle_answer, run_on_fake_triton
from idefics2_service.events import AttemptStarted
from idefics2_service.requests import State
from pictures import RED_CIRCLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from faces.face import Face
    from harness import Harness, Refusal

PATIENCE_SECONDS = 30
ENDLESS = Answer(("A", " blue"), holds=True)


@asynccontextmanager
async def serve(make_settings: MakeSettings, **more: Any) -> AsyncIterator[Harness]:
    """Serve one request at a time, which may take 0.3 s."""
    limits = {"limits__max_run_seconds": 0.3, "queue__max_running": 1}
    async with run_on_fake_triton(make_settings(**limits, **more)) as harness:
        yield harness
        harness.check_script()


def check_refused(refusal: Refusal) -> None:
    """Check that a request is refused as one that takes too long."""
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "REQUEST_DEADLINE_EXCEEDED",
    )
    assert refusal.metadata == {"bound": "0.3"}
    assert "within 0.3 s of its turn on the model" in refusal.message


async def check_freed(harness: Harness) -> None:
    """Check that the model was told to stop, and that the end was counted."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await harness.script.cancelled.wait()
    assert harness.script.num_cancelled == 1
    labels = {"reason": "REQUEST_DEADLINE_EXCEEDED"}
    assert harness.app.metrics.registry.get_sample_value("idefics2_requests_total", labels) == 1


async def test_a_call_that_waits_for_its_answer_is_ended(
    make_settings: MakeSettings, make_face: Callable[..., Face]
) -> None:
    async with serve(make_settings) as harness:
        face = make_face(harness)
        harness.expect(ENDLESS, red_circle_answer())
        check_refused(await refusal_of(face.run(ask_without_end())))
        await check_freed(harness)
        assert await face.run(ask()) == RED_CIRCLE


async def test_a_stream_is_ended_after_what_it_told(
    make_settings: MakeSettings, make_face: Callable[..., Face]
) -> None:
    async with serve(make_settings) as harness:
        face, told = make_face(harness), list[str]()
        harness.expect(ENDLESS, red_circle_answer())

        async def listen() -> None:
            async for piece in face.stream(ask_without_end()):
                told.append(piece)

        check_refused(await refusal_of(listen()))
        assert "".join(told) == "A blue"
        await check_freed(harness)
        assert [piece async for piece in face.stream(ask())]


async def test_a_submitted_request_is_ended_and_not_begun_again(
    make_settings: MakeSettings, make_face: Callable[..., Face], store_place: dict[str, str]
) -> None:
    async with serve(make_settings, **store_place) as harness:
        face = make_face(harness)
        harness.expect(ENDLESS, red_circle_answer())
        request_id = await face.submit(ask_without_end())
        events = await read(face, request_id)
        assert [event for event in events if isinstance(event, AttemptStarted)] == [AttemptStarted(1)]
        refusal = await refusal_of(face.result(request_id))
        check_refused(refusal)
        assert events[-1] == Failure(refusal.reason, refusal.message, "")
        standing = await face.get(request_id)
        assert (standing.state, standing.error) == (State.FAILED, refusal.message)
        await check_freed(harness)
        await read(face, next_id := await face.submit(ask()))
        assert (await face.result(next_id)).output == RED_CIRCLE


async def test_over_http_it_is_the_hosted_endpoints_timeout_and_not_the_callers(
    make_settings: MakeSettings,
) -> None:
    async with serve(make_settings) as harness:
        web = Web(harness)
        harness.expect(ENDLESS, ENDLESS, ENDLESS)
        async with web.stream("POST", f"{RUN}/stream", json=BODY) as response:
            told = read_events(response)
            while "status_code" not in (last := await anext(told)):
                pass
        assert (last["status_code"], last["error_type"]) == (504, "request_timeout")
        taken = await web.submit()
        await web.read_stream("GET", f"{taken['status_url']}/stream")
        status = (await web.get(taken["status_url"])).json()
        assert (status["status"], status["error_type"]) == ("COMPLETED", "request_timeout")
        for response in (await web.get(f"{QUEUE}/requests/{taken['request_id']}"), await web.post(RUN)):
            assert (response.status_code, response.json()["error_type"]) == (504, "request_timeout")
            assert response.headers["x-fal-error-type"] == "request_timeout"
            assert "x-fal-request-timeout-type" not in response.headers

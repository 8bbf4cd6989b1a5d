"""What is promised of a call that waits for its answer, or hears it as it is written."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

import grpc
import pytest
from faces.face import Picture, ask, ask_without_end, refusal_of
from faces.places import everywhere
from fakes.script import Answer
from harness import describe_red_circle, red_circle_answer, talk_without_end
from idefics2.v1 import generation_pb2
from idefics2_service.requests import FinishReason
from idefics2_service.triton import backend
from idefics2_service.validation import DEFAULT_TEMPERATURE
from pictures import (
    MAX_CONTEXT_TOKENS,
    NUM_IMAGE_TOKENS,
    NUM_PATCHES,
    NUM_PROMPT_TOKENS,
    NUM_SPLIT_IMAGE_TOKENS,
    RED_CIRCLE,
    RED_CIRCLE_PIECES,
    draw_red_circle,
    encode,
    red_circle,
)
from streams import read_to_end, read_until

if TYPE_CHECKING:
    from faces.face import Face
    from harness import Harness
    from idefics2_service.requests import ValidRequest


HOUR_SECONDS = 3600.0
NUM_CALLERS = 8
"""All of them run in the engine at once."""
DEADLINE_SECONDS = 4.0


@pytest.fixture
def without_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing end what the model does but being asked to: to cut its stream would, seconds later."""
    monkeypatch.setattr(backend, "SECONDS_TO_ABANDON", HOUR_SECONDS)


@everywhere
async def test_an_image_and_a_question_get_a_true_answer(face: Face) -> None:
    face.service.expect(red_circle_answer(), red_circle_answer())
    assert await face.run(ask()) == RED_CIRCLE
    response = await face.generate(ask())
    assert response.output == RED_CIRCLE
    assert response.finish_reason is FinishReason.END_OF_TURN
    usage = response.usage
    assert (usage.num_prompt_tokens, usage.num_image_tokens) == (NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS)
    assert usage.num_generated_tokens == len(RED_CIRCLE_PIECES) + 1


async def test_the_stream_tells_every_stage_in_order_and_ends_with_the_same_answer(service: Harness) -> None:
    service.expect(red_circle_answer())
    events = [event async for event in service.stream(describe_red_circle())]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    stages = [event.stage_entered.stage for event in events if event.HasField("stage_entered")]
    assert stages == [
        generation_pb2.STAGE_RESOLVING,
        generation_pb2.STAGE_QUEUED,
        generation_pb2.STAGE_PREFILL,
        generation_pb2.STAGE_DECODE,
    ]
    assert [event.queue_position.position for event in events if event.HasField("queue_position")] == [0]
    assert "".join(event.text_delta.text for event in events) == RED_CIRCLE
    assert events[-1].finished.response.output == RED_CIRCLE
    assert all(event.HasField("time") for event in events)


@everywhere
async def test_the_pieces_of_the_stream_are_the_answer(face: Face) -> None:
    face.service.expect(red_circle_answer())
    pieces = [piece async for piece in face.stream(ask())]
    assert "".join(pieces) == RED_CIRCLE


async def test_seconds_per_stage_add_up_to_the_total(face: Face) -> None:
    face.service.expect(red_circle_answer())
    seconds = (await face.generate(ask())).stage_seconds
    parts = sum(seconds[stage] for stage in ("resolving", "queued", "prefill", "decode"))
    assert 0 < parts <= seconds["total"]


async def test_a_data_uri_is_an_image(face: Face) -> None:
    face.service.expect(red_circle_answer())
    uri = "data:image/png;base64," + base64.b64encode(red_circle()).decode()
    assert await face.run(ask(image_url=uri, images=[])) == RED_CIRCLE


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP", "TIFF"])
async def test_every_accepted_format_is_read(face: Face, kind: str) -> None:
    face.service.expect(red_circle_answer())
    picture = Picture(data=encode(draw_red_circle(), kind))
    assert await face.run(ask(images=[picture])) == RED_CIRCLE


async def test_zero_is_not_unset(alone: Face, asked: list[ValidRequest]) -> None:
    alone.service.expect(red_circle_answer(), red_circle_answer())
    await alone.run(ask(temperature=0, seed=0))
    await alone.run(ask(temperature=None, seed=None))
    zero, unset = asked
    assert (zero.temperature, zero.seed) == (0, 0)
    assert unset.temperature == DEFAULT_TEMPERATURE
    assert unset.seed


@everywhere
async def test_the_seed_is_told_and_repeats_the_answer(face: Face) -> None:
    face.service.expect(Answer(("x",), "LENGTH"), Answer(("x",), "LENGTH"))
    first = await face.generate(ask_without_end(seed=None, max_new_tokens=12, min_new_tokens=0))
    again = await face.generate(ask_without_end(seed=first.seed, max_new_tokens=12, min_new_tokens=0))
    assert again.output == first.output
    assert again.seed == first.seed


@everywhere
async def test_the_answer_ends_at_max_new_tokens(face: Face) -> None:
    face.service.expect(Answer(("A", " red"), "LENGTH"))
    response = await face.generate(ask(max_new_tokens=2))
    assert response.output == "A red"
    assert response.finish_reason is FinishReason.LENGTH


@everywhere
async def test_the_answer_ends_before_a_stop_string(face: Face) -> None:
    face.service.expect(Answer(("A", " red", " circle"), "STOP_STRING"))
    response = await face.generate(ask(stop=[" on a"]))
    assert response.output == "A red circle"
    assert response.finish_reason is FinishReason.STOP_STRING


async def test_the_callers_request_id_is_kept(service: Harness) -> None:
    service.expect(red_circle_answer())
    metadata = (*service.metadata, ("x-request-id", "order-66"))
    call = service.stub.Generate(describe_red_circle(), metadata=metadata)
    assert (await call).request_id == "order-66"
    assert dict(await call.initial_metadata())["x-request-id"] == "order-66"


async def test_tokens_are_counted_without_running(service: Harness) -> None:
    count = await service.stub.CountTokens(describe_red_circle(), metadata=service.metadata)
    assert (count.num_prompt_tokens, count.num_image_tokens) == (NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS)
    assert count.num_image_patches == NUM_PATCHES
    assert count.max_context_tokens == MAX_CONTEXT_TOKENS
    assert count.fits


async def test_counting_tells_what_would_not_fit(service: Harness) -> None:
    request = describe_red_circle(max_new_tokens=2048)
    assert not (await service.stub.CountTokens(request, metadata=service.metadata)).fits


@everywhere
async def test_many_callers_at_once_each_get_their_own_answer(face: Face) -> None:
    face.service.expect(*[red_circle_answer()] * 20)
    responses = await asyncio.gather(*(face.generate(ask()) for _ in range(20)))
    assert {response.output for response in responses} == {RED_CIRCLE}
    assert len({response.request_id for response in responses}) == 20


@everywhere
@pytest.mark.usefixtures("without_cuts")
async def test_callers_that_go_away_free_their_work(face: Face) -> None:
    face.service.expect(*[Answer(("x",), holds=True)] * NUM_CALLERS, red_circle_answer())
    calls = [face.stream(ask_without_end(seed=seed)) for seed in range(NUM_CALLERS)]
    await asyncio.gather(*(anext(call) for call in calls))
    async with face.service.letting_go(NUM_CALLERS):
        for call in calls:
            await call.aclose()
    assert await face.run(ask()) == RED_CIRCLE


@pytest.mark.usefixtures("without_cuts")
async def test_a_deadline_ends_the_call_and_frees_its_work(service: Harness) -> None:
    service.expect(*[Answer(("x",), holds=True)] * NUM_CALLERS, red_circle_answer())
    calls = [
        service.stream(talk_without_end(seed=seed), timeout=DEADLINE_SECONDS) for seed in range(NUM_CALLERS)
    ]
    await asyncio.gather(*(read_until(call, "text_delta") for call in calls))
    async with service.letting_go(NUM_CALLERS):
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read_to_end(call)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await service.generate(describe_red_circle())).output == RED_CIRCLE


@everywhere
async def test_more_than_the_context_holds_is_refused(face: Face) -> None:
    message = f"prompt and images have {NUM_PROMPT_TOKENS} tokens, too many"
    face.service.expect(Answer(failure=("CONTEXT_EXCEEDED", message, "images[0]")))
    refusal = await refusal_of(face.run(ask(max_new_tokens=2048)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_EXCEEDED")


@pytest.mark.parametrize("face", ["rpc-on_real_triton", "rest-on_real_triton"], indirect=True)
async def test_a_context_that_is_passed_is_told_with_its_bound(face: Face) -> None:
    refusal = await refusal_of(face.run(ask(max_new_tokens=2048)))
    assert refusal.metadata["bound"] == "2048"
    assert refusal.metadata["value"] == str(NUM_PROMPT_TOKENS + 2048)


@pytest.mark.parametrize("face", ["rpc-on_real_triton", "rest-on_real_triton"], indirect=True)
async def test_split_images_cost_five_times_the_tokens(face: Face) -> None:
    response = await face.generate(ask(split_images=True))
    assert response.usage.num_image_tokens == NUM_SPLIT_IMAGE_TOKENS

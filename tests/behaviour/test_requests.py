"""What is promised of requests that are submitted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from harness import (
    Harness,
    MakeSettings,
    Refusal,
    describe_red_circle,
    read_refusal,
    red_circle_answer,
    run_harness,
    talk_without_end,
)
from idefics2.v1 import error_reason_pb2, generation_pb2, requests_pb2, requests_pb2_grpc
from idefics2_service import workers
from idefics2_service.app import App
from pictures import RED_CIRCLE, RED_CIRCLE_PIECES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from idefics2_service.settings import Settings

Event = generation_pb2.Event
PATIENCE_SECONDS = 30
QUEUED, RUNNING = requests_pb2.STATE_QUEUED, requests_pb2.STATE_RUNNING
SUCCEEDED, FAILED = requests_pb2.STATE_SUCCEEDED, requests_pb2.STATE_FAILED
CANCELLED = requests_pb2.STATE_CANCELLED


class Caller:
    """Somebody who submits requests to a service."""

    def __init__(self, service: Harness) -> None:
        """Call it with its key."""
        self._stub: Any = requests_pb2_grpc.RequestServiceStub(service.channel)
        self._operations: Any = operations_pb2_grpc.OperationsStub(service.channel)
        self._metadata = service.metadata

    async def submit(self, request_id: str = "", **fields: Any) -> requests_pb2.Request:
        """Submit a question about a red circle; `fields` are of the submission."""
        fields = {"input": describe_red_circle(), **fields}
        message = requests_pb2.SubmitRequest(request_id=request_id, **fields)
        answer: requests_pb2.Request = await self._stub.Submit(message, metadata=self._metadata)
        return answer

    async def get(self, request_id: str, *, include_logs: bool = False) -> requests_pb2.Request:
        """Ask where a request stands."""
        message = requests_pb2.GetRequestRequest(request_id=request_id, include_logs=include_logs)
        answer: requests_pb2.Request = await self._stub.GetRequest(message, metadata=self._metadata)
        return answer

    def watch(self, request_id: str, after: int = 0) -> Any:
        """Watch a request."""
        message = requests_pb2.WatchRequestRequest(request_id=request_id, after=after)
        return self._stub.WatchRequest(message, metadata=self._metadata)

    async def read(self, request_id: str, after: int = 0) -> list[Event]:
        """Watch a request to its end; leave places in the queue out."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return [event async for event in self.watch(request_id, after) if event.sequence]

    async def result(self, request_id: str) -> generation_pb2.GenerateResponse:
        """Fetch the answer."""
        message = requests_pb2.GetResultRequest(request_id=request_id)
        answer: generation_pb2.GenerateResponse = await self._stub.GetResult(message, metadata=self._metadata)
        return answer

    async def cancel(self, request_id: str) -> requests_pb2.Request:
        """Cancel a request."""
        message = requests_pb2.CancelRequestRequest(request_id=request_id)
        answer: requests_pb2.Request = await self._stub.CancelRequest(message, metadata=self._metadata)
        return answer

    async def list(self, **fields: Any) -> requests_pb2.ListRequestsResponse:
        """List requests."""
        message = requests_pb2.ListRequestsRequest(**fields)
        answer: requests_pb2.ListRequestsResponse = await self._stub.ListRequests(
            message, metadata=self._metadata
        )
        return answer

    async def operate(self, method: str, message: Any) -> Any:
        """Call a method of google.longrunning.Operations."""
        return await getattr(self._operations, method)(message, metadata=self._metadata)


@pytest.fixture
def caller(service: Harness) -> Caller:
    """Somebody who submits requests."""
    return Caller(service)


@pytest.fixture
def script() -> Script:
    """What a fake backend answers."""
    return Script()


@pytest.fixture
def backend(script: Script) -> FakeBackend:
    """A fake that a test can lose."""
    return FakeBackend(script)


@pytest.fixture
async def alone(make_settings: MakeSettings, backend: FakeBackend, script: Script) -> AsyncIterator[Caller]:
    """Somebody who submits requests to a service over the fake backend."""
    async with run_harness(App(make_settings(), backend), script, is_real=False) as harness:
        yield Caller(harness)
        harness.check_script()


async def refusal_of(call: Awaitable[Any]) -> Refusal:
    """Return the error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return read_refusal(caught.value)


async def read_until(call: Any, field: str) -> Event:
    """Read events until one has `field`."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in call:
            if event.HasField(field):
                assert isinstance(event, Event)
                return event
    raise AssertionError(f"the stream ended without {field}")


async def test_a_submitted_question_gets_the_same_true_answer(service: Harness, caller: Caller) -> None:
    service.expect(red_circle_answer())
    taken = await caller.submit("submitted.1")
    assert (taken.request_id, taken.priority) == ("submitted.1", requests_pb2.PRIORITY_NORMAL)
    assert taken.max_new_tokens == 512
    events = await caller.read("submitted.1")
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].attempt_started.attempt == 1
    stages = [event.stage_entered.stage for event in events if event.HasField("stage_entered")]
    assert stages == [
        generation_pb2.STAGE_RESOLVING,
        generation_pb2.STAGE_QUEUED,
        generation_pb2.STAGE_PREFILL,
        generation_pb2.STAGE_DECODE,
    ]
    assert "".join(event.text_delta.text for event in events) == RED_CIRCLE
    result = await caller.result("submitted.1")
    assert (result.output, result.request_id) == (RED_CIRCLE, "submitted.1")
    assert events[-1].finished.response == result
    assert result.stage_seconds.total >= result.stage_seconds.queued > 0


async def test_a_request_tells_what_became_of_it(service: Harness, caller: Caller) -> None:
    service.expect(red_circle_answer())
    request_id = (await caller.submit()).request_id
    events = await caller.read(request_id)
    request = await caller.get(request_id, include_logs=True)
    assert (request.state, request.num_attempts, request.last_sequence) == (SUCCEEDED, 1, len(events))
    assert request.num_generated_tokens == request.usage.num_generated_tokens == len(RED_CIRCLE_PIECES) + 1
    times = [
        time.ToNanoseconds()
        for time in (request.create_time, request.start_time, request.end_time, request.expire_time)
    ]
    assert times == sorted(times)
    (line,) = request.logs
    assert line.message.startswith("images[0].data: PNG, 200 x 150")
    assert not request.HasField("queue_position")
    assert (await caller.get(request_id)).logs == []


async def test_who_watches_late_sees_the_same_and_who_comes_back_sees_the_rest(
    service: Harness, caller: Caller
) -> None:
    service.expect(red_circle_answer())
    request_id = (await caller.submit()).request_id
    everything = await caller.read(request_id)
    assert await caller.read(request_id) == everything
    for after in range(len(everything) + 1):
        assert await caller.read(request_id, after) == everything[after:]


async def test_to_submit_again_is_safe(service: Harness, caller: Caller) -> None:
    service.expect(red_circle_answer())
    await caller.submit("twice")
    await caller.submit("twice")
    events = await caller.read("twice")
    again = await caller.submit("twice")
    assert (again.state, again.last_sequence) == (SUCCEEDED, len(events))


async def test_another_question_under_a_known_name_is_refused(service: Harness, caller: Caller) -> None:
    service.expect(red_circle_answer())
    await caller.submit("mine")
    for other in (
        {"input": describe_red_circle(prompt="Something else?")},
        {"priority": requests_pb2.PRIORITY_LOW},
    ):
        refusal = await refusal_of(caller.submit("mine", **other))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_TAKEN")
        assert "mine" in refusal.message
    assert (await caller.read("mine"))[-1].finished.response.output == RED_CIRCLE


async def test_a_running_request_is_cancelled_within_a_step(service: Harness, caller: Caller) -> None:
    service.expect(Answer(("x", "y"), holds=True))
    await caller.submit("running", input=talk_without_end())
    watching = caller.watch("running")
    await read_until(watching, "text_delta")
    refusal = await refusal_of(caller.result("running"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_NOT_FINISHED")
    assert refusal.metadata["state"] == "RUNNING"
    running = await caller.get("running")
    assert (running.state, running.stage) == (RUNNING, generation_pb2.STAGE_DECODE)
    assert 0 < running.num_generated_tokens <= running.max_new_tokens
    assert (await caller.cancel("running")).state in {RUNNING, CANCELLED}
    failure = (await read_until(watching, "finished")).finished.failure
    assert failure.reason == error_reason_pb2.REQUEST_CANCELLED
    assert (await caller.cancel("running")).state == CANCELLED
    refusal = await refusal_of(caller.result("running"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.CANCELLED, "REQUEST_CANCELLED")
    service.expect(red_circle_answer())
    assert (await service.generate(describe_red_circle())).output == RED_CIRCLE  # its turn is free


async def test_an_image_that_cannot_be_read_fails_as_it_does_in_generate(
    service: Harness, caller: Caller
) -> None:
    broken = describe_red_circle(images=[generation_pb2.Image(data=b"\x89PNG\r\n\x1a\nbroken")])
    expected = await refusal_of(service.generate(broken))
    await caller.submit("broken", input=broken)
    failure = (await caller.read("broken"))[-1].finished.failure
    assert failure.field == expected.field == "images[0].data"
    assert failure.message == expected.message
    assert await refusal_of(caller.result("broken")) == expected
    request = await caller.get("broken")
    assert (request.state, request.failure) == (FAILED, failure)


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"request_id": "no spaces"}, "REQUEST_ID_INVALID", "request_id"),
        ({"request_id": "x" * 129}, "REQUEST_ID_INVALID", "request_id"),
        ({"input": generation_pb2.GenerateRequest()}, "PROMPT_MISSING", "prompt"),
        ({"input": describe_red_circle(top_p=2)}, "VALUE_OUT_OF_RANGE", "top_p"),
        ({"start_timeout": Duration(seconds=0)}, "VALUE_OUT_OF_RANGE", "start_timeout"),
        ({"time_budget": Duration(seconds=86_401)}, "VALUE_OUT_OF_RANGE", "time_budget"),
        ({"time_budget": Duration(seconds=-1)}, "VALUE_OUT_OF_RANGE", "time_budget"),
        ({"max_queue_length": -1}, "VALUE_OUT_OF_RANGE", "max_queue_length"),
    ],
)
async def test_a_bad_submission_is_refused_at_once_and_names_the_field(
    alone: Caller, fields: dict[str, Any], reason: str, field: str
) -> None:
    refusal = await refusal_of(alone.submit(**fields))
    assert (refusal.code, refusal.reason, refusal.field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        reason,
        field,
    )
    assert (await alone.list()).requests == []


async def test_a_request_that_nobody_knows_is_not_found_by_any_call(alone: Caller) -> None:
    for call in (
        alone.get("nobody"),
        alone.read("nobody"),
        alone.result("nobody"),
        alone.cancel("nobody"),
        alone.operate("GetOperation", operations_pb2.GetOperationRequest(name="operations/nobody")),
    ):
        refusal = await refusal_of(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "REQUEST_NOT_FOUND")
    assert (await refusal_of(alone.get("a b"))).reason == "REQUEST_ID_INVALID"
    assert (await refusal_of(alone.read("nobody", -1))).reason == "VALUE_OUT_OF_RANGE"


async def test_who_waits_is_told_its_place_and_can_be_cancelled_before_it_starts(
    alone: Caller, backend: FakeBackend, script: Script
) -> None:
    await backend.set_healthy(healthy=False)
    for request_id in ("first", "second", "third"):
        await alone.submit(request_id)
    third = await alone.get("third")
    assert (third.state, third.queue_position) == (QUEUED, 2)
    watching = alone.watch("third")
    told = await read_until(watching, "queue_position")
    assert (told.sequence, told.queue_position.position) == (0, 2)
    assert (await alone.cancel("first")).state == CANCELLED
    assert (await read_until(watching, "queue_position")).queue_position.position == 1
    assert [event.HasField("finished") for event in await alone.read("first")] == [True]
    script.add(red_circle_answer(), red_circle_answer())
    await backend.set_healthy(healthy=True)
    assert (await read_until(watching, "finished")).finished.response.output == RED_CIRCLE
    assert (await alone.read("second"))[-1].finished.response.output == RED_CIRCLE


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"start_timeout": Duration(nanos=50_000_000)}, "START_TIMEOUT"),
        ({"time_budget": Duration(nanos=50_000_000)}, "REQUEST_DEADLINE_EXCEEDED"),
    ],
)
async def test_a_request_that_is_not_begun_in_time_fails(
    alone: Caller, backend: FakeBackend, fields: dict[str, Any], reason: str
) -> None:
    await backend.set_healthy(healthy=False)
    await alone.submit("late", **fields)
    await alone.read("late")
    refusal = await refusal_of(alone.result("late"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, reason)
    await backend.set_healthy(healthy=True)


async def test_a_time_budget_ends_what_runs(alone: Caller, script: Script) -> None:
    script.add(Answer(("x",), holds=True))
    await alone.submit("long", time_budget=Duration(nanos=300_000_000))
    await alone.read("long")
    assert (await refusal_of(alone.result("long"))).reason == "REQUEST_DEADLINE_EXCEEDED"
    assert script.num_cancelled == 1


async def test_what_a_lost_backend_did_not_finish_is_begun_again(
    alone: Caller, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_PAUSE_AFTER_LOSS_SECONDS", 0)
    script.add(Answer(("A", " blue"), is_lost=True), red_circle_answer())
    await alone.submit("retried")
    events = await alone.read("retried")
    starts = [n for n, event in enumerate(events) if event.HasField("attempt_started")]
    assert [events[n].attempt_started.attempt for n in starts] == [1, 2]
    assert "".join(event.text_delta.text for event in events[: starts[1]]) == "A blue"
    assert "".join(event.text_delta.text for event in events[starts[1] :]) == RED_CIRCLE
    assert events[-1].finished.response.output == RED_CIRCLE
    assert (await alone.get("retried")).num_attempts == 2


async def test_three_lost_attempts_end_a_request_with_the_reason(
    alone: Caller, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_PAUSE_AFTER_LOSS_SECONDS", 0)
    script.add(*[Answer(("A",), is_lost=True)] * 3)
    await alone.submit("lost")
    await alone.read("lost")
    refusal = await refusal_of(alone.result("lost"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "ATTEMPTS_EXHAUSTED")
    assert "the model's server was lost" in refusal.message


async def test_lists_are_paged_and_a_token_belongs_to_its_list(alone: Caller, script: Script) -> None:
    script.add(*[red_circle_answer()] * 5)
    for number in range(5):
        await alone.submit(f"{number}")
        await alone.read(f"{number}")
    seen, token = [], ""
    while True:
        page = await alone.list(page_size=2, page_token=token)
        seen.append([request.request_id for request in page.requests])
        token = page.next_page_token
        if not token:
            break
        assert (
            await refusal_of(alone.list(state=SUCCEEDED, page_token=token))
        ).reason == "PAGE_TOKEN_INVALID"
    assert seen == [["4", "3"], ["2", "1"], ["0"]]
    assert len((await alone.list(state=SUCCEEDED)).requests) == 5
    assert (await alone.list(state=QUEUED)).requests == []
    for bad in ("x", "eyJ9", "W10="):
        assert (await refusal_of(alone.list(page_token=bad))).reason == "PAGE_TOKEN_INVALID"
    assert (await refusal_of(alone.list(page_size=1_001))).reason == "VALUE_OUT_OF_RANGE"
    assert (await refusal_of(alone.list(state=99))).reason == "VALUE_OUT_OF_RANGE"


async def test_operations_are_the_same_requests(alone: Caller, script: Script) -> None:
    script.add(red_circle_answer())
    await alone.submit("one")
    wait = operations_pb2.WaitOperationRequest(name="operations/one")
    operation = await alone.operate("WaitOperation", wait)
    assert (operation.name, operation.done) == ("operations/one", True)
    response, request = generation_pb2.GenerateResponse(), requests_pb2.Request()
    assert operation.response.Unpack(response)
    assert operation.metadata.Unpack(request)
    assert (response.output, request.state) == (RED_CIRCLE, SUCCEEDED)
    listed = await alone.operate("ListOperations", operations_pb2.ListOperationsRequest())
    assert list(listed.operations) == [operation]


async def test_an_operation_that_runs_can_be_waited_for_a_while_and_cancelled(
    alone: Caller, script: Script
) -> None:
    script.add(Answer(("x",), holds=True))
    await alone.submit("long")
    await read_until(alone.watch("long"), "text_delta")
    wait = operations_pb2.WaitOperationRequest(name="operations/long", timeout=Duration(nanos=1))
    assert not (await alone.operate("WaitOperation", wait)).done
    await alone.operate("CancelOperation", operations_pb2.CancelOperationRequest(name="operations/long"))
    operation = await alone.operate(
        "WaitOperation", operations_pb2.WaitOperationRequest(name="operations/long")
    )
    assert operation.error.code == grpc.StatusCode.CANCELLED.value[0]
    delete = operations_pb2.DeleteOperationRequest(name="operations/long")
    assert (await refusal_of(alone.operate("DeleteOperation", delete))).reason == "METHOD_UNKNOWN"
    named = operations_pb2.GetOperationRequest(name="long")
    assert (await refusal_of(alone.operate("GetOperation", named))).field == "name"


async def test_what_waits_survives_a_restart_and_what_runs_is_handed_back(
    make_settings: MakeSettings,
) -> None:
    settings: Settings = make_settings(grpc__drain_timeout_seconds=0.01)
    first, second = Script(), Script()
    first.add(Answer(("A", " bl"), holds=True))
    async with run_harness(App(settings, FakeBackend(first)), first, is_real=False) as harness:
        caller = Caller(harness)
        await caller.submit("running")
        before = []
        async for event in caller.watch("running"):
            before.append(event)
            if event.HasField("text_delta"):
                break
        harness.check_script()
    second.add(red_circle_answer())
    async with run_harness(App(settings, FakeBackend(second)), second, is_real=False) as harness:
        caller = Caller(harness)
        seen = [event for event in before if event.sequence]
        rest = await caller.read("running", seen[-1].sequence)
        events = [*seen, *rest]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert events[-1].finished.response.output == RED_CIRCLE
        lines = [event.log_line.message for event in events if event.HasField("log_line")]
        assert "handed back: this replica is shutting down" in lines
        harness.check_script()


async def test_low_priority_is_told_and_kept(alone: Caller, script: Script) -> None:
    script.add(red_circle_answer())
    taken = await alone.submit("low", priority=requests_pb2.PRIORITY_LOW)
    assert taken.priority == requests_pb2.PRIORITY_LOW
    await alone.read("low")
    assert (await alone.get("low")).priority == requests_pb2.PRIORITY_LOW

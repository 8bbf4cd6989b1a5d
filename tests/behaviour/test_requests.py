"""What is promised of requests that are submitted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import streams
from faces.face import (
    Failure,
    Picture,
    ask,
    ask_without_end,
    read,
    read_until,
    refusal_of,
    stages_of,
    text_of,
)
from faces.places import everywhere
from faces.rpc import RpcFace
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from harness import (
    Harness,
    MakeSettings,
    describe_red_circle,
    red_circle_answer,
    refuse,
    run_harness,
)
from idefics2.v1 import generation_pb2, requests_pb2, requests_pb2_grpc
from idefics2_service import app, workers
from idefics2_service.app import App
from idefics2_service.events import AttemptStarted, Finished, LogLine, QueuePosition, TextDelta
from idefics2_service.requests import Priority, RequestName, Stage, State
from pictures import RED_CIRCLE, RED_CIRCLE_PIECES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from faces.face import Face, Question
    from idefics2_service.settings import Settings
    from idefics2_service.store.records import Record

Event = generation_pb2.Event
PATIENCE_SECONDS = 30
INVALID = grpc.StatusCode.INVALID_ARGUMENT
QUEUED, SUCCEEDED = requests_pb2.STATE_QUEUED, requests_pb2.STATE_SUCCEEDED


class Caller:
    """Somebody who submits requests to a service."""

    def __init__(self, service: Harness) -> None:
        """Call it with its key."""
        self.service = service
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

    async def read_until_text(self, request_id: str) -> None:
        """Watch a request until it has text."""
        await streams.read_until(self.watch(request_id), "text_delta")

    async def operate(self, method: str, message: Any) -> Any:
        """Call a method of google.longrunning.Operations."""
        return await getattr(self._operations, method)(message, metadata=self._metadata)


@pytest.fixture
def caller(service: Harness) -> Caller:
    """Somebody who submits requests by the stubs."""
    return Caller(service)


@pytest.fixture
async def lonely(make_settings: MakeSettings, backend: FakeBackend, script: Script) -> AsyncIterator[Caller]:
    """Somebody who submits requests by the stubs to a service over the fake backend."""
    async with run_harness(App(make_settings(), backend), script, is_real=False) as harness:
        yield Caller(harness)
        harness.check_script()


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


async def test_a_request_is_submitted_answered_and_told_over_every_face(face: Face) -> None:
    face.service.expect(red_circle_answer())
    request_id = await face.submit(ask())
    events = await read(face, request_id)
    assert events[0] == AttemptStarted(1)
    assert stages_of(events) == [Stage.RESOLVING, Stage.QUEUED, Stage.PREFILL, Stage.DECODE]
    assert text_of(events) == RED_CIRCLE
    result = await face.result(request_id)
    assert (result.output, result.request_id) == (RED_CIRCLE, request_id)
    assert events[-1] == Finished(result)
    standing = await face.get(request_id, has_logs=True)
    assert (standing.state, standing.queue_position, standing.error) == (State.SUCCEEDED, None, "")
    assert standing.usage == result.usage
    assert standing.num_generated_tokens == result.usage.num_generated_tokens == len(RED_CIRCLE_PIECES) + 1
    (line,) = standing.logs
    assert "PNG, 200 x 150" in line
    assert LogLine(line) in events
    assert (await face.get(request_id)).logs == ()
    assert await read(face, request_id) == events


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


async def test_to_submit_again_is_safe(face: Face) -> None:
    face.service.expect(red_circle_answer())
    ids = {await face.submit(ask(), "twice") for _ in range(2)}
    (request_id,) = ids
    events = await read(face, request_id)
    assert await face.submit(ask(), "twice") == request_id
    assert await read(face, request_id) == events


async def test_another_question_under_a_known_name_is_refused(face: Face) -> None:
    face.service.expect(red_circle_answer())
    request_id = await face.submit(ask(), "mine")
    for call in (
        face.submit(ask(prompt="Something else?"), "mine"),
        face.submit(ask(), "mine", priority=Priority.LOW),
    ):
        refusal = await refusal_of(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_TAKEN")
        assert request_id in refusal.message
    assert text_of(await read(face, request_id)) == RED_CIRCLE


@everywhere
async def test_a_running_request_is_cancelled_within_a_step(face: Face) -> None:
    face.service.expect(Answer(("x", "y"), holds=True))
    running = await face.submit(ask_without_end())
    watching = face.watch(running)
    await read_until(watching, TextDelta)
    refusal = await refusal_of(face.result(running))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_NOT_FINISHED")
    assert refusal.metadata["state"] == "RUNNING"
    standing = await face.get(running)
    assert (standing.state, standing.stage) == (State.RUNNING, Stage.DECODE)
    assert 0 < standing.num_generated_tokens <= 1500
    assert await face.cancel(running)
    failure = await read_until(watching, Failure)
    assert failure.reason == "REQUEST_CANCELLED"
    assert await face.cancel(running)
    refusal = await refusal_of(face.result(running))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.CANCELLED, "REQUEST_CANCELLED")
    assert (await face.get(running)).state is State.CANCELLED
    face.service.expect(red_circle_answer())
    assert await face.run(ask()) == RED_CIRCLE  # its turn is free


async def test_what_has_ended_is_not_cancelled(face: Face) -> None:
    face.service.expect(red_circle_answer())
    request_id = await face.submit(ask())
    events = await read(face, request_id)
    assert not await face.cancel(request_id)
    assert await read(face, request_id) == events


async def test_an_image_that_cannot_be_read_fails_as_it_does_in_a_plain_call(face: Face) -> None:
    broken = ask(images=[Picture(data=b"\x89PNG\r\n\x1a\nbroken")])
    expected = await refusal_of(face.run(broken))
    request_id = await face.submit(broken)
    failure = (await read(face, request_id))[-1]
    assert failure == Failure(expected.reason, expected.message, "images[0].data")
    assert await refusal_of(face.result(request_id)) == expected
    standing = await face.get(request_id)
    assert (standing.state, standing.error) == (State.FAILED, expected.message)


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        ({"name": "no spaces"}, "REQUEST_ID_INVALID", "request_id"),
        ({"name": "x" * 129}, "REQUEST_ID_INVALID", "request_id"),
        ({"time_budget_seconds": 86_401}, "VALUE_OUT_OF_RANGE", "time_budget"),
        ({"start_timeout_seconds": 86_401}, "VALUE_OUT_OF_RANGE", "start_timeout"),
        ({"time_budget_seconds": -1}, "VALUE_OUT_OF_RANGE", "time_budget"),
    ],
)
async def test_a_name_or_a_time_that_is_bad_is_refused_at_once(
    lonely: Caller, options: dict[str, Any], reason: str, field: str
) -> None:
    refusal = await refusal_of(RpcFace(lonely.service).submit(ask(), **options))
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, reason, field)
    assert (await lonely.list()).requests == []


@pytest.mark.parametrize(
    ("question", "options", "reason", "field"),
    [
        ({}, {}, "PROMPT_MISSING", "prompt"),
        (ask(top_p=2), {}, "VALUE_OUT_OF_RANGE", "top_p"),
        (ask(), {"start_timeout_seconds": 0}, "VALUE_OUT_OF_RANGE", "start_timeout"),
        (ask(), {"max_queue_length": -1}, "VALUE_OUT_OF_RANGE", "max_queue_length"),
    ],
)
async def test_a_bad_submission_is_refused_at_once_and_names_the_field(
    alone: Face, question: Question, options: dict[str, Any], reason: str, field: str
) -> None:
    refusal = await refusal_of(alone.submit(question, **options))
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, reason, field)
    assert (await Caller(alone.service).list()).requests == []


async def test_a_request_that_nobody_knows_is_not_found_by_any_call(alone: Face) -> None:
    for call in (alone.get("nobody"), read(alone, "nobody"), alone.result("nobody"), alone.cancel("nobody")):
        refusal = await refusal_of(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "REQUEST_NOT_FOUND")


async def test_an_operation_that_nobody_knows_is_not_found(lonely: Caller) -> None:
    nobody = operations_pb2.GetOperationRequest(name="operations/nobody")
    refusal = await refuse(lonely.operate("GetOperation", nobody))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "REQUEST_NOT_FOUND")
    assert (await refuse(lonely.get("a b"))).reason == "REQUEST_ID_INVALID"
    assert (await refuse(lonely.read("nobody", -1))).reason == "VALUE_OUT_OF_RANGE"


async def test_who_waits_is_told_its_place_and_can_be_cancelled_before_it_starts(
    alone: Face, backend: FakeBackend, script: Script
) -> None:
    await backend.set_healthy(healthy=False)
    first, second, third = [await alone.submit(ask()) for _ in range(3)]
    standing = await alone.get(third)
    assert (standing.state, standing.queue_position) == (State.QUEUED, 2)
    watching = alone.watch(third)
    assert await read_until(watching, QueuePosition) == QueuePosition(2)
    assert await alone.cancel(first)
    assert await read_until(watching, QueuePosition) == QueuePosition(1)
    assert [type(event) for event in await read(alone, first)] == [Failure]
    script.add(red_circle_answer(), red_circle_answer())
    await backend.set_healthy(healthy=True)
    assert (await read_until(watching, Finished)).output.output == RED_CIRCLE
    assert text_of(await read(alone, second)) == RED_CIRCLE


async def test_a_request_that_is_not_begun_in_time_fails(alone: Face, backend: FakeBackend) -> None:
    await backend.set_healthy(healthy=False)
    late = await alone.submit(ask(), start_timeout_seconds=0.05)
    await read(alone, late)
    refusal = await refusal_of(alone.result(late))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "START_TIMEOUT")
    await backend.set_healthy(healthy=True)


async def test_a_time_budget_ends_what_was_not_begun(lonely: Caller, backend: FakeBackend) -> None:
    await backend.set_healthy(healthy=False)
    await lonely.submit("late", time_budget=Duration(nanos=50_000_000))
    await lonely.read("late")
    assert (await refuse(lonely.result("late"))).reason == "REQUEST_DEADLINE_EXCEEDED"
    await backend.set_healthy(healthy=True)


async def test_a_time_budget_ends_what_runs(lonely: Caller, script: Script) -> None:
    script.add(Answer(("x",), holds=True))
    await lonely.submit("long", time_budget=Duration(seconds=3))
    await lonely.read("long")
    assert (await refuse(lonely.result("long"))).reason == "REQUEST_DEADLINE_EXCEEDED"
    assert script.num_cancelled == 1


async def test_what_a_lost_backend_did_not_finish_is_begun_again(
    alone: Face, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_PAUSE_AFTER_LOSS_SECONDS", 0)
    script.add(Answer(("A", " blue"), is_lost=True), red_circle_answer())
    events = await read(alone, await alone.submit(ask()))
    first, second = (events.index(AttemptStarted(attempt)) for attempt in (1, 2))
    assert text_of(events[first:second]) == "A blue"
    assert text_of(events[second:]) == RED_CIRCLE
    assert isinstance(events[-1], Finished)
    assert events[-1].output.output == RED_CIRCLE


async def test_three_lost_attempts_end_a_request_with_the_reason(
    alone: Face, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_PAUSE_AFTER_LOSS_SECONDS", 0)
    script.add(*[Answer(("A",), is_lost=True)] * 3)
    lost = await alone.submit(ask())
    await read(alone, lost)
    refusal = await refusal_of(alone.result(lost))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "ATTEMPTS_EXHAUSTED")
    assert "the model's server was lost" in refusal.message


@pytest.mark.parametrize("operation", ["claim", "reap", "claim_delivery"])
async def test_a_fault_ends_neither_claiming_nor_tidying_nor_telling(
    lonely: Caller, script: Script, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    store = lonely.service.app._store
    usual, begins_again, faults = getattr(store, operation), asyncio.Event(), [ArithmeticError("ours")]

    async def fail_once(*given: Any) -> Any:
        if faults:
            raise faults.pop()
        begins_again.set()
        return await usual(*given)

    monkeypatch.setattr(app, "_PAUSE_AFTER_FAULT_SECONDS", 0)
    monkeypatch.setattr(store, operation, fail_once)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await begins_again.wait()
    script.add(red_circle_answer())
    await lonely.submit("one")
    await lonely.read("one")
    assert (await lonely.result("one")).output == RED_CIRCLE


async def test_lists_are_paged_and_a_token_belongs_to_its_list(lonely: Caller, script: Script) -> None:
    script.add(*[red_circle_answer()] * 5)
    for number in range(5):
        await lonely.submit(f"{number}")
        await lonely.read(f"{number}")
    seen, token = [], ""
    while True:
        page = await lonely.list(page_size=2, page_token=token)
        seen.append([request.request_id for request in page.requests])
        token = page.next_page_token
        if not token:
            break
        assert (await refuse(lonely.list(state=SUCCEEDED, page_token=token))).reason == "PAGE_TOKEN_INVALID"
    assert seen == [["4", "3"], ["2", "1"], ["0"]]
    assert len((await lonely.list(state=SUCCEEDED)).requests) == 5
    assert (await lonely.list(state=QUEUED)).requests == []
    for bad in ("x", "eyJ9", "W10="):
        assert (await refuse(lonely.list(page_token=bad))).reason == "PAGE_TOKEN_INVALID"
    assert (await refuse(lonely.list(page_size=1_001))).reason == "VALUE_OUT_OF_RANGE"
    assert (await refuse(lonely.list(state=99))).reason == "VALUE_OUT_OF_RANGE"


async def test_operations_are_the_same_requests(lonely: Caller, script: Script) -> None:
    script.add(red_circle_answer())
    await lonely.submit("one")
    wait = operations_pb2.WaitOperationRequest(name="operations/one")
    operation = await lonely.operate("WaitOperation", wait)
    assert (operation.name, operation.done) == ("operations/one", True)
    response, request = generation_pb2.GenerateResponse(), requests_pb2.Request()
    assert operation.response.Unpack(response)
    assert operation.metadata.Unpack(request)
    assert (response.output, request.state) == (RED_CIRCLE, SUCCEEDED)
    listed = await lonely.operate("ListOperations", operations_pb2.ListOperationsRequest())
    assert list(listed.operations) == [operation]
    too_many = operations_pb2.ListOperationsRequest(page_size=1_001)
    assert (await refuse(lonely.operate("ListOperations", too_many))).field == "page_size"


async def test_lists_tell_of_each_request_what_is_told_of_it_alone(lonely: Caller, script: Script) -> None:
    script.add(red_circle_answer())
    await lonely.submit("good")
    await lonely.read("good")
    await lonely.submit("bad", input=describe_red_circle(images=[{"data": b"no picture"}]))
    await lonely.read("bad")
    bad, good = listed = (await lonely.list()).requests
    assert list(listed) == [await lonely.get("bad"), await lonely.get("good")]
    assert good.usage.num_generated_tokens == len(RED_CIRCLE_PIECES) + 1
    assert good.stage_seconds.total > 0
    assert bad.failure.field == "images[0].data"
    operations = (await lonely.operate("ListOperations", operations_pb2.ListOperationsRequest())).operations
    assert list(operations) == [
        await lonely.operate("GetOperation", operations_pb2.GetOperationRequest(name=f"operations/{name}"))
        for name in ("bad", "good")
    ]


async def test_a_list_is_one_read_of_the_store_whatever_it_is_called(
    lonely: Caller, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.add(red_circle_answer(), red_circle_answer())
    for request_id in ("one", "two"):
        await lonely.submit(request_id)
        await lonely.read(request_id)

    async def get(name: RequestName) -> Record:
        raise AssertionError(f"{name} is asked for alone")

    monkeypatch.setattr(lonely.service.app._store, "get", get)
    assert len((await lonely.list()).requests) == 2
    operations = (await lonely.operate("ListOperations", operations_pb2.ListOperationsRequest())).operations
    assert [operation.done for operation in operations] == [True, True]


async def test_an_operation_that_runs_can_be_waited_for_a_while_and_cancelled(
    lonely: Caller, script: Script
) -> None:
    script.add(Answer(("x",), holds=True))
    await lonely.submit("long")
    await lonely.read_until_text("long")
    wait = operations_pb2.WaitOperationRequest(name="operations/long", timeout=Duration(nanos=1))
    assert not (await lonely.operate("WaitOperation", wait)).done
    await lonely.operate("CancelOperation", operations_pb2.CancelOperationRequest(name="operations/long"))
    operation = await lonely.operate(
        "WaitOperation", operations_pb2.WaitOperationRequest(name="operations/long")
    )
    assert operation.error.code == grpc.StatusCode.CANCELLED.value[0]
    delete = operations_pb2.DeleteOperationRequest(name="operations/long")
    assert (await refuse(lonely.operate("DeleteOperation", delete))).reason == "METHOD_UNKNOWN"
    named = operations_pb2.GetOperationRequest(name="long")
    assert (await refuse(lonely.operate("GetOperation", named))).field == "name"


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


@pytest.mark.parametrize("parts", [(1, -5), (-1, 5), (0, 10**9), (0, -(10**9)), (5, 2**31 - 1)])
async def test_a_time_whose_parts_make_none_is_refused_wherever_one_is_read(
    lonely: Caller, parts: tuple[int, int]
) -> None:
    time = Duration(seconds=parts[0], nanos=parts[1])
    wait = operations_pb2.WaitOperationRequest(name="operations/one", timeout=time)
    calls = {
        field: lonely.submit("one", **{field: time}) for field in ("start_timeout", "time_budget", "keep")
    }
    for field, call in {**calls, "timeout": lonely.operate("WaitOperation", wait)}.items():
        refusal = await refuse(call)
        assert (refusal.code, refusal.reason, refusal.field) == (INVALID, "VALUE_OUT_OF_RANGE", field)
        assert refusal.metadata["value"] == f"{parts[0]} s and {parts[1]} ns"
    assert (await lonely.list()).requests == []


async def test_a_priority_that_nobody_knows_is_refused_and_none_is_the_normal_one(
    lonely: Caller, script: Script
) -> None:
    refusal = await refuse(lonely.submit("one", priority=9))
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, "VALUE_OUT_OF_RANGE", "priority")
    assert refusal.message == "priority must be a priority of the API, not 9"
    assert (await lonely.list()).requests == []
    script.add(red_circle_answer())
    taken = await lonely.submit("one", priority=requests_pb2.PRIORITY_UNSPECIFIED)
    assert taken.priority == requests_pb2.PRIORITY_NORMAL
    await lonely.read("one")


async def test_low_priority_is_told_and_kept(lonely: Caller, script: Script) -> None:
    script.add(red_circle_answer())
    taken = await lonely.submit("low", priority=requests_pb2.PRIORITY_LOW)
    assert taken.priority == requests_pb2.PRIORITY_LOW
    await lonely.read("low")
    assert (await lonely.get("low")).priority == requests_pb2.PRIORITY_LOW
